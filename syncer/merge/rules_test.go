package merge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestEachFlag compares the merge of one message's flags with the rule, flag by flag: what the side that decides changed
// wins, then what the other one changed, and what neither changed is there if anybody has it; nobody is given what he cannot keep,
// and flags that are ignored stay as they are.
func TestEachFlag(t *testing.T) {
	all := []string{`\Seen`, `\Flagged`, "Label", "Local"}
	rapid.Check(t, func(t *rapid.T) {
		d := &Dict{}
		subset := func(label string) map[string]bool {
			out := map[string]bool{}
			for _, f := range all {
				if rapid.Bool().Draw(t, label+f) {
					out[f] = true
				}
			}
			return out
		}
		id := func(set map[string]bool) Flags { return d.ID((&mail{flags: set}).raw()) }
		ignore := func(f string) bool { return f == "Local" }
		var base, now, poor [2]map[string]bool
		in := Input{Dict: d, Authority: Side(rapid.IntRange(0, 1).Draw(t, "authority")), Ignore: ignore, Base: []Pair{{UID: [2]uint32{5, 9}}}}
		for side, uid := range in.Base[0].UID {
			poor[side] = subset("cannot keep ")
			base[side], now[side] = subset("base "), subset("now ")
			for f := range poor[side] {
				delete(base[side], f)
				delete(now[side], f)
			}
			in.CanKeep[side] = func(f string) bool { return !poor[side][f] }
			in.Base[0].Base[side] = id(base[side])
			in.Snap[side] = []Entry{{uid, id(now[side])}}
		}
		r := Mailbox(in)
		if maps.Equal(base[0], now[0]) && maps.Equal(base[1], now[1]) { // whatever one of them lacks, it was so before
			if !done(r) || len(r.Lost) > 0 {
				t.Fatalf("nothing changed: %+v", r)
			}
			return
		}
		after := [2]map[string]bool{maps.Clone(now[0]), maps.Clone(now[1])}
		noted := in.Base[0].Base
		for side := range r.Change {
			for _, c := range r.Change[side] {
				for _, f := range c.Add {
					if after[side][f] {
						t.Fatalf("%s is there and added", f)
					}
					after[side][f] = true
				}
				for _, f := range c.Remove {
					if !after[side][f] {
						t.Fatalf("%s is not there and taken off", f)
					}
					delete(after[side], f)
				}
				noted = c.Base
			}
		}
		for _, x := range r.Rebase {
			noted = x.Base
		}
		lost := 0
		for _, f := range all {
			if ignore(f) {
				if after[0][f] != now[0][f] || after[1][f] != now[1][f] {
					t.Fatalf("%s travelled", f)
				}
				continue
			}
			want := now[0][f] || now[1][f]
			for _, s := range []Side{in.Authority.Other(), in.Authority} {
				if now[s][f] != base[s][f] {
					want = now[s][f]
				}
			}
			for side := range after {
				if after[side][f] != (want && !poor[side][f]) {
					t.Fatalf("%s on side %d is %v, want %v", f, side, after[side][f], want)
				}
				if want && poor[side][f] && !poor[side^1][f] {
					lost++
				}
			}
		}
		if want := [2]Flags{id(after[0]), id(after[1])}; noted != want {
			t.Fatalf("base %v, want %v", noted, want)
		}
		counted := 0
		for _, n := range r.Lost {
			counted += n
		}
		if counted != lost {
			t.Fatalf("%d lost, want %d: %v", counted, lost, r.Lost)
		}
		if len(r.Expunge[0])+len(r.Expunge[1])+len(r.Create[0])+len(r.Create[1])+len(r.Drop) > 0 {
			t.Fatalf("%+v", r)
		}
	})
}

