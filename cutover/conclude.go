package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mailgate/op"
	"mailgate/router"
)

// release lets the held logins go to the new side, then settles the row. The flip stands: what fails is tried until
// it works, or left to the next start.
func (f *flipping) release() {
	m := f.m
	told := m.teller(f.message(AskRelease), f.heard)
	first := true
	err := m.retry(func(ctx context.Context) error {
		err := told.tell(ctx)
		if first {
			first = false
			f.op.Took = time.Since(f.start)
			if m.mail != nil {
				m.mail.Moved(f.was())
			}
			m.rec.Flip(f.op.User, f.op.Target, f.op.Took, true)
			m.log.Info("flip committed", "user", f.op.User, "side", f.row.Side.String(), "epoch", f.row.Epoch, "op", f.op.ID,
				"by", f.op.By, "seconds", f.op.Took.Seconds())
		}
		if err == nil {
			err = f.settle(ctx)
		}
		if err != nil {
			m.note(f.t, op.Release, "committed; "+oneLine(err))
			m.freeSlot(f.t)
		}
		return err
	})
	if err != nil {
		m.log.Warn("a committed flip is not settled in the store; the next start does that", "user", f.op.User, "op", f.op.ID,
			"err", err)
	}
	if m.hooks != nil {
		m.hooks.After(f.was())
	}
}

// was is the move as it was before the commit.
func (f *flipping) was() Move {
	m := f.moving()
	m.From, m.Epoch = f.op.Target.Other(), f.row.Epoch-1
	return m
}

