package store

import (
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

// conformVerified: the last comparison of a user stands, and what was left behind until it is dropped.
func conformVerified(t *testing.T, s, two syncer.Store) {
	ctx := t.Context()
	at := alice.Since.Add(time.Hour)
	if v, ok, err := s.Verified(ctx, anna); ok || err != nil {
		t.Errorf("%+v %v %v", v, ok, err)
	}
	must(t, s.SaveVerified(ctx, syncer.Verified{User: anna, At: at, Equal: true, Text: []byte("{}")}))
	must(t, s.SaveVerified(ctx, syncer.Verified{User: "bert", At: at, Equal: true, Text: []byte("\x00\xff")}))
	must(t, two.SaveVerified(ctx, syncer.Verified{User: anna, At: at.Add(time.Second), Text: []byte(`{"found":1}`)}))
	v, ok, err := s.Verified(ctx, anna)
	must(t, err)
	same(t, ok, true)
	same(t, v, syncer.Verified{User: anna, At: at.Add(time.Second), Text: []byte(`{"found":1}`)})
	v, _, err = two.Verified(ctx, "bert")
	must(t, err)
	same(t, v, syncer.Verified{User: "bert", At: at, Equal: true, Text: []byte("\x00\xff")})

	must(t, s.SaveProofs(ctx, map[string][]byte{anna: []byte("[1]"), "bert": []byte("[2]"), "carl": nil}))
	must(t, two.SaveProofs(ctx, map[string][]byte{anna: []byte("[3]"), "bert": nil}))
	proofs, err := s.Proofs(ctx)
	must(t, err)
	same(t, proofs, map[string][]byte{anna: []byte("[3]")})

	must(t, s.SaveBehind(ctx, syncer.Behind{User: "bert", At: at, Text: []byte("{}")}))
	must(t, s.SaveBehind(ctx, syncer.Behind{User: anna, At: at, Text: []byte("{}")}))
	must(t, two.SaveBehind(ctx, syncer.Behind{User: anna, At: at.Add(time.Second), Text: []byte(`{"n":2}`)}, op.Event{User: anna, What: "left behind"}))
	list, err := s.Behind(ctx)
	must(t, err)
	same(t, list, []syncer.Behind{{User: anna, At: at.Add(time.Second), Text: []byte(`{"n":2}`)}, {User: "bert", At: at, Text: []byte("{}")}})
	for _, want := range []bool{true, false} {
		was, err := s.DropBehind(ctx, anna, op.Event{User: anna, What: "brought over"})
		must(t, err)
		same(t, was, want)
	}
	list, err = two.Behind(ctx)
	must(t, err)
	same(t, len(list), 1)
	if events, ok := s.(op.Store); ok {
		all, err := events.History(ctx, op.HistoryFilter{User: anna})
		must(t, err)
		same(t, len(all), 2)
	}
}
