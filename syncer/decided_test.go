package syncer_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/op"
	"mailgate/syncer"
)

// asideWorld is two sound hosts, with mail of one user in which some is set aside.
type asideWorld struct {
	*faultyWorld
	t testing.TB
}

func newAsideWorld(t testing.TB, old, new faulty.Product) *asideWorld {
	return &asideWorld{newFaultyWorld(t, old, new, 1), t}
}

// put delivers a message of so many bytes, and more, and gives its UID.
func (w *asideWorld) put(side config.Side, path, subject string, bytes int) uint32 {
	w.t.Helper()
	text := fmt.Sprintf("From: =?utf-8?q?J=C3=B6rg?= <j@example.com>\r\nMessage-ID: <%s@example.com>\r\nSubject: %s\r\n\r\n%s\r\n", subject, subject, strings.Repeat("x", bytes))
	uid := w.hosts[side].Account.Append(w.name(side, path), nil, time.Unix(1_700_000_000, 0), []byte(text))
	if uid == 0 {
		w.t.Fatalf("no %s on %s", path, side)
	}
	return uid
}

// run makes a pass in which every folder is done.
func (w *asideWorld) run() *syncer.Report {
	w.t.Helper()
	r, err := w.pass(w.t)
	if err != nil || len(r.Errors) > 0 {
		w.t.Fatalf("%v, %v", err, r.Errors)
	}
	return r
}

func (w *asideWorld) copied(what string, r *syncer.Report, want [2]int64, open, waived int) {
	w.t.Helper()
	if r.Copied != want || len(r.Quarantine) != open || len(r.Waived) != waived || r.Expunged != [2]int64{} {
		w.t.Fatalf("%s: copied %v, expunged %v, %d open, %d waived; want %v, none, %d, %d: %+v", what, r.Copied, r.Expunged, len(r.Quarantine), len(r.Waived), want,
			open, waived, r.Quarantine)
	}
}

