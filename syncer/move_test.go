package syncer_test

import (
	"fmt"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// alert is a message without a Message-ID: two of the same second differ in a figure of the text only.
func alert(n int) string {
	return fmt.Sprintf("From: monitor@example.com\r\nSubject: disk is filling\r\nDate: Wed, 25 Nov 2026 10:00:00 +0000\r\n\r\n%03d percent\r\n", n)
}

// TestNotTheSameAlert deletes one alert and has another arrive in a second folder: by their headers, sizes and dates they are the same,
// which must not be taken for a move.
func TestNotTheSameAlert(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, nil)
	x := lab.Dial(t, l.Old, 1)
	x.Do(`CREATE "INBOX.Alerts"`)
	put := func(box string, n int) {
		body := alert(n)
		x.Do(`APPEND "%s" () "25-Nov-2026 10:00:00 +0000" {%d+}`+"\r\n%s", box, len(body), body)
	}
	put("INBOX", 97)
	put("INBOX", 98)
	r.pass(t)
	put("INBOX.Alerts", 99)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 1 +FLAGS (\Deleted)`)
	x.Do(`UID EXPUNGE 1`)
	x.Close()
	rep := r.pass(t)
	if rep.Moved != [2]int64{} || rep.Copied != [2]int64{0, 1} || rep.Expunged != [2]int64{0, 1} {
		t.Errorf("%+v", rep)
	}
	x = lab.Dial(t, l.New, 1)
	x.Do("SELECT Alerts")
	if got := strings.Join(x.Do("UID FETCH 1:* (BODY.PEEK[TEXT])"), "\n"); !strings.Contains(got, "099 percent") {
		t.Errorf("NEW's alert is %q", got)
	}
	x.Close()
	r.same(t)
}

// TestMovedAndGone: a folder into which mail was moved, and which cannot be opened any more when that is looked at, fails alone; the pass does not.
func TestMovedAndGone(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Courier(), faulty.Dovecot())
	old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
	old.Create(w.name(config.Old, "Work"))
	old.Create(w.name(config.Old, "Later"))
	for _, what := range []string{"a", "b"} {
		w.put(config.Old, "INBOX", what, 10)
	}
	w.put(config.Old, "Work", "w", 10)
	w.run()
	old.Move("INBOX", 0, w.name(config.Old, "Work"))
	old.Move(w.name(config.Old, "Work"), 0, w.name(config.Old, "Later"))
	w.put(config.Old, "INBOX", "c", 10)
	w.hosts[config.Old].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Text: "no such mailbox", Only: "EXAMINE " + w.name(config.Old, "Work")})
	r, err := w.Run(t.Context(), "user", syncer.RunOptions{})
	if err != nil || len(r.Errors) != 1 || r.Errors[0].Folder != "INBOX.Work" {
		t.Fatalf("%v, %+v", err, r)
	}
	w.hosts[config.Old].Sound()
	w.run()
	if n := [3]int{new.Count("INBOX"), new.Count("Work"), new.Count("Later")}; n != [3]int{2, 1, 1} {
		t.Errorf("NEW has %v messages", n)
	}
	w.verified(true, 0, 0)
}
