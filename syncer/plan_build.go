package syncer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// entry is what a side lists.
type entry struct {
	raw, shown string
	path       path
	own        bool // of the user's own namespace, and not its root
	selectable bool
	virtual    bool
	use        string
	status     *backend.Status
	known      int64 // ID of the stored mailbox
	done       bool  // it has its line
}

// planner is a plan in the making.
type planner struct {
	authority config.Side
	names     [2]*naming
	entries   [2][]entry
	byKey     [2]map[string]*entry
	byFinal   [2]map[string]*entry // by the name after the plan's renames
	folds     [2]bool
	subs      [2]map[string]bool
	known     []Mailbox
	rules     Rules
	links     []link
	wished    map[string]string // special use -> key of the operator's path on NEW
	moves     [2][]move
	renamed   [2][]link           // by side, from the stored names there
	taken     [2]map[string]int   // key -> line
	proved    [2]map[string]int64 // SideFolders.Renamed
	offers    []offer
	order     map[int64]int  // stored mailbox -> which rename it is, from 1
	asides    map[int64]move // stored mailbox that is to be deleted -> its rename, as another has its name now
	lines     []planned
	plan      *Plan
}

// planned is a line with the path that it is sorted by.
type planned struct {
	Folder
	at path
}

// move is a rename that the plan does on a side.
type move struct{ from, to string }

func newPlanner(user string, authority config.Side, sides [2]SideFolders, known []Mailbox, rules Rules) *planner {
	p := &planner{authority: authority, known: slices.Clone(known), rules: rules, wished: map[string]string{}, order: map[int64]int{}, asides: map[int64]move{}}
	p.plan = &Plan{User: user, Authority: authority}
	slices.SortFunc(p.known, func(a, b Mailbox) int { return cmp.Compare(a.ID, b.ID) })
	for _, side := range config.Sides {
		n := newNaming(sides[side])
		p.names[side] = n
		p.plan.Prefix[side], p.plan.Separator[side] = n.prefix, n.separator
		p.taken[side] = map[string]int{}
		p.proved[side] = sides[side].Renamed
		p.subs[side] = map[string]bool{}
		p.list(side, sides[side])
		for raw, on := range sides[side].Subscribed {
			if on {
				p.subs[side][p.key(side, raw)] = true
			}
		}
	}
	return p
}

// list reads what a side holds.
func (p *planner) list(side config.Side, s SideFolders) {
	n := p.names[side]
	folders := slices.Clone(s.Folders)
	slices.SortStableFunc(folders, func(a, b backend.ListEntry) int { return strings.Compare(a.Name, b.Name) })
	lower := map[string]bool{}
	clash := false
	for _, e := range folders {
		at, ok := n.parse(e.Name)
		_, own := n.personal(e.Name)
		p.entries[side] = append(p.entries[side], entry{
			raw: e.Name, shown: n.shown(e.Name), path: at, own: own && ok, selectable: selectable(e) && ok,
			virtual: virtual(e.Attributes), use: useOf(e.Attributes), status: e.Status,
		})
		k := at.foldedKey()
		clash = clash || lower[k]
		lower[k] = true
	}
	p.folds[side] = s.Profile != nil && s.Profile.CaseFolds && !clash
	p.byKey[side] = map[string]*entry{}
	for i := range p.entries[side] {
		e := &p.entries[side][i]
		if k := p.key(side, e.raw); e.own && p.byKey[side][k] == nil {
			p.byKey[side][k] = e
		}
	}
}

// folder begins a line from what each side lists; either may be nil.
func (p *planner) folder(e [2]*entry) Folder {
	var f Folder
	for side, e := range e {
		if e == nil {
			continue
		}
		e.done = true
		f.Name[side], f.Listed[side] = e.raw, e.raw
		f.Exists[side], f.Selectable[side] = e.selectable, e.selectable
		f.Subscribed[side] = p.subs[side][p.key(config.Side(side), e.raw)]
		f.Use = cmp.Or(f.Use, e.use)
		if e.status != nil {
			f.Messages[side], f.Size[side] = e.status.Messages, e.status.Size
		}
	}
	f.Subscribe = f.Subscribed[0] || f.Subscribed[1]
	return f
}

