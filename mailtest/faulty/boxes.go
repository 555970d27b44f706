package faulty

import (
	"maps"
	"slices"
	"strings"
)

func (a *Account) boxNames() []string { return slices.Sorted(maps.Keys(a.boxes)) }
func (a *Account) subNames() []string { return slices.Sorted(maps.Keys(a.subs)) }

func said(why string) answer {
	if why == "" {
		return ok
	}
	return answer("NO " + why)
}

func (s *session) create(c *command) answer {
	if len(c.args) == 0 {
		return bad
	}
	special := ""
	if len(c.args) > 1 && len(c.args[1].list) > 1 && len(c.args[1].list[1].list) > 0 {
		if !s.has("CREATE-SPECIAL-USE") {
			return bad
		}
		special = c.args[1].list[1].list[0].s
	}
	name := c.args[0].s
	if p := s.a.product.Prefix; !strings.HasPrefix(name, p) || strings.Trim(name, s.a.product.Separator) != name {
		return "NO [CANNOT] not such a name"
	}
	if !s.a.create(inbox(name), special) {
		return "NO [ALREADYEXISTS] it is there"
	}
	s.a.notify()
	return ok
}

func (s *session) remove(c *command) answer {
	if len(c.args) != 1 {
		return bad
	}
	defer s.a.notify()
	return said(s.a.remove(inbox(c.args[0].s)))
}

func (s *session) rename(c *command) answer {
	if len(c.args) != 2 {
		return bad
	}
	if !strings.HasPrefix(c.args[1].s, s.a.product.Prefix) {
		return "NO [CANNOT] not such a name"
	}
	defer s.a.notify()
	return said(s.a.rename(inbox(c.args[0].s), c.args[1].s))
}

func (s *session) subscribe(c *command) answer {
	if len(c.args) != 1 {
		return bad
	}
	if name := inbox(c.args[0].s); c.name == "SUBSCRIBE" {
		s.a.subs[name] = true
	} else {
		delete(s.a.subs, name)
	}
	return ok
}

// open is SELECT and EXAMINE, with RFC 7162.
func (s *session) open(c *command) answer {
	s.box, s.view = nil, nil
	if len(c.args) == 0 {
		return bad
	}
	name := inbox(c.args[0].s)
	b := s.a.boxes[name]
	if b == nil {
		return "NO [NONEXISTENT] no such mailbox"
	}
	var resync []word
	if len(c.args) > 1 {
		for i, w := range c.args[1].list {
			switch strings.ToUpper(w.s) {
			case "CONDSTORE":
				s.condstore = true
			case "QRESYNC":
				if !s.qresync || i+1 >= len(c.args[1].list) {
					return bad
				}
				resync = c.args[1].list[i+1].list
			}
		}
	}
	for i, uid := range b.restless {
		if n, ok := b.find(uid); ok {
			m := *b.list[n]
			b.remove(n)
			b.restless[i] = s.a.add(b, m.Flags, m.Date, m.Body)
		}
	}
	s.box, s.name, s.validity, s.readOnly, s.seen = b, name, b.validity, c.name == "EXAMINE", b.highest
	for _, m := range b.list {
		s.view = append(s.view, m.UID)
	}
	flags := strings.Join(append([]string{`\Answered \Flagged \Deleted \Seen \Draft`}, b.keywords...), " ")
	permanent := flags
	if s.a.product.Keywords {
		permanent += ` \*`
	}
	s.printf("* FLAGS (%s)\r\n* OK [PERMANENTFLAGS (%s)] these\r\n* %d EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY %d] it\r\n* OK [UIDNEXT %d] next\r\n",
		flags, permanent, len(b.list), b.validity, b.next)
	if s.has("CONDSTORE") {
		s.printf("* OK [HIGHESTMODSEQ %d] highest\r\n", b.highest)
	}
	if s.a.product.MailboxID {
		s.printf("* OK [MAILBOXID (%s)] it\r\n", b.id)
	}
	if len(resync) >= 2 {
		validity, _ := number(resync[0].s, 0)
		since, _ := number(resync[1].s, 0)
		if validity == b.validity {
			s.vanished(uint64(since), nil)
			for i, m := range b.list {
				if m.ModSeq > uint64(since) {
					s.printf("* %d FETCH (UID %d FLAGS (%s) MODSEQ (%d))\r\n", i+1, m.UID, m.flags(), m.ModSeq)
				}
			}
		}
	}
	for _, m := range b.missed {
		s.a.add(b, m.Flags, m.Date, m.Body)
	}
	b.missed = nil
	if s.readOnly {
		return "OK [READ-ONLY] open"
	}
	return "OK [READ-WRITE] open"
}

// vanished tells of what is gone since a mod-sequence.
func (s *session) vanished(since uint64, of []span) {
	var uids []uint32
	for _, g := range s.box.gone {
		if g.modseq > since && (of == nil || within(of, g.uid)) {
			uids = append(uids, g.uid)
		}
	}
	slices.Sort(uids)
	if len(uids) > 0 {
		s.printf("* VANISHED (EARLIER) %s\r\n", format(uids))
	}
}

func (s *session) unselect(*command) answer {
	s.box, s.view = nil, nil
	return ok
}

// tell brings the client's view up to date, as servers do before a tagged answer.
func (s *session) tell() {
	b := s.box
	if b == nil || s.a.boxes[s.name] != b || b.validity != s.validity {
		return
	}
	for i := 0; i < len(s.view); {
		if _, there := b.find(s.view[i]); there {
			i++
			continue
		}
		if s.qresync {
			s.printf("* VANISHED %d\r\n", s.view[i])
		} else {
			s.printf("* %d EXPUNGE\r\n", i+1)
		}
		s.view = slices.Delete(s.view, i, i+1)
	}
	grown := false
	for i, m := range b.list {
		if i >= len(s.view) {
			s.view = append(s.view, m.UID)
			grown = true
		} else if m.ModSeq > s.seen {
			s.printf("* %d FETCH (UID %d FLAGS (%s))\r\n", i+1, m.UID, m.flags())
		}
	}
	if grown {
		s.printf("* %d EXISTS\r\n", len(s.view))
	}
	s.seen = b.highest
}
