package syncer

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"

	"mailgate/config"
)

// sieveNames puts one side's mailbox names in scripts into the other's, by a folder plan. Names in scripts are text (RFC 5228, section
// 2.1), as people read them, with the side's prefix and separator; on a host with utf7 they are as in IMAP, in modified UTF-7.
type sieveNames struct {
	planner *planner // whose plan is made
	utf7    [2]bool
	same    bool // the plan gives every name the same on both sides: nothing that cannot be seen can be wrong

	lines [2]map[string]*Folder // by the side's key
}

func newSieveNames(p *planner, utf7 [2]bool) *sieveNames {
	n := &sieveNames{planner: p, utf7: utf7}
	a, b := p.names[0], p.names[1]
	n.same = a.prefix == b.prefix && a.separator == b.separator && utf7[0] == utf7[1]
	for _, side := range config.Sides {
		n.lines[side] = map[string]*Folder{}
		for _, listed := range []bool{true, false} { // what it will be called counts more than what it is
			for i := range p.plan.Folders {
				f := &p.plan.Folders[i]
				name := f.Name[side]
				if listed {
					name = f.Listed[side]
				}
				if name != "" {
					n.lines[side][p.key(side, name)] = f
				}
			}
		}
	}
	for _, f := range p.plan.Folders {
		n.same = n.same && (f.Name[0] == "" || f.Name[1] == "" || f.Name[0] == f.Name[1])
	}
	for _, l := range p.links {
		n.same = n.same && l.to[0].key() == l.to[1].key()
	}
	return n
}

// SieveNote is something in a script that a person should look at.
type SieveNote struct {
	Line int    `json:"line"`
	Name string `json:"name"` // the mailbox, as it stands in the script
	Why  string `json:"why"`
}

func (n SieveNote) String() string {
	return fmt.Sprintf("line %d, %q: %s", n.Line, oneLine(n.Name, 100), n.Why)
}

// translate is a side's script as it should be on the other: mailbox names are the other's, and all else is as it was, byte for byte.
// The error means that the text is no script.
func (n *sieveNames) translate(from config.Side, script string) (out string, refs *sieveRefs, notes []SieveNote, err error) {
	refs, err = findSieve(script)
	if err != nil {
		return "", nil, nil, err
	}
	out = refs.with(func(i int, name string) string {
		to, why := name, ""
		if refs.variable(i) {
			if !n.same {
				why = "the name depends on variables, and is left as it is"
			}
		} else {
			to, why = n.name(from, name)
		}
		if why != "" {
			notes = append(notes, SieveNote{refs.tokens[i].line, name, why})
		}
		return to
	})
	return out, refs, notes, nil
}

// name is what a mailbox is called in scripts of the other side; why says what is doubtful about that, "" for nothing.
func (n *sieveNames) name(from config.Side, text string) (to, why string) {
	p, other := n.planner, from.Other()
	here, there := p.names[from], p.names[other]
	raw := text
	if !n.utf7[from] && !here.utf8 {
		if !utf8.ValidString(text) {
			return text, "the name is no UTF-8, and is left as it is"
		}
		raw = encodeUTF7(text)
	}
	at, ok := here.parse(raw)
	switch _, own := here.personal(raw); {
	case !ok || text == "":
		return text, "this is no folder's name, and is left as it is"
	case at.inbox:
		return text, ""
	case !own:
		return text, "the folder belongs to others, and the name is left as it is"
	}
	line := n.lines[from][p.key(from, raw)]
	switch {
	case line != nil && line.Action == ActionSkip && line.Selectable[from] && line.Name[other] == "":
		why = "the folder is not carried: " + strings.TrimSuffix(line.Why, ".")
	case line != nil && line.Action != ActionRefuse && line.Name[other] != "":
		return n.written(other, text, line.Name[other])
	}
	raw, trouble := there.render(p.mapped(from, at))
	if trouble != "" {
		return text, trouble + "; it is left as it is"
	}
	to, doubt := n.written(other, text, raw)
	return to, cmp.Or(doubt, why)
}

// written is a side's raw name as it stands in scripts there.
func (n *sieveNames) written(side config.Side, text, raw string) (to, why string) {
	at := n.planner.names[side]
	if n.utf7[side] || at.utf8 {
		return raw, ""
	}
	parts := []string{raw}
	if at.separator != 0 {
		parts = strings.Split(raw, string(at.separator))
	}
	for i, part := range parts {
		parts[i] = at.decode(part)
		if strings.ContainsFunc(parts[i], func(r rune) bool { return r >= rawByte }) {
			return text, "the folder's name is no text, and cannot stand in a script; it is left as it is"
		}
	}
	return strings.Join(parts, string(at.separator)), ""
}
