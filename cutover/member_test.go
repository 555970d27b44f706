package cutover

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
	"mailgate/store"
)

// registry is a store of several processes, and the wires between them, in memory.
type registry struct {
	*store.SQLite
	mu    sync.Mutex
	nodes map[string]op.Node
	lead  op.Leader
	away  error
	stuck bool                                                  // rows owed are not written
	heard map[string]func(ctx context.Context, b []byte) []byte // by incarnation
	lose  func(to op.Node) bool
}

func newRegistry(t *testing.T) *registry {
	s := openStore(t, tempDir(t))
	t.Cleanup(func() { s.Close() })
	return &registry{SQLite: s, nodes: map[string]op.Node{}, heard: map[string]func(context.Context, []byte) []byte{}, lead: op.Leader{Term: 1}}
}

func (r *registry) Join(ctx context.Context, n op.Node) (op.Node, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away != nil {
		return n, r.away
	}
	r.nodes[n.Name] = n
	return n, r.SQLite.AddNode(ctx, n)
}

func (r *registry) Leave(ctx context.Context, n op.Node) error {
	return r.remove(n.Name)
}

func (r *registry) remove(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[name]
	delete(r.nodes, name)
	return r.SQLite.RemoveNode(context.Background(), n, op.Event{What: "node removed"})
}

func (r *registry) is(n op.Node) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch x, ok := r.nodes[n.Name]; {
	case r.away != nil:
		return r.away
	case !ok:
		return op.ErrNodes
	case x.Incarnation != n.Incarnation:
		return op.ErrNodeName
	}
	return nil
}

func (r *registry) Beat(_ context.Context, n op.Node) (op.Leader, error) { return r.lead, r.is(n) }

func (r *registry) AddRowsOf(ctx context.Context, n op.Node, rows []op.Row) error {
	r.mu.Lock()
	stuck := r.stuck
	r.mu.Unlock()
	if stuck {
		return op.ErrUnavailable
	}
	if err := r.is(n); err != nil {
		return err
	}
	return r.SQLite.AddRows(ctx, rows)
}

// line is the wire of one incarnation.
type line struct {
	r    *registry
	self op.Node
}

func (l *line) Ask(ctx context.Context, to op.Node, b []byte) ([]byte, error) {
	l.r.mu.Lock()
	h, lose := l.r.heard[to.Incarnation], l.r.lose
	l.r.mu.Unlock()
	if h == nil || lose != nil && lose(to) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return h(ctx, b), nil
}

func (l *line) Serve(ctx context.Context, handle func(context.Context, []byte) []byte, ready func()) error {
	l.r.mu.Lock()
	l.r.heard[l.self.Incarnation] = handle
	l.r.mu.Unlock()
	ready()
	<-ctx.Done()
	l.r.mu.Lock()
	delete(l.r.heard, l.self.Incarnation)
	l.r.mu.Unlock()
	return nil
}

// process is one gateway of several.
type process struct {
	*Member
	r       *router.Router
	n       *Newcomers
	removed atomic.Int32
}

