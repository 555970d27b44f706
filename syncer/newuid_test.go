package syncer_test

import (
	"fmt"
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
		w.run() // its look has seen the copies
		w.later(time.Hour)
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		old.Expunge("INBOX", 1)
		late := func() {
			new.Append("INBOX", nil, time.Now().Add(15*time.Minute), []byte("Message-ID: <late@example.com>\r\n\r\nlate\r\n"))
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

// TestDeletedAndNewUIDByClock: a message that is deleted, and has got another UID on the follower, does not come back because its date is later than
// the last look: the host's clock may be ahead of ours, and what was copied since that look may be of any date.
func TestDeletedAndNewUIDByClock(t *testing.T) {
	t.Parallel()
	for _, seen := range []bool{true, false} {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Courier())
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		w.put(config.Old, "INBOX", "a", 10)
		w.run()
		if b := []byte("Message-ID: <b@example.com>\r\n\r\nb\r\n"); seen {
			new.Append("INBOX", nil, time.Now().Add(5*time.Minute), b)
		} else { // it comes behind the look
			old.Append("INBOX", nil, time.Now().Add(time.Hour), b)
		}
		w.run()
		if !seen {
			w.run() // and another look sees it: a date that is still to come says nothing all the same
		}
		old.Expunge("INBOX", 1)
		new.Renumber("INBOX", 1, false)
		w.run()
		w.run()
		if n := old.Count("INBOX"); n != 1 || len(w.rows()) != 1 {
			t.Errorf("seen by a look %t: OLD has %d messages, in quarantine: %+v", seen, n, w.rows())
		}
	}
}

// TestDeletedWhileRestless: a message that is deleted, and has another UID each time on the follower, does not come back when it keeps one at last.
func TestDeletedWhileRestless(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Courier())
	old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
	for _, what := range []string{"a", "b", "c"} {
		w.put(config.Old, "INBOX", what, 10)
	}
	w.run()
	w.run()
	new.Restless("INBOX", 1)
	old.Expunge("INBOX", 1)
	w.pass(t)
	new.Renumber("INBOX", 2, false) // and is steady from now on
	for range 3 {
		w.pass(t)
	}
	if n := old.Count("INBOX"); n != 2 {
		t.Errorf("OLD has %d messages, in quarantine: %+v", n, w.rows())
	}
}

// TestCameDuringPass: mail that the follower was given while a long pass was under way is newer than what that pass has seen, and is carried, though
// both messages of a pair go at the same time.
func TestCameDuringPass(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Courier())
	old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
	for _, what := range []string{"a", "b"} {
		w.put(config.Old, "INBOX", what, 10)
	}
	w.run()
	w.put(config.Old, "INBOX", "c", 10)
	began := time.Now()
	_, err := w.Run(t.Context(), "user", syncer.RunOptions{Progress: func(g syncer.Progress) {
		if g.Phase == "copy" && w.clock.Load() == 0 {
			w.later(time.Hour) // that long it takes to copy
			new.Append("INBOX", nil, began.Add(30*time.Minute), []byte("Message-ID: <late@example.com>\r\n\r\nlate\r\n"))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	old.Expunge("INBOX", 0)
	new.Expunge("INBOX", 0)
	w.run()
	if n := [2]int{old.Count("INBOX"), new.Count("INBOX")}; n != [2]int{3, 3} || len(w.rows()) > 0 {
		t.Errorf("%v messages, in quarantine: %+v", n, w.rows())
	}
}

// TestNewUIDAndDeleted: mail that has got other UIDs is mail that both sides had, when it comes to telling a few deletes from an account that was
// emptied.
func TestNewUIDAndDeleted(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Courier(), faulty.Dovecot())
	old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
	for i := range 60 {
		w.put(config.Old, "INBOX", fmt.Sprint(i), 10)
	}
	w.run()
	w.run()
	for range 50 {
		old.Renumber("INBOX", 0, false)
	}
	for range 12 {
		old.Expunge("INBOX", 0)
	}
	r, err := w.Run(t.Context(), "user", syncer.RunOptions{})
	if err != nil || len(r.Held) > 0 || r.Expunged[config.New] != 12 || new.Count("INBOX") != 48 {
		t.Errorf("%v, held %+v, expunged %v, NEW has %d messages", err, r.Held, r.Expunged, new.Count("INBOX"))
	}
}

// TestCompareNewUID: neither comparison takes mail that has got other UIDs since the last pass for gone; what is gone, and what is new, differs.
func TestCompareNewUID(t *testing.T) {
	t.Parallel()
	for _, side := range config.Sides {
		products := [2]faulty.Product{faulty.Dovecot(), faulty.Dovecot()}
		products[side] = faulty.Courier()
		w := newAsideWorld(t, products[0], products[1])
		for _, what := range []string{"a", "b", "c", "d"} {
			w.put(config.Old, "INBOX", what, 10)
		}
		w.run()
		w.run()
		a := w.hosts[side].Account
		a.Renumber("INBOX", 1, false)
		a.Renumber("INBOX", 1, false)
		w.verified(true, 0, 0)
		confirm := func() *syncer.Confirmation {
			t.Helper()
			c, err := w.Confirm(t.Context(), "user", syncer.ConfirmOptions{Blind: true})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		if c := confirm(); c.Different != 0 || c.Late != [2]int64{} || c.Pairs != 4 {
			t.Errorf("%s: %+v", side, c)
		}
		a.Flag("INBOX", 3, []string{`\Flagged`}, nil)
		if c := confirm(); c.Different != 1 || c.Differences[0].Kind != "flags" {
			t.Errorf("%s, a flag: %+v", side, c)
		}
		a.Expunge("INBOX", 0)
		if c := confirm(); c.Different != 2 {
			t.Errorf("%s, a flag, and one is gone: %+v", side, c)
		}
		if v, err := w.Verify(t.Context(), "user", syncer.VerifyOptions{}); err != nil || v.Different() != 2 {
			t.Errorf("%s: %v, %+v", side, err, v)
		}
	}
}

// TestRestless: mail that gets another UID each time its mailbox is opened is deleted nowhere, and not doubled, on either side; no comparison calls
// that equal.
func TestRestless(t *testing.T) {
	t.Parallel()
	for _, side := range config.Sides {
		products := [2]faulty.Product{faulty.Dovecot(), faulty.Dovecot()}
		products[side] = faulty.Courier()
		w := newAsideWorld(t, products[0], products[1])
		for _, what := range []string{"a", "b", "c", "d"} {
			w.put(config.Old, "INBOX", what, 10)
		}
		w.run()
		w.run()
		w.hosts[side].Account.Restless("INBOX", 1)
		for range 3 {
			r := w.run()
			if n := [2]int{w.hosts[0].Account.Count("INBOX"), w.hosts[1].Account.Count("INBOX")}; n != [2]int{4, 4} || r.Expunged != [2]int64{} || r.Copied != [2]int64{} {
				t.Errorf("%s: %v messages, expunged %v, copied %v", side, n, r.Expunged, r.Copied)
			}
		}
		if c, err := w.Confirm(t.Context(), "user", syncer.ConfirmOptions{Blind: true}); err != nil || c.Different == 0 {
			t.Errorf("%s: %v, %+v", side, err, c)
		}
	}
}
