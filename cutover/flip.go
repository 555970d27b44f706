package cutover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
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
	wave  string
	start time.Time // of FENCE
	heard []Node    // who was asked to fence
	stood []op.Node // who has acknowledged that nothing of the user is left there
	ready bool      // the hooks ahead of the fence have run
	seen  string    // what VERIFY saw
}

// flip moves one user, from the request to its end. Every step is durable before the next begins.
func (m *Manager) flip(ctx context.Context, t *task) {
	f := &flipping{m: m, t: t, op: t.op, row: op.Row{State: op.Settled}, wave: cmp.Or(t.op.Wave, m.members.Wave(t.op.User))}
	err := f.prepare(ctx)
	switch {
	case errors.Is(err, errDone):
		return
	case err != nil:
		f.abort(err)
		return
	}
	resume, err := f.still(ctx)
	if err != nil {
		f.abort(err)
		return
	}
	defer resume()
	switch err := f.move(ctx); {
	case errors.Is(err, errUnknown):
		m.log.Error("user stays fenced: the next start learns whether he has moved", "user", f.op.User, "op", f.op.ID, "err", err)
	case err != nil:
		f.abort(err)
	default:
		f.release()
	}
}

// prepare is PREP, up to the moment when the user can be fenced. errDone means that nothing is to be done.
func (f *flipping) prepare(ctx context.Context) error {
	if err := f.begin(ctx, f.accept); err != nil {
		return err
	}
	if err := f.allowed(ctx, false); err != nil {
		return err
	}
	if f.m.mail != nil && !f.op.Now {
		if err := f.m.mail.Prepare(ctx, f.moving(), f.tell(op.Prep)); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		f.m.note(f.t, op.Prep, "")
	}
	if err := f.m.fenceSlot(ctx, f.t); err != nil {
		return err
	}
	if err := f.allowed(ctx, true); err != nil {
		return err
	}
	if f.m.hooks != nil {
		f.ready = true
		if err := f.m.hooks.Before(ctx, f.moving()); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
	return nil
}

// move is FENCE to COMMIT, all within the deadline.
func (f *flipping) move(ctx context.Context) error {
	if err := f.begin(ctx, f.fence); err != nil {
		return err
	}
	ctx, cancel := context.WithDeadlineCause(ctx, f.op.Deadline, ErrDeadline)
	defer cancel()
	for _, step := range []func(context.Context) error{f.drain, f.delta, f.verify, f.commit} {
		if err := step(ctx); err != nil {
			// The store says of a call that was cut off only that it did not answer.
			if cause := context.Cause(ctx); (errors.Is(cause, ErrStopping) || errors.Is(cause, ErrCancelled)) && !errors.Is(err, cause) && !errors.Is(err, errUnknown) {
				err = fmt.Errorf("%w: %w", cause, err)
			}
			return err
		}
	}
	return nil
}

var (
	// errDone means that there is nothing to do, and that the store says so.
	errDone = errors.New("nothing to do")
	// errAtWork means that what else is at work in the user's mailboxes has not ended in time.
	errAtWork = errors.New("a sync pass over his mailboxes has not ended")
	// errUnknown means that it could not be learned whether a commit happened: the fence must stay.
	errUnknown = errors.New("outcome of the commit is unknown")
)

// moving is what those see of it who take part.
func (f *flipping) moving() Move { return moveOf(f.op, f.row, f.wave) }

// asked tells whether nodes were asked to fence.
func (f *flipping) asked() bool { return f.heard != nil }

// tell shows how far a step is.
func (f *flipping) tell(step op.State) func(Progress) {
	return func(p Progress) { f.m.noteProgress(f.t, step, p) }
}

// allowed asks whatever may stand in the way beside the machine itself.
func (f *flipping) allowed(ctx context.Context, before bool) error {
	err := f.begin(ctx, func(ctx context.Context) error { return f.m.held(ctx, f.op.User, f.wave) })
	if err != nil {
		return err
	}
	if before {
		if err := f.answering(ctx); err != nil {
			return err
		}
	}
	if f.m.gates == nil {
		return nil
	}
	return f.patient(ctx, 0, func(ctx context.Context) error { return f.m.gates.Begin(ctx, f.moving(), before) }) // gates are asked as long as they take
}

// answering waits in PREP for nodes that have not been heard of for some time, as long as a flip may take, and refuses then: behind the
// fence the user would wait for nothing.
func (f *flipping) answering(ctx context.Context) error {
	m := f.m
	if m.cluster == nil {
		return nil
	}
	end := time.Now().Add(m.set.Load().flip.Deadline)
	for {
		silent := ""
		err := f.begin(ctx, func(ctx context.Context) error {
			nodes, err := m.store.Nodes(ctx)
			if err != nil {
				return fmt.Errorf("read nodes: %w", err)
			}
			silent = ""
			for name := range Silent(nodes) {
				silent = name
			}
			return nil
		})
		switch {
		case err != nil:
			return err
		case silent == "":
			m.note(f.t, op.Prep, "")
			return nil
		case time.Now().After(end):
			return &Refusal{Why: "node " + silent + " has not been heard of for some time, and a flip needs its word",
				Do: "see to it (mailgate nodes); when it is down for good: mailgate nodes remove " + silent}
		}
		m.note(f.t, op.Prep, "waits for node "+silent+", which has not been heard of for some time")
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(retryMax):
		}
	}
}

