package syncer

import (
	"slices"
	"strconv"
	"strings"

	"mailgate/config"
)

// place is where a known folder stands on a side: so many names below another known folder, or below the root.
type place struct {
	above *seen // nil for the root
	rest  []string
}

func (a place) same(b place) bool { return a.above == b.above && slices.Equal(a.rest, b.rest) }

// nameMerge is the three-way merge of folder names. What is merged is each folder's place, not its whole name: a folder renamed on
// one side and the one above it renamed on the other come together, as two people mean it. When both sides gave a folder
// another place, the side that decides wins.
type nameMerge struct {
	p      *planner
	list   []*seen // on both sides, without INBOX and what is left out
	before [2]map[*seen]place
	now    [2]map[*seen]place
	yield  map[*seen]bool // what the follower did cannot be done on the other side: it takes that back
	stay   map[*seen]bool // nor can that: each side keeps its own place
	final  [2]map[*seen]path
	moves  [2][]renaming
	going  map[int64]*seen // by ID, those that are gone from the side that decides, and wait on the other to be deleted
}

// renaming is a RENAME of the plan.
type renaming struct {
	s *seen
	move
}

// mergeNames decides what known folders are called when the plan is done, and by which renames.
func (p *planner) mergeNames(list []*seen, lines []*Folder) {
	m := &nameMerge{p: p, yield: map[*seen]bool{}, stay: map[*seen]bool{}, going: map[int64]*seen{}}
	for _, s := range list {
		if s.at[p.authority] == nil && s.at[p.authority.Other()] != nil && s.box.Name[p.authority] != "" {
			m.going[s.box.ID] = s
		}
		if s.at[0] != nil && s.at[1] != nil && !s.at[0].path.inbox && !s.at[1].path.inbox && !p.excluded(s.at[config.Old].path) {
			m.list = append(m.list, s)
		}
	}
	for _, side := range config.Sides {
		m.before[side] = m.places(side, func(s *seen) path {
			at, _ := p.names[side].parse(s.box.Name[side])
			return at
		})
		m.now[side] = m.places(side, func(s *seen) path { return s.at[side].path })
	}
	for !m.try() { // each failure makes at least one folder yield or stay
	}
	for _, side := range config.Sides {
		for _, r := range m.moves[side] {
			p.order[r.s.box.ID] = len(p.order) + 1
			if m.going[r.s.box.ID] != nil {
				p.asides[r.s.box.ID] = r.move
			}
		}
	}
	for i, s := range list {
		if _, ok := m.final[0][s]; ok {
			lines[i] = m.line(s)
		}
	}
	for _, s := range m.list {
		l := link{rank: rankKnown, at: [2]path{s.at[0].path, s.at[1].path}}
		for side := range l.to {
			l.to[side] = m.final[side][s]
		}
		p.links = append(p.links, l)
		for _, side := range config.Sides {
			if at, ok := p.names[side].parse(s.box.Name[side]); ok {
				p.renamed[side] = append(p.renamed[side], link{at: [2]path{at, at}, to: l.to})
			}
		}
	}
}

// places finds the known folder above each one.
func (m *nameMerge) places(side config.Side, at func(*seen) path) map[*seen]place {
	by := map[string]*seen{}
	for _, s := range m.list {
		by[m.p.pathKey(side, at(s))] = s
	}
	out := map[*seen]place{}
	for _, s := range m.list {
		parts := at(s).parts
		out[s] = place{rest: parts}
		for n := len(parts) - 1; n > 0; n-- {
			if above := by[m.p.pathKey(side, path{parts: parts[:n]})]; above != nil && above != s {
				out[s] = place{above, parts[n:]}
				break
			}
		}
	}
	return out
}

