package people

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// Oddity is where a side is not what it has to be by the rules (uid-stable.md, sections 4.3 and 4.4).
type Oddity struct {
	side config.Side
	kind string // "missing", "unexpected", "flags", "date", "folder"
	at   string // the folder's name on that side, as people read it
	uids []uint32
	text string

	elsewhere []place // where the other side has a message that is missing here
}

// place is a message on a side.
type place struct {
	at  string
	uid uint32
}

func (o Oddity) String() string {
	return strings.ReplaceAll(fmt.Sprintf("%s, %s: %s: %s", o.side, o.at, o.kind, o.text), "\x00", "/")
}

// sight is a message that was seen.
type sight struct {
	place
	item corpus.Item
}

// Look compares both sides with what has to be there, by a reader that shares no code with the gateway.
func (p *Person) Look() ([]Oddity, error) {
	var accounts [2]corpus.Account
	for side := range accounts {
		var err error
		if accounts[side], err = corpus.Snapshot(p.addr(config.Side(side)), lab.User(p.N), lab.Password(p.N)); err != nil {
			return nil, err
		}
	}
	var out []Oddity
	var seen [2]map[*Letter][]sight
	twins := [2]map[*Letter]sight{{}, {}}
	for side := range accounts {
		var list []Oddity
		seen[side], list = p.compare(config.Side(side), accounts[side], twins[side])
		out = append(out, list...)
	}
	out = append(out, p.twins(twins)...)
	for i, o := range out {
		if o.kind != "missing" {
			continue
		}
		for _, l := range p.Letters {
			if l.mark == o.text {
				for _, s := range seen[o.side.Other()][l] {
					out[i].elsewhere = append(out[i].elsewhere, s.place)
				}
			}
		}
	}
	p.seen = seen
	return out, nil
}

func readable(raw string) string {
	text, _ := imapwire.DecodeName(raw)
	return text
}

// twins takes in copies that have come of moves on the follower, when both sides have them: a copy there before the original went is mail
// that was delivered there.
func (p *Person) twins(found [2]map[*Letter]sight) (out []Oddity) {
	for side := range found {
		for l, s := range found[side] {
			other, both := found[1-side][l]
			switch {
			case !both:
				out = append(out, Oddity{side: config.Side(side), kind: "unexpected", at: s.at, uids: []uint32{s.uid}, text: l.mark + ", on this side only"})
			case side == int(p.Route) && s.item.Flags == other.item.Flags:
				twin := *l
				twin.path, twin.flags, twin.frozen = l.twinAt, map[string]bool{}, true
				twin.near, twin.far, twin.either = map[string]bool{}, map[string]bool{}, map[string]bool{}
				for _, f := range strings.Fields(s.item.Flags) {
					twin.flags[f] = true
				}
				l.frozen, l.twinAt, twin.twinAt = true, "", ""
				p.Letters = append(p.Letters, &twin)
				p.Note("twin", "%s in %s", l.mark, twin.path)
				out = append(out, Oddity{side: config.Side(side), kind: "unexpected", at: s.at, uids: []uint32{s.uid}, text: l.mark + ", which has come of a move: look again"})
			}
		}
	}
	return out
}

// compare looks at a side. Copies that may have come of moves on the follower go into twins.
func (p *Person) compare(side config.Side, a corpus.Account, twins map[*Letter]sight) (map[*Letter][]sight, []Oddity) {
	var out []Oddity
	byDigest := map[[sha256.Size]byte][]*Letter{} // those that are there first
	for _, list := range [][]*Letter{p.Letters, p.gone} {
		for _, l := range list {
			for _, d := range l.digests() {
				byDigest[d] = append(byDigest[d], l)
			}
		}
	}
	want := map[string]string{} // folders, from the raw name
	for _, b := range p.Boxes {
		want[p.Raw(side, b)] = b
	}
	seen := map[*Letter][]sight{}
	there := map[string]bool{}
	for _, f := range a.Folders {
		at, wanted := want[f.Raw]
		there[f.Raw] = true
		for item, s := range f.Messages {
			var l, here *Letter
			for i, x := range byDigest[item.Body] {
				if i == 0 {
					l = x
				}
				if wanted && (x.path == at || x.twinAt == at && len(s.UIDs) == 1) && slices.Contains(p.Letters, x) {
					here = x
				}
			}
			if here != nil {
				for _, uid := range s.UIDs {
					if x := (sight{place{readable(f.Raw), uid}, item}); here.path == at {
						seen[here] = append(seen[here], x)
					} else {
						twins[here] = x
					}
				}
				continue
			}
			text := fmt.Sprintf("%q, %d bytes, which nobody has written", s.Subject, item.Size)
			if l != nil {
				text = fmt.Sprintf("%s, which should be in %s", l.mark, l.path)
				if slices.Contains(p.gone, l) {
					text = l.mark + ", which was deleted from " + l.path
				}
			}
			out = append(out, Oddity{side: side, kind: "unexpected", at: readable(f.Raw), uids: s.UIDs, text: text})
		}
	}
	for _, raw := range slices.Sorted(maps.Keys(want)) {
		if !there[raw] {
			out = append(out, Oddity{side: side, kind: "folder", at: readable(raw), text: "it is not there"})
		}
	}
	for _, b := range p.dead {
		if raw := p.Raw(side, b); there[raw] && want[raw] == "" {
			out = append(out, Oddity{side: side, kind: "folder", at: readable(raw), text: "it was deleted, or has another name now"})
		}
	}
	for _, l := range p.Letters {
		out = append(out, p.letterOn(side, l, seen[l])...)
	}
	return seen, out
}

