package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// watched notes the order in which those who take part in a flip are called, and does what a test asks of it.
type watched struct {
	g    *gateway
	mu   sync.Mutex
	seen []string
	do   map[string]func(ctx context.Context, m Move) error
}

func (w *watched) call(ctx context.Context, what string, m Move) error {
	row := w.g.row(m.User)
	w.mu.Lock()
	w.seen = append(w.seen, what+" "+string(row.State))
	f := w.do[what]
	w.mu.Unlock()
	if f != nil {
		return f(ctx, m)
	}
	return nil
}

func (w *watched) Prepare(ctx context.Context, m Move, tell func(Progress)) error {
	tell(Progress{Why: "looks", Done: 3, Total: 7, Unit: "messages"})
	return w.call(ctx, "prepare", m)
}
func (w *watched) Delta(ctx context.Context, m Move, _ func(Progress)) error {
	return w.call(ctx, "delta", m)
}
func (w *watched) Verify(ctx context.Context, m Move) (string, error) {
	return "all equal", w.call(ctx, "verify", m)
}
func (w *watched) Moved(m Move) { _ = w.call(w.g.t.Context(), "moved "+m.From.String(), m) }
func (w *watched) Begin(ctx context.Context, m Move, before bool) error {
	what := "gates"
	if before {
		what = "gates again"
	}
	return w.call(ctx, what, m)
}
func (w *watched) Commit(m Move) error                      { return w.call(w.g.t.Context(), "gate of commit", m) }
func (w *watched) Before(ctx context.Context, m Move) error { return w.call(ctx, "hook", m) }
func (w *watched) After(m Move)                             { _ = w.call(w.g.t.Context(), "after", m) }
func (w *watched) Aborted(m Move, why string)               { _ = w.call(w.g.t.Context(), "aborted: "+why, m) }
func (w *watched) Wave(string) string                       { return "sales" }
func (w *watched) Means(string, config.Side) bool           { return false }
func (w *watched) on(what string, f func(context.Context, Move) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.do[what] = f
}

func watchedGateway(t *testing.T) (*gateway, *watched) {
	g := started(t, alice+" old\n")
	w := &watched{g: g, do: map[string]func(context.Context, Move) error{}}
	g.m.mail, g.m.gates, g.m.hooks, g.m.members = w, w, w, w
	return g, w
}

// TestOrderOfSteps: who takes part is asked in order, each in its state, and hears of the end.
func TestOrderOfSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w := watchedGateway(t)
		o := g.wait(g.request(alice, config.New).ID)
		want := []string{"gates PREP", "prepare PREP", "gates again PREP", "hook PREP", "delta DELTA", "verify VERIFY", "gate of commit VERIFY",
			"moved old RELEASE", "after SETTLED"}
		if o.Status != op.Done || o.Wave != "sales" || !slices.Equal(w.seen, want) {
			t.Errorf("%+v\n%q", o, w.seen)
		}
		h, err := g.st.History(t.Context(), op.HistoryFilter{User: alice})
		must(t, err)
		if i := slices.IndexFunc(h, func(e op.Event) bool { return e.What == "flip committed" }); i < 0 || h[i].Detail != "all equal" {
			t.Errorf("%+v", h)
		}
	})
}

// TestRefusedSteps: whoever says no calls the flip off, with his words, and nothing is different.
func TestRefusedSteps(t *testing.T) {
	for _, what := range []string{"gates", "prepare", "gates again", "hook", "delta", "verify", "gate of commit"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, w := watchedGateway(t)
				e := &ender{}
				s, err := login(t.Context(), g.r, alice, e)
				must(t, err)
				e.end = s.Done
				w.on(what, func(context.Context, Move) error { return &Refusal{Why: "the moon is full", Do: "wait"} })
				o := g.wait(g.request(alice, config.New).ID)
				if o.Status != op.Failed || !strings.Contains(o.Reason, "the moon is full; wait") {
					t.Errorf("%+v", o)
				}
				g.check(alice, config.Old, 0)
				if w.seen[len(w.seen)-1] != "aborted: "+o.Reason+" "+string(op.Prep) && slices.Contains([]string{"hook"}, what) {
					t.Errorf("%q", w.seen)
				}
				w.on(what, nil)
				if o := g.wait(g.request(alice, config.New).ID); o.Status != op.Done {
					t.Errorf("%+v", o)
				}
			})
		})
	}
}

