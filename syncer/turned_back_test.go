package syncer_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// settled makes an account with some mail on OLD, and passes until its cursors are in use.
func settled(t *testing.T, r *rig, letters int) {
	t.Helper()
	x := lab.Dial(t, r.hosts[config.Old], r.n)
	fill(x, "INBOX", "", 0, letters)
	x.Do("SELECT INBOX")
	for range 20 { // HIGHESTMODSEQ is to be far beyond what an index begins with
		x.Do(`UID STORE 1:* +FLAGS (\Flagged)`)
		x.Do(`UID STORE 1:* -FLAGS (\Flagged)`)
	}
	x.Close()
	r.pass(t)
	r.pass(t)
	r.quiet(t)
}

// TestIndexLost has a server lose its index, and with it the count of its changes: UIDVALIDITY and UIDs stay, HIGHESTMODSEQ begins
// anew. What changes afterwards must not be taken for old.
func TestIndexLost(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	settled(t, r, 12)
	logs, _ := filepath.Glob(filepath.Join(l.Old.Home(1), "Maildir", "dovecot.index*"))
	if len(logs) == 0 {
		t.Fatal("there is no index")
	}
	for _, f := range logs {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	x := lab.Dial(t, l.Old, 1)
	x.Append("INBOX", "", letter(100))
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 3 +FLAGS (\Answered)`)
	x.Do(`UID STORE 4 +FLAGS (\Deleted)`)
	x.Do(`UID EXPUNGE 4`)
	x.Close()
	if rep := r.pass(t); rep.Copied != [2]int64{0, 1} || rep.Flags != [2]int64{0, 1} || rep.Expunged != [2]int64{0, 1} {
		t.Errorf("copied %v, flags %v, expunged %v", rep.Copied, rep.Flags, rep.Expunged)
	}
	r.same(t)
}

// TestRestored has a mailbox restored from yesterday's backup, index and UIDVALIDITY and all: UIDs that were given out are given out
// again, to other mail. The new mail arrives, and what the backup had not yet is neither deleted nor taken for the new.
func TestRestored(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	settled(t, r, 12)
	home := filepath.Join(l.Old.Home(1), "Maildir")
	for _, args := range [][]string{{"-a", home, home + ".backup"}} {
		if out, err := exec.Command("cp", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	x := lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", "", 100, 8)
	x.Close()
	r.pass(t)
	r.pass(t)
	if err := os.RemoveAll(home); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(home+".backup", home); err != nil {
		t.Fatal(err)
	}
	x = lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", "", 200, 3) // under the UIDs of 100 to 102
	x.Close()
	rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Deletes: true})
	if err != nil || rep.Copied != [2]int64{0, 3} || rep.Expunged != [2]int64{} || len(rep.Held) != 1 || rep.Held[0].Messages != 8 {
		t.Errorf("%+v %v", rep, err)
	}
	if n := r.snapshot(t, config.New).Messages(); n != 12+8+3 {
		t.Errorf("NEW has %d messages", n)
	}
	x = lab.Dial(t, l.Old, 1)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 13:15 +FLAGS (\Deleted)`)
	x.Do(`UID EXPUNGE 13:15`) // deletes 200 to 202, and no other
	x.Close()
	if rep := r.pass(t); rep.Expunged != [2]int64{0, 3} || rep.Copied != [2]int64{} {
		t.Errorf("%+v", rep)
	}
	if n := r.snapshot(t, config.New).Messages(); n != 12+8 {
		t.Errorf("NEW has %d messages", n)
	}
}

// TestMadeAnew has OLD make a mailbox anew, under another UIDVALIDITY, with most of its mail, while nothing has changed on NEW.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	settled(t, r, 12)
	home := filepath.Join(l.Old.Home(1), "Maildir")
	lists, _ := filepath.Glob(filepath.Join(home, "dovecot*"))
	mail, _ := filepath.Glob(filepath.Join(home, "cur", "*"))
	for _, f := range append(lists, mail[:2]...) {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Deletes: true})
	if err != nil || rep.Copied != [2]int64{} || rep.Expunged != [2]int64{} || len(rep.Held) != 1 || rep.Held[0].Messages != 2 || rep.Pairs != 10 {
		t.Errorf("%+v %v", rep, err)
	}
	if rep := r.pass(t); rep.Copied != [2]int64{} || rep.Expunged != [2]int64{} || rep.Pairs != 10 {
		t.Errorf("%+v", rep)
	}
}
