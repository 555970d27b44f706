package syncer_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestCopyOrderOfAPass: a first copy begins with INBOX and Sent, goes on with the folders that have the newest mail, and ends with Trash; and
// how much mail there is, and how new it is, can be asked before.
func TestCopyOrderOfAPass(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Connections = 1 })
	x := lab.Dial(t, l.Old, 1)
	newest := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for i, b := range []struct {
		name string
		age  int // days
	}{{"INBOX.A", 90}, {"INBOX.B", 2}, {"INBOX.C", 30}, {"INBOX.Sent", 400}, {"INBOX.Trash", 1}, {"INBOX", 50}} {
		_, _ = x.Try("CREATE %q", b.name)
		for j := range 3 + i%2 {
			date := newest.AddDate(0, 0, -b.age-3+j).Format("02-Jan-2006 15:04:05 -0700")
			body := letter(100*i + j)
			x.Do("APPEND %q %q {%d+}\r\n%s", b.name, date, len(body), body)
		}
	}
	x.Close()
	e, err := r.Size(t.Context(), lab.User(1))
	if err != nil || e.Messages != 21 || !e.Newest.Equal(newest.AddDate(0, 0, -50)) {
		t.Errorf("%+v %v", e, err)
	}
	var order []string
	rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Progress: func(p syncer.Progress) {
		if p.Phase == "copy" && p.Folder != "" && !slices.Contains(order, p.Folder) {
			order = append(order, p.Folder)
		}
	}})
	if err != nil || rep.Copied[config.New] != 21 {
		t.Fatalf("%+v %v", rep, err)
	}
	if got, want := fmt.Sprint(order), "[INBOX INBOX.Sent INBOX.B INBOX.C INBOX.A INBOX.Trash]"; got != want {
		t.Errorf("the order was %s, want %s", got, want)
	}
}
