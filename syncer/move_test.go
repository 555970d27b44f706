package syncer_test

import (
	"fmt"
	"strings"
	"testing"

	"mailgate/mailtest/lab"
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
