package cutover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// Recorder counts flips; package admin implements it. Methods must not block.
type Recorder interface {
	// Flip observes a flip that ended: FENCE to RELEASE, and whether it was committed.
	Flip(target config.Side, took time.Duration, committed bool)
	// Transition counts a step of the machine.
	Transition(from, to router.State)
	// StoreOK notes when the store last took a write.
	StoreOK(at time.Time)
}

// Options are what a Manager works with. All but Recorder must be set.
type Options struct {
	Store    op.Store
	Router   *router.Router
	Nodes    []Node // every node; the store's list of names must match it
	Flip     config.Flip
	Routes   config.Routes
	Log      *slog.Logger
	Recorder Recorder
}

// Manager runs operations. Its methods are safe for concurrent use.
type Manager struct {
	store  op.Store
	router *router.Router
	nodes  []Node
	log    *slog.Logger
	rec    Recorder
	set    atomic.Pointer[settings]

	ctx  context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	importMu sync.Mutex // one import at a time; guards desired and serial
	desired  map[string]config.Side
	serial   string
	routes   atomic.Pointer[config.RouteFile]
	def      atomic.Int32 // config.Side of users never seen

	mu       sync.Mutex
	queue    map[string][]op.Operation          // by user, in order; present while a worker runs
	running  map[string]context.CancelCauseFunc // by operation
	waiters  map[string][]chan struct{}         // by operation
	slots    int                                // flips that may begin now
	free     sync.Cond
	owed     []op.Row   // rows of users seen at login, not written yet
	flushing sync.Mutex // held while owed rows are written; taken before mu
	wake     chan struct{}
}

type settings struct {
	flip   config.Flip
	routes config.Routes
}

// Errors of requests.
var (
	ErrCancelled = errors.New("cancelled")
	ErrDeadline  = errors.New("deadline passed")
	ErrStopping  = errors.New("the gateway is stopping")
	ErrFinal     = errors.New("operation has ended already")
)

// New makes a Manager. Start begins its work.
func New(o Options) *Manager {
	m := &Manager{store: o.Store, router: o.Router, nodes: o.Nodes, log: o.Log, rec: o.Recorder,
		desired: map[string]config.Side{}, queue: map[string][]op.Operation{},
		running: map[string]context.CancelCauseFunc{}, waiters: map[string][]chan struct{}{}, wake: make(chan struct{}, 1)}
	if m.rec == nil {
		m.rec = noRecorder{}
	}
	m.free.L = &m.mu
	m.Configure(o.Flip, o.Routes)
	m.slots = max(o.Flip.Parallel, 1)
	m.ctx, m.stop = context.WithCancelCause(context.Background())
	m.routes.Store(&config.RouteFile{})
	return m
}

// Configure changes deadlines and guards for what comes.
func (m *Manager) Configure(f config.Flip, r config.Routes) { m.set.Store(&settings{f, r}) }

// Side answers the side of a user without a row: the first pattern that matches, else the default in force. It is
// the router's source.
func (m *Manager) Side(user string) config.Side {
	if r, ok := m.routes.Load().Match(user); ok {
		return r.Side
	}
	return config.Side(m.def.Load())
}

// Start loads the actual state into the router, brings what a crash left half done to its end or its beginning, and
// resumes open operations. The workers run until Stop.
func (m *Manager) Start(ctx context.Context) error {
	if err := m.registerNodes(ctx); err != nil {
		return err
	}
	def, err := m.store.Default(ctx)
	if err != nil {
		return fmt.Errorf("read default side: %w", err)
	}
	m.def.Store(int32(def))
	var half []op.Row
	err = m.store.Rows(ctx, func(r op.Row) error {
		if r.State != op.Settled {
			half = append(half, r)
		}
		m.router.Load(r.User, router.Place{Side: r.Side, Epoch: r.Epoch, Generation: r.Generation})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	m.serial, err = m.store.Desired(ctx, func(d op.Desired) error {
		m.desired[d.User] = d.Side
		return nil
	})
	if err != nil {
		return fmt.Errorf("read imported routes: %w", err)
	}
	for _, r := range half {
		if err := m.repair(ctx, r); err != nil {
			return fmt.Errorf("repair %s: %w", r.User, err)
		}
	}
	m.wg.Go(m.writeOwed)
	return m.resume(ctx)
}

// registerNodes makes the store's list of nodes ours. The store has one writer, so a name that is not ours is that of
// a process which is gone.
func (m *Manager) registerNodes(ctx context.Context) error {
	names, err := m.store.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("read nodes: %w", err)
	}
	ours := func(name string) bool {
		return slices.ContainsFunc(m.nodes, func(n Node) bool { return n.Name() == name })
	}
	for _, name := range names {
		if ours(name) {
			continue
		}
		e := op.Event{What: "node removed", Before: name, By: "serve", Detail: "another process holds the store now"}
		if err := m.store.RemoveNode(ctx, name, e); err != nil {
			return fmt.Errorf("remove node %s: %w", name, err)
		}
	}
	for _, n := range m.nodes {
		if err := m.store.AddNode(ctx, n.Name()); err != nil {
			return fmt.Errorf("register node %s: %w", n.Name(), err)
		}
	}
	return nil
}

// resume queues the operations that were accepted before a restart.
func (m *Manager) resume(ctx context.Context) error {
	ops, err := m.store.Operations(ctx, true, 1<<20)
	if err != nil {
		return fmt.Errorf("read operations: %w", err)
	}
	slices.Reverse(ops) // oldest first
	for _, o := range ops {
		if o.Kind == op.Flip {
			m.enqueue(o)
		}
	}
	return nil
}

// Stop ends the workers: flips that are under way abort, and are taken up again by the next Start. It waits.
func (m *Manager) Stop() {
	m.stop(ErrStopping)
	m.mu.Lock()
	m.free.Broadcast()
	m.mu.Unlock()
	m.wg.Wait()
}

// Request asks for a user's flip. pin leaves a pin: the decision is not the routes file's.
func (m *Manager) Request(ctx context.Context, user string, target config.Side, by string, pin bool) (op.Operation, error) {
	o := op.Operation{Kind: op.Flip, User: user, Target: target, Status: op.Accepted, By: by, Pin: pin, Created: time.Now()}
	o.Changed = o.Created
	e := op.Event{At: o.Created, User: user, What: "flip requested", After: target.String(), By: by}
	o, err := m.store.NewOperation(ctx, o, e)
	if err != nil {
		return o, fmt.Errorf("record request: %w", err)
	}
	m.enqueue(o)
	return o, nil
}

// enqueue gives an operation to its user's worker.
func (m *Manager) enqueue(o op.Operation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return // it is in the store; the next Start takes it up
	}
	_, working := m.queue[o.User]
	m.queue[o.User] = append(m.queue[o.User], o)
	if !working {
		m.wg.Go(func() { m.work(o.User) })
	}
}