// TestHoldAtEachStep: a hold that is put up at any moment before the commit is heeded; the flip is called off.
func TestHoldAtEachStep(t *testing.T) {
	for _, scope := range []string{op.HoldAll, op.HoldUser(alice), op.HoldWave("sales")} {
		for _, what := range []string{"gates", "prepare", "gates again", "hook", "delta", "verify", "gate of commit"} {
			t.Run(scope+" "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g, w := watchedGateway(t)
					w.on(what, func(ctx context.Context, _ Move) error {
						_, err := g.st.AddHold(ctx, op.Hold{Scope: scope, By: "kim", Reason: "fair", At: time.Now()})
						return err
					})
					o := g.wait(g.request(alice, config.New).ID)
					if o.Status != op.Failed || !strings.Contains(o.Reason, "held by kim") || !strings.Contains(o.Reason, "mailgate unhold") {
						t.Errorf("%+v", o)
					}
					g.check(alice, config.Old, 0)
					_, err := g.m.Request(t.Context(), alice, config.New, "test", false)
					var r *Refusal
					if !errors.As(err, &r) || !errors.Is(err, op.ErrHeld) {
						t.Error(err)
					}
				})
			})
		}
	}
}

// TestNow: rollback --now carries nothing, compares nothing, and cuts what does not end. Hooks are not asked: they only learn of it.
func TestNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, w := watchedGateway(t)
		g.wait(g.request(alice, config.New).ID)
		w.seen = nil
		e := &ender{}
		s, err := login(t.Context(), g.r, alice, e)
		must(t, err)
		e.cut = s.Done
		began := time.Now()
		o, err := g.m.Ask(t.Context(), op.Operation{User: alice, Target: config.Old, By: "test", Pin: true, Now: true})
		must(t, err)
		o = g.wait(o.ID)
		want := []string{"gates PREP", "gates again PREP", "hook PREP", "gate of commit VERIFY", "moved new RELEASE", "after SETTLED"}
		if o.Status != op.Done || !slices.Equal(w.seen, want) || time.Since(began) != 10*time.Second {
			t.Errorf("%+v after %v\n%q", o, time.Since(began), w.seen)
		}
		g.check(alice, config.Old, 2)
	})
}

// TestBackIsNotBehind: who goes back to OLD does not wait behind first copies.
func TestBackIsNotBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\nbob@example.com new\n")
		f, r := settingsOf()
		f.Prepare = 1
		g.m.Configure(f, r)
		mail := &copying{slowMail{open: make(chan struct{})}}
		g.m.mail = mail
		first := g.request(alice, config.New)
		if o := g.wait(g.request("bob@example.com", config.Old).ID); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		close(mail.open)
		g.wait(first.ID)
	})
}

type copying struct{ slowMail }

func (c *copying) Prepare(ctx context.Context, m Move, tell func(Progress)) error {
	if m.To == config.Old {
		return nil
	}
	return c.slowMail.Prepare(ctx, m, tell)
}

// cluster is a list of nodes that changes.
type cluster struct {
	mu    sync.Mutex
	nodes []Node
	st    op.Store
}

func (c *cluster) Nodes(context.Context) ([]Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes), nil
}

func (c *cluster) join(t *testing.T, n Node) {
	t.Helper()
	must(t, c.st.AddNode(t.Context(), op.Node{Name: n.Name(), Incarnation: n.Incarnation()}))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(slices.DeleteFunc(slices.Clone(c.nodes), func(x Node) bool { return x.Name() == n.Name() }), n)
}

func (c *cluster) leave(t *testing.T, name string) {
	t.Helper()
	nodes, err := c.st.Nodes(t.Context())
	must(t, err)
	for _, n := range nodes {
		if n.Name == name {
			must(t, c.st.RemoveNode(t.Context(), n, op.Event{What: "node removed", Before: name}))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = slices.DeleteFunc(slices.Clone(c.nodes), func(x Node) bool { return x.Name() == name })
}

// TestJoinAmid (I1): a node that joins, or comes again as another process, between the drain and the commit is asked before
// the commit; one that is taken out does not count any more.
func TestJoinAmid(t *testing.T) {
	for name, test := range map[string]struct {
		act  func(t *testing.T, c *cluster, other *Router2)
		want op.Status
	}{
		"joins":           {func(t *testing.T, c *cluster, o *Router2) { c.join(t, o.node("gw2", "a")) }, op.Done},
		"with a session":  {func(t *testing.T, c *cluster, o *Router2) { o.busy(t); c.join(t, o.node("gw2", "a")) }, op.Failed},
		"comes again":     {func(t *testing.T, c *cluster, o *Router2) { c.join(t, o.node("gw1", "b")) }, op.Done},
		"again, at work":  {func(t *testing.T, c *cluster, o *Router2) { o.busy(t); c.join(t, o.node("gw1", "b")) }, op.Failed},
		"is taken out":    {func(t *testing.T, c *cluster, o *Router2) { c.leave(t, "gw1") }, op.Done},
		"nothing changes": {func(*testing.T, *cluster, *Router2) {}, op.Done},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				st := openStore(t, tempDir(t))
				defer st.Close()
				g := newGateway(t, st)
				c := &cluster{st: g.st}
				c.join(t, g.m.nodes[0])
				w := &watched{g: g, do: map[string]func(context.Context, Move) error{}}
				g.m.cluster, g.m.mail, g.m.gates, g.m.hooks, g.m.members = c, w, w, w, w
				must(t, g.m.Start(t.Context()))
				defer g.m.Stop()
				g.imports(alice + " old\n")
				other := &Router2{r: router.New(router.Options{Hold: time.Minute}, func(string) config.Side { return config.Old }, nil)}
				w.on("verify", func(context.Context, Move) error { test.act(t, c, other); return nil })
				o := g.wait(g.request(alice, config.New).ID)
				if o.Status != test.want {
					t.Errorf("%+v", o)
				}
				if p, known := other.r.Lookup(alice); known && o.Status == op.Done && p.Side != config.New {
					t.Errorf("the other node has him at %+v", p)
				}
				other.end()
			})
		})
	}
}

