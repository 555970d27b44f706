package cutover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// Registry is the store of several processes, as one of them needs it that does not lead.
type Registry interface {
	// Join registers a node in place of an earlier process of its name, which is one no more. op.ErrNodeName when that one lives on
	// another machine.
	Join(ctx context.Context, n op.Node) (op.Node, error)
	// Leave takes this very incarnation out.
	Leave(ctx context.Context, n op.Node) error
	// Beat says that the node lives, and answers who leads: op.ErrNodes when it is registered no more, op.ErrNodeName when another
	// process has its name.
	Beat(ctx context.Context, n op.Node) (op.Leader, error)
	// AddRowsOf is op.Store.AddRows, or op.ErrNodes when the node is registered no more.
	AddRowsOf(ctx context.Context, n op.Node, rows []op.Row) error

	Nodes(ctx context.Context) ([]op.Node, error)
	Rows(ctx context.Context, f func(op.Row) error) error
	Row(ctx context.Context, user string) (op.Row, error)
	Rules(ctx context.Context) (op.Rules, error)
}

// MemberOptions are what a Member works with. All but Served, Rename and Moved must be set.
type MemberOptions struct {
	Registry  Registry
	Router    *router.Router
	Newcomers *Newcomers
	Name      string
	Tag       string                                  // of the process: its incarnations begin with it
	About     func() op.About                         // asked at each beat; Serial and Sessions may change
	Wire      func(n op.Node) Wire                    // of an incarnation
	Call      func(ctx context.Context, c Call) Reply // what verbs ask of this node
	// Removed is called when the node has learned that it is registered no more, behind the end of its sessions: the lead, if it has it,
	// is to be given up before it returns.
	Removed func()
	// Rename is how the registry has a node go on under another name (store.Postgres.Rename); nil: Member.Rename is not called.
	Rename func(ctx context.Context, n op.Node, name string, over bool) error
	// Moved is LocalNode.Moved; nil: nobody asks.
	Moved func(user string, to config.Side)
	Log   *slog.Logger
	// Served tells that this process serves people already, and knows where they are: nobody waits until it has joined.
	Served bool
}

// Times of a member.
const (
	beatEvery = 2 * time.Second
	// awayTime is how long a node is silent before it is said to be away.
	awayTime = 3 * beatEvery
	// beatTime bounds one attempt to be heard.
	beatTime = 5 * time.Second
)

// removedText is what clients read whose sessions end because this process is a node no more.
const removedText = "This server was taken out of service, please reconnect"

// Member is this process among several: registered, heard of, asked. Everybody's logins wait until it knows where people are. It is safe
// for concurrent use.
type Member struct {
	o MemberOptions

	loading sync.Mutex // one load at a time: rules that are older must not replace newer ones

	mu     sync.Mutex
	now    *incarnation
	name   string // to join under
	n      int
	leader op.Leader
	shut   bool      // nobody is let in before it has joined again
	awayAt time.Time // since when the store has not been reached; zero when it is
}

// incarnation is the member from one registration to the next.
type incarnation struct {
	node  op.Node
	local *LocalNode
	wire  Wire
	stop  context.CancelFunc
	done  chan struct{} // the wire is served no more
}

// NewMember makes one that has not joined. Unless MemberOptions.Served is set everybody's logins wait from now on.
func NewMember(o MemberOptions) *Member {
	if !o.Served {
		o.Router.HoldAll(router.Everybody, true)
	}
	return &Member{o: o, name: o.Name}
}

// Join registers, listens, and then loads: a flip that began before still needs this node's acknowledgement, one that begins later asks
// for it. It may be called again after an error.
func (m *Member) Join(ctx context.Context) error {
	m.mu.Lock()
	m.n++
	n := op.Node{Name: m.name, Incarnation: fmt.Sprintf("%s.%d", m.o.Tag, m.n), About: m.o.About()}
	m.mu.Unlock()
	n, err := m.o.Registry.Join(ctx, n)
	if err != nil {
		return fmt.Errorf("register this node: %w", err)
	}
	i := &incarnation{node: n, wire: m.o.Wire(n), stop: func() {}, done: make(chan struct{})}
	i.local = &LocalNode{ID: n.Name, Once: n.Incarnation, Router: m.o.Router, Flush: m.flush, Reload: m.load, Moved: m.o.Moved}
	m.mu.Lock()
	m.now = i
	m.mu.Unlock()
	if err := m.beat(ctx); err != nil { // before it listens, so that nobody who leads no more is heeded
		close(i.done)
		return err
	}
	serve, stop := context.WithCancel(context.Background())
	i.stop = stop
	s := &Station{Node: i.local, Call: m.o.Call}
	ready := make(chan struct{})
	go func() {
		defer close(i.done)
		_ = i.wire.Serve(serve, s.Handle, func() { close(ready) })
	}()
	select {
	case <-ready:
	case <-ctx.Done():
		m.end(i)
		return context.Cause(ctx)
	}
	m.mu.Lock()
	m.shut = false
	m.mu.Unlock()
	if err := m.load(ctx); err != nil {
		m.end(i)
		return err
	}
	return nil
}

