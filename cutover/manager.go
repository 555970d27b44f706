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
	Flip(user string, target config.Side, took time.Duration, committed bool)
	// Transition counts a step of the machine, and who asked for it (Operation.By).
	Transition(user string, from, to router.State, by string)
	// StoreOK notes when the store last took a write.
	StoreOK(at time.Time)
}

// Options are what a Manager works with. All but Recorder must be set.
type Options struct {
	Store    op.Store
	Router   *router.Router
	Nodes    []Node // every node, where there is no Cluster; the store's list is made to match it
	Flip     config.Flip
	Routes   config.Routes
	Log      *slog.Logger
	Recorder Recorder
	// Quiesce ends what else is at work in a user's mailboxes, waits for its end, and lets nothing of the kind begin until
	// resume is called, behind the flip's release or abort. After an error there is nothing to resume, and the flip is
	// refused. nil when nothing else is ever at work.
	Quiesce func(ctx context.Context, user string) (resume func(), err error)
	// Cluster tells which nodes there are, where there may be several; nil means Nodes, and that others are gone.
	Cluster Cluster
	// Own tells that no Member beside the manager writes the rows owed in this process, though there is a Cluster.
	Own     bool
	Mail    Mail    // brings mailboxes together; nil: none are
	Gates   Gates   // nil: none
	Hooks   Hooks   // nil: none
	Members Members // nil: there are no waves
	// Newcomers outlive the manager, where several follow each other in a process; nil: its own.
	Newcomers *Newcomers
}

// Cluster knows the nodes of several processes.
type Cluster interface {
	// Nodes are those that the store has registered now.
	Nodes(ctx context.Context) ([]Node, error)
}

// Manager runs operations. Its methods are safe for concurrent use.
type Manager struct {
	store   op.Store
	router  *router.Router
	nodes   []Node
	cluster Cluster
	own     bool // see Options.Own
	mail    Mail
	gates   Gates
	hooks   Hooks
	members Members
	log     *slog.Logger
	rec     Recorder
	still   func(ctx context.Context, user string) (resume func(), err error)
	set     atomic.Pointer[settings]

	newcomers *Newcomers

	ctx  context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	importMu sync.Mutex // one import at a time; guards serial and unsure. Order: importMu, asking, mu
	serial   string
	unsure   bool // an import may have been recorded although the store answered an error

	asking sync.RWMutex // held for reading while a request is recorded and queued, see sweep

	parts parts

	linesMu sync.RWMutex
	lines   map[string]config.Side // of the routes file as last imported; written with importMu held too

	mu       sync.Mutex
	tasks    map[string]*task   // by operation, until it is recorded as ended
	queue    map[string][]*task // by user, in order; the first may be running
	ready    []string           // users whose first task waits for a slot of PREP
	back     []string           // users whose first task needs none
	busy     int                // taken slots of PREP, to NEW
	backs    int                // the same, to OLD
	fenced   int                // taken slots of FENCE to RELEASE
	doors    []*task            // who waits for one of those, in order
	working  bool               // Start has brought the store in order: tasks may run
	notYet   error              // why not; may be nil
	waiting  string             // the import that waits for approval
	crossed  []string           // users who logged in elsewhere while an import placed them
	pauses   int64              // how often people without a row were kept waiting
	resumes  int64              // the last pause whose end some node has not heard of; mu guards it
	resuming bool               // resumeLate runs; mu guards it

	wake  chan struct{} // users crossed
	stray chan struct{} // a request may have been recorded although the store answered an error
}

type settings struct {
	flip   config.Flip
	routes config.Routes
}

// cancelled is an ErrCancelled that tells by whom, and where from.
type cancelled struct{ by, from string }

func (c cancelled) Error() string { return ErrCancelled.Error() + " by " + c.by }
func (c cancelled) Unwrap() error { return ErrCancelled }

// Errors of requests.
var (
	ErrCancelled = errors.New("cancelled")
	ErrDeadline  = errors.New("deadline passed")
	ErrStopping  = errors.New("the gateway is stopping")
	ErrFinal     = errors.New("operation has ended already")
	// ErrAddressRules means that the settings would make other users of the names that the store keeps.
	ErrAddressRules = errors.New("routes.local_part and routes.subaddress cannot change once users are in the store: " +
		"they decide which names are one user, so that the same person could be on two sides; put them back")
	// ErrFileChanged means that the file is not the one that was to be approved.
	ErrFileChanged = errors.New("the routes file has changed since the operation was recorded; reload, then approve the new operation")
)

