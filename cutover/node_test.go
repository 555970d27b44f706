package cutover

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// remote is another process with a router of its own, at the end of a line that can be bad. send stands before the
// real node.
type remote struct {
	LocalNode
	mu   sync.Mutex
	send func(ctx context.Context, m Message, real func(context.Context, Message) (Ack, error)) (Ack, error)
	got  []Kind
}

func newRemote() *remote {
	r := router.New(router.Options{Hold: 25 * time.Second}, func(string) config.Side { return config.Old }, nil)
	r.Load(alice, router.Place{Side: config.Old})
	return &remote{LocalNode: LocalNode{ID: "gw2", Router: r}}
}

func (n *remote) set(f func(ctx context.Context, m Message, real func(context.Context, Message) (Ack, error)) (Ack, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send = f
}

func (n *remote) Send(ctx context.Context, m Message) (Ack, error) {
	n.mu.Lock()
	f := n.send
	n.got = append(n.got, m.Kind)
	n.mu.Unlock()
	if f == nil {
		return n.LocalNode.Send(ctx, m)
	}
	return f(ctx, m, n.LocalNode.Send)
}

func hung(ctx context.Context) (Ack, error) {
	<-ctx.Done()
	return Ack{}, context.Cause(ctx)
}

// TestTwoNodes (I1): a session on either node holds the commit up, and both are released to the new side.
func TestTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newRemote()
		g := started(t, alice+" old\n", n)
		s, err := login(t.Context(), n.Router, alice, &ender{})
		must(t, err)
		o := g.request(alice, config.New)
		synctest.Wait()
		if row := g.row(alice); row.State != op.Drain || row.Side != config.Old {
			t.Errorf("with a session on the other node: %+v", row)
		}
		s.Done()
		if o := g.wait(o.ID); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		g.check(alice, config.New, 1)
		g.admits(n.Router, alice, config.New)
		stop1, stop2 := g.clients(g.r, alice), g.clients(n.Router, alice)
		for i := range 4 {
			g.wait(g.request(alice, config.Side(i%2)).ID)
		}
		stop1()
		stop2()
		g.admits(n.Router, alice, config.New)
	})
}

// TestBadLine: whatever the line to a node does to a message of a flip, the flip ends committed or as before, and the
// same on both nodes.
func TestBadLine(t *testing.T) {
	real := func(n *remote, ctx context.Context, m Message) (Ack, error) { return n.LocalNode.Send(ctx, m) }
	for name, bad := range map[string]func(*remote, context.Context, Message) (Ack, error){
		"lost":     func(_ *remote, ctx context.Context, _ Message) (Ack, error) { return hung(ctx) },
		"refused":  func(*remote, context.Context, Message) (Ack, error) { return Ack{}, errors.New("connection refused") },
		"ack lost": func(n *remote, ctx context.Context, m Message) (Ack, error) { real(n, ctx, m); return hung(ctx) },
		"repeated": func(n *remote, ctx context.Context, m Message) (Ack, error) { real(n, ctx, m); return real(n, ctx, m) },
		"late": func(n *remote, ctx context.Context, m Message) (Ack, error) {
			time.Sleep(3 * time.Second)
			return real(n, ctx, m)
		},
		"too late": func(n *remote, ctx context.Context, m Message) (Ack, error) {
			time.Sleep(time.Minute)
			return real(n, ctx, m)
		},
		"wrong gen": func(n *remote, ctx context.Context, m Message) (Ack, error) {
			a, err := real(n, ctx, m)
			a.Generation--
			return a, err
		},
		"wrong user": func(n *remote, ctx context.Context, m Message) (Ack, error) {
			a, err := real(n, ctx, m)
			a.User = "x"
			return a, err
		},
		"wrong node": func(n *remote, ctx context.Context, m Message) (Ack, error) {
			a, err := real(n, ctx, m)
			a.Node = "x"
			return a, err
		},
		"some left": func(n *remote, ctx context.Context, m Message) (Ack, error) {
			a, err := real(n, ctx, m)
			a.Left = 1
			return a, err
		},
	} {
		for _, kind := range []Kind{AskFence, AskDrain, AskRelease} {
			t.Run(name+" "+string(kind), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newRemote()
					g := started(t, alice+" old\n", n)
					stop1, stop2 := g.clients(g.r, alice), g.clients(n.Router, alice)
					times := 0
					n.set(func(ctx context.Context, m Message, real func(context.Context, Message) (Ack, error)) (Ack, error) {
						if m.Kind == kind && times < 2 {
							times++
							return bad(n, ctx, m)
						}
						return real(ctx, m)
					})
					o := g.wait(g.request(alice, config.New).ID)
					stop1()
					stop2()
					time.Sleep(2 * time.Minute) // what is late comes
					want := config.Old
					if o.Status == op.Done {
						want = config.New
					}
					if kind == AskRelease || name == "repeated" || name == "late" && kind == AskDrain {
						if o.Status != op.Done {
							t.Errorf("it could be done: %+v", o)
						}
					} else if name != "late" && o.Status != op.Failed {
						t.Errorf("it has no acknowledgement: %+v", o)
					}
					g.check(alice, want, int64(want))
					g.admits(n.Router, alice, want)
					n.set(nil)
					g.wait(g.request(alice, want.Other()).ID)
					g.check(alice, want.Other(), int64(want)+1)
					g.admits(n.Router, alice, want.Other())
				})
			})
		}
	}
}

