package router

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
)

func TestMoves(t *testing.T) {
	legal := map[string]bool{"SETTLED PREP": true, "PREP FENCE": true, "PREP SETTLED": true, "FENCE DRAIN": true, "FENCE SETTLED": true,
		"DRAIN DELTA": true, "DRAIN SETTLED": true, "DELTA VERIFY": true, "DELTA SETTLED": true, "VERIFY RELEASE": true, "VERIFY SETTLED": true,
		"RELEASE SETTLED": true}
	states := append(States(), "", "NONSENSE")
	for _, from := range states {
		for _, to := range states {
			err := Legal(from, to)
			if legal[string(from)+" "+string(to)] {
				wantErr(t, err, nil)
			} else {
				wantErr(t, err, ErrIllegal)
			}
		}
	}
	for _, s := range States() { // whatever a crash leaves is led to the resting state
		if next, committed := Undo(s); next != Settled || committed != (s == Release) {
			t.Errorf("%s: %s %v", s, next, committed)
		}
	}
	Moves()[0].To = Release
	wantErr(t, Legal(Settled, Release), ErrIllegal)
}

// A flip, whole: the session is asked to end, the drain waits for it, a login waits, and goes on at the new side.
func TestFlip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Hold: time.Minute}, allOld, nil)
		e := &ender{}
		s := session(t, r, alice, mailbox(client), e)
		sub := session(t, r, alice, submission(), &ender{})
		empty := fence(t, r, alice, 1)
		if asked, _ := e.seen(); len(asked) != 1 || asked[0] != AtBoundary {
			t.Errorf("asked %v", asked)
		}
		held := make(chan Place, 1)
		go func() {
			l := begin(t, r, alice)
			defer l.End()
			p, _ := route(t, l)
			held <- p
		}()
		synctest.Wait()
		if n, h := r.Pending(alice); n != 1 || h != 1 || len(held) != 0 {
			t.Errorf("%d logins, %d held", n, h)
		}
		if closed(empty) {
			t.Fatal("drained while the session lives") // I2
		}
		s.Done()
		if !closed(empty) {
			t.Fatal("not drained") // and not held up by the submission
		}
		to := Place{Side: config.New, Epoch: 1, Generation: 1}
		wantErr(t, r.Release(alice, to), nil)
		if p := <-held; p != to {
			t.Errorf("the held login went to %+v", p)
		}
		if p, known := r.Lookup(alice); p != to || !known {
			t.Errorf("at %+v", p)
		}
		sub.Done()
	})
}

// An abort: the session that has not ended lives on, and a login goes where it would have gone.
func TestAbort(t *testing.T) {
	r := New(Options{Hold: time.Minute}, allOld, nil)
	e := &ender{}
	s := session(t, r, alice, mailbox(client), e)
	defer s.Done()
	empty := fence(t, r, alice, 1)
	wantErr(t, r.Release(alice, Place{Side: config.Old, Generation: 1}), nil)
	if _, resumed := e.seen(); resumed != 1 || closed(empty) {
		t.Errorf("resumed %d times", resumed)
	}
	session(t, r, alice, mailbox(client), &ender{}).Done()
	// The next fence waits for the session again.
	if c := fence(t, r, alice, 2); closed(c) {
		t.Error("the second fence does not wait for the session that lived on")
	}
}

// A session of the other epoch is not told to live on: a submission that outlasts the commit ends at its boundary.
func TestReleaseResumesOnlyItsOwnEpoch(t *testing.T) {
	r := New(Options{}, allOld, nil)
	e := &ender{}
	defer session(t, r, alice, submission(), e).Done()
	if !closed(fence(t, r, alice, 1)) {
		t.Error("a submission delays the drain")
	}
	wantErr(t, r.Release(alice, Place{Side: config.New, Epoch: 1, Generation: 1}), nil)
	if asked, resumed := e.seen(); resumed != 0 || len(asked) != 1 {
		t.Errorf("asked %v, resumed %d", asked, resumed)
	}
}

