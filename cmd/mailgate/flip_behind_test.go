package main

import (
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
)

// TestLeftBehind moves a user away from a host that says nothing: what is left there is written down and shown, also by the next process,
// and is brought over when the host answers again.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	const user = "alice@example.com"
	m := newMemory(t, user)
	m.keeps("")
	m.deliver(0, user, 3)
	g := m.serve()
	until(t, "converged", func() bool { s := g.syncing.Status(user); return s != nil && s.Phase == "converged" && !s.Running })
	m.relay.block()
	m.deliver(0, user, 2) // nobody has seen these
	row, err := g.store.Row(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	next := row
	next.Side, next.Epoch, next.Generation = config.New, row.Epoch+1, row.Generation+1
	if err := g.store.Swap(t.Context(), row.Generation, next, op.Operation{}, nil); err != nil {
		t.Fatal(err)
	}
	newFlipMail(g).Moved(cutover.Move{Op: "op-7", User: user, From: config.Old, To: config.New, By: "test", Now: true})
	s := g.syncing.Status(user)
	if !strings.Contains(s.Behind, "what changed on old since") || !strings.Contains(s.Behind, "3 of them on both sides") {
		t.Errorf("status: %q", s.Behind)
	}
	if b, ok := (&behind{}).of(t.Context(), g, user); !ok || b.Read.IsZero() || b.Messages != 3 || b.Op != "op-7" {
		t.Errorf("the store: %+v %v", b, ok)
	}
	m.relay.unblock()
	until(t, "brought over", func() bool {
		return g.syncing.Status(user).Behind == "" && len(inboxSubjects(t, m.hosts[1].IMAP, user)) == 5
	})
	events, err := g.store.History(t.Context(), op.HistoryFilter{User: user})
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, e := range events {
		what = append(what, e.What)
	}
	if all := strings.Join(what, "; "); !strings.Contains(all, "brought over") || !strings.Contains(all, "left behind") {
		t.Errorf("history: %s", all)
	}
	if list, err := g.store.Behind(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
}

// TestCompared: the keeper compares both sides of who is kept, and that is known then; not again while it is fresh.
func TestCompared(t *testing.T) {
	t.Parallel()
	const user = "alice@example.com"
	m := newMemory(t, user)
	m.keeps("")
	m.deliver(0, user, 3)
	g := m.serve()
	until(t, "converged", func() bool { s := g.syncing.Status(user); return s != nil && s.Phase == "converged" && !s.Running })
	if _, _, ok, err := g.syncing.verified(t.Context(), user); ok || err != nil {
		t.Errorf("before: %v %v", ok, err)
	}
	until(t, "compared", func() bool {
		g.syncing.keeping.compareNow(t.Context(), user)
		_, equal, ok, err := g.syncing.verified(t.Context(), user)
		return equal && ok && err == nil
	})
	at, _, _, _ := g.syncing.verified(t.Context(), user)
	if wait := g.syncing.keeping.compareNow(t.Context(), user); wait > compareEvery || wait < compareEvery/2 {
		t.Errorf("again in %s", wait)
	}
	if again, _, _, _ := g.syncing.verified(t.Context(), user); !again.Equal(at) {
		t.Error("it was compared again at once")
	}
	// What clients delete is noted also of who is in no wave, from the moment when his flip begins.
	if g.syncing.flips("bob@example.com") {
		t.Error("nobody moves him")
	}
}
