package syncer_test

import (
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestNewUID gives messages other UIDs under the same UIDVALIDITY, as Courier and any Maildir may: nothing is carried, and nothing is doubled or
// comes back.
func TestNewUID(t *testing.T) {
	t.Parallel()
	for _, missed := range []bool{false, true} {
		for _, side := range config.Sides {
			products := [2]faulty.Product{faulty.Dovecot(), faulty.Dovecot()}
			products[side] = faulty.Courier()
			w := newAsideWorld(t, products[0], products[1])
			for _, what := range []string{"a", "b", "c", "d"} {
				w.put(config.Old, "INBOX", what, 10)
			}
			w.run()
			a := w.hosts[side].Account
			a.Renumber("INBOX", 1, missed)
			a.Renumber("INBOX", 1, missed)
			a.Flag("INBOX", 0, []string{`\Flagged`}, nil)
			r, err := w.Run(t.Context(), "user", syncer.RunOptions{Recount: true})
			if err != nil || r.Copied != [2]int64{} || r.Expunged != [2]int64{} || len(r.Held) > 0 {
				t.Errorf("%s, missed %v: %v, copied %v, expunged %v, held %v", side, missed, err, r.Copied, r.Expunged, r.Held)
			}
			if n := [2]int{w.hosts[0].Account.Count("INBOX"), w.hosts[1].Account.Count("INBOX")}; n != [2]int{4, 4} {
				t.Errorf("%s, missed %v: %v messages", side, missed, n)
			}
			w.hosts[config.Old].Account.Flag("INBOX", 1, []string{`\Answered`}, nil)
			w.run()
			w.verified(true, 0, 0)
		}
	}
}

// TestDeletedAndNewUID deletes a message that has got another UID on the follower meanwhile: nobody can tell any more what that is, and it does not
// come back; mail that came late is carried nevertheless.
func TestDeletedAndNewUID(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "amid"} {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Courier())
		for _, what := range []string{"a", "b", "c"} {
			w.put(config.Old, "INBOX", what, 10)
		}
		w.run()
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		old.Expunge("INBOX", 1)
		late := func() {
			new.Append("INBOX", nil, time.Now().Add(time.Second), []byte("Message-ID: <late@example.com>\r\n\r\nlate\r\n"))
		}
		if when == "before" {
			new.Renumber("INBOX", 1, false)
			late()
			w.pass(t)
		} else {
			_, err := w.Run(t.Context(), "user", syncer.RunOptions{Progress: func(g syncer.Progress) {
				if g.Phase == "changes" && new.Contents()["INBOX"][1].UID == 2 {
					new.Renumber("INBOX", 1, false)
					late()
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
		w.pass(t)
		w.pass(t)
		if n := old.Count("INBOX"); n != 3 {
			t.Errorf("%s: OLD has %d messages", when, n)
		}
		if list := w.rows(); len(list) != 1 || list[0].Reason != "suspect" || list[0].Side != config.New {
			t.Errorf("%s: in quarantine: %+v", when, list)
		}
	}
}
