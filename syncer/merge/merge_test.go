package merge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// world is two sides of one mailbox with what is known of it, as a reference: messages are numbers.
type world struct {
	dict *Dict
	side [2]map[uint32]*mail // by UID
	next [2]uint32
	base []Pair
	keep [2]func(string) bool
}

type mail struct {
	id    int
	flags map[string]bool
}

func (m *mail) raw() []byte { return []byte(strings.Join(slices.Sorted(maps.Keys(m.flags)), " ")) }

func newWorld() *world {
	return &world{dict: &Dict{}, side: [2]map[uint32]*mail{{}, {}}, next: [2]uint32{1, 1}}
}

func (w *world) add(s Side, m *mail) uint32 {
	uid := w.next[s]
	w.next[s]++
	w.side[s][uid] = m
	return uid
}

func (w *world) snap(s Side) (out []Entry) {
	for _, uid := range slices.Sorted(maps.Keys(w.side[s])) {
		out = append(out, Entry{uid, w.dict.ID(w.side[s][uid].raw())})
	}
	return out
}

func (w *world) merge(authority Side) Result {
	slices.SortFunc(w.base, func(a, b Pair) int { return int(a.UID[Old]) - int(b.UID[Old]) })
	return Mailbox(Input{Dict: w.dict, Authority: authority, Base: w.base, Snap: [2][]Entry{w.snap(Old), w.snap(New)}, CanKeep: w.keep})
}

// apply does what a result says, up to steps of it; the base is what was done.
func (w *world) apply(r Result, steps int) {
	drop := map[int]bool{}
	do := func(f func()) {
		if steps > 0 {
			steps--
			f()
		}
	}
	base := slices.Clone(w.base)
	create := func(to Side, uid uint32) Pair {
		m := w.side[to.Other()][uid]
		c := &mail{id: m.id, flags: map[string]bool{}}
		for f := range m.flags {
			if w.keep[to] == nil || w.keep[to](f) {
				c.flags[f] = true
			}
		}
		var q Pair
		q.UID[to], q.UID[to.Other()] = w.add(to, c), uid
		q.Base[to], q.Base[to.Other()] = w.dict.ID(c.raw()), w.dict.ID(m.raw())
		return q
	}
	var fresh []Pair
	for to := range r.Create {
		for _, e := range r.Create[to] {
			do(func() { fresh = append(fresh, create(Side(to), e.UID)) })
		}
		for _, i := range r.Recreate[to] {
			do(func() {
				fresh = append(fresh, create(Side(to), w.base[i].UID[Side(to).Other()]))
				drop[i] = true
			})
		}
	}
	changed := map[int][2]Flags{}
	for side := range r.Change {
		for _, c := range r.Change[side] {
			for k, i := range c.Pairs {
				do(func() {
					m := w.side[side][c.UIDs[k]]
					for _, f := range c.Add {
						m.flags[f] = true
					}
					for _, f := range c.Remove {
						delete(m.flags, f)
					}
					changed[i] = c.Base
				})
			}
		}
	}
	if steps > 0 { // bases are noted when all changes are done, or not at all
		for i, b := range changed {
			base[i].Base = b
		}
	}
	for _, x := range r.Rebase {
		do(func() { base[x.Pair].Base = x.Base })
	}
	for side := range r.Expunge {
		for _, i := range r.Expunge[side] {
			do(func() {
				delete(w.side[side], w.base[i].UID[side])
				drop[i] = true
			})
		}
	}
	for _, i := range r.Drop {
		do(func() { drop[i] = true })
	}
	w.base = nil
	for i, q := range base {
		if !drop[i] {
			w.base = append(w.base, q)
		}
	}
	w.base = append(w.base, fresh...)
}

// ids counts the messages of a side.
func (w *world) ids(s Side) map[int]int {
	out := map[int]int{}
	for _, m := range w.side[s] {
		out[m.id]++
	}
	return out
}

func done(r Result) bool {
	return len(r.Create[0])+len(r.Create[1])+len(r.Recreate[0])+len(r.Recreate[1])+len(r.Expunge[0])+len(r.Expunge[1])+len(r.Drop)+
		len(r.Change[0])+len(r.Change[1])+len(r.Rebase) == 0
}

