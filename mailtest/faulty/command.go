package faulty

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// word is an atom, a string, or a list.
type word struct {
	s       string
	list    []word
	isList  bool
	literal bool
}

// String is short.
func (w word) String() string {
	if !w.isList {
		return strconv.Quote(w.s[:min(len(w.s), 60)])
	}
	out := ""
	for _, x := range w.list {
		out += " " + x.String()
	}
	return "(" + strings.TrimPrefix(out, " ") + ")"
}

// command is one line of a client with its literals.
type command struct {
	tag, name string // UID is part of the name
	args      []word
}

// reader reads commands. Before a synchronizing literal it calls more, which sends the continuation, or ends the command by an error.
type reader struct {
	r    *bufio.Reader
	more func(c *command) error
	// literal is called with the size of each literal before it is read; an error ends the connection.
	literal func(size int) error
	size    int // of the command so far
}

// maxCommand bounds a command with its literals, in bytes.
const maxCommand = 256 << 20

var errSyntax = errors.New("syntax")

// refused ends a command before its literal.
type refused struct{ text string }

func (r refused) Error() string { return r.text }

func (r *reader) command() (*command, error) {
	r.size = 0
	c := &command{}
	var err error
	if c.tag, err = r.atom(); err != nil {
		return nil, err
	}
	if err := r.space(); err != nil {
		return c, r.skip(err)
	}
	if c.name, err = r.atom(); err != nil {
		return c, r.skip(err)
	}
	c.name = strings.ToUpper(c.name)
	for {
		b, err := r.r.ReadByte()
		switch {
		case err != nil:
			return nil, err
		case b == '\r':
			if b, err = r.r.ReadByte(); err == nil && b != '\n' {
				err = errSyntax
			}
			return c, err
		case b != ' ':
			return c, r.skip(errSyntax)
		}
		w, err := r.word(c)
		if err != nil {
			return c, r.skip(err)
		}
		if c.name == "UID" {
			c.name = "UID " + strings.ToUpper(w.s)
			continue
		}
		c.args = append(c.args, w)
	}
}

// skip reads to the end of a line that is wrong.
func (r *reader) skip(err error) error {
	if !errors.Is(err, errSyntax) {
		return err
	}
	if _, e := r.r.ReadString('\n'); e != nil {
		return e
	}
	return err
}

func (r *reader) space() error {
	b, err := r.r.ReadByte()
	if err == nil && b != ' ' {
		_ = r.r.UnreadByte()
		err = errSyntax
	}
	return err
}

// atom reads up to a blank, a bracket of a list, or the end; a section in [] belongs to it.
func (r *reader) atom() (string, error) {
	var out []byte
	depth := 0
	for {
		b, err := r.r.ReadByte()
		if err != nil {
			return "", err
		}
		if b == '\r' || b == '\n' || depth == 0 && (b == ' ' || b == '(' || b == ')') {
			return string(out), r.r.UnreadByte()
		}
		switch b {
		case '[':
			depth++
		case ']':
			depth--
		}
		if out = append(out, b); len(out) > 64<<10 {
			return "", errors.New("an endless atom")
		}
	}
}

func (r *reader) word(c *command) (word, error) {
	b, err := r.r.ReadByte()
	if err != nil {
		return word{}, err
	}
	switch b {
	case '(':
		return r.listWords(c)
	case '"':
		return r.quoted()
	case '{':
		return r.literalString(c)
	case '~':
		if next, err := r.r.Peek(1); err == nil && next[0] == '{' {
			_, _ = r.r.ReadByte()
			return r.literalString(c)
		}
	}
	if err := r.r.UnreadByte(); err != nil {
		return word{}, err
	}
	s, err := r.atom()
	return word{s: s}, err
}

func (r *reader) listWords(c *command) (word, error) {
	w := word{isList: true}
	for {
		b, err := r.r.ReadByte()
		switch {
		case err != nil:
			return w, err
		case b == ')':
			return w, nil
		case b == '\r' || b == '\n':
			_ = r.r.UnreadByte()
			return w, errSyntax
		case b != ' ':
			_ = r.r.UnreadByte()
		}
		x, err := r.word(c)
		if err != nil {
			return w, err
		}
		if x.s != "" || x.isList || x.literal {
			w.list = append(w.list, x)
		}
	}
}

func (r *reader) quoted() (word, error) {
	var out []byte
	for {
		b, err := r.r.ReadByte()
		switch {
		case err != nil:
			return word{}, err
		case b == '"':
			return word{s: string(out), literal: true}, nil
		case b == '\r' || b == '\n':
			_ = r.r.UnreadByte()
			return word{}, errSyntax
		case b == '\\':
			if b, err = r.r.ReadByte(); err != nil {
				return word{}, err
			}
		}
		out = append(out, b)
	}
}

func (r *reader) literalString(c *command) (word, error) {
	head, err := r.r.ReadString('\n')
	if err != nil {
		return word{}, err
	}
	digits, ok := strings.CutSuffix(head, "}\r\n")
	digits, now := strings.CutSuffix(digits, "+")
	size, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return word{}, fmt.Errorf("a literal of %q", head)
	}
	if r.size += size; r.size > maxCommand {
		return word{}, errors.New("too much")
	}
	if !now {
		if err := r.more(c); err != nil {
			return word{}, err
		}
	}
	if err := r.literal(size); err != nil {
		return word{}, err
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r.r, b)
	return word{s: string(b), literal: true}, err
}