// TestDeletesAreJustified gives any base at all, with UIDs that are nobody's, twice or 0, and any order: each expunge has
// a pair of its own, with a UID on both sides that no pair before it has, and a message that is not there any more.
func TestDeletesAreJustified(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uid := rapid.Uint32Range(0, 6)
		pair := rapid.Custom(func(t *rapid.T) Pair { return Pair{UID: [2]uint32{uid.Draw(t, "old"), uid.Draw(t, "new")}} })
		entry := rapid.Custom(func(t *rapid.T) Entry { return Entry{UID: rapid.Uint32Range(1, 6).Draw(t, "uid")} })
		in := Input{Dict: &Dict{}, Authority: Side(rapid.IntRange(0, 1).Draw(t, "authority")), FollowerDeletes: rapid.Bool().Draw(t, "deletes"),
			Base: rapid.SliceOfN(pair, 0, 8).Draw(t, "base")}
		there := [2]map[uint32]bool{{}, {}}
		for side := range in.Snap {
			in.Snap[side] = rapid.SliceOfN(entry, 0, 8).Draw(t, "snapshot")
			for _, e := range in.Snap[side] {
				there[side][e.UID] = true
			}
		}
		r := Mailbox(in)
		claimed := [2]map[uint32]int{{}, {}}
		count := map[int]int{} // of each pair
		for side := range r.Expunge {
			for _, i := range r.Expunge[side] {
				count[i]++
				p := in.Base[i]
				if p.UID[0] == 0 || p.UID[1] == 0 || !there[side][p.UID[side]] || there[side^1][p.UID[side^1]] {
					t.Fatalf("expunge on side %d for %v", side, p)
				}
				if Side(side) == in.Authority && !in.FollowerDeletes {
					t.Fatalf("a delete on the follower travelled: %v", p)
				}
				for s, u := range p.UID {
					if claimed[s][u]++; claimed[s][u] > 1 {
						t.Fatalf("UID %d of side %d justifies two expunges", u, s)
					}
				}
			}
			for _, i := range r.Recreate[side] {
				count[i]++
			}
			if !slices.IsSortedFunc(r.Recreate[side], func(a, b int) int { return int(in.Base[a].UID[side^1]) - int(in.Base[b].UID[side^1]) }) {
				t.Fatalf("recreate in the order %v", r.Recreate[side])
			}
		}
		for _, i := range r.Drop {
			count[i]++
		}
		// Each message that is there is in one pair that stays, expunged, or created on the other side once.
		handled := [2]map[uint32]int{{}, {}}
		for i, p := range in.Base {
			if count[i] > 1 {
				t.Fatalf("two decisions about %v", p)
			}
			if !slices.Contains(r.Drop, i) {
				handled[0][p.UID[0]]++
				handled[1][p.UID[1]]++
			}
		}
		for to := range r.Create {
			for _, e := range r.Create[to] {
				handled[to^1][e.UID]++
			}
		}
		for side := range there {
			for u := range there[side] {
				if handled[side][u] != 1 {
					t.Fatalf("UID %d of side %d is dealt with %d times", u, side, handled[side][u])
				}
			}
		}
	})
}

// TestExclusive: of two keywords of which a message has one at most, what the side that decides has stays.
func TestExclusive(t *testing.T) {
	d := &Dict{}
	for _, c := range []struct{ base, old, new, add, remove string }{
		{"", "$Junk", "$NotJunk", "$Junk", "$NotJunk"},
		{"", "$NotJunk", "$Junk", "$NotJunk", "$Junk"},
		{"", "junk", "NonJunk", "junk", "NonJunk"},
		{"", "$Junk $NotJunk", "", "$Junk $NotJunk", ""}, // as the side that decides wants it
		{"Junk", "Junk", "Junk NotJunk", "", "NotJunk"},
	} {
		b := d.ID([]byte(c.base))
		r := Mailbox(Input{Dict: d, Base: []Pair{{UID: [2]uint32{1, 1}, Base: [2]Flags{b, b}}},
			Snap: [2][]Entry{{{1, d.ID([]byte(c.old))}}, {{1, d.ID([]byte(c.new))}}}})
		var got []string
		for _, x := range r.Change[New] {
			got = append(got, strings.Join(x.Add, " "), strings.Join(x.Remove, " "))
		}
		if !slices.Equal(got, []string{c.add, c.remove}) || len(r.Change[Old]) > 0 {
			t.Errorf("%v: %q", c, got)
		}
		if want := c.remove != ""; (len(r.Conflict) == 1 && r.Conflict[0].Kind == "exclusive") != want {
			t.Errorf("%v: conflicts %v", c, r.Conflict)
		}
	}
}