// Times of dealing with a store or a node that does not answer.
const (
	tryTime  = 5 * time.Second // one attempt
	retryMin = 20 * time.Millisecond
	retryMax = time.Second
)

// New makes a Manager. Start begins its work.
func New(o Options) *Manager {
	m := &Manager{store: o.Store, router: o.Router, nodes: o.Nodes, log: o.Log, rec: o.Recorder, still: o.Quiesce,
		cluster: o.Cluster, own: o.Own, mail: o.Mail, gates: o.Gates, hooks: o.Hooks, members: o.Members,
		lines: map[string]config.Side{}, tasks: map[string]*task{}, queue: map[string][]*task{},
		newcomers: o.Newcomers, wake: make(chan struct{}, 1), stray: make(chan struct{}, 1)}
	if m.rec == nil {
		m.rec = noRecorder{}
	}
	if m.members == nil {
		m.members = noMembers{}
	}
	if m.newcomers == nil {
		m.newcomers = NewNewcomers()
	}
	m.Configure(o.Flip, o.Routes)
	m.ctx, m.stop = context.WithCancelCause(context.Background())
	return m
}

// Configure changes deadlines, the number of slots and guards for what comes.
func (m *Manager) Configure(f config.Flip, r config.Routes) {
	m.set.Store(&settings{f, r})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dispatch()
}

// Side answers the side of a user without a row. It is the router's source.
func (m *Manager) Side(user string) config.Side { return m.newcomers.Side(user) }

// Imported tells whether a routes file was ever taken over: before that nobody's side is known.
func (m *Manager) Imported() bool {
	m.importMu.Lock()
	defer m.importMu.Unlock()
	return m.serial != ""
}

// Serial is that of the routes file which was last taken over; "" before the first.
func (m *Manager) Serial() string {
	m.importMu.Lock()
	defer m.importMu.Unlock()
	return m.serial
}

// Load reads the actual state into the router, and nothing else: enough to look. Start includes it.
func (m *Manager) Load(ctx context.Context) error {
	_, err := m.load(ctx)
	return err
}

