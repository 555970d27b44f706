package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// conform is what every op.Store must do. open gives a fresh store; reopen closes it and opens what it left.
func conform(t *testing.T, open func(*testing.T) op.Store, reopen func(*testing.T, op.Store) op.Store) {
	for name, f := range map[string]func(*testing.T, op.Store){
		"rows": conformRows, "swap": conformSwap, "swap is whole or not at all": conformSwapWhole,
		"swap races": conformSwapRace, "operations": conformOperations, "pins": conformPins, "history": conformHistory,
		"import": conformImport, "import is whole or not at all": conformImportWhole, "nodes": conformNodes, "holds": conformHolds, "waves": conformWaves, "commit": conformCommit,
		"a cancelled context": conformCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			defer func() { s.Close() }()
			f(t, s)
		})
	}
	t.Run("everything is there after reopening", func(t *testing.T) {
		s := open(t)
		o := fill(t, s)
		before := dump(t, s)
		s = reopen(t, s)
		defer func() { s.Close() }()
		if after := dump(t, s); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		next, err := s.NewOperation(t.Context(), op.Operation{Kind: op.Flip, User: "x@example.com"})
		if err != nil || next.ID == o.ID {
			t.Errorf("the ID %s is given out twice (%v)", next.ID, err)
		}
	})
}