// end stops listening.
func (m *Member) end(i *incarnation) {
	i.stop()
	<-i.done
}

// load reads rules and rows. Before a routes file was ever taken over nobody's side is known, and logins go on waiting.
func (m *Member) load(ctx context.Context) error {
	m.loading.Lock()
	defer m.loading.Unlock()
	rules, err := m.o.Registry.Rules(ctx)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	err = m.o.Registry.Rows(ctx, func(r op.Row) error {
		loadRow(m.o.Router, r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read users: %w", err)
	}
	m.o.Newcomers.rules.Store(&rules)
	m.mu.Lock()
	defer m.mu.Unlock()
	if rules.Addresses != "" && !m.shut {
		m.o.Router.HoldAll(router.Everybody, false)
	}
	return nil
}

// loadRow takes a row into memory as it stands: in the middle of a flip his logins wait here too, behind the commit he is on the new side.
func loadRow(r *router.Router, row op.Row) {
	if row.State.Fenced() && row.State != op.Release {
		r.LoadFenced(row.User, place(row))
	} else {
		r.Load(row.User, place(row))
	}
}

// flush writes the rows owed.
func (m *Member) flush(ctx context.Context) error {
	i := m.present()
	return m.o.Newcomers.flush(ctx, func(ctx context.Context, rows []op.Row) error {
		return m.o.Registry.AddRowsOf(ctx, i.node, rows)
	})
}

func (m *Member) present() *incarnation {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Node is this process as it is registered. It must have joined.
func (m *Member) Node() op.Node { return m.present().node }

// Joining tells whether it is not registered now, as far as it knows.
func (m *Member) Joining() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shut || m.now == nil
}

// Rename has this process go on under another name. It stays the node that it is, with its incarnation, and is asked as before. over tells
// that whoever has the name ran in its place, and has ended. It may be called again after an error, then also with the name of before.
func (m *Member) Rename(ctx context.Context, name string, over bool) error {
	i := m.present()
	if i == nil || m.Joining() {
		return fmt.Errorf("rename this node: %w: it is not registered now", op.ErrNodes)
	}
	n := i.node
	n.About = m.o.About()
	if err := m.o.Rename(ctx, n, name, over); err != nil {
		return fmt.Errorf("rename this node: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now != i || m.shut { // it was taken out, and joins, or has joined, under the name of before
		return fmt.Errorf("rename this node: %w: it has registered anew", op.ErrNodes)
	}
	i.local.Rename(name)
	next := *i
	next.node.Name = name
	m.now, m.name = &next, name
	return nil
}

// Wire reaches other nodes.
func (m *Member) Wire() Wire { return m.present().wire }

// Leader is who leads, as last heard; the zero Leader when nobody is known to.
func (m *Member) Leader() op.Leader {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leader
}

// Away is since when the store has not been reached; zero when it is.
func (m *Member) Away() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.awayAt
}

// Run says that the node lives, writes the rows owed, and lets fenced users go whose flip has ended unheard, until ctx ends. When the
// node learns that it is registered no more it ends all sessions and joins again. An error means that the process must end.
func (m *Member) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signal(m.o.Newcomers.wake) // there may be some of before
	wg.Go(func() { m.writeOwed(ctx) })
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	fenced := map[string]int64{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := m.beat(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, op.ErrNodeName):
			m.clear()
			return fmt.Errorf("%w: %s; give each process its own (node in mailgate.yaml)", op.ErrNodeName, m.Node().Name)
		case errors.Is(err, op.ErrNodes):
			if err := m.again(ctx); err != nil {
				return err
			}
		case err == nil:
			fenced = m.catchUp(ctx, fenced)
		}
	}
}

// beat is one heartbeat.
func (m *Member) beat(ctx context.Context) error {
	i := m.present()
	n := i.node
	n.About = m.o.About()
	try, cancel := context.WithTimeout(ctx, beatTime)
	defer cancel()
	began := time.Now()
	leads, err := m.o.Registry.Beat(try, n)
	if err == nil {
		i.local.Heed(leads.Term)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		if !m.awayAt.IsZero() {
			m.o.Log.Info("the store answers again", "away_seconds", time.Since(m.awayAt).Seconds())
		}
		m.leader, m.awayAt = leads, time.Time{}
	case !errors.Is(err, op.ErrNodes) && !errors.Is(err, op.ErrNodeName) && m.awayAt.IsZero() && ctx.Err() == nil:
		m.awayAt = began
		m.o.Log.Warn("the store does not answer: mail goes on by what is known; nobody can be moved", "err", err)
	}
	return err
}

// clear ends all sessions at once, and lets nobody in.
func (m *Member) clear() {
	m.mu.Lock()
	m.shut = true
	m.o.Router.HoldAll(router.Everybody, true)
	m.mu.Unlock()
	m.o.Router.CutAll(removedText)
	m.o.Removed()
}