// Messages come late and twice: what is older than what stands is refused and changes nothing, what is the same is the
// same.
func TestLateAndRepeatedMessages(t *testing.T) {
	r := New(Options{}, allOld, nil)
	s := session(t, r, alice, mailbox(client), &ender{})
	first := fence(t, r, alice, 5)
	again := fence(t, r, alice, 5)
	_, err := r.Fence(alice, 4, "late")
	wantErr(t, err, ErrStale)
	wantErr(t, r.Release(alice, Place{Side: config.New, Generation: 4}), ErrStale)
	if p, _ := r.Lookup(alice); p.Side != config.Old || p.Generation != 5 {
		t.Errorf("a late message moved him to %+v", p)
	}
	newer := fence(t, r, alice, 6) // a second request overtakes the first
	wantErr(t, r.Release(alice, Place{Side: config.New, Epoch: 1, Generation: 5}), ErrStale)
	s.Done()
	for i, c := range []<-chan struct{}{first, again, newer, fence(t, r, alice, 6)} {
		if !closed(c) {
			t.Errorf("waiter %d is never told that the user is drained", i)
		}
	}
	to := Place{Side: config.New, Epoch: 1, Generation: 6}
	wantErr(t, r.Release(alice, to), nil)
	wantErr(t, r.Release(alice, to), ErrStale)
	_, err = r.Fence(alice, 6, "late")
	wantErr(t, err, ErrStale)
	if r.Load(alice, Place{Generation: 5}) {
		t.Error("an older row was loaded")
	}
	if p, _ := r.Lookup(alice); p != to {
		t.Errorf("at %+v", p)
	}
}

// Names that nobody has are not kept, not even those of late messages.
func TestStrangersAreForgotten(t *testing.T) {
	r := New(Options{PendingPerUser: 2}, allOld, nil)
	for i := range 1000 {
		name := fmt.Sprintf("nobody%d@example.com", i)
		l := begin(t, r, name)
		route(t, l)
		l.End()
		l.End()
		wantErr(t, r.Release(name, Place{Generation: 9}), ErrStale)
		_, err := r.Fence(name, 0, "")
		wantErr(t, err, ErrStale)
		r.Lookup(name)
		r.Press(name, Cut, "")
		r.Sessions(name)
	}
	if n := r.Len(); n != 0 {
		t.Errorf("%d users in memory", n)
	}
	// One who waits is not forgotten by another's end.
	a, b := begin(t, r, alice), begin(t, r, alice)
	_, err := r.Begin(alice)
	wantErr(t, err, ErrPendingCap)
	stranger, err := r.BeginStranger("bert@example.com") // half of the room, rounded up
	wantErr(t, err, nil)
	_, err = r.BeginStranger("bert@example.com")
	wantErr(t, err, ErrPendingCap)
	begin(t, r, "bert@example.com").End()
	stranger.End()
	a.End()
	if n, _ := r.Pending(alice); n != 1 {
		t.Errorf("%d logins", n)
	}
	b.End()
	if n, _ := r.Pending(alice); n != 0 || r.Len() != 0 {
		t.Errorf("%d logins, %d users", n, r.Len())
	}
}

func TestCaps(t *testing.T) {
	r := New(Options{SessionsPerUser: 2, SessionsPerIP: 3}, allOld, nil)
	admit := func(user, addr string) (*Session, error) {
		l := begin(t, r, user)
		defer l.End()
		p, _ := route(t, l)
		return l.Admit(p, mailbox(netip.AddrPortFrom(netip.MustParseAddr(addr), 1)), &ender{})
	}
	must := func(user, addr string) *Session {
		t.Helper()
		s, err := admit(user, addr)
		if err != nil {
			t.Fatalf("%s from %s: %v", user, addr, err)
		}
		return s
	}
	a := must("a@example.com", "192.0.2.1")
	must("a@example.com", "192.0.2.2")
	_, err := admit("a@example.com", "192.0.2.3")
	wantErr(t, err, ErrUserCap)
	must("b@example.com", "::ffff:192.0.2.1") // the same address
	must("c@example.com", "192.0.2.1")
	_, err = admit("d@example.com", "192.0.2.1")
	wantErr(t, err, ErrAddressCap)
	a.Done()
	a.Done() // twice is once
	must("d@example.com", "192.0.2.1")
	_, err = admit("e@example.com", "192.0.2.1")
	wantErr(t, err, ErrAddressCap)
	must("a@example.com", "192.0.2.9") // his place is free again
	for i, addr := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"} {
		must(fmt.Sprintf("six%d@example.com", i), addr)
	}
	_, err = admit("six4@example.com", "2001:db8::4") // one /64
	wantErr(t, err, ErrAddressCap)
	must("six4@example.com", "2001:db8:0:1::4")
	r.Configure(Options{})
	must("e@example.com", "192.0.2.1")
	for _, s := range r.Sessions("") {
		s.Done()
	}
	if len(r.ips) != 0 || len(r.Sessions("")) != 0 {
		t.Errorf("left: %v", r.ips)
	}
}