// still lets nothing else work in the user's mailboxes until resume is called.
func (f *flipping) still(ctx context.Context) (resume func(), err error) {
	if f.m.still == nil {
		return func() {}, nil
	}
	f.m.note(f.t, op.Prep, "waits for the end of a sync pass over his mailboxes")
	limit, cancel := context.WithTimeout(ctx, f.m.set.Load().flip.Deadline)
	defer cancel()
	resume, err = f.m.still(limit, f.op.User)
	switch {
	case err == nil:
		f.m.note(f.t, op.Prep, "")
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = fmt.Errorf("%w: %w", errAtWork, err)
	}
	return resume, err
}

// begin records a step before anybody is fenced. While the store does not answer it waits: nothing has to be called off.
func (f *flipping) begin(ctx context.Context, record func(context.Context) error) error {
	return f.patient(ctx, tryTime, record)
}

// patient is begin with a bound of each try; 0 means none.
func (f *flipping) patient(ctx context.Context, bound time.Duration, record func(context.Context) error) error {
	wait := retryMin
	for {
		try, cancel := ctx, func() {}
		if bound > 0 {
			try, cancel = context.WithTimeout(ctx, bound)
		}
		err := record(try)
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
		f.m.note(f.t, f.row.State, "waits for the store: "+oneLine(err))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMax)
	}
}

// accept records PREP. It may be called again when its outcome is unknown.
func (f *flipping) accept(ctx context.Context) error {
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
	if row.State == op.Prep && row.Op == f.op.ID { // a try that answered an error
		f.row.State = op.Settled
		f.adopt(row, o)
		return nil
	}
	if row.Side == f.op.Target {
		f.op.Status, f.op.Reason, f.op.Changed = op.Done, "already on "+row.Side.String(), time.Now()
		if err := f.stays(ctx, row); err != nil {
			return err
		}
		return errDone
	}
	next := row
	next.State, next.Target, next.Op, next.Generation = op.Prep, f.op.Target, f.op.ID, f.generation()
	if err := f.swap(ctx, next); err != nil {
		return fmt.Errorf("record the beginning: %w", err)
	}
	return nil
}

// stays records the end of a flip of a user who is there. Who was rolled back by name stays where he is, though his line says otherwise or will
// in a moment: he gets the pin that he would have had, had he been moved.
func (f *flipping) stays(ctx context.Context, row op.Row) error {
	pin := f.m.pinFor(f.op)
	if f.op.Pin && pin.At.IsZero() && f.m.members.Means(f.op.User, f.op.Target.Other()) {
		pin.By, pin.At, pin.Reason = f.op.By, f.op.Changed, f.op.ID
	}
	if _, listed := f.m.Desired(f.op.User); !listed || pin.At.IsZero() {
		return f.m.store.SaveOperation(ctx, f.op)
	}
	return f.m.store.Swap(ctx, row.Generation, row, f.op, pin, op.Event{At: pin.At, Op: f.op.ID, User: f.op.User, What: "pinned", After: pin.Side.String(),
		By: pin.By, From: f.op.From})
}

