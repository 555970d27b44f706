package syncer_test

import (
	"context"
	"fmt"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestRenameWithNewUIDs renames folders on a server that gives them another UIDVALIDITY and other UIDs then. Where every message
// is the same it is a rename on the other side too: its UIDs live on. Where it is not, mail is moved into a new folder.
func TestRenameWithNewUIDs(t *testing.T) {
	t.Parallel()
	courier, l := lab.StartCourier(t), lab.Start(t, lab.MailboxesOnly())
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

// TestSameSecond renames folders on a server that gave them one UIDVALIDITY: only MAILBOXID tells them apart. A folder under the
// name of another is not taken for that one.
func TestSameSecond(t *testing.T) {
	t.Parallel()
	l, cyrus := lab.Start(t, lab.MailboxesOnly()), lab.StartCyrus(t)
	r := newRig(t, l.Old, cyrus.Host, 1, func(o *syncer.Options) {
		o.Route = func(context.Context, string) (config.Side, int64, error) { return config.New, 0, nil }
	})
	x := lab.Dial(t, l.Old, 1)
	for i, name := range []string{"A", "B", "C", "D", "E", "F"} {
		x.Do(`CREATE "INBOX.%s"`, name)
		for j := range 4 {
			x.Append("INBOX."+name, []string{"", `\Seen`}[j%2], letter(10*i+j))
		}
	}
	r.pass(t)
	r.same(t)
	boxes, err := r.store.Mailboxes(t.Context(), lab.User(1))
	if err != nil {
		t.Fatal(err)
	}
	var alike [][2]string // of one UIDVALIDITY
	single := map[uint32]string{}
	for _, m := range boxes {
		name, v := m.Name[config.New], m.Validity[config.New]
		switch {
		case m.Pairs == 0:
		case single[v] == "":
			single[v] = name
		default:
			alike = append(alike, [2]string{single[v], name})
			single[v] = ""
		}
	}
	if len(alike) < 2 {
		t.Fatalf("the server gave each folder its own UIDVALIDITY: %+v", boxes)
	}
	y := lab.Dial(t, cyrus.Host, 1)
	// Two change names, and no name is gone.
	a, b := alike[0][0], alike[0][1]
	y.Do(`RENAME "%s" "%sT"`, a, cyrus.Prefix)
	y.Do(`RENAME "%s" "%s"`, b, a)
	y.Do(`RENAME "%sT" "%s"`, cyrus.Prefix, b)
	y.Do(`SELECT "%s"`, a)
	y.Do(`UID STORE 1 +FLAGS (\Flagged)`)
	y.Do(`SELECT "%s"`, b)
	y.Do(`UID STORE 1 +FLAGS (\Answered)`)
	settles(t, r)
	// One takes the name of another that is gone.
	a, b = alike[1][0], alike[1][1]
	y.Do(`DELETE "%s"`, a)
	y.Do(`RENAME "%s" "%s"`, b, a)
	settles(t, r)
}

// settles makes passes until what is not sure was settled, by moves and copies. NEW decides, and stays as it is.
func settles(t *testing.T, r *rig) {
	t.Helper()
	want := r.snapshot(t, config.New)
	for range 3 {
		if _, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Deletes: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range corpus.Diff(want, r.snapshot(t, config.New), corpus.DiffOptions{NoSubscriptions: true}) {
		t.Errorf("NEW is another: %s", d)
	}
	v, err := r.Verify(t.Context(), lab.User(1), syncer.VerifyOptions{Deep: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range v.Folders {
		for _, d := range f.Differences {
			t.Errorf("%q: %s, %s", f.Name, d.Sentence(), d.Message())
		}
	}
}