// add puts a line into the plan, unless a folder of the plan has one of its names already: then it is refused.
func (p *planner) add(f Folder, at path) {
	for _, side := range config.Sides {
		if f.Name[side] == "" || f.Action == ActionRefuse || f.Action == ActionSkip || f.Action == ActionGone && !f.Exists[side] {
			continue
		}
		if i, ok := p.taken[side][p.key(side, f.Name[side])]; ok {
			other := p.lines[i].Folder
			f.Why = fmt.Sprintf("%s would hold it as %s, and so it would %s. Write a rename rule that gives one of them another name there.",
				sideName(side), p.names[side].shown(f.Name[side]), p.names[side.Other()].shown(other.Name[side.Other()]))
			f.Action = ActionRefuse
		} else if o := p.byFinal[side][p.key(side, f.Name[side])]; o != nil && o.selectable && !f.Exists[side] {
			f.Why = fmt.Sprintf("%s has another folder %s, which is left out. Write a rename rule that gives one of them another name there.",
				sideName(side), p.names[side].shown(f.Name[side]))
			f.Action = ActionRefuse
		}
	}
	p.lines = append(p.lines, planned{f, at})
	if f.Action == ActionRefuse || f.Action == ActionSkip {
		return
	}
	for _, side := range config.Sides {
		if f.Name[side] != "" && (f.Action != ActionGone || f.Exists[side]) {
			p.taken[side][p.key(side, f.Name[side])] = len(p.lines) - 1
		}
	}
}

// newFolders are those on a side that nothing is known of.
func (p *planner) newFolders(side config.Side) {
	other := side.Other()
	var list []*entry
	for i := range p.entries[side] {
		if e := &p.entries[side][i]; !e.done && (e.selectable || !e.own) {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b *entry) int { return comparePaths(a.path, b.path) })
	for _, e := range list {
		var pair [2]*entry
		pair[side] = e
		f := p.folder(pair)
		f.Side = other
		if !e.own {
			f.Action, f.Why = ActionSkip, "It belongs to somebody else, or is shared: only the user's own folders are carried."
			p.add(f, e.path)
			continue
		}
		to := p.mapped(side, e.path)
		raw, trouble := p.names[other].render(to)
		onOld := e.path
		if side == config.New {
			onOld = to
		}
		switch {
		case p.excluded(onOld):
			f.Action, f.Why = ActionSkip, "A rule leaves it out."
			p.add(f, e.path)
			continue
		case side != p.authority && p.hollow(side, e):
			f.Action, f.Why = ActionSkip, "It is empty, and the side that decides has none of the name."
			p.add(f, e.path)
			continue
		case e.virtual:
			f.Action, f.Why = ActionSkip, "It only shows mail of other folders."
			p.add(f, e.path)
			continue
		case p.byKey[side][p.key(side, e.raw)] != e:
			f.Action, f.Why = ActionRefuse, fmt.Sprintf("%s lists another folder that reads the same, %q. Rename one of them there.", sideName(side), p.byKey[side][p.key(side, e.raw)].raw)
			p.add(f, e.path)
			continue
		case trouble != "":
			f.Name[other] = raw
			f.Action, f.Why = ActionRefuse, p.trouble(side, e, trouble)
			p.add(f, e.path)
			continue
		}
		if i, ok := p.taken[other][p.key(other, raw)]; ok {
			raw = p.exchange(side, e, raw, p.lines[i].Folder)
		}
		if o := p.byFinal[other][p.key(other, raw)]; o != nil && !o.done && !o.virtual {
			pair[other] = o
			f = p.folder(pair)
			f.Side = other
		}
		f.Name[other] = cmp.Or(p.after(other, f.Name[other]), raw)
		f.Action = ActionPair
		if !f.Exists[other] {
			f.Action = ActionCreate
			f.Why = createWhy(f, side)
		}
		if f.Use == "" && p.wished != nil {
			for use, k := range p.wished {
				if at, _ := p.names[config.New].parse(f.Name[config.New]); at.key() == k {
					f.Use = use
				}
			}
		}
		p.carried(&f)
		p.add(f, e.path)
		p.linkNew(f)
	}
}

// linkNew has what lies below a new folder follow it, as it will once it is known.
func (p *planner) linkNew(f Folder) {
	l := link{rank: rankKnown}
	for side := range l.at {
		to, ok := p.names[side].parse(f.Name[side])
		at, listed := p.names[side].parse(f.Listed[side])
		if !ok || to.inbox {
			return
		}
		if l.at[side], l.to[side] = at, to; !listed {
			l.at[side] = to
		}
	}
	p.links = append(p.links, l)
}

