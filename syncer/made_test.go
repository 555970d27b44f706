package syncer_test

import (
	"slices"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestMadeAndKilled: a pass that ends between making a folder on the follower and noting what it is leaves none behind when its owner renames
// or deletes his own meanwhile; nor does it bring that name back to him.
func TestMadeAndKilled(t *testing.T) {
	t.Parallel()
	for what, act := range map[string]func(a *faulty.Account){
		"renamed": func(a *faulty.Account) { a.Rename("Box", "Other") },
		"deleted": func(a *faulty.Account) { a.Delete("Box") },
		"left":    func(*faulty.Account) {},
	} {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		w.put(config.Old, "INBOX", "a", 10)
		w.run()
		old.Create("Box")
		w.put(config.Old, "Box", "b", 10)
		w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Bye}, Only: "STATUS Box"})
		if _, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err == nil || !slices.Contains(new.Names(), "Box") {
			t.Fatalf("%s: %v, NEW has %q", what, err, new.Names())
		}
		w.hosts[config.New].Sound()
		act(old)
		w.run()
		w.later(48 * time.Hour)
		w.run()
		if !slices.Equal(old.Names(), new.Names()) || (what != "left") == slices.Contains(old.Names(), "Box") {
			t.Errorf("%s: OLD has %q, NEW has %q", what, old.Names(), new.Names())
		}
		w.verified(true, 0, 0)
	}
}

// TestNotMade: a folder that NEW does not take is no folder of the store's: another name for it, by a rule or a rename, is tried.
func TestNotMade(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
	w.put(config.Old, "INBOX", "a", 10)
	w.run()
	old.Create("Box")
	w.put(config.Old, "Box", "b", 10)
	w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Text: "[CANNOT] such a name", Only: "CREATE Box"})
	for range 2 {
		r, err := w.Run(t.Context(), "user", syncer.RunOptions{})
		if err != nil || len(r.Errors) != 1 || slices.Contains(new.Names(), "Box") {
			t.Fatalf("%v, %+v", err, r)
		}
		list, err := w.store.Mailboxes(t.Context(), "user")
		if err != nil || len(list) != 1 {
			t.Errorf("%v, the store has %+v", err, list)
		}
	}
	old.Rename("Box", "Fine")
	w.run()
	if !slices.Contains(new.Names(), "Fine") {
		t.Errorf("NEW has %q", new.Names())
	}
	w.verified(true, 0, 0)
}
