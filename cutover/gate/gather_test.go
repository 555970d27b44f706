package gate_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
	"mailgate/store"
)

// several are gateways on one store, each with a Book.
type several struct {
	t      *testing.T
	now    time.Time
	store  *store.SQLite
	books  map[string]*gate.Book
	silent map[string]bool
	fails  error
}

func newSeveral(t *testing.T, names ...string) *several {
	s := &several{t: t, now: noon, books: map[string]*gate.Book{}, silent: map[string]bool{}}
	var err error
	s.store, err = store.Open(t.Context(), filepath.Join(t.TempDir(), "mailgate.db"))
	must(t, err)
	t.Cleanup(func() { s.store.Close() })
	for _, n := range names {
		s.open(n)
	}
	return s
}

// open begins a process: it knows what is in the store.
func (s *several) open(name string) *gate.Book {
	s.t.Helper()
	b := gate.New(gate.Options{Store: s.store, Log: slog.New(slog.DiscardHandler), Node: name, Listed: func(string) bool { return true },
		Now: func() time.Time { return s.now },
		Gather: func(_ context.Context, heard func(string) gate.Mark, tell func(string, gate.Snapshot)) (nodes, silent []string, err error) {
			for _, n := range slices.Sorted(maps.Keys(s.books)) {
				if n == name {
					continue
				}
				if nodes = append(nodes, n); s.silent[n] {
					silent = append(silent, n)
					continue
				}
				for more := true; more; {
					told := s.books[n].Snapshot(heard(n))
					tell(n, told)
					more = told.More
				}
			}
			return nodes, silent, s.fails
		}})
	must(s.t, b.Load(s.t.Context()))
	s.books[name] = b
	return b
}

func (s *several) count(name, user string, side config.Side, k gate.Kind, n int) {
	for range n {
		s.books[name].Count(user, side, k)
	}
}

// later lets what was gathered grow old.
func (s *several) later() { s.now = s.now.Add(10 * time.Second) }

// flip is what all nodes do at one: the one that leads records it, the others drop what was before.
func (s *several) flip(leader, user string, to config.Side) (at time.Time) {
	s.later()
	at = s.now
	for n, b := range s.books {
		if n == leader {
			b.Moved(user, to, at)
		} else {
			b.ForgetHere(user, to)
		}
	}
	return at
}

// TestGathered: what users meet at any node is judged, once; a node that does not answer makes gates unknown, by name, and what is
// proven bad without it stays so.
func TestGathered(t *testing.T) {
	s := newSeveral(t, "gw1", "gw2", "gw3")
	ctx := t.Context()
	for _, n := range []string{"gw1", "gw2", "gw3"} {
		s.count(n, alice, config.Old, gate.LoginOK, 20)
	}
	s.count("gw2", alice, config.New, gate.LoginRefused, 5) // of an earlier stay
	gw1 := s.books["gw1"]
	since := s.flip("gw1", alice, config.New)
	s.later()
	s.count("gw1", alice, config.New, gate.LoginOK, 20)
	s.count("gw2", alice, config.New, gate.LoginOK, 20)
	members := []gate.Member{{User: alice, Side: config.New, Since: since}}
	ask := func() gate.Result {
		t.Helper()
		return answer(gw1.Judge(ctx, gate.Soak, wave(), members), config.GateLoginFailures)
	}
	for range 2 {
		if a := ask(); a.Verdict != gate.Pass || a.Why != "login failures 0 % of 40 (limit 2 %)" {
			t.Errorf("%+v", a)
		}
		if e := gw1.Evidence(ctx, wave(), members); e.Before.LoginsOK != 60 || e.Untold != "" {
			t.Errorf("%+v", e)
		}
		s.later()
	}
	must(t, gw1.Save(ctx))
	if list, err := s.store.Baselines(ctx); err != nil || len(list) != 1 || list[0].Week.LoginsOK != 60 || !list[0].At.Equal(since) {
		t.Errorf("%+v %v", list, err)
	}

	s.silent["gw3"] = true
	s.later()
	const not = "gw3 does not answer, and what was counted there is not known"
	a := ask()
	if a.Verdict != gate.Unknown || !a.Holds || a.Why != not+"; without that: login failures 0 % of 40 (limit 2 %)" {
		t.Errorf("%+v", a)
	}
	for _, name := range []config.Gate{config.GateBackendErrors, config.GateRefusedSubmissions} {
		if a := answer(gw1.Judge(ctx, gate.Soak, wave(), members), name); a.Verdict != gate.Unknown || !strings.HasPrefix(a.Why, not) {
			t.Errorf("%+v", a)
		}
	}
	if a := answer(gw1.Judge(ctx, gate.Start, wave(), []gate.Member{{User: bob}}), config.GateLoginFailures); a.Verdict != gate.Unknown {
		t.Errorf("%+v", a)
	}
	s.count("gw2", alice, config.New, gate.LoginRefused, 20)
	s.later()
	if a := ask(); a.Verdict != gate.Fail || !strings.HasPrefix(a.Why, not) || !strings.Contains(a.Why, "login failures 33.3 % of 60") {
		t.Errorf("%+v", a)
	}
	s.silent["gw3"], s.fails = false, op.ErrUnavailable
	s.later()
	if a := ask(); a.Verdict != gate.Fail || !strings.Contains(a.Why, "cannot be read") {
		t.Errorf("%+v", a)
	}
	s.fails = nil
	s.later()
	if a := ask(); a.Verdict != gate.Fail || a.Why != "login failures 33.3 % of 60 (limit 2 %)" {
		t.Errorf("%+v", a)
	}
	s.flip("gw1", alice, config.Old) // and anew: nothing that NEW did before is counted, on no node, and the measure is that of the move before
	members[0].Since = s.flip("gw1", alice, config.New)
	s.later()
	s.count("gw3", alice, config.New, gate.LoginOK, 3)
	if e := gw1.Evidence(ctx, wave(), members); e.After != (gate.Counts{LoginsOK: 3}) || e.Before != (gate.Counts{LoginsOK: 60}) {
		t.Errorf("after %+v, before %+v", e.After, e.Before)
	}
}

