package cutover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mailgate/op"
	"mailgate/router"
)

// clientText is what clients read when their session ends for a flip.
const clientText = "Your mailbox is being moved, please reconnect"

// flip moves one user, from the request to its end. Every step is durable before the next begins.
func (m *Manager) flip(ctx context.Context, o op.Operation) {
	f := &flipping{m: m, op: o, start: time.Now()}
	limit := m.set.Load().flip.Deadline
	f.op.Deadline = f.start.Add(limit)
	ctx, cancel := context.WithDeadlineCause(ctx, f.op.Deadline, ErrDeadline)
	defer cancel()

	if err := f.fence(ctx); err != nil {
		f.failEarly(err)
		return
	}
	if f.op.Status == op.Done { // he was there already
		return
	}
	err := f.drain(ctx, f.start.Add(limit/2))
	if err == nil {
		err = f.commit(ctx)
	}
	if err != nil {
		f.abort(err)
		return
	}
	f.release()
}

// flipping is one user's move under way.
type flipping struct {
	m     *Manager
	op    op.Operation
	row   op.Row // as the store has it
	start time.Time
}

// swap writes the next row and the operation's step; on success it is the present row.
func (f *flipping) swap(ctx context.Context, next op.Row, pin *op.Pin, events ...op.Event) error {
	if err := router.Legal(router.State(f.row.State), router.State(next.State)); err != nil {
		return err
	}
	o := f.op
	o.Step, o.Changed = string(next.State), time.Now()
	if !o.Status.Final() {
		o.Status = op.Running
	}
	if err := f.m.store.Swap(ctx, f.row.Generation, next, o, pin, events...); err != nil {
		return err
	}
	f.m.rec.Transition(router.State(f.row.State), router.State(next.State))
	f.m.rec.StoreOK(o.Changed)
	f.row, f.op = next, o
	return nil
}

// generation is a number that neither the store nor the router has seen for this user.
func (f *flipping) generation() int64 {
	p, _ := f.m.router.Lookup(f.op.User)
	return max(p.Generation, f.row.Generation) + 1
}

// fence records FENCE and has every node stop admitting the user's logins.
func (f *flipping) fence(ctx context.Context) error {
	m := f.m
	if err := m.flushOwed(ctx); err != nil {
		return fmt.Errorf("record who has logged in: %w", err)
	}
	row, err := m.store.Row(ctx, f.op.User)
	if errors.Is(err, op.ErrNotFound) {
		p, _ := m.router.Lookup(f.op.User)
		row = op.Row{User: f.op.User, Side: p.Side, Epoch: p.Epoch, Generation: p.Generation, State: op.Settled,
			Since: time.Now()}
		err = m.store.AddRows(ctx, []op.Row{row})
	}
	if err != nil {
		return fmt.Errorf("read user: %w", err)
	}
	if row.State != op.Settled { // an abort that could not be written
		if err := m.repair(ctx, row); err != nil {
			return fmt.Errorf("repair user: %w", err)
		}
		if row, err = m.store.Row(ctx, f.op.User); err != nil {
			return fmt.Errorf("read user: %w", err)
		}
	}
	f.row = row
	if row.Side == f.op.Target {
		f.op.Status, f.op.Reason, f.op.Changed = op.Done, "already on "+row.Side.String(), time.Now()
		return m.store.SaveOperation(ctx, f.op)
	}
	next := row
	next.State, next.Target, next.Op, next.Generation = op.Fence, f.op.Target, f.op.ID, f.generation()
	if err := f.swap(ctx, next, nil); err != nil {
		return fmt.Errorf("record fence: %w", err)
	}
	return nil
}

// drain fences on every node, records DRAIN, and waits until every node has acknowledged that no session is left.
func (f *flipping) drain(ctx context.Context, half time.Time) error {
	msg := Message{Kind: AskFence, User: f.op.User, Generation: f.row.Generation, Side: f.row.Side, Epoch: f.row.Epoch,
		Half: half, Text: clientText}
	if _, err := f.m.ask(ctx, msg); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	next := f.row
	next.State = op.Drain
	if err := f.swap(ctx, next, nil); err != nil {
		return fmt.Errorf("record drain: %w", err)
	}
	msg.Kind = AskDrain
	left, err := f.m.ask(ctx, msg)
	if err != nil {
		return fmt.Errorf("drain: %d sessions have not ended: %w", left, err)
	}
	return nil
}