// letterOn looks at what a side has of a letter.
func (p *Person) letterOn(side config.Side, l *Letter, seen []sight) (out []Oddity) {
	at := readable(p.Raw(side, l.path))
	if len(seen) < l.copies {
		out = append(out, Oddity{side: side, kind: "missing", at: at, text: l.mark})
	}
	if len(seen) > l.copies {
		o := Oddity{side: side, kind: "unexpected", at: at, text: fmt.Sprintf("%s is there %d times, want %d", l.mark, len(seen), l.copies)}
		for _, s := range seen {
			o.uids = append(o.uids, s.uid)
		}
		out = append(out, o)
	}
	want := l.flagText(nil)
	for _, s := range seen {
		if got := l.flagText(strings.Fields(s.item.Flags)); got != want {
			out = append(out, Oddity{side: side, kind: "flags", at: at, uids: []uint32{s.uid}, text: fmt.Sprintf("%s has (%s), want (%s)", l.mark, got, want)})
		}
		if s.item.Date != l.date.Unix() {
			out = append(out, Oddity{side: side, kind: "date", at: at, uids: []uint32{s.uid}, text: l.mark})
		}
	}
	return out
}

// flagText is those flags that can end in one way only; nil means the letter's own. Hosts may spell keywords in another case.
func (l *Letter) flagText(have []string) string {
	if have == nil {
		for f := range l.flags {
			have = append(have, f)
		}
	}
	var list []string
	for _, f := range have {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(l.either)), func(e string) bool { return strings.EqualFold(e, f) }) {
			list = append(list, strings.ToLower(f))
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// Adopt takes over the flags that could end either way, as Look has seen them on both sides. It tells whether to look again: there were
// any, or the sides do not agree on one yet.
func (p *Person) Adopt() (again bool) {
	for _, l := range p.Letters {
		here, there := p.seen[p.Route][l], p.seen[p.Route.Other()][l]
		if len(l.either) == 0 || len(here) == 0 {
			continue
		}
		again = true
		if len(there) > 0 && slices.ContainsFunc(slices.Collect(maps.Keys(l.either)), func(f string) bool { return has(here[0], f) != has(there[0], f) }) {
			continue
		}
		for f := range l.either {
			if delete(l.flags, f); has(here[0], f) {
				l.flags[f] = true
			}
		}
		clear(l.either)
	}
	return again
}

// Undecided are the letters with flags that could end either way, and what Look has seen of each on both sides.
func (p *Person) Undecided() (list []string) {
	for _, l := range p.Letters {
		if len(l.either) == 0 {
			continue
		}
		text := fmt.Sprintf("%s in %s, %s:", l.mark, l.path, strings.Join(slices.Sorted(maps.Keys(l.either)), " "))
		for _, side := range config.Sides {
			for _, s := range p.seen[side][l] {
				text += fmt.Sprintf(" %s has UID %d (%s)", side, s.uid, s.item.Flags)
			}
		}
		list = append(list, text)
	}
	return list
}

// has tells whether a message that was seen has a flag. Hosts may spell keywords in another case.
func has(s sight, flag string) bool {
	return slices.ContainsFunc(strings.Fields(s.item.Flags), func(f string) bool { return strings.EqualFold(f, flag) })
}

// Unexplained are the oddities that a report does not account for: what is in quarantine, or is known to be accepted.
func Unexplained(list []Oddity, v *syncer.Verification) (out []Oddity) {
	type key struct {
		side config.Side
		at   string
		uid  uint32
		flag bool
	}
	explained := map[key]bool{}
	for _, f := range v.Folders {
		for _, d := range slices.Concat(f.Open, f.Explained) {
			for side, uid := range d.UID {
				if uid != 0 {
					explained[key{config.Side(side), f.Name[side], uid, d.Kind == "flags"}] = true
				}
			}
		}
	}
	for _, o := range list {
		var ok bool
		switch o.kind {
		case "missing": // the other side has it, and the report says why it is not here
			ok = len(o.elsewhere) > 0
			for _, s := range o.elsewhere {
				ok = ok && explained[key{o.side.Other(), s.at, s.uid, false}]
			}
		case "unexpected", "flags":
			n := 0
			for _, uid := range o.uids {
				if explained[key{o.side, o.at, uid, o.kind == "flags"}] {
					n++
				}
			}
			ok = n == len(o.uids) || o.kind == "unexpected" && n > 0 && strings.Contains(o.text, " times, want ") && n >= len(o.uids)-1
		}
		if !ok {
			out = append(out, o)
		}
	}
	return out
}
