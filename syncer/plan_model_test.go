package syncer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// modelFolder is a folder of the model. What it is shows in id, whatever it is called; 0 is a name without a mailbox.
type modelFolder struct {
	id         int
	validity   uint32
	next       uint32
	messages   uint32
	use        string
	subscribed bool
}

// modelSide is a side that does what servers do: RENAME takes along what lies below.
type modelSide struct {
	SideFolders
	prefix    string
	separator string
	objectIDs bool // MAILBOXID is told
	folders   map[string]*modelFolder
	clock     uint32
}

func newModelSide(s SideFolders) *modelSide {
	ns := s.Namespaces.Personal[0]
	m := &modelSide{SideFolders: s, prefix: ns.Prefix, folders: map[string]*modelFolder{}, clock: 1000}
	if ns.Separator != 0 {
		m.separator = string(ns.Separator)
	}
	m.add("INBOX", modelFolder{id: 1})
	return m
}

func (m *modelSide) add(name string, f modelFolder) {
	m.clock++
	f.validity, f.next = m.clock, f.messages+1
	m.folders[name] = &f
}

// has tells whether there is a mailbox of a name; sides that fold letter case take others for it.
func (m *modelSide) has(name string) bool {
	for n, f := range m.folders {
		if f.id != 0 && (n == name || m.Profile != nil && m.Profile.CaseFolds && strings.EqualFold(n, name)) {
			return true
		}
	}
	return false
}

func (m *modelSide) rename(from, to string) error {
	f := m.folders[from]
	switch {
	case f == nil || f.id == 0:
		return fmt.Errorf("RENAME %q %q: there is no such folder", from, to)
	case m.has(to) && !(m.Profile != nil && m.Profile.CaseFolds && strings.EqualFold(from, to)):
		return fmt.Errorf("RENAME %q %q: the new name is taken", from, to)
	case m.separator != "" && strings.HasPrefix(to, from+m.separator):
		return fmt.Errorf("RENAME %q %q: below itself", from, to)
	}
	before := maps.Clone(m.folders)
	moved := map[string]*modelFolder{}
	for name, f := range m.folders {
		rest, below := strings.CutPrefix(name, from+m.separator)
		if name == from {
			rest, below = "", true
			moved[to] = f
			delete(m.folders, name)
		} else if below && m.separator != "" {
			moved[to+m.separator+rest] = f
			delete(m.folders, name)
		}
	}
	for name := range moved {
		if m.has(name) {
			m.folders = before
			return fmt.Errorf("RENAME %q %q: %q is taken", from, to, name)
		}
	}
	maps.Copy(m.folders, moved)
	return nil
}

// holds tells whether a folder is there, under any name.
func (m *modelSide) holds(id int) bool {
	for _, f := range m.folders {
		if f.id == id {
			return true
		}
	}
	return false
}

