package syncer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// fill appends n letters to a mailbox, as fast as one connection takes them.
func fill(x *lab.Talk, box, flags string, from, n int) {
	for i := range n {
		x.Append(box, flags, letter(from+i))
	}
}

// spoil makes a Maildir folder one that can be listed and not be opened; the result makes it whole again.
func spoil(t *testing.T, h lab.Host, n int, folder string) (mend func()) {
	t.Helper()
	list := filepath.Join(h.Home(n), "Maildir", folder, "dovecot-uidlist")
	for _, err := range []error{os.Rename(list, list+".kept"), os.Mkdir(list, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	logs, _ := filepath.Glob(filepath.Join(h.Home(n), "Maildir", folder, "dovecot.index*"))
	for _, f := range logs {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(list); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(list+".kept", list); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFolderRefused has one side refuse to open folders while the other is still being looked at: they are left alone and named,
// everything else is done.
func TestFolderRefused(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	x := lab.Dial(t, l.Old, 1)
	names := []string{"A", "B", "C", "D"}
	for _, name := range names {
		x.Do(`CREATE "INBOX.%s"`, name)
		fill(x, "INBOX."+name, `\Seen`, 0, 150)
	}
	r.pass(t)
	x.Append("INBOX", "", letter(900))
	x.Close()
	var mend []func()
	for _, name := range names {
		mend = append(mend, spoil(t, l.Old, 1, "."+name))
	}
	rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Deletes: true})
	if err != nil || len(rep.Errors) != len(names) || rep.Copied != [2]int64{0, 1} || rep.Expunged != [2]int64{} {
		t.Fatalf("%+v %v", rep, err)
	}
	for _, e := range rep.Errors {
		if !strings.HasPrefix(e.Error, config.Old.String()+": ") {
			t.Errorf("%+v", e)
		}
	}
	for _, m := range mend {
		m()
	}
	r.pass(t)
	r.same(t)
}
