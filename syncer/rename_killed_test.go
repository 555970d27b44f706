package syncer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestRenamedAndKilled: a pass ends between renaming a folder on a follower that gives it another identity (Courier does) and noting what it is.
// Its owner deletes or renames his own meanwhile, or moves mail out of it: the follower's is still known for his, and its mail does not come
// back to him.
func TestRenamedAndKilled(t *testing.T) {
	t.Parallel()
	for what, act := range map[string]func(a *faulty.Account){
		"deleted": func(a *faulty.Account) { a.Delete("Other") },
		"emptied and deleted": func(a *faulty.Account) {
			a.Expunge("Other", 0)
			a.Delete("Other")
		},
		"renamed": func(a *faulty.Account) { a.Rename("Other", "Third") },
		"emptied and renamed": func(a *faulty.Account) {
			a.Expunge("Other", 0)
			a.Rename("Other", "Third")
		},
		"emptied": func(a *faulty.Account) { a.Expunge("Other", 0) },
		"left":    func(*faulty.Account) {},
	} {
		for _, letters := range []int{3, 0} {
			w := newAsideWorld(t, faulty.Dovecot(), faulty.Courier())
			old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
			w.put(config.Old, "INBOX", "a", 10)
			old.Create("Box")
			for n := range letters {
				w.put(config.Old, "Box", fmt.Sprint("b", n), 10)
			}
			w.run()
			old.Rename("Box", "Other")
			other := w.name(config.New, "Other")
			w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Bye}, Only: "STATUS " + other})
			if r, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err == nil && len(r.Errors) == 0 || !slices.Contains(new.Names(), other) {
				t.Fatalf("%s, %d letters: %v, NEW has %q", what, letters, err, new.Names())
			}
			w.hosts[config.New].Sound()
			act(old)
			w.run()
			w.later(48 * time.Hour)
			w.run()
			var names []string
			for _, n := range new.Names() {
				names = append(names, w.path(config.New, n))
			}
			slices.Sort(names)
			if want := slices.Sorted(slices.Values(old.Names())); !slices.Equal(want, names) || slices.Contains(want, "Other") != (what == "left" || what == "emptied") {
				t.Errorf("%s, %d letters: OLD has %q, NEW has %q", what, letters, want, names)
			}
			for _, n := range old.Names() {
				if n != "INBOX" && old.Count(n) != max(0, letters-map[bool]int{strings.Contains(what, "emptied"): 1}[true]) {
					t.Errorf("%s, %d letters: %s has %d messages", what, letters, n, old.Count(n))
				}
			}
			w.verified(true, 0, 0)
		}
	}
}

// TestRenamesInARowAndKilled: one folder takes the name of another that was renamed just before, and the pass ends behind both renames. Each is
// still what it was.
func TestRenamesInARowAndKilled(t *testing.T) {
	t.Parallel()
	for _, letters := range []int{3, 0} {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Courier())
		old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
		w.put(config.Old, "INBOX", "a", 10)
		for _, name := range []string{"A", "B"} {
			old.Create(name)
			old.Subscribe(name, true)
			for n := range letters {
				w.put(config.Old, name, fmt.Sprint(name, n), 10)
			}
		}
		w.run()
		old.Rename("B", "C")
		old.Rename("A", "B")
		w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Bye}, Only: "SUBSCRIBE " + w.name(config.New, "B")})
		r, err := w.Run(t.Context(), "user", syncer.RunOptions{})
		if err == nil && len(r.Errors) == 0 || slices.Contains(new.Names(), w.name(config.New, "A")) {
			t.Fatalf("%d letters: %v, NEW has %q", letters, err, new.Names())
		}
		w.hosts[config.New].Sound()
		w.run()
		w.run()
		if a, b := old.Names(), new.Names(); len(a) != 3 || len(b) != 3 || old.Count("B") != letters || old.Count("C") != letters {
			t.Errorf("%d letters: OLD has %q, NEW has %q", letters, a, b)
		}
		w.verified(true, 0, 0)
	}
}
