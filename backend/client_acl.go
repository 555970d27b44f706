package backend

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"mailgate/imapwire"
)

// Right is what one identifier may do with a mailbox (RFC 4314, section 2).
type Right struct {
	Identifier string // without the "-" of a negative right
	Rights     string // letters, as sent
	Negative   bool   // taken away from what other identifiers give
}

// ErrNoACL means that the server has no ACL.
var ErrNoACL = errors.New("the server has no ACL")

// ErrNoAnswer means that the server has said OK to a question, and nothing else.
var ErrNoAnswer = errors.New("the server has said OK without an answer")

// ACL lists who may do what with a mailbox, in the server's order (RFC 4314, section 3.3). The owner and administrators are among
// them where the server says so. The error is ErrNoACL, ErrNoAnswer, a *StatusError where the mailbox's rights are not shown to us, or
// the connection's.
func (c *Client) ACL(ctx context.Context, name string) ([]Right, error) {
	if !c.Has("ACL") {
		return nil, ErrNoACL
	}
	var list []Right // the reader writes it, perhaps for longer than we wait
	held, answered := 0, false
	x := &Command{name: "GETACL"}
	x.other = func(kind string) (bool, error) {
		if kind != "ACL" {
			return false, nil
		}
		answered = true
		if err := c.behindName(); err != nil {
			return true, err
		}
		for {
			more, err := c.another()
			if err != nil || !more {
				return true, err
			}
			var r Right
			if r.Identifier, err = c.astring(); err != nil {
				return true, err
			}
			if err := c.r.Expect(' '); err != nil {
				return true, err
			}
			if r.Rights, err = c.astring(); err != nil {
				return true, err
			}
			if held += len(r.Identifier) + len(r.Rights) + 64; held > maxACL { // 64 for what is around the texts
				return true, tooMany("bytes of rights", maxACL)
			}
			r.Identifier, r.Negative = strings.CutPrefix(r.Identifier, "-")
			list = append(list, r)
		}
	}
	if err := c.start(x, "GETACL", str(name)).Wait(ctx); err != nil {
		return nil, err
	}
	if !answered {
		return nil, fmt.Errorf("GETACL: %w", ErrNoAnswer)
	}
	return list, nil
}

// MyRights are the letters of what we may do with a mailbox (RFC 4314, section 3.5). Errors are those of ACL.
func (c *Client) MyRights(ctx context.Context, name string) (string, error) {
	if !c.Has("ACL") {
		return "", ErrNoACL
	}
	answered, rights := false, "" // the reader writes them, perhaps for longer than we wait
	x := &Command{name: "MYRIGHTS"}
	x.other = func(kind string) (bool, error) {
		if kind != "MYRIGHTS" {
			return false, nil
		}
		answered = true
		if err := c.behindName(); err != nil {
			return true, err
		}
		more, err := c.another()
		if err != nil || !more {
			return true, err
		}
		if rights, err = c.astring(); err != nil {
			return true, err
		}
		return true, c.r.SkipLine()
	}
	if err := c.start(x, "MYRIGHTS", str(name)).Wait(ctx); err != nil {
		return "", err
	}
	if !answered {
		return "", fmt.Errorf("MYRIGHTS: %w", ErrNoAnswer)
	}
	return rights, nil
}

// behindName takes the name of a mailbox that a response begins with. Commands of this kind go one after the other, so that the name
// is that of the one outstanding, however the server spells it.
func (c *Client) behindName() error {
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	_, err := c.mailboxName()
	return err
}

// another takes spaces, and tells whether something follows them; if not, it takes the end of the line.
func (c *Client) another() (bool, error) {
	for {
		switch b, err := c.r.Peek(); {
		case err != nil:
			return false, err
		case b == '\r' || b == '\n':
			return false, c.r.EndOfLine()
		case b == ' ':
			_, _ = c.r.Next()
		case b == ')':
			return false, fmt.Errorf("%w: a parenthesis in a list of rights", imapwire.ErrGrammar)
		default:
			return true, nil
		}
	}
}