var (
	alice = op.Row{User: "alice@example.com", Side: config.Old, State: op.Settled, Since: time.Unix(1700000000, 123456789).UTC()}
	errNo = errors.New("not this one")
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func rows(t *testing.T, s op.Store) map[string]op.Row {
	t.Helper()
	m := map[string]op.Row{}
	must(t, s.Rows(t.Context(), func(r op.Row) error { m[r.User] = r; return nil }))
	return m
}

// fill writes something of every kind, and returns the operation.
func fill(t *testing.T, s op.Store) op.Operation {
	t.Helper()
	ctx := t.Context()
	must(t, s.AddRows(ctx, []op.Row{alice}))
	o, err := s.NewOperation(ctx, op.Operation{Kind: op.Flip, User: alice.User, Target: config.New, Status: op.Accepted, By: "test",
		Created: alice.Since, Changed: alice.Since}, op.Event{At: alice.Since, What: "flip requested"})
	must(t, err)
	next := alice
	next.Side, next.Generation, next.Epoch = config.New, 7, 1
	must(t, s.Swap(ctx, 0, next, o, &op.Pin{User: alice.User, Side: config.New, By: "test", Reason: "why", At: alice.Since}))
	_, err = s.Import(ctx, op.ImportTx{Serial: "abc", Set: []op.Desired{{User: alice.User, Side: config.Old}}, Rules: op.Rules{
		Default: config.New, Patterns: []op.Pattern{{Domain: "sales.example.com", Side: config.Old}}, Addresses: "fold +"}})
	must(t, err)
	must(t, s.AddNode(ctx, op.Node{Name: "gw1"}))
	_, err = s.AddHold(ctx, op.Hold{Scope: op.HoldWave("later"), By: "test", Reason: "why", At: alice.Since})
	must(t, err)
	return o
}

// dump is all that a store holds, as text.
func dump(t *testing.T, s op.Store) string {
	t.Helper()
	ctx := t.Context()
	var b strings.Builder
	var lines []string
	must(t, s.Rows(ctx, func(r op.Row) error { lines = append(lines, fmt.Sprintf("row %+v", r)); return nil }))
	serial, err := s.Desired(ctx, func(d op.Desired) error { lines = append(lines, fmt.Sprintf("line %+v", d)); return nil })
	must(t, err)
	slices.Sort(lines)
	fmt.Fprintln(&b, serial, lines)
	ops, err := s.Operations(ctx, op.Filter{})
	must(t, err)
	pins, err := s.Pins(ctx)
	must(t, err)
	events, err := s.History(ctx, op.HistoryFilter{})
	must(t, err)
	rules, err := s.Rules(ctx)
	must(t, err)
	nodes, err := s.Nodes(ctx)
	must(t, err)
	waves, err := s.Waves(ctx)
	must(t, err)
	holds, err := s.Holds(ctx)
	must(t, err)
	fmt.Fprintf(&b, "%+v\n%+v\n%+v\n%+v\n%+v\n%+v\n%+v\n", ops, pins, events, rules, nodes, waves, holds)
	return b.String()
}

func conformRows(t *testing.T, s op.Store) {
	ctx := t.Context()
	_, err := s.Row(ctx, alice.User)
	is(t, err, op.ErrNotFound)
	full := op.Row{User: "b@example.com", Side: config.New, Epoch: 3, Generation: 9, State: op.Drain, Target: config.Old, Op: "op-5",
		Since: alice.Since}
	must(t, s.AddRows(ctx, nil))
	must(t, s.AddRows(ctx, []op.Row{alice, full}))
	got, err := s.Row(ctx, full.User)
	must(t, err)
	same(t, got, full)

	other := full
	other.Side, other.Generation = config.Old, 100
	carol := op.Row{User: "carol@example.com", State: op.Settled} // a zero time stays zero
	must(t, s.AddRows(ctx, []op.Row{other, carol}))
	same(t, rows(t, s), map[string]op.Row{alice.User: alice, full.User: full, carol.User: carol})

	n := 0
	is(t, s.Rows(ctx, func(op.Row) error { n++; return errNo }), errNo)
	same(t, n, 1)
	must(t, s.Check(ctx))
}

func conformSwap(t *testing.T, s op.Store) {
	ctx := t.Context()
	next := alice
	next.Generation, next.State, next.Target, next.Op = 1, op.Fence, config.New, "op-1"
	is(t, s.Swap(ctx, 0, next, op.Operation{}, nil), op.ErrNotFound)
	must(t, s.AddRows(ctx, []op.Row{alice}))
	o, err := s.NewOperation(ctx, op.Operation{Kind: op.Flip, User: alice.User, Status: op.Accepted})
	must(t, err)
	o.Status, o.Step, o.Deadline, o.Took, o.Reason = op.Running, "FENCE", alice.Since, 3*time.Second, "because"
	must(t, s.Swap(ctx, 0, next, o, nil, op.Event{What: "one"}, op.Event{What: "two"}))
	got, err := s.Row(ctx, alice.User)
	must(t, err)
	same(t, got, next)
	saved, err := s.Operation(ctx, o.ID)
	must(t, err)
	same(t, saved, o)
	h, err := s.History(ctx, op.HistoryFilter{})
	must(t, err)
	same(t, []string{h[0].What, h[1].What}, []string{"two", "one"})
	is(t, s.Swap(ctx, 0, alice, op.Operation{}, nil), op.ErrConflict)
	is(t, s.Swap(ctx, 2, alice, op.Operation{}, nil), op.ErrConflict)
	// Without an operation the row alone is written.
	next.Generation = 2
	must(t, s.Swap(ctx, 1, next, op.Operation{}, nil))
}

// conformSwapWhole: a swap that fails has written nothing, whatever part of it fails.
func conformSwapWhole(t *testing.T, s op.Store) {
	ctx := t.Context()
	o := fill(t, s)
	row, err := s.Row(ctx, alice.User)
	must(t, err)
	before := dump(t, s)
	next := row
	next.Generation, next.Side = 50, config.Old
	o.Status, o.Reason = op.Done, "changed"
	pin := &op.Pin{User: alice.User}
	is(t, s.Swap(ctx, row.Generation-1, next, o, pin, op.Event{What: "no"}), op.ErrConflict)
	o.ID = "op-4711"
	is(t, s.Swap(ctx, row.Generation, next, o, pin, op.Event{What: "no"}), op.ErrNotFound)
	is(t, s.SaveOperation(ctx, o, op.Event{What: "no"}), op.ErrNotFound)
	is(t, s.DeletePin(ctx, "nobody@example.com", op.Event{What: "no"}), op.ErrNotFound)
	same(t, dump(t, s), before)
}

// conformSwapRace: of many who saw the same generation exactly one wins.
func conformSwapRace(t *testing.T, s op.Store) {
	must(t, s.AddRows(t.Context(), []op.Row{alice}))
	for gen := range int64(5) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 8 {
			wg.Go(func() {
				next := alice
				next.Generation, next.Epoch = gen+1, int64(i)
				err := s.Swap(t.Context(), gen, next, op.Operation{}, nil, op.Event{What: "won"})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, op.ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		same(t, won, 1)
	}
	h, err := s.History(t.Context(), op.HistoryFilter{})
	must(t, err)
	same(t, len(h), 5)
}

func conformOperations(t *testing.T, s op.Store) {
	ctx := t.Context()
	for _, id := range []string{"op-1", "1", "op-", "op--1", "op-01", "", "x"} {
		_, err := s.Operation(ctx, id)
		is(t, err, op.ErrNotFound)
	}
	full := op.Operation{Kind: op.Flip, User: "a@example.com", Target: config.New, Status: op.Accepted, Step: "DRAIN", Reason: "r",
		By: "b", Pin: true, Created: alice.Since, Changed: alice.Since.Add(time.Nanosecond), Deadline: alice.Since.Add(time.Hour),
		Took: 5, Payload: "p"}
	a, err := s.NewOperation(ctx, full, op.Event{User: full.User, What: "asked"})
	must(t, err)
	full.ID = a.ID
	same(t, a, full)
	got, err := s.Operation(ctx, a.ID)
	must(t, err)
	same(t, got, full)
	h, err := s.History(ctx, op.HistoryFilter{})
	must(t, err)
	same(t, h[0].Op, a.ID)

	add := func(k op.Kind, user string, st op.Status) string {
		o, err := s.NewOperation(ctx, op.Operation{Kind: k, User: user, Status: st})
		must(t, err)
		return o.ID
	}
	b := add(op.Flip, "b@example.com", op.Running)
	c := add(op.Import, "", op.Waiting)
	d := add(op.Flip, "a@example.com", op.Done)
	e := add(op.Import, "", op.Cancelled)
	f := add(op.Default, "", op.Failed)
	for _, x := range []struct {
		f    op.Filter
		want []string
	}{
		{op.Filter{}, []string{f, e, d, c, b, a.ID}},
		{op.Filter{Limit: 2}, []string{f, e}},
		{op.Filter{Open: true}, []string{c, b, a.ID}},
		{op.Filter{Open: true, Limit: 1}, []string{c}},
		{op.Filter{Kind: op.Import}, []string{e, c}},
		{op.Filter{Kind: op.Import, Open: true}, []string{c}},
		{op.Filter{User: "a@example.com"}, []string{d, a.ID}},
		{op.Filter{User: "a@example.com", Open: true}, []string{a.ID}},
		{op.Filter{User: "nobody"}, nil},
	} {
		list, err := s.Operations(ctx, x.f)
		must(t, err)
		var ids []string
		for _, o := range list {
			ids = append(ids, o.ID)
		}
		if !slices.Equal(ids, x.want) {
			t.Errorf("%+v: %v, want %v", x.f, ids, x.want)
		}
	}
	got.Status, got.Reason = op.Failed, "no"
	must(t, s.SaveOperation(ctx, got, op.Event{Op: got.ID, What: "failed"}))
	again, err := s.Operation(ctx, got.ID)
	must(t, err)
	same(t, again, got)
}

func conformPins(t *testing.T, s op.Store) {
	ctx := t.Context()
	must(t, s.AddRows(ctx, []op.Row{alice}))
	p := op.Pin{User: alice.User, Side: config.New, By: "by", Reason: "why", At: alice.Since}
	row := alice
	swap := func(pin *op.Pin) {
		t.Helper()
		from := row.Generation
		row.Generation++
		must(t, s.Swap(ctx, from, row, op.Operation{}, pin))
	}
	pins := func() []op.Pin {
		t.Helper()
		list, err := s.Pins(ctx)
		must(t, err)
		return list
	}
	swap(&p)
	same(t, pins(), []op.Pin{p})
	swap(nil) // leaves it alone
	same(t, pins(), []op.Pin{p})
	p.Side = config.Old
	swap(&p) // replaces it
	same(t, pins(), []op.Pin{p})
	swap(&op.Pin{User: alice.User}) // takes it away
	same(t, len(pins()), 0)
	swap(&op.Pin{User: alice.User}) // none is there
	is(t, s.DeletePin(ctx, alice.User, op.Event{What: "unpinned"}), op.ErrNotFound)
	swap(&p)
	must(t, s.DeletePin(ctx, alice.User, op.Event{What: "unpinned", User: alice.User}))
	same(t, len(pins()), 0)
	h, err := s.History(ctx, op.HistoryFilter{})
	must(t, err)
	same(t, len(h), 1)
}

func conformHistory(t *testing.T, s op.Store) {
	ctx := t.Context()
	must(t, s.AddEvents(ctx))
	full := op.Event{At: alice.Since, Op: "op-1", User: "a", What: "w", Before: "x", After: "y", By: "z", Detail: "d"}
	must(t, s.AddEvents(ctx, full))
	h, err := s.History(ctx, op.HistoryFilter{})
	must(t, err)
	full.ID = h[0].ID
	same(t, h, []op.Event{full})
	now := time.Now()
	must(t, s.AddEvents(ctx, op.Event{User: "b", What: "2"}, op.Event{User: "a", What: "3"}))
	for _, x := range []struct {
		f    op.HistoryFilter
		want []string
	}{
		{op.HistoryFilter{}, []string{"3", "2", "w"}},
		{op.HistoryFilter{Limit: 2}, []string{"3", "2"}},
		{op.HistoryFilter{User: "a"}, []string{"3", "w"}},
		{op.HistoryFilter{User: "a", Limit: 1}, []string{"3"}},
		{op.HistoryFilter{Since: now.Add(-time.Minute)}, []string{"3", "2"}},
		{op.HistoryFilter{Since: alice.Since, User: "a"}, []string{"3", "w"}},
		{op.HistoryFilter{Since: time.Now().Add(time.Hour)}, nil},
		{op.HistoryFilter{What: []string{"3", "w", "x"}}, []string{"3", "w"}},
		{op.HistoryFilter{What: []string{"2"}, User: "b", Since: now.Add(-time.Minute), Limit: 5}, []string{"2"}},
		{op.HistoryFilter{What: []string{"2"}, User: "a"}, nil},
	} {
		list, err := s.History(ctx, x.f)
		must(t, err)
		var got []string
		for _, e := range list {
			got = append(got, e.What)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%+v: %v, want %v", x.f, got, x.want)
		}
	}
	list, err := s.History(ctx, op.HistoryFilter{Limit: 1})
	must(t, err)
	if at := list[0].At; at.Before(now) || at.After(time.Now()) {
		t.Errorf("an event without a time got %v", at)
	}
}

func conformImport(t *testing.T, s op.Store) {
	ctx := t.Context()
	desired := func() (string, map[string]config.Side) {
		t.Helper()
		m := map[string]config.Side{}
		serial, err := s.Desired(ctx, func(d op.Desired) error { m[d.User] = d.Side; return nil })
		must(t, err)
		return serial, m
	}
	serial, lines := desired()
	same(t, serial, "")
	same(t, len(lines), 0)
	r, err := s.Rules(ctx)
	must(t, err)
	same(t, r, op.Rules{})

	bob := op.Row{User: "bob@example.com", Side: config.New, State: op.Settled}
	must(t, s.AddRows(ctx, []op.Row{alice}))
	pinned := alice
	pinned.Generation = 1
	must(t, s.Swap(ctx, 0, pinned, op.Operation{}, &op.Pin{User: alice.User, Side: config.New, At: alice.Since}))
	wait, err := s.NewOperation(ctx, op.Operation{Kind: op.Import, Status: op.Waiting})
	must(t, err)
	wait.Status = op.Done
	moved := alice
	moved.Side = config.New
	rules := op.Rules{Default: config.New, Patterns: []op.Pattern{{Domain: "*", Side: config.New}}, Addresses: "exact"}
	ops, err := s.Import(ctx, op.ImportTx{Serial: "s1", Set: []op.Desired{{User: alice.User, Side: config.New}, {User: bob.User, Side: config.New}},
		Place: []op.Row{bob, moved}, Unpin: []string{alice.User, "nobody@example.com"}, Ended: []op.Operation{wait}, Rules: rules,
		Operations: []op.Operation{{Kind: op.Flip, User: alice.User, Status: op.Accepted}, {Kind: op.Default, Status: op.Done}},
		Events:     []op.Event{{What: "imported"}}})
	must(t, err)
	if len(ops) != 2 || ops[0].ID == "" || ops[1].ID == ops[0].ID || ops[0].User != alice.User || ops[1].Kind != op.Default {
		t.Fatalf("%+v", ops)
	}
	for _, o := range append(ops, wait) {
		got, err := s.Operation(ctx, o.ID)
		must(t, err)
		same(t, got, o)
	}
	same(t, rows(t, s), map[string]op.Row{alice.User: pinned, bob.User: bob}) // a row that exists is left alone
	pins, err := s.Pins(ctx)
	must(t, err)
	same(t, len(pins), 0)
	r, err = s.Rules(ctx)
	must(t, err)
	same(t, r, rules)

	_, err = s.Import(ctx, op.ImportTx{Serial: "s2", Set: []op.Desired{{User: bob.User, Side: config.Old}}, Delete: []string{alice.User, "x"}})
	must(t, err)
	serial, lines = desired()
	same(t, serial, "s2")
	same(t, lines, map[string]config.Side{bob.User: config.Old})
	same(t, len(rows(t, s)), 2) // a deleted line takes no row with it
	_, err = s.Desired(ctx, func(op.Desired) error { return errNo })
	is(t, err, errNo)
}

func conformImportWhole(t *testing.T, s op.Store) {
	fill(t, s)
	before := dump(t, s)
	_, err := s.Import(t.Context(), op.ImportTx{Serial: "no", Set: []op.Desired{{User: "x@example.com", Side: config.New}},
		Delete: []string{alice.User}, Place: []op.Row{{User: "x@example.com", State: op.Settled}}, Unpin: []string{alice.User},
		Operations: []op.Operation{{Kind: op.Flip, User: "x@example.com"}}, Events: []op.Event{{What: "no"}},
		Ended: []op.Operation{{ID: "op-4711"}}}) // this fails last but for the meta data
	is(t, err, op.ErrNotFound)
	same(t, dump(t, s), before)
}

func conformNodes(t *testing.T, s op.Store) {
	ctx := t.Context()
	must(t, s.AddNode(ctx, op.Node{Name: "gw2"}))
	must(t, s.AddNode(ctx, op.Node{Name: "gw1"}))
	must(t, s.AddNode(ctx, op.Node{Name: "gw1"}))
	is(t, s.RemoveNode(ctx, op.Node{Name: "gw3"}, op.Event{What: "removed"}), op.ErrNodes)
	names, err := s.Nodes(ctx)
	must(t, err)
	same(t, names, []op.Node{{Name: "gw1"}, {Name: "gw2"}})
	must(t, s.RemoveNode(ctx, op.Node{Name: "gw1"}, op.Event{What: "removed", Before: "gw1"}))
	names, err = s.Nodes(ctx)
	must(t, err)
	same(t, names, []op.Node{{Name: "gw2"}})
	again := op.Node{Name: "gw2", Incarnation: "b", Since: alice.Since}
	must(t, s.AddNode(ctx, again))
	names, err = s.Nodes(ctx)
	must(t, err)
	same(t, names, []op.Node{again})

	// Who is to be taken out has registered anew: then it stays, and the history says nothing.
	before, err := s.History(ctx, op.HistoryFilter{})
	must(t, err)
	is(t, s.RemoveNode(ctx, op.Node{Name: "gw2"}, op.Event{What: "removed"}), op.ErrNodes)
	is(t, s.RemoveNode(ctx, op.Node{Name: "gw2", Incarnation: "a"}, op.Event{What: "removed"}), op.ErrNodes)
	names, err = s.Nodes(ctx)
	must(t, err)
	same(t, names, []op.Node{again})
	after, err := s.History(ctx, op.HistoryFilter{})
	must(t, err)
	same(t, after, before)
	must(t, s.RemoveNode(ctx, again, op.Event{What: "removed"}))
	names, err = s.Nodes(ctx)
	must(t, err)
	same(t, len(names), 0)
}

func conformHolds(t *testing.T, s op.Store) {
	ctx := t.Context()
	h := op.Hold{Scope: op.HoldWave("sales"), By: "kim", Reason: "fair", At: alice.Since}
	for i, want := range []bool{true, false} {
		changed, err := s.AddHold(ctx, h, op.Event{What: "held", By: "kim"})
		must(t, err)
		same(t, changed, want)
		list, err := s.Holds(ctx)
		must(t, err)
		same(t, list, []op.Hold{h})
		events, err := s.History(ctx, op.HistoryFilter{})
		must(t, err)
		if len(events) != 1 {
			t.Errorf("%d: %+v", i, events)
		}
	}
	for _, want := range []bool{true, false} {
		changed, err := s.DropHold(ctx, h.Scope)
		must(t, err)
		same(t, changed, want)
	}
	if list, err := s.Holds(ctx); err != nil || len(list) > 0 {
		t.Error(list, err)
	}
}

// conformCommit: what a commit depends on is looked at within its transaction; where it does not hold nothing is written.
func conformCommit(t *testing.T, s op.Store) {
	ctx := t.Context()
	fill(t, s)
	nodes, err := s.Nodes(ctx)
	must(t, err)
	row, err := s.Row(ctx, alice.User)
	must(t, err)
	next := row
	next.Generation++
	scopes := op.HoldScopes(alice.User, "sales")
	refuse := func(want error, c op.Condition) {
		t.Helper()
		before := dump(t, s)
		is(t, s.Commit(ctx, row.Generation, next, op.Operation{}, nil, c, op.Event{What: "committed"}), want)
		same(t, dump(t, s), before)
	}
	refuse(op.ErrNodes, op.Condition{Scopes: scopes})
	refuse(op.ErrNodes, op.Condition{Nodes: append([]op.Node{{Name: "another"}}, nodes...), Scopes: scopes})
	for _, scope := range scopes {
		if _, err := s.AddHold(ctx, op.Hold{Scope: scope, By: "kim"}); err != nil {
			t.Fatal(err)
		}
		refuse(op.ErrHeld, op.Condition{Nodes: nodes, Scopes: scopes})
		if _, err := s.DropHold(ctx, scope); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.AddHold(ctx, op.Hold{Scope: op.HoldWave("other"), By: "kim"}); err != nil {
		t.Fatal(err)
	}
	is(t, s.Commit(ctx, row.Generation+7, next, op.Operation{}, nil, op.Condition{Nodes: nodes, Scopes: scopes}), op.ErrConflict)
	must(t, s.Commit(ctx, row.Generation, next, op.Operation{}, nil, op.Condition{Nodes: nodes, Scopes: scopes}, op.Event{What: "committed"}))
	if got, err := s.Row(ctx, alice.User); err != nil || got.Generation != next.Generation {
		t.Error(got, err)
	}
}

// conformCancelled: a context that has ended is no answer about the data, and writes nothing.
func conformCancelled(t *testing.T, s op.Store) {
	fill(t, s)
	before := dump(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	row, err := s.Row(ctx, alice.User)
	is(t, err, op.ErrUnavailable)
	row.User, row.Generation = alice.User, 100
	is(t, s.Swap(ctx, 7, row, op.Operation{}, nil), op.ErrUnavailable)
	is(t, s.AddEvents(ctx, op.Event{What: "no"}), op.ErrUnavailable)
	is(t, s.Check(ctx), op.ErrUnavailable)
	same(t, dump(t, s), before)
}
