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

// flipping is one user's move under way.
type flipping struct {
	m     *Manager
	t     *task
	op    op.Operation
	row   op.Row // as the store has it
	start time.Time
	asked bool // nodes were asked to fence
	alone bool // nothing else works in the user's mailboxes
}

// flip moves one user, from the request to its end. Every step is durable before the next begins.
func (m *Manager) flip(ctx context.Context, t *task) {
	f := &flipping{m: m, t: t, op: t.op, row: op.Row{State: op.Settled}, alone: m.still == nil}
	err := f.begin(ctx)
	if errors.Is(err, errNotAlone) {
		var resume func()
		if resume, err = f.still(ctx); err == nil {
			defer resume()
			f.alone = true
			err = f.begin(ctx)
		}
	}
	switch {
	case errors.Is(err, errDone):
		return
	case err != nil:
		f.abort(err)
		return
	}
	ctx, cancel := context.WithDeadlineCause(ctx, f.op.Deadline, ErrDeadline)
	defer cancel()
	err = f.drain(ctx)
	if err == nil {
		err = f.commit(ctx)
	}
	switch {
	case errors.Is(err, errUnknown):
		m.log.Error("user stays fenced: the next start learns whether he has moved", "user", f.op.User, "op", f.op.ID, "err", err)
	case err != nil:
		f.abort(err)
	default:
		f.release()
	}
}

var (
	// errDone means that there is nothing to do, and that the store says so.
	errDone = errors.New("nothing to do")
	// errNotAlone means that there is a fence to be put up, and that nobody has seen yet that nothing else is at work.
	errNotAlone = errors.New("something else may be at work in the user's mailboxes")
	// errAtWork means that what else is at work in the user's mailboxes has not ended in time.
	errAtWork = errors.New("a sync pass over his mailboxes has not ended")
	// errUnknown means that it could not be learned whether a commit happened: the fence must stay.
	errUnknown = errors.New("outcome of the commit is unknown")
)

// still lets nothing else work in the user's mailboxes until resume is called.
func (f *flipping) still(ctx context.Context) (resume func(), err error) {
	f.m.note(f.t, op.Settled, "waits for the end of a sync pass over his mailboxes")
	limit, cancel := context.WithTimeout(ctx, f.m.set.Load().flip.Deadline)
	defer cancel()
	resume, err = f.m.still(limit, f.op.User)
	switch {
	case err == nil:
		f.m.note(f.t, op.Settled, "")
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = fmt.Errorf("%w: %w", errAtWork, err)
	}
	return resume, err
}

// begin records FENCE. While the store does not answer it waits: nothing has begun, so nothing has to be called off.
func (f *flipping) begin(ctx context.Context) error {
	wait := retryMin
	for {
		try, cancel := context.WithTimeout(ctx, tryTime)
		err := f.fence(try)
		cancel()
		if ctx.Err() != nil && !errors.Is(err, errDone) {
			return context.Cause(ctx)
		}
		if err == nil || errors.Is(err, errDone) || !errors.Is(err, op.ErrUnavailable) && !errors.Is(err, op.ErrConflict) {
			return err
		}
		if wait == retryMin {
			f.m.log.Warn("a flip waits for the store", "user", f.op.User, "op", f.op.ID, "err", err)
		}
		f.m.note(f.t, op.Settled, "waits for the store: "+oneLine(err))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMax)
	}
}

// fence records FENCE. It may be called again when its outcome is unknown.
func (f *flipping) fence(ctx context.Context) error {
	m := f.m
	o, err := m.store.Operation(ctx, f.op.ID)
	if err != nil {
		return fmt.Errorf("read operation: %w", err)
	}
	if o.Status.Final() {
		return errDone // cancelled before it was queued, or written by a try that answered an error
	}
	if err := m.flushOwed(ctx); err != nil {
		return fmt.Errorf("record who has logged in: %w", err)
	}
	row, err := f.findRow(ctx)
	if err != nil {
		return fmt.Errorf("read user: %w", err)
	}
	f.row = row
	if row.State == op.Fence && row.Op == f.op.ID { // a try that answered an error
		f.row.State = op.Settled
		f.adopt(row, o)
		f.start = o.Changed
		return nil
	}
	if row.Side == f.op.Target {
		f.op.Status, f.op.Reason, f.op.Changed = op.Done, "already on "+row.Side.String(), time.Now()
		if err := m.store.SaveOperation(ctx, f.op); err != nil {
			return err
		}
		return errDone
	}
	if !f.alone {
		return errNotAlone
	}
	f.start = time.Now()
	f.op.Deadline = f.start.Add(m.set.Load().flip.Deadline)
	next := row
	next.State, next.Target, next.Op, next.Generation = op.Fence, f.op.Target, f.op.ID, f.generation()
	if err := f.swap(ctx, next, nil); err != nil {
		return fmt.Errorf("record fence: %w", err)
	}
	return nil
}

// findRow reads the user's row, settled or under this operation; one is made for a name that is asked for by hand.
func (f *flipping) findRow(ctx context.Context) (op.Row, error) {
	m := f.m
	row, err := m.store.Row(ctx, f.op.User)
	if errors.Is(err, op.ErrNotFound) {
		p, _ := m.router.Lookup(f.op.User)
		row = op.Row{User: f.op.User, Side: p.Side, Epoch: p.Epoch, Generation: p.Generation, State: op.Settled,
			Since: time.Now()}
		if err := m.store.AddRows(ctx, []op.Row{row}); err != nil {
			return row, err
		}
		row, err = m.store.Row(ctx, f.op.User) // a login may have been first
		if err == nil {
			m.router.Load(row.User, place(row))
		}
	}
	if err == nil && row.State != op.Settled && row.Op != f.op.ID {
		if err := m.repair(ctx, row); err != nil {
			return row, err
		}
		return m.store.Row(ctx, f.op.User)
	}
	return row, err
}

