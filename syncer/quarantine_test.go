package syncer_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestQuarantineEnds has NEW refuse what it takes later: then nothing is in quarantine any more.
func TestQuarantineEnds(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	var later time.Duration
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Now = func() time.Time { return time.Now().Add(later) } })
	x := lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", `\Seen`, 0, 5)
	r.pass(t)
	fill(x, "INBOX", `\Seen`, 10, 3)
	x.Close()
	box := filepath.Join(l.New.Home(1), "sdbox", "mailboxes", "INBOX", "dbox-Mails")
	if err := os.Chmod(box, 0o500); err != nil {
		t.Fatal(err)
	}
	rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{})
	if err != nil || rep.Copied != [2]int64{} || len(rep.Quarantine) != 3 {
		t.Fatalf("%+v %v", rep, err)
	}
	if err := os.Chmod(box, 0o700); err != nil {
		t.Fatal(err)
	}
	later = 2 * time.Hour
	rep = r.pass(t)
	if rep.Copied != [2]int64{0, 3} || len(rep.Quarantine) != 0 {
		t.Errorf("%+v", rep)
	}
	list, err := r.store.Quarantine(t.Context(), lab.User(1))
	if err != nil || len(list) != 0 {
		t.Errorf("in quarantine, though it was copied: %+v %v", list, err)
	}
	r.same(t)
	later += time.Minute
	if rep := r.pass(t); len(rep.Quarantine) != 0 || rep.Copied != [2]int64{} {
		t.Errorf("%+v", rep)
	}
}
