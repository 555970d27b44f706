package syncer_test

import (
	"slices"
	"strings"
	"testing"
	"time"

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
			for range 2 { // the largest comes last, and is open when the others' answers are looked at
				w.put(config.Old, "Work")
			}
			for range 2 {
				if _, err := w.pass(t); err != nil {
					t.Fatal(err)
				}
			}
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
			now.Flag(w.name(config.New, "Work"), 4, []string{`\Answered`}, nil)
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
			for _, m := range w.hosts[config.Old].Account.Contents()["INBOX"] {
				if slices.Contains(m.Flags, `\Answered`) {
					t.Errorf("%s to %s, lost %v: flags of one mailbox in another", pair[0].Name, pair[1].Name, lost)
				}
			}
			whole, open := false, ""
			for _, line := range w.hosts[config.New].Trace()[begun:] {
				if _, name, ok := strings.Cut(line, "SELECT "); ok {
					open = name
				}
				if strings.Contains(line, `UID FETCH "1:*" ("UID" "FLAGS")`) {
					if whole = true; !strings.HasPrefix(open, `"INBOX"`) {
						t.Errorf("%s to %s, lost %v: read while %s is open", pair[0].Name, pair[1].Name, lost, open)
					}
				}
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
		if got, _, err := w.AtRest(t.Context(), "user", config.New); err != nil || got != want {
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
	old := w.hosts[config.Old].Account
	old.Create(w.name(config.Old, "Projects"))
	w.put(config.Old, "Projects")
	rests("behind a new mailbox that nobody has copied", false)
	if changed, err := w.Peek(t.Context(), "user"); changed || err != nil {
		t.Error(changed, err)
	}
	w.LookAnew("user")
	if changed, err := w.Peek(t.Context(), "user"); !changed || err != nil {
		t.Error("a mailbox that no pass has taken is told of once only", err)
	}
}

// TestLookThenPass: a pass can do over the connections that a look has made, and that were kept, what it does over its own.
func TestLookThenPass(t *testing.T) {
	t.Parallel()
	w := &asideWorld{newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1, func(o *syncer.Options) { o.Keep = 100 * time.Millisecond }), t}
	w.put(config.Old, "INBOX", "a", 10)
	w.run()
	w.run()
	time.Sleep(300 * time.Millisecond) // none is kept any more
	if rest, _, err := w.AtRest(t.Context(), "user", config.New); err != nil || !rest {
		t.Fatal(rest, err)
	}
	w.hosts[config.Old].Account.Flag("INBOX", 0, []string{`\Seen`}, nil)
	w.hosts[config.New].Account.Flag("INBOX", 0, []string{`\Flagged`}, nil)
	w.run()
}
