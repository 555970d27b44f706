package merge

import (
	"cmp"
	"slices"
	"sort"
)

// Mailbox merges (uid-stable.md, sections 4.3 and 4.4): what the routed side says wins, deletes on the follower do not
// travel, every flag is merged for itself against each side's own base.
func Mailbox(in Input) Result {
	m := &merger{in: in, memo: map[flagKey]flagResult{}, groups: [2]map[flagResult]int{{}, {}}}
	m.res.Lost = map[string]int{}
	if in.Dict == nil {
		m.in.Dict = &Dict{}
	}
	m.in.Dict.prepare()
	for side, list := range m.in.Snap {
		if byUID := func(a, b Entry) int { return cmp.Compare(a.UID, b.UID) }; !slices.IsSortedFunc(list, byUID) {
			m.in.Snap[side] = slices.Clone(list)
			slices.SortStableFunc(m.in.Snap[side], byUID)
		}
	}
	m.run()
	return m.res
}

type merger struct {
	in     Input
	res    Result
	memo   map[flagKey]flagResult
	groups [2]map[flagResult]int // index into res.Change
	lost   [2]map[Flags][]string
	loose  [2][]int32 // messages of void pairs, by place in the snapshot
}

type flagKey struct{ baseO, baseN, o, n Flags }

// flagResult is what a merge of flags comes to.
type flagResult struct {
	base      [2]Flags // afterwards
	add, take [2]Flags // to be set, and to be taken off, on each side
	dropped   [2]Flags // keywords that a side was sent and has not kept
	exclusive bool
}

// Places of a pair's message beside those in a snapshot.
const (
	gone = -1
	void = -2
)

// where finds UIDs in a snapshot, asked for in ascending order.
type where struct {
	list []Entry
	i    int
}

func (w *where) at(uid uint32) (int, bool) {
	for w.i < len(w.list) && w.list[w.i].UID < uid {
		w.i++
	}
	return w.i, w.i < len(w.list) && w.list[w.i].UID == uid
}

func (m *merger) run() {
	base := m.in.Base
	// On each side: where each pair's message stands in the snapshot, or gone or void.
	var place [2][]int32
	var taken [2][]bool
	for side := range place {
		place[side] = make([]int32, len(base))
		taken[side] = make([]bool, len(m.in.Snap[side]))
		order := ascending(base, Side(side))
		w := where{list: m.in.Snap[side]}
		before := uint32(0)
		for k := range base {
			i := k
			if order != nil {
				i = int(order[k])
			}
			uid := base[i].UID[side]
			if uid == 0 || base[i].UID[side^1] == 0 || side == int(New) && place[Old][i] == void || uid == before {
				place[side][i] = void // a pair that cannot be: it proves nothing, whether the message is there or not
				continue
			}
			before = uid
			at, ok := w.at(uid)
			if !ok {
				place[side][i] = gone
				continue
			}
			place[side][i] = int32(at)
			taken[side][at] = true
		}
	}
	for i := range base {
		m.pair(i, place[Old][i], place[New][i])
	}
	for side := range taken {
		to := Side(side).Other()
		for _, at := range m.loose[side] {
			taken[side][at] = false
		}
		for i, e := range m.in.Snap[side] {
			if taken[side][i] || i > 0 && m.in.Snap[side][i-1].UID == e.UID {
				continue
			}
			m.res.Create[to] = append(m.res.Create[to], e)
			m.countLost(to, e.Flags)
		}
		follow := func(list []int, by Side) {
			sort.Slice(list, func(a, b int) bool { return base[list[a]].UID[by] < base[list[b]].UID[by] })
		}
		follow(m.res.Recreate[side], to)
		for i := range m.res.Change[side] {
			c := &m.res.Change[side][i]
			slices.SortFunc(c.Pairs, func(a, b int) int { return cmp.Compare(base[a].UID[side], base[b].UID[side]) })
			for _, p := range c.Pairs {
				c.UIDs = append(c.UIDs, base[p].UID[side])
			}
		}
	}
}

