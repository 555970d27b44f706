package imapwire

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSpans compares with sets of numbers one by one.
func TestSpans(t *testing.T) {
	const top = 40
	of := func(s Spans) (list []uint32) {
		for _, x := range s {
			for n := x.First; n <= x.Last; n++ {
				list = append(list, n)
			}
		}
		return list
	}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		var s [2]Spans
		want := [2]map[uint32]bool{{}, {}}
		for range 20 {
			i, first := rnd.IntN(2), 1+rnd.Uint32N(top)
			last := first + rnd.Uint32N(6)
			add := rnd.IntN(3) > 0
			if add {
				s[i] = s[i].Add(first, last)
			} else {
				s[i] = s[i].Without(first, last)
			}
			for n := first; n <= last; n++ {
				delete(want[i], n)
				if add {
					want[i][n] = true
				}
			}
		}
		both := s[0].Both(s[1])
		for n := uint32(0); n < top+10; n++ {
			if s[0].Has(n) != want[0][n] || both.Has(n) != (want[0][n] && want[1][n]) {
				t.Fatalf("seed %d: %d in %v, %v, both %v", seed, n, s[0], s[1], both)
			}
		}
		if l := of(s[0]); !slices.IsSorted(l) || len(slices.Compact(l)) != len(want[0]) || s[0].Size() != uint64(len(want[0])) {
			t.Fatalf("seed %d: %v", seed, s[0])
		}
		for i := range s[0] {
			if i > 0 && s[0][i].First <= s[0][i-1].Last+1 {
				t.Fatalf("seed %d: %v is not as short as it could be", seed, s[0])
			}
		}
	}
	all := Spans{}.Add(1, math.MaxUint32).Add(5, math.MaxUint32)
	if len(all) != 1 || all.Size() != math.MaxUint32 || len(all.Without(2, math.MaxUint32)) != 1 || len(all.Add(7, 3)) != 1 {
		t.Errorf("%v", all)
	}
}
