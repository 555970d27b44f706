package syncer_test

import (
	"context"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestDoubt: while it is in doubt what the side that decides has lost, no delete is carried that nobody is known to have asked for, however few
// they are; a person's word lets them go, and new mail travels all the time.
func TestDoubt(t *testing.T) {
	t.Parallel()
	doubt := "perhaps a job took it"
	w := newFaultyWorld(t, faulty.Dovecot(), faulty.Cyrus(), 1, func(o *syncer.Options) {
		o.Doubt = func(context.Context, string) string { return doubt }
	})
	for range 8 {
		w.put(config.Old, "INBOX")
	}
	run := func(o syncer.RunOptions) *syncer.Report {
		t.Helper()
		rep, err := w.Run(t.Context(), "user", o)
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	run(syncer.RunOptions{})
	w.hosts[config.Old].Account.Expunge("INBOX", 1)
	w.put(config.Old, "INBOX")
	now := w.hosts[config.New].Account
	for range 2 {
		if rep := run(syncer.RunOptions{}); len(rep.Held) != 1 || rep.Expunged != [2]int64{} || now.Count("INBOX") != 9 {
			t.Errorf("%+v, %d on NEW", rep, now.Count("INBOX"))
		}
	}
	if rep := run(syncer.RunOptions{Deletes: true}); len(rep.Held) != 0 || now.Count("INBOX") != 8 {
		t.Errorf("%+v, %d on NEW", rep, now.Count("INBOX"))
	}
	doubt = ""
	w.hosts[config.Old].Account.Expunge("INBOX", 1)
	if rep := run(syncer.RunOptions{}); rep.Expunged[config.New] != 1 {
		t.Errorf("%+v", rep)
	}
}
