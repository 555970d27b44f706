package cutover

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
	"mailgate/store"
)

// twoProcesses are one that has the store, and one that had it, with a link between them.
type twoProcesses struct {
	t      *testing.T
	host   *Host
	tether *Tether
	old    op.Node
	alive  atomic.Bool
	mine   *router.Router // of the old process
	notes  chan Note
	cut    func() // ends the link; the next one is made by Dial
	stop   func()
	refuse atomic.Bool  // no link is made
	bad    atomic.Int32 // so many of the next ones end at once
}

func newTwoProcesses(t *testing.T) *twoProcesses {
	t.Helper()
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	p := &twoProcesses{t: t, old: op.Node{Name: "gw/1", Incarnation: "a.1"}, notes: make(chan Note, 1)}
	p.alive.Store(true)
	newRouter := func() *router.Router {
		return router.New(router.Options{Hold: time.Second, SessionsPerUser: 10, SessionsPerIP: 10, PendingPerUser: 10},
			func(string) config.Side { return config.Old }, func(string, router.Place) {})
	}
	p.mine = newRouter()
	log := slog.New(slog.DiscardHandler)
	p.host = NewHost(HostOptions{Store: st, Local: &LocalNode{ID: "gw", Router: newRouter()}, Log: log,
		Alive: func(op.Node) bool { return p.alive.Load() }, Told: func(n Note) { p.notes <- n }})
	must(t, p.host.Begin(t.Context(), []op.Node{p.old}))

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	dial := func(context.Context) (*Link, error) {
		if p.refuse.Load() {
			return nil, errors.New("nobody listens")
		}
		a, b := net.Pipe()
		if p.bad.Load() > 0 {
			p.bad.Add(-1)
			a.Close()
			return NewLink(b), nil
		}
		p.cut = func() { a.Close() }
		wg.Go(func() { _ = p.host.Serve(ctx, NewLink(a)) })
		return NewLink(b), nil
	}
	p.tether = NewTether(dial, func(op.Node) error { return nil })
	first, err := dial(ctx)
	must(t, err)
	wg.Go(func() { p.tether.Run(ctx, first, func() bool { return true }) })
	local := &LocalNode{ID: p.old.Name, Once: p.old.Incarnation, Router: p.mine}
	wg.Go(func() { _ = p.tether.Wire().Serve(ctx, (&Station{Node: local}).Handle, nil) })
	p.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(p.stop)
	return p
}

// remote is the old process as flips ask it.
func (p *twoProcesses) remote() Node {
	p.t.Helper()
	nodes, err := p.host.Nodes(p.t.Context())
	must(p.t, err)
	if len(nodes) != 2 {
		p.t.Fatalf("%d nodes", len(nodes))
	}
	return nodes[1]
}

func TestHostAndTether(t *testing.T) {
	p := newTwoProcesses(t)
	ctx := t.Context()
	if _, err := p.tether.Beat(ctx, op.Node{Name: "gw/2", Incarnation: "b.1"}); !errors.Is(err, op.ErrNodes) {
		t.Errorf("the beat of a stranger: %v", err)
	}
	if err := p.tether.AddRowsOf(ctx, op.Node{Name: "gw/1", Incarnation: "a.0"}, nil); !errors.Is(err, op.ErrNodes) {
		t.Errorf("rows of an incarnation that is over: %v", err)
	}
	if _, err := p.tether.Join(ctx, op.Node{Name: "gw", Incarnation: "c.1"}); !errors.Is(err, op.ErrNodeName) {
		t.Errorf("under the name of who leads: %v", err)
	}
	_, err := p.tether.Join(ctx, p.old)
	must(t, err)
	must(t, p.tether.AddRowsOf(ctx, p.old, []op.Row{{User: alice, State: op.Settled, Generation: 3}}))
	r, err := p.tether.Row(ctx, alice)
	if must(t, err); r.Generation != 3 {
		t.Errorf("%+v", r)
	}
	if _, err := p.tether.Row(ctx, "nobody@example.com"); !errors.Is(err, op.ErrNotFound) {
		t.Error(err)
	}
	must(t, p.tether.Tell(ctx, Note{User: alice, Side: config.New}))
	if n := <-p.notes; n.User != alice || n.Side != config.New {
		t.Errorf("%+v", n)
	}
	ack, err := p.remote().Send(ctx, Message{Kind: AskFence, User: alice, Generation: 4})
	if err != nil || ack.Generation != 4 {
		t.Errorf("%+v %v", ack, err)
	}
	if f := p.mine.Fenced(); len(f) != 1 {
		t.Errorf("fenced: %v", f)
	}
	// A link that breaks is made anew, and what is asked meanwhile waits for it.
	p.cut()
	if ack, err = p.remote().Send(ctx, Message{Kind: AskRelease, User: alice, Generation: 5}); err != nil || ack.Generation != 5 {
		t.Errorf("%+v %v", ack, err)
	}
	must(t, p.tether.Leave(ctx, p.old))
	if nodes, err := p.host.Nodes(ctx); err != nil || len(nodes) != 1 {
		t.Errorf("%v %v", nodes, err)
	}
}

