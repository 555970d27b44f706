package syncer_test

import (
	"sync/atomic"
	"testing"

	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
)

// TestDeletesComeLast: mail that goes to another folder, and cannot be known as the same, is copied and expunged on the other side. When it
// is expunged the copy is there: a pass that ends in between leaves it twice rather than nowhere.
func TestDeletesComeLast(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	behind := newRelay(t, lab.Addr(l.New.IMAP))
	var looks, there atomic.Int64
	behind.before = map[string]func(){"UID EXPUNGE": func() {
		looks.Add(1)
		a, err := corpus.Snapshot(lab.Addr(l.New.IMAP), lab.User(1), lab.Password(1))
		if err == nil && a.Folders[corpus.PathOf("Alerts")] != nil {
			there.Store(int64(a.Folders[corpus.PathOf("Alerts")].Count))
		}
	}}
	through := l.New
	through.IMAP = behind.port()
	r := newRig(t, l.Old, through, 1, nil)
	x := lab.Dial(t, l.Old, 1)
	x.Do(`CREATE "INBOX.Alerts"`)
	for i := range 3 {
		x.Append("INBOX", "", alert(97+i))
	}
	r.pass(t)
	x.Do("SELECT INBOX")
	x.Do(`UID MOVE 1:2 "INBOX.Alerts"`)
	x.Close()
	rep := r.pass(t)
	if rep.Copied[1] != 2 || rep.Expunged[1] != 2 {
		t.Fatalf("it was not copied and expunged: %+v", rep)
	}
	if looks.Load() == 0 || there.Load() != 2 {
		t.Errorf("%d copies of 2 are there at the time of %d expunges", there.Load(), looks.Load())
	}
	r.hosts[1] = l.New
	r.same(t)
}
