package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what one user must be like.
type model struct {
	place    Place // while fenced, of the row before
	fenced   bool
	fence    int64
	known    bool
	empty    <-chan struct{}
	logins   map[*Login]*Place // routed to, nil before
	sessions map[*Session]bool
}

func (m *model) mailboxes() (n int) {
	for s := range m.sessions {
		if s.Mailbox {
			n++
		}
	}
	return n
}

// Any order of logins, fences, late messages and ends leaves the router as the model says, with I1 and I2 held.
func TestRouterAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{alice, "bob@example.com"}
		opts := Options{SessionsPerUser: 4, SessionsPerIP: 6, PendingPerUser: 5}
		r := New(opts, allOld, nil)
		models := map[string]*model{}
		for _, n := range names {
			models[n] = &model{logins: map[*Login]*Place{}, sessions: map[*Session]bool{}}
		}
		pick := func(t *rapid.T) (string, *model) {
			n := rapid.SampledFrom(names).Draw(t, "user")
			return n, models[n]
		}
		login := func(t *rapid.T, m *model) *Login {
			list := make([]*Login, 0, len(m.logins))
			for l := range m.logins {
				list = append(list, l)
			}
			if len(list) == 0 {
				t.Skip("no login")
			}
			return list[rapid.IntRange(0, len(list)-1).Draw(t, "login")]
		}
		total := func() (n int) {
			for _, m := range models {
				n += len(m.sessions)
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(t *rapid.T) {
				n, m := pick(t)
				l, err := r.Begin(n)
				if (err == nil) != (len(m.logins) < opts.PendingPerUser) {
					t.Fatalf("begin: %v with %d logins", err, len(m.logins))
				}
				if err == nil {
					m.logins[l] = nil
				}
			},
			"route": func(t *rapid.T) {
				_, m := pick(t)
				l := login(t, m)
				p, _, err := l.Route(context.Background(), nil) // no hold: a fence answers at once
				if m.fenced {
					if !errors.Is(err, ErrHeld) {
						t.Fatalf("routed to %+v, %v through a fence", p, err)
					}
					return
				}
				if err != nil || p != m.place {
					t.Fatalf("routed to %+v, %v; is at %+v", p, err, m.place)
				}
				m.logins[l] = &p
			},
			"admit": func(t *rapid.T) {
				_, m := pick(t)
				l := login(t, m)
				p := m.logins[l]
				if p == nil {
					t.Skip("not routed")
				}
				d := submission()
				d.Mailbox = rapid.Bool().Draw(t, "mailbox")
				s, err := l.Admit(*p, d, &ender{})
				var want error
				switch {
				case m.fenced || *p != m.place:
					want = ErrMoved
				case len(m.sessions) >= opts.SessionsPerUser:
					want = ErrUserCap
				case total() >= opts.SessionsPerIP:
					want = ErrAddressCap
				}
				if !errors.Is(err, want) {
					t.Fatalf("admit: %v, want %v", err, want)
				}
				if err == nil {
					delete(m.logins, l)
					m.sessions[s], m.known = true, true
				}
			},
			"end": func(t *rapid.T) {
				_, m := pick(t)
				l := login(t, m)
				l.End()
				delete(m.logins, l)
			},
			"done": func(t *rapid.T) {
				_, m := pick(t)
				for s := range m.sessions {
					s.Done()
					delete(m.sessions, s)
					break
				}
			},
			"fence": func(t *rapid.T) {
				n, m := pick(t)
				now := m.place.Generation
				if m.fenced {
					now = m.fence
				}
				g := now + int64(rapid.IntRange(-1, 2).Draw(t, "step"))
				c, err := r.Fence(n, g, "")
				if g < now || g == now && !m.fenced {
					wantErr(t, err, ErrStale)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				m.fenced, m.known, m.fence, m.empty = true, true, g, c
			},
			"release": func(t *rapid.T) {
				n, m := pick(t)
				g := m.fence + int64(rapid.IntRange(-1, 1).Draw(t, "step"))
				p := Place{Side: m.place.Side, Epoch: m.place.Epoch, Generation: g}
				if m.fenced && m.mailboxes() == 0 && rapid.Bool().Draw(t, "commit") {
					p.Side, p.Epoch = p.Side.Other(), p.Epoch+1
				}
				err := r.Release(n, p)
				if m.known && !m.fenced && g > m.place.Generation { // it has overtaken its fence, which will be stale
					wantErr(t, err, nil)
					m.place, m.fence = p, g
					return
				}
				if !m.fenced || g < m.fence {
					wantErr(t, err, ErrStale)
					return
				}
				wantErr(t, err, nil)
				m.place, m.fenced, m.empty = p, false, nil
			},
			"press": func(t *rapid.T) { n, _ := pick(t); r.Press(n, CutReads, "") },
			"": func(t *rapid.T) {
				users := 0
				for n, m := range models {
					p, known := r.Lookup(n)
					if known != m.known || known && (p.Side != m.place.Side || p.Epoch != m.place.Epoch) {
						t.Fatalf("%s is at %+v, %v; want %+v, %v", n, p, known, m.place, m.known)
					}
					if known || len(m.logins) > 0 {
						users++
					}
					for _, s := range r.Sessions(n) {
						if !m.sessions[s] {
							t.Fatal("a session that ended is listed")
						}
						if s.Mailbox && (s.Side != m.place.Side || s.Epoch != m.place.Epoch) {
							t.Fatalf("I1: a session of %+v lives, he is at %+v", s.Place, m.place)
						}
					}
					if m.fenced && closed(m.empty) != (m.mailboxes() == 0) {
						t.Fatalf("drained %v with %d mailbox sessions", closed(m.empty), m.mailboxes())
					}
					if logins, _ := r.Pending(n); logins != len(m.logins) || len(r.Sessions(n)) != len(m.sessions) {
						t.Fatalf("%d logins, %d sessions", logins, len(r.Sessions(n)))
					}
				}
				if r.Len() != users {
					t.Fatalf("%d users in memory, want %d", r.Len(), users)
				}
			},
		})
		for _, m := range models {
			for s := range m.sessions {
				s.Done()
			}
		}
		if len(r.ips) != 0 {
			t.Fatalf("addresses left: %v", r.ips)
		}
	})
}