// TestLateFence: a fence that comes behind the release of its flip fences nobody.
func TestLateFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newRemote()
		g := started(t, alice+" old\n", n)
		var fence Message
		n.set(func(ctx context.Context, m Message, real func(context.Context, Message) (Ack, error)) (Ack, error) {
			if m.Kind == AskFence {
				fence = m
				return hung(ctx)
			}
			return real(ctx, m)
		})
		if o := g.wait(g.request(alice, config.New).ID); o.Status != op.Failed {
			t.Errorf("%+v", o)
		}
		time.Sleep(time.Minute)
		if _, err := n.LocalNode.Send(t.Context(), fence); !errors.Is(err, router.ErrStale) {
			t.Errorf("the late fence: %v", err)
		}
		g.admits(n.Router, alice, config.Old)
	})
}

// TestHungNode: a node that does not answer blocks its flips until their deadline, and no login, no other user's slot.
func TestHungNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newRemote()
		g := started(t, alice+" old\nbob@example.com old\n", n)
		n.set(func(ctx context.Context, m Message, real func(context.Context, Message) (Ack, error)) (Ack, error) {
			if m.User == alice {
				return hung(ctx)
			}
			return real(ctx, m)
		})
		f, r := settingsOf()
		f.Parallel = 1
		g.m.Configure(f, r)
		o := g.request(alice, config.New)
		synctest.Wait() // she has the slot
		other := g.request("bob@example.com", config.New)
		synctest.Wait()
		g.admits(g.r, "bob@example.com", config.Old)
		start := time.Now()
		if o := g.wait(o.ID); o.Status != op.Failed || !strings.Contains(o.Reason, "gw2") {
			t.Errorf("%+v", o)
		}
		g.wait(other.ID) // though the release of alice has not been heard
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("another user waited %v", d)
		}
		g.admits(g.r, alice, config.Old)
		if row := g.row(alice); row.State == op.Settled {
			t.Errorf("a node has not heard, and yet %+v", row)
		}
		if s := g.m.Steps(); s[alice] != op.Fence {
			t.Errorf("steps %v", s)
		}
		n.set(nil)
		time.Sleep(10 * time.Second)
		g.check(alice, config.Old, 0)
	})
}

// TestAskedTwice: a node that is asked twice for the same drain answers both.
func TestAskedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newRemote()
		s, err := login(t.Context(), n.Router, alice, &ender{})
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if _, err := n.Send(ctx, Message{Kind: AskDrain, User: alice, Generation: 1, Half: time.Now().Add(time.Hour)}); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		s.Done()
		wg.Wait()
	})
}

// TestNodesOfTheStore: nodes of a process that is gone are taken out of the list, with a line in the history.
func TestNodesOfTheStore(t *testing.T) {
	s := openStore(t, tempDir(t))
	defer s.Close()
	must(t, s.AddNode(t.Context(), op.Node{Name: "gone"}))
	g := newGateway(t, s)
	must(t, g.m.Start(t.Context()))
	defer g.m.Stop()
	names, err := s.Nodes(t.Context())
	must(t, err)
	if len(names) != 1 || names[0].Name != "gw1" {
		t.Errorf("%v", names)
	}
	if h, _ := s.History(t.Context(), op.HistoryFilter{}); len(h) != 1 || h[0].What != "node removed" {
		t.Errorf("%+v", h)
	}
}
