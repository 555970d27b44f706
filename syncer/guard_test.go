package syncer_test

import (
	"fmt"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestAccountEmptied has OLD lose its mail in small portions: no folder loses as much as would be noticed, the account all of it. Nothing
// of it is deleted on NEW until a person says so; what one person deletes in a day goes on.
func TestAccountEmptied(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	x := lab.Dial(t, l.Old, 1)
	const folders, each = 12, 8
	empty := func(folder int, uids string) {
		x.Do(`SELECT "INBOX.%d"`, folder)
		x.Do(`UID STORE %s +FLAGS (\Deleted)`, uids)
		x.Do(`UID EXPUNGE %s`, uids)
	}
	for i := range folders {
		x.Do(`CREATE "INBOX.%d"`, i)
		fill(x, fmt.Sprintf("INBOX.%d", i), "", 100*i, each)
	}
	r.pass(t)
	left := func() int { return r.snapshot(t, config.New).Messages() }
	for i := range 3 { // 9 messages here and there
		empty(i, "1:3")
	}
	if rep := r.pass(t); rep.Expunged[config.New] != 9 || len(rep.Held) > 0 || left() != folders*each-9 {
		t.Fatalf("a few deletes: %+v", rep)
	}
	for i := range 10 { // more than 50, and more than a fifth
		empty(i, "1:7")
	}
	if rep := r.pass(t); rep.Expunged[config.New] != 0 || len(rep.Held) != 10 || left() != folders*each-9 {
		t.Errorf("a large part: %+v", rep)
	}
	for i := range folders {
		empty(i, "1:*")
	}
	if rep := r.pass(t); rep.Expunged[config.New] != 0 || len(rep.Held) != folders || left() != folders*each-9 {
		t.Errorf("all of it: %+v", rep)
	}
	x.Append("INBOX.1", "", letter(9000)) // what arrives is carried all the same
	if rep := r.pass(t); rep.Copied[config.New] != 1 || rep.Expunged[config.New] != 0 {
		t.Errorf("new mail: %+v", rep)
	}
	rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Deletes: true})
	if err != nil || rep.Expunged[config.New] != folders*each-9 || left() != 1 {
		t.Errorf("when it is meant: %+v %v", rep, err)
	}
	x.Close()
}

// TestSmallAccountEmptied is the same with an account that has less mail than any number would notice: INBOX and a folder, and the folder
// gone altogether.
func TestSmallAccountEmptied(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil) // no time of grace
	x := lab.Dial(t, l.Old, 1)
	x.Do(`CREATE "INBOX.Kept"`)
	fill(x, "INBOX", "", 0, 8)
	fill(x, "INBOX.Kept", "", 100, 40)
	r.pass(t)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 1:* +FLAGS (\Deleted)`)
	x.Do(`UID EXPUNGE 1:*`)
	x.Do(`DELETE "INBOX.Kept"`)
	for range 2 {
		if rep := r.pass(t); rep.Expunged != [2]int64{} || rep.Deleted != [2]int{} || len(rep.Held) != 2 {
			t.Errorf("%+v", rep)
		}
	}
	if n := r.snapshot(t, config.New).Messages(); n != 48 {
		t.Errorf("NEW has %d messages", n)
	}
	x.Append("INBOX", "", letter(9000)) // what arrives is carried, and is no sign that the rest is meant
	for i := range 3 {
		if rep := r.pass(t); rep.Copied[config.New] != int64(1-min(i, 1)) || rep.Expunged != [2]int64{} || rep.Deleted != [2]int{} {
			t.Errorf("new mail: %+v", rep)
		}
	}
	if n := r.snapshot(t, config.New).Messages(); n != 49 {
		t.Errorf("NEW has %d messages", n)
	}
	x.Close()
}
