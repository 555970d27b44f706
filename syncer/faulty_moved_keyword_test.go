package syncer_test

import (
	"context"
	"slices"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestMovedAheadOfKeyword: a keyword set on NEW is carried to a message that its user moves on OLD right before: the host says OK to that. Both sides
// are alike in the end, also where the pass that moves it on NEW ends early.
func TestMovedAheadOfKeyword(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
		w.put(config.Old, "INBOX", "a", 10)
		old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
		old.Create("Kept")
		w.run()
		w.run()
		now.Flag("INBOX", 0, []string{"$Phone"}, nil)
		asked := 0
		_, err := w.Run(t.Context(), "user", syncer.RunOptions{Decides: func(context.Context, string) (config.Side, int64, error) {
			if asked++; asked == 3 { // behind the scan, ahead of the changes
				old.Move("INBOX", 0, "Kept")
			}
			return config.Old, 0, nil
		}})
		if err != nil || old.Count("Kept") != 1 {
			t.Fatalf("%v, asked %d times", err, asked)
		}
		if cut {
			w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Cut}, Only: "UID STORE 1"})
			if r, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err == nil && len(r.Errors) == 0 {
				t.Fatal("the pass did not end early")
			}
			w.hosts[config.New].Fail(nil)
		}
		w.run()
		w.run()
		if r := w.run(); r.Flags != [2]int64{} {
			t.Errorf("cut %v: there is no end to it: %v", cut, r.Flags)
		}
		for _, side := range config.Sides {
			list := w.hosts[side].Account.Contents()["Kept"]
			if len(list) != 1 || !slices.Equal(list[0].Flags, now.Contents()["Kept"][0].Flags) {
				t.Errorf("cut %v: %s holds %v", cut, side, list)
			}
		}
	}
}

// TestMovedAndTakenOff: a keyword of NEW that was carried is taken off on OLD by a user who moves the message too: it goes from NEW, also when the pass that
// moves it there ends before it has changed its flags.
func TestMovedAndTakenOff(t *testing.T) {
	t.Parallel()
	for _, cut := range []bool{false, true} {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
		w.put(config.Old, "INBOX", "a", 10)
		old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
		old.Create("Kept")
		w.run()
		w.run()
		now.Flag("INBOX", 0, []string{"$Phone"}, nil)
		w.run()
		if m, _ := old.Flag("INBOX", 0, nil, []string{"$Phone"}); len(m.Flags) > 0 {
			t.Fatal(m.Flags)
		}
		old.Move("INBOX", 0, "Kept")
		if cut {
			w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Cut}, Only: "UID STORE 1"})
			if r, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err == nil && len(r.Errors) == 0 {
				t.Fatal("the pass did not end early")
			}
			w.hosts[config.New].Fail(nil)
		}
		w.run()
		w.run()
		for _, side := range config.Sides {
			if list := w.hosts[side].Account.Contents()["Kept"]; len(list) != 1 || len(list[0].Flags) > 0 {
				t.Errorf("cut %v: %s holds %v", cut, side, list)
			}
		}
	}
}

// TestMovedBackAndCut: on NEW somebody reads a message and moves it. It is moved back, and the pass ends before it has come to its flags, or does not hear
// that it was moved: it is as read on OLD then, and in its place.
func TestMovedBackAndCut(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
		w.put(config.Old, "INBOX", "a", 10)
		w.put(config.Old, "INBOX", "b", 10)
		now := w.hosts[config.New].Account
		w.hosts[config.Old].Account.Create("Kept")
		w.run()
		w.run()
		now.Flag("INBOX", 0, []string{`\Seen`}, nil)
		now.Move("INBOX", 0, "Kept")
		if lost {
			w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Lost}, Only: "UID MOVE 1"})
		}
		asked := 0
		r, err := w.Run(t.Context(), "user", syncer.RunOptions{Decides: func(context.Context, string) (config.Side, int64, error) {
			if asked++; asked >= 3 && !lost { // behind the moves
				return config.Old, 1, nil
			}
			return config.Old, 0, nil
		}})
		if err == nil && len(r.Errors) == 0 || now.Count("INBOX") != 2 {
			t.Fatalf("lost %v: %v, %+v, %d messages", lost, err, r, now.Count("INBOX"))
		}
		w.hosts[config.New].Fail(nil)
		w.run()
		w.run()
		for _, side := range config.Sides {
			read := 0
			for _, m := range w.hosts[side].Account.Contents()["INBOX"] {
				if slices.Equal(m.Flags, []string{`\Seen`}) {
					read++
				}
			}
			if n := w.hosts[side].Account.Count("INBOX"); n != 2 || read != 1 {
				t.Errorf("lost %v: %s has %d messages, %d of them read", lost, side, n, read)
			}
		}
	}
}

// TestMovedWithKeywordOfOther: a keyword that the side which decides cannot keep stays on the other one, also when the message is moved.
func TestMovedWithKeywordOfOther(t *testing.T) {
	t.Parallel()
	forgets, cannot := faulty.Dovecot(), faulty.Dovecot()
	forgets.Forgets, cannot.Keywords = true, false
	for _, product := range []faulty.Product{forgets, cannot} {
		w := newAsideWorld(t, product, faulty.Dovecot())
		old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
		w.put(config.Old, "INBOX", "a", 10)
		old.Create("Kept")
		w.run()
		now.Flag("INBOX", 0, []string{"Label"}, nil)
		w.run()
		w.run()
		old.Flag("INBOX", 0, []string{`\Flagged`}, nil)
		old.Move("INBOX", 0, "Kept")
		w.run()
		w.run()
		if list := now.Contents()["Kept"]; len(list) != 1 || !slices.Equal(list[0].Flags, []string{"Label", `\Flagged`}) {
			t.Errorf("keywords %v, forgets %v: NEW holds %v", product.Keywords, product.Forgets, list[0].Flags)
		}
	}
}