func (r *registry) process(t *testing.T, name, tag string) *process {
	t.Helper()
	p := &process{n: NewNewcomers()}
	p.r = router.New(router.Options{Hold: time.Minute}, p.n.Side, p.n.Seen)
	p.Member = NewMember(MemberOptions{Registry: r, Router: p.r, Newcomers: p.n, Name: name, Tag: tag, About: func() op.About { return op.About{} },
		Wire: func(n op.Node) Wire { return &line{r, n} }, Removed: func() { p.removed.Add(1) }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	return p
}

// join joins, and lives until the test ends.
func (p *process) join(t *testing.T) {
	t.Helper()
	must(t, p.Join(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
		_ = p.Leave(context.Background())
	})
}

// leads makes a process the one that leads.
func (r *registry) leads(t *testing.T, p *process, term int64) *gateway {
	t.Helper()
	r.mu.Lock()
	r.lead = op.Leader{Name: p.Node().Name, Incarnation: p.Node().Incarnation, Term: term}
	r.mu.Unlock()
	f, rt := settingsOf()
	g := &gateway{t: t, r: p.r, st: &faulty{Store: r.SQLite}}
	g.m = New(Options{Store: g.st, Router: p.r, Cluster: p.Cluster(term), Newcomers: p.n, Flip: f, Routes: rt, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	must(t, g.m.Start(t.Context()))
	return g
}

// pairOf is two processes, of which the first leads, with a routes file taken over.
func pairOf(t *testing.T, routes string) (r *registry, g *gateway, one, two *process) {
	r = newRegistry(t)
	one, two = r.process(t, "gw1", "a"), r.process(t, "gw2", "b")
	one.join(t)
	g = r.leads(t, one, 1)
	t.Cleanup(func() { g.m.Stop() })
	two.join(t)
	g.imports(routes)
	return r, g, one, two
}

// TestMembers: a node that leads moves people of another, who waits for the first routes file before it lets anybody in.
func TestMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t)
		one, two := r.process(t, "gw1", "a"), r.process(t, "gw2", "b")
		two.join(t)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := login(short, two.r, alice, &ender{}); err == nil {
			t.Error("let in before anybody's side is known")
		}
		one.join(t)
		g := r.leads(t, one, 1)
		defer g.m.Stop()
		g.imports(alice + " old\n")
		g.admits(two.r, alice, config.Old)
		g.wait(g.request(alice, config.New).ID)
		g.check(alice, config.New, 1)
		g.admits(two.r, alice, config.New)
		s, err := login(t.Context(), two.r, alice, &ender{})
		must(t, err)
		if o := g.wait(g.request(alice, config.Old).ID); o.Status != op.Failed || !contains(o.Reason, "1 sessions have not ended", "gw2") {
			t.Errorf("%+v", o)
		}
		s.Done()
	})
}

func contains(s string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(s, p) })
}

// TestMemberJoinsAmid: who joins in the middle of a flip holds its user, also when the flip is called off without a word to it.
func TestMemberJoinsAmid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g, _, two := pairOf(t, alice+" old\n")
		row := g.row(alice)
		row.State, row.Op, row.Generation = op.Verify, "op-x", row.Generation+4
		must(t, r.SQLite.Swap(t.Context(), row.Generation-4, row, op.Operation{}, nil))
		three := r.process(t, "gw3", "c")
		three.join(t)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := login(short, three.r, alice, &ender{}); err == nil {
			t.Error("let in while he is moved")
		}
		g.admits(two.r, alice, config.Old) // which has not been told of this flip
		row.State, row.Op, row.Generation = op.Settled, "", row.Generation+1
		must(t, r.SQLite.Swap(t.Context(), row.Generation-1, row, op.Operation{}, nil))
		time.Sleep(3 * beatEvery)
		g.admits(three.r, alice, config.Old)
	})
}

// TestMemberRemoved: who was taken out ends what it has, forgets what it knew and owed, and comes again as another.
func TestMemberRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g, _, two := pairOf(t, "default old\n"+alice+" old\n")
		var cut atomic.Int32
		var s, n *router.Session
		var err error
		s, err = login(t.Context(), two.r, alice, &ender{cut: func() { cut.Add(1); s.Done() }})
		must(t, err)
		r.mu.Lock()
		r.away = op.ErrUnavailable
		r.mu.Unlock()
		n, err = login(t.Context(), two.r, "new@example.com", &ender{cut: func() { cut.Add(1); n.Done() }})
		must(t, err)
		time.Sleep(time.Minute) // cut off it serves on
		if cut.Load() != 0 || two.Away().IsZero() {
			t.Errorf("%d sessions cut, away since %v", cut.Load(), two.Away())
		}
		g.admits(two.r, alice, config.Old)
		was := two.Node().Incarnation
		r.mu.Lock()
		r.away = nil
		r.mu.Unlock()
		must(t, r.remove("gw2"))
		if o := g.wait(g.request(alice, config.New).ID); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		g.imports("default new\n" + alice + " old\n")
		time.Sleep(3 * beatEvery)
		if cut.Load() != 2 || two.removed.Load() != 1 || two.Node().Incarnation == was {
			t.Errorf("%d sessions cut, told %d times, %s", cut.Load(), two.removed.Load(), two.Node().Incarnation)
		}
		g.admits(two.r, alice, g.row(alice).Side)
		g.admits(two.r, "later@example.com", config.New)
		time.Sleep(beatEvery) // his row is written, and with it would be what was owed before
		if _, err := r.SQLite.Row(t.Context(), "later@example.com"); err != nil {
			t.Error(err)
		}
		if _, err := r.SQLite.Row(t.Context(), "new@example.com"); !errors.Is(err, op.ErrNotFound) {
			t.Errorf("what it owed was written behind its end: %v", err)
		}
		g.admits(two.r, "new@example.com", config.New)
	})
}

