package store

import (
	"testing"

	"mailgate/op"
)

// conformWaves: a wave is written by whoever saw the last of it, with its events; its history is its own and its operations'.
func conformWaves(t *testing.T, s op.Store) {
	ctx := t.Context()
	at := alice.Since
	w := op.WaveRow{Name: "sales", Started: at, StartedBy: "kim", Flipped: at.Add(1), FlippedBy: "lee", SoakUntil: at.Add(2), Rolled: at.Add(3),
		RolledBy: "mo", RolledWhy: "gate lag", Completed: at.Add(4), CompletedBy: "ny", Gate: "lag", GateWhy: "14 s", GateAt: at.Add(5)}
	must(t, s.SaveWave(ctx, w, op.Event{User: op.HoldWave("sales"), What: "wave started"}))
	is(t, s.SaveWave(ctx, w, op.Event{User: op.HoldWave("sales"), What: "never"}), op.ErrConflict)
	w.Generation = 1
	list, err := s.Waves(ctx)
	must(t, err)
	same(t, list, []op.WaveRow{w})
	is(t, s.SaveWave(ctx, op.WaveRow{Name: "sales", Generation: 2}), op.ErrConflict)
	is(t, s.SaveWave(ctx, op.WaveRow{Name: "other", Generation: 1}), op.ErrConflict)
	must(t, s.SaveWave(ctx, op.WaveRow{Name: "sales", Generation: 1, Started: at}))
	must(t, s.SaveWave(ctx, op.WaveRow{Name: "pilot"}))
	list, err = s.Waves(ctx)
	must(t, err)
	same(t, list, []op.WaveRow{{Name: "pilot", Generation: 1}, {Name: "sales", Generation: 2, Started: at}})

	parent, err := s.NewOperation(ctx, op.Operation{Kind: op.Wave, Wave: "sales", Status: op.Running, Created: at, Changed: at})
	must(t, err)
	child := op.Operation{Kind: op.Flip, Wave: "sales", Parent: parent.ID, Status: op.Accepted, Created: at, Changed: at}
	one, two, alone := child, child, child
	one.User, two.User, alone.User, alone.Parent, alone.Wave = "a@x", "b@x", "a@x", "", ""
	two.Status = op.Done
	ops, err := s.NewOperations(ctx, []op.Operation{one, two, alone}, []op.Event{{User: "a@x", What: "first"}, {User: "b@x", What: "second"}, {User: "a@x", What: "third"}})
	must(t, err)
	ids := func(f op.Filter) (out []string) {
		t.Helper()
		list, err := s.Operations(ctx, f)
		must(t, err)
		for _, o := range list {
			out = append(out, o.ID)
		}
		return out
	}
	same(t, ids(op.Filter{Parent: parent.ID}), []string{ops[1].ID, ops[0].ID})
	same(t, ids(op.Filter{Parent: parent.ID, Open: true}), []string{ops[0].ID})
	same(t, ids(op.Filter{Parent: parent.ID, User: "b@x"}), []string{ops[1].ID})
	var what []string
	events, err := s.History(ctx, op.HistoryFilter{Wave: "sales"})
	must(t, err)
	for _, e := range events {
		what = append(what, e.What)
	}
	same(t, what, []string{"second", "first", "wave started"})
}
