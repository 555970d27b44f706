package syncer_test

import (
	"fmt"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// proving is a rig whose passes know of deletes that clients asked for.
type proving struct {
	*rig
	x      *lab.Talk
	proofs syncer.Proofs
}

func newProving(t *testing.T) *proving {
	l := lab.Start(t, lab.MailboxesOnly())
	r := &proving{}
	r.rig = newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Proofs, o.Grace = &r.proofs, 24*time.Hour })
	r.x = lab.Dial(t, l.Old, 1)
	return r
}

// box makes a folder with n messages, which have the UIDs from 1 on, and selects it. It gives its UIDVALIDITY.
func (r *proving) box(name string, from, n int) (validity uint32) {
	if name != "INBOX" {
		r.x.Do("CREATE %q", name)
	}
	fill(r.x, name, "", from, n)
	for _, line := range r.x.Do("SELECT %q", name) {
		_, _ = fmt.Sscanf(line, "* OK [UIDVALIDITY %d]", &validity)
	}
	return validity
}

func (r *proving) expunge(name, uids string) {
	r.x.Do("SELECT %q", name)
	r.x.Do(`UID STORE %s +FLAGS.SILENT (\Deleted)`, uids)
	r.x.Do("UID EXPUNGE %s", uids)
}

func (r *proving) note(session uint64, name string, validity, most uint32, first, last uint32) {
	r.proofs.Note(lab.User(1), config.Old, session, imapwire.Deletes{Mailbox: imapwire.NameHash(name), Validity: validity, UIDs: imapwire.Spans{{First: first, Last: last}}, Most: most})
}

// carried runs a pass and tells how many deletes were carried and how many are held back.
func (r *proving) carried(t *testing.T) (done int64, held int) {
	t.Helper()
	rep := r.pass(t)
	for _, h := range rep.Held {
		held += h.Messages
	}
	return rep.Expunged[config.New], held
}

// TestGuardHeedsProof: what a client asked to be deleted goes, however much it is; what nobody asked for is held back beside it.
func TestGuardHeedsProof(t *testing.T) {
	r := newProving(t)
	defer r.x.Close()
	trash, work := r.box("INBOX.Trash", 0, 150), r.box("INBOX.Work", 1000, 200)
	r.box("INBOX.Rest", 2000, 60)
	r.pass(t)
	is := func(what string, done int64, held int) {
		t.Helper()
		if d, h := r.carried(t); d != done || h != held {
			t.Errorf("%s: %d deletes carried, %d held back; want %d and %d", what, d, h, done, held)
		}
	}
	r.expunge("INBOX.Trash", "1:150")
	is("nobody asked", 0, 150)
	r.note(1, "INBOX.Trash", trash+1, 150, 1, 150)
	r.note(1, "INBOX.Work", trash, 150, 1, 150)
	r.proofs.Note("somebody@example.com", config.Old, 1, imapwire.Deletes{Mailbox: imapwire.NameHash("INBOX.Trash"), Validity: trash, UIDs: imapwire.Spans{{First: 1, Last: 150}}, Most: 150})
	r.proofs.Note(lab.User(1), config.New, 1, imapwire.Deletes{Mailbox: imapwire.NameHash("INBOX.Trash"), Validity: trash, UIDs: imapwire.Spans{{First: 1, Last: 150}}, Most: 150})
	is("of another mailbox, user, side", 0, 150)
	r.note(1, "INBOX.Trash", trash, 150, 1, 150)
	if _, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	is("asked for, and a dry run before", 150, 0)

	r.expunge("INBOX.Work", "1:150")
	r.note(1, "INBOX.Work", work, 40, 1, 40)
	is("some are asked for", 40, 110)
	is("the others still are not", 0, 110)
	r.note(1, "INBOX.Work", work, 55, 1, 200) // by their numbers, in two sessions that may mean the same
	r.note(2, "INBOX.Work", work, 55, 1, 200)
	is("by number, too few", 0, 55)
	r.note(2, "INBOX.Work", work, 20, 1, 200)
	is("by number, enough with what was heard before", 110, 0)
	is("and no more than once", 0, 0)
	r.expunge("INBOX.Work", "151:200")
	r.note(3, "INBOX.Work", work, 100, 1, 200)
	is("the folder is empty", 50, 0)
}

