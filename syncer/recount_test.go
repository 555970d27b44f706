package syncer_test

import (
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestRecountAmidChanges: what the follower has lost is found by counting also where something else has changed since, on either side; and where
// nothing is lost a change is no reason to read the mailbox as a whole.
func TestRecountAmidChanges(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]faulty.Product{{faulty.Dovecot(), faulty.Dovecot()}, {faulty.Dovecot(), faulty.Cyrus()}, {faulty.Courier(), faulty.Dovecot()}} {
		for _, lost := range []bool{false, true} {
			w := confirmed(t, pair)
			now := w.hosts[config.New].Account
			if lost {
				now.Expunge("INBOX", 1)
				if _, err := w.Run(t.Context(), "user", syncer.RunOptions{Leave: true}); err != nil {
					t.Fatal(err)
				}
			}
			w.put(config.Old, "INBOX")
			w.put(config.New, "INBOX")
			now.Flag("INBOX", 3, []string{`\Flagged`}, nil)
			begun := len(w.hosts[config.New].Trace())
			rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Recount: true})
			if err != nil {
				t.Fatal(err)
			}
			want := [2]int64{1, 1}
			if lost {
				want[config.New]++
			}
			if rep.Copied != want {
				t.Errorf("%s to %s, lost %v: copied %v, want %v", pair[0].Name, pair[1].Name, lost, rep.Copied, want)
			}
			whole := false
			for _, line := range w.hosts[config.New].Trace()[begun:] {
				whole = whole || strings.Contains(line, `UID FETCH "1:*" ("UID" "FLAGS")`)
			}
			if whole != lost {
				t.Errorf("%s to %s, lost %v: read as a whole: %v", pair[0].Name, pair[1].Name, lost, whole)
			}
			if c := w.confirm(t, syncer.ConfirmOptions{Blind: true}); c.Different != 0 {
				t.Errorf("%s to %s, lost %v: %+v", pair[0].Name, pair[1].Name, lost, c)
			}
		}
	}
}

// TestAtRest: numbers that have not changed do not hide that something is missing, or unfinished.
func TestAtRest(t *testing.T) {
	t.Parallel()
	w := confirmed(t, [2]faulty.Product{faulty.Dovecot(), faulty.Dovecot()})
	rests := func(what string, want bool) {
		t.Helper()
		for range 2 { // what nothing is known of is told once
			_, _ = w.Peek(t.Context(), "user")
		}
		if got, err := w.AtRest(t.Context(), "user"); err != nil || got != want {
			t.Errorf("%s: at rest %v, %v", what, got, err)
		}
	}
	leave := func() {
		t.Helper()
		for range 3 {
			if _, err := w.Run(t.Context(), "user", syncer.RunOptions{Leave: true}); err != nil {
				t.Fatal(err)
			}
		}
	}
	rests("behind passes", true)
	w.put(config.Old, "INBOX")
	rests("behind new mail", false)
	leave()
	rests("behind the passes of that", true)
	w.hosts[config.New].Account.Expunge("INBOX", 1)
	leave()
	if changed, err := w.Peek(t.Context(), "user"); changed || err != nil {
		t.Fatal(changed, err)
	}
	rests("behind a loss of the follower that was left", false)
	for range 3 {
		if _, err := w.Run(t.Context(), "user", syncer.RunOptions{Recount: true}); err != nil {
			t.Fatal(err)
		}
	}
	rests("behind what made it again", true)
}
