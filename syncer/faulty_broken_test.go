package syncer_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// cut has a side end each connection on which it is asked for something.
func (w *faultyWorld) cut(side config.Side, what string) {
	w.hosts[side].Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Cut}, Only: what})
}

// once makes a pass that nobody has released anything for, and in which f is called behind its looks, ahead of its first change.
func (w *faultyWorld) once(t *testing.T, f func()) *syncer.Report {
	t.Helper()
	asked := 0
	rep, err := w.Run(t.Context(), "user", syncer.RunOptions{Decides: func(context.Context, string) (config.Side, int64, error) {
		if asked++; asked == 2 && f != nil {
			f()
		}
		return config.Old, 0, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// failed are the folders of a report that could not be done.
func failed(rep *syncer.Report) (names []string) {
	for _, e := range rep.Errors {
		names = append(names, e.Folder)
	}
	return names
}

// brokenWorld has three messages in each of INBOX, Work and Box, on both sides.
func brokenWorld(t *testing.T) (w *faultyWorld, old, now *faulty.Account) {
	t.Helper()
	w = newFaultyWorld(t, faulty.Dovecot(), faulty.Dovecot(), 1)
	old, now = w.hosts[config.Old].Account, w.hosts[config.New].Account
	for _, name := range []string{"Work", "Box"} {
		old.Create(name)
	}
	for range 3 {
		for _, name := range []string{"INBOX", "Work", "Box"} {
			w.deliver(config.Old, name)
		}
	}
	w.settle(t, "before")
	return w, old, now
}

// TestMovedWhereNobodyLooks: mail is moved on OLD into a folder at which connections end, out of one that stays or is deleted. It is not taken for
// deleted on NEW, whatever proofs there are; deletes wait until it is known. Of folders that have got nothing nobody waits for one.
func TestMovedWhereNobodyLooks(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		w, old, now := brokenWorld(t)
		for range 2 {
			m, _ := old.Move("Work", 0, "Box")
			w.of("Work", m, m.Flags).path = "Box"
		}
		if m, _ := old.Move("Work", 0, "INBOX"); gone {
			w.of("Work", m, m.Flags).path = "INBOX"
			old.Delete("Work")
		} else {
			w.of("Work", m, m.Flags).path = "INBOX"
		}
		w.cut(config.Old, "EXAMINE Box")
		for range 2 {
			rep := w.once(t, nil)
			if !slices.Equal(failed(rep), []string{"Box"}) || now.Count("Work") < 2 || len(rep.Held) != 1 || !strings.Contains(rep.Held[0].Why, "Box") {
				t.Errorf("gone %v: %d messages are left, %v, %+v", gone, now.Count("Work"), failed(rep), rep.Held)
			}
		}
		w.hosts[config.Old].Fail(nil)
		w.settle(t, "afterwards")
		w.check(t, "afterwards", true)

		m, _ := old.Expunge("INBOX", 0)
		w.drop("INBOX", m)
		w.cut(config.Old, "EXAMINE Box")
		if rep := w.once(t, nil); len(rep.Held) > 0 || now.Count("INBOX") != 3 {
			t.Errorf("gone %v: a delete waits: %+v", gone, rep)
		}
	}
}

// TestMovedWhereNobodyReads is the same for a folder that can be looked at and not read, and for mail that no move is known by. It goes from NEW when a
// person says that it is meant.
func TestMovedWhereNobodyReads(t *testing.T) {
	t.Parallel()
	w, old, now := brokenWorld(t)
	for range 2 {
		old.Append("Work", nil, time.Unix(1_700_000_000, 0), []byte("Subject: no Message-ID\r\n\r\ntext\r\n"))
	}
	if w.once(t, nil); now.Count("Work") != 5 {
		t.Fatal(now.Count("Work"))
	}
	old.Move("Work", 4, "Box")
	cut := func() { w.cut(config.Old, "UID FETCH 4") }
	for range 2 {
		if rep := w.once(t, cut); !slices.Equal(failed(rep), []string{"Box"}) || now.Count("Work") != 5 || len(rep.Held) != 1 || !strings.Contains(rep.Held[0].Why, "Box") {
			t.Errorf("%d messages are left, %v, %+v", now.Count("Work"), failed(rep), rep.Held)
		}
	}
	if rep, err := w.pass(t); err != nil || !slices.Equal(failed(rep), []string{"Box"}) || now.Count("Work") != 4 {
		t.Errorf("%v, %d messages are left, %v, %+v", err, now.Count("Work"), failed(rep), rep.Held)
	}
	w.hosts[config.Old].Fail(nil)
	if rep := w.once(t, nil); len(rep.Errors)+len(rep.Held) > 0 || now.Count("Work") != 4 || now.Count("Box") != 4 {
		t.Errorf("%+v; %d and %d", rep, now.Count("Work"), now.Count("Box"))
	}
}

// TestBreaksWhereMovesAreSought: connections end on NEW where the mail is looked at that is gone from OLD, to know it where it has gone to. The other
// folders are done.
func TestBreaksWhereMovesAreSought(t *testing.T) {
	t.Parallel()
	w, old, now := brokenWorld(t)
	w.deliver(config.Old, "INBOX")
	old.Expunge("Work", 2)
	w.cut(config.New, "UID FETCH 3")
	if rep := w.once(t, nil); !slices.Equal(failed(rep), []string{"Work"}) || now.Count("INBOX") != 4 || now.Count("Work") != 3 {
		t.Errorf("%v, %d and %d", failed(rep), now.Count("INBOX"), now.Count("Work"))
	}
	w.hosts[config.New].Fail(nil)
	if rep := w.once(t, nil); len(rep.Errors) > 0 || now.Count("Work") != 2 {
		t.Errorf("%+v, %d", rep, now.Count("Work"))
	}
}

// TestBreaksWhereItIsMovedFrom: connections end on NEW at the folder that mail is to be moved from. It is that folder's trouble, not that of the one
// which it is to be moved to, into which other mail comes.
func TestBreaksWhereItIsMovedFrom(t *testing.T) {
	t.Parallel()
	w, old, now := brokenWorld(t)
	m, _ := old.Move("Work", 0, "INBOX")
	w.of("Work", m, m.Flags).path = "INBOX"
	w.deliver(config.Old, "INBOX")
	rep := w.once(t, func() { w.cut(config.New, "SELECT Work") })
	if !slices.Equal(failed(rep), []string{"Work"}) || now.Count("Work") != 3 || now.Count("INBOX") != 4 {
		t.Errorf("%v, %d and %d", failed(rep), now.Count("Work"), now.Count("INBOX"))
	}
	w.hosts[config.New].Fail(nil)
	w.settle(t, "afterwards")
	w.check(t, "afterwards", true)
}

// TestRenamedOntoUnknown: a folder was renamed on NEW as on OLD, and connections end before that is known. No other folder is given the name that it
// had until it is.
func TestRenamedOntoUnknown(t *testing.T) {
	t.Parallel()
	w, old, now := brokenWorld(t)
	old.Rename("Work", "Done")
	old.Rename("Box", "Work")
	for _, l := range w.want {
		switch l.path {
		case "Work":
			l.path = "Done"
		case "Box":
			l.path = "Work"
		}
	}
	w.cut(config.New, "STATUS Done")
	if rep := w.once(t, nil); !slices.Equal(failed(rep), []string{"Done", "Work"}) {
		t.Errorf("%+v", rep.Errors)
	}
	if names := now.Names(); !slices.Equal(names, []string{"Box", "Done", "INBOX"}) {
		t.Errorf("NEW has %q", names)
	}
	w.hosts[config.New].Fail(nil)
	w.settle(t, "afterwards")
	w.check(t, "afterwards", true)
}