func (w *asideWorld) decide(d syncer.Decision, s syncer.Selection) *syncer.QuarantineDecided {
	w.t.Helper()
	out, err := w.DecideQuarantine(w.t.Context(), "user", d, syncer.DecideOptions{Selection: s, By: "cli: me"})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *asideWorld) rows() []syncer.Quarantined {
	w.t.Helper()
	list, err := w.store.Quarantine(w.t.Context(), "user")
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// write writes rows as a pass does.
func (w *asideWorld) write(c syncer.Change) {
	w.t.Helper()
	token, err := w.store.Acquire(w.t.Context(), "user", "other", time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	c.User, c.Token = "user", token
	if _, err := w.store.Apply(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Release(w.t.Context(), "user", token); err != nil {
		w.t.Fatal(err)
	}
}

// box is the stored mailbox of a path.
func (w *asideWorld) box(path string) syncer.Mailbox {
	w.t.Helper()
	list, err := w.store.Mailboxes(w.t.Context(), "user")
	i := slices.IndexFunc(list, func(m syncer.Mailbox) bool { return m.Name[0] == w.name(config.Old, path) })
	if err != nil || i < 0 {
		w.t.Fatalf("%s: %v in %+v", path, err, list)
	}
	return list[i]
}

// doubt sets a message of NEW aside as a suspect.
func (w *asideWorld) doubtful(path string, uid uint32) {
	w.t.Helper()
	m := w.box(path)
	now := time.Now()
	w.write(syncer.Change{Quarantine: []syncer.Quarantined{{User: "user", Mailbox: m.ID, Side: config.New, Validity: m.Validity[1], UID: uid, Reason: "suspect", First: now, Last: now}}})
}

func (w *asideWorld) verified(equal bool, open, waived int64) *syncer.Verification {
	w.t.Helper()
	v, err := w.Verify(w.t.Context(), "user", syncer.VerifyOptions{Deep: true})
	if err != nil {
		w.t.Fatal(err)
	}
	if v.Equal != equal || v.Open != open || v.Waived != waived || v.Different() > 0 {
		w.t.Errorf("verify: equal %t, %d open, %d waived, %d different; want %t, %d, %d, 0", v.Equal, v.Open, v.Waived, v.Different(), equal, open, waived)
	}
	return v
}

func (w *asideWorld) later(d time.Duration) { w.clock.Add(int64(d)) }

// TestWaived: what is waived stays where it is, whatever happens around it; taking that back carries it at once.
func TestWaived(t *testing.T) {
	for _, p := range []func() faulty.Product{faulty.Dovecot, faulty.Courier, faulty.Plain} {
		t.Run(p().Name, func(t *testing.T) {
			t.Parallel()
			w := newAsideWorld(t, p(), p())
			new := w.hosts[config.New].Account
			new.Limit(1000)
			w.put(config.Old, "INBOX", "small", 10)
			big := w.put(config.Old, "INBOX", "big", 5000)
			w.copied("first", w.run(), [2]int64{0, 1}, 1, 0)
			w.verified(false, 1, 0)
			l, err := w.ListQuarantine(t.Context(), "user")
			if err != nil || l.Open != 1 || l.Waived != 0 || len(l.Messages) != 1 || len(l.Notes) > 0 {
				t.Fatalf("%+v, %v", l, err)
			}
			m := l.Messages[0]
			if m.Folder != [2]string{"INBOX", "INBOX"} || m.Side != config.Old || m.UID != big || m.Subject != "big" || m.From != "Jörg <j@example.com>" || m.Size < 5000 ||
				m.Date.Unix() != 1_700_000_000 || m.Reason != "too-big" || !strings.Contains(m.Said, "message too large") || !strings.Contains(m.WayOut, "size limit of NEW") ||
				m.Tries != 1 || m.Next.Sub(m.Last) != 2*time.Minute || m.Gone {
				t.Errorf("%+v", m)
			}

			out := w.decide(syncer.Waived, syncer.Selection{UIDs: []uint32{big}})
			if len(out.Messages) != 1 || out.Already != 0 {
				t.Errorf("%+v", out)
			}
			if out = w.decide(syncer.Waived, syncer.Selection{}); len(out.Messages) != 0 || out.Already != 1 {
				t.Errorf("once more: %+v", out)
			}
			new.Limit(0)
			w.later(48 * time.Hour)
			w.copied("waived", w.run(), [2]int64{}, 0, 1)
			w.put(config.Old, "INBOX", "another", 10)
			w.copied("with other mail", w.run(), [2]int64{0, 1}, 0, 1)
			w.copied("unchanged", w.run(), [2]int64{}, 0, 1)
			v := w.verified(true, 0, 1)
			if f := v.Folders[0]; f.Waived != 1 || len(f.Explained) != 1 || !strings.Contains(f.Explained[0].Why, "waived by cli: me on ") || f.Explained[0].Subject != "big" {
				t.Errorf("%+v", f)
			}
			if n := [2]int{w.hosts[0].Account.Count("INBOX"), new.Count("INBOX")}; n != [2]int{3, 2} {
				t.Errorf("%d messages", n)
			}
			if l, err := w.ListQuarantine(t.Context(), "user"); err != nil || l.Open != 0 || l.Waived != 1 || l.Messages[0].By != "cli: me" || l.Messages[0].Decided.IsZero() {
				t.Errorf("%+v, %v", l, err)
			}

			_, err = w.DecideQuarantine(t.Context(), "user", syncer.Retry, syncer.DecideOptions{By: "x"})
			if !errors.Is(err, syncer.ErrNoneMeant) || !strings.Contains(err.Error(), "1 waived") {
				t.Errorf("by the way: %v", err)
			}
			w.decide(syncer.Retry, syncer.Selection{UIDs: []uint32{big}})
			w.copied("taken back", w.run(), [2]int64{0, 1}, 0, 0)
			w.verified(true, 0, 0)
			if list := w.rows(); len(list) > 0 {
				t.Errorf("%+v", list)
			}
			history, err := w.store.History(t.Context(), op.HistoryFilter{User: "user"})
			if err != nil || len(history) != 2 || history[1].What != "quarantine waived" || history[1].By != "cli: me" ||
				!strings.Contains(history[1].Detail, fmt.Sprintf("too-big: UID %d of INBOX on OLD", big)) || history[0].What != "quarantine retry" {
				t.Errorf("%+v, %v", history, err)
			}
		})
	}
}

// TestRetryAtOnce: a pass tries at once what somebody asked for, once, and then waits again.
func TestRetryAtOnce(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	new := w.hosts[config.New].Account
	new.Limit(1000)
	w.put(config.Old, "INBOX", "big", 5000)
	w.run()
	for range 5 {
		w.later(24 * time.Hour)
		w.copied("refused", w.run(), [2]int64{}, 1, 0)
	}
	tries := w.rows()[0].Tries
	if w.run(); tries != 6 || w.rows()[0].Tries != tries {
		t.Fatalf("%d tries, then %d", tries, w.rows()[0].Tries)
	}
	w.decide(syncer.Retry, syncer.Selection{Reason: "too-big"})
	w.copied("refused again", w.run(), [2]int64{}, 1, 0)
	if q := w.rows()[0]; q.Tries != tries+1 || q.Decision != syncer.Undecided {
		t.Errorf("%+v", q)
	}
	new.Limit(0)
	w.copied("not asked for", w.run(), [2]int64{}, 1, 0)
	w.decide(syncer.Retry, syncer.Selection{Folder: "inbox", Side: "old"})
	w.copied("asked for", w.run(), [2]int64{0, 1}, 0, 0)
}

// TestAskedFor: mail that waits for a person, of a folder that began anew and a suspect, is tried by no pass; who wants it gets it as
// a new message, who waives it keeps it on the follower only.
func TestAskedFor(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	w.hosts[0].Account.Create("Work")
	for i := range 3 {
		w.put(config.Old, "Work", fmt.Sprint(i), 10)
	}
	w.put(config.Old, "INBOX", "first", 10)
	w.run()
	w.hosts[0].Account.Delete("Work")
	w.hosts[0].Account.Create("Work")
	w.put(config.Old, "Work", "0", 10)
	suspect := w.put(config.New, "INBOX", "suspect", 10)
	w.doubtful("INBOX", suspect)
	w.copied("began anew", w.run(), [2]int64{}, 3, 0)
	for range 3 {
		w.later(48 * time.Hour)
		w.copied("two lost, one suspect", w.run(), [2]int64{}, 3, 0)
	}
	w.verified(false, 3, 0)
	_, err := w.DecideQuarantine(t.Context(), "user", syncer.Retry, syncer.DecideOptions{By: "x"})
	if !errors.Is(err, syncer.ErrNoneMeant) || !strings.Contains(err.Error(), "2 reset") || !strings.Contains(err.Error(), "1 suspect") {
		t.Errorf("by the way: %v", err)
	}
	if _, err = w.DecideQuarantine(t.Context(), "user", syncer.Waived, syncer.DecideOptions{Selection: syncer.Selection{UIDs: []uint32{2}}}); !errors.Is(err, syncer.ErrAmbiguous) {
		t.Errorf("UID 2 is in two folders: %v", err)
	}
	w.decide(syncer.Waived, syncer.Selection{UIDs: []uint32{2}, Folder: "Work"})
	w.decide(syncer.Retry, syncer.Selection{Reason: "reset"})
	w.copied("one is wanted", w.run(), [2]int64{1, 0}, 1, 1)
	w.decide(syncer.Retry, syncer.Selection{UIDs: []uint32{suspect}, Folder: "INBOX"})
	w.copied("and the suspect", w.run(), [2]int64{1, 0}, 0, 1)
	w.later(48 * time.Hour)
	w.copied("nothing more", w.run(), [2]int64{}, 0, 1)
	w.verified(true, 0, 1)
	for side, want := range [][2]int{{2, 2}, {2, 3}} {
		a := w.hosts[side].Account
		if got := [2]int{a.Count("INBOX"), a.Count("Work")}; got != want {
			t.Errorf("side %d: %d, want %d", side, got, want)
		}
	}
}

// TestDecidedTwin: a twin of a message that was appended twice is removed, but not when somebody has decided about it.
func TestDecidedTwin(t *testing.T) {
	for _, d := range []syncer.Decision{syncer.Undecided, syncer.Waived, syncer.Retry} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
			uid := w.put(config.Old, "INBOX", "x", 10)
			w.run()
			twin := w.put(config.New, "INBOX", "x", 10)
			w.doubtful("INBOX", twin)
			m := w.box("INBOX")
			w.write(syncer.Change{AddIntents: []syncer.Intent{{User: "user", Mailbox: m.ID, Side: config.New, Kind: syncer.IntentSuspect, Validity: m.Validity[1], UIDNext: twin,
				Payload: syncer.SuspectPayload(uid, 1_700_000_000), Created: time.Now()}}})
			if d != syncer.Undecided {
				w.decide(d, syncer.Selection{UIDs: []uint32{twin}})
			}
			w.run()
			want := map[syncer.Decision][2]int{syncer.Undecided: {1, 1}, syncer.Waived: {1, 2}, syncer.Retry: {2, 2}}[d]
			if got := [2]int{w.hosts[0].Account.Count("INBOX"), w.hosts[1].Account.Count("INBOX")}; got != want {
				t.Errorf("%d messages, want %d", got, want)
			}
		})
	}
}