// ascending gives the order of pairs by UID of a side, nil when they stand in it.
func ascending(base []Pair, side Side) []int32 {
	if slices.IsSortedFunc(base, func(a, b Pair) int { return cmp.Compare(a.UID[side], b.UID[side]) }) {
		return nil
	}
	order := make([]int32, len(base))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(base[a].UID[side], base[b].UID[side]) })
	return order
}

// pair decides about one pair: the table of section 4.3.
func (m *merger) pair(i int, old, new int32) {
	if old == void || new == void { // what it names and is there counts as new
		m.res.Drop = append(m.res.Drop, i)
		for side, at := range [2]int32{old, new} {
			if at >= 0 {
				m.loose[side] = append(m.loose[side], at)
			}
		}
		return
	}
	at := [2]int32{old, new}
	auth, follower := m.in.Authority, m.in.Authority.Other()
	p := &m.in.Base[i]
	switch {
	case old < 0 && new < 0:
		m.res.Drop = append(m.res.Drop, i)
	case at[auth] < 0:
		if m.differ(m.in.Snap[follower][at[follower]].Flags, p.Base[follower]) {
			m.res.Conflict = append(m.res.Conflict, Conflict{Pair: i, Kind: DeletedAndChanged})
		}
		m.res.Expunge[follower] = append(m.res.Expunge[follower], i)
	case at[follower] < 0:
		changed := m.differ(m.in.Snap[auth][at[auth]].Flags, p.Base[auth])
		if m.in.FollowerDeletes && !changed {
			m.res.Expunge[auth] = append(m.res.Expunge[auth], i)
			return
		}
		if m.in.FollowerDeletes {
			m.res.Conflict = append(m.res.Conflict, Conflict{Pair: i, Kind: DeletedAndChanged, Kept: true})
		}
		m.res.Recreate[follower] = append(m.res.Recreate[follower], i)
		m.countLost(follower, m.in.Snap[auth][at[auth]].Flags)
	default:
		m.flags(i, p, m.in.Snap[Old][old].Flags, m.in.Snap[New][new].Flags)
	}
}

func (m *merger) flags(i int, p *Pair, o, n Flags) {
	if o == p.Base[Old] && n == p.Base[New] {
		return
	}
	key := flagKey{p.Base[Old], p.Base[New], o, n}
	r, ok := m.memo[key]
	if !ok {
		r = m.mergeFlags(key)
		m.memo[key] = r
	}
	if r.exclusive {
		m.res.Conflict = append(m.res.Conflict, Conflict{Pair: i, Kind: Exclusive, Kept: true})
	}
	todo := false
	for side := range r.add {
		if r.add[side] == 0 && r.take[side] == 0 {
			continue
		}
		todo = true
		at, ok := m.groups[side][r]
		if !ok {
			at = len(m.res.Change[side])
			m.res.Change[side] = append(m.res.Change[side], FlagChange{Add: m.in.Dict.List(r.add[side]), Remove: m.in.Dict.List(r.take[side]), Base: r.base})
			m.groups[side][r] = at
		}
		m.res.Change[side][at].Pairs = append(m.res.Change[side][at].Pairs, i)
	}
	if !todo && r.base != p.Base {
		m.res.Rebase = append(m.res.Rebase, Rebase{i, r.base})
	}
	for side := range r.add {
		for _, f := range m.in.Dict.List(r.dropped[side]) {
			m.res.Lost[f]++
		}
		for _, f := range m.unkept(Side(side), r.base[side^1]) {
			if !m.has(o, f) && side == int(Old) || !m.has(n, f) && side == int(New) {
				m.res.Lost[f]++
			}
		}
	}
}

// differ tells whether the flags of a message differ from its base in flags that travel.
func (m *merger) differ(a, b Flags) bool {
	b = m.in.Dict.Settled(b, a)
	if a == b || m.in.Ignore == nil {
		return a != b
	}
	return slices.ContainsFunc(append(m.in.Dict.Without(a, b), m.in.Dict.Without(b, a)...), func(f string) bool { return !m.in.Ignore(f) })
}

func (m *merger) has(set Flags, flag string) bool {
	n, ok := m.in.Dict.index[fold(flag)]
	return ok && slices.Contains(m.in.Dict.numbers(set), n)
}

