package syncer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestKeywordRefused sets a keyword that the other side says it can keep, as any, and then refuses. That it is not there is nothing
// that anybody has done: the day's full scan must not take it off where it is.
func TestKeywordRefused(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	var later time.Duration
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Now = func() time.Time { return time.Now().Add(later) } })
	settled(t, r, 6)
	x := lab.Dial(t, l.Old, 1)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 2 +FLAGS (Short)`)
	x.Do(`UID STORE 2:3 +FLAGS (\Seen)`)
	x.Close()
	long := strings.Repeat("Long", 20) // more than Dovecot takes from a client
	names := filepath.Join(l.Old.Home(1), "Maildir", "dovecot-keywords")
	b, err := os.ReadFile(names)
	if err != nil || !strings.Contains(string(b), "Short") {
		t.Fatalf("%q %v", b, err)
	}
	if err := os.WriteFile(names, []byte(strings.Replace(string(b), "Short", long, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(names, l.Old.MailID, l.Old.MailID); err != nil {
		t.Fatal(err)
	}
	logs, _ := filepath.Glob(filepath.Join(l.Old.Home(1), "Maildir", "dovecot.index*"))
	for _, f := range logs {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	has := func(side config.Side, flag string) bool {
		x := lab.Dial(t, r.hosts[side], 1)
		defer x.Close()
		x.Do("SELECT INBOX")
		return strings.Contains(strings.Join(x.Do("UID FETCH 2 (FLAGS)"), "\n"), flag)
	}
	if !has(config.Old, long) {
		t.Fatal("OLD does not show the long keyword")
	}
	rep := r.pass(t)
	if rep.Lost[long] != 1 || !has(config.New, `\Seen`) {
		t.Errorf("%+v", rep)
	}
	for range 3 {
		later += 25 * time.Hour
		r.pass(t)
		if !has(config.Old, long) {
			t.Fatal("the keyword is lost on OLD")
		}
	}
}