// TestMovedBackNoSuspect: mail of which a late copy may still arrive, and which its owner moves away and back where he works, is the mail that he
// has moved; what comes otherwise is in doubt.
func TestMovedBackNoSuspect(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	old, new := w.hosts[config.Old].Account, w.hosts[config.New].Account
	old.Create("Work")
	uid := w.put(config.New, "INBOX", "x", 10)
	w.run()
	m := w.box("INBOX")
	w.write(syncer.Change{AddIntents: []syncer.Intent{{User: "user", Mailbox: m.ID, Side: config.Old, Kind: syncer.IntentSuspect, Validity: m.Validity[0], UIDNext: 1,
		Payload: syncer.SuspectPayload(uid, 1_700_000_000), Created: time.Now()}}})
	old.Move("INBOX", 0, "Work")
	w.run()
	old.Move("Work", 0, "INBOX")
	w.run()
	if got := [4]int{old.Count("INBOX"), old.Count("Work"), new.Count("INBOX"), new.Count("Work")}; got != [4]int{1, 0, 1, 0} || len(w.rows()) > 0 {
		t.Errorf("%d messages, in quarantine: %+v", got, w.rows())
	}
	old.Expunge("INBOX", 0)
	w.run()
	w.put(config.Old, "INBOX", "x", 10)
	w.run()
	if new.Count("INBOX") != 0 || len(w.rows()) != 1 {
		t.Errorf("NEW has %d messages, in quarantine: %+v", new.Count("INBOX"), w.rows())
	}
}

