package syncer_test

import (
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestStandIn: what Courier gives in place of a message that it cannot open is never copied. A message that can be read the next time is carried in the
// same pass, one that cannot by one of the next, at once, and one that has gone leaves nothing behind.
func TestStandIn(t *testing.T) {
	t.Parallel()
	for _, times := range []int{1, 3, 1000} {
		w := newAsideWorld(t, faulty.Courier(), faulty.Dovecot())
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		for _, what := range []string{"a", "b", "c"} {
			w.put(config.Old, "INBOX", what, 10)
		}
		old.Hide("INBOX", 1, times)
		w.pass(t)
		if n := new.Count("INBOX"); times == 1 && n != 3 || times > 1 && n != 2 {
			t.Errorf("%d times: NEW has %d messages behind the first pass", times, n)
		}
		if times == 1000 {
			old.Expunge("INBOX", 1)
		}
		w.run()
		if n := new.Count("INBOX"); n != old.Count("INBOX") || len(w.rows()) > 0 {
			t.Errorf("%d times: NEW has %d messages, %d in quarantine", times, n, len(w.rows()))
		}
		for _, m := range new.Contents()["INBOX"] {
			if strings.Contains(string(m.Body), "unavailable") {
				t.Errorf("%d times: NEW has %q", times, m.Body)
			}
		}
		w.verified(true, 0, 0)
	}
}

// TestStandInIsNoCopy: a copy that cannot be opened while a lost append is looked for is not taken for missing.
func TestStandInIsNoCopy(t *testing.T) {
	t.Parallel()
	d := &dyingAmid{}
	w := &asideWorld{newFaultyWorld(t, faulty.Dovecot(), faulty.Courier(), 1, func(o *syncer.Options) {
		d.Store = o.Store
		o.Store = d
	}), t}
	w.put(config.Old, "INBOX", "a", 10)
	d.atEnd.Store(true)
	new := w.hosts[config.New].Account
	if _, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err == nil || new.Count("INBOX") != 1 {
		t.Fatalf("%v, NEW has %d messages", err, new.Count("INBOX"))
	}
	new.Hide("INBOX", 0, 2)
	w.pass(t)
	w.run()
	if n := new.Count("INBOX"); n != 1 {
		t.Errorf("NEW has %d messages", n)
	}
}
