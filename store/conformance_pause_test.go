package store

import (
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

// conformPauses: a pause is set once and dropped once, each with its event.
func conformPauses(t *testing.T, s, two syncer.Store) {
	ctx := t.Context()
	at := alice.Since.Add(time.Hour)
	set := func(p syncer.Pause, want bool) {
		t.Helper()
		changed, err := s.SetPause(ctx, p, op.Event{User: p.User, What: "sync paused", By: p.By})
		must(t, err)
		same(t, changed, want)
	}
	first := syncer.Pause{User: anna, By: "me", Reason: "a backup runs", At: at}
	all := syncer.Pause{User: syncer.Everybody, By: "you", At: at.Add(time.Second)}
	set(first, true)
	set(syncer.Pause{User: anna, By: "you", At: at.Add(time.Minute)}, false)
	set(all, true)
	list, err := two.Pauses(ctx)
	must(t, err)
	same(t, list, []syncer.Pause{all, first})
	for i, want := range []bool{true, false} {
		changed, err := two.DropPause(ctx, anna, op.Event{User: anna, What: "sync resumed", By: "me"})
		must(t, err)
		if changed != want {
			t.Errorf("drop %d: %v", i, changed)
		}
	}
	list, err = s.Pauses(ctx)
	must(t, err)
	same(t, list, []syncer.Pause{all})
	h, ok := s.(op.Store)
	if !ok {
		t.Fatal("no history")
	}
	events, err := h.History(ctx, op.HistoryFilter{User: anna})
	must(t, err)
	var what []string
	for _, e := range events {
		what = append(what, e.What)
	}
	same(t, what, []string{"sync resumed", "sync paused"})
}