// Many clients of one user log in and out while he is flipped to and fro. Each session, as long as it lives, checks
// that the committed place is its own (I1), and each commit that no mailbox session is left (I2).
func TestFlipsUnderLoad(t *testing.T) {
	r := New(Options{Hold: 10 * time.Second}, allOld, nil)
	var committed atomic.Pointer[Place] // changed only between a drain and its release
	committed.Store(&Place{})
	var live, sessions atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				clientOnce(t, r, rnd, &committed, &live, &sessions)
			}
		})
	}
	place := Place{}
	for g := int64(1); g <= 400; g++ {
		empty, err := r.Fence(alice, g, "")
		if err != nil {
			t.Fatal(err)
		}
		place.Generation = g
		if g%5 == 0 { // an abort, whether drained or not
			wantErr(t, r.Release(alice, place), nil)
			continue
		}
		<-empty
		if n := live.Load(); n != 0 {
			t.Fatalf("I2: %d sessions live at the commit", n)
		}
		place.Side, place.Epoch = place.Side.Other(), place.Epoch+1
		p := place
		committed.Store(&p)
		wantErr(t, r.Release(alice, place), nil)
		for was := sessions.Load(); g%3 == 0 && sessions.Load() == was; { // let somebody in
			time.Sleep(time.Microsecond)
		}
	}
	cancel()
	wg.Wait()
	if len(r.Sessions("")) != 0 || len(r.ips) != 0 || sessions.Load() < 100 {
		t.Errorf("%d sessions left of %d, addresses %v", len(r.Sessions("")), sessions.Load(), r.ips)
	}
}

func clientOnce(t *testing.T, r *Router, rnd *rand.Rand, committed *atomic.Pointer[Place], live, sessions *atomic.Int64) {
	l, err := r.Begin(alice)
	if err != nil {
		t.Error(err)
		return
	}
	defer l.End()
	p, _, err := l.Route(context.Background(), nil)
	if err != nil {
		t.Error(err)
		return
	}
	asked := make(chan struct{}, 1000)
	e := &ender{on: func(Pressure) { asked <- struct{}{} }}
	s, err := l.Admit(p, mailbox(netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:1", rnd.IntN(9)))), e)
	if err != nil {
		wantErr(t, err, ErrMoved)
		return
	}
	live.Add(1)
	sessions.Add(1)
	for range rnd.IntN(50) {
		if now := committed.Load(); now.Side != p.Side || now.Epoch != p.Epoch {
			t.Errorf("I1: a session of %+v lives, committed is %+v", p, *now)
		}
		select {
		case <-asked:
		default:
			time.Sleep(time.Duration(rnd.IntN(20)) * time.Microsecond)
			continue
		}
		break
	}
	live.Add(-1)
	s.Done()
}