// TestAnotherLeads: who leads next has the baseline and counts nothing twice, whether the one before lives, ends, or dies; what that one
// had not recorded yet is made of what the others know.
func TestAnotherLeads(t *testing.T) {
	for _, x := range []struct {
		name          string
		saves, lives  bool
		before, after int64
	}{{"lives", true, true, 40, 6}, {"ends", true, false, 40, 6}, {"dies", false, false, 20, 3}} {
		t.Run(x.name, func(t *testing.T) {
			s := newSeveral(t, "gw1", "gw2", "gw3")
			ctx := t.Context()
			s.count("gw1", alice, config.Old, gate.LoginOK, 20)
			s.count("gw2", alice, config.Old, gate.LoginOK, 15)
			s.count("gw3", alice, config.Old, gate.LoginOK, 5)
			since := s.flip("gw1", alice, config.New)
			s.later()
			s.count("gw1", alice, config.New, gate.LoginOK, 3)
			s.count("gw3", alice, config.New, gate.LoginOK, 3)
			members := []gate.Member{{User: alice, Side: config.New, Since: since}}
			if x.saves {
				if e := s.books["gw1"].Evidence(ctx, wave(), members); e.After.LoginsOK != 6 || e.Before.LoginsOK != 40 {
					t.Errorf("%+v", e)
				}
				must(t, s.books["gw1"].Save(ctx))
			}
			if !x.lives {
				delete(s.books, "gw1")
			}
			for range 2 {
				s.later()
				e := s.books["gw2"].Evidence(ctx, wave(), members)
				if e.Before.LoginsOK != x.before || e.After.LoginsOK != x.after || len(e.Unrecorded) != 0 || e.Untold != "" {
					t.Errorf("after %+v, before %+v, unrecorded %v, not known %q", e.After, e.Before, e.Unrecorded, e.Untold)
				}
			}
			if x.lives { // it leads again
				s.later()
				if e := s.books["gw1"].Evidence(ctx, wave(), members); e.Before.LoginsOK != 40 || e.After.LoginsOK != 6 {
					t.Errorf("after %+v, before %+v", e.After, e.Before)
				}
				return
			}
			s.open("gw1") // it comes again
			s.later()
			if e := s.books["gw2"].Evidence(ctx, wave(), members); e.Before.LoginsOK != x.before || e.After.LoginsOK != x.after {
				t.Errorf("after %+v, before %+v", e.After, e.Before)
			}
		})
	}
}

