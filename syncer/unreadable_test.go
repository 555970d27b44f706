package syncer_test

import (
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
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

// TestPassing: a report says what may be over the next time, and not of what stays.
func TestPassing(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	w.put(config.Old, "INBOX", "a", 10)
	w.hosts[config.Old].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Text: "Mailbox doesn't exist", Only: "EXAMINE INBOX", Times: 1})
	if r, err := w.pass(t); err != nil || len(r.Errors) != 1 || !r.Passing() {
		t.Errorf("%v, %+v", err, r)
	}
	if r := w.run(); r.Passing() {
		t.Errorf("%+v", r)
	}
	w.hosts[config.New].Account.Limit(1000)
	w.put(config.Old, "INBOX", "large", 2000)
	if r := w.run(); len(r.Quarantine) != 1 || r.Passing() {
		t.Errorf("%+v", r)
	}
	w.hosts[config.Old].Account.Hide("INBOX", 1, 0)
	w.put(config.Old, "INBOX", "hidden", 10)
	w.hosts[config.Old].Account.Hide("INBOX", 2, 1000)
	for range 4 {
		w.later(time.Second)
		r := w.run()
		if len(r.Quarantine) != 2 {
			t.Errorf("%+v", r)
		}
		t.Log(r.Passing())
	}
	if r := w.run(); r.Passing() {
		t.Errorf("it is unreadable for good: %+v", r)
	}
}
