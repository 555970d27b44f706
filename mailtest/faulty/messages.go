package faulty

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dateTime is INTERNALDATE's form (RFC 9051, section 9, date-time).
const dateTime = "_2-Jan-2006 15:04:05 -0700"

// append is APPEND, and MULTIAPPEND (RFC 3502).
func (s *session) append(c *command) answer {
	if len(c.args) < 2 {
		return bad
	}
	b := s.a.boxes[inbox(c.args[0].s)]
	if b == nil {
		return "NO [TRYCREATE] no such mailbox"
	}
	type one struct {
		flags []string
		date  time.Time
		body  []byte
	}
	var list []one
	for rest := c.args[1:]; len(rest) > 0; {
		x := one{date: time.Now()}
		if rest[0].isList {
			for _, w := range rest[0].list {
				x.flags = append(x.flags, w.s)
			}
			rest = rest[1:]
		}
		if len(rest) > 1 && !rest[1].isList {
			d, err := time.Parse(dateTime, rest[0].s)
			if err != nil {
				return "BAD no date"
			}
			x.date, rest = d, rest[1:]
		}
		if len(rest) == 0 || !rest[0].literal {
			return bad
		}
		x.body, rest = []byte(rest[0].s), rest[1:]
		if s.a.limit > 0 && len(x.body) > s.a.limit {
			return "NO [TOOBIG] message too large"
		}
		list = append(list, x)
	}
	if len(list) > 1 && !s.has("MULTIAPPEND") {
		return bad
	}
	var uids []uint32
	for _, x := range list[:s.some(len(list))] {
		uids = append(uids, s.a.add(b, x.flags, x.date, x.body))
	}
	s.a.notify()
	switch {
	case s.fault.kind == Some:
		return "NO [SERVERBUG] something went wrong"
	case s.has("UIDPLUS"):
		return answer(fmt.Sprintf("OK [APPENDUID %d %s] stored", b.validity, format(uids)))
	}
	return ok
}

// star is the highest UID.
func (s *session) star() uint32 {
	if n := len(s.box.list); n > 0 {
		return s.box.list[n-1].UID
	}
	return 0
}

// chosen are the messages of a set that the client may know of.
func (s *session) chosen(text string) (out []*Message, ok bool) {
	of, ok := set(text, s.star())
	for _, m := range s.box.list {
		if within(of, m.UID) {
			out = append(out, m)
		}
	}
	return out, ok
}

func (s *session) fetch(c *command) answer {
	if len(c.args) < 2 {
		return bad
	}
	items := c.args[1].list
	if !c.args[1].isList {
		items = []word{c.args[1]}
	}
	since := uint64(0)
	if len(c.args) > 2 {
		for i, w := range c.args[2].list {
			switch strings.ToUpper(w.s) {
			case "CHANGEDSINCE":
				if !s.has("CONDSTORE") || i+1 >= len(c.args[2].list) {
					return bad
				}
				n, err := strconv.ParseUint(c.args[2].list[i+1].s, 10, 64)
				if err != nil {
					return bad
				}
				since = n
				s.condstore = true
			case "VANISHED":
				if !s.qresync {
					return bad
				}
				of, _ := set(c.args[0].s, max(s.star(), s.box.next-1))
				s.vanished(since, of)
			}
		}
	}
	s.tell() // so that sequence numbers are right
	list, valid := s.chosen(c.args[0].s)
	if !valid {
		return bad
	}
	for _, m := range list {
		if m.ModSeq <= since && since > 0 || s.leftOut() {
			continue
		}
		if !s.fetchOne(m, items, since > 0) {
			return bad
		}
	}
	return s.listed()
}

func (s *session) fetchOne(m *Message, items []word, modseq bool) bool {
	seq, _ := slices.BinarySearch(s.view, m.UID)
	s.printf("* %d FETCH (UID %d", seq+1, m.UID)
	for _, w := range items {
		item := strings.ToUpper(w.s)
		switch {
		case item == "UID":
		case item == "FLAGS":
			s.printf(" FLAGS (%s)", m.flags())
		case item == "INTERNALDATE":
			s.printf(" INTERNALDATE \"%s\"", m.Date.Format(dateTime))
		case item == "RFC822.SIZE":
			s.printf(" RFC822.SIZE %d", len(m.Body))
		case item == "MODSEQ" && s.has("CONDSTORE"):
			modseq = true
		case strings.HasPrefix(item, "BODY.PEEK["):
			body := m.Body
			if m.hidden > 0 {
				m.hidden--
				body = []byte(Unavailable)
			}
			name, part, ok := section(body, w.s[len("BODY.PEEK"):])
			if !ok {
				return false
			}
			s.printf(" BODY%s {%d}\r\n%s", name, len(part), part)
		default:
			return false
		}
	}
	if modseq {
		s.printf(" MODSEQ (%d)", m.ModSeq)
	}
	s.printf(")\r\n")
	return true
}