// fence records FENCE. It may be called again when its outcome is unknown.
func (f *flipping) fence(ctx context.Context) error {
	row, err := f.m.store.Row(ctx, f.op.User)
	if err != nil {
		return fmt.Errorf("read user: %w", err)
	}
	switch {
	case row.State == op.Fence && row.Op == f.op.ID: // a try that answered an error
		o, err := f.m.store.Operation(ctx, f.op.ID)
		if err != nil {
			return fmt.Errorf("read operation: %w", err)
		}
		f.adopt(row, o)
		f.start = o.Changed
		return nil
	case row.State != op.Prep || row.Op != f.op.ID:
		return fmt.Errorf("%w: %s is %s, by %s", errTaken, row.User, row.State, row.Op)
	}
	f.row = row
	f.start = time.Now()
	f.op.Deadline = f.start.Add(f.m.set.Load().flip.Deadline)
	next := row
	next.State, next.Generation = op.Fence, f.generation()
	if err := f.swap(ctx, next); err != nil {
		return fmt.Errorf("record fence: %w", err)
	}
	return nil
}

// errTaken means that somebody else has changed the row meanwhile.
var errTaken = errors.New("another process has taken this flip over")

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
func (f *flipping) swap(ctx context.Context, next op.Row, events ...op.Event) error {
	return f.write(next, func(o op.Operation) error { return f.m.store.Swap(ctx, f.row.Generation, next, o, nil, events...) })
}

// write is swap by what writes.
func (f *flipping) write(next op.Row, write func(op.Operation) error) error {
	if err := router.Legal(router.State(f.row.State), router.State(next.State)); err != nil {
		return err
	}
	o := f.op
	o.Step, o.Changed = string(next.State), time.Now()
	if !o.Status.Final() {
		o.Status = op.Running
	}
	if err := write(o); err != nil {
		return err
	}
	f.adopt(next, o)
	return nil
}

// adopt takes over what the store has by now.
func (f *flipping) adopt(next op.Row, o op.Operation) {
	f.m.rec.Transition(f.op.User, router.State(f.row.State), router.State(next.State), f.op.By)
	f.m.rec.StoreOK(o.Changed)
	f.m.log.Debug("step of a flip", "user", f.op.User, "op", f.op.ID, "from", f.row.State, "to", next.State, "seconds", o.Changed.Sub(f.op.Changed).Seconds())
	f.row, f.op = next, o
	f.m.note(f.t, next.State, "")
}

// step records the next state.
func (f *flipping) step(ctx context.Context, s op.State) error {
	next := f.row
	next.State, next.Generation = s, f.row.Generation+1
	if err := f.swap(ctx, next); err != nil {
		return fmt.Errorf("record %s: %w", s, err)
	}
	return nil
}

// drain fences on every node, records DRAIN, and waits until every node has acknowledged that no session is left.
func (f *flipping) drain(ctx context.Context) error {
	nodes, err := f.m.registered(ctx)
	if err != nil {
		return fmt.Errorf("fence: read nodes: %w", err)
	}
	f.heard = nodes
	if _, err := f.m.ask(ctx, f.message(AskFence), nodes); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if err := f.step(ctx, op.Drain); err != nil {
		return err
	}
	return f.drained(ctx, nodes)
}

func (f *flipping) message(k Kind) Message {
	return Message{Kind: k, User: f.op.User, Generation: f.row.Generation, Side: f.row.Side, Epoch: f.row.Epoch,
		Half: f.start.Add(f.op.Deadline.Sub(f.start) / 2), Text: clientText, Cut: f.op.Now}
}

// drained waits until nodes have acknowledged that nothing of the user is left with them, beside those that have already.
func (f *flipping) drained(ctx context.Context, nodes []Node) error {
	left, err := f.m.ask(ctx, f.message(AskDrain), nodes)
	if err != nil {
		return fmt.Errorf("drain: %d sessions have not ended: %w", left, err)
	}
	for _, n := range nodes {
		f.stood = append(f.stood, op.Node{Name: n.Name(), Incarnation: n.Incarnation()})
	}
	return nil
}

