package syncer_test

import (
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
)

// TestListBreaksOff has the connection end in the midst of the list of mailboxes: it is asked for on another one.
func TestListBreaksOff(t *testing.T) {
	w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1)
	w.deliver(config.Old, "INBOX")
	for _, h := range w.hosts {
		h.Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Inside}, Only: "LIST ", Times: 1})
	}
	rep, err := w.pass(t)
	if err != nil || len(rep.Errors) > 0 {
		t.Fatalf("%v %+v", err, rep)
	}
	w.settle(t, "afterwards")
	w.check(t, "afterwards", true)
}
