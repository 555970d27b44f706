package syncer

import (
	"slices"
	"strings"
)

// sieveRefs are what a script says that matters to others: where it names mailboxes, and which extensions it needs.
type sieveRefs struct {
	tokens    []sieveToken
	mailboxes []int    // tokens that are a mailbox's name, ascending
	requires  []string // in lower case, in the script's order, without ihave's
	expands   bool     // "${" in a string may mean something else than itself (RFC 5229, RFC 5228 section 2.4.2.4)
}

// findSieve reads a script.
func findSieve(script string) (*sieveRefs, error) {
	tokens, err := lexSieve(script)
	if err != nil {
		return nil, err
	}
	r := &sieveRefs{tokens: tokens}
	for i := 0; i < len(tokens); i++ {
		if tokens[i].kind != sieveWord {
			continue
		}
		args := r.arguments(i + 1)
		r.expand(tokens[i].text, args)
		r.named(tokens[i].text, args)
	}
	slices.Sort(r.mailboxes)
	r.mailboxes = slices.Compact(r.mailboxes)
	return r, nil
}

// sieveArgument is an argument of a command or test: a tag, a number, or the strings of a list; a string alone is a list of one.
type sieveArgument struct {
	kind sieveKind
	tag  string
	list []int // tokens
}

// arguments reads those from a token on, up to what ends them: a semicolon, a block, a test, the end of a list of tests.
func (r *sieveRefs) arguments(at int) (out []sieveArgument) {
	for inList := false; at < len(r.tokens); at++ {
		t := r.tokens[at]
		switch {
		case t.kind == sieveSpace || inList && t.text == ",":
		case t.kind == sieveString && inList:
			last := &out[len(out)-1]
			last.list = append(last.list, at)
		case t.kind == sieveString:
			out = append(out, sieveArgument{kind: sieveString, list: []int{at}})
		case t.kind == sieveTag:
			out = append(out, sieveArgument{kind: sieveTag, tag: t.text})
		case t.kind == sieveNumber:
			out = append(out, sieveArgument{kind: sieveNumber})
		case t.text == "[" && !inList:
			inList = true
			out = append(out, sieveArgument{kind: sieveString})
		case t.text == "]" && inList:
			inList = false
		default:
			return out
		}
	}
	return out
}

// expand notes what a script requires, and what ihave says of it (RFC 5463).
func (r *sieveRefs) expand(word string, args []sieveArgument) {
	if word != "require" && word != "ihave" {
		return
	}
	for _, a := range args {
		for _, i := range a.list {
			name := strings.ToLower(r.tokens[i].text)
			r.expands = r.expands || name == "variables" || name == "encoded-character"
			if word == "require" {
				r.requires = append(r.requires, name)
			}
		}
	}
}

// named notes the mailboxes among the arguments of a command or test. Where they stand is counted from the end: what stands before
// are tags and their values, of whatever extension.
func (r *sieveRefs) named(word string, args []sieveArgument) {
	for i, a := range args {
		// :fcc of vacation, notify and others (RFC 8580); :mailbox of Cyrus' snooze.
		if a.kind == sieveTag && (a.tag == ":fcc" || a.tag == ":mailbox" && word == "snooze") && i+1 < len(args) {
			r.mailboxes = append(r.mailboxes, args[i+1].list...)
		}
	}
	fromEnd := 0
	switch word {
	case "fileinto", "mailboxexists": // RFC 5228, section 4.1; RFC 5490, section 3.1
		fromEnd = 1
	case "metadataexists": // mailbox, annotations (RFC 5490, section 3.3)
		fromEnd = 2
	case "metadata": // mailbox, annotation, keys (RFC 5490, section 3.2)
		fromEnd = 3
	case "specialuse_exists": // [mailbox], flags (RFC 8579, section 3): without the mailbox nothing but tags stands before
		fromEnd = 2
	default:
		return
	}
	if len(args) < fromEnd {
		return
	}
	r.mailboxes = append(r.mailboxes, args[len(args)-fromEnd].list...)
}

// variable tells whether a string may stand for something else than what is written: no name can be seen in it then.
func (r *sieveRefs) variable(i int) bool {
	return r.expands && strings.Contains(r.tokens[i].text, "${")
}

// with is the script with other mailboxes' names; all else stays byte for byte. A name that rename gives back as it is, too.
func (r *sieveRefs) with(rename func(i int, name string) string) string {
	var b strings.Builder
	at := 0
	for _, i := range r.mailboxes {
		for ; at < i; at++ {
			b.WriteString(r.tokens[at].raw)
		}
		t := r.tokens[i]
		if to := rename(i, t.text); to != t.text {
			b.WriteString(quoteSieve(to))
		} else {
			b.WriteString(t.raw)
		}
		at = i + 1
	}
	for ; at < len(r.tokens); at++ {
		b.WriteString(r.tokens[at].raw)
	}
	return b.String()
}