// TestWaivedRenumbered: a waiver holds when a rename gives the message another UID.
func TestWaivedRenumbered(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Courier())
	w.hosts[0].Account.Create("Work")
	for i := range 3 {
		w.put(config.Old, "Work", fmt.Sprint(i), 10+i)
	}
	w.run()
	w.hosts[1].Account.Expunge(w.name(config.New, "Work"), 0)
	w.run() // made again, so that UIDs begin behind 1
	w.doubtful("Work", w.put(config.New, "Work", "suspect", 10))
	w.decide(syncer.Waived, syncer.Selection{Reason: "suspect"})
	before := w.rows()[0]
	w.copied("waived", w.run(), [2]int64{}, 0, 1)
	w.hosts[0].Account.Rename("Work", "Box")
	w.copied("renamed", w.run(), [2]int64{}, 0, 1)
	w.later(48 * time.Hour)
	w.copied("later", w.run(), [2]int64{}, 0, 1)
	list := w.rows()
	if len(list) != 1 || list[0].Validity == before.Validity || list[0].UID == before.UID || list[0].By != "cli: me" {
		t.Errorf("%+v, before %+v", list, before)
	}
	w.verified(true, 0, 1)
}

// TestWaivedWithoutCopy: the copy of a message is gone, and NEW does not take it again. Its pair stands, and must not be taken for a
// copy when it is written with others.
func TestWaivedWithoutCopy(t *testing.T) {
	t.Parallel()
	w := newAsideWorld(t, faulty.Dovecot(), faulty.Dovecot())
	w.put(config.Old, "INBOX", "big", 5000)
	w.put(config.Old, "INBOX", "small", 10)
	w.run()
	new := w.hosts[config.New].Account
	new.Limit(1000)
	new.Expunge("INBOX", 0)
	w.copied("gone", w.run(), [2]int64{}, 1, 0)
	w.decide(syncer.Waived, syncer.Selection{})
	new.Limit(0)
	w.put(config.Old, "INBOX", "another", 10)
	w.copied("with another", w.run(), [2]int64{0, 1}, 0, 1)
	w.later(48 * time.Hour)
	w.copied("later", w.run(), [2]int64{}, 0, 1)
	w.decide(syncer.Retry, syncer.Selection{Waived: true})
	w.copied("wanted", w.run(), [2]int64{0, 1}, 0, 0)
	if list := w.rows(); len(list) > 0 {
		t.Errorf("%+v", list)
	}
	w.verified(true, 0, 0)
}
