package syncer_test

import (
	"slices"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// goneInDoubt has three messages in a folder of Courier's, one of which is deleted while the folder above it is renamed: Courier gives what it
// renames new UIDs, so that nobody can tell. Then the folder is deleted.
func goneInDoubt(t *testing.T, follower faulty.Product) (*asideWorld, *syncer.Report) {
	t.Helper()
	w := newAsideWorld(t, faulty.Courier(), follower)
	old := w.hosts[config.Old].Account
	w.put(config.Old, "INBOX", "a", 10)
	for _, name := range []string{"Top", "Top/Box"} {
		old.Create(w.name(config.Old, name))
	}
	w.put(config.Old, "Top", "t", 10)
	for _, s := range []string{"b", "c", "d"} {
		w.put(config.Old, "Top/Box", s, 10)
	}
	w.run()
	old.Rename(w.name(config.Old, "Top"), w.name(config.Old, "Other"))
	old.Expunge(w.name(config.Old, "Other/Box"), 0)
	w.run()
	old.Delete(w.name(config.Old, "Other/Box"))
	return w, w.run()
}

// TestGoneWithMailAside: a folder is deleted on the side that decides, and holds mail on the follower that is set aside. All else in it goes; that
// stays, explained, until a person decides: let go of it, or have it back.
func TestGoneWithMailAside(t *testing.T) {
	t.Parallel()
	for _, decision := range []syncer.Decision{syncer.Undecided, syncer.Waived, syncer.Retry} {
		w, r := goneInDoubt(t, faulty.Cyrus())
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		if r.Expunged != [2]int64{0, 2} || new.Count("Other/Box") != 1 || len(r.Held) != 1 {
			t.Fatalf("%q: expunged %v, %d left, held %+v", decision, r.Expunged, new.Count("Other/Box"), r.Held)
		}
		if w.run(); new.Count("Other/Box") != 1 {
			t.Errorf("%q: what is set aside has gone", decision)
		}
		if decision == syncer.Undecided {
			w.verified(false, 1, 0)
			continue
		}
		w.decide(decision, syncer.Selection{UIDs: []uint32{1}})
		for range 2 {
			if r := w.run(); decision == syncer.Waived && len(r.Held) > 0 {
				t.Errorf("what was waived waits: %+v", r.Held)
			}
		}
		if want := map[bool]int{true: 1}[decision == syncer.Retry]; old.Count(w.name(config.Old, "Other/Box")) != want || new.Count("Other/Box") != 1 {
			t.Errorf("%q: OLD has %d, NEW %d", decision, old.Count(w.name(config.Old, "Other/Box")), new.Count("Other/Box"))
		}
		w.verified(true, 0, map[bool]int64{true: 1}[decision == syncer.Waived])
		if decision == syncer.Waived { // and holds up nothing that comes later
			w.put(config.New, "Other/Box", "late", 10)
			w.run()
			w.run()
			if old.Count(w.name(config.Old, "Other/Box")) != 1 || new.Count("Other/Box") != 2 {
				t.Errorf("new mail: OLD has %d, NEW %d", old.Count(w.name(config.Old, "Other/Box")), new.Count("Other/Box"))
			}
			w.verified(true, 0, 1)
		}
	}
}

// TestAsideMovesAlong: what was decided about mail of a folder that is gone holds when the folder above it is renamed.
func TestAsideMovesAlong(t *testing.T) {
	t.Parallel()
	for _, host := range []func() faulty.Product{faulty.Dovecot, faulty.Cyrus, faulty.Courier} {
		w, _ := goneInDoubt(t, host())
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		old.Rename(w.name(config.Old, "Other"), w.name(config.Old, "Third"))
		for range 3 {
			w.run()
		}
		if slices.Contains(old.Names(), w.name(config.Old, "Third/Box")) || new.Count(w.name(config.New, "Third/Box")) != 1 {
			t.Errorf("%s: OLD has %q, NEW %q", host().Name, old.Names(), new.Names())
		}
		w.verified(false, 1, 0)
	}
}

// TestGoneWithNewMail: a folder is deleted on the side that decides while mail is delivered into it on the other. Nothing is lost: the folder
// comes back with that mail alone. What was deleted with it does not.
func TestGoneWithNewMail(t *testing.T) {
	t.Parallel()
	for _, host := range []func() faulty.Product{faulty.Dovecot, faulty.Cyrus, faulty.Courier} {
		w := newAsideWorld(t, faulty.Dovecot(), host())
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		w.put(config.Old, "INBOX", "a", 10)
		old.Create("Box")
		for _, s := range []string{"b", "c", "d"} {
			w.put(config.Old, "Box", s, 10)
		}
		w.run()
		w.put(config.New, "Box", "late", 10)
		old.Delete("Box")
		dry, err := w.Run(t.Context(), "user", syncer.RunOptions{DryRun: true})
		if err != nil || dry.Expunged != [2]int64{0, 3} || old.Count("Box") != 0 || new.Count(w.name(config.New, "Box")) != 4 {
			t.Errorf("%s, dry: %v, %+v", host().Name, err, dry)
		}
		if r := w.run(); r.Expunged != [2]int64{0, 3} || r.Deleted != [2]int{} || new.Count(w.name(config.New, "Box")) != 1 {
			t.Errorf("%s: expunged %v, deleted %v, %d left", host().Name, r.Expunged, r.Deleted, new.Count(w.name(config.New, "Box")))
		}
		w.run()
		if !slices.Contains(old.Names(), "Box") || old.Count("Box") != 1 {
			t.Errorf("%s: OLD has %q, %d in it", host().Name, old.Names(), old.Count("Box"))
		}
		w.verified(true, 0, 0)
	}
}
