package backend

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"mailgate/imapwire"
)

// fetching is what an outstanding UID FETCH takes.
type fetching struct {
	FetchOptions
	uids []Range // what was asked for, ascending and apart; Last 0 means "*", and with First 0 any message
}

func (f *fetching) has(uid uint32) bool {
	i := sort.Search(len(f.uids), func(i int) bool { return f.uids[i].Last == 0 || f.uids[i].Last >= uid })
	return i < len(f.uids) && f.uids[i].First <= uid
}

// order sorts the ranges and joins those that touch, for has.
func (f *fetching) order() {
	slices.SortFunc(f.uids, func(a, b Range) int { return cmp.Compare(a.First, b.First) })
	out := f.uids[:0]
	for _, r := range f.uids {
		n := len(out)
		switch {
		case n == 0 || out[n-1].Last != 0 && out[n-1].Last < r.First-min(r.First, 1):
			out = append(out, r)
		case out[n-1].Last != 0 && (r.Last == 0 || r.Last > out[n-1].Last):
			out[n-1].Last = r.Last
		}
	}
	f.uids = out
}

// Fetch is UID FETCH. An error of a handler ends the connection (the rest of the response cannot be un-asked for) and
// comes back from Wait.
func (c *Client) Fetch(uids string, o FetchOptions) *Command {
	x := &Command{name: "UID FETCH", fetch: &fetching{FetchOptions: o}}
	err := imapwire.ParseSet([]byte(uids), func(first, last uint32) error {
		x.fetch.uids = append(x.fetch.uids, Range{first, last})
		return nil
	})
	if err != nil {
		return failed(x.name, err)
	}
	x.fetch.order()
	items := "(UID"
	for _, i := range o.Items {
		items += " " + i
	}
	args := []string{"UID FETCH", uids, items + ")"}
	if o.ChangedSince > 0 {
		m := fmt.Sprintf("(CHANGEDSINCE %d", o.ChangedSince)
		if o.Vanished != nil && c.Has("QRESYNC") {
			m += " VANISHED"
			x.vanished = o.Vanished
		}
		args = append(args, m+")")
	}
	return c.start(x, args...)
}

// fetchResponse takes a FETCH from behind its name.
func (c *Client) fetchResponse(seq uint32) (err error) {
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	if err := c.r.Expect('('); err != nil {
		return err
	}
	m := &c.rs.message
	*m = Message{Seq: seq, Flags: m.Flags[:0]}
	c.rs.other = 0
	var x *Command // known with the UID
	var early spool
	defer early.close()
	for first := true; ; first = false {
		b, err := c.r.Peek()
		if err != nil {
			return err
		}
		if b == ')' {
			_, _ = c.r.Next()
			break
		}
		if b == ' ' && !first {
			_, _ = c.r.Next()
			continue
		}
		known := m.UID
		if err := c.fetchItem(x, m, &early); err != nil {
			return err
		}
		if known == 0 && m.UID != 0 {
			x = c.fetchFor(m.UID)
		}
	}
	if err := c.r.EndOfLine(); err != nil {
		return err
	}
	if x == nil {
		if len(early.list) > 0 && m.UID == 0 {
			return errors.New("a body came without the UID of its message")
		}
		if f := c.handlers().Fetch; f != nil {
			f(m)
		}
		return nil
	}
	if x.fetch.Body != nil {
		for _, s := range early.list {
			r, err := s.reader()
			if err != nil {
				return err
			}
			if err := x.tell(x.fetch.Body(m, s.section, s.size, r)); err != nil {
				return err
			}
		}
	}
	if x.fetch.Message != nil {
		return x.tell(x.fetch.Message(m))
	}
	return nil
}

// fetchFor finds who asked for a message: servers may answer several commands at once.
func (c *Client) fetchFor(uid uint32) *Command {
	if c.rs.closed != nil {
		return nil
	}
	return c.oldest(func(x *Command) bool { return x.fetch != nil && x.fetch.has(uid) })
}

// tell keeps a handler's error for who waits, and returns it: the connection ends.
func (x *Command) tell(err error) error {
	if err != nil && x.told == nil {
		x.told = err
	}
	return err
}