// exclusive are pairs of keywords of which a message has one at most.
func exclusive() [][2]string {
	return [][2]string{{"$junk", "$notjunk"}, {"junk", "nonjunk"}, {"junk", "notjunk"}}
}

// mergeFlags merges one combination of bases and present flags.
func (m *merger) mergeFlags(k flagKey) flagResult {
	d := m.in.Dict
	in := func(set Flags) map[int]bool {
		out := map[int]bool{}
		for _, n := range d.numbers(set) {
			out[n] = true
		}
		return out
	}
	settled := [2]Flags{d.Settled(k.baseO, k.o), d.Settled(k.baseN, k.n)}
	base := [2]map[int]bool{in(settled[0]), in(settled[1])}
	now := [2]map[int]bool{in(k.o), in(k.n)}
	all := map[int]bool{}
	for side := range now {
		for n := range base[side] {
			all[n] = true
		}
		for n := range now[side] {
			all[n] = true
		}
	}
	auth, follower := m.in.Authority, m.in.Authority.Other()
	merged := map[int]bool{}
	stays := map[int]bool{} // flags that do not travel: each side keeps its own
	for n := range all {
		flag := d.flags[n]
		if flag == unconfirmed || m.in.Ignore != nil && m.in.Ignore(flag) {
			stays[n] = true
			continue
		}
		ca, cf := now[auth][n] != base[auth][n], now[follower][n] != base[follower][n]
		switch {
		case ca:
			merged[n] = now[auth][n]
		case cf:
			merged[n] = now[follower][n]
		default: // as before: a side that cannot hold it shows 0 with base 0, and that says nothing
			merged[n] = now[auth][n] || now[follower][n]
		}
	}
	var r flagResult
	var dropped [2][]int
	for side, sent := range [2]Flags{k.baseO, k.baseN} {
		if sent != settled[side] {
			dropped[side] = slices.DeleteFunc(slices.Clone(d.numbers(sent)), func(n int) bool { return d.flags[n] == unconfirmed || base[side][n] })
			r.dropped[side] = d.set(slices.Clone(dropped[side]))
		}
	}
	for _, x := range exclusive() {
		a, okA := d.index[x[0]]
		b, okB := d.index[x[1]]
		if !okA || !okB || !merged[a] || !merged[b] {
			continue
		}
		loser := b
		if now[auth][b] && !now[auth][a] {
			loser = a
		} else if now[auth][a] && now[auth][b] {
			continue // it has both itself: not ours to mend
		}
		merged[loser] = false
		r.exclusive = true
	}
	for side := range now {
		var after, add, take []int
		for n := range all {
			switch flag := d.flags[n]; {
			case stays[n]:
				if now[side][n] {
					after = append(after, n)
				}
			case merged[n] && !now[side][n] && m.keeps(Side(side), flag) && !slices.Contains(dropped[side], n):
				add, after = append(add, n), append(after, n)
			case merged[n] && now[side][n]:
				after = append(after, n)
			case !merged[n] && now[side][n]:
				take = append(take, n)
			}
		}
		r.base[side], r.add[side], r.take[side] = d.set(after), d.set(add), d.set(take)
	}
	return r
}

func (m *merger) keeps(side Side, flag string) bool {
	f := m.in.CanKeep[side]
	return f == nil || f(flag)
}

// unkept are the flags of a set that a side cannot keep.
func (m *merger) unkept(side Side, set Flags) []string {
	if m.in.CanKeep[side] == nil {
		return nil
	}
	if m.lost[side] == nil {
		m.lost[side] = map[Flags][]string{}
	}
	list, ok := m.lost[side][set]
	if !ok {
		for _, f := range m.in.Dict.List(set) {
			if !m.keeps(side, f) && (m.in.Ignore == nil || !m.in.Ignore(f)) {
				list = append(list, f)
			}
		}
		m.lost[side][set] = list
	}
	return list
}

func (m *merger) countLost(to Side, set Flags) {
	for _, f := range m.unkept(to, set) {
		m.res.Lost[f]++
	}
}
