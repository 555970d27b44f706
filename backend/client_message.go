package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

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

// Store is UID STORE +FLAGS.SILENT or -FLAGS.SILENT.
func (c *Client) Store(uids string, o StoreOptions) *Command {
	what, flags := "+FLAGS.SILENT", o.Add
	if len(o.Remove) > 0 {
		what, flags = "-FLAGS.SILENT", o.Remove
	}
	x := &Command{name: "UID STORE"}
	args := []string{"UID STORE", uids}
	if o.UnchangedSince > 0 {
		args = append(args, fmt.Sprintf("(UNCHANGEDSINCE %d)", o.UnchangedSince))
	}
	x.modified = o.Modified
	return c.start(x, append(args, what, "("+strings.Join(flags, " ")+")")...)
}

// CopyCommand is UID COPY or UID MOVE.
type CopyCommand struct {
	*Command
	got Copied
	err error
}

// Copy is UID COPY.
func (c *Client) Copy(uids, to string) *CopyCommand { return c.copyOrMove("UID COPY", uids, to) }

// Move is UID MOVE (RFC 6851), which the server has to have.
func (c *Client) Move(uids, to string) *CopyCommand { return c.copyOrMove("UID MOVE", uids, to) }

func (c *Client) copyOrMove(name, uids, to string) *CopyCommand {
	x := &CopyCommand{Command: &Command{name: name}}
	x.copied = func(code Code) {
		f := strings.Fields(code.Args)
		if len(f) != 3 || x.err != nil {
			return
		}
		var validity uint32
		_, _ = fmt.Sscan(f[0], &validity)
		from, err := expand(f[1], maxExpand-len(x.got.From))
		to, err2 := expand(f[2], maxExpand-len(x.got.From))
		err = errors.Join(err, err2)
		switch {
		case err != nil:
			x.err = fmt.Errorf("%s: COPYUID %s: %w", name, printable(code.Args), err)
		case len(from) != len(to):
			x.err = fmt.Errorf("%s: COPYUID %s pairs %d UIDs with %d", name, printable(code.Args), len(from), len(to))
		}
		if x.err != nil {
			return
		}
		x.got.Validity = validity
		x.got.From, x.got.To = append(x.got.From, from...), append(x.got.To, to...)
	}
	c.start(x.Command, name, uids, str(to))
	return x
}

// Result waits for what COPYUID says.
func (x *CopyCommand) Result(ctx context.Context) (Copied, error) {
	if err := x.Wait(ctx); err != nil {
		return Copied{}, err
	}
	return x.got, x.err
}

// expand writes a set out, in its order, at most max numbers.
func expand(set string, max int) (out []uint32, err error) {
	err = imapwire.ParseSet([]byte(set), func(first, last uint32) error {
		switch {
		case first == 0 || last == 0:
			return errors.New("a star among UIDs")
		case int64(last)-int64(first) >= int64(max-len(out)):
			return tooMany("UIDs", maxExpand)
		}
		for u := first; ; u++ {
			out = append(out, u)
			if u == last {
				return nil
			}
		}
	})
	return out, err
}

// Expunge is UID EXPUNGE (needs UIDPLUS); with uids "" plain EXPUNGE.
func (c *Client) Expunge(uids string) *Command {
	if uids == "" {
		return c.send("EXPUNGE", "EXPUNGE")
	}
	return c.send("UID EXPUNGE", "UID EXPUNGE", uids)
}