// winner is the side whose place a folder takes on the other; ok is false when both keep theirs.
func (m *nameMerge) winner(s *seen) (side config.Side, ok bool) {
	if m.stay[s] {
		return 0, false
	}
	for _, side := range []config.Side{m.p.authority, m.p.authority.Other()} {
		if s.box.Name[side] != "" && !m.before[side][s].same(m.now[side][s]) {
			if m.yield[s] {
				side = m.p.authority
			}
			return side, true
		}
	}
	return 0, false
}

// target is where a folder is to stand on a side.
func (m *nameMerge) target(s *seen, side config.Side) place {
	from, ok := m.winner(s)
	if !ok || from == side {
		return m.now[side][s]
	}
	at := m.now[from][s]
	depth := len(s.at[from].path.parts) - len(at.rest)
	if l, ok := m.p.nearest(from, s.at[from].path); ok && len(l.at[from].parts) > depth || at.above == nil {
		return place{rest: m.p.mapped(from, s.at[from].path).parts} // a rule, or a special use
	}
	return at
}

// resolve gives the path that a folder will have on a side. A circle, of folders that each went below the other on one side,
// is given back instead.
func (m *nameMerge) resolve(s *seen, side config.Side) (at path, circle []*seen) {
	var chain []*seen
	var parts []string
	for s != nil {
		if i := slices.Index(chain, s); i >= 0 {
			return path{}, chain[i:]
		}
		chain = append(chain, s)
		t := m.target(s, side)
		parts = append(slices.Clone(t.rest), parts...)
		s = t.above
	}
	return path{parts: parts}, nil
}

// try plans the renames. When one cannot be done the folder is made to stay, and it has to be tried again.
func (m *nameMerge) try() bool {
	p := m.p
	for _, side := range config.Sides {
		m.final[side], m.moves[side], p.moves[side] = map[*seen]path{}, nil, nil
		for _, s := range m.list {
			at, circle := m.resolve(s, side)
			for _, c := range circle {
				m.keep(c, "it and another folder were each moved into the other")
			}
			if circle != nil {
				return false
			}
			m.final[side][s] = at
		}
	}
	for _, side := range config.Sides {
		if !m.schedule(side) {
			return false
		}
	}
	return m.once()
}

// once sees to it that no folder is to be renamed on both sides: a line of the plan has one rename. It comes about only where what lies
// above a folder has become another on one side by its name alone (hosts to which A and a are one), and has yielded; then it stays.
func (m *nameMerge) once() bool {
	there := map[*seen]bool{}
	for _, r := range m.moves[config.Old] {
		there[r.s] = true
	}
	for _, r := range m.moves[config.New] {
		if there[r.s] {
			m.stay[r.s] = true
			return false
		}
	}
	return true
}

// schedule puts the renames of a side in an order in which each finds its new name free: parents first, for what lies below
// moves along.
func (m *nameMerge) schedule(side config.Side) bool {
	p := m.p
	pending := slices.Clone(m.list)
	slices.SortStableFunc(pending, func(a, b *seen) int { return comparePaths(m.final[side][a], m.final[side][b]) })
	for len(pending) > 0 {
		var waiting []*seen
		why := ""
		for _, s := range pending {
			at := m.final[side][s]
			if slices.ContainsFunc(waiting, func(w *seen) bool {
				_, below := at.under(m.final[side][w])
				return below
			}) {
				waiting = append(waiting, s)
				continue
			}
			cur := p.after(side, s.at[side].raw)
			to, trouble := p.names[side].render(at)
			if p.key(side, cur) == p.key(side, to) {
				continue
			}
			if trouble == "" {
				if trouble = m.obstacle(side, s, cur, to); trouble != "" && m.aside(side, to) {
					cur = p.after(side, s.at[side].raw) // it may lie below
					trouble = m.obstacle(side, s, cur, to)
				}
			}
			if trouble != "" {
				if waiting = append(waiting, s); len(waiting) == 1 {
					why = trouble
				}
				continue
			}
			r := renaming{s, move{cur, to}}
			m.moves[side], p.moves[side] = append(m.moves[side], r), append(p.moves[side], r.move)
		}
		if len(waiting) == len(pending) {
			m.keep(waiting[0], why)
			return false
		}
		pending = waiting
	}
	return true
}

