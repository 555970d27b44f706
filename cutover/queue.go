package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// task is an operation of a user from its request until it is recorded as ended. Manager.mu guards it.
type task struct {
	op      op.Operation
	cancel  context.CancelCauseFunc // nil until it runs
	late    bool                    // too late to cancel: it is being committed, or has ended and is being recorded
	slot    bool                    // holds a slot
	step    op.State                // as the store has it
	why     string                  // what it waits for, when that is not its turn
	done    chan struct{}           // closed when its end is recorded, or the manager stops
	isEnded bool
}

// Request asks for a user's flip. pin leaves a pin: the decision is not the routes file's.
func (m *Manager) Request(ctx context.Context, user string, target config.Side, by string, pin bool) (op.Operation, error) {
	m.asking.RLock()
	defer m.asking.RUnlock()
	if err := m.isWorking(); err != nil {
		return op.Operation{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	o := op.Operation{Kind: op.Flip, User: user, Target: target, Status: op.Accepted, By: by, Pin: pin, Created: time.Now()}
	o.Changed = o.Created
	e := op.Event{At: o.Created, User: user, What: "flip requested", After: target.String(), By: by}
	o, err := m.store.NewOperation(ctx, o, e)
	if err != nil {
		signal(m.stray)
		return o, fmt.Errorf("record request: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.enqueue(o)
	m.dispatch()
	return o, nil
}

// isWorking says why nothing can be asked for now.
func (m *Manager) isWorking() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return ErrStopping
	}
	if !m.working {
		return fmt.Errorf("%w: it could not be brought in order since the start", op.ErrUnavailable)
	}
	return nil
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// enqueue puts an operation behind the others of its user; mu is held.
func (m *Manager) enqueue(o op.Operation) {
	if m.ctx.Err() != nil || m.tasks[o.ID] != nil {
		return // stopping: it is in the store, and the next Start takes it up
	}
	t := &task{op: o, step: op.Settled, done: make(chan struct{})}
	m.tasks[o.ID] = t
	m.queue[o.User] = append(m.queue[o.User], t)
	if len(m.queue[o.User]) == 1 {
		m.ready = append(m.ready, o.User)
	}
}

// dispatch starts what may start; mu is held. A user's tasks run one after the other, users take turns.
func (m *Manager) dispatch() {
	if !m.working {
		return
	}
	for m.busy < max(m.set.Load().flip.Parallel, 1) && len(m.ready) > 0 && m.ctx.Err() == nil {
		user := m.ready[0]
		m.ready = m.ready[1:]
		if len(m.queue[user]) == 0 { // cancelled
			delete(m.queue, user)
			continue
		}
		t := m.queue[user][0]
		if t.cancel != nil { // the user stands twice in the list: a cancelled task put him there first
			continue
		}
		ctx, cancel := context.WithCancelCause(m.ctx)
		t.cancel, t.slot = cancel, true
		m.busy++
		m.wg.Go(func() {
			m.flip(ctx, t)
			cancel(nil)
			m.leave(t)
		})
	}
}

// leave takes a task that is through from the head of its user's queue.
func (m *Manager) leave(t *task) {
	m.ended(t)
	m.freeSlot(t)
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue[t.op.User][1:]
	if len(q) == 0 {
		delete(m.queue, t.op.User)
		return
	}
	m.queue[t.op.User] = q
	m.ready = append(m.ready, t.op.User)
	m.dispatch()
}

// freeSlot lets another user's flip begin: this one only waits for the store or a node.
func (m *Manager) freeSlot(t *task) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.slot {
		t.slot = false
		m.busy--
		m.dispatch()
	}
}

// ended wakes who waits for a task.
func (m *Manager) ended(t *task) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropTask(t)
}

func (m *Manager) dropTask(t *task) {
	if !t.isEnded {
		t.isEnded = true
		delete(m.tasks, t.op.ID)
		close(t.done)
	}
}

// note keeps what a task is doing, for Live.
func (m *Manager) note(t *task, step op.State, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.step, t.why = step, why
}

// Live adds to an operation from the store what the store does not know: what it waits for.
func (m *Manager) Live(o op.Operation) op.Operation {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tasks[o.ID]
	switch {
	case o.Status.Final() || o.Reason != "":
	case t != nil && t.why != "":
		o.Reason = t.why
	case t != nil && t.cancel == nil && len(m.queue[o.User]) > 0 && m.queue[o.User][0] != t:
		o.Reason = "waits for " + m.queue[o.User][0].op.ID
	case t != nil && t.cancel == nil:
		o.Reason = fmt.Sprintf("waits for its turn: %d flips are under way (flip.parallel)", m.busy)
	case t == nil && o.Kind == op.Flip:
		o.Reason = "goes on when mailgate serve runs"
	}
	return o
}

// headed is the side that a user will be on when all that is asked for is done; false when nothing is.
func (m *Manager) headed(user string) (config.Side, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue[user]
	for i := len(q) - 1; i >= 0; i-- {
		if !q[i].isEnded {
			return q[i].op.Target, true
		}
	}
	return config.Old, false
}

// Steps are the users who are not settled.
func (m *Manager) Steps() map[string]op.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]op.State{}
	for user, q := range m.queue {
		if len(q) > 0 && q[0].step != op.Settled {
			out[user] = q[0].step
		}
	}
	return out
}

