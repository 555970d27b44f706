package syncer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mailgate/config"
)

// seen is a stored mailbox and where it is now.
type seen struct {
	box   Mailbox
	at    [2]*entry // what holds it now, nil where it is gone
	moved [2]bool   // under a new name
}

// knownFolders are the stored mailboxes.
func (p *planner) knownFolders() {
	list := make([]*seen, len(p.known))
	for i, box := range p.known {
		s := &seen{box: box}
		list[i] = s
		for _, side := range config.Sides {
			if box.Name[side] == "" {
				continue
			}
			e := p.byKey[side][p.key(side, box.Name[side])]
			if e != nil && e.raw != box.Name[side] { // another spelling of it may be listed as well
				if i := slices.IndexFunc(p.entries[side], func(e entry) bool { return e.raw == box.Name[side] }); i >= 0 {
					e = &p.entries[side][i]
				}
			}
			if e != nil && e.selectable && e.known == 0 {
				e.known, s.at[side] = box.ID, e
			}
		}
	}
	for _, side := range config.Sides {
		p.findRenames(side, list)
	}
	p.ruleLinks(p.rules)
	p.answerLost(list)
	for _, s := range list {
		if s.at[0] != nil && s.at[1] != nil && !s.moved[0] && !s.moved[1] {
			p.links = append(p.links, link{rank: rankKnown, at: [2]path{s.at[0].path, s.at[1].path}})
		}
	}
	p.useLinks(p.rules)
	lines := make([]*Folder, len(list))
	p.carryRenames(list, lines)
	for i, s := range list {
		p.addKnown(s, lines[i])
	}
}

// answerLost finds folders that one side has renamed and the other has under the new name already, as another mailbox: the rename was
// repeated there, the pass ended before that was written down, and the server gives what it renames a new identity. They are paired
// again by their content.
func (p *planner) answerLost(list []*seen) {
	for _, s := range list {
		for _, side := range config.Sides {
			other := side.Other()
			if s.at[side] != nil || s.at[other] == nil || !s.moved[other] || s.box.Name[side] == "" {
				continue
			}
			raw, trouble := p.names[side].render(p.mapped(other, s.at[other].path))
			if e := p.byKey[side][p.key(side, raw)]; trouble == "" && e != nil && e.own && e.selectable && e.known == 0 {
				s.at[side], s.moved[side], e.known = e, true, s.box.ID
			}
		}
	}
}

// after gives the name that a side will have for raw when the renames so far are done.
func (p *planner) after(side config.Side, raw string) string {
	for _, m := range p.moves[side] {
		if raw == m.from {
			raw = m.to
			continue
		}
		if sep := p.names[side].separator; sep != 0 {
			if rest, ok := strings.CutPrefix(raw, m.from+string(sep)); ok {
				raw = m.to + string(sep) + rest
			}
		}
	}
	return raw
}

// carried gives a line the names that it will have when its parents were renamed.
func (p *planner) carried(f *Folder) {
	for _, side := range config.Sides {
		if !f.Exists[side] {
			continue
		}
		f.Name[side] = p.after(side, f.Name[side])
	}
}

// carryRenames repeats the renames of one side on the other, parents first: what lies below moves along.
func (p *planner) carryRenames(list []*seen, lines []*Folder) {
	order := make([]int, 0, len(list))
	for i, s := range list {
		if s.at[0] != nil && s.at[1] != nil {
			order = append(order, i)
		}
	}
	newer := func(s *seen) config.Side { // the side whose name counts
		if s.moved[p.authority] || !s.moved[p.authority.Other()] {
			return p.authority
		}
		return p.authority.Other()
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return comparePaths(list[a].at[newer(list[a])].path, list[b].at[newer(list[b])].path)
	})
	for _, i := range order {
		s := list[i]
		from := newer(s)
		on := from.Other()
		cur := p.after(on, s.at[on].raw)
		if s.at[on].path.inbox || s.at[from].path.inbox || !s.moved[0] && !s.moved[1] && cur == s.at[on].raw {
			continue
		}
		if p.excluded(s.at[config.Old].path) {
			continue
		}
		to := s.at[on].raw // a child that stayed goes back to where it was
		if s.moved[0] || s.moved[1] {
			raw, trouble := p.names[on].render(p.mapped(from, s.at[from].path))
			if trouble != "" {
				p.note("%s was renamed to %s on %s; %s keeps %s: %s.", p.names[from].shown(s.box.Name[from]), s.at[from].shown, sideName(from), sideName(on), s.at[on].shown, trouble)
				continue
			}
			to = raw
		}
		f := p.folder(s.at)
		f.Known = s.box.ID
		switch e := p.byKey[on][p.key(on, to)]; {
		case p.key(on, cur) == p.key(on, to):
			f.Action, f.Name[on] = ActionPair, cur
			if cur != s.at[on].raw {
				f.Why = "It moves along with the folder above it."
			}
		case e != nil && e.selectable && e != s.at[on] && p.after(on, e.raw) == e.raw:
			p.note("%s was renamed to %s on %s, but %s has another folder of that name: it keeps %s.",
				p.names[from].shown(s.box.Name[from]), s.at[from].shown, sideName(from), sideName(on), s.at[on].shown)
			f.Action, f.Name[on] = ActionPair, cur
		default:
			f.Action, f.Side, f.From, f.Name[on] = ActionRename, on, cur, to
			f.Why = fmt.Sprintf("It was %s on %s when last seen.", p.names[from].shown(s.box.Name[from]), sideName(from))
			p.moves[on] = append(p.moves[on], move{cur, to})
			p.order[s.box.ID] = len(p.order) + 1
		}
		l := link{rank: rankKnown}
		l.at[from] = s.at[from].path
		l.at[on], _ = p.names[on].parse(f.Name[on])
		p.links = append(p.links, l)
		lines[i] = &f
	}
}

