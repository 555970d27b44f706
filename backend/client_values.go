package backend

import (
	"fmt"
	"io"
	"slices"

	"mailgate/imapwire"
)

// value takes one value of whatever form and gives its text, cut to max bytes.
func (c *Client) value(max int) (string, error) {
	var out []byte
	keep := func(b ...byte) { out = append(out, b[:min(len(b), max-len(out))]...) }
	for depth := 0; ; {
		b, err := c.r.Peek()
		if err != nil {
			return "", err
		}
		switch b {
		case '(':
			_, _ = c.r.Next()
			if depth++; depth > imapwire.MaxDepth {
				return "", tooMany("parentheses in one another", imapwire.MaxDepth)
			}
			keep(b)
			continue
		case ')', ' ':
			if depth == 0 {
				return "", fmt.Errorf("%w: a value is missing", imapwire.ErrGrammar)
			}
			_, _ = c.r.Next()
			keep(b)
			if b == ' ' {
				continue
			}
			depth--
		case '\r', '\n':
			return "", fmt.Errorf("%w: a value is missing", imapwire.ErrGrammar)
		case '"':
			q, err := c.r.Quoted()
			if err != nil {
				return "", err
			}
			keep(q...)
		case '{', '~':
			n, atom, err := c.literalOrAtom()
			if err != nil {
				return "", err
			}
			if n < 0 {
				keep([]byte(atom)...)
				break
			}
			l := c.r.Literal(n)
			at, room := len(out), int(min(n, int64(max-len(out))))
			out = slices.Grow(out, room)[:at+room]
			if _, err := io.ReadFull(l, out[at:]); err != nil {
				return "", err
			}
			if err := l.Rest(); err != nil {
				return "", err
			}
		default:
			w, err := c.r.Word()
			if err != nil {
				return "", err
			}
			keep(w...)
		}
		if depth == 0 {
			return string(out), nil
		}
	}
}

// astring takes a string of any form.
func (c *Client) astring() (string, error) {
	b, err := c.r.Peek()
	if err != nil {
		return "", err
	}
	switch b {
	case '"':
		q, err := c.r.Quoted()
		return string(q), err
	case '{', '~':
		n, atom, err := c.literalOrAtom()
		if err != nil || n < 0 {
			return atom, err
		}
		if n > maxName {
			return "", tooMany("bytes of a mailbox name", maxName)
		}
		text, err := io.ReadAll(c.r.Literal(n))
		return string(text), err
	}
	w, err := c.r.Word()
	return string(w), err
}

// mailboxName takes the name of a mailbox, up to the space or the end of the line behind it: some servers send names with
// parentheses as atoms.
func (c *Client) mailboxName() (string, error) {
	name, err := c.astring()
	if err != nil {
		return "", err
	}
	b, err := c.r.Peek()
	if err != nil || b == ' ' || b == '\r' || b == '\n' {
		return name, err
	}
	whole := []byte(name)
	for ; b != ' ' && b != '\r' && b != '\n'; b, err = c.r.Peek() {
		if err != nil {
			return "", err
		}
		if whole = append(whole, b); len(whole) > maxName {
			return "", tooMany("bytes of a mailbox name", maxName)
		}
		_, _ = c.r.Next()
	}
	return string(whole), err
}

// literalOrAtom takes the head of a literal or literal8; or an atom that begins with a tilde, and then the size is -1.
func (c *Client) literalOrAtom() (size int64, atom string, err error) {
	tilde, err := c.r.Take('~')
	if err != nil {
		return 0, "", err
	}
	b, err := c.r.Peek()
	if err != nil {
		return 0, "", err
	}
	if tilde && b != '{' {
		w, err := c.r.Word()
		return -1, "~" + string(w), err
	}
	size, err = c.r.LiteralSize()
	return size, "", err
}
