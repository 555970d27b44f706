package router

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
)

// A login is registered before the backend is asked: the fence finds it, cancels its talk to the old side, and what
// that side said does not count. I1.
func TestFenceCancelsALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Hold: time.Minute}, allOld, nil)
		l := begin(t, r, alice)
		defer l.End()
		p, ctx := route(t, l)
		if l.Moved(p) {
			t.Error("moved before the fence")
		}
		if !closed(fence(t, r, alice, 1)) {
			t.Error("a login delays the drain")
		}
		<-ctx.Done()
		wantErr(t, context.Cause(ctx), ErrMoved)
		if !l.Moved(p) {
			t.Error("the old side's answer would count")
		}
		_, err := l.Admit(p, mailbox(client), &ender{})
		wantErr(t, err, ErrMoved)
		time.AfterFunc(10*time.Second, func() {
			wantErr(t, r.Release(alice, Place{Side: config.New, Epoch: 1, Generation: 1}), nil)
		})
		q, ctx := route(t, l)
		if q.Side != config.New || ctx.Err() != nil {
			t.Errorf("routed to %+v, %v", q, ctx.Err())
		}
		if !l.Moved(p) || l.Moved(q) {
			t.Error("Moved does not tell the places apart")
		}
		s, err := l.Admit(q, mailbox(client), &ender{})
		wantErr(t, err, nil)
		<-ctx.Done() // what Route gave out ends with the login
		s.Done()
	})
}

// A flip that went through between Route and Admit is seen by the generation, even when the side is the same again.
func TestAdmitComparesTheGeneration(t *testing.T) {
	r := New(Options{}, allOld, nil)
	l := begin(t, r, alice)
	defer l.End()
	p, _ := route(t, l)
	for i, side := range []config.Side{config.New, config.Old} {
		g := int64(i + 1)
		fence(t, r, alice, g)
		wantErr(t, r.Release(alice, Place{Side: side, Epoch: g, Generation: g}), nil)
	}
	_, err := l.Admit(p, mailbox(client), &ender{})
	wantErr(t, err, ErrMoved)
	q, _ := route(t, l)
	s, err := l.Admit(q, mailbox(client), &ender{})
	wantErr(t, err, nil)
	if s.Epoch != 2 || s.Generation != 2 || s.Side != config.Old {
		t.Errorf("session of %+v", s.Place)
	}
	s.Done()
}

// I14: a held login is kept informed, and gets its answer within the limit, however many fences follow each other.
func TestHoldLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Hold: 22 * time.Second}, allOld, nil)
		fence(t, r, alice, 1)
		l := begin(t, r, alice)
		defer l.End()
		start, ticks := time.Now(), 0
		stop := make(chan struct{})
		go func() { // flips without end
			for g := int64(1); ; g++ {
				select {
				case <-stop:
					return
				case <-time.After(7 * time.Second):
				}
				_ = r.Release(alice, Place{Generation: g})
				if g%2 == 0 {
					time.Sleep(time.Second) // the login is let through, to be stopped before it is admitted
				}
				_, _ = r.Fence(alice, g+1, "again")
			}
		}()
		for {
			p, ctx, err := l.Route(context.Background(), func() error { ticks++; return nil })
			if errors.Is(err, ErrHeld) {
				break
			}
			<-ctx.Done() // it got through between two fences; the next one is there
			_, err = l.Admit(p, mailbox(client), &ender{})
			wantErr(t, err, ErrMoved)
		}
		// 14 s, through for 1 s, 8 s
		if took := time.Since(start); took != 23*time.Second || ticks != 3 {
			t.Errorf("held for %s, %d ticks", took, ticks)
		}
		close(stop)
		synctest.Wait()
	})
}

func TestHoldLimitIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Hold: 12 * time.Second}, allOld, nil)
		fence(t, r, alice, 1)
		l := begin(t, r, alice)
		defer l.End()
		start, ticks := time.Now(), 0
		_, _, err := l.Route(context.Background(), func() error { ticks++; return nil })
		wantErr(t, err, ErrHeld)
		if took := time.Since(start); took != 12*time.Second || ticks != 2 {
			t.Errorf("held for %s, %d ticks", took, ticks)
		}
	})
}

// A held login ends with its client: when he goes, or cannot be told to be patient.
func TestHeldLoginEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(Options{Hold: time.Hour}, allOld, nil)
		fence(t, r, alice, 1)
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(gone) })
		l := begin(t, r, alice)
		_, _, err := l.Route(ctx, nil)
		wantErr(t, err, gone)
		broken := errors.New("broken pipe")
		_, _, err = l.Route(context.Background(), func() error { return broken })
		wantErr(t, err, broken)
		l.End()
		if n, _ := r.Pending(alice); n != 0 {
			t.Errorf("%d logins", n)
		}
	})
}

// The session's end may come at any instant of a fence.
func TestDoneRacesFence(t *testing.T) {
	for range 300 {
		r := New(Options{}, allOld, nil)
		s := session(t, r, alice, mailbox(client), &ender{})
		go s.Done()
		<-fence(t, r, alice, 1)
		if n := len(r.Sessions(alice)); n != 0 {
			t.Fatalf("%d sessions", n)
		}
	}
}