// load returns the rows that were left half way.
func (m *Manager) load(ctx context.Context) (half []op.Row, err error) {
	m.importMu.Lock()
	defer m.importMu.Unlock()
	if err := m.readImport(ctx); err != nil {
		return nil, err
	}
	err = m.store.Rows(ctx, func(r op.Row) error {
		if r.State != op.Settled {
			half = append(half, r)
		}
		if m.cluster != nil { // clients are served already
			loadRow(m.router, r)
		} else {
			m.router.Load(r.User, place(r))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	waiting, err := m.store.Operations(ctx, op.Filter{Open: true, Kind: op.Import, Limit: 1})
	if err != nil {
		return nil, fmt.Errorf("read operations: %w", err)
	}
	if len(waiting) > 0 {
		m.setWaiting(waiting[0].ID)
	}
	return half, nil
}

func place(r op.Row) router.Place {
	return router.Place{Side: r.Side, Epoch: r.Epoch, Generation: r.Generation}
}

// readImport reads what was imported last; importMu is held.
func (m *Manager) readImport(ctx context.Context) error {
	rules, err := m.store.Rules(ctx)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	lines := map[string]config.Side{}
	serial, err := m.store.Desired(ctx, func(d op.Desired) error {
		lines[d.User] = d.Side
		return nil
	})
	if err != nil {
		return fmt.Errorf("read imported routes: %w", err)
	}
	m.serial = serial
	m.newcomers.rules.Store(&rules)
	m.linesMu.Lock()
	m.lines = lines
	m.linesMu.Unlock()
	return nil
}

// Start loads the actual state, brings what a crash left half done to its end or its beginning, and resumes open
// operations. While the store can be read and not written, mail goes on with what it says, and the rest of the start
// is done when it can. The workers run until Stop.
func (m *Manager) Start(ctx context.Context) error {
	half, err := m.load(ctx)
	if err != nil {
		return err
	}
	err = m.setInOrder(ctx, half)
	if err != nil && !errors.Is(err, op.ErrUnavailable) {
		return err
	}
	if err != nil {
		m.log.Error("the store cannot be brought in order yet, so no user can be moved; mail goes on", "err", err)
		m.wg.Go(func() {
			m.retry(func(ctx context.Context) error { return m.setInOrder(ctx, half) })
		})
	}
	m.wg.Go(m.writeOwed)
	m.wg.Go(m.sweeper)
	return nil
}

// setInOrder is the part of Start that writes. It may be called again after an error.
func (m *Manager) setInOrder(ctx context.Context, half []op.Row) error {
	if m.cluster == nil {
		if err := m.registerNodes(ctx); err != nil {
			return err
		}
	}
	if m.cluster != nil { // who led before may have left them waiting
		m.resume(ctx, 0)
	}
	if err := m.repairAll(ctx, half); err != nil {
		m.mu.Lock()
		m.notYet = err
		m.mu.Unlock()
		return err
	}
	ops, err := m.store.Operations(ctx, op.Filter{Open: true, Kind: op.Flip})
	if err != nil {
		return fmt.Errorf("read operations: %w", err)
	}
	slices.Reverse(ops) // oldest first
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range ops {
		m.enqueue(o)
	}
	m.working = true
	m.dispatch()
	return nil
}

// repairAll repairs rows at once: a node that does not hear of one must not keep the others' users waiting.
func (m *Manager) repairAll(ctx context.Context, half []op.Row) error {
	var wg sync.WaitGroup
	errs := make([]error, len(half))
	turns := make(chan struct{}, 16)
	for i, r := range half {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			if err := m.repair(ctx, r); err != nil {
				errs[i] = fmt.Errorf("repair %s: %w", r.User, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// registerNodes makes the store's list of nodes ours. The store has one writer, so a name that is not ours is that of
// a process which is gone.
func (m *Manager) registerNodes(ctx context.Context) error {
	nodes, err := m.store.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("read nodes: %w", err)
	}
	for _, x := range nodes {
		if slices.ContainsFunc(m.nodes, func(n Node) bool { return n.Name() == x.Name }) {
			continue
		}
		e := op.Event{What: "node removed", Before: x.Name, By: "serve", Detail: "another process holds the store now"}
		if err := m.store.RemoveNode(ctx, x, e); err != nil && !errors.Is(err, op.ErrNodes) {
			return fmt.Errorf("remove node %s: %w", x.Name, err)
		}
	}
	for _, n := range m.nodes {
		if err := m.store.AddNode(ctx, op.Node{Name: n.Name(), Incarnation: n.Incarnation(), Since: time.Now()}); err != nil {
			return fmt.Errorf("register node %s: %w", n.Name(), err)
		}
	}
	return nil
}

// registered are the nodes whose acknowledgement counts now.
func (m *Manager) registered(ctx context.Context) ([]Node, error) {
	if m.cluster != nil {
		return m.cluster.Nodes(ctx)
	}
	return m.nodes, nil
}

// Stop ends the workers: flips that are under way abort, and are taken up again by the next Start. It waits.
func (m *Manager) Stop() {
	m.stop(ErrStopping)
	m.mu.Lock()
	m.working = false // whoever starts a worker holds mu and looks at this, so none starts behind it
	m.mu.Unlock()
	m.wg.Wait()
}

// retry calls f, each time with a deadline of its own, until it returns nil or the manager stops. Once stopped, f has
// one last try: so that what is known is recorded if it can be.
func (m *Manager) retry(f func(ctx context.Context) error) error { return retry(m.ctx, f) }

func retry(until context.Context, f func(ctx context.Context) error) error {
	wait := retryMin
	for {
		stopped := until.Err() != nil
		ctx, cancel := context.WithTimeout(context.WithoutCancel(until), tryTime)
		err := f(ctx)
		cancel()
		if err == nil || stopped {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-until.Done():
		case <-t.C:
		}
		t.Stop()
		wait = min(2*wait, retryMax)
	}
}

type noRecorder struct{}

func (noRecorder) Flip(string, config.Side, time.Duration, bool)         {}
func (noRecorder) Transition(string, router.State, router.State, string) {}
func (noRecorder) StoreOK(time.Time)                                     {}

type noMembers struct{}

func (noMembers) Wave(string) string { return "" }

func (noMembers) Means(string, config.Side) bool { return false }
