package syncer_test

import (
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestClockJumps: a folder that is gone is deleted on the other side when that was so for its time of grace: not early when the machine's
// clock is set forward by days, while the process runs or while it does not, and not never when it is set back.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	var wall, ran atomic.Int64 // the machine's clock, as it is off, and how long the process has run
	began := time.Now()
	clock := func() *syncer.Clock {
		start := ran.Load()
		return syncer.NewClockOf(began.Add(time.Duration(start+wall.Load())), func() time.Duration { return time.Duration(ran.Load() - start) })
	}
	var o syncer.Options
	w := newFaultyWorld(t, faulty.Dovecot(), faulty.Cyrus(), 1, func(x *syncer.Options) {
		x.Grace, x.Clock = day, clock()
		x.Now = func() time.Time { return began.Add(time.Duration(wall.Load() + ran.Load())) }
		o = *x
	})
	old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
	pass := func() (deleted int) {
		t.Helper()
		rep, err := w.Run(t.Context(), "user", syncer.RunOptions{}) // nobody says that it is meant
		if err != nil || len(rep.Errors) > 0 {
			t.Fatal(err, rep)
		}
		return rep.Deleted[config.New]
	}
	begin := func(name string) {
		t.Helper()
		old.Create(old.Name(name))
		old.Append(old.Name(name), nil, time.Now(), []byte("Subject: "+name+"\r\n\r\nx\r\n"))
		pass()
		pass()
		old.Delete(old.Name(name))
		for range 2 {
			if pass() != 0 {
				t.Fatal("deleted at once")
			}
		}
	}
	kept := func(what string) {
		t.Helper()
		if changed, err := w.Peek(t.Context(), "user"); err != nil || changed {
			t.Errorf("%s: a look says %v, %v", what, changed, err)
		}
		if pass() != 0 {
			t.Errorf("%s: it is deleted early", what)
		}
	}
	gone := func(what string) {
		t.Helper()
		if changed, err := w.Peek(t.Context(), "user"); err != nil || !changed {
			t.Errorf("%s: a look says %v, %v", what, changed, err)
		}
		if pass() != 1 || now.Rename(now.Name("One"), now.Name("Two")) {
			t.Errorf("%s: it is not deleted", what)
		}
	}
	_, _ = w.Peek(t.Context(), "user")

	begin("One")
	_, _ = w.Peek(t.Context(), "user")
	wall.Add(int64(2 * day))
	kept("set forward")
	ran.Add(int64(23 * time.Hour))
	kept("before a day is over")
	wall.Add(int64(-3 * day))
	kept("set back")
	ran.Add(int64(2 * time.Hour))
	gone("behind a day")

	begin("One")
	ran.Add(int64(time.Minute))
	wall.Add(int64(5 * day)) // between two processes
	o.Clock = clock()
	w.Close()
	w.Syncer = syncer.New(o)
	_, _ = w.Peek(t.Context(), "user")
	kept("in the next process")
	ran.Add(int64(30 * time.Minute))
	kept("half an hour later")
	ran.Add(int64(31 * time.Minute))
	gone("when that process has seen it for an hour itself")
}