// settle records that every node knows the new side. It may be called again.
func (f *flipping) settle(ctx context.Context) error {
	row, err := f.m.store.Row(ctx, f.op.User)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if row.State == op.Settled && row.Generation > f.row.Generation {
		f.m.note(f.t, op.Settled, "")
		return nil // a try that answered an error
	}
	next := f.row
	next.State, next.Op, next.Generation = op.Settled, "", f.row.Generation+1
	o := f.op
	f.op.Status, f.op.Reason = op.Done, ""
	if err := f.swap(ctx, next); err != nil {
		f.op = o
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

// abort takes the fence away: the user is where he was. The nodes are told first, since nothing was committed and the
// row's side is the same whatever becomes of the record.
func (f *flipping) abort(cause error) {
	m := f.m
	if errors.Is(cause, ErrStopping) && !f.asked() {
		return // it has not begun for anybody; the next Start takes it up
	}
	m.mu.Lock()
	f.t.late = true
	m.mu.Unlock()
	f.op.Reason, f.op.Status = plain(cause), op.Failed
	end := op.Event{What: "flip aborted", By: f.op.By, From: f.op.From}
	switch {
	case errors.Is(cause, ErrStopping):
		f.op.Status, f.op.Reason = op.Accepted, "begins anew after the restart"
	case errors.Is(cause, ErrCancelled):
		f.op.Status = op.Cancelled
		if c, ok := errors.AsType[cancelled](cause); ok {
			end.By, end.From = c.by, c.from
		}
	case !f.asked():
		end.What = "flip refused"
	}
	if f.ready {
		m.hooks.Aborted(f.moving(), f.op.Reason)
	}
	settled := f.generation() + 1 // + 1: the store may have taken a FENCE that we do not know of
	release := f.message(AskRelease)
	release.Generation = settled
	told := m.teller(release, f.heard)
	first := true
	err := m.retry(func(ctx context.Context) error {
		terr := told.tell(ctx)
		if first {
			first = false
			if f.asked() {
				f.op.Took = time.Since(f.start)
				m.rec.Flip(f.op.User, f.op.Target, f.op.Took, false)
			}
			m.log.Warn(end.What, "user", f.op.User, "side", f.row.Side.String(), "op", f.op.ID, "reason", f.op.Reason,
				"seconds", f.op.Took.Seconds())
		}
		err := f.undo(ctx, settled, end, terr == nil)
		if err == nil {
			m.ended(f.t)
		}
		if err = errors.Join(terr, err); err != nil {
			m.note(f.t, f.row.State, "called off; "+oneLine(err))
			m.freeSlot(f.t)
		}
		return err
	})
	if err != nil {
		m.log.Warn("the end of a flip is not recorded; the next start does that", "user", f.op.User, "op", f.op.ID, "err", err)
	}
}

// undo records an abort: how the operation ended, with an event of which end has what happened and by whom, and, when
// every node knows, that the row is as before. It may be called again, and does not trust what an earlier call answered.
func (f *flipping) undo(ctx context.Context, settled int64, end op.Event, all bool) error {
	m := f.m
	row, err := m.store.Row(ctx, f.op.User)
	if err != nil && !errors.Is(err, op.ErrNotFound) {
		return fmt.Errorf("record the abort: %w", err)
	}
	was, err := m.store.Operation(ctx, f.op.ID)
	if err != nil {
		return fmt.Errorf("record the abort: %w", err)
	}
	var events []op.Event
	o := f.op
	o.Step, o.Changed = string(op.Settled), time.Now()
	if recorded := was.Status == o.Status && was.Reason == o.Reason; recorded {
		o = was
	} else {
		end.At, end.Op, end.User, end.Before, end.After, end.Detail = o.Changed, o.ID, o.User, row.Side.String(), row.Side.String(), o.Reason
		events = append(events, end)
	}
	mine := row.Op == f.op.ID && row.State != op.Settled
	switch {
	case mine && all:
		next := row
		next.State, next.Op, next.Generation = op.Settled, "", max(settled, row.Generation+1)
		if err := m.store.Swap(ctx, row.Generation, next, o, nil, events...); err != nil {
			return fmt.Errorf("record the abort: %w", err)
		}
		m.rec.Transition(o.User, router.State(row.State), router.Settled, o.By)
		f.row = next
	case len(events) > 0:
		if err := m.store.SaveOperation(ctx, o, events...); err != nil {
			return fmt.Errorf("record the abort: %w", err)
		}
	}
	m.rec.StoreOK(time.Now())
	m.note(f.t, f.row.State, "")
	return nil
}

// teller sends a message until each node has acknowledged it.
type teller struct {
	msg  Message
	left []Node
	m    *Manager
}

func (m *Manager) teller(msg Message, nodes []Node) *teller {
	return &teller{msg: msg, left: slices.Clone(nodes), m: m}
}

// nodeTime bounds the wait for one acknowledgement of a release.
const nodeTime = 2 * time.Second

// tell sends the message to those who have not acknowledged it; nil when none is left.
func (t *teller) tell(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nodeTime)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var left []Node
	var err error
	for _, n := range t.left {
		wg.Go(func() {
			ack, e := n.Send(ctx, t.msg)
			if errors.Is(e, router.ErrStale) || e == nil && ack.Node == n.Name() && ack.User == t.msg.User && ack.Generation == t.msg.Generation {
				return // it knows, perhaps from an earlier try
			}
			if e == nil {
				e = errors.New("acknowledged something else")
			}
			mu.Lock()
			defer mu.Unlock()
			left = append(left, n)
			err = errors.Join(err, fmt.Errorf("node %s has not heard: %w", n.Name(), e))
		})
	}
	wg.Wait()
	if t.left = left; err != nil {
		err = t.forget(ctx, err)
	}
	return err
}

// forget leaves those out who are no nodes any more: nobody will hear from them, and who comes again loads the row.
func (t *teller) forget(ctx context.Context, err error) error {
	nodes, e := t.m.registered(ctx)
	if e != nil {
		return errors.Join(err, e)
	}
	t.left = slices.DeleteFunc(t.left, func(n Node) bool {
		return !slices.ContainsFunc(nodes, func(x Node) bool { return x.Incarnation() == n.Incarnation() }) // it may have another name by now
	})
	if len(t.left) == 0 {
		return nil
	}
	return err
}

// repair brings a row that was left half way to its end or its beginning (router.Undo), and tells the nodes. It may be
// called again.
func (m *Manager) repair(ctx context.Context, r op.Row) error {
	now, err := m.store.Row(ctx, r.User)
	if err != nil {
		return err
	}
	if now.State == op.Settled || now.Op != r.Op {
		return nil // an earlier call
	}
	r = now
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
	o, err := m.store.Operation(ctx, r.Op)
	switch {
	case err != nil && !errors.Is(err, op.ErrNotFound):
		return err
	case err == nil && !o.Status.Final():
		o.Status, o.Step, o.Changed, o.Reason = op.Accepted, string(op.Settled), e.At, "begins anew after the restart"
		if committed {
			o.Status, o.Reason = op.Done, ""
		}
	}
	nodes, err := m.registered(ctx)
	if err != nil {
		return err
	}
	told := m.teller(Message{Kind: AskRelease, User: r.User, Generation: next.Generation, Side: next.Side, Epoch: next.Epoch}, nodes)
	if err := told.tell(ctx); err != nil { // a node that has not heard keeps him fenced: it stays half way until it has
		return fmt.Errorf("%w: %w", op.ErrUnavailable, err)
	}
	if err := m.store.Swap(ctx, r.Generation, next, o, nil, e); err != nil {
		return err
	}
	m.rec.Transition(r.User, router.State(r.State), state, e.By)
	m.rec.StoreOK(e.At)
	m.log.Info(e.What, "user", r.User, "side", r.Side.String(), "op", r.Op)
	if committed && m.mail != nil {
		m.mail.Moved(Move{Op: r.Op, User: r.User, From: r.Side.Other(), To: r.Side, Epoch: r.Epoch - 1, By: o.By, Now: o.Now})
	}
	return nil
}