// TestGuardHeedsMarks: EXPUNGE of what had been marked before, by whomever, is meant.
func TestGuardHeedsMarks(t *testing.T) {
	r := newProving(t)
	defer r.x.Close()
	validity := r.box("INBOX", 0, 140)
	r.box("INBOX.Rest", 2000, 100)
	r.x.Do("SELECT INBOX")
	r.x.Do(`UID STORE 1:70 +FLAGS.SILENT (\Deleted)`)
	r.pass(t)
	r.x.Do(`UID STORE 71:140 +FLAGS.SILENT (\Deleted)`)
	r.x.Do("EXPUNGE")
	r.proofs.Note(lab.User(1), config.Old, 1, imapwire.Deletes{Mailbox: imapwire.NameHash("inbox"), Validity: validity, Marked: imapwire.Spans{{First: 1, Last: 1<<32 - 1}}})
	if done, held := r.carried(t); done != 70 || held != 70 {
		t.Errorf("%d carried, %d held back", done, held)
	}
	if done, held := r.carried(t); done != 0 || held != 70 {
		t.Errorf("the next pass: %d carried, %d held back", done, held)
	}
}

// TestGuardHeedsFolders: a folder that a client deleted goes without time of grace; where mail stands in it that he had not seen it comes back
// to him with that alone; one that is just gone waits.
func TestGuardHeedsFolders(t *testing.T) {
	r := newProving(t)
	defer r.x.Close()
	for i, name := range []string{"INBOX.One", "INBOX.Two", "INBOX.Three", "INBOX.Kept"} {
		r.box(name, 100*i, 60)
	}
	r.x.Do("SELECT INBOX")
	r.pass(t)
	there := lab.Dial(t, r.hosts[config.New], 1)
	defer there.Close()
	for _, name := range []string{"INBOX.One", "INBOX.Two", "INBOX.Three"} {
		r.x.Do("DELETE %q", name)
	}
	for _, name := range []string{"INBOX.One", "INBOX.Two"} {
		r.proofs.Note(lab.User(1), config.Old, 1, imapwire.Deletes{Mailbox: imapwire.NameHash(name), Folder: true})
	}
	there.Append("Two", "", letter(5000))
	rep := r.pass(t)
	if rep.Deleted != [2]int{0, 1} || rep.Expunged != [2]int64{0, 60} || len(rep.Held) != 1 {
		t.Errorf("%+v", rep)
	}
	if rep := r.pass(t); rep.Deleted != [2]int{} || rep.Created != [2]int{1, 0} || rep.Copied != [2]int64{1, 0} || len(rep.Held) != 1 {
		t.Errorf("the next pass: %+v", rep)
	}
	if n := r.snapshot(t, config.New).Messages(); n != 121 {
		t.Errorf("NEW has %d messages", n)
	}
}

// TestGuardLetsMovesPass: what has gone to another folder of the account is no delete, however much it is, and nobody need have asked.
func TestGuardLetsMovesPass(t *testing.T) {
	r := newProving(t)
	defer r.x.Close()
	r.box("INBOX.Archive", 5000, 1)
	r.box("INBOX", 0, 160)
	r.pass(t)
	r.x.Do("SELECT INBOX")
	r.x.Do("UID MOVE 1:* INBOX.Archive")
	rep := r.pass(t)
	if rep.Moved[config.New] != 160 || rep.Expunged[config.New] != 0 || len(rep.Held) > 0 {
		t.Errorf("%+v", rep)
	}
	if rep := r.pass(t); len(rep.Held) > 0 || rep.Moved != [2]int64{} {
		t.Errorf("the next pass: %+v", rep)
	}
}