// Counts are the operations that have not ended, by kind and status.
func (m *Manager) Counts() map[op.Kind]map[op.Status]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[op.Kind]map[op.Status]int{op.Flip: {op.Accepted: 0, op.Running: 0}, op.Import: {op.Waiting: 0}}
	for _, t := range m.tasks {
		if t.cancel == nil {
			out[op.Flip][op.Accepted]++
		} else {
			out[op.Flip][op.Running]++
		}
	}
	if m.waiting != "" {
		out[op.Import][op.Waiting] = 1
	}
	return out
}

func (m *Manager) setWaiting(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = id
}

// Cancel ends an operation that has not been committed. ErrFinal when it has ended already or cannot be stopped any
// more. That a running flip was told to stop is no proof that it did: Wait tells.
func (m *Manager) Cancel(ctx context.Context, id, by string) error {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	m.mu.Lock()
	t := m.tasks[id]
	if t == nil {
		m.mu.Unlock()
		m.importMu.Lock() // an import that is being approved ends first
		defer m.importMu.Unlock()
		err := m.cancelRecorded(ctx, id, by)
		m.mu.Lock()
		defer m.mu.Unlock()
		if err == nil && m.waiting == id {
			m.waiting = ""
		}
		return err
	}
	if t.cancel != nil {
		defer m.mu.Unlock()
		if t.late {
			return fmt.Errorf("%s cannot be stopped any more: %w", id, ErrFinal)
		}
		t.cancel(fmt.Errorf("%w by %s", ErrCancelled, by))
		return nil
	}
	// Out of the queue while it is written, so that it does not begin meanwhile.
	at := slices.Index(m.queue[t.op.User], t)
	if at < 0 {
		m.mu.Unlock()
		return fmt.Errorf("%s is being cancelled: %w", id, ErrFinal)
	}
	m.queue[t.op.User] = slices.Delete(m.queue[t.op.User], at, at+1)
	m.mu.Unlock()
	err := m.cancelRecorded(ctx, id, by)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && !errors.Is(err, ErrFinal) {
		m.putBack(t)
	} else {
		m.dropTask(t)
	}
	return err
}

// putBack queues a task again that could not be cancelled, in the order of the requests; mu is held.
func (m *Manager) putBack(t *task) {
	q := m.queue[t.op.User]
	at := slices.IndexFunc(q, func(x *task) bool { return x.cancel == nil && x.op.Created.After(t.op.Created) })
	if at < 0 {
		at = len(q)
	}
	m.queue[t.op.User] = slices.Insert(q, at, t)
	if len(q) == 0 {
		m.ready = append(m.ready, t.op.User)
	}
	m.dispatch()
}