// TestHostOfTheDead: a process that cannot be asked holds a flip up while it runs, and does not when it has ended, also in the middle.
func TestHostOfTheDead(t *testing.T) {
	p := newTwoProcesses(t)
	_, err := p.tether.Join(t.Context(), p.old)
	must(t, err)
	node := p.remote()
	p.refuse.Store(true)
	p.stop()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := node.Send(short, Message{Kind: AskFence, User: alice, Generation: 4}); err == nil || errors.Is(err, op.ErrGone) {
		t.Errorf("of one that runs: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { p.alive.Store(false) })
	ack, err := node.Send(t.Context(), Message{Kind: AskDrain, User: alice, Generation: 4})
	if err != nil || ack.Node != p.old.Name || ack.Generation != 4 || ack.Left != 0 {
		t.Errorf("of one that has ended: %+v %v", ack, err)
	}
	if nodes, err := p.host.Nodes(t.Context()); err != nil || len(nodes) != 1 {
		t.Errorf("%v %v", nodes, err)
	}
}

// TestTetherOfLinksThatEnd: who leads may take a connection and end it at once, because it is about to start, or to hand over. The next one
// is made all the same, and who leads hears which node it is.
func TestTetherOfLinksThatEnd(t *testing.T) {
	p := newTwoProcesses(t)
	_, err := p.tether.Join(t.Context(), p.old)
	must(t, err)
	p.bad.Store(3)
	p.cut()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for p.bad.Load() > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if err := p.host.Wait(ctx, p.old); err != nil {
		t.Errorf("%v, %d links that ended are still to come", err, p.bad.Load())
	}
}

// between is a store in which something happens right behind each look at its nodes.
type between struct {
	op.Store
	then func()
}

func (b *between) Nodes(ctx context.Context) ([]op.Node, error) {
	nodes, err := b.Store.Nodes(ctx)
	if b.then != nil {
		b.then()
	}
	return nodes, err
}

// TestHostNewIncarnation: a process that registers anew while its registration of before is looked at, or left, stays registered: what it
// acknowledges counts.
func TestHostNewIncarnation(t *testing.T) {
	st, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"))
	must(t, err)
	t.Cleanup(func() { must(t, st.Close()) })
	b := &between{Store: st}
	was, is := op.Node{Name: "gw/1", Incarnation: "a.1"}, op.Node{Name: "gw/1", Incarnation: "b.1"}
	h := NewHost(HostOptions{Store: b, Local: &LocalNode{ID: "gw"}, Log: slog.New(slog.DiscardHandler),
		Alive: func(n op.Node) bool { return n.Incarnation == is.Incarnation }})
	anew := func() {
		if err := st.AddNode(t.Context(), is); err != nil {
			t.Error(err)
		}
	}
	for what, f := range map[string]func(){
		"looked at": func() { h.look(t.Context()) },
		"left": func() {
			if _, err := h.answer(t.Context(), nil, plea{What: askLeave, Node: was}); err != nil && !errors.Is(err, op.ErrNodes) {
				t.Error(err)
			}
		},
	} {
		b.then = nil
		must(t, h.Begin(t.Context(), []op.Node{was}))
		b.then = anew
		if what == "left" {
			anew()
		}
		f()
		nodes, err := st.Nodes(t.Context())
		must(t, err)
		if len(nodes) != 2 || nodes[1].Incarnation != is.Incarnation || h.Present(t.Context(), was).Incarnation != is.Incarnation {
			t.Errorf("%s: %+v", what, nodes)
		}
	}
}

// TestHostWaitsForLink: on a busy machine a process takes its time to come again; who asks it waits for that.
func TestHostWaitsForLink(t *testing.T) {
	p := newTwoProcesses(t)
	_, err := p.tether.Join(t.Context(), p.old)
	must(t, err)
	node := p.remote()
	p.refuse.Store(true)
	p.cut()
	time.AfterFunc(1500*time.Millisecond, func() { p.refuse.Store(false) })
	if ack, err := node.Send(t.Context(), Message{Kind: AskFence, User: alice, Generation: 4}); err != nil || ack.Generation != 4 {
		t.Errorf("%+v %v", ack, err)
	}
}

// TestPartedIsParted: a connection that comes to a Host behind Part ends at once, so that its process dials again and finds who leads then.
func TestPartedIsParted(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	h := NewHost(HostOptions{})
	h.Part()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := h.Serve(ctx, NewLink(here)); err == nil || ctx.Err() != nil {
		t.Errorf("it is served: %v", err)
	}
}