// ask sends a message to every node at once, and returns when all have acknowledged it.
func (m *Manager) ask(ctx context.Context, msg Message) (left int, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range m.nodes {
		wg.Go(func() {
			ack, e := n.Send(ctx, msg)
			mu.Lock()
			defer mu.Unlock()
			left += ack.Left
			if e == nil && (ack.Generation != msg.Generation || ack.User != msg.User) {
				e = errors.New("acknowledged something else")
			}
			if e != nil {
				err = errors.Join(err, fmt.Errorf("node %s: %w", n.Name(), e))
			}
		})
	}
	wg.Wait()
	return left, err
}

// commit is the point of truth: one transaction writes side, epoch, pin and history.
func (f *flipping) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	next := f.row
	next.State, next.Side, next.Epoch, next.Generation = op.Release, f.op.Target, f.row.Epoch+1, f.row.Generation+1
	next.Since = time.Now()
	pin := f.m.pinFor(f.op)
	e := op.Event{At: next.Since, Op: f.op.ID, User: f.op.User, What: "flip committed", Before: f.row.Side.String(),
		After: next.Side.String(), By: f.op.By}
	before := f.row
	err := f.swap(context.WithoutCancel(ctx), next, pin, e)
	if err == nil || errors.Is(err, op.ErrConflict) || !errors.Is(err, op.ErrUnavailable) {
		return err
	}
	// The outcome is unknown. The user stays fenced until the store has told.
	f.m.log.Error("outcome of a commit is unknown; reading it back", "user", f.op.User, "op", f.op.ID, "err", err)
	row, rerr := f.m.readBack(f.op.User)
	if rerr != nil {
		return errUnknown{rerr}
	}
	if row.Generation == next.Generation && row.Side == next.Side {
		f.row = row
		return nil
	}
	f.row = before
	return fmt.Errorf("commit: %w", err)
}

// errUnknown means that it could not be learned whether a commit happened: the fence must stay.
type errUnknown struct{ err error }

func (e errUnknown) Error() string { return "outcome of the commit is unknown: " + e.err.Error() }
func (e errUnknown) Unwrap() error { return e.err }

// readBack reads a row until the store answers or the manager stops.
func (m *Manager) readBack(user string) (op.Row, error) {
	wait := 20 * time.Millisecond
	for {
		row, err := m.store.Row(m.ctx, user)
		if err == nil {
			return row, nil
		}
		select {
		case <-m.ctx.Done():
			return row, errors.Join(err, context.Cause(m.ctx))
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}

// pinFor is the pin that a committed flip leaves: one when the decision was not the file's and the file differs; none
// (and the old one ends) when the file agrees.
func (m *Manager) pinFor(o op.Operation) *op.Pin {
	m.importMu.Lock()
	want, listed := m.desired[o.User]
	m.importMu.Unlock()
	pin := &op.Pin{User: o.User, Side: o.Target}
	if o.Pin && !(listed && want == o.Target) {
		pin.By, pin.At, pin.Reason = o.By, time.Now(), o.ID
	}
	return pin
}

// release lets the held logins go to the new side, then settles the row.
func (f *flipping) release() {
	m := f.m
	msg := Message{Kind: AskRelease, User: f.op.User, Generation: f.row.Generation, Side: f.row.Side, Epoch: f.row.Epoch}
	if _, err := m.ask(context.WithoutCancel(m.ctx), msg); err != nil {
		m.log.Error("release", "user", f.op.User, "op", f.op.ID, "err", err)
	}
	took := time.Since(f.start)
	m.rec.Flip(f.op.Target, took, true)
	m.log.Info("flip committed", "user", f.op.User, "side", f.row.Side.String(), "epoch", f.row.Epoch, "op", f.op.ID,
		"by", f.op.By, "seconds", took.Seconds())
	next := f.row
	next.State, next.Op = op.Settled, ""
	f.op.Status, f.op.Took, f.op.Reason = op.Done, took, ""
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), settleTime)
	defer cancel()
	if err := f.swap(ctx, next, nil); err != nil {
		// The flip stands. The row says RELEASE until it is settled by the next flip or start.
		m.log.Warn("a committed flip is not settled in the store yet", "user", f.op.User, "op", f.op.ID, "err", err)
	}
}

// settleTime bounds the writes behind a commit or an abort.
const settleTime = 10 * time.Second

