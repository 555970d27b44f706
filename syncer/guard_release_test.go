package syncer_test

import (
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestGuardReleases: what the guard holds back goes when it is seen again an hour later over another connection, and a person says so or
// it is the host's Trash; and not before, nor when it has grown.
func TestGuardReleases(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	now := time.Now()
	options := func(o *syncer.Options) {
		o.Confirm, o.Keep, o.Now = time.Hour, time.Minute, func() time.Time { return now }
	}
	var store syncer.Store
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) {
		options(o)
		store = o.Store
	})
	x := lab.Dial(t, l.Old, 1)
	defer x.Close()
	for i, name := range []string{"INBOX.Trash", "INBOX.Work", "INBOX.Large"} {
		_, _ = x.Try("CREATE %q", name)
		fill(x, name, "", 1000*i, []int{70, 70, 280}[i])
	}
	r.pass(t)
	wipe := func(name, uids string) {
		x.Do("SELECT %q", name)
		x.Do(`UID STORE %s +FLAGS.SILENT (\Deleted)`, uids)
		x.Do("UID EXPUNGE %s", uids)
	}
	is := func(what string, s *syncer.Syncer, deletes bool, done int64, held ...string) *syncer.Report {
		t.Helper()
		rep, err := s.Run(t.Context(), lab.User(1), syncer.RunOptions{Deletes: deletes})
		if err != nil {
			t.Fatal(err)
		}
		var folders []string
		for _, h := range rep.Held {
			folders = append(folders, strings.TrimPrefix(h.Folder, "INBOX."))
		}
		if got := strings.Join(folders, " "); rep.Expunged[config.New] != done || got != strings.Join(held, " ") {
			t.Errorf("%s: %d deletes carried, held back in %q; want %d and %q", what, rep.Expunged[config.New], got, done, held)
		}
		return rep
	}
	wipe("INBOX.Trash", "1:70")
	wipe("INBOX.Work", "1:70")
	rep := is("seen for the first time, and said to be meant", r.Syncer, true, 0, "Trash", "Work")
	later := now.Add(time.Hour).UTC().Format("15:04 MST")
	if why := rep.Held[1].Why; !strings.Contains(why, "run the pass with --deletes after") || !strings.Contains(why, later) {
		t.Errorf("what is to be done: %s", why)
	}
	if why := rep.Held[0].Why; !strings.Contains(why, "they go by themselves after") {
		t.Errorf("of Trash: %s", why)
	}
	now = now.Add(59 * time.Minute)
	is("too early", r.Syncer, true, 0, "Trash", "Work")
	now = now.Add(time.Minute)
	if rep := is("nobody says anything", r.Syncer, false, 70, "Work"); strings.Contains(rep.Held[0].Why, "after") {
		t.Errorf("what is to be done: %s", rep.Held[0].Why)
	}
	is("said to be meant", r.Syncer, true, 70)

	wipe("INBOX.Large", "1:80")
	is("a part", r.Syncer, true, 0, "Large")
	wipe("INBOX.Large", "81:250")
	now = now.Add(2 * time.Hour)
	is("far more than was seen", r.Syncer, true, 0, "Large")
	is("and just now", r.Syncer, true, 0, "Large")
	now = now.Add(time.Hour)
	wipe("INBOX.Large", "251:255")
	another := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { // the process has gone meanwhile
		options(o)
		o.Store = store
	})
	is("as it is written down", another.Syncer, false, 0, "Large")
	is("as it is written down, and meant", another.Syncer, true, 255)
}

// TestGuardReleasesFolders: an account that has lost most of its folders is looked at twice as well.
func TestGuardReleasesFolders(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	now := time.Now()
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Confirm, o.Now = time.Hour, func() time.Time { return now } }) // no time of grace
	x := lab.Dial(t, l.Old, 1)
	defer x.Close()
	for i, name := range []string{"INBOX.One", "INBOX.Two", "INBOX.Three"} {
		x.Do("CREATE %q", name)
		fill(x, name, "", 1000*i, 3)
	}
	r.pass(t)
	for _, name := range []string{"INBOX.One", "INBOX.Two", "INBOX.Three"} {
		x.Do("DELETE %q", name)
	}
	for i, want := range []int{0, 0, 3} {
		rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Deletes: i != 1})
		if err != nil || rep.Deleted[config.New] != want || len(rep.Held) != 3-want {
			t.Errorf("pass %d: %+v %v", i, rep, err)
		}
		if i == 1 {
			now = now.Add(time.Hour)
		}
	}
}
