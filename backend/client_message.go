package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailgate/imapwire"
)

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
