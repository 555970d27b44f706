package syncer_test

import (
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestPartialListing has OLD leave a message out of a listing that it says is complete, while messages go from another folder: what is
// missing here is not what went there, and nothing is deleted.
func TestPartialListing(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	var store syncer.Store
	first := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { store = o.Store })
	x := lab.Dial(t, l.Old, 1)
	x.Do(`CREATE "INBOX.Work"`)
	x.Append("INBOX.Work", "", letter(100))
	fill(x, "INBOX", "", 0, 10)
	x.Do("SELECT INBOX") // takes \Recent
	x.Do(`SELECT "INBOX.Work"`)
	first.pass(t)
	through := func(answer [2]string, hide ...string) *rig {
		behind := newRelay(t, lab.Addr(l.Old.IMAP))
		behind.hide, behind.answer = append(hide, "CONDSTORE", "QRESYNC"), answer
		host := l.Old
		host.IMAP = behind.port()
		return newRig(t, host, l.New, 1, func(o *syncer.Options) { o.Store = store })
	}
	r := through([2]string{"* 0 RECENT\r\n", "* 1 EXPUNGE\n"}, "FETCH (UID 5 ") // that of a folder is read as news of the one before
	rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Deletes: true})
	if err != nil || rep.Expunged != [2]int64{} || len(rep.Errors) != 1 || !strings.Contains(rep.Errors[0].Error, "did not show the whole mailbox") {
		t.Errorf("%+v %v", rep, err)
	}
	if n := r.snapshot(t, config.New).Messages(); n != 11 {
		t.Errorf("NEW has %d messages", n)
	}
	// What goes from the folder itself while it is listed is no flaw of the listing.
	r = through([2]string{"* 10 FETCH (UID 10 FLAGS ())\r\n", "* 10 EXPUNGE                \r\n"})
	if rep := r.pass(t); rep.Expunged != [2]int64{0, 1} {
		t.Errorf("%+v", rep)
	}
	x.Close()
}