func TestLoad(t *testing.T) {
	r := New(Options{}, allOld, nil)
	there := Place{Side: config.New, Epoch: 3, Generation: 7}
	if !r.Load(alice, there) {
		t.Error("not loaded")
	}
	if p, known := r.Lookup(alice); p != there || !known {
		t.Errorf("at %+v", p)
	}
	s := session(t, r, alice, mailbox(client), &ender{})
	if r.Load(alice, Place{Side: config.Old, Epoch: 4, Generation: 8}) {
		t.Error("I1: a session lives on the other side")
	}
	s.Done()
	if !r.Load(alice, Place{Side: config.Old, Epoch: 4, Generation: 8}) {
		t.Error("not loaded")
	}
	fence(t, r, alice, 9)
	if r.Load(alice, Place{Side: config.New, Epoch: 5, Generation: 10}) {
		t.Error("a fence was run over")
	}
	// A row that comes while a stranger logs in: his login is routed anew.
	l := begin(t, r, "bob@example.com")
	defer l.End()
	p, _ := route(t, l)
	if !r.Load("bob@example.com", Place{Side: config.New}) || !l.Moved(p) {
		t.Error("the login does not learn of the row")
	}
	_, err := l.Admit(p, mailbox(client), &ender{})
	wantErr(t, err, ErrMoved)
	if p, _ = route(t, l); p.Side != config.New {
		t.Errorf("routed to %v", p)
	}
	var seen int
	r.Users(func(string, Place, bool) { seen++ })
	if seen != 2 {
		t.Errorf("%d users", seen)
	}
}

// Users without a row follow the default until somebody logs in as them; then the side is theirs, and is told once.
func TestUnknownUsers(t *testing.T) {
	var told []string
	r := New(Options{}, allOld, func(user string, p Place) { told = append(told, user+" "+p.Side.String()) })
	l := begin(t, r, alice)
	p, _ := route(t, l)
	r.SetUnknown(func(string) config.Side { return config.New })
	if q, known := r.Lookup(alice); q.Side != config.New || known {
		t.Errorf("at %+v", q)
	}
	q, _ := route(t, l)
	_, err := l.Admit(p, mailbox(client), &ender{})
	wantErr(t, err, ErrMoved) // routed by the old default
	s, err := l.Admit(q, mailbox(client), &ender{})
	wantErr(t, err, nil)
	l.End()
	r.SetUnknown(allOld)
	if q, known := r.Lookup(alice); q.Side != config.New || !known {
		t.Errorf("the default moved one who has logged in: %+v", q)
	}
	session(t, r, alice, mailbox(client), &ender{}).Done()
	s.Done()
	if len(told) != 1 || told[0] != alice+" new" {
		t.Errorf("told %q", told)
	}
}

func TestKick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{}, allOld, nil)
		quick, slow := &ender{}, &ender{}
		a, b := session(t, r, alice, mailbox(client), quick), session(t, r, alice, submission(), slow)
		other := &ender{}
		defer session(t, r, "bob@example.com", mailbox(client), other).Done()
		quick.on = func(Pressure) { go a.Done() }
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if asked, left := r.Kick(ctx, alice, "bye", false); asked != 2 || left != 1 {
			t.Errorf("asked %d, left %d", asked, left)
		}
		slow.on = func(p Pressure) {
			if p == Cut {
				go b.Done()
			}
		}
		if asked, left := r.Kick(context.Background(), alice, "bye", true); asked != 1 || left != 0 {
			t.Errorf("asked %d, left %d", asked, left)
		}
		if asked, left := r.Kick(context.Background(), "nobody@example.com", "bye", true); asked != 0 || left != 0 {
			t.Errorf("asked %d, left %d", asked, left)
		}
		if asked, _ := other.seen(); len(asked) != 0 {
			t.Error("another user's session was asked")
		}
	})
}

// Press reaches the sessions of a fence only: one that comes late does not end those that began behind it.
func TestPress(t *testing.T) {
	r := New(Options{}, allOld, nil)
	e := &ender{}
	s := session(t, r, alice, mailbox(client), e)
	fence(t, r, alice, 1)
	r.Press(alice, CutReads, "now")
	if asked, _ := e.seen(); len(asked) != 2 || asked[1] != CutReads {
		t.Errorf("asked %v", asked)
	}
	s.Done()
	wantErr(t, r.Release(alice, Place{Side: config.New, Epoch: 1, Generation: 1}), nil)
	after := &ender{}
	defer session(t, r, alice, mailbox(client), after).Done()
	r.Press(alice, CutReads, "late")
	if asked, _ := after.seen(); len(asked) != 0 {
		t.Errorf("asked %v", asked)
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	r := New(Options{}, allOld, nil)
	r.Load(alice, Place{Side: config.New})
	if n := testing.AllocsPerRun(100, func() { r.Lookup(alice); r.Lookup("nobody@example.com") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