// section cuts what "[HEADER.FIELDS (X)]<0.100>" names out of a body; name is how it is called in the answer.
func section(body []byte, spec string) (name string, part []byte, ok bool) {
	inner, partial, ok := strings.Cut(strings.TrimPrefix(spec, "["), "]")
	if !ok {
		return "", nil, false
	}
	header, text := body, []byte(nil)
	if bytes.HasPrefix(body, []byte("\r\n")) {
		header, text = body[:2], body[2:]
	} else if i := bytes.Index(body, []byte("\r\n\r\n")); i >= 0 {
		header, text = body[:i+4], body[i+4:]
	}
	name = "[" + inner + "]"
	switch kind, fields, _ := strings.Cut(strings.ToUpper(inner), " "); kind {
	case "":
		part = body
	case "HEADER":
		part = header
	case "TEXT":
		part = text
	case "HEADER.FIELDS":
		want := strings.Fields(strings.Trim(fields, "()"))
		take := false
		for line := range bytes.SplitAfterSeq(header, []byte("\r\n")) {
			if len(line) > 0 && line[0] != ' ' && line[0] != '\t' {
				field, _, colon := bytes.Cut(line, []byte(":"))
				take = colon && slices.Contains(want, strings.ToUpper(strings.TrimSpace(string(field))))
			}
			if take {
				part = append(part, line...)
			}
		}
		part = append(part, "\r\n"...)
	default:
		return "", nil, false
	}
	if partial != "" {
		a, b, _ := strings.Cut(strings.Trim(partial, "<>"), ".")
		from, err1 := strconv.Atoi(a)
		n, err2 := strconv.Atoi(b)
		if err1 != nil || err2 != nil {
			return "", nil, false
		}
		from = min(from, len(part))
		part = part[from:min(from+n, len(part))]
		name += "<" + a + ">"
	}
	return name, part, true
}

func (s *session) store(c *command) answer {
	args := c.args
	if len(args) > 1 && args[1].isList { // UNCHANGEDSINCE
		if !s.has("CONDSTORE") || len(args[1].list) != 2 {
			return bad
		}
	}
	until := uint64(1) << 62
	if len(args) > 1 && args[1].isList {
		n, err := strconv.ParseUint(args[1].list[1].s, 10, 63)
		if err != nil {
			return bad
		}
		until = n
		args = slices.Delete(slices.Clone(args), 1, 2)
	}
	if len(args) < 3 {
		return bad
	}
	if s.readOnly {
		return "NO [READ-ONLY] opened by EXAMINE"
	}
	list, valid := s.chosen(args[0].s)
	item, silent := strings.CutSuffix(strings.ToUpper(args[1].s), ".SILENT")
	var flags []string
	for _, w := range args[2:] {
		if w.isList {
			for _, x := range w.list {
				flags = append(flags, x.s)
			}
		} else {
			flags = append(flags, w.s)
		}
	}
	var modified []uint32
	for _, m := range list[:s.some(len(list))] {
		if m.ModSeq > until {
			modified = append(modified, m.UID)
			continue
		}
		var now []string
		switch item {
		case "+FLAGS":
			now = s.a.with(m.Flags, flags, nil)
		case "-FLAGS":
			now = s.a.with(m.Flags, nil, flags)
		case "FLAGS":
			now = s.a.keepable(flags)
		default:
			valid = false
		}
		if valid {
			s.box.change(m, now)
		}
	}
	switch {
	case !valid:
		return bad
	case s.fault.kind == Some:
		return "NO [SERVERBUG] something went wrong"
	case silent && !s.condstore:
		s.seen = s.box.highest
	}
	s.a.notify()
	if modified != nil {
		return answer(fmt.Sprintf("OK [MODIFIED %s] not all", format(modified)))
	}
	return ok
}