// fetchItem takes one item with its value. What comes with every message is taken without allocating.
func (c *Client) fetchItem(x *Command, m *Message, early *spool) error {
	w, err := c.r.Name()
	if err != nil {
		return err
	}
	is := func(name string) bool { return len(w) == len(name) && strings.EqualFold(string(w), name) }
	switch {
	case is("FLAGS"):
		return c.fetchFlags(m)
	case is("UID"):
		if err := c.r.Expect(' '); err != nil {
			return err
		}
		m.UID, err = c.r.Number32()
		return err
	case is("MODSEQ"):
		return c.fetchModSeq(m)
	case is("RFC822.SIZE"):
		n, err := c.number()
		m.Size = int64(n)
		return err
	case is("INTERNALDATE"):
		return c.fetchDate(m)
	case len(w) == 0:
		return fmt.Errorf("%w: a FETCH item is missing", imapwire.ErrGrammar)
	}
	c.rs.name = append(c.rs.name[:0], w...)
	for i, b := range c.rs.name {
		if 'a' <= b && b <= 'z' {
			c.rs.name[i] = b - 'a' + 'A'
		}
	}
	b, err := c.r.Peek()
	if err != nil {
		return err
	}
	if b == '[' {
		_, _ = c.r.Next()
		s, err := c.r.Section()
		if err != nil {
			return err
		}
		c.rs.name = append(append(append(c.rs.name, '['), s...), ']')
		rest, err := c.r.Word() // "<0>"
		if err != nil {
			return err
		}
		c.rs.name = append(c.rs.name, rest...)
	}
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	if string(c.rs.name) != c.rs.last { // most often it is what the message before had
		c.rs.last = string(c.rs.name)
	}
	name := c.rs.last
	switch {
	case name == "EMAILID" || name == "THREADID":
		v, err := c.value(1024)
		v = strings.Trim(v, "()")
		if name == "EMAILID" {
			m.EmailID = v
		} else {
			m.ThreadID = v
		}
		return err
	case strings.HasPrefix(name, "BODY[") || strings.HasPrefix(name, "BINARY[") || name == "RFC822" || name == "RFC822.HEADER" || name == "RFC822.TEXT":
		return c.fetchBody(x, m, name, early)
	}
	v, err := c.value(maxItem)
	if err != nil {
		return err
	}
	if c.rs.other += len(name) + len(v) + 64; c.rs.other > maxOther { // 64 for what is around the texts
		return tooMany("bytes of other items", maxOther)
	}
	if m.Other == nil {
		m.Other = map[string]string{}
	}
	m.Other[name] = v
	return nil
}

// number takes a space and a number; what is none, such as NIL, is 0.
func (c *Client) number() (uint64, error) {
	if err := c.r.Expect(' '); err != nil {
		return 0, err
	}
	b, err := c.r.Peek()
	if err != nil {
		return 0, err
	}
	if b < '0' || b > '9' {
		_, err := c.value(64)
		return 0, err
	}
	return c.r.Number()
}

// fetchModSeq takes "(n)".
func (c *Client) fetchModSeq(m *Message) error {
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	if ok, err := c.r.Take('('); err != nil {
		return err
	} else if !ok {
		_, err := c.value(64)
		return err
	}
	n, err := c.r.Number()
	if err != nil {
		return err
	}
	m.ModSeq = n
	return c.r.Expect(')')
}

// fetchDate takes INTERNALDATE. NIL is none.
func (c *Client) fetchDate(m *Message) error {
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	b, err := c.r.Peek()
	if err != nil {
		return err
	}
	text, err := c.value(maxItem)
	if err != nil {
		return err
	}
	if b == '"' || !strings.EqualFold(text, "NIL") {
		m.DateText = text
		m.InternalDate = parseDate(text)
	}
	return nil
}

func (c *Client) fetchFlags(m *Message) error {
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	if ok, err := c.r.Take('('); err != nil {
		return err
	} else if !ok {
		text, err := c.value(16)
		if err == nil && !strings.EqualFold(text, "NIL") {
			err = fmt.Errorf("%w: FLAGS %s", imapwire.ErrGrammar, printable(text))
		}
		return err
	}
	m.HasFlags = true
	m.Flags = m.Flags[:0] // the last one holds
	for {
		w, err := c.r.Word()
		if err != nil {
			return err
		}
		if len(m.Flags)+len(w) > maxItem {
			return tooMany("bytes of flags", maxItem)
		}
		m.Flags = append(m.Flags, w...)
		b, err := c.r.Next()
		if err != nil {
			return err
		}
		switch b {
		case ')':
			return nil
		case ' ':
			m.Flags = append(m.Flags, ' ')
		default:
			return fmt.Errorf("%w: %q among flags", imapwire.ErrGrammar, b)
		}
	}
}

// fetchBody hands a section to who asked for it, while it streams in.
func (c *Client) fetchBody(x *Command, m *Message, section string, early *spool) error {
	b, err := c.r.Peek()
	if err != nil {
		return err
	}
	var r io.Reader
	var size int64
	var lit *imapwire.Literal
	switch b {
	case '"':
		q, err := c.r.Quoted()
		if err != nil {
			return err
		}
		r, size = bytes.NewReader(bytes.Clone(q)), int64(len(q))
	case '{', '~':
		if size, err = c.r.LiteralSize(); err != nil {
			return err
		}
		lit = c.r.Literal(size)
		r = lit
	default: // NIL
		text, err := c.value(16)
		if err == nil && !strings.EqualFold(text, "NIL") {
			err = fmt.Errorf("%w: %q for a body", imapwire.ErrGrammar, printable(text))
		}
		return err
	}
	switch {
	case m.UID == 0:
		if c.oldest(func(x *Command) bool { return x.fetch != nil && x.fetch.Body != nil }) != nil {
			if err := early.take(section, size, r); err != nil {
				return err
			}
		}
	case x != nil && x.fetch.Body != nil:
		if err := x.tell(x.fetch.Body(m, section, size, r)); err != nil {
			return err
		}
	}
	if lit != nil {
		return lit.Rest()
	}
	return nil
}

// dateLayouts are INTERNALDATE (RFC 9051, section 9) and what some servers make of it.
func parseDate(s string) time.Time {
	for _, layout := range []string{"_2-Jan-2006 15:04:05 -0700", "2-Jan-2006 15:04:05 -0700", "_2-Jan-2006 15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t
		}
	}
	return time.Time{}
}