// TestMemberRules: while the rules change nobody without a row is let in anywhere; whom a node has let in before, all others know.
func TestMemberRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g, one, two := pairOf(t, "default old\n"+alice+" old\n")
		g.admits(two.r, "first@example.com", config.Old)
		inside := false
		g.st.imported = func() {
			inside = true
			for _, p := range []*process{one, two} {
				short, cancel := context.WithTimeout(context.Background(), time.Second)
				if _, err := login(short, p.r, "second@example.com", &ender{}); err == nil {
					t.Error("let in while the rules change")
				}
				cancel()
				g.admits(p.r, alice, config.Old)
			}
		}
		g.imports("default new\n" + alice + " old\n")
		if !inside {
			t.Fatal("nothing was imported")
		}
		g.st.imported = nil
		synctest.Wait()
		for _, p := range []*process{one, two} {
			g.admits(p.r, "first@example.com", config.Old)
			g.admits(p.r, "second@example.com", config.New)
		}
		// One that cannot write whom it has let in keeps the rules from changing, and so does
		r.mu.Lock()
		r.stuck = true
		r.mu.Unlock()
		g.admits(two.r, "owed@example.com", config.New)
		if _, err := g.m.Import(t.Context(), g.file("default old\n"+alice+" old\n"), "test", ""); !errors.Is(err, ErrAway) {
			t.Errorf("%v", err)
		}
		r.mu.Lock()
		r.stuck = false
		r.mu.Unlock()
		time.Sleep(time.Minute)
		// one that does not hear.
		r.mu.Lock()
		r.lose = func(to op.Node) bool { return to.Name == "gw2" }
		r.mu.Unlock()
		if _, err := g.m.Import(t.Context(), g.file("default old\n"+alice+" old\n"), "test", ""); !errors.Is(err, ErrAway) {
			t.Errorf("%v", err)
		}
		g.admits(two.r, "third@example.com", config.New)
		r.mu.Lock()
		r.lose = nil
		r.mu.Unlock()
		time.Sleep(time.Minute)
		g.admits(one.r, "fourth@example.com", config.New)
		g.imports("default old\n" + alice + " old\n")
		synctest.Wait()
		g.admits(two.r, "fourth@example.com", config.New)
		g.admits(two.r, "fifth@example.com", config.Old)
	})
}

// TestSilentAmidReloads: however often new rules are tried while a node does not answer, the others tell it of the end of the pause once at a
// time, and when it answers it lets people go on.
func TestSilentAmidReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g, one, two := pairOf(t, "default old\n"+alice+" old\n")
		var asked atomic.Int64
		r.mu.Lock()
		r.lose = func(to op.Node) bool {
			if to.Name == "gw2" {
				asked.Add(1)
			}
			return to.Name == "gw2"
		}
		r.mu.Unlock()
		for range 20 {
			if _, err := g.m.Import(t.Context(), g.file("default new\n"+alice+" old\n"), "test", ""); !errors.Is(err, ErrAway) {
				t.Errorf("%v", err)
			}
		}
		before := asked.Load()
		time.Sleep(time.Minute)
		if n := asked.Load() - before; n == 0 || n > 60 {
			t.Errorf("asked %d times in a minute", n)
		}
		r.mu.Lock()
		r.lose = nil
		r.mu.Unlock()
		time.Sleep(time.Minute)
		for _, p := range []*process{one, two} {
			g.admits(p.r, "first@example.com", config.Old)
		}
		g.imports("default new\n" + alice + " old\n")
		synctest.Wait()
		for _, p := range []*process{one, two} {
			g.admits(p.r, "second@example.com", config.New)
		}
	})
}

