package protocol

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"mailgate/config"
	"mailgate/router"
)

const alice = "alice@example.com"

type ender struct{}

func (ender) End(router.Pressure, string) {}
func (ender) Resume()                     {}

// fencedLoader is what loads a row that is half way.
type fencedLoader interface {
	LoadFenced(name string, p router.Place) bool
}

// pair is the model's node beside the router that it stands for.
type pair struct {
	t     *testing.T
	n     node
	r     *router.Router
	login *router.Login
	place router.Place
	list  []*router.Session
	did   []string
}

func toPlace(p place) router.Place {
	return router.Place{Side: config.Side(p.Side), Epoch: int64(p.Epoch), Generation: int64(p.Gen)}
}

func newPair(t *testing.T) *pair {
	return &pair{t: t, n: node{Phase: serving}, r: router.New(router.Options{}, func(string) config.Side { return config.Old }, nil)}
}

// step does the same to both.
func (p *pair) step(kind int, at place) {
	p.did = append(p.did, fmt.Sprint(kind, " ", at))
	var want, got any
	switch kind {
	case 0:
		_, err := p.r.Fence(alice, int64(at.Gen), "")
		want, got = err == nil, p.n.fence(at.Gen)
	case 1:
		err := p.r.Release(alice, toPlace(at))
		want, got = err == nil, p.n.release(at, 0)
	case 2:
		want, got = p.r.Load(alice, toPlace(at)), p.n.load(at)
	case 3:
		l, ok := any(p.r).(fencedLoader)
		if !ok {
			return
		}
		want, got = l.LoadFenced(alice, toPlace(at)), p.n.loadFenced(at)
	case 4:
		p.arrive()
		return
	case 5:
		if p.n.Login != routed {
			return
		}
		s, err := p.login.Admit(p.place, router.Details{Mailbox: true, Client: netip.MustParseAddrPort("192.0.2.1:1")}, ender{})
		if err == nil {
			p.list = append(p.list, s)
		} else if !errors.Is(err, router.ErrMoved) {
			p.t.Fatal(err)
		}
		want, got = err == nil, p.n.admit(0)
		if err != nil {
			p.login.End()
		}
		p.n.Login = noLogin
	case 6:
		for _, s := range p.list {
			s.Done()
		}
		p.list, p.n.Sess = nil, 0
	}
	if want != got {
		p.t.Fatalf("%v: the router says %v, the model %v", p.did, want, got)
	}
	p.compare()
}

// arrive has a login come and be routed, if nobody holds him.
func (p *pair) arrive() {
	if p.n.Login != noLogin {
		return
	}
	if p.n.Fenced { // Route would wait
		if _, held := p.held(); !held {
			p.t.Fatalf("%v: the router does not hold a login", p.did)
		}
		return
	}
	l, err := p.r.Begin(alice)
	if err != nil {
		p.t.Fatal(err)
	}
	place, _, err := l.Route(p.t.Context(), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.login, p.place = l, place
	p.n.route()
	p.n.Dial = p.n.Side
	if toPlace(p.n.P) != place {
		p.t.Fatalf("%v: routed to %v, the model to %v", p.did, place, p.n.P)
	}
}

// held tells the place of the row, and whether a login would wait.
func (p *pair) held() (router.Place, bool) {
	var place router.Place
	var held bool
	p.r.Users(func(_ string, at router.Place, fenced bool) { place, held = at, fenced })
	return place, held
}

func (p *pair) compare() {
	at, known := p.r.Lookup(alice)
	if known != p.n.Known || known && at != toPlace(p.n.place) {
		p.t.Fatalf("%v: the router has %v %v, the model %v %v", p.did, at, known, p.n.place, p.n.Known)
	}
	if _, fenced := p.held(); known && fenced != p.n.Fenced {
		p.t.Fatalf("%v: fenced is %v, in the model %v", p.did, fenced, p.n.Fenced)
	}
	var sess uint8
	for _, s := range p.r.Sessions(alice) {
		sess |= session(uint8(s.Side), uint8(s.Epoch))
	}
	if sess != p.n.Sess {
		p.t.Fatalf("%v: sessions %b, in the model %b", p.did, sess, p.n.Sess)
	}
}

// TestNodeIsRouter: whatever comes in whatever order, the node of the model does what router.Router does.
func TestNodeIsRouter(t *testing.T) {
	var all [][2]any
	for kind := range 7 {
		for gen := range uint8(4) {
			for side := range uint8(2) {
				if at := (place{side, side, gen}); kind < 4 && gen > 0 && (kind > 0 || side == 0) || kind >= 4 && gen == 0 && side == 0 {
					all = append(all, [2]any{kind, at})
				}
			}
		}
	}
	run := func(steps ...int) {
		p := newPair(t)
		for _, k := range steps {
			p.step(all[k][0].(int), all[k][1].(place))
		}
	}
	for a := range all {
		for b := range all {
			for c := range all {
				run(a, b, c)
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		steps := make([]int, 12)
		for i := range steps {
			steps[i] = rnd.IntN(len(all))
		}
		run(steps...)
	}
}
