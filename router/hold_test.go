package router

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
)

// While the rules for people without a row change, their logins wait, wherever they are, and those who have a row log in.
func TestHoldNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		side, told := config.Old, 0
		r := New(Options{Hold: time.Minute}, func(string) config.Side { return side }, func(string, Place) { told++ })
		wantTrue(t, r.Load(alice, Place{}))
		session(t, r, "known@example.com", mailbox(client), &ender{}) // owed a row: he has one as good as written
		late := begin(t, r, "new@example.com")
		defer late.End()
		p, ctx := route(t, late)
		r.HoldAll(Newcomers, true)
		if told != 1 {
			t.Errorf("%d rows owed", told)
		}
		wantErr(t, context.Cause(ctx), ErrMoved)
		wantTrue(t, late.Moved(p))
		_, err := late.Admit(p, mailbox(client), &ender{})
		wantErr(t, err, ErrMoved)
		session(t, r, alice, mailbox(client), &ender{})
		session(t, r, "known@example.com", mailbox(client), &ender{})
		held := begin(t, r, "other@example.com")
		defer held.End()
		got := make(chan Place)
		go func() { got <- goesTo(t, held) }()
		synctest.Wait()
		if _, n := r.Pending("other@example.com"); n != 1 || !r.Held(Newcomers) {
			t.Errorf("%d held", n)
		}
		time.Sleep(10 * time.Second)
		side = config.New
		r.HoldAll(Newcomers, false)
		if q := <-got; q.Side != config.New {
			t.Errorf("routed to %v", q.Side)
		}
		// What was routed by the old rules is not admitted by the new ones.
		_, err = late.Admit(p, mailbox(client), &ender{})
		wantErr(t, err, ErrMoved)
		if q, _ := route(t, late); q.Side != config.New {
			t.Errorf("routed to %v", q.Side)
		}
	})
}

// An admission that is under way when the hold begins is owed its row before the hold stands.
func TestHoldWaitsForAdmissions(t *testing.T) {
	var owed atomic.Bool
	begun := make(chan struct{})
	r := New(Options{}, allOld, func(string, Place) { close(begun); time.Sleep(50 * time.Millisecond); owed.Store(true) })
	l := begin(t, r, alice)
	defer l.End()
	p, _ := route(t, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := l.Admit(p, mailbox(client), &ender{})
		wantErr(t, err, nil)
	}()
	<-begun
	r.HoldAll(Newcomers, true)
	wantTrue(t, owed.Load())
	<-done
}

// A process that is no node any more ends what it has, forgets all, and loads it anew: also what is older than what it knew.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Hold: time.Minute}, allOld, nil)
		wantTrue(t, r.Load(alice, Place{Generation: 9, Epoch: 2}))
		fence(t, r, "bob@example.com", 7)
		e := &ender{}
		s := session(t, r, alice, mailbox(client), e)
		r.HoldAll(Everybody, true)
		r.CutAll("away")
		if asked, _ := e.seen(); len(asked) != 1 || asked[0] != Cut {
			t.Errorf("asked %v", asked)
		}
		wantTrue(t, !r.Forget())
		s.Done()
		l := begin(t, r, alice)
		defer l.End()
		got := make(chan Place)
		go func() { got <- goesTo(t, l) }()
		synctest.Wait()
		wantTrue(t, r.Forget())
		if n := r.Len(); n != 1 { // the one who waits
			t.Errorf("%d users", n)
		}
		wantTrue(t, r.Load(alice, Place{Generation: 3, Epoch: 1, Side: config.New}))
		synctest.Wait()
		select {
		case q := <-got:
			t.Fatalf("let on to %+v", q)
		default:
		}
		r.HoldAll(Everybody, false)
		if q := <-got; q.Side != config.New {
			t.Errorf("%+v", q)
		}
		wantTrue(t, len(r.Fenced()) == 0)
	})
}

// Who comes into the middle of a flip holds its user too, and lets him on like the others.
func TestLoadFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Hold: time.Minute}, allOld, nil)
		wantTrue(t, r.LoadFenced(alice, Place{Generation: 4}))
		wantTrue(t, !r.Load(alice, Place{Generation: 4}))
		if f := r.Fenced(); f[alice].Generation != 4 {
			t.Errorf("fenced %v", f)
		}
		_, err := r.Fence(alice, 3, "late")
		wantErr(t, err, ErrStale)
		wantTrue(t, closed(fence(t, r, alice, 5)))
		wantErr(t, r.Release(alice, Place{Side: config.New, Epoch: 1, Generation: 6}), nil)
		s := session(t, r, alice, mailbox(client), &ender{})
		if s.Side != config.New {
			t.Errorf("on %v", s.Side)
		}
		wantTrue(t, !r.LoadFenced(alice, Place{Side: config.New, Epoch: 1, Generation: 5})) // older
		wantTrue(t, !r.LoadFenced(alice, Place{Generation: 7}))                             // his session is elsewhere
		wantTrue(t, len(r.Fenced()) == 0 && !r.Held(Newcomers))                             // nothing came of it
		wantTrue(t, r.LoadFenced("bob@example.com", Place{Epoch: 5}))                       // whom nobody knew
		wantErr(t, r.Release("bob@example.com", Place{Epoch: 5}), nil)                      // the very same row
	})
}

func goesTo(t tester, l *Login) Place {
	p, _, err := l.Route(context.Background(), nil)
	wantErr(t, err, nil)
	return p
}

func wantTrue(t tester, ok bool) {
	t.Helper()
	if !ok {
		t.Errorf("it is not so")
	}
}