// TestIgnoredIsNoChange: a change in flags that do not travel is no reason to keep a message, and no conflict.
func TestIgnoredIsNoChange(t *testing.T) {
	d := &Dict{}
	local, seen := d.ID([]byte("Local")), d.ID([]byte(`\Seen`))
	for _, c := range []struct {
		now     Flags
		deletes bool
		want    string
	}{{local, false, "[] [0] 0"}, {seen, false, "[] [0] 1"}, {local, true, "[0] [] 0"}, {seen, true, "[] [] 1"}} {
		in := Input{Dict: d, Base: []Pair{{UID: [2]uint32{1, 1}}}, Ignore: func(f string) bool { return f == "Local" }, FollowerDeletes: c.deletes}
		if c.deletes {
			in.Snap[Old] = []Entry{{1, c.now}}
		} else {
			in.Snap[New] = []Entry{{1, c.now}}
		}
		r := Mailbox(in)
		if got := fmt.Sprint(r.Expunge[Old], r.Expunge[New], len(r.Conflict)); got != c.want {
			t.Errorf("%v: %s, want %s", c, got, c.want)
		}
	}
}

// TestRecreateOrder: what is created again comes in the order of the side that has it, and changes in that of their side.
func TestRecreateOrder(t *testing.T) {
	d := &Dict{}
	seen := d.ID([]byte(`\Seen`))
	base := []Pair{{UID: [2]uint32{1, 8}}, {UID: [2]uint32{2, 7}}, {UID: [2]uint32{3, 6}}}
	in := Input{Dict: d, Authority: New, Base: base, Snap: [2][]Entry{nil, {{6, 0}, {7, 0}, {8, 0}}}}
	if r := Mailbox(in); !slices.Equal(r.Recreate[Old], []int{2, 1, 0}) {
		t.Errorf("created again: %v", r.Recreate[Old])
	}
	in.Snap[Old] = []Entry{{1, seen}, {2, seen}, {3, seen}}
	if r := Mailbox(in); len(r.Change[New]) != 1 || !slices.Equal(r.Change[New][0].UIDs, []uint32{6, 7, 8}) || !slices.Equal(r.Change[New][0].Pairs, []int{2, 1, 0}) {
		t.Errorf("%+v", r.Change[New])
	}
	in.Snap[Old] = []Entry{{3, 0}, {1, 0}, {2, 0}, {2, 0}} // not ascending, and one twice
	if r := Mailbox(in); !done(r) || in.Snap[Old][0].UID != 3 {
		t.Errorf("%+v", r)
	}
	if r := Mailbox(Input{Snap: [2][]Entry{{{4, 0}, {2, 0}, {4, 0}}}}); !slices.Equal(r.Create[New], []Entry{{2, 0}, {4, 0}}) {
		t.Errorf("create %v", r.Create[New])
	}
}

// TestFoldAll: all letters of ASCII fold, and nothing else.
func TestFoldAll(t *testing.T) {
	for c := range 256 {
		b := string([]byte{byte(c)})
		want := b
		if 'A' <= c && c <= 'Z' {
			want = string([]byte{byte(c) + 32})
		}
		if got := fold(b); got != want {
			t.Errorf("%q folds to %q", b, got)
		}
	}
}

// TestUnchangedAllocates nothing for each message.
func TestUnchangedAllocates(t *testing.T) {
	of := func(n uint32) float64 {
		in := Input{Dict: &Dict{}}
		for i := range n {
			in.Base = append(in.Base, Pair{UID: [2]uint32{i + 1, n - i}})
			in.Snap[0], in.Snap[1] = append(in.Snap[0], Entry{UID: i + 1}), append(in.Snap[1], Entry{UID: i + 1})
		}
		return testing.AllocsPerRun(3, func() { Mailbox(in) })
	}
	if few, many := of(10), of(10000); many > few+1 {
		t.Errorf("%v allocations for 10 messages, %v for 10,000", few, many)
	}
}