// joined asks the nodes that are registered now and have not acknowledged; those that are none any more do not count.
func (f *flipping) joined(ctx context.Context) error {
	nodes, err := f.m.registered(ctx)
	if err != nil {
		return fmt.Errorf("read nodes: %w", err)
	}
	var fresh []Node
	var still []op.Node
	for _, n := range nodes {
		x := op.Node{Name: n.Name(), Incarnation: n.Incarnation()}
		if slices.Contains(f.stood, x) {
			still = append(still, x)
		} else {
			fresh = append(fresh, n)
		}
	}
	f.stood = still
	f.heard = append(f.heard, fresh...)
	return f.drained(ctx, fresh)
}

// delta carries what is left: nobody is at the mailboxes.
func (f *flipping) delta(ctx context.Context) error {
	if err := f.step(ctx, op.Delta); err != nil {
		return err
	}
	if f.m.mail == nil || f.op.Now {
		return nil
	}
	if err := f.m.mail.Delta(ctx, f.moving(), f.tell(op.Delta)); err != nil {
		return fmt.Errorf("delta: %w", cmp.Or(context.Cause(ctx), err))
	}
	return nil
}

// verify compares both sides.
func (f *flipping) verify(ctx context.Context) (err error) {
	if err := f.step(ctx, op.Verify); err != nil {
		return err
	}
	if f.m.mail == nil || f.op.Now {
		return nil
	}
	if f.seen, err = f.m.mail.Verify(ctx, f.moving()); err != nil {
		return fmt.Errorf("verify: %w", cmp.Or(context.Cause(ctx), err))
	}
	return nil
}

// ask sends a message to nodes at once, and returns when all have acknowledged it, or one cannot.
func (m *Manager) ask(ctx context.Context, msg Message, nodes []Node) (left int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range nodes {
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

// commit is COMMIT, the point of truth: one transaction writes side, epoch, pin and history, if exactly those nodes are
// registered that have acknowledged, and nobody has put up a hold.
func (f *flipping) commit(ctx context.Context) error {
	f.m.mu.Lock()
	f.t.late = ctx.Err() == nil
	f.m.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if f.m.gates != nil {
			if err := f.m.gates.Commit(f.moving()); err != nil {
				return err
			}
		}
		err := f.commitOnce(ctx)
		if !errors.Is(err, op.ErrNodes) {
			return err
		}
		f.m.log.Info("other nodes are registered than have acknowledged; they are asked too", "user", f.op.User, "op", f.op.ID, "err", err)
		if err := f.joined(ctx); err != nil {
			return err
		}
	}
}

func (f *flipping) commitOnce(ctx context.Context) error {
	next := f.row
	next.State, next.Side, next.Epoch, next.Generation = op.Release, f.op.Target, f.row.Epoch+1, f.row.Generation+1
	next.Since = time.Now()
	e := op.Event{At: next.Since, Op: f.op.ID, User: f.op.User, What: "flip committed", Before: f.row.Side.String(),
		After: next.Side.String(), By: f.op.By, From: f.op.From, Detail: f.seen}
	write, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(time.Until(f.op.Deadline), time.Second))
	defer cancel()
	c := op.Condition{Nodes: f.stood, Scopes: op.HoldScopes(f.op.User, f.wave)}
	err := f.write(next, func(o op.Operation) error {
		return f.m.store.Commit(write, f.row.Generation, next, o, f.m.pinFor(f.op), c, e)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, op.ErrNodes), errors.Is(err, op.ErrHeld): // nothing was written
		return err
	}
	// The outcome is unknown. The user stays fenced until the store has told.
	f.m.log.Error("outcome of a commit is unknown; reading it back", "user", f.op.User, "op", f.op.ID, "err", err)
	f.m.note(f.t, op.Verify, "the store did not say whether the commit was written ("+oneLine(err)+"); it is asked again")
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
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return strings.ReplaceAll(refusal.Error(), "\n", "; ")
	case errors.Is(err, op.ErrHeld):
		return oneLine(err) + "; nothing was changed, take the hold away (mailgate unhold) and ask again"
	case errors.Is(err, errAtWork):
		return oneLine(err) + "; nothing was changed, ask again"
	case errors.Is(err, ErrDeadline), errors.Is(err, context.DeadlineExceeded):
		return "the deadline passed before the user could be moved (" + oneLine(err) + "); nothing was changed, ask again"
	case errors.Is(err, op.ErrUnavailable):
		return "the store cannot be written (" + oneLine(err) + "); nothing was changed, ask again when it can"
	}
	return oneLine(err)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