// Router2 is that of another process.
type Router2 struct {
	r *router.Router
	s *router.Session
}

func (o *Router2) node(name, once string) Node { return &LocalNode{ID: name, Once: once, Router: o.r} }

func (o *Router2) busy(t *testing.T) {
	s, err := login(t.Context(), o.r, alice, &ender{})
	must(t, err)
	o.s = s
}

func (o *Router2) end() {
	if o.s != nil {
		o.s.Done()
	}
}

// TestPassesEndFirst: a flip whose passes end because the gateway ends has not failed: the next start takes it up.
func TestPassesEndFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, what := range []string{"prepare", "delta", "verify"} {
			s := openStore(t, tempDir(t))
			g := newGateway(t, s)
			w := &watched{g: g, do: map[string]func(context.Context, Move) error{}}
			g.m.mail = w
			must(t, g.m.Start(t.Context()))
			g.imports(alice + " old\n")
			w.on(what, func(context.Context, Move) error { return fmt.Errorf("%w: the passes end", ErrStopping) })
			o := g.request(alice, config.New)
			synctest.Wait()
			time.Sleep(time.Minute)
			now, err := g.st.Operation(t.Context(), o.ID)
			must(t, err)
			if now.Status.Final() {
				t.Errorf("%s: %+v", what, now)
			}
			g.m.Stop()
			h := newGateway(t, s)
			must(t, h.m.Start(t.Context()))
			if o := h.wait(o.ID); o.Status != op.Done {
				t.Errorf("%s: %+v", what, o)
			}
			h.check(alice, config.New, 1)
			h.m.Stop()
			must(t, s.Close())
		}
	})
}

// TestMovedAfterCrash: whoever keeps mailboxes hears of a commit also when the process that made it could not tell: what rollback --now has left
// behind must be written down.
func TestMovedAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer s.Close()
		g := newGateway(t, s)
		must(t, g.m.Start(t.Context()))
		g.imports(alice + " new\n")
		gone := false
		g.st.set(func(name string, _ int) fault {
			if gone {
				return before
			}
			if name == "Commit" {
				gone = true
				return after
			}
			return well
		})
		o, err := g.m.Ask(t.Context(), op.Operation{User: alice, Target: config.Old, By: "test", Pin: true, Now: true})
		must(t, err)
		time.Sleep(time.Minute)
		g.m.Stop()
		h := newGateway(t, s)
		w := &watched{g: h, do: map[string]func(context.Context, Move) error{}}
		var heard Move
		w.on("moved new", func(_ context.Context, m Move) error { heard = m; return nil })
		h.m.mail = w
		must(t, h.m.Start(t.Context()))
		defer h.m.Stop()
		if heard != (Move{Op: o.ID, User: alice, From: config.New, To: config.Old, By: "test", Now: true}) {
			t.Errorf("%+v", heard)
		}
		h.check(alice, config.Old, 1)
	})
}

// TestGatesWaitForStore: gates that cannot read the store say neither yes nor no: the flip waits, as it does for all else that it reads there.
func TestGatesWaitForStore(t *testing.T) {
	for _, what := range []string{"gates", "gates again"} {
		synctest.Test(t, func(t *testing.T) {
			g, w := watchedGateway(t)
			times := 0
			w.on(what, func(context.Context, Move) error {
				if times++; times < 4 {
					return fmt.Errorf("read pins: %w", errDisk)
				}
				return nil
			})
			if o := g.wait(g.request(alice, config.New).ID); o.Status != op.Done || times != 4 {
				t.Errorf("%s: %+v, asked %d times", what, o, times)
			}
		})
	}
}
