package syncer

import (
	"cmp"
	"slices"
	"strings"

	"mailgate/config"
)

// likeness is a stored mailbox whose name is gone and a new name on the same side.
type likeness struct {
	s     *seen
	e     *entry
	score int
}

// findRenames looks for the new names of stored mailboxes that are gone on a side: equal MAILBOXID (RFC 8474) is proof; else
// equal UIDVALIDITY, a UIDNEXT that did not fall and about as many messages. Since UIDVALIDITY is no more than a second of
// time on some servers, what could be two folders is not taken for either. Where renames give new UIDs only the number of
// messages is left: such a folder is offered, to be compared message by message.
func (p *planner) findRenames(side config.Side, list []*seen) {
	var gone []*seen
	for _, s := range list {
		if s.at[side] == nil && s.box.Name[side] != "" {
			gone = append(gone, s)
		}
	}
	var fresh []*entry
	for i := range p.entries[side] {
		if e := &p.entries[side][i]; e.own && e.selectable && e.known == 0 && e.status != nil && !e.path.inbox {
			fresh = append(fresh, e)
		}
	}
	if len(gone) == 0 || len(fresh) == 0 {
		return
	}
	var all, maybe []likeness
	for _, s := range gone {
		id, cursor, leaf := s.box.MailboxID[side], s.box.Cursor[side], p.leaf(side, s.box.Name[side])
		for _, e := range fresh {
			st := e.status
			score := 0
			if leaf == e.path.parts[len(e.path.parts)-1] {
				score += 4
			}
			if st.UIDNext == cursor.UIDNext {
				score += 2
			}
			if st.Messages == cursor.Messages {
				score++
			}
			switch {
			case p.proved[side][e.raw] != 0:
				if p.proved[side][e.raw] == s.box.ID {
					all = append(all, likeness{s, e, 200})
				}
				continue
			case id != "" && st.MailboxID != "":
				if id == st.MailboxID {
					all = append(all, likeness{s, e, 100})
				}
				continue
			case s.box.Validity[side] != 0 && s.box.Validity[side] == st.Validity && st.UIDNext >= cursor.UIDNext && plausible(s.box, side, st.Messages):
				all = append(all, likeness{s, e, score})
			case st.Messages > 0 && st.Messages == cursor.Messages:
				maybe = append(maybe, likeness{s, e, score})
			}
		}
	}
	match(all, func(l likeness) bool { return l.s.at[side] != nil || l.e.known != 0 }, func(l likeness) {
		l.s.at[side], l.s.moved[side], l.e.known = l.e, true, l.s.box.ID
	})
	p.followParents(side, gone, fresh)
	offered, taken := map[*seen]bool{}, map[*entry]bool{}
	match(maybe, func(l likeness) bool { return l.s.at[side] != nil || l.e.known != 0 || taken[l.e] || offered[l.s] }, func(l likeness) {
		p.offers = append(p.offers, offer{side, l.s, l.e})
		taken[l.e], offered[l.s] = true, true
	})
}

// followParents finds those that went with a folder above them, however much was deleted in them since: name and UIDVALIDITY say so.
func (p *planner) followParents(side config.Side, gone []*seen, fresh []*entry) {
	sep := string(p.names[side].separator)
	for _, parent := range gone {
		if !parent.moved[side] || p.names[side].separator == 0 {
			continue
		}
		for _, s := range gone {
			rest, below := strings.CutPrefix(s.box.Name[side], parent.box.Name[side]+sep)
			if !below || s.at[side] != nil {
				continue
			}
			for _, e := range fresh {
				if e.known == 0 && e.raw == parent.at[side].raw+sep+rest && e.status.Validity == s.box.Validity[side] {
					s.at[side], s.moved[side], e.known = e, true, s.box.ID
				}
			}
		}
	}
}

// plausible tells whether a folder with so many messages may be what the stored one has become: less than half of them
// deleted since.
func plausible(box Mailbox, side config.Side, messages uint32) bool {
	was := max(int64(box.Cursor[side].Messages), box.Pairs)
	return int64(messages)*2 >= was
}

func (p *planner) leaf(side config.Side, raw string) string {
	at, ok := p.names[side].parse(raw)
	if !ok || at.inbox {
		return ""
	}
	return at.parts[len(at.parts)-1]
}

// match takes the best first, and neither of those that have a rival as good as they are.
func match(all []likeness, used func(likeness) bool, take func(likeness)) {
	slices.SortStableFunc(all, func(a, b likeness) int { return cmp.Compare(b.score, a.score) })
	tiedBox, tiedEntry := map[*seen]bool{}, map[*entry]bool{}
	for i := 0; i < len(all); {
		end := i
		for end < len(all) && all[end].score == all[i].score {
			end++
		}
		var group []likeness
		for _, l := range all[i:end] {
			if !used(l) && !tiedBox[l.s] && !tiedEntry[l.e] {
				group = append(group, l)
			}
		}
		for _, l := range group {
			n := 0
			for _, other := range group {
				if other.s == l.s || other.e == l.e {
					n++
				}
			}
			if n == 1 {
				take(l)
			} else {
				tiedBox[l.s], tiedEntry[l.e] = true, true
			}
		}
		i = end
	}
}
