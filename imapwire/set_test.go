package imapwire

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"pgregory.net/rapid"
)

func elements(t testing.TB, set string) (out [][2]uint32, err error) {
	t.Helper()
	err = ParseSet([]byte(set), func(first, last uint32) error {
		out = append(out, [2]uint32{first, last})
		return nil
	})
	return out, err
}

func TestParseSet(t *testing.T) {
	for set, want := range map[string][][2]uint32{
		"1":                     {{1, 1}},
		"1:3,5":                 {{1, 3}, {5, 5}},
		"5,1:3":                 {{5, 5}, {1, 3}},
		"9:7":                   {{7, 9}},
		"*":                     {{0, 0}},
		"*:*":                   {{0, 0}},
		"9:*":                   {{9, 0}},
		"*:9":                   {{9, 0}},
		"4294967295,007":        {{4294967295, 4294967295}, {7, 7}},
		"4294967295:1,*,2,2:2":  {{1, 4294967295}, {0, 0}, {2, 2}, {2, 2}},
		"4294967294:4294967295": {{4294967294, 4294967295}},
	} {
		got, err := elements(t, set)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v; want %v", set, got, err, want)
		}
	}
	for set, offset := range map[string]int{"": 0, ",": 0, "1,": 2, "1:": 2, ":1": 0, "0": 0, "1:0": 2, "00": 0, "4294967296": 9,
		"1:42949672950": 12, "1:2:3": 3, "1 ": 1, "1;2": 1, "$": 0, "**": 1, "1,,2": 2, "-1": 0, "1*": 1} {
		_, err := elements(t, set)
		var se *SetError
		if !errors.As(err, &se) || se.Offset != offset {
			t.Errorf("%q: %v, want an error at byte %d", set, err, offset)
		}
	}
	stop := errors.New("enough")
	n := 0
	if err := ParseSet([]byte("1,2,3,x"), func(uint32, uint32) error { n++; return stop }); err != stop || n != 1 {
		t.Errorf("%v after %d elements", err, n)
	}
}

func TestAppendUIDs(t *testing.T) {
	for _, c := range []struct {
		uids []uint32
		want string
	}{
		{nil, "x"},
		{[]uint32{1, 2, 3, 5}, "x1:3,5"},
		{[]uint32{7}, "x7"},
		{[]uint32{7, 8}, "x7:8"},
		{[]uint32{3, 2, 1}, "x3,2,1"},
		{[]uint32{5, 6, 1, 2, 2, 3}, "x5:6,1:2,2:3"},
		{[]uint32{0, 1, 0, 2, 0}, "x1,2"},
		{[]uint32{4294967294, 4294967295, 0, 1}, "x4294967294:4294967295,1"},
		{[]uint32{0}, "x"},
	} {
		if got := string(AppendUIDs([]byte("x"), c.uids)); got != c.want {
			t.Errorf("%v: %s, want %s", c.uids, got, c.want)
		}
	}
}

func TestSetsAllocateNothing(t *testing.T) {
	uids := []uint32{1, 2, 3, 5, 9, 10}
	set, room := []byte("1:3,5,9:*"), make([]byte, 0, 100)
	sum := uint32(0)
	if n := testing.AllocsPerRun(100, func() {
		_ = ParseSet(set, func(first, last uint32) error { sum += first; return nil })
		room = AppendUIDs(room[:0], uids)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSplitUIDs(t *testing.T) {
	if got := SplitUIDs(nil, 100); got != nil {
		t.Errorf("%q", got)
	}
	if got := SplitUIDs([]uint32{1, 3, 5, 7, 9, 11, 13, 15, 17, 19}, 0); !slices.Equal(got, []string{"1,3,5,7,9,11,13,15,17", "19"}) {
		t.Errorf("%q", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		uids := rapid.SliceOf(rapid.Uint32Range(1, 300)).Draw(t, "uids")
		most := rapid.IntRange(0, 80).Draw(t, "most")
		pieces := SplitUIDs(uids, most)
		for i, p := range pieces {
			if len(p) > max(most, longestRange) || p == "" {
				t.Fatalf("piece of %d bytes", len(p))
			}
			next, _, _ := strings.Cut(strings.Join(pieces[i+1:], ","), ",")
			if next != "" && len(p)+1+len(next) <= max(most, longestRange) {
				t.Fatalf("%q has room for %q", p, next)
			}
		}
		if whole := string(AppendUIDs(nil, uids)); strings.Join(pieces, ",") != whole {
			t.Fatalf("%q, want %q", pieces, whole)
		}
	})
}

// TestSetsAgainstGoIMAP compares with a set that somebody else wrote, which sorts and merges.
func TestSetsAgainstGoIMAP(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uids := rapid.SliceOfDistinct(rapid.Uint32Range(1, 200), rapid.ID).Draw(t, "uids")
		slices.Sort(uids)
		var theirs imap.UIDSet
		for _, u := range uids {
			theirs.AddNum(imap.UID(u))
		}
		if got := string(AppendUIDs(nil, uids)); got != theirs.String() {
			t.Fatalf("%s, want %s", got, theirs)
		}
	})
}

func FuzzParseSet(f *testing.F) {
	for _, s := range []string{"1:3,5", "*", "9:*", "*:9,4294967295", "9:7", "1,,2", "4294967296", "0", "1:2:3", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []string
		var uids []uint32
		small := true
		err := ParseSet(b, func(first, last uint32) error {
			if last != 0 && first > last || first == 0 && last != 0 {
				t.Fatalf("%d:%d", first, last)
			}
			again = append(again, strings.ReplaceAll(fmt.Sprintf("%d:%d", first, last), "0:0", "*"))
			if last == 0 {
				again[len(again)-1] = strings.TrimSuffix(again[len(again)-1], ":0") + ":*"
			}
			if last == 0 || last-first > 1000 || len(uids) > 100000 {
				small = false
				return nil
			}
			for u := uint64(first); u <= uint64(last); u++ {
				uids = append(uids, uint32(u))
			}
			return nil
		})
		var se *SetError
		if err != nil && (!errors.As(err, &se) || se.Offset < 0 || se.Offset > len(b)) {
			t.Fatalf("%v", err)
		}
		if err != nil {
			return
		}
		if small { // what is written back holds the same numbers in the same order
			var back []uint32
			if err := ParseSet(AppendUIDs(nil, uids), func(first, last uint32) error {
				for u := uint64(first); u <= uint64(last); u++ {
					back = append(back, uint32(u))
				}
				return nil
			}); err != nil || !slices.Equal(back, uids) {
				t.Fatalf("%v, %v; want %v", back, err, uids)
			}
		}
	})
}