// copy is UID COPY and UID MOVE.
func (s *session) copy(c *command) answer {
	move := c.name == "UID MOVE"
	if len(c.args) != 2 || move && !s.has("MOVE") {
		return bad
	}
	if move && s.readOnly {
		return "NO [READ-ONLY] opened by EXAMINE"
	}
	t := s.a.boxes[inbox(c.args[1].s)]
	if t == nil {
		return "NO [TRYCREATE] no such mailbox"
	}
	list, valid := s.chosen(c.args[0].s)
	if !valid {
		return bad
	}
	var from, to []uint32
	for _, m := range list[:s.some(len(list))] {
		from = append(from, m.UID)
		to = append(to, s.a.add(t, m.Flags, m.Date, m.Body))
	}
	code := ""
	if s.has("UIDPLUS") && len(from) > 0 {
		code = fmt.Sprintf("[COPYUID %d %s %s] ", t.validity, format(from), format(to))
	}
	if move {
		for _, uid := range from {
			if i, there := s.box.find(uid); there {
				s.box.remove(i)
			}
		}
	}
	s.a.notify()
	switch {
	case s.fault.kind == Some:
		return "NO [SERVERBUG] something went wrong"
	case move && code != "":
		s.printf("* OK %smoved\r\n", code)
		code = ""
	}
	return answer("OK " + code + "done")
}

func (s *session) expunge(c *command) answer {
	of := []span{{1, 1<<32 - 1}}
	if c.name == "UID EXPUNGE" {
		valid := false
		if len(c.args) == 1 {
			of, valid = set(c.args[0].s, s.star())
		}
		if !valid || !s.has("UIDPLUS") {
			return bad
		}
	}
	if s.readOnly {
		return "NO [READ-ONLY] opened by EXAMINE"
	}
	var uids []uint32
	for _, m := range s.box.list {
		if slices.Contains(m.Flags, `\Deleted`) && within(of, m.UID) {
			uids = append(uids, m.UID)
		}
	}
	for _, uid := range uids[:s.some(len(uids))] {
		if i, there := s.box.find(uid); there {
			s.box.remove(i)
		}
	}
	s.a.notify()
	if s.fault.kind == Some {
		return "NO [SERVERBUG] something went wrong"
	}
	return ok
}

// search knows ALL, DELETED and UID.
func (s *session) search(c *command) answer {
	list := slices.Clone(s.box.list)
	args := c.args
	extended := len(args) > 1 && strings.EqualFold(args[0].s, "RETURN")
	if extended {
		args = args[2:]
	}
	for i := 0; i < len(args); i++ {
		keep := func(*Message) bool { return true }
		switch strings.ToUpper(args[i].s) {
		case "ALL":
		case "DELETED":
			keep = func(m *Message) bool { return slices.Contains(m.Flags, `\Deleted`) }
		case "UID":
			if i++; i == len(args) {
				return bad
			}
			of, valid := set(args[i].s, s.star())
			if !valid {
				return bad
			}
			keep = func(m *Message) bool { return within(of, m.UID) }
		default:
			return bad
		}
		list = slices.DeleteFunc(list, func(m *Message) bool { return !keep(m) })
	}
	var uids []uint32
	for _, m := range list {
		uids = append(uids, m.UID)
	}
	switch {
	case extended && len(uids) > 0:
		s.printf("* ESEARCH (TAG %q) UID ALL %s\r\n", c.tag, format(uids))
	case extended:
		s.printf("* ESEARCH (TAG %q) UID\r\n", c.tag)
	default:
		s.printf("* SEARCH")
		for _, u := range uids {
			s.printf(" %d", u)
		}
		s.printf("\r\n")
	}
	return ok
}

// idle tells of changes until the client has enough.
func (s *session) idle(c *command) error {
	if !s.has("IDLE") {
		s.printf("%s BAD unknown command\r\n", c.tag)
		return nil
	}
	if _, err := s.c.Write([]byte("+ idling\r\n")); err != nil {
		return err
	}
	done := make(chan error, 1)
	s.h.wg.Go(func() {
		_, err := s.r.r.ReadString('\n')
		done <- err
	})
	for {
		s.a.mu.Lock()
		s.tell()
		changed := s.a.changed
		s.a.mu.Unlock()
		if _, err := s.c.Write(s.out.Bytes()); err != nil {
			s.c.Close()
			<-done
			return err
		}
		s.out.Reset()
		select {
		case err := <-done:
			s.printf("%s OK done\r\n", c.tag)
			return err
		case <-changed:
		}
	}
}
