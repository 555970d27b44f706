package faulty

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// answer is a tagged status.
type answer string

const (
	ok     answer = "OK done"
	bad    answer = "BAD not like this"
	closed answer = "" // the connection ends
)

// execute does a command and writes its whole answer.
func (s *session) execute(c *command) error {
	var a answer
	switch {
	case c.name == "AUTHENTICATE" && !s.authed:
		a = s.authenticate(c)
	case c.name == "IDLE" && s.authed:
		return s.idle(c)
	default:
		s.a.mu.Lock()
		a = s.locked(c)
		if s.authed && a != closed && c.name != "UID FETCH" {
			s.tell()
		}
		s.a.mu.Unlock()
	}
	if a == closed {
		return errCut
	}
	s.printf("%s %s\r\n", c.tag, a)
	return nil
}

// locked does a command while the account is locked.
func (s *session) locked(c *command) answer {
	switch c.name {
	case "CAPABILITY":
		s.printf("* CAPABILITY %s\r\n", s.a.product.Capabilities)
		return ok
	case "NOOP":
		return ok
	case "LOGOUT":
		s.bye = true
		s.depart()
		s.printf("* BYE\r\n")
		return ok
	case "ID":
		s.printf("* ID (\"name\" \"%s\")\r\n", s.a.product.Name)
		return ok
	case "LOGIN":
		if len(c.args) != 2 || c.args[1].s != Password {
			return "NO [AUTHENTICATIONFAILED] wrong"
		}
		return s.in(ok)
	}
	if !s.authed {
		return "BAD log in first"
	}
	if s.box != nil && (s.a.boxes[s.name] != s.box || s.box.validity != s.validity) && c.name != "SELECT" && c.name != "EXAMINE" {
		s.printf("* BYE the mailbox is gone\r\n")
		_, _ = s.c.Write(s.out.Bytes())
		return closed
	}
	if f, there := map[string]func(*command) answer{
		"ENABLE": s.enable, "NAMESPACE": s.namespace, "LIST": s.list, "LSUB": s.list, "STATUS": s.status,
		"CREATE": s.create, "DELETE": s.remove, "RENAME": s.rename, "SUBSCRIBE": s.subscribe, "UNSUBSCRIBE": s.subscribe,
		"SELECT": s.open, "EXAMINE": s.open, "APPEND": s.append, "NOTIFY": s.notify,
	}[c.name]; there {
		return f(c)
	}
	if s.box == nil {
		return bad
	}
	if f, there := map[string]func(*command) answer{
		"UNSELECT": s.unselect, "UID FETCH": s.fetch, "UID STORE": s.store, "UID COPY": s.copy, "UID MOVE": s.copy,
		"EXPUNGE": s.expunge, "UID EXPUNGE": s.expunge, "UID SEARCH": s.search,
	}[c.name]; there {
		return f(c)
	}
	return "BAD unknown command"
}

func (s *session) authenticate(c *command) answer {
	if len(c.args) == 0 || !strings.EqualFold(c.args[0].s, "PLAIN") {
		return "NO [CANNOT] not this mechanism"
	}
	var text string
	if len(c.args) > 1 {
		text = c.args[1].s
	} else {
		if _, err := s.c.Write([]byte("+ \r\n")); err != nil {
			return closed
		}
		line, err := s.r.r.ReadString('\n')
		if err != nil {
			return closed
		}
		text = strings.TrimSpace(line)
	}
	plain, err := base64.StdEncoding.DecodeString(text)
	f := strings.Split(string(plain), "\x00")
	if err != nil || len(f) != 3 || f[2] != Password {
		return "NO [AUTHENTICATIONFAILED] wrong"
	}
	return s.in(answer("OK [CAPABILITY " + s.a.product.Capabilities + "] in"))
}

// in ends a login whose password was right.
func (s *session) in(yes answer) answer {
	leave, refusal := s.h.enter("login")
	if leave == nil {
		return answer(refusal)
	}
	s.authed, s.leave = true, append(s.leave, leave)
	return yes
}

func (s *session) enable(c *command) answer {
	if !s.has("ENABLE") {
		return bad
	}
	s.printf("* ENABLED")
	for _, w := range c.args {
		switch x := strings.ToUpper(w.s); x {
		case "QRESYNC", "CONDSTORE":
			if s.has(x) {
				s.condstore, s.qresync = true, s.qresync || x == "QRESYNC"
				s.printf(" %s", x)
			}
		}
	}
	s.printf("\r\n")
	return ok
}

