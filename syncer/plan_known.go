package syncer

import (
	"cmp"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// seen is a stored mailbox and where it is now.
type seen struct {
	box   Mailbox
	at    [2]*entry // what holds it now, nil where it is gone
	moved [2]bool   // under a new name
}

// findKnown finds the stored mailboxes on both sides.
func (p *planner) findKnown() []*seen {
	list := make([]*seen, len(p.known))
	for i, box := range p.known {
		list[i] = &seen{box: box}
	}
	p.byName(list, true)
	for _, side := range config.Sides {
		p.findRenames(side, list)
	}
	p.byName(list, false)
	return list
}

// knownFolders are the stored mailboxes.
func (p *planner) knownFolders() {
	list := p.findKnown()
	p.ruleLinks(p.rules)
	p.answerLost(list)
	p.useLinks(p.rules)
	lines := make([]*Folder, len(list))
	p.mergeNames(list, lines)
	p.settled()
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

// byName finds stored mailboxes by their names. At first those of the UIDVALIDITY that is known: where two folders have changed
// names each is found by what it is. The rest, when nothing else was found for it, has begun anew under its name.
func (p *planner) byName(list []*seen, same bool) {
	for _, s := range list {
		for _, side := range config.Sides {
			name := s.box.Name[side]
			if name == "" || s.at[side] != nil {
				continue
			}
			e := p.byKey[side][p.key(side, name)]
			if e != nil && e.raw != name { // another spelling of it may be listed as well
				if i := slices.IndexFunc(p.entries[side], func(e entry) bool { return e.raw == name }); i >= 0 {
					e = &p.entries[side][i]
				}
			}
			if e == nil || !e.selectable || e.known != 0 || same && !e.path.inbox && another(s.box, side, e.status) {
				continue
			}
			e.known, s.at[side] = s.box.ID, e
		}
	}
}

// another tells whether a mailbox under the name of a stored one is not that one, or has begun anew.
func another(box Mailbox, side config.Side, st *backend.Status) bool {
	if st == nil {
		return false
	}
	if id := box.MailboxID[side]; id != "" && st.MailboxID != "" {
		return id != st.MailboxID
	}
	return box.Validity[side] != 0 && st.Validity != 0 && box.Validity[side] != st.Validity
}

// settled looks at what both sides list by the names that it will have.
func (p *planner) settled() {
	for _, side := range config.Sides {
		p.byFinal[side] = map[string]*entry{}
		for i := range p.entries[side] {
			e := &p.entries[side][i]
			if k := p.key(side, p.after(side, e.raw)); e.own && p.byFinal[side][k] == nil {
				p.byFinal[side][k] = e
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
	if f.Action == ActionGone && f.Exists[f.Side] {
		lacks := f.Side.Other()
		if e := p.byKey[lacks][p.key(lacks, f.Name[lacks])]; f.Name[lacks] != "" && e != nil && e.known != 0 { // another's now: it is not looked for under that any more
			f.Name[lacks] = ""
		}
		if m, ok := p.asides[s.box.ID]; ok {
			f.From = m.from
			f.Why += " Another folder has its name there now, so it is called " + p.names[f.Side].shown(m.to) + " until it is deleted."
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
	old, _ := p.names[config.Old].parse(cmp.Or(f.Listed[config.Old], f.Name[config.Old])) // what it is to be called counts the next time
	if f.Name[config.Old] != "" && p.excluded(old) {
		f.Action, f.Why = ActionSkip, "A rule leaves it out."
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
	raw := p.lastName(lacks, s.box.Name[lacks])
	going := lacks == p.authority && (raw != "" || !s.box.GoneSince.IsZero()) // without a name there when another folder has it now
	holder := p.byKey[lacks][p.key(lacks, raw)]
	if !going && (raw == "" || s.moved[has] && lacks != p.authority || holder != nil && holder.known != 0) {
		to, trouble := p.names[lacks].render(p.mapped(has, s.at[has].path))
		if raw = to; trouble != "" {
			f.Action, f.Name[lacks], f.Why = ActionRefuse, raw, p.trouble(has, s.at[has], trouble)
			return
		}
	}
	if o := p.byFinal[lacks][p.key(lacks, raw)]; raw != "" && o != nil && o.selectable && !o.done && o.known == 0 {
		o.known, s.at[lacks] = s.box.ID, o // it begins anew under the name that it has on the other side now
		*f = p.folder(s.at)
		f.Known, f.Action = s.box.ID, ActionPair
		p.carried(f)
		return
	}
	f.Name[lacks], f.Side = raw, lacks
	if !going {
		f.Action, f.Why = ActionCreate, "It is gone from "+sideName(lacks)+", which does not decide."
		if s.box.Name[lacks] == "" {
			f.Why = "It is on " + sideName(has) + " only."
		}
	} else {
		f.Action, f.Side, f.Why = ActionGone, has, "It was deleted on "+sideName(lacks)+"."
	}
	p.carried(f)
}

// lastName is a stored name of a mailbox that is gone from a side, after the folders above it were renamed.
func (p *planner) lastName(side config.Side, raw string) string {
	at, ok := p.names[side].parse(raw)
	if !ok || at.inbox {
		return raw
	}
	best, to := 0, at
	for _, l := range p.renamed[side] {
		if rest, ok := at.under(l.at[side]); ok && len(l.at[side].parts) > best {
			best, to = len(l.at[side].parts), l.to[side].join(rest)
		}
	}
	if now, trouble := p.names[side].render(to); trouble == "" && p.pathKey(side, to) != p.pathKey(side, at) {
		return now
	}
	return raw
}
