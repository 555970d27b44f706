package backend

import (
	"bytes"
	"fmt"

	"mailgate/imapwire"
)

// Search is UID SEARCH; criteria raw, such as "ALL" or "UNDELETED". f gets ascending ranges where the server has ESEARCH,
// and single numbers in the server's order otherwise.
func (c *Client) Search(criteria string, f func(Range)) *Command {
	x := &Command{name: "UID SEARCH", search: f}
	if c.Has("ESEARCH") || c.Has("IMAP4REV2") {
		return c.start(x, "UID SEARCH RETURN (ALL)", criteria)
	}
	return c.start(x, "UID SEARCH", criteria)
}

func (c *Client) searchTarget() func(Range) {
	if x := c.oldest(func(x *Command) bool { return x.search != nil }); x != nil {
		return x.search
	}
	return func(Range) {}
}

// searchResponse takes the numbers of SEARCH one by one: the line may be long.
func (c *Client) searchResponse() error {
	f := c.searchTarget()
	for {
		b, err := c.r.Peek()
		if err != nil {
			return err
		}
		switch {
		case b == ' ':
			_, _ = c.r.Next()
		case b >= '0' && b <= '9':
			n, err := c.r.Number32()
			if err != nil {
				return err
			}
			if n != 0 { // no message has it
				f(Range{n, n})
			}
		default: // the end, or (MODSEQ n)
			return c.r.SkipLine()
		}
	}
}

// esearchResponse takes ESEARCH (RFC 4731).
func (c *Client) esearchResponse() error {
	f := c.searchTarget()
	for {
		b, err := c.r.Peek()
		if err != nil {
			return err
		}
		switch b {
		case ' ':
			_, _ = c.r.Next()
			continue
		case '\r', '\n':
			return c.r.EndOfLine()
		case '(':
			if _, err := c.value(1024); err != nil {
				return err
			}
			continue
		}
		w, err := c.r.Word()
		if err != nil {
			return err
		}
		switch {
		case bytes.EqualFold(w, []byte("UID")):
		case bytes.EqualFold(w, []byte("ALL")):
			if err := c.r.Expect(' '); err != nil {
				return err
			}
			if err := c.set(f); err != nil {
				return err
			}
		default: // MIN, MAX, COUNT, MODSEQ and what may come
			if err := c.r.Expect(' '); err != nil {
				return err
			}
			if _, err := c.value(1024); err != nil {
				return err
			}
		}
	}
}

// uid takes a number that is not 0, which would mean "*" in a Range.
func (c *Client) uid() (uint32, error) {
	n, err := c.r.Number32()
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: 0 among numbers of messages", imapwire.ErrGrammar)
	}
	return n, err
}

// set takes a set of numbers, range by range.
func (c *Client) set(f func(Range)) error {
	for {
		a, err := c.uid()
		if err != nil {
			return err
		}
		r := Range{a, a}
		if ok, err := c.r.Take(':'); err != nil {
			return err
		} else if ok {
			if r.Last, err = c.uid(); err != nil {
				return err
			}
			if r.First > r.Last {
				r.First, r.Last = r.Last, r.First
			}
		}
		f(r)
		if ok, err := c.r.Take(','); err != nil || !ok {
			return err
		}
	}
}

// vanishedResponse takes VANISHED (RFC 7162, section 3.2.10).
func (c *Client) vanishedResponse() error {
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	f := c.handlers().Vanished
	b, err := c.r.Peek()
	if err != nil {
		return err
	}
	if b == '(' {
		if _, err := c.value(64); err != nil {
			return err
		}
		if err := c.r.Expect(' '); err != nil {
			return err
		}
		f = nil
		if x := c.oldest(func(x *Command) bool { return x.vanished != nil }); x != nil {
			f = x.vanished
		}
	}
	if f == nil {
		f = func(Range) {}
	}
	if err := c.set(f); err != nil {
		return err
	}
	return c.r.SkipLine()
}