// TestMemberJoinsAmidRules: a node that joins while the rules change has heard of no pause, so they do not change.
func TestMemberJoinsAmidRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, g, _, _ := pairOf(t, "default old\n"+alice+" old\n")
		three := r.process(t, "gw3", "c")
		g.st.set(func(name string, _ int) fault {
			if name == "Import" {
				three.join(t)
			}
			return well
		})
		if _, err := g.m.Import(t.Context(), g.file("default new\n"+alice+" old\n"), "test", ""); !errors.Is(err, op.ErrNodes) {
			t.Errorf("%v", err)
		}
		g.admits(three.r, "new@example.com", config.Old)
	})
}

// TestLatePause: a pause that comes behind its own end keeps nobody waiting, and the end of one that is over ends no later one.
func TestLatePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, g, _, two := pairOf(t, "default old\n"+alice+" old\n")
		n := two.present().local
		send := func(k Kind, number int64) error {
			_, err := n.Send(t.Context(), Message{Kind: k, Generation: number, Term: 1})
			return err
		}
		must(t, send(AskPause, 7))
		must(t, send(AskRules, 7))
		if err := send(AskPause, 6); !errors.Is(err, router.ErrStale) {
			t.Errorf("%v", err)
		}
		g.admits(two.r, "new@example.com", config.Old)
		must(t, send(AskPause, 8))
		if err := send(AskRules, 7); !errors.Is(err, router.ErrStale) || !two.r.Held(router.Newcomers) {
			t.Errorf("%v", err)
		}
		must(t, send(AskRules, 8))
	})
}

// TestFormerLeader: what a leader says who was followed by another opens no fence of the other's.
func TestFormerLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, one, two := pairOf(t, alice+" old\n")
		nodes := func(p *process, term int64) map[string]Node {
			out := map[string]Node{}
			list, err := p.Cluster(term).Nodes(t.Context())
			must(t, err)
			for _, n := range list {
				out[n.Name()] = n
			}
			return out
		}
		for name, p := range map[string]*process{"gw1": one, "gw2": two} {
			former, now := nodes(one, 1)[name], nodes(two, 2)[name]
			_, err := now.Send(t.Context(), Message{Kind: AskFence, User: alice, Generation: 7})
			must(t, err)
			for _, k := range []Kind{AskRelease, AskFence, AskDrain, AskPause, AskRules} {
				if _, err := former.Send(t.Context(), Message{Kind: k, User: alice, Generation: 7}); !errors.Is(err, ErrTerm) {
					t.Errorf("%s of the former leader: %v", k, err)
				}
			}
			if f := p.r.Fenced(); len(f) != 1 {
				t.Errorf("%s: fenced %v", name, f)
			}
			if _, err := now.Send(t.Context(), Message{Kind: "dance", User: alice, Generation: 8}); err == nil {
				t.Error("it claims to have done what it does not know")
			}
		}
	})
}

// TestLeaderFollows: who leads next brings the row in order that the one before left, and tells all, also those it left paused.
func TestLeaderFollows(t *testing.T) {
	for _, state := range []op.State{op.Prep, op.Fence, op.Drain, op.Delta, op.Verify, op.Release} {
		t.Run(string(state), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, g, one, two := pairOf(t, "default old\n"+alice+" old\n")
				o, err := r.SQLite.NewOperation(t.Context(), op.Operation{Kind: op.Flip, User: alice, Target: config.New, Status: op.Running})
				must(t, err)
				row := g.row(alice)
				from := row.Generation
				row.State, row.Op, row.Target, row.Generation = state, o.ID, config.New, from+1
				if state == op.Release {
					row.Side, row.Epoch = config.New, 1
				}
				must(t, r.SQLite.Swap(t.Context(), from, row, op.Operation{}, nil))
				for _, n := range []*process{one, two} {
					if state != op.Prep {
						_, err := n.present().local.Send(t.Context(), Message{Kind: AskFence, User: alice, Generation: row.Generation, Term: 1})
						must(t, err)
					}
					_, err := n.present().local.Send(t.Context(), Message{Kind: AskPause, Generation: 5, Term: 1})
					must(t, err)
				}
				g.m.Stop()
				next := r.leads(t, two, 2)
				defer next.m.Stop()
				next.wait(o.ID)
				next.check(alice, config.New, 1)
				next.admits(one.r, alice, config.New)
				next.admits(one.r, "new@example.com", config.Old)
				next.admits(two.r, "other@example.com", config.Old)
			})
		})
	}
}
