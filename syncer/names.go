package syncer

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"

	"mailgate/backend"
)

// path is a folder's name without anything that belongs to a server: the components below the root of the personal
// namespace, as text. INBOX itself is the path with inbox set.
//
// "INBOX.Work" of a server with the prefix "INBOX." and "Work" of one without are both [Work]. "INBOX/Work" of the latter is
// [INBOX Work], which the former holds as "INBOX.INBOX.Work": no two folders become one, and no prefix is doubled or lost.
type path struct {
	inbox bool
	parts []string
}

const inboxName = "INBOX"

// key tells paths apart. Components are UTF-8, whatever servers give, so that no component holds what stands between them.
func (p path) key() string {
	if p.inbox {
		return inboxName
	}
	return "\xFF" + strings.Join(p.parts, "\xFF")
}

// foldedKey tells paths apart but for letter case.
func (p path) foldedKey() string {
	lower := path{inbox: p.inbox, parts: make([]string, len(p.parts))}
	for i, part := range p.parts {
		lower.parts[i] = strings.ToLower(part)
	}
	return lower.key()
}

// under tells whether p is q or below it, and gives the rest.
func (p path) under(q path) (rest []string, ok bool) {
	if p.inbox || q.inbox || len(p.parts) < len(q.parts) {
		return nil, p.inbox && q.inbox
	}
	for i, part := range q.parts {
		if p.parts[i] != part {
			return nil, false
		}
	}
	return p.parts[len(q.parts):], true
}

func (p path) join(rest []string) path {
	return path{parts: append(p.parts[:len(p.parts):len(p.parts)], rest...)}
}

// naming reads and writes the names of one side.
type naming struct {
	prefix    string // of the personal namespace, with its separator at the end
	separator byte   // 0 where folders cannot hold folders
	spaces    []backend.Namespace
	foreign   int // spaces from here on belong to others
	escaper   escaper
	utf8      bool
	max       int
}

func newNaming(s SideFolders) *naming {
	n := &naming{utf8: s.UTF8}
	n.spaces = append(n.spaces, s.Namespaces.Personal...)
	if len(n.spaces) == 0 {
		own := backend.Namespace{}
		for _, e := range s.Folders {
			own.Separator = cmp.Or(own.Separator, e.Separator)
		}
		n.spaces = append(n.spaces, own)
	}
	n.foreign = len(n.spaces)
	n.prefix, n.separator = n.spaces[0].Prefix, n.spaces[0].Separator
	n.spaces = append(append(n.spaces, s.Namespaces.Other...), s.Namespaces.Shared...)
	bad, first := "", ""
	switch {
	case s.Profile != nil:
		bad, first, n.max = s.Profile.BadNames, s.Profile.BadFirst, s.Profile.MaxName
		if n.max >= probedName { // no limit was found
			n.max = 0
		}
	case n.separator == '.':
		bad = "/" // servers that separate by a dot keep folders in a file system and refuse it
	}
	n.escaper = newEscaper(n.separator, bad, first)
	return n
}

// personal tells whether a name is of the user's own folders, and of which namespace.
func (n *naming) personal(raw string) (backend.Namespace, bool) {
	if strings.EqualFold(raw, inboxName) {
		return n.spaces[0], true
	}
	best, at := -1, 0
	for i, ns := range n.spaces {
		if hasPrefixName(raw, ns) && len(ns.Prefix) > best {
			best, at = len(ns.Prefix), i
		}
	}
	return n.spaces[at], at < n.foreign // a name that no namespace has is taken for the user's
}

// hasPrefixName tells whether raw is within a namespace, or its root.
func hasPrefixName(raw string, ns backend.Namespace) bool {
	root := ns.Prefix
	if ns.Separator != 0 {
		root = strings.TrimSuffix(root, string(ns.Separator))
	}
	_, ok := cutPrefixFold(raw, ns.Prefix)
	return ok || root != "" && raw == root
}

// cutPrefixFold cuts a namespace's prefix off; INBOX in it is INBOX in any letter case.
func cutPrefixFold(raw, prefix string) (string, bool) {
	if len(raw) >= len(prefix) && len(prefix) > len(inboxName) && strings.EqualFold(raw[:len(inboxName)], inboxName) &&
		strings.EqualFold(prefix[:len(inboxName)], inboxName) && raw[len(inboxName):len(prefix)] == prefix[len(inboxName):] {
		return raw[len(prefix):], true
	}
	return strings.CutPrefix(raw, prefix)
}

