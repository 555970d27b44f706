package store

import (
	"testing"
	"time"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
	"mailgate/syncer"
)

// gateCounts has another number in each place.
func gateCounts(n int64) gate.Counts {
	return gate.Counts{LoginsOK: n, LoginsRefused: n + 1, LoginsFailed: n + 2, Sessions: n + 3, Broken: n + 4, MailOK: n + 5, MailRefused: n + 6}
}

// gateDay is a day in the middle of nowhere.
func gateDay(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }

// fillGates writes something into every table of gates.
func fillGates(t *testing.T, s gate.Store) {
	t.Helper()
	ctx := t.Context()
	must(t, s.SaveBaselines(ctx, []gate.Baseline{{User: anna, At: alice.Since, Week: gateCounts(10), Day: gateCounts(1)}}))
	must(t, s.SaveSignals(ctx, []gate.Row{{Node: "gw1", User: anna, Side: config.New, Day: gateDay(3), Counts: gateCounts(20)}}))
	must(t, s.PutWaiver(ctx, gate.Waiver{Scope: op.HoldWave("pilot"), Gate: config.GateLag, By: "kim", Reason: "known", At: alice.Since,
		Until: alice.Since.Add(time.Hour)}))
}

// gateStore is what the store keeps of gates.
type gateStore struct {
	Baselines []gate.Baseline
	Signals   []gate.Row
	Waivers   []gate.Waiver
}

func dumpGates(t *testing.T, s gate.Store) (d gateStore) {
	t.Helper()
	ctx := t.Context()
	var err error
	d.Baselines, err = s.Baselines(ctx)
	must(t, err)
	must(t, s.Signals(ctx, time.Time{}, func(r gate.Row) error { d.Signals = append(d.Signals, r); return nil }))
	d.Waivers, err = s.Waivers(ctx)
	must(t, err)
	return d
}

// conformGates is what every gate.Store must do.
func conformGates(t *testing.T, one, two syncer.Store) {
	ctx := t.Context()
	s, other := one.(gate.Store), two.(gate.Store)
	same(t, dumpGates(t, s), gateStore{})
	must(t, s.SaveBaselines(ctx, nil))
	must(t, s.SaveSignals(ctx, nil))
	fillGates(t, s)

	annas := gate.Baseline{User: anna, At: alice.Since, Week: gateCounts(10), Day: gateCounts(1)}
	berts := gate.Baseline{User: bert, At: alice.Since, Week: gateCounts(100)}
	must(t, other.SaveBaselines(ctx, []gate.Baseline{berts}))
	same(t, dumpGates(t, s).Baselines, []gate.Baseline{annas, berts})
	annas.At, annas.Day = annas.At.Add(time.Second), gate.Counts{}
	must(t, other.SaveBaselines(ctx, []gate.Baseline{annas}))
	same(t, dumpGates(t, s).Baselines, []gate.Baseline{annas, berts})
	must(t, s.SaveBaselines(ctx, []gate.Baseline{{User: anna, At: annas.At.Add(-time.Second), Week: gateCounts(1)}})) // an older one
	same(t, dumpGates(t, s).Baselines, []gate.Baseline{annas, berts})
	annas.Week = gateCounts(11) // the same anew
	must(t, s.SaveBaselines(ctx, []gate.Baseline{annas}))
	same(t, dumpGates(t, s).Baselines, []gate.Baseline{annas, berts})

	row := func(node, user string, side config.Side, day int, n int64) gate.Row {
		return gate.Row{Node: node, User: user, Side: side, Day: gateDay(day), Counts: gateCounts(n)}
	}
	a3 := row("gw1", anna, config.New, 3, 20)
	a4, a4b, old, b3 := row("gw1", anna, config.New, 4, 30), row("gw2", anna, config.New, 4, 40), row("gw1", anna, config.Old, 4, 50), row("gw1", bert, config.New, 3, 60)
	must(t, s.SaveSignals(ctx, []gate.Row{a4, a4b, old, b3}))
	same(t, dumpGates(t, other).Signals, []gate.Row{old, a3, a4, a4b, b3})
	a4.Counts = gateCounts(31)
	a3.Counts = gate.Counts{}
	must(t, other.SaveSignals(ctx, []gate.Row{a4, a3, {Node: "gw9", User: bert, Day: gateDay(9)}}))
	same(t, dumpGates(t, s).Signals, []gate.Row{old, a4, a4b, b3})
	var since []gate.Row
	must(t, s.Signals(ctx, gateDay(4), func(r gate.Row) error { since = append(since, r); return nil }))
	same(t, since, []gate.Row{old, a4, a4b})
	n, err := other.ForgetSignals(ctx, gateDay(4))
	must(t, err)
	same(t, n, 1)
	same(t, dumpGates(t, s).Signals, []gate.Row{old, a4, a4b})

	lag := dumpGates(t, s).Waivers[0]
	users := gate.Waiver{Scope: op.HoldUser(anna), Gate: config.GateLag, By: "kim", Reason: "why", At: alice.Since, Until: alice.Since.Add(time.Hour)}
	must(t, s.PutWaiver(ctx, users, op.Event{User: anna, What: "gate waived", By: "kim"}))
	same(t, dumpGates(t, other).Waivers, []gate.Waiver{users, lag})
	lag.By, lag.Until = "lee", lag.Until.Add(time.Hour)
	must(t, other.PutWaiver(ctx, lag))
	same(t, dumpGates(t, s).Waivers, []gate.Waiver{users, lag})
	for i, want := range []bool{true, false} {
		changed, err := other.DropWaiver(ctx, lag.Scope, lag.Gate, op.Event{What: "gate no longer waived", By: "lee"})
		must(t, err)
		if changed != want {
			t.Errorf("dropped %v in round %d", changed, i)
		}
	}
	same(t, dumpGates(t, s).Waivers, []gate.Waiver{users})
	events, err := one.(op.Store).History(ctx, op.HistoryFilter{})
	must(t, err)
	if len(events) != 2 || events[0].What != "gate no longer waived" || events[1].User != anna {
		t.Errorf("history %+v", events)
	}
}
