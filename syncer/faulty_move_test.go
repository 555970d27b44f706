package syncer_test

import (
	"slices"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/faulty"
)

// TestMoveRefused has NEW refuse to open the folder that a message was moved to: it stands where it was, and the next pass moves it.
func TestMoveRefused(t *testing.T) {
	t.Parallel()
	w := newFaultyWorld(t, faulty.DovecotPrefixed(), faulty.Dovecot(), 1)
	old := w.hosts[config.Old].Account
	old.Create(w.name(config.Old, "Work"))
	for range 3 {
		w.deliver(config.Old, "INBOX")
		w.deliver(config.Old, "Work")
	}
	w.settle(t, "before")
	m, _ := old.Move("INBOX", 1, w.name(config.Old, "Work"))
	w.of("INBOX", m, m.Flags).path = "Work"
	w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "SELECT Work"})
	rep, err := w.pass(t)
	if err != nil || len(rep.Errors) != 1 {
		t.Errorf("%v %+v", err, rep)
	}
	w.settle(t, "afterwards")
	w.check(t, "afterwards", true)
}

// TestRenameRefused has NEW refuse to rename a folder, with one below it that NEW does not know yet: nothing is made in its place, and
// the next pass renames it.
func TestRenameRefused(t *testing.T) {
	t.Parallel()
	w := newFaultyWorld(t, faulty.DovecotPrefixed(), faulty.Dovecot(), 1)
	old := w.hosts[config.Old].Account
	old.Create(w.name(config.Old, "Work"))
	for range 3 {
		w.deliver(config.Old, "Work")
	}
	w.settle(t, "before")
	old.Create(w.name(config.Old, "Work/2026"))
	old.Rename(w.name(config.Old, "Work"), w.name(config.Old, "Box"))
	for _, l := range w.want {
		l.path = "Box"
	}
	w.deliver(config.Old, "Box/2026")
	w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Refuse}, Only: "RENAME Work"})
	rep, err := w.pass(t)
	if err != nil || len(rep.Errors) != 2 {
		t.Errorf("%v %+v", err, rep.Errors)
	}
	w.settle(t, "afterwards")
	w.check(t, "afterwards", true)
	if names := w.hosts[config.New].Account.Names(); !slices.Equal(names, []string{"Box", "Box/2026", "INBOX"}) {
		t.Errorf("NEW has %q", names)
	}
}

// TestMoveCutOutOfGone: on OLD the mail of a folder was moved to another and the folder deleted. NEW ends each connection on which it is to be moved:
// the folder stays there with its mail until the move has come about, and is gone then.
func TestMoveCutOutOfGone(t *testing.T) {
	t.Parallel()
	w := newFaultyWorld(t, faulty.DovecotPrefixed(), faulty.Dovecot(), 1)
	old, now := w.hosts[config.Old].Account, w.hosts[config.New].Account
	old.Create(w.name(config.Old, "Work"))
	old.Create(w.name(config.Old, "Box"))
	for range 3 {
		w.deliver(config.Old, "Box")
		w.deliver(config.Old, "Work")
	}
	w.settle(t, "before")
	for range 3 {
		old.Move(w.name(config.Old, "Work"), 0, w.name(config.Old, "Box"))
	}
	old.Delete(w.name(config.Old, "Work"))
	for _, l := range w.want {
		if l.path == "Work" {
			l.path = "Box"
		}
	}
	w.hosts[config.New].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Cut}, Only: "UID MOVE 1:3"})
	rep, err := w.pass(t)
	if err != nil || len(rep.Errors) != 1 || now.Count("Work") != 3 || now.Count("Box") != 3 {
		t.Errorf("%v %+v; %d and %d", err, rep, now.Count("Work"), now.Count("Box"))
	}
	w.hosts[config.New].Fail(nil)
	rep, err = w.pass(t)
	if names := now.Names(); err != nil || !slices.Equal(names, []string{"Box", "INBOX"}) || rep.Moved[config.New] != 3 {
		t.Errorf("%v, %+v; NEW has %q", err, rep, names)
	}
	w.check(t, "afterwards", true)
}