// TestConverges lets people work on both sides at random, merges, stops anywhere and merges again: in the end both sides are
// equal, nothing that was not deleted on the side that decides is lost, nothing is doubled, and there is nothing to do.
func TestConverges(t *testing.T) {
	flags := []string{`\Seen`, `\Flagged`, "Label", "$Junk", "NonJunk"}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		if rapid.Bool().Draw(t, "poor") {
			w.keep[New] = func(f string) bool { return f[0] == '\\' }
		}
		authority := Side(rapid.IntRange(0, 1).Draw(t, "authority"))
		id := 0
		alive := map[int]bool{} // by the rules: everything but what the side that decides has deleted
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			for range rapid.IntRange(0, 12).Draw(t, "work") {
				s := Side(rapid.IntRange(0, 1).Draw(t, "side"))
				uids := slices.Sorted(maps.Keys(w.side[s]))
				switch op := rapid.IntRange(0, 3).Draw(t, "op"); {
				case op == 0 || len(uids) == 0:
					id++
					alive[id] = true
					w.add(s, &mail{id: id, flags: map[string]bool{}})
				case op == 1:
					uid := rapid.SampledFrom(uids).Draw(t, "uid")
					i := slices.IndexFunc(w.base, func(q Pair) bool { return q.UID[s] == uid })
					if s == authority || i < 0 {
						alive[w.side[s][uid].id] = false
					}
					delete(w.side[s], uid)
				default:
					m := w.side[s][rapid.SampledFrom(uids).Draw(t, "uid")]
					f := rapid.SampledFrom(flags).Draw(t, "flag")
					if w.keep[s] != nil && !w.keep[s](f) {
						continue
					}
					if m.flags[f] {
						delete(m.flags, f)
					} else {
						m.flags[f] = true
					}
				}
			}
			w.apply(w.merge(authority), rapid.IntRange(0, 30).Draw(t, "steps"))
		}
		for range 3 {
			w.apply(w.merge(authority), 1<<30)
		}
		if r := w.merge(authority); !done(r) {
			t.Fatalf("not at rest: %+v", r)
		}
		old, new := w.ids(Old), w.ids(New)
		if !maps.Equal(old, new) {
			t.Fatalf("OLD %v, NEW %v", old, new)
		}
		for id, n := range old {
			if n != 1 {
				t.Fatalf("message %d is there %d times", id, n)
			}
		}
		for id, yes := range alive {
			if yes && old[id] == 0 {
				t.Fatalf("message %d is lost", id)
			}
		}
		for _, q := range w.base {
			o, n := w.side[Old][q.UID[Old]], w.side[New][q.UID[New]]
			for _, f := range flags {
				if o.flags[f] != n.flags[f] && !(w.keep[New] != nil && !w.keep[New](f)) {
					t.Fatalf("message %d: OLD %v, NEW %v", o.id, o.flags, n.flags)
				}
			}
		}
	})
}

// TestTable is the table of uid-stable.md, section 4.3, with OLD deciding.
func TestTable(t *testing.T) {
	d := &Dict{}
	seen, none := d.ID([]byte(`\Seen`)), d.ID(nil)
	pair := Pair{UID: [2]uint32{5, 9}, Base: [2]Flags{none, none}}
	at := func(side Side, f Flags) []Entry { return []Entry{{[2]uint32{5, 9}[side], f}} }
	for _, c := range []struct {
		what     string
		old, new []Entry
		base     []Pair
		deletes  bool
		want     string
	}{
		{"both there", at(Old, none), at(New, none), []Pair{pair}, false, ""},
		{"flag set on OLD", at(Old, seen), at(New, none), []Pair{pair}, false, `new +[\Seen]`},
		{"flag set on NEW", at(Old, none), at(New, seen), []Pair{pair}, false, `old +[\Seen]`},
		{"flag set on both", at(Old, seen), at(New, seen), []Pair{pair}, false, "rebase"},
		{"gone on OLD", nil, at(New, none), []Pair{pair}, false, "expunge new"},
		{"gone on OLD, changed on NEW", nil, at(New, seen), []Pair{pair}, false, "expunge new conflict"},
		{"gone on NEW", at(Old, none), nil, []Pair{pair}, false, "recreate new"},
		{"gone on NEW, deletes travel", at(Old, none), nil, []Pair{pair}, true, "expunge old"},
		{"gone on NEW, changed on OLD, deletes travel", at(Old, seen), nil, []Pair{pair}, true, "recreate new conflict"},
		{"gone on both", nil, nil, []Pair{pair}, false, "drop"},
		{"new on OLD", at(Old, none), nil, nil, false, "create new"},
		{"new on NEW", nil, at(New, none), nil, false, "create old"},
		{"twice in the base", at(Old, none), []Entry{{9, none}, {10, none}}, []Pair{pair, {UID: [2]uint32{5, 10}}}, false, "create old drop"},
		{"twice in the base, gone on OLD", nil, []Entry{{9, none}, {10, none}}, []Pair{pair, {UID: [2]uint32{5, 10}}}, false, "create old expunge new drop"},
		{"no UID on OLD, of a message that has a pair", at(Old, none), at(New, none), []Pair{{UID: [2]uint32{0, 9}}, pair}, false, "drop"},
		{"no UID on NEW, of a message that has a pair", at(Old, none), at(New, none), []Pair{{UID: [2]uint32{5, 0}}, pair}, false, "drop"},
		{"no UID on OLD", nil, at(New, none), []Pair{{UID: [2]uint32{0, 9}}}, false, "create old drop"},
	} {
		r := Mailbox(Input{Dict: d, Authority: Old, Base: c.base, Snap: [2][]Entry{c.old, c.new}, FollowerDeletes: c.deletes})
		var got []string
		for side, name := range []string{"old", "new"} {
			for _, x := range r.Change[side] {
				if len(x.Add) > 0 {
					got = append(got, fmt.Sprintf("%s +%v", name, x.Add))
				}
			}
			if len(r.Create[side]) > 0 {
				got = append(got, "create "+name)
			}
			if len(r.Recreate[side]) > 0 {
				got = append(got, "recreate "+name)
			}
			if n := len(r.Expunge[side]); n > 1 {
				t.Errorf("%s: %d expunges", c.what, n)
			}
			if len(r.Expunge[side]) > 0 {
				got = append(got, "expunge "+name)
			}
		}
		if len(r.Drop) > 0 {
			got = append(got, "drop")
		}
		if len(r.Rebase) > 0 {
			got = append(got, "rebase")
		}
		if len(r.Conflict) > 0 {
			got = append(got, "conflict")
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.what, s, c.want)
		}
	}
}

