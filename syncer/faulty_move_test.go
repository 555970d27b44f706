package syncer_test

import (
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
)

// TestMoveRefused has NEW refuse to open the folder that a message was moved to: it stands where it was, and the next pass moves it.
func TestMoveRefused(t *testing.T) {
	w := newFaultyWorld(t, faulty.DovecotPrefixed(), faulty.Dovecot(), 1)
	old := w.hosts[config.Old].Account
	old.Create(w.name(config.Old, "Work"))
	for range 3 {
		w.deliver(config.Old, "INBOX")
		w.deliver(config.Old, "Work")
	}
	w.settle(t, "before")
	m, _ := old.Move("INBOX", 1, w.name(config.Old, "Work"))
	w.of("INBOX", m, m.Flags).path = "Work"
	w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "SELECT Work"})
	rep, err := w.pass(t)
	if err != nil || len(rep.Errors) != 1 {
		t.Errorf("%v %+v", err, rep)
	}
	w.settle(t, "afterwards")
	w.check(t, "afterwards", true)
}