// abort takes the fence away: the user is where he was.
func (f *flipping) abort(cause error) {
	m := f.m
	var unknown errUnknown
	if errors.As(cause, &unknown) {
		m.log.Error("flip left fenced: restart to learn its outcome", "user", f.op.User, "op", f.op.ID, "err", cause)
		return
	}
	next := f.row
	next.State, next.Op, next.Generation = op.Settled, "", f.generation()
	stopping := errors.Is(cause, ErrStopping)
	f.op.Reason, f.op.Took = plain(cause), time.Since(f.start)
	switch {
	case stopping:
		f.op.Status, f.op.Reason = op.Accepted, "begins anew after the restart"
	case errors.Is(cause, ErrCancelled):
		f.op.Status = op.Cancelled
	default:
		f.op.Status = op.Failed
	}
	e := op.Event{At: time.Now(), Op: f.op.ID, User: f.op.User, What: "flip aborted", Before: f.row.Side.String(),
		After: f.row.Side.String(), By: f.op.By, Detail: f.op.Reason}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), settleTime)
	defer cancel()
	err := f.undo(ctx, next, e)
	// Nothing was committed, so the fence can go even if the store did not take the abort: the row's side is the same.
	msg := Message{Kind: AskRelease, User: f.op.User, Generation: next.Generation, Side: next.Side, Epoch: next.Epoch}
	if _, rerr := m.ask(ctx, msg); rerr != nil && !errors.Is(rerr, router.ErrStale) {
		m.log.Error("release after abort", "user", f.op.User, "op", f.op.ID, "err", rerr)
	}
	m.rec.Flip(f.op.Target, f.op.Took, false)
	m.log.Warn("flip aborted", "user", f.op.User, "side", next.Side.String(), "op", f.op.ID, "reason", f.op.Reason,
		"seconds", f.op.Took.Seconds(), "store", err)
}

// undo writes the abort.
func (f *flipping) undo(ctx context.Context, next op.Row, e op.Event) error {
	o := f.op
	o.Step, o.Changed = string(op.Settled), time.Now()
	err := f.m.store.Swap(ctx, f.row.Generation, next, o, nil, e)
	if err == nil {
		f.m.rec.Transition(router.State(f.row.State), router.Settled)
	}
	return err
}

// failEarly ends an operation that has changed nothing yet; without the store it stays open and is tried again.
func (f *flipping) failEarly(cause error) {
	m := f.m
	if f.row.State == op.Fence { // the fence was recorded, or may have been
		f.abort(cause)
		return
	}
	f.op.Reason, f.op.Changed, f.op.Status = plain(cause), time.Now(), op.Failed
	switch {
	case errors.Is(cause, ErrStopping):
		return
	case errors.Is(cause, ErrCancelled):
		f.op.Status = op.Cancelled
	}
	m.log.Warn("flip not begun", "user", f.op.User, "op", f.op.ID, "reason", f.op.Reason)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), settleTime)
	defer cancel()
	e := op.Event{At: f.op.Changed, Op: f.op.ID, User: f.op.User, What: "flip refused", By: f.op.By, Detail: f.op.Reason}
	if err := m.store.SaveOperation(ctx, f.op, e); err != nil {
		m.log.Warn("operation not recorded; it begins anew after a restart", "op", f.op.ID, "err", err)
	}
}

// repair brings a row that was left half way to its end or its beginning (router.Undo).
func (m *Manager) repair(ctx context.Context, r op.Row) error {
	state, committed := router.Undo(router.State(r.State))
	next := r
	next.State, next.Op, next.Generation = op.State(state), "", r.Generation+1
	if p, _ := m.router.Lookup(r.User); p.Generation >= next.Generation {
		next.Generation = p.Generation + 1
	}
	e := op.Event{At: time.Now(), Op: r.Op, User: r.User, What: "flip undone after an interruption",
		Before: r.Side.String(), After: r.Side.String(), By: "serve"}
	if committed {
		e.What = "flip finished after an interruption"
	}
	var o op.Operation
	if r.Op != "" {
		var err error
		if o, err = m.store.Operation(ctx, r.Op); err != nil && !errors.Is(err, op.ErrNotFound) {
			return err
		}
		if o.ID != "" && !o.Status.Final() {
			o.Status, o.Step, o.Changed = op.Accepted, string(op.Settled), time.Now()
			if committed {
				o.Status = op.Done
			}
		}
	}
	if err := m.store.Swap(ctx, r.Generation, next, o, nil, e); err != nil {
		return err
	}
	m.router.Load(r.User, router.Place{Side: next.Side, Epoch: next.Epoch, Generation: next.Generation})
	m.log.Info(e.What, "user", r.User, "side", r.Side.String(), "op", r.Op)
	return nil
}

// plain words an error for a person.
func plain(err error) string {
	switch {
	case errors.Is(err, ErrDeadline), errors.Is(err, context.DeadlineExceeded):
		return "the deadline passed before all sessions could end (" + oneLine(err) + "); nothing was changed, ask again"
	case errors.Is(err, op.ErrUnavailable):
		return "the store cannot be written (" + oneLine(err) + "); nothing was changed, ask again when it can"
	}
	return oneLine(err)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