// TestTwiceOnNew has a UID of NEW in two pairs, and NEW decides: at most one of them is proof of a delete.
func TestTwiceOnNew(t *testing.T) {
	for _, order := range [][]Pair{{{UID: [2]uint32{5, 9}}, {UID: [2]uint32{6, 9}}}, {{UID: [2]uint32{5, 9}}, {UID: [2]uint32{6, 9}}, {UID: [2]uint32{7, 8}}}} {
		r := Mailbox(Input{Dict: &Dict{}, Authority: New, Base: order, Snap: [2][]Entry{{{5, 0}, {6, 0}, {7, 0}}, {{8, 0}}}})
		if !slices.Equal(r.Expunge[Old], []int{0}) || !slices.Equal(r.Drop, []int{1}) {
			t.Errorf("expunge %v, drop %v", r.Expunge, r.Drop)
		}
	}
}

// TestPoorSide has a side that cannot keep a keyword: it must not take it off the other one.
func TestPoorSide(t *testing.T) {
	d := &Dict{}
	label, none := d.ID([]byte("Label")), d.ID(nil)
	in := Input{Dict: d, Authority: New, Base: []Pair{{UID: [2]uint32{1, 1}, Base: [2]Flags{label, none}}},
		Snap: [2][]Entry{{{1, label}}, {{1, none}}}, CanKeep: [2]func(string) bool{nil, func(f string) bool { return f != "Label" }}}
	if r := Mailbox(in); !done(r) {
		t.Errorf("%+v", r)
	}
	in.Snap[Old] = []Entry{{1, d.ID([]byte(`Label \Seen`))}}
	if r := Mailbox(in); len(r.Change[Old]) != 0 || len(r.Change[New]) != 1 || !slices.Equal(r.Change[New][0].Add, []string{`\Seen`}) {
		t.Errorf("%+v", r)
	}
}

func TestFlagsFold(t *testing.T) {
	d := &Dict{}
	if d.ID([]byte(`$Forwarded \Seen \Recent`)) != d.ID([]byte(`\seen $forwarded`)) {
		t.Error("letter case tells flags apart")
	}
	if d.ID([]byte("gel\xf6scht")) == d.ID([]byte("gel\xe4scht")) || d.ID([]byte("k")) == d.ID([]byte("\u212a")) {
		t.Error("different flags are one")
	}
	e, err := DecodeDict(d.Encode())
	if err != nil || !slices.Equal(e.List(1), d.List(1)) || !slices.Equal(e.List(1), []string{"$Forwarded", `\Seen`}) {
		t.Errorf("%v %v", e.List(1), err)
	}
}

func FuzzDecodeDict(f *testing.F) {
	f.Add((&Dict{}).Encode())
	f.Add([]byte{1, 0, 2, 1, 5})
	d := &Dict{}
	d.ID([]byte(`\Seen Label`))
	d.ID([]byte(`Label`))
	f.Add(d.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeDict(b)
		if err != nil {
			return
		}
		for i := range Flags(20) {
			d.List(i)
		}
		if again, err := DecodeDict(d.Encode()); err != nil || len(again.sets) != len(d.sets) {
			t.Fatalf("not the same again: %v", err)
		}
	})
}

func BenchmarkUnchanged(b *testing.B) {
	d := &Dict{}
	seen := d.ID([]byte(`\Seen`))
	var in Input
	in.Dict = d
	for i := range uint32(100000) {
		in.Base = append(in.Base, Pair{UID: [2]uint32{i + 1, i + 7}, Base: [2]Flags{seen, seen}})
		in.Snap[0] = append(in.Snap[0], Entry{i + 1, seen})
		in.Snap[1] = append(in.Snap[1], Entry{i + 7, seen})
	}
	b.ReportAllocs()
	for b.Loop() {
		if r := Mailbox(in); !done(r) {
			b.Fatal(r)
		}
	}
}
