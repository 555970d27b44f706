package syncer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"mailgate/config"
)

// link says that a path on OLD and one on NEW are the same folder, and so what is below them.
type link struct {
	at   [2]path // as they are listed
	to   [2]path // as they will be called
	rank int     // of links for equally long names the one with the higher rank counts
}

const (
	rankUse = iota
	rankRename
	rankKnown
)

// mapped gives the path on the other side, by the nearest link.
func (p *planner) mapped(from config.Side, at path) path {
	if at.inbox {
		return at
	}
	l, ok := p.nearest(from, at)
	if !ok {
		return at
	}
	rest, _ := at.under(l.at[from])
	return l.to[from.Other()].join(rest)
}

// nearest is the link that counts for a path.
func (p *planner) nearest(from config.Side, at path) (best link, found bool) {
	for _, l := range p.links {
		if l.at[0].inbox || l.at[1].inbox {
			continue
		}
		n, most := len(l.at[from].parts), len(best.at[from].parts)
		if _, ok := at.under(l.at[from]); ok && (!found || n > most || n == most && l.rank > best.rank) {
			best, found = l, true
		}
	}
	return best, found
}

// ruleLinks are the operator's renames.
func (p *planner) ruleLinks(rules Rules) {
	for _, old := range slices.Sorted(maps.Keys(rules.Rename)) {
		l := link{rank: rankRename, at: [2]path{p.names[config.Old].written(old), p.names[config.New].written(rules.Rename[old])}}
		if l.at[0].inbox || l.at[1].inbox {
			p.note("The rename rule %q is not followed: INBOX is INBOX on both sides.", old)
			continue
		}
		l.to = l.at
		p.links = append(p.links, l)
	}
}

// useLinks bring folders of special use together. Where both sides tell by name only, or where a side has the other's name
// as well, nothing is guessed: identity by name is what the user sees today.
func (p *planner) useLinks(rules Rules) {
	var marked, named [2]map[string]path
	for side := range p.entries {
		marked[side], named[side] = specialPaths(p.entries[side])
	}
	for _, s := range specialUses() {
		var at [2]path
		var ok, sure [2]bool
		for side := range at {
			at[side], sure[side] = marked[side][s.use]
			ok[side] = sure[side]
		}
		wish := ""
		for use, name := range rules.Use {
			if strings.EqualFold(use, s.use) {
				wish = name
			}
		}
		if wish != "" {
			at[config.New], ok[config.New], sure[config.New] = p.names[config.New].written(wish), true, true
			p.wished[s.use] = at[config.New].key()
		}
		guessed := false
		for side := range at {
			if !ok[side] && sure[1-side] && !slices.ContainsFunc(p.entries[side], func(e entry) bool { return e.own && e.use == s.use }) {
				at[side], ok[side] = named[side][s.use]
				guessed = true
			}
		}
		if guessed && ok[0] && ok[1] && p.excluded(at[config.Old]) {
			continue // what is left out is not known the next time, when a folder more may have such a name: the other would come then
		}
		if !ok[0] || !ok[1] || at[0].key() == at[1].key() || at[0].inbox || at[1].inbox {
			continue
		}
		if slices.ContainsFunc(p.links, func(l link) bool { return l.rank == rankRename && l.at[0].key() == at[0].key() }) {
			continue
		}
		here := [2]*entry{p.find(config.Old, at[0]), p.find(config.New, at[1])}
		if slices.ContainsFunc(here[:], func(e *entry) bool { return e != nil && e.known != 0 }) {
			continue // what it is paired with is known
		}
		if wish == "" {
			other := [2]*entry{p.find(config.Old, at[1]), p.find(config.New, at[0])}
			for side, e := range other {
				if e != nil && e == here[side] {
					other[side] = nil // the letter case differs, which means nothing there
				}
			}
			if side := slices.IndexFunc(other[:], func(e *entry) bool { return e != nil && e.selectable && e.known == 0 }); side >= 0 {
				p.note("%s is %s on OLD and %s on NEW, but %s has a folder %s too, so folders go by their names. A rename rule or a rule for %s decides otherwise.",
					s.use, p.showPath(config.Old, at[0]), p.showPath(config.New, at[1]), sideName(config.Side(side)), other[side].shown, s.use)
				continue
			}
		}
		p.links = append(p.links, link{rank: rankUse, at: at, to: at})
	}
}

func (p *planner) showPath(side config.Side, at path) string {
	raw, _ := p.names[side].render(at)
	return p.names[side].shown(raw)
}

// find gives what a side lists at a path, or will have there when the renames of known folders are planned.
func (p *planner) find(side config.Side, at path) *entry {
	raw, _ := p.names[side].render(at)
	if p.byFinal[side] != nil {
		return p.byFinal[side][p.key(side, raw)]
	}
	return p.byKey[side][p.key(side, raw)]
}

// key tells a side's names apart, as that side does.
func (p *planner) key(side config.Side, raw string) string {
	at, ok := p.names[side].parse(raw)
	if !ok {
		return raw
	}
	return p.pathKey(side, at)
}

func (p *planner) pathKey(side config.Side, at path) string {
	if p.folds[side] {
		return at.foldedKey()
	}
	return at.key()
}

func (p *planner) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(p.plan.Notes, text) {
		p.plan.Notes = append(p.plan.Notes, text)
	}
}

func sideName(side config.Side) string { return strings.ToUpper(side.String()) }

// excluded tells whether the operator leaves out what lies at a path on OLD.
func (p *planner) excluded(at path) bool {
	n := p.names[config.Old]
	raw, _ := n.render(at)
	shown := n.shown(raw)
	bare, _ := cutPrefixFold(shown, n.prefix)
	return slices.ContainsFunc(p.rules.Exclude, func(pattern string) bool {
		return matchName(pattern, shown, n.separator) || matchName(pattern, bare, n.separator) || at.inbox && strings.EqualFold(pattern, inboxName)
	})
}

// matchName is the matching of LIST (RFC 9051, section 6.3.9): "*" stands for anything, "%" for anything without the separator.
func matchName(pattern, name string, separator byte) bool {
	// Two rows of the table "pattern up to i matches name up to j".
	row := make([]bool, len(name)+1)
	row[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(name)+1)
		c := pattern[i]
		wild := c == '*' || c == '%'
		next[0] = wild && row[0]
		for j := range len(name) {
			if wild {
				next[j+1] = row[j+1] || next[j] && (c == '*' || separator == 0 || name[j] != separator)
			} else {
				next[j+1] = row[j] && c == name[j]
			}
		}
		row = next
	}
	return row[len(name)]
}
