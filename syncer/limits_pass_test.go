package syncer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// limitedWorld is an account with n messages on OLD, in two folders, and a syncer with limits. With Dovecot's MULTIAPPEND, an APPEND could
// hold them all.
func limitedWorld(t *testing.T, n int, s syncer.LimitSettings) (*faultyWorld, *syncer.Limits) {
	t.Helper()
	l := syncer.NewLimits(s)
	w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 7, func(o *syncer.Options) { o.Limits, o.Batch, o.Connections = l, 1000, 2 })
	w.hosts[config.Old].Account.Create(w.name(config.Old, "Work"))
	for i := range n {
		w.deliver(config.Old, []string{"INBOX", "Work"}[i%2])
	}
	return w, l
}

// mail counts the messages on NEW.
func (w *faultyWorld) mail() int {
	return w.hosts[config.New].Account.Count("INBOX") + w.hosts[config.New].Account.Count(w.name(config.New, "Work"))
}

// TestLimitsHold makes first copies under each limit: they take the time that they must, and lose nothing.
func TestLimitsHold(t *testing.T) {
	for _, c := range []struct {
		name string
		s    syncer.LimitSettings
	}{
		{"messages read", syncer.LimitSettings{Sides: [2]syncer.Rate{{Messages: 40}, {}}}},
		{"messages written", syncer.LimitSettings{Sides: [2]syncer.Rate{{}, {Messages: 40}}}},
		{"messages of the user", syncer.LimitSettings{User: syncer.Rate{Messages: 40}}},
		{"bytes", syncer.LimitSettings{Sides: [2]syncer.Rate{{Bytes: 12000}, {Bytes: 6000}}}},
		{"bytes of the user", syncer.LimitSettings{User: syncer.Rate{Bytes: 6000}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, l := limitedWorld(t, 80, c.s)
			began := time.Now()
			rep, err := w.Run(t.Context(), "user", syncer.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(began)
			lowest := float64(rep.Copied[config.New]-40) / 40
			if c.s.Sides[1].Bytes+c.s.User.Bytes > 0 {
				lowest = float64(rep.Bytes[config.New]-6000) / 6000
			}
			if lowest < 0.5 {
				t.Fatalf("%d messages of %d bytes are too few to tell", rep.Copied[config.New], rep.Bytes[config.New])
			}
			if took.Seconds() < lowest*0.97 { // the last part of all is taken before it comes
				t.Errorf("%d messages of %d bytes took %s, and no less than %.2f s would do", rep.Copied[config.New], rep.Bytes[config.New], took, lowest)
			}
			for side, r := range l.Present() {
				if r.Messages == 0 || r.Bytes == 0 {
					t.Errorf("%s: present rate %+v", config.Side(side), r)
				}
			}
			w.check(t, c.name, true)
		})
	}
}

// TestLimitsNoOpenAppend: while a pass waits, everything that it has read is in a mailbox: no APPEND stands open.
func TestLimitsNoOpenAppend(t *testing.T) {
	const rate = 10
	w, _ := limitedWorld(t, 0, syncer.LimitSettings{Sides: [2]syncer.Rate{{}, {Messages: rate}}})
	for range 3 * rate {
		w.deliver(config.Old, "INBOX")
	}
	looked := 0
	last := int64(0)
	_, err := w.Run(t.Context(), "user", syncer.RunOptions{Progress: func(g syncer.Progress) {
		if g.Messages[0] > last && g.Phase == "copy" {
			last = g.Messages[0]
			if want := int(last) - rate; want > 0 {
				looked++
				if got := w.mail(); got < want {
					t.Errorf("%d messages are read, and %d are there", last, got)
				}
			}
		}
	}})
	if err != nil || looked == 0 {
		t.Fatalf("%v, looked %d times", err, looked)
	}
	w.check(t, "at the end", true)
}

// TestLimitsLive lifts a limit under which the pass would take minutes.
func TestLimitsLive(t *testing.T) {
	w, l := limitedWorld(t, 100, syncer.LimitSettings{User: syncer.Rate{Messages: 1}})
	lifted := false
	began := time.Now()
	if _, err := w.Run(t.Context(), "user", syncer.RunOptions{Progress: func(g syncer.Progress) {
		if !lifted && g.Messages[0] > 0 {
			lifted = true
			time.AfterFunc(50*time.Millisecond, func() { l.Set(syncer.LimitSettings{}) })
		}
	}}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	w.check(t, "at the end", true)
}

// TestLimitsCancelled ends a pass that waits; the next one goes on.
func TestLimitsCancelled(t *testing.T) {
	w, l := limitedWorld(t, 20, syncer.LimitSettings{Sides: [2]syncer.Rate{{Messages: 1}, {}}})
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	began := time.Now()
	_, err := w.Run(ctx, "user", syncer.RunOptions{Progress: func(g syncer.Progress) {
		if g.Messages[0] > 0 {
			time.AfterFunc(100*time.Millisecond, func() { cancel(why) })
		}
	}})
	if took := time.Since(began); !errors.Is(err, why) || took > 8*time.Second {
		t.Errorf("ended with %v after %s", err, took)
	}
	if n := w.mail(); n == 0 || n > 12 {
		t.Errorf("%d of %d messages are there", n, len(w.want))
	}
	l.Set(syncer.LimitSettings{})
	if _, err := w.pass(t); err != nil {
		t.Fatal(err)
	}
	w.settle(t, "cancelled")
	w.check(t, "cancelled", true)
}