func (s *session) namespace(*command) answer {
	if !s.has("NAMESPACE") {
		return bad
	}
	s.printf("* NAMESPACE ((\"%s\" \"%s\")) NIL NIL\r\n", s.a.product.Prefix, s.a.product.Separator)
	return ok
}

func quote(s string) string {
	return `"` + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), `"`, `\"`) + `"`
}

// list is LIST with what RFC 5258, 5819 and 6154 add, and LSUB.
func (s *session) list(c *command) answer {
	args := c.args
	subscribed := c.name == "LSUB"
	if len(args) > 0 && args[0].isList {
		for _, w := range args[0].list {
			subscribed = subscribed || strings.EqualFold(w.s, "SUBSCRIBED")
		}
		args = args[1:]
	}
	if len(args) < 2 {
		return bad
	}
	var items []word
	special := false
	if len(args) > 3 && strings.EqualFold(args[2].s, "RETURN") {
		for i, w := range args[3].list {
			special = special || strings.EqualFold(w.s, "SPECIAL-USE")
			if strings.EqualFold(w.s, "STATUS") && i+1 < len(args[3].list) {
				items = args[3].list[i+1].list
			}
		}
	}
	sep := quote(s.a.product.Separator)
	pattern := args[0].s + args[1].s
	if pattern == "" {
		s.printf("* LIST (\\Noselect) %s \"\"\r\n", sep)
		return ok
	}
	names := s.a.boxNames()
	if subscribed {
		names = s.a.subNames()
	}
	for _, name := range names {
		if !match(pattern, name, s.a.product.Separator) || s.leftOut() {
			continue
		}
		attributes := `\HasNoChildren`
		for _, other := range names {
			if strings.HasPrefix(other, name+s.a.product.Separator) {
				attributes = `\HasChildren`
			}
		}
		b := s.a.boxes[name]
		if b != nil && b.unlisted > 0 && !subscribed {
			b.unlisted--
			continue
		}
		if subscribed {
			attributes = `\Subscribed`
			if b == nil {
				attributes += ` \NonExistent`
			}
			if c.name == "LSUB" {
				attributes = ""
			}
		}
		if special && b != nil && b.special != "" {
			attributes += " " + b.special
		}
		s.printf("* %s (%s) %s %s\r\n", c.name, attributes, sep, quote(name))
		if items != nil && b != nil {
			s.statusLine(name, b, items)
		}
	}
	return s.listed()
}

// listed is the end of a listing.
func (s *session) listed() answer {
	if s.fault.kind == Half && !s.fault.lies {
		return "NO [SERVERBUG] that was not all"
	}
	return ok
}

func (s *session) statusLine(name string, b *mailbox, items []word) {
	var out []string
	for _, w := range items {
		n := uint64(0)
		switch item := strings.ToUpper(w.s); item {
		case "MESSAGES":
			n = uint64(len(b.list))
		case "UIDNEXT":
			n = uint64(b.next)
		case "UIDVALIDITY":
			n = uint64(b.validity)
		case "UNSEEN":
			for _, m := range b.list {
				if !slices.Contains(m.Flags, `\Seen`) {
					n++
				}
			}
		case "HIGHESTMODSEQ":
			n = b.highest
		case "MAILBOXID":
			out = append(out, fmt.Sprintf("MAILBOXID (%s)", b.id))
			continue
		}
		out = append(out, fmt.Sprintf("%s %d", strings.ToUpper(w.s), n))
	}
	s.printf("* STATUS %s (%s)\r\n", quote(name), strings.Join(out, " "))
}

func (s *session) status(c *command) answer {
	if len(c.args) != 2 {
		return bad
	}
	name := inbox(c.args[0].s)
	b := s.a.boxes[name]
	if b == nil {
		return "NO [NONEXISTENT] no such mailbox"
	}
	s.statusLine(name, b, c.args[1].list)
	return ok
}

func inbox(name string) string {
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	return name
}

// match is LIST's.
func match(pattern, name, sep string) bool {
	if pattern == "" {
		return name == ""
	}
	switch pattern[0] {
	case '*', '%':
		for i := 0; i <= len(name); i++ {
			if match(pattern[1:], name[i:], sep) {
				return true
			}
			if pattern[0] == '%' && strings.HasPrefix(name[i:], sep) {
				return false
			}
		}
		return false
	}
	return name != "" && name[0] == pattern[0] && match(pattern[1:], name[1:], sep)
}