// TestBaselineOfSilent: the baseline of a flip is not recorded as the whole while a node has not told what it knows of it, and is when it
// has; the part is there meanwhile.
func TestBaselineOfSilent(t *testing.T) {
	s := newSeveral(t, "gw1", "gw2")
	ctx := t.Context()
	s.count("gw1", alice, config.Old, gate.LoginOK, 20)
	s.count("gw2", alice, config.Old, gate.LoginOK, 20)
	s.silent["gw2"] = true
	since := s.flip("gw1", alice, config.New)
	members := []gate.Member{{User: alice, Side: config.New, Since: since}}
	stored := func() int64 {
		t.Helper()
		must(t, s.books["gw1"].Save(ctx))
		list, err := s.store.Baselines(ctx)
		must(t, err)
		if len(list) != 1 {
			t.Fatalf("%+v", list)
		}
		return list[0].Week.LoginsOK
	}
	s.later()
	if e := s.books["gw1"].Evidence(ctx, wave(), members); e.Before.LoginsOK != 20 || e.Untold == "" || stored() != 20 {
		t.Errorf("%+v", e)
	}
	s.silent["gw2"] = false
	s.later()
	if e := s.books["gw1"].Evidence(ctx, wave(), members); e.Before.LoginsOK != 40 || e.Untold != "" || stored() != 40 {
		t.Errorf("%+v", e)
	}
}

// TestLaterBaselineStands: a node that led, and makes the baseline of its flip whole when another has flipped the user again by then, does not
// put it in the place of the later one.
func TestLaterBaselineStands(t *testing.T) {
	s := newSeveral(t, "gw1", "gw2")
	ctx := t.Context()
	gw1, gw2 := s.books["gw1"], s.books["gw2"]
	s.count("gw1", alice, config.Old, gate.LoginOK, 20)
	s.flip("gw1", alice, config.New)
	s.flip("gw2", alice, config.Old)
	s.count("gw2", alice, config.Old, gate.LoginOK, 5)
	since := s.flip("gw2", alice, config.New)
	must(t, gw2.Save(ctx))
	want, err := s.store.Baselines(ctx)
	must(t, err)
	if len(want) != 1 || !want[0].At.Equal(since) {
		t.Fatalf("%+v", want)
	}
	s.count("gw1", alice, config.Old, gate.LoginOK, 3) // of sessions that were about to end: no part of it
	for _, m := range []gate.Member{{User: bob}, {User: alice, Side: config.New, Since: since}} {
		s.later()
		if e := gw1.Evidence(ctx, wave(), []gate.Member{m}); m.User == alice && e.Before != want[0].Week {
			t.Errorf("%+v, and not %+v", e.Before, want[0].Week)
		}
		must(t, gw1.Save(ctx))
		if list, err := s.store.Baselines(ctx); err != nil || len(list) != 1 || list[0] != want[0] {
			t.Errorf("%+v, and not %+v (%v)", list, want, err)
		}
	}
}

// TestRunGathers: other nodes are asked behind a flip, before its baseline is written, and whether or not anybody judges.
func TestRunGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{rows: make(chan []gate.Row, 9), bases: make(chan []gate.Baseline, 9)}
		all := func(string) bool { return true }
		other := gate.NewSignals(all, nil)
		var silent []string
		b := gate.New(gate.Options{Store: emptyStore{m}, Log: slog.New(slog.DiscardHandler), Node: "gw1", Listed: all,
			Gather: func(_ context.Context, heard func(string) gate.Mark, tell func(string, gate.Snapshot)) ([]string, []string, error) {
				tell("gw2", other.Snapshot(heard("gw2")))
				return []string{"gw2"}, silent, nil
			}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.Run(ctx) }()
		for range 5 {
			b.Count(alice, config.Old, gate.LoginOK)
			other.Count(alice, config.Old, gate.LoginOK)
		}
		b.Moved(alice, config.New, time.Now())
		list := <-m.bases
		if len(list) != 1 || list[0].Week.LoginsOK != 10 {
			t.Errorf("%+v", list)
		}
		cancel()
		<-done
	})
}

// emptyStore is one that has nothing to read.
type emptyStore struct{ *memory }

func (emptyStore) Signals(context.Context, time.Time, func(gate.Row) error) error { return nil }
func (emptyStore) Baselines(context.Context) ([]gate.Baseline, error)             { return nil, nil }
func (emptyStore) Waivers(context.Context) ([]gate.Waiver, error)                 { return nil, errors.New("none") }
