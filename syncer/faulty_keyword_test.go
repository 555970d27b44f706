package syncer_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestKeywordsForgotten has NEW take keywords with OK and keep none: they stay on OLD, are reported, and are not sent again and
// again.
func TestKeywordsForgotten(t *testing.T) {
	t.Parallel()
	forgets := faulty.Dovecot()
	forgets.Forgets = true
	w := newFaultyWorld(t, faulty.DovecotPrefixed(), forgets, 1)
	old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
	w.deliver(config.Old, "INBOX")
	w.deliver(config.Old, "INBOX")
	quiet := func(what string, lost string) {
		t.Helper()
		for i := range 3 {
			rep, err := w.pass(t)
			if err != nil || len(rep.Errors) > 0 {
				t.Fatalf("%s: %v %v", what, err, rep.Errors)
			}
			switch {
			case i == 1 && lost != "" && rep.Lost[lost] != 1:
				t.Errorf("%s: lost %v, want one %s", what, rep.Lost, lost)
			case i == 2 && rep.Flags != [2]int64{}:
				t.Errorf("%s: the third pass changes flags: %v", what, rep.Flags)
			}
		}
	}
	has := func(side config.Side, n int, flag string) bool {
		list := w.hosts[side].Account.Contents()["INBOX"]
		return slices.Contains(list[n].Flags, flag)
	}
	old.Flag("INBOX", 0, []string{"Label", `\Flagged`}, nil)
	quiet("copied", "Label")
	old.Flag("INBOX", 1, []string{"Work"}, nil)
	quiet("set later", "") // to NEW that is no change: nothing is seen of the message
	w.clock.Add(int64(25 * time.Hour))
	if rep, err := w.pass(t); err != nil || rep.Lost["Work"] != 1 {
		t.Errorf("all looked at: %v, lost %v", err, rep.Lost)
	}
	now.Flag("INBOX", 1, []string{`\Answered`}, []string{`\Seen`}) // what it keeps travels
	quiet("beside", "")
	if !has(config.Old, 0, "Label") || !has(config.Old, 1, "Work") {
		t.Fatalf("keywords are lost on OLD: %v", old.Contents()["INBOX"])
	}
	if !has(config.New, 0, `\Flagged`) || !has(config.Old, 1, `\Answered`) || has(config.New, 0, "Label") {
		t.Errorf("OLD %v, NEW %v", old.Contents()["INBOX"], now.Contents()["INBOX"])
	}
	v, err := w.Verify(t.Context(), "user", syncer.VerifyOptions{Deep: true})
	if err != nil || !v.Equal {
		t.Errorf("%v: %+v", err, v)
	}
}

// TestKeywordTakenOff: where NEW keeps keywords, one that somebody takes off there is taken off on OLD, at any time after the copy was seen.
func TestKeywordTakenOff(t *testing.T) {
	t.Parallel()
	w := newFaultyWorld(t, faulty.DovecotPrefixed(), faulty.Dovecot(), 1)
	old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
	w.deliver(config.Old, "INBOX")
	old.Flag("INBOX", 0, []string{"Label"}, nil)
	for range 2 {
		if _, err := w.pass(t); err != nil {
			t.Fatal(err)
		}
	}
	now.Flag("INBOX", 0, nil, []string{"Label"})
	if _, err := w.pass(t); err != nil {
		t.Fatal(err)
	}
	if f := old.Contents()["INBOX"][0].Flags; slices.Contains(f, "Label") {
		t.Errorf("OLD has %v", f)
	}
}

// TestKeywordTakenOffAtOnce: mail with a keyword comes to NEW by a pass, and its user there takes the keyword off before anybody has seen it. It goes from OLD
// too, and does not come back when another flag of the message changes.
func TestKeywordTakenOffAtOnce(t *testing.T) {
	t.Parallel()
	for _, decides := range config.Sides {
		w := newFaultyWorld(t, faulty.DovecotPrefixed(), faulty.Dovecot(), 1)
		run := func() {
			t.Helper()
			rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Decides: func(context.Context, string) (config.Side, int64, error) { return decides, 0, nil }})
			if err != nil || len(rep.Errors) > 0 {
				t.Fatal(err, rep.Errors)
			}
		}
		old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
		w.deliver(config.Old, "INBOX")
		old.Flag("INBOX", 0, []string{"Label"}, nil)
		run()
		now.Flag("INBOX", 0, nil, []string{"Label"})
		run()
		now.Flag("INBOX", 0, []string{`\Flagged`}, nil)
		run()
		run()
		for _, side := range config.Sides {
			if f := w.hosts[side].Account.Contents()["INBOX"][0].Flags; slices.Contains(f, "Label") || !slices.Contains(f, `\Flagged`) {
				t.Errorf("%s decides: %s has %v", decides, side, f)
			}
		}
	}
}

// TestFollowerReset resets NEW's mailbox after mail was deleted on OLD: it does not come back, and waits on NEW for a person; what
// nothing was deleted beside is paired again, and mail that has come to NEW goes to OLD.
func TestFollowerReset(t *testing.T) {
	t.Parallel()
	for _, deleted := range []bool{false, true} {
		w := newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1)
		old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
		for range 4 {
			w.deliver(config.Old, "INBOX")
		}
		if _, err := w.pass(t); err != nil {
			t.Fatal(err)
		}
		want := 4
		if deleted {
			old.Expunge("INBOX", 2)
			want = 3
		} else {
			w.deliver(config.New, "INBOX")
			want = old.Count("INBOX") + now.Count("INBOX") - 4
		}
		now.Reset("INBOX")
		for range 2 {
			rep, err := w.pass(t)
			if err != nil || len(rep.Errors) > 0 {
				t.Fatal(err, rep.Errors)
			}
			if deleted && (len(rep.Quarantine) != 1 || rep.Quarantine[0].Reason != "reset") || !deleted && len(rep.Quarantine) > 0 {
				t.Errorf("deleted %v: quarantine %+v", deleted, rep.Quarantine)
			}
		}
		if n := old.Count("INBOX"); n != want {
			t.Errorf("deleted %v: OLD has %d messages, want %d", deleted, n, want)
		}
		if n := now.Count("INBOX"); n != max(want, 4) {
			t.Errorf("deleted %v: NEW has %d messages, want %d", deleted, n, max(want, 4))
		}
	}
}