// generation is a number that neither the store nor the router has seen for this user.
func (f *flipping) generation() int64 {
	p, _ := f.m.router.Lookup(f.op.User)
	return max(p.Generation, f.row.Generation) + 1
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
	f.adopt(next, o)
	return nil
}

// adopt takes over what the store has by now.
func (f *flipping) adopt(next op.Row, o op.Operation) {
	f.m.rec.Transition(f.op.User, router.State(f.row.State), router.State(next.State), f.op.By)
	f.m.rec.StoreOK(o.Changed)
	f.row, f.op = next, o
	f.m.note(f.t, next.State, "")
}

// drain fences on every node, records DRAIN, and waits until every node has acknowledged that no session is left.
func (f *flipping) drain(ctx context.Context) error {
	half := f.start.Add(f.op.Deadline.Sub(f.start) / 2)
	msg := Message{Kind: AskFence, User: f.op.User, Generation: f.row.Generation, Side: f.row.Side, Epoch: f.row.Epoch,
		Half: half, Text: clientText}
	f.asked = true
	if _, err := f.m.ask(ctx, msg); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	next := f.row
	next.State, next.Generation = op.Drain, f.row.Generation+1
	if err := f.swap(ctx, next, nil); err != nil {
		return fmt.Errorf("record drain: %w", err)
	}
	msg.Kind, msg.Generation = AskDrain, f.row.Generation
	left, err := f.m.ask(ctx, msg)
	if err != nil {
		return fmt.Errorf("drain: %d sessions have not ended: %w", left, err)
	}
	return nil
}

// ask sends a message to every node at once, and returns when all have acknowledged it, or one cannot.
func (m *Manager) ask(ctx context.Context, msg Message) (left int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range m.nodes {
		wg.Go(func() {
			ack, e := n.Send(ctx, msg)
			if e == nil && (ack.Node != n.Name() || ack.Generation != msg.Generation || ack.User != msg.User || ack.Left != 0) {
				e = errors.New("acknowledged something else")
			}
			mu.Lock()
			defer mu.Unlock()
			left += ack.Left
			if e != nil && err == nil { // the others are told to give up, which is no news
				err = fmt.Errorf("node %s: %w", n.Name(), e)
				cancel(errOtherNode)
			}
		})
	}
	wg.Wait()
	return left, err
}

var errOtherNode = errors.New("another node could not")

// commit is the point of truth: one transaction writes side, epoch, pin and history.
func (f *flipping) commit(ctx context.Context) error {
	f.m.mu.Lock()
	f.t.late = ctx.Err() == nil
	f.m.mu.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	next := f.row
	next.State, next.Side, next.Epoch, next.Generation = op.Release, f.op.Target, f.row.Epoch+1, f.row.Generation+1
	next.Since = time.Now()
	e := op.Event{At: next.Since, Op: f.op.ID, User: f.op.User, What: "flip committed", Before: f.row.Side.String(),
		After: next.Side.String(), By: f.op.By}
	write, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(time.Until(f.op.Deadline), time.Second))
	defer cancel()
	err := f.swap(write, next, f.m.pinFor(f.op), e)
	if err == nil {
		return nil
	}
	// The outcome is unknown. The user stays fenced until the store has told.
	f.m.log.Error("outcome of a commit is unknown; reading it back", "user", f.op.User, "op", f.op.ID, "err", err)
	f.m.note(f.t, op.Drain, "the store did not say whether the commit was written ("+oneLine(err)+"); it is asked again")
	var row op.Row
	rerr := f.m.retry(func(ctx context.Context) (err error) {
		if row, err = f.m.store.Row(ctx, f.op.User); err != nil {
			f.m.freeSlot(f.t)
		}
		return err
	})
	if rerr != nil {
		return fmt.Errorf("%w: %w", errUnknown, rerr)
	}
	if row.Op == f.op.ID && row.Epoch == next.Epoch && row.Side == next.Side {
		o := f.op
		o.Status, o.Step, o.Changed = op.Running, string(op.Release), next.Since
		f.adopt(row, o)
		return nil
	}
	return fmt.Errorf("commit: %w", err)
}

// pinFor is the pin that a committed flip leaves: one when the decision was not the file's and the file differs; none
// (and the old one ends) when the file agrees.
func (m *Manager) pinFor(o op.Operation) *op.Pin {
	want, listed := m.Desired(o.User)
	pin := &op.Pin{User: o.User, Side: o.Target}
	if o.Pin && !(listed && want == o.Target) {
		pin.By, pin.At, pin.Reason = o.By, time.Now(), o.ID
	}
	return pin
}

// plain words an error for a person.
func plain(err error) string {
	switch {
	case errors.Is(err, errAtWork):
		return oneLine(err) + "; nothing was changed, ask again"
	case errors.Is(err, ErrDeadline), errors.Is(err, context.DeadlineExceeded):
		return "the deadline passed before all sessions could end (" + oneLine(err) + "); nothing was changed, ask again"
	case errors.Is(err, op.ErrUnavailable):
		return "the store cannot be written (" + oneLine(err) + "); nothing was changed, ask again when it can"
	}
	return oneLine(err)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