// again joins anew after the node was taken out: what runs may be on the wrong side, and what is known may be over.
func (m *Member) again(ctx context.Context) error {
	m.o.Log.Error("this node is registered no more: its sessions end, and it begins anew", "node", m.Node().Name)
	m.clear()
	m.end(m.present())
	for wait := retryMin; !m.o.Router.Forget(); wait = min(2*wait, retryMax) {
		m.o.Router.CutAll(removedText)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
	if err := m.o.Newcomers.forget(ctx); err != nil {
		return nil // ctx has ended
	}
	m.o.Router.HoldAll(router.Newcomers, false) // who leads tells again
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		try, cancel := context.WithTimeout(ctx, joinTime)
		err := m.Join(try)
		cancel()
		if err == nil {
			m.o.Log.Info("registered again", "node", m.Node().Name, "incarnation", m.Node().Incarnation)
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, op.ErrNodeName) {
			return err
		}
		m.o.Log.Warn("cannot register again yet; nobody is let in", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// joinTime bounds an attempt to join: 100,000 rows are read in a second or two.
const joinTime = 30 * time.Second

// writeOwed writes rows owed, behind the logins.
func (m *Member) writeOwed(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTime)
			defer cancel()
			if err := m.flush(last); err != nil {
				m.o.Log.Error("users seen for the first time are not recorded", "rows", m.o.Newcomers.Owed(), "err", err)
			}
			return
		case <-m.o.Newcomers.wake:
		}
		for wait := retryMin; ctx.Err() == nil; wait = min(2*wait, retryMax) {
			try, cancel := context.WithTimeout(ctx, tryTime)
			err := m.flush(try)
			cancel()
			if err == nil || errors.Is(err, op.ErrNodes) { // of that the next beat says more
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		}
	}
}

// catchUp reads the rows of users who have been fenced since before the last beat: the word of the flip's end may be lost, or was said
// while this node joined.
func (m *Member) catchUp(ctx context.Context, before map[string]int64) map[string]int64 {
	now := map[string]int64{}
	for user, p := range m.o.Router.Fenced() {
		now[user] = p.Generation
		if g, ok := before[user]; !ok || g != p.Generation {
			continue
		}
		try, cancel := context.WithTimeout(ctx, tryTime)
		row, err := m.o.Registry.Row(try, user)
		cancel()
		if err == nil && (!row.State.Fenced() || row.State == op.Release) && row.Generation > p.Generation {
			_ = m.present().local.release(user, place(row)) // stale: another flip has begun
		}
		if ctx.Err() != nil {
			break
		}
	}
	return now
}

// Leave is the end of a process whose sessions have ended. If the store cannot be told, the name stays registered, and blocks flips
// until a process of that name comes again or it is removed.
func (m *Member) Leave(ctx context.Context) error {
	i := m.present()
	if i == nil {
		return nil
	}
	m.end(i)
	return m.o.Registry.Leave(ctx, i.node)
}

// Close is Leave of a process that stays registered, or that nobody has to be told of: it listens no more. Join and Run must have returned.
func (m *Member) Close() {
	if i := m.present(); i != nil {
		m.end(i)
	}
}

// Cluster are the nodes as who leads in a term asks them.
func (m *Member) Cluster(term int64) Cluster { return &termNodes{m, term} }

type termNodes struct {
	m    *Member
	term int64
}

// Nodes implements Cluster.
func (c *termNodes) Nodes(ctx context.Context) ([]Node, error) {
	list, err := c.m.o.Registry.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	i := c.m.present()
	var out []Node
	for _, n := range list {
		if n.Name == i.node.Name && n.Incarnation == i.node.Incarnation {
			out = append(out, i.local.Under(c.term))
		} else if r := (&RemoteNode{Node: n, Wire: i.wire, Term: c.term}); n.About.HandedOver {
			out = append(out, &parting{r, c.m.o.Registry})
		} else {
			out = append(out, r)
		}
	}
	return out, nil
}

// parting is a node that has handed over, and leaves with its last session: that may be the one which it is asked to end, and so the node may
// be gone before it is asked for the next step. Who is registered no more does not count for a commit, so nothing is to be called off.
type parting struct {
	*RemoteNode
	registry Registry
}

// Send implements Node.
func (n *parting) Send(ctx context.Context, m Message) (Ack, error) {
	ack, err := n.RemoteNode.Send(ctx, m)
	if !errors.Is(err, op.ErrGone) {
		return ack, err
	}
	nodes, lerr := n.registry.Nodes(ctx)
	if lerr != nil || slices.ContainsFunc(nodes, func(x op.Node) bool { return x.Incarnation == n.Incarnation() }) {
		return ack, err // the wire has lost what it was asked
	}
	return Ack{Node: n.Name(), User: m.User, Generation: m.Generation}, nil
}

// Silent tells which nodes have not been heard of for some time, and for how long: the one that was heard of last is the clock.
func Silent(nodes []op.Node) map[string]time.Duration {
	out := map[string]time.Duration{}
	var now time.Time
	for _, n := range nodes {
		if n.Seen.After(now) {
			now = n.Seen
		}
	}
	for _, n := range nodes {
		if d := now.Sub(n.Seen); d > awayTime {
			out[n.Name] = d
		}
	}
	return out
}
