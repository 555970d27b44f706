package syncer_test

import (
	"testing"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
)

// TestDovecot copies an account with everything in it, and the changes made to it afterwards.
func TestDovecot(t *testing.T) {
	l := lab.Start(t)
	r := newRig(t, l.Old, l.New, 1, nil)
	corpus.Load(t, l.Old, 1, corpus.Mailbox(800, 40, 1, corpus.Options{Mean: 3000}))
	rep := r.pass(t)
	t.Logf("%+v", rep)
	for _, d := range corpus.Diff(r.snapshot(t, config.Old), r.snapshot(t, config.New), corpus.DiffOptions{Limit: 20}) {
		t.Error(d)
	}
	for range 2 {
		t.Logf("%+v", r.pass(t))
	}
}