// addKnown adds the line of a stored mailbox; f is what was decided already, or nil.
func (p *planner) addKnown(s *seen, f *Folder) {
	at := path{}
	for _, side := range config.Sides {
		if e := s.at[side]; e != nil && (at.key() == (path{}).key() || side == config.Old) {
			at = e.path
		}
	}
	if f == nil {
		line := p.folder(s.at)
		f = &line
		f.Known = s.box.ID
		p.settle(s, f)
		if f.Action == ActionGone && !f.Exists[0] && !f.Exists[1] {
			at, _ = p.names[config.Old].parse(cmp.Or(s.box.Name[config.Old], s.box.Name[config.New]))
		}
	}
	f.Use = cmp.Or(f.Use, s.box.SpecialUse)
	for _, side := range config.Sides {
		if s.moved[side] || f.Action == ActionRename && side == f.Side {
			f.Subscribed[side] = f.Subscribed[side] || s.box.Subscribed // servers lose it at a rename, or leave it with the old name
		}
	}
	if f.Subscribe = f.Subscribed[0] || f.Subscribed[1]; s.box.Subscribed && f.Exists[0] && f.Exists[1] {
		f.Subscribe = f.Subscribed[0] && f.Subscribed[1]
	}
	old, _ := p.names[config.Old].parse(f.Name[config.Old])
	if f.Name[config.Old] != "" && p.excluded(old) {
		f.Action, f.Why = ActionSkip, "A rule leaves it out."
	}
	if f.Action == ActionRename {
		p.claim(*f, at)
		return
	}
	p.add(*f, at)
}

// settle decides about a stored mailbox that was not renamed.
func (p *planner) settle(s *seen, f *Folder) {
	lacks := config.Old
	switch {
	case s.at[0] != nil && s.at[1] != nil:
		f.Action = ActionPair
		return
	case s.at[0] == nil && s.at[1] == nil:
		f.Action, f.Side, f.Name, f.Why = ActionGone, p.authority, s.box.Name, "It is gone from both sides."
		return
	case s.at[config.New] == nil:
		lacks = config.New
	}
	has := lacks.Other()
	raw := s.box.Name[lacks]
	if raw == "" {
		to, trouble := p.names[lacks].render(p.mapped(has, s.at[has].path))
		if raw = to; trouble != "" {
			f.Action, f.Name[lacks], f.Why = ActionRefuse, raw, p.trouble(has, s.at[has], trouble)
			return
		}
	}
	f.Name[lacks], f.Side = raw, lacks
	if s.box.Name[lacks] == "" || lacks != p.authority {
		f.Action, f.Why = ActionCreate, "It is gone from "+sideName(lacks)+", which does not decide."
		if s.box.Name[lacks] == "" {
			f.Why = "It is on " + sideName(has) + " only."
		}
	} else {
		f.Action, f.Side, f.Why = ActionGone, has, "It was deleted on "+sideName(lacks)+"."
	}
	p.carried(f)
}

// claim takes the names of a rename. It cannot collide: carryRenames has looked.
func (p *planner) claim(f Folder, at path) {
	p.lines = append(p.lines, planned{f, at})
	for _, side := range config.Sides {
		p.taken[side][p.key(side, f.Name[side])] = len(p.lines) - 1
	}
}
