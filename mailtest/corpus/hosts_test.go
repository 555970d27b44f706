package corpus

import (
	"io"
	"testing"

	"mailgate/mailtest/lab"
)

func snapshot(t *testing.T, h lab.Host, n int) Account {
	t.Helper()
	a, err := Snapshot(lab.Addr(h.IMAP), lab.User(n), lab.Password(n))
	if err != nil {
		t.Fatalf("%s: %v", h.Name, err)
	}
	return a
}

// TestHosts loads the same account everywhere, in both ways where there are two.
func TestHosts(t *testing.T) {
	l, cyrus, courier := lab.Start(t), lab.StartCyrus(t), lab.StartCourier(t)
	mail := Mailbox(700, 48, 1, Options{Mean: 3000})
	for _, h := range []lab.Host{l.Old, l.New, cyrus.Host, courier.Host} {
		t.Run(h.Name, func(t *testing.T) {
			loaded := Load(t, h, 1, mail)
			for _, s := range loaded.Refused {
				t.Log(s)
			}
			a := snapshot(t, h, 1)
			if a.Messages() != loaded.Messages || loaded.Messages < 600 {
				t.Errorf("%d messages are there, %d were loaded", a.Messages(), loaded.Messages)
			}
			t.Log(len(a.Folders), loaded)
			byIMAP, err := LoadIMAP(lab.Addr(h.IMAP), lab.User(2), lab.Password(2), mail)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range byIMAP.Refused {
				t.Log(s)
			}
			b := snapshot(t, h, 2)
			for _, s := range Diff(a, b, DiffOptions{Limit: 60}) {
				t.Log(s)
			}
		})
	}
	_ = io.Discard
}