// hollow tells whether a folder of the follower says nothing: it is empty, and the side that decides has none there. Servers make
// such folders by themselves, as parents or at the first login. It is carried when mail arrives in it.
func (p *planner) hollow(side config.Side, e *entry) bool {
	if e.status == nil || e.status.Messages > 0 || e.path.inbox {
		return false
	}
	o := p.find(side.Other(), p.mapped(side, e.path))
	return o == nil || !o.selectable || o.done // what is of that name there is another folder's, by letter case or by a rule
}

func createWhy(f Folder, from config.Side) string {
	if f.Name[0] != "" && f.Name[1] != "" && f.Exists[from] && f.Why == "" {
		return "It is on " + sideName(from) + " only."
	}
	return f.Why
}

func (p *planner) trouble(side config.Side, e *entry, trouble string) string {
	rule := fmt.Sprintf("%q: \"...\"", e.shown)
	if side == config.New {
		rule = fmt.Sprintf("\"...\": %q", e.shown)
	}
	return fmt.Sprintf("%s cannot hold it: %s. Write a rename rule (%s).", sideName(side.Other()), trouble, rule)
}

// exchange finds a name for a folder whose name on the other side is taken by a known one that is called otherwise here: the
// name that the known one left free there.
func (p *planner) exchange(side config.Side, e *entry, raw string, holder Folder) string {
	other := side.Other()
	at, ok := p.names[side].parse(holder.Name[side])
	if holder.Known == 0 || !ok {
		return raw
	}
	free, trouble := p.names[other].render(at)
	if _, used := p.taken[other][p.key(other, free)]; used || trouble != "" {
		return raw
	}
	to, _ := p.names[other].parse(free)
	l := link{rank: rankKnown}
	l.at[side], l.at[other] = e.path, to
	l.to = l.at
	p.links = append(p.links, l)
	return free
}

// parents are names without a mailbox: they come to be with what is below them.
func (p *planner) parents() {
	for _, side := range config.Sides {
		for i := range p.entries[side] {
			e := &p.entries[side][i]
			if _, used := p.taken[side][p.key(side, e.raw)]; e.done || used && e.own {
				continue
			}
			var pair [2]*entry
			pair[side] = e
			if e.own {
				if o := p.find(side.Other(), p.mapped(side, e.path)); o != nil && !o.done && !o.selectable {
					pair[side.Other()] = o
				}
			}
			f := p.folder(pair)
			f.Exists[side], f.Exists[side.Other()] = true, pair[side.Other()] != nil
			f.Action, f.Side, f.Why = ActionSkip, side.Other(), "It holds folders but no mail: servers make it with the first folder in it."
			p.add(f, e.path)
		}
	}
}

// finish sorts the lines and fills in what people read.
func (p *planner) finish() {
	rename := func(l planned) int {
		if l.From != "" {
			return p.order[l.Known]
		}
		return len(p.order) + 1
	}
	slices.SortStableFunc(p.lines, func(a, b planned) int { return cmp.Or(rename(a)-rename(b), comparePaths(a.at, b.at)) })
	uses := [2]map[string]bool{{}, {}}
	for side := range p.entries {
		for _, e := range p.entries[side] {
			uses[side][e.use] = true
		}
	}
	for _, l := range p.lines {
		f := l.Folder
		if f.Action == ActionCreate && uses[f.Side][f.Use] {
			f.Use = "" // it has a folder of that use already
		}
		uses[f.Side][f.Use] = true
		p.plan.Folders = append(p.plan.Folders, f)
	}
	for i := range p.plan.Folders {
		f := &p.plan.Folders[i]
		if f.Action == ActionPair || f.Action == ActionSkip {
			f.Side = config.Old
		}
		for side := range f.Name {
			f.Shown[side] = p.names[side].shown(f.Name[side])
		}
	}
}

// comparePaths puts INBOX first and parents before their children.
func comparePaths(a, b path) int {
	if a.inbox != b.inbox {
		if a.inbox {
			return -1
		}
		return 1
	}
	return slices.Compare(a.parts, b.parts)
}
