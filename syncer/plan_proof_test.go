package syncer_test

import (
	"fmt"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestRenameWithNewUIDs renames folders on a server that gives them another UIDVALIDITY and other UIDs then. Where every message
// is the same it is a rename on the other side too: its UIDs live on. Where it is not, mail is moved into a new folder.
func TestRenameWithNewUIDs(t *testing.T) {
	courier, l := lab.StartCourier(t), lab.Start(t)
	r := newRig(t, courier.Host, l.New, 1, func(o *syncer.Options) { o.Grace = -1 })
	x := lab.Dial(t, courier.Host, 1)
	for i, name := range []string{"Work", "Work.Sub", "Twin", "Changed"} {
		x.Do(`CREATE "INBOX.%s"`, name)
		x.Do(`SUBSCRIBE "INBOX.%s"`, name)
		for j := range 4 + i {
			x.Append("INBOX."+name, []string{"", `\Seen`, `\Flagged`}[j%3], letter(100*i+j))
		}
	}
	x.Append("INBOX.Work", "", "Subject: without an ID\r\n\r\nFirst.\r\n")
	x.Append("INBOX.Work", "", "Subject: without an ID\r\n\r\nOther.\r\n")
	r.pass(t)
	r.same(t)
	y := lab.Dial(t, l.New, 1)
	state := func(name string) string {
		y.Do(`SELECT "%s"`, name)
		out := fmt.Sprint(y.UIDs())
		y.Do("SELECT INBOX")
		return out
	}
	work, sub := state("Work"), state("Work/Sub")

	x.Do(`RENAME "INBOX.Work" "INBOX.Arbeit"`)
	x.Do(`SELECT "INBOX.Arbeit"`)
	x.Do(`UID STORE %d +FLAGS (\Answered)`, x.UIDs()[0])
	rep := r.pass(t)
	if rep.Renamed != [2]int{0, 1} || rep.Created != [2]int{} || rep.Copied != [2]int64{} || rep.Moved != [2]int64{} || rep.Expunged != [2]int64{} ||
		rep.Deleted != [2]int{} || rep.Flags != [2]int64{0, 1} {
		t.Errorf("a rename: %+v", rep)
	}
	if a, b := state("Arbeit"), state("Arbeit/Sub"); a != work || b != sub {
		t.Errorf("UIDs on NEW were %s and %s, and are %s and %s", work, sub, a, b)
	}
	r.same(t)
	r.quiet(t)

	// As many messages, but not the same: no rename.
	x.Do(`RENAME "INBOX.Changed" "INBOX.Other"`)
	x.Do(`SELECT "INBOX.Other"`)
	x.Do(`UID STORE %d +FLAGS (\Deleted)`, x.UIDs()[3])
	x.Do("EXPUNGE")
	x.Append("INBOX.Other", "", letter(777))
	rep = r.pass(t)
	if rep.Renamed != [2]int{} || rep.Created != [2]int{0, 1} || rep.Copied[config.New] == 0 {
		t.Errorf("a folder with another message in it: %+v", rep)
	}
	r.pass(t)
	r.same(t)
	r.quiet(t)
}
