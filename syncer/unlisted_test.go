package syncer_test

import (
	"slices"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestOldList: a session on NEW has not heard of a folder that another one has made there, when its owner deletes it on OLD. It is not forgotten: it goes
// from NEW too.
func TestOldList(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
	old.Create("Box")
	w.run()
	if !slices.Contains(now.Names(), "Box") {
		t.Fatal(now.Names())
	}
	old.Delete("Box")
	now.Unlist("Box", 1)
	if r, err := w.Run(t.Context(), "user", syncer.RunOptions{Deletes: true}); err != nil || len(r.Errors) != 1 || !r.Passing() {
		t.Errorf("%v, errors %v", err, r.Errors)
	}
	if _, err := w.Run(t.Context(), "user", syncer.RunOptions{Deletes: true}); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(now.Names(), "Box") {
		t.Error("the folder stays on NEW")
	}
}

// TestOldListOfDecider: a session on OLD does not list a folder that is there. Nothing of it is deleted on NEW.
func TestOldListOfDecider(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
	old.Create("Box")
	w.put(config.Old, "Box", "a", 10)
	w.run()
	old.Unlist("Box", 1)
	if r, err := w.Run(t.Context(), "user", syncer.RunOptions{Deletes: true}); err != nil || len(r.Errors) != 1 || !r.Passing() {
		t.Errorf("%v, errors %v", err, r.Errors)
	}
	if w.run(); now.Count("Box") != 1 || old.Count("Box") != 1 {
		t.Errorf("OLD %d, NEW %d", old.Count("Box"), now.Count("Box"))
	}
}

// TestRenamedBehindOldList: a session on NEW has not heard of a folder when its owner renames it on OLD. It is renamed on NEW, and not there twice.
func TestRenamedBehindOldList(t *testing.T) {
	t.Parallel()
	for mail := range 2 {
		w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
		old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
		old.Create("Box")
		for range mail {
			w.put(config.Old, "Box", "a", 10)
		}
		w.run()
		old.Rename("Box", "Other")
		now.Unlist("Box", 1)
		if r, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err != nil || len(r.Errors) != 1 || !r.Passing() {
			t.Errorf("%v, errors %v", err, r.Errors)
		}
		w.run()
		for _, a := range []*faulty.Account{old, now} {
			if slices.Contains(a.Names(), "Box") || a.Count("Other") != mail {
				t.Errorf("%d messages: %v, %d in it", mail, a.Names(), a.Count("Other"))
			}
		}
	}
}

// TestMadeAndUnwell: a folder is made on NEW, which tells nothing of it at that moment. Its owner deletes it on OLD before the next pass: it goes from NEW.
func TestMadeAndUnwell(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	w.run()
	old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
	old.Create("Box")
	w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "STATUS Box"})
	if r, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err != nil || len(r.Errors) != 1 || !slices.Contains(now.Names(), "Box") {
		t.Fatalf("%v, errors %v, NEW has %v", err, r.Errors, now.Names())
	}
	w.hosts[config.New].Fail(nil)
	old.Delete("Box")
	for range 2 {
		if _, err := w.Run(t.Context(), "user", syncer.RunOptions{Deletes: true}); err != nil {
			t.Fatal(err)
		}
	}
	if slices.Contains(now.Names(), "Box") {
		t.Errorf("NEW has %v", now.Names())
	}
}

// TestUnlistedAndUnwell: OLD does not list a folder, and refuses for the moment to tell of it. Nothing of it is deleted on NEW.
func TestUnlistedAndUnwell(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
	old.Create("Box")
	w.put(config.Old, "Box", "a", 10)
	w.run()
	old.Unlist("Box", 1)
	w.hosts[config.Old].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "STATUS Box", Text: "[UNAVAILABLE] later"})
	if r, err := w.Run(t.Context(), "user", syncer.RunOptions{Deletes: true}); err != nil || len(r.Errors) != 1 || now.Count("Box") != 1 {
		t.Errorf("%v, errors %v, NEW has %q", err, r.Errors, now.Names())
	}
	w.hosts[config.Old].Fail(nil)
	if w.run(); now.Count("Box") != 1 || old.Count("Box") != 1 {
		t.Errorf("OLD %d, NEW %d", old.Count("Box"), now.Count("Box"))
	}
}