// parse reads a raw name. ok is false for the root of the namespace.
func (n *naming) parse(raw string) (path, bool) {
	if strings.EqualFold(raw, inboxName) {
		return path{inbox: true}, true
	}
	rest, below := cutPrefixFold(raw, n.prefix)
	if n.separator == 0 {
		return path{parts: []string{n.escaper.unescape(n.decode(rest))}}, rest != ""
	}
	if !below && raw == strings.TrimSuffix(n.prefix, string(n.separator)) || rest == "" {
		return path{}, false
	}
	parts := strings.Split(rest, string(n.separator))
	for i, part := range parts {
		if i == 0 && len(parts) > 1 && n.prefix == "" && strings.EqualFold(part, inboxName) {
			parts[i] = inboxName
			continue
		}
		parts[i] = n.escaper.unescape(n.decode(part))
	}
	return path{parts: parts}, true
}

// decode reads a component as people do: modified UTF-7, else what stands there, such as "R&D", else bytes without meaning.
// It is written again as proper modified UTF-7 ("R&-D"), which all servers take and all clients show alike.
func (n *naming) decode(part string) string {
	if !n.utf8 {
		if text, ok := decodeUTF7(part); ok {
			return text
		}
	}
	if utf8.ValidString(part) {
		return part
	}
	var b strings.Builder
	for i := 0; i < len(part); {
		r, size := utf8.DecodeRuneInString(part[i:])
		if r == utf8.RuneError && size == 1 {
			r = rawByte + rune(part[i])
		}
		b.WriteRune(r)
		i += size
	}
	return b.String()
}

// render writes the raw name of a path; trouble says why this side cannot hold it, "" when it can.
func (n *naming) render(p path) (raw, trouble string) {
	if p.inbox {
		return inboxName, ""
	}
	parts := make([]string, len(p.parts))
	for i, part := range p.parts {
		parts[i] = n.escaper.escape(part)
		if !n.utf8 {
			parts[i] = encodeUTF7(parts[i])
		}
	}
	if n.prefix == "" && strings.EqualFold(parts[0], inboxName) {
		if len(parts) == 1 {
			return inboxName, "it would be the INBOX itself"
		}
		parts[0] = inboxName
	}
	if n.separator == 0 && len(parts) > 1 {
		return n.prefix + strings.Join(parts, "/"), "folders cannot hold folders there"
	}
	raw = n.prefix + strings.Join(parts, string(n.separator))
	switch _, own := n.personal(raw); {
	case !own:
		trouble = "the name would lie among folders of others"
	case n.max > 0 && len(raw) > n.max:
		trouble = fmt.Sprintf("the name has %d bytes and the server takes %d", len(raw), n.max)
	}
	return raw, trouble
}

// shown is a raw name as people read it.
func (n *naming) shown(raw string) string {
	if raw == "" {
		return ""
	}
	if n.separator == 0 {
		return readable(n.decode(raw))
	}
	parts := strings.Split(raw, string(n.separator))
	for i, part := range parts {
		parts[i] = readable(n.decode(part))
	}
	return strings.Join(parts, string(n.separator))
}

// readable replaces what would disturb a terminal or a page.
func readable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7F && r < 0xA0 || r >= rawByte || r == 0x2028 || r == 0x2029 || r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069 {
			return utf8.RuneError
		}
		return r
	}, text)
}

// written reads a name that an operator wrote: text with the side's separator, with or without its prefix.
func (n *naming) written(name string) path {
	if strings.EqualFold(name, inboxName) {
		return path{inbox: true}
	}
	rest, _ := cutPrefixFold(name, n.prefix)
	if n.separator == 0 || rest == "" {
		return path{parts: []string{rest}}
	}
	parts := strings.Split(rest, string(n.separator))
	if len(parts) > 1 && n.prefix == "" && strings.EqualFold(parts[0], inboxName) {
		parts[0] = inboxName
	}
	for i := range parts {
		parts[i] = n.escaper.unescape(parts[i])
	}
	return path{parts: parts}
}
