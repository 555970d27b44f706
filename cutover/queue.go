package cutover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// task is an operation of a user from its request until it is recorded as ended. Manager.mu guards it.
type task struct {
	op      op.Operation
	cancel  context.CancelCauseFunc // nil until it runs
	late    bool                    // too late to cancel: it is being committed, or has ended and is being recorded
	slot    slot                    // that it holds
	door    chan struct{}           // closed when it is given one of FENCE to RELEASE
	step    op.State                // as the store has it
	why     string                  // what it waits for, when that is not its turn
	far     Progress                // how far the step is
	done    chan struct{}           // closed when its end is recorded, or the manager stops
	isEnded bool
}

// slot is a right to be at work.
type slot uint8

const (
	noSlot slot = iota
	prepSlot
	backSlot // of PREP too, for who goes back to OLD
	flipSlot
)

// Request asks for a user's flip. pin leaves a pin: the decision is not the routes file's.
func (m *Manager) Request(ctx context.Context, user string, target config.Side, by string, pin bool) (op.Operation, error) {
	return m.Ask(ctx, op.Operation{User: user, Target: target, By: by, Pin: pin})
}

// Ask is Request of an operation that says more: Wave, Parent, Now, From, Plan. What stands in the way already is a
// *Refusal, and nothing is recorded then.
func (m *Manager) Ask(ctx context.Context, o op.Operation) (op.Operation, error) {
	m.asking.RLock()
	defer m.asking.RUnlock()
	if err := m.isWorking(); err != nil {
		return op.Operation{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	o.Kind, o.Status, o.Wave, o.Created = op.Flip, op.Accepted, cmp.Or(o.Wave, m.members.Wave(o.User)), time.Now()
	o.Changed = o.Created
	if err := m.held(ctx, o.User, o.Wave); err != nil {
		return op.Operation{}, err
	}
	e := op.Event{At: o.Created, User: o.User, What: "flip requested", After: o.Target.String(), By: o.By, From: o.From, Plan: o.Plan}
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

// held is the refusal by a hold, nil when none stops the user.
func (m *Manager) held(ctx context.Context, user, wave string) error {
	holds, err := m.store.Holds(ctx)
	if err != nil {
		return fmt.Errorf("read holds: %w", err)
	}
	scopes := op.HoldScopes(user, wave)
	for _, h := range holds {
		if slices.Contains(scopes, h.Scope) {
			return refusedBy(h)
		}
	}
	return nil
}

func refusedBy(h op.Hold) *Refusal {
	why := fmt.Sprintf("%s is held by %s since %s", h.What(), h.By, h.At.Local().Format(time.DateTime))
	if h.Reason != "" {
		why += " (" + h.Reason + ")"
	}
	what := h.What()
	if h.Scope == op.HoldAll {
		what = "--all"
	}
	return &Refusal{Why: why, Do: "to let flips go on: mailgate unhold " + strings.TrimPrefix(what, "wave "), Err: op.ErrHeld}
}

// isWorking says why nothing can be asked for now.
func (m *Manager) isWorking() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return ErrStopping
	}
	if !m.working {
		err := fmt.Errorf("%w: it could not be brought in order since the start", op.ErrUnavailable)
		if m.notYet != nil {
			err = fmt.Errorf("%w: %w", err, m.notYet)
		}
		return err
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
		m.line(o.User)
	}
}

// backFactor is how many times as many go back to OLD at once as are prepared for NEW, and never behind those: first copies may
// take hours, and who goes back is in sync and in a hurry.
const backFactor = 4

// dispatch starts what may start; mu is held. A user's tasks run one after the other, users take turns.
func (m *Manager) dispatch() {
	if !m.working || m.ctx.Err() != nil {
		return
	}
	set := m.set.Load().flip
	for m.fenced < max(set.Parallel, 1) && len(m.doors) > 0 {
		t := m.doors[0]
		m.doors = m.doors[1:]
		m.free(t)
		t.slot = flipSlot
		m.fenced++
		close(t.door)
	}
	for m.backs < backFactor*max(set.Prepare, 1) && len(m.back) > 0 {
		user := m.back[0]
		m.back = m.back[1:]
		if q := m.queue[user]; len(q) > 0 && q[0].op.Target == config.New { // what was asked for first was cancelled
			m.ready = append(m.ready, user)
			continue
		}
		m.run(user)
	}
	for m.busy < max(set.Prepare, 1) && len(m.ready) > 0 {
		user := m.ready[0]
		m.ready = m.ready[1:]
		m.run(user)
	}
}

// free takes a task's slot; mu is held.
func (m *Manager) free(t *task) {
	switch t.slot {
	case prepSlot:
		m.busy--
	case backSlot:
		m.backs--
	case flipSlot:
		m.fenced--
	}
	t.slot = noSlot
}

// run starts the first task of a user, unless it runs; mu is held.
func (m *Manager) run(user string) {
	if len(m.queue[user]) == 0 { // cancelled
		delete(m.queue, user)
		return
	}
	t := m.queue[user][0]
	if t.cancel != nil { // the user stands twice in the list: a cancelled task put him there first
		return
	}
	t.slot = backSlot
	if t.op.Target == config.New {
		t.slot = prepSlot
		m.busy++
	} else {
		m.backs++
	}
	ctx, cancel := context.WithCancelCause(m.ctx)
	t.cancel = cancel
	m.wg.Go(func() {
		m.flip(ctx, t)
		cancel(nil)
		m.leave(t)
	})
}

// line puts a user in line whose first task may run; mu is held.
func (m *Manager) line(user string) {
	if q := m.queue[user]; len(q) > 0 && q[0].op.Target == config.Old {
		m.back = append(m.back, user)
	} else {
		m.ready = append(m.ready, user)
	}
}

// fenceSlot waits for the right to fence a user, which takes the place of that to prepare him.
func (m *Manager) fenceSlot(ctx context.Context, t *task) error {
	m.mu.Lock()
	t.door = make(chan struct{})
	m.doors = append(m.doors, t)
	m.dispatch()
	m.mu.Unlock()
	select {
	case <-t.door:
		return nil
	case <-ctx.Done():
		m.mu.Lock()
		defer m.mu.Unlock()
		m.doors = slices.DeleteFunc(m.doors, func(x *task) bool { return x == t })
		return context.Cause(ctx)
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
	m.line(t.op.User)
	m.dispatch()
}

// freeSlot lets another user's flip begin: this one only waits, or is through.
func (m *Manager) freeSlot(t *task) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.slot == noSlot {
		return
	}
	m.free(t)
	m.dispatch()
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
	t.step, t.why, t.far = step, why, Progress{}
}

// noteProgress is note of a step that tells how far it is.
func (m *Manager) noteProgress(t *task, step op.State, p Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.step, t.why, t.far = step, p.Why, p
}

// Live adds to an operation from the store what the store does not know: what it waits for.
func (m *Manager) Live(o op.Operation) op.Operation {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tasks[o.ID]
	if t != nil && !o.Status.Final() {
		o.Done, o.Total, o.Unit = t.far.Done, t.far.Total, t.far.Unit
	}
	switch {
	case o.Status.Final() || o.Reason != "":
	case t != nil && slices.Contains(m.doors, t):
		o.Reason = fmt.Sprintf("waits for its turn: %d users are fenced (flip.parallel)", m.fenced)
	case t != nil && t.why != "":
		o.Reason = t.why
	case t != nil && t.cancel == nil && len(m.queue[o.User]) > 0 && m.queue[o.User][0] != t:
		o.Reason = "waits for " + m.queue[o.User][0].op.ID
	case t != nil && t.cancel == nil:
		o.Reason = fmt.Sprintf("waits for its turn: %d users are being prepared (flip.prepare)", m.busy)
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
func (m *Manager) Cancel(ctx context.Context, id, by, from string) error {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	m.mu.Lock()
	t := m.tasks[id]
	if t == nil {
		m.mu.Unlock()
		m.importMu.Lock() // an import that is being approved ends first
		defer m.importMu.Unlock()
		err := m.cancelRecorded(ctx, id, by, from)
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
		t.cancel(cancelled{by, from})
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
	err := m.cancelRecorded(ctx, id, by, from)
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
		m.line(t.op.User)
	}
	m.dispatch()
}

// cancelRecorded ends an operation that no worker has.
func (m *Manager) cancelRecorded(ctx context.Context, id, by, from string) error {
	o, err := m.store.Operation(ctx, id)
	if err != nil {
		return err
	}
	if o.Status.Final() {
		return fmt.Errorf("%s is %s: %w", id, o.Status, ErrFinal)
	}
	o.Status, o.Reason, o.Changed = op.Cancelled, "by "+by, time.Now()
	e := op.Event{At: o.Changed, Op: id, User: o.User, What: "cancelled", By: by, From: from}
	if row, err := m.store.Row(ctx, o.User); err == nil && row.Op == id && row.State != op.Settled {
		// A crash left it half way, and serve has not run since.
		if row.State == op.Release {
			return fmt.Errorf("%s is committed: %w", id, ErrFinal)
		}
		was := row.Generation
		row.State, row.Op, row.Generation = op.Settled, "", was+1
		return m.store.Swap(ctx, was, row, o, nil, e)
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
			By: o.By, From: o.From, Detail: o.Reason}); err != nil {
			return err
		}
	}
	return nil
}