// cancelRecorded ends an operation that no worker has.
func (m *Manager) cancelRecorded(ctx context.Context, id, by string) error {
	o, err := m.store.Operation(ctx, id)
	if err != nil {
		return err
	}
	if o.Status.Final() {
		return fmt.Errorf("%s is %s: %w", id, o.Status, ErrFinal)
	}
	o.Status, o.Reason, o.Changed = op.Cancelled, "by "+by, time.Now()
	e := op.Event{At: o.Changed, Op: id, User: o.User, What: "cancelled", By: by}
	if row, err := m.store.Row(ctx, o.User); err == nil && row.Op == id && row.State != op.Settled {
		// A crash left it half way, and serve has not run since.
		if row.State == op.Release {
			return fmt.Errorf("%s is committed: %w", id, ErrFinal)
		}
		from := row.Generation
		row.State, row.Op, row.Generation = op.Settled, "", from+1
		return m.store.Swap(ctx, from, row, o, nil, e)
	} else if err != nil && !errors.Is(err, op.ErrNotFound) {
		return err
	}
	return m.store.SaveOperation(ctx, o, e)
}

// waitLook is how often Wait looks at an operation that no worker has: an import that waits for approval.
const waitLook = 200 * time.Millisecond

// Wait returns the operation when it has ended, or as it stands with the cause when ctx ends or the manager stops.
func (m *Manager) Wait(ctx context.Context, id string) (op.Operation, error) {
	for {
		m.mu.Lock()
		t := m.tasks[id]
		m.mu.Unlock()
		var done chan struct{}
		if t != nil {
			done = t.done
		} else {
			o, err := m.read(ctx, id)
			if err != nil || o.Status.Final() {
				return o, err
			}
		}
		look := time.NewTimer(waitLook)
		if t != nil {
			look.Stop()
		}
		var cause error
		select {
		case <-done:
		case <-look.C:
		case <-ctx.Done():
			cause = context.Cause(ctx)
		case <-m.ctx.Done():
			cause = ErrStopping
		}
		look.Stop()
		if cause != nil {
			o, err := m.read(ctx, id)
			if o.Status.Final() {
				return o, err
			}
			return m.Live(o), errors.Join(err, cause)
		}
	}
}

// read reads an operation also behind the end of ctx.
func (m *Manager) read(ctx context.Context, id string) (op.Operation, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryTime)
	defer cancel()
	return m.store.Operation(ctx, id)
}

// Idle waits until nothing that was asked for is left to do.
func (m *Manager) Idle(ctx context.Context) error {
	for {
		m.mu.Lock()
		var done chan struct{}
		for _, t := range m.tasks {
			done = t.done
			break
		}
		m.mu.Unlock()
		if done == nil {
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.ctx.Done():
			return ErrStopping
		}
	}
}

// sweeper ends requests that were recorded although the store answered an error: who asked was told that it failed,
// so a later start must not carry it out.
func (m *Manager) sweeper() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.stray:
			if err := m.retry(m.sweep); err != nil {
				m.log.Warn("requests that failed are not looked for", "err", err)
			}
		}
	}
}

func (m *Manager) sweep(ctx context.Context) error {
	m.importMu.Lock()
	defer m.importMu.Unlock()
	m.asking.Lock() // nobody is between the record and the queue
	defer m.asking.Unlock()
	if m.isWorking() != nil {
		return nil
	}
	if m.unsure { // what an import asked for is no stray
		if _, err := m.reread(ctx); err != nil {
			return err
		}
	}
	open, err := m.store.Operations(ctx, op.Filter{Open: true, Kind: op.Flip})
	if err != nil {
		return err
	}
	for _, o := range open {
		m.mu.Lock()
		ours := m.tasks[o.ID] != nil
		m.mu.Unlock()
		if ours {
			continue
		}
		o.Status, o.Reason, o.Changed = op.Failed, "the store answered an error when it was asked for; ask again", time.Now()
		if err := m.store.SaveOperation(ctx, o, op.Event{At: o.Changed, Op: o.ID, User: o.User, What: "flip refused",
			By: o.By, Detail: o.Reason}); err != nil {
			return err
		}
	}
	return nil
}