func (m *modelSide) names() []string {
	var out []string
	for name := range m.folders {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// list is what the planner is given.
func (m *modelSide) list() SideFolders {
	s := m.SideFolders
	s.Folders, s.Subscribed = nil, map[string]bool{}
	for _, name := range m.names() {
		f := m.folders[name]
		e := backend.ListEntry{Name: name}
		if m.separator != "" {
			e.Separator = m.separator[0]
		}
		if f.id == 0 {
			e.Attributes = []string{`\Noselect`}
		} else {
			e.Status = &backend.Status{Messages: f.messages, UIDNext: f.next, Validity: f.validity}
			if m.objectIDs {
				e.Status.MailboxID = fmt.Sprint("M", f.id)
			}
			if f.use != "" {
				e.Attributes = []string{f.use}
			}
		}
		if f.subscribed {
			s.Subscribed[name] = true
		}
		s.Folders = append(s.Folders, e)
	}
	return s
}

// model is an account on both sides, with what is stored of it.
type model struct {
	sides     [2]*modelSide
	authority config.Side
	rules     Rules
	known     []Mailbox
	ids       map[int64]int // what a stored mailbox is
	last      int64
}

func (m *model) plan() *Plan {
	return PlanFolders("user", m.authority, [2]SideFolders{m.sides[0].list(), m.sides[1].list()}, m.known, m.rules)
}

// apply carries a plan out, as a pass does whose times of grace are over, and stores what is known then.
func (m *model) apply(p *Plan) error {
	done := func(f Folder) bool { return f.Action != ActionSkip && f.Action != ActionRefuse }
	for _, f := range p.Folders {
		for side, name := range f.Listed {
			if (name != "") != (m.sides[side].folders[name] != nil) {
				return fmt.Errorf("%q is not listed on %s", name, config.Side(side))
			}
		}
	}
	for _, f := range p.Folders {
		if f.From != "" {
			if err := m.sides[f.Side].rename(f.From, f.Name[f.Side]); err != nil {
				return err
			}
		}
	}
	for _, f := range p.Folders {
		for side, name := range f.Name {
			if done(f) && f.Exists[side] && !m.sides[side].has(name) {
				return fmt.Errorf("%q is not on %s after the renames (%+v)", name, config.Side(side), f)
			}
		}
		if f.Action == ActionCreate {
			to, from := m.sides[f.Side], m.sides[f.Side.Other()].folders[f.Name[f.Side.Other()]]
			if to.has(f.Name[f.Side]) {
				return fmt.Errorf("CREATE %q on %s: it is there", f.Name[f.Side], f.Side)
			}
			to.add(f.Name[f.Side], modelFolder{id: from.id, messages: from.messages, use: f.Use, subscribed: f.Subscribe})
		}
	}
	var stored []Mailbox
	for _, f := range p.Folders {
		box := Mailbox{ID: f.Known}
		if i := slices.IndexFunc(m.known, func(b Mailbox) bool { return b.ID == f.Known }); i >= 0 {
			box = m.known[i]
		}
		switch {
		case f.Action == ActionGone:
			if f.Exists[f.Side] {
				delete(m.sides[f.Side].folders, f.Name[f.Side])
			}
			continue
		case !done(f):
			if box.ID != 0 { // a rule leaves it out: what was known stays
				stored = append(stored, box)
			}
			continue
		}
		if box.ID == 0 {
			m.last++
			box.ID = m.last
		}
		box.Name, box.SpecialUse, box.Subscribed = f.Name, f.Use, f.Subscribe
		var at [2]*modelFolder
		for side, name := range f.Name {
			if at[side] = m.sides[side].folders[name]; at[side] == nil {
				return fmt.Errorf("%q is not on %s in the end", name, config.Side(side))
			}
			at[side].subscribed = f.Subscribe
		}
		for side := range at { // unless it was deleted, and another was made under its name
			if was := m.ids[f.Known]; f.Known != 0 && at[side].id != was && m.sides[side].holds(was) {
				return fmt.Errorf("%q was the folder %d and is %d on %s now", f.Name, was, at[side].id, config.Side(side))
			}
		}
		id := min(at[0].id, at[1].id) // two folders that met by name are one from now on
		n := max(at[0].messages, at[1].messages)
		for side := range at {
			at[side].id, at[side].messages, at[side].next = id, n, max(at[side].next, n+1)
			box.Validity[side], box.Cursor[side], box.Pairs = at[side].validity, Cursor{UIDNext: at[side].next, Messages: n}, int64(n)
			if m.sides[side].objectIDs {
				box.MailboxID[side] = fmt.Sprint("M", at[side].id)
			}
		}
		m.ids[box.ID] = id
		stored = append(stored, box)
	}
	m.known = stored
	slices.SortFunc(m.known, func(a, b Mailbox) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

// check looks at a plan alone: it is total, and no two folders become one.
func (m *model) check(p *Plan) error {
	var taken, lines [2]map[string]int
	for side := range taken {
		taken[side], lines[side] = map[string]int{}, map[string]int{}
	}
	for _, f := range p.Folders {
		if f.Action != ActionPair && f.Action != ActionRename && f.Why == "" {
			return fmt.Errorf("%q: %s without a reason", f.Name, f.Action)
		}
		for side, name := range f.Listed {
			if name != "" {
				lines[side][name]++
			}
			key := f.Name[side]
			if pr := m.sides[side].Profile; pr != nil && pr.CaseFolds {
				key = strings.ToLower(key)
			}
			if key == "" || f.Action == ActionSkip || f.Action == ActionRefuse || f.Action == ActionGone && !f.Exists[side] {
				continue
			}
			if taken[side][key]++; taken[side][key] > 1 {
				return fmt.Errorf("two folders become %q on %s", f.Name[side], config.Side(side))
			}
		}
	}
	for side, s := range m.sides {
		for name, f := range s.folders {
			if n := lines[side][name]; n > 1 || n == 0 && f.id != 0 {
				return fmt.Errorf("%q on %s has %d lines", name, config.Side(side), n)
			}
		}
	}
	return nil
}

// still tells whether nothing is left to do.
func still(p *Plan) error {
	for _, f := range p.Folders {
		if f.Action != ActionPair && f.Action != ActionSkip || f.Action == ActionPair && f.Name != f.Listed {
			return fmt.Errorf("left to do: %s %q, listed as %q, from %q: %s", f.Action, f.Name, f.Listed, f.From, f.Why)
		}
	}
	return nil
}