// obstacle says why a rename cannot be done at this point, "" when it can.
func (m *nameMerge) obstacle(side config.Side, s *seen, cur, to string) string {
	p := m.p
	if sep := p.names[side].separator; sep != 0 && strings.HasPrefix(to, cur+string(sep)) {
		return "a folder cannot be moved below itself"
	}
	k := p.key(side, to)
	for i := range p.entries[side] {
		if e := &p.entries[side][i]; e.own && e.selectable && e != s.at[side] && p.key(side, p.after(side, e.raw)) == k {
			return "another folder has that name there"
		}
	}
	return ""
}

// aside has a folder that is gone from the side that decides, and waits on the other to be deleted, give its name up to one that has it there now. It
// tells whether there was one.
func (m *nameMerge) aside(side config.Side, name string) bool {
	p := m.p
	k := p.key(side, name)
	i := slices.IndexFunc(p.entries[side], func(e entry) bool { return e.own && e.selectable && p.key(side, p.after(side, e.raw)) == k })
	if side == p.authority || i < 0 || m.going[p.entries[side][i].known] == nil {
		return false
	}
	g := m.going[p.entries[side][i].known]
	cur := p.after(side, g.at[side].raw)
	at, ok := p.names[side].parse(cur)
	if !ok || at.inbox || slices.ContainsFunc(m.moves[side], func(r renaming) bool { return r.s == g }) {
		return false
	}
	for n := 1; n < 100; n++ {
		free := path{parts: slices.Clone(at.parts)}
		free.parts[len(free.parts)-1] += asideSuffix
		if n > 1 {
			free.parts[len(free.parts)-1] += strconv.Itoa(n)
		}
		to, trouble := p.names[side].render(free)
		k := p.key(side, to)
		if trouble != "" || slices.ContainsFunc(p.entries[side], func(e entry) bool { return p.key(side, p.after(side, e.raw)) == k || p.key(side, e.raw) == k }) ||
			slices.ContainsFunc(m.list, func(s *seen) bool { return p.pathKey(side, m.final[side][s]) == k }) {
			continue
		}
		r := renaming{g, move{cur, to}}
		m.moves[side], p.moves[side] = append(m.moves[side], r), append(p.moves[side], r.move)
		return true
	}
	return false
}

// asideSuffix is behind the name of a folder that waits to be deleted while another has its name.
const asideSuffix = "-deleted"

// keep makes a folder yield, or stay.
func (m *nameMerge) keep(s *seen, why string) {
	from, ok := m.winner(s)
	if ok && from != m.p.authority {
		m.yield[s] = true
		m.p.note("%s was renamed to %s on %s, which does not decide; that is taken back: %s.", m.p.names[from].shown(s.box.Name[from]), s.at[from].shown, sideName(from), why)
		return
	}
	if ok {
		on := from.Other()
		m.p.note("%s was renamed to %s on %s; %s keeps the name %s: %s.", m.p.names[from].shown(s.box.Name[from]), s.at[from].shown, sideName(from),
			sideName(on), s.at[on].shown, why)
	}
	m.stay[s] = true
}

// line is a folder's line of the plan.
func (m *nameMerge) line(s *seen) *Folder {
	f := m.p.folder(s.at)
	f.Known, f.Action = s.box.ID, ActionPair
	for _, side := range config.Sides {
		f.Name[side] = m.p.after(side, s.at[side].raw)
		if f.Name[side] != s.at[side].raw {
			f.Why = "It moves along with the folder above it."
		}
	}
	for _, side := range config.Sides {
		for _, r := range m.moves[side] {
			if r.s == s {
				from := side.Other()
				f.Action, f.Side, f.From = ActionRename, side, r.from
				f.Why = "It was " + m.p.names[from].shown(s.box.Name[from]) + " on " + sideName(from) + " when last seen."
			}
		}
	}
	return &f
}
