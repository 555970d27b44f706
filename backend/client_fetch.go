package backend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"mailgate/imapwire"
)

// fetching is what an outstanding UID FETCH takes.
type fetching struct {
	FetchOptions
	uids []Range // what was asked for, ascending; Last 0 means "*"
}

func (f *fetching) has(uid uint32) bool {
	return slices.ContainsFunc(f.uids, func(r Range) bool { return uid >= r.First && (r.Last == 0 || uid <= r.Last) || r.First == 0 })
}

// Fetch is UID FETCH. An error of a handler ends the connection (the rest of the response cannot be un-asked for) and
// comes back from Wait.
func (c *Client) Fetch(uids string, o FetchOptions) *Command {
	x := &Command{name: "UID FETCH", fetch: &fetching{FetchOptions: o}}
	err := imapwire.ParseSet([]byte(uids), func(first, last uint32) error {
		switch {
		case last == 0:
			last = 0
		case first == 0: // "*:n" and "*" name the last message
			first, last = last, 0
		}
		x.fetch.uids = append(x.fetch.uids, Range{first, last})
		return nil
	})
	if err != nil {
		return failed(x.name, err)
	}
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

// spoolMemory is how much of a body is held in memory whose message is not known yet.
const spoolMemory = 64 << 10

// spooled is a body that came before the UID.
type spooled struct {
	section string
	size    int64
	data    []byte
	file    *os.File // already removed
}

func (s *spooled) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
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
	var x *Command // known with the UID
	var spool []spooled
	defer func() {
		for i := range spool {
			spool[i].close()
		}
	}()
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
		if err := c.fetchItem(x, m, &spool); err != nil {
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
		if len(spool) > 0 && m.UID == 0 {
			return errors.New("a body came without the UID of its message")
		}
		if f := c.handlers().Fetch; f != nil {
			f(m)
		}
		return nil
	}
	for _, s := range spool {
		if x.fetch.Body == nil {
			continue
		}
		var r io.Reader = bytes.NewReader(s.data)
		if s.file != nil {
			if _, err := s.file.Seek(0, io.SeekStart); err != nil {
				return err
			}
			r = io.MultiReader(r, s.file)
		}
		if err := x.tell(x.fetch.Body(m, s.section, s.size, r)); err != nil {
			return err
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

// maxItem bounds the text of an item that is only kept.
const maxItem = 64 << 10

// fetchItem takes one item with its value.
func (c *Client) fetchItem(x *Command, m *Message, spool *[]spooled) error {
	w, err := c.r.Name()
	if err != nil {
		return err
	}
	var name string
	switch { // without allocation for what comes with every message
	case bytes.EqualFold(w, []byte("FLAGS")):
		return c.fetchFlags(m)
	case bytes.EqualFold(w, []byte("UID")):
		if err := c.r.Expect(' '); err != nil {
			return err
		}
		m.UID, err = c.r.Number32()
		return err
	case len(w) == 0:
		return fmt.Errorf("%w: a FETCH item is missing", imapwire.ErrGrammar)
	default:
		name = strings.ToUpper(string(w))
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
		name += "[" + string(s) + "]"
		rest, err := c.r.Word() // "<0>"
		if err != nil {
			return err
		}
		name += string(rest)
	}
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	switch {
	case name == "INTERNALDATE":
		q, err := c.r.Quoted()
		if err != nil {
			return err
		}
		m.DateText = string(q)
		m.InternalDate = parseDate(m.DateText)
		return nil
	case name == "RFC822.SIZE":
		n, err := c.r.Number()
		m.Size = int64(n)
		return err
	case name == "MODSEQ":
		v, err := c.value(0, 64)
		_, _ = fmt.Sscanf(v, "(%d)", &m.ModSeq)
		return err
	case name == "EMAILID" || name == "THREADID":
		v, err := c.value(0, 1024)
		v = strings.Trim(v, "()")
		if name == "EMAILID" {
			m.EmailID = v
		} else {
			m.ThreadID = v
		}
		return err
	case strings.HasPrefix(name, "BODY[") || strings.HasPrefix(name, "BINARY[") || name == "RFC822" || name == "RFC822.HEADER" || name == "RFC822.TEXT":
		return c.fetchBody(x, m, name, spool)
	}
	v, err := c.value(0, maxItem)
	if err != nil {
		return err
	}
	if m.Other == nil {
		m.Other = map[string]string{}
	}
	m.Other[name] = v
	return nil
}

func (c *Client) fetchFlags(m *Message) error {
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	if err := c.r.Expect('('); err != nil {
		return err
	}
	m.HasFlags = true
	for {
		w, err := c.r.Word()
		if err != nil {
			return err
		}
		if len(m.Flags)+len(w) > maxItem {
			return imapwire.ErrToken
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
func (c *Client) fetchBody(x *Command, m *Message, section string, spool *[]spooled) error {
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
		_, err := c.value(0, 16)
		return err
	}
	switch {
	case m.UID == 0:
		s := spooled{section: section, size: size}
		if err := s.take(r); err != nil {
			return err
		}
		*spool = append(*spool, s)
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

func (s *spooled) take(r io.Reader) (err error) {
	if s.data, err = io.ReadAll(io.LimitReader(r, spoolMemory)); err != nil || s.size <= spoolMemory {
		return err
	}
	if s.file, err = os.CreateTemp("", "mailgate-body-"); err != nil {
		return err
	}
	if err := os.Remove(s.file.Name()); err != nil {
		return err
	}
	_, err = io.Copy(s.file, r)
	return err
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
