package syncer_test

import (
	"fmt"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestHalfFetched has OLD leave bodies out of its answer and refuse in the end, while the next folder is under way on the same two
// connections: the APPEND that stays half done is given up, and nobody waits for it.
func TestHalfFetched(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), seed, func(o *syncer.Options) { o.Connections, o.Batch = 1, 100 })
		old := w.hosts[config.Old].Account
		for i := range 6 {
			name, n := fmt.Sprintf("Work %d", i), 3
			if i == 0 {
				n = 4 // the longest is copied first
			}
			old.Create(name)
			for old.Count(name) < n {
				w.deliver(config.Old, name)
			}
			for old.Count(name) > n { // a twin too many
				m, _ := old.Expunge(name, n)
				w.drop(name, m)
			}
		}
		w.hosts[config.Old].Fail(&faulty.Faults{Seed: seed, Rate: 1, Kinds: []faulty.Kind{faulty.Half}, Only: "UID FETCH 1:4",
			Wait: 20 * time.Millisecond})
		_, _ = w.pass(t)
		what := fmt.Sprintf("seed %d", seed)
		w.settle(t, what)
		w.check(t, what, true)
	}
}

// drop forgets a message.
func (w *faultyWorld) drop(path string, m faulty.Message) {
	l := w.of(path, m, m.Flags)
	for i, x := range w.want {
		if x == l {
			w.want = append(w.want[:i:i], w.want[i+1:]...)
			return
		}
	}
}

// TestListingLies has OLD leave messages out of a scan and say OK: what is missing was not
// deleted.
func TestListingLies(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), seed)
		for range 12 {
			w.deliver(config.Old, "INBOX")
		}
		w.settle(t, "before")
		there := w.hosts[config.New].Account.Count("INBOX")
		w.clock.Add(int64(25 * time.Hour)) // every message is looked at
		w.hosts[config.Old].Fail(&faulty.Faults{Seed: seed, Rate: 1, Kinds: []faulty.Kind{faulty.Lies}, Only: "UID FETCH 1:*"})
		rep, err := w.pass(t)
		if err == nil && len(rep.Errors) == 0 {
			t.Errorf("seed %d: nobody noticed", seed)
		}
		if n := w.hosts[config.New].Account.Count("INBOX"); n != there {
			t.Errorf("seed %d: NEW has %d messages, and had %d", seed, n, there)
		}
		w.settle(t, "afterwards")
		w.check(t, fmt.Sprintf("seed %d", seed), true)
	}
}
