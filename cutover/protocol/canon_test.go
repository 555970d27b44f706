package protocol

import "testing"

// TestCanon: states that canon takes for one lead to the same: without it the same is found.
func TestCanon(t *testing.T) {
	bounds := []Bounds{{Flips: 1, Logins: 1}, {Flips: 1, Faults: 1}, {Flips: 1, Logins: 1, Rereads: 1}}
	if whole() {
		bounds = append(bounds, Bounds{Flips: 2, Logins: 1}, Bounds{Flips: 1, Logins: 1, Faults: 1})
	}
	for _, b := range bounds {
		x := newExplorer(0, b)
		x.run()
		want := map[digest]bool{}
		for _, d := range x.seen {
			want[d] = true
		}
		got, seen := map[digest]bool{}, map[State]bool{}
		var next []State
		add := func(s State) {
			if s.sort(); !seen[s] {
				seen[s] = true
				next = append(next, s)
				_, d := x.dig.canon(s, 0)
				got[d] = true
				if !want[d] {
					t.Fatalf("%+v: canon hides %v", b, s.describe())
				}
			}
		}
		for _, s := range starts(b) {
			add(s)
		}
		for len(next) > 0 {
			s := next[len(next)-1]
			next = next[:len(next)-1]
			step := stepper{from: s, moved: func(row, State, act) {}}
			step.wrong = func(what string, _ State, _ act) { t.Fatal(what) }
			step.emit = func(to State, _ act, _ class) {
				if what := check(&to); what != "" {
					t.Fatal(what)
				}
				add(to)
			}
			step.next()
		}
		if len(got) != len(want) {
			t.Errorf("%+v: %d states without canon, of which %d differ; %d with it", b, len(seen), len(got), len(want))
		}
		t.Logf("%+v: %d states for %d", b, len(got), len(seen))
	}
}