// work runs a user's operations one after the other.
func (m *Manager) work(user string) {
	for {
		m.mu.Lock()
		for m.slots == 0 && m.ctx.Err() == nil {
			m.free.Wait()
		}
		if len(m.queue[user]) == 0 || m.ctx.Err() != nil {
			delete(m.queue, user)
			m.mu.Unlock()
			return
		}
		o := m.queue[user][0]
		m.queue[user] = m.queue[user][1:]
		m.slots--
		ctx, cancel := context.WithCancelCause(m.ctx)
		m.running[o.ID] = cancel
		m.mu.Unlock()

		m.flip(ctx, o)

		cancel(nil)
		m.mu.Lock()
		delete(m.running, o.ID)
		m.slots++
		m.free.Broadcast()
		for _, w := range m.waiters[o.ID] {
			close(w)
		}
		delete(m.waiters, o.ID)
		m.mu.Unlock()
	}
}

// Cancel ends an operation that has not been committed. ErrFinal when it has ended already.
func (m *Manager) Cancel(ctx context.Context, id, by string) error {
	m.mu.Lock()
	if cancel, ok := m.running[id]; ok {
		m.mu.Unlock()
		cancel(fmt.Errorf("%w by %s", ErrCancelled, by))
		return nil
	}
	for user, q := range m.queue {
		m.queue[user] = slices.DeleteFunc(q, func(o op.Operation) bool { return o.ID == id })
	}
	m.mu.Unlock()
	o, err := m.store.Operation(ctx, id)
	if err != nil {
		return err
	}
	if o.Status.Final() {
		return ErrFinal
	}
	o.Status, o.Reason, o.Changed = op.Cancelled, "by "+by, time.Now()
	return m.store.SaveOperation(ctx, o, op.Event{At: o.Changed, Op: id, User: o.User, What: "cancelled", By: by})
}

// Wait returns the operation when it has ended, or as it stands when ctx ends.
func (m *Manager) Wait(ctx context.Context, id string) (op.Operation, error) {
	for {
		done := make(chan struct{})
		m.mu.Lock()
		_, active := m.running[id]
		for _, q := range m.queue {
			active = active || slices.ContainsFunc(q, func(o op.Operation) bool { return o.ID == id })
		}
		if active {
			m.waiters[id] = append(m.waiters[id], done)
		}
		m.mu.Unlock()
		if !active {
			return m.store.Operation(context.WithoutCancel(ctx), id)
		}
		select {
		case <-done:
		case <-ctx.Done():
			o, err := m.store.Operation(context.WithoutCancel(ctx), id)
			return o, errors.Join(err, context.Cause(ctx))
		}
	}
}

// Seen owes a row to a user who has logged in for the first time. It does not block: see router.New.
func (m *Manager) Seen(user string, p router.Place) {
	m.mu.Lock()
	m.owed = append(m.owed, op.Row{User: user, Side: p.Side, Epoch: p.Epoch, Generation: p.Generation, State: op.Settled,
		Since: time.Now()})
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Owed is the number of rows that wait to be written.
func (m *Manager) Owed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.owed)
}

// retryOwed is the pause after a failed write.
const retryOwed = time.Second

// writeOwed writes owed rows, behind the logins.
func (m *Manager) writeOwed() {
	for {
		select {
		case <-m.ctx.Done():
			m.flushOwed(context.WithoutCancel(m.ctx))
			return
		case <-m.wake:
		}
		for m.flushOwed(m.ctx) != nil && m.ctx.Err() == nil {
			select {
			case <-m.ctx.Done():
			case <-time.After(retryOwed):
			}
		}
	}
}

// flushOwed writes the rows that are owed. Logins owe more meanwhile, so one call at a time takes off what it wrote.
func (m *Manager) flushOwed(ctx context.Context) error {
	m.flushing.Lock()
	defer m.flushing.Unlock()
	m.mu.Lock()
	rows := slices.Clone(m.owed)
	m.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	if err := m.store.AddRows(ctx, rows); err != nil {
		m.log.Warn("rows of new users are not written yet", "rows", len(rows), "err", err)
		return err
	}
	m.rec.StoreOK(time.Now())
	m.mu.Lock()
	m.owed = slices.Delete(m.owed, 0, len(rows))
	m.mu.Unlock()
	return nil
}

type noRecorder struct{}

func (noRecorder) Flip(config.Side, time.Duration, bool) {}
func (noRecorder) Transition(_, _ router.State)          {}
func (noRecorder) StoreOK(time.Time)                     {}
