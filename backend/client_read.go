package backend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"mailgate/imapwire"
)

// readState is what the reader keeps between responses.
type readState struct {
	// closed is why the mailbox that was asked for last could not be opened. None is open then (RFC 9051, section 6.3.2), but should a
	// server keep the one before, what it says to the commands behind is about the wrong one.
	closed *StatusError

	message Message // reused
	bye     *StatusError
}

// read takes what the server says until the connection ends.
func (c *Client) read() {
	defer close(c.end)
	for {
		if err := c.response(); err != nil {
			if bye := c.rs.bye; bye != nil && errors.Is(err, io.ErrUnexpectedEOF) {
				err = bye
			}
			_ = c.fail(err)
			_ = c.conn.Close()
			return
		}
	}
}

// response takes one.
func (c *Client) response() error {
	b, err := c.r.Peek()
	if err != nil {
		return err
	}
	switch b {
	case '*':
		_, _ = c.r.Next()
		if _, err := c.r.Take(' '); err != nil {
			return err
		}
		return c.untaggedResponse()
	case '+':
		line, err := c.r.Line()
		if err != nil {
			return err
		}
		return c.continuation(strings.TrimPrefix(string(line[1:]), " "))
	}
	tag, err := c.r.Word()
	if err != nil {
		return err
	}
	t := string(tag)
	line, err := c.r.Line()
	if err != nil {
		return err
	}
	return c.tagged(t, strings.TrimPrefix(string(line), " "))
}

func (c *Client) continuation(text string) error {
	c.mu.Lock()
	var more chan string
	for _, x := range c.outstanding {
		if x.more != nil {
			more, x.more = x.more, nil
			break
		}
	}
	c.mu.Unlock()
	if more == nil {
		return nil // some say + where nobody has asked
	}
	more <- text // has room for one
	return nil
}

// tagged ends a command. A tag that nobody knows is passed over: Courier and Cyrus answer the end of a command that they
// have refused already.
func (c *Client) tagged(tag, line string) error {
	status, text := cutWord(line)
	status = strings.ToUpper(status)
	if status != "OK" && status != "NO" && status != "BAD" {
		return fmt.Errorf("%w: no status in %q", imapwire.ErrGrammar, printable(line))
	}
	code, text := splitCode(text)
	x := c.ended(tag)
	if x == nil {
		return nil
	}
	c.noteCode(x, code, text)
	x.code = code
	if x.selected != nil || x.name == "UNSELECT" {
		c.mu.Lock()
		if c.mailbox = ""; status == "OK" {
			c.mailbox = x.mailbox
		}
		c.mu.Unlock()
		c.rs.closed = nil
	}
	switch why := c.rs.closed; {
	case x.selected != nil && status != "OK":
		c.rs.closed = &StatusError{Command: x.name, Status: status, Code: code, Text: printable(text)}
	case why != nil && status == "OK" && x.inMailbox():
		x.finish(why)
		return nil
	}
	if x.compress != nil && status == "OK" {
		x.compress()
	}
	if x.modified != nil && code.Name == "MODIFIED" {
		if err := imapwire.ParseSet([]byte(code.Args), func(first, last uint32) error {
			x.modified(Range{first, last})
			return nil
		}); err != nil {
			x.told = err
		}
	}
	switch {
	case x.told != nil:
		x.finish(x.told)
	case status == "OK":
		x.finish(nil)
	default:
		x.finish(&StatusError{Command: x.name, Status: status, Code: code, Text: printable(text)})
	}
	return nil
}

// inMailbox tells whether a command is about the mailbox that is open.
func (x *Command) inMailbox() bool {
	return x.fetch != nil && x.selected == nil || strings.HasPrefix(x.name, "UID ") || x.name == "EXPUNGE"
}

// splitCode takes "[CODE args]" off a status text.
func splitCode(s string) (Code, string) {
	if !strings.HasPrefix(s, "[") {
		return Code{}, s
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ']' && !quoted:
			name, args, _ := strings.Cut(s[1:i], " ")
			return Code{Name: strings.ToUpper(name), Args: args}, strings.TrimPrefix(s[i+1:], " ")
		}
	}
	return Code{}, s
}

// oldest finds the first outstanding command for which f holds.
func (c *Client) oldest(f func(*Command) bool) *Command {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.outstanding {
		if f(x) {
			return x
		}
	}
	return nil
}

// noteCode takes what a response code says. x is nil for an untagged one.
func (c *Client) noteCode(x *Command, code Code, text string) {
	switch code.Name {
	case "CAPABILITY":
		c.setCapabilities(strings.Fields(code.Args))
		return
	case "ALERT":
		if f := c.handlers().Alert; f != nil {
			f(printable(text))
		}
		return
	case "COPYUID":
		if x == nil {
			x = c.oldest(func(x *Command) bool { return x.copied != nil })
		}
		if x != nil && x.copied != nil {
			x.copied(code)
		}
		return
	}
	if x == nil {
		x = c.oldest(func(x *Command) bool { return x.selected != nil })
	}
	if x == nil || x.selected == nil {
		return
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(code.Args), 10, 64)
	switch s := x.selected; code.Name {
	case "UIDVALIDITY":
		s.Validity = uint32(n)
	case "UIDNEXT":
		s.UIDNext = uint32(n)
	case "HIGHESTMODSEQ":
		s.HighestModSeq = n
	case "NOMODSEQ":
		s.HighestModSeq = 0
	case "PERMANENTFLAGS":
		s.PermanentFlags = strings.Fields(strings.Trim(code.Args, "()"))
		if s.PermanentFlags == nil {
			s.PermanentFlags = []string{}
		}
	case "READ-ONLY":
		s.ReadOnly = true
	case "READ-WRITE":
		s.ReadOnly = false
	case "UIDNOTSTICKY":
		s.UIDNotSticky = true
	case "MAILBOXID":
		s.MailboxID = objectID(code.Args)
	}
}

// untaggedResponse takes one from behind "* ".
func (c *Client) untaggedResponse() error {
	b, err := c.r.Peek()
	if err != nil {
		return err
	}
	if b >= '0' && b <= '9' {
		return c.numbered()
	}
	word, err := c.r.Word()
	if err != nil {
		return err
	}
	switch kind := strings.ToUpper(string(word)); kind {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		line, err := c.r.Line()
		if err != nil {
			return err
		}
		code, text := splitCode(strings.TrimPrefix(string(line), " "))
		if kind == "BYE" {
			c.rs.bye = &StatusError{Command: "connection", Status: "BYE", Code: code, Text: printable(text)}
		}
		c.noteCode(nil, code, text)
		return nil
	case "CAPABILITY":
		return c.words(func(list []string) { c.setCapabilities(list) })
	case "ENABLED":
		return c.words(func(list []string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, s := range list {
				c.enabled[strings.ToUpper(s)] = true
			}
		})
	case "FLAGS":
		line, err := c.r.Line()
		if err != nil {
			return err
		}
		if x := c.oldest(func(x *Command) bool { return x.selected != nil }); x != nil {
			x.selected.Flags = strings.Fields(strings.Trim(string(line), " ()"))
		}
		return nil
	case "SEARCH":
		return c.searchResponse()
	case "ESEARCH":
		return c.esearchResponse()
	case "VANISHED":
		return c.vanishedResponse()
	case "LIST", "LSUB", "XLIST":
		return c.listResponse()
	case "STATUS":
		return c.statusResponse()
	default:
		return c.otherResponse(kind)
	}
}

// words takes the words up to the end of the line.
func (c *Client) words(f func([]string)) error {
	line, err := c.r.Line()
	if err != nil {
		return err
	}
	f(strings.Fields(string(line)))
	return nil
}

// otherResponse gives a response to the command that asked for such, or passes over it.
func (c *Client) otherResponse(kind string) error {
	x := c.oldest(func(x *Command) bool { return x.other != nil })
	if x != nil {
		taken, err := x.other(kind)
		if taken || err != nil {
			return err
		}
	}
	return c.skipLine()
}

// skipLine passes over the rest of a response, with the literals in it.
func (c *Client) skipLine() error {
	for {
		b, err := c.r.Peek()
		if err != nil {
			return err
		}
		switch b {
		case '\r', '\n':
			return c.r.EndOfLine()
		case '"':
			if _, err := c.r.Quoted(); err != nil {
				return err
			}
		case '{':
			n, err := c.r.LiteralSize()
			if errors.Is(err, imapwire.ErrGrammar) { // a brace in a text
				_, err := c.r.Line()
				return err
			}
			if err != nil {
				return err
			}
			if err := c.r.Literal(n).Rest(); err != nil {
				return err
			}
		default:
			_, _ = c.r.Next()
		}
	}
}

// numbered takes EXISTS, RECENT, EXPUNGE and FETCH.
func (c *Client) numbered() error {
	n, err := c.r.Number32()
	if err != nil {
		return err
	}
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	word, err := c.r.Word()
	if err != nil {
		return err
	}
	switch {
	case bytes.EqualFold(word, []byte("FETCH")):
		return c.fetchResponse(n)
	case bytes.EqualFold(word, []byte("EXISTS")):
		if x := c.oldest(func(x *Command) bool { return x.selected != nil }); x != nil {
			x.selected.Exists = n
		} else if f := c.handlers().Exists; f != nil {
			f(n)
		}
	case bytes.EqualFold(word, []byte("EXPUNGE")):
		if f := c.handlers().Expunge; f != nil {
			f(n)
		}
	}
	return c.skipLine()
}

// value takes one value of whatever form and gives its text, at most max bytes of it.
func (c *Client) value(depth, max int) (string, error) {
	if depth > imapwire.MaxDepth {
		return "", imapwire.ErrDepth
	}
	b, err := c.r.Peek()
	if err != nil {
		return "", err
	}
	switch b {
	case '"':
		q, err := c.r.Quoted()
		return string(q[:min(len(q), max)]), err
	case '{', '~':
		n, atom, err := c.literalOrAtom()
		if err != nil || n < 0 {
			return atom[:min(len(atom), max)], err
		}
		l := c.r.Literal(n)
		text, err := io.ReadAll(io.LimitReader(l, int64(max)))
		if err != nil {
			return "", err
		}
		return string(text), l.Rest()
	case '(':
		_, _ = c.r.Next()
		var out strings.Builder
		_ = out.WriteByte('(')
		for {
			b, err := c.r.Peek()
			if err != nil {
				return "", err
			}
			if b == ')' {
				_, _ = c.r.Next()
				_ = out.WriteByte(')')
				return out.String(), nil
			}
			if b == ' ' {
				_, _ = c.r.Next()
				if out.Len() < max {
					_ = out.WriteByte(' ')
				}
				continue
			}
			s, err := c.value(depth+1, max-min(out.Len(), max))
			if err != nil {
				return "", err
			}
			_, _ = out.WriteString(s)
		}
	case '\r', '\n', ')':
		return "", fmt.Errorf("%w: a value is missing", imapwire.ErrGrammar)
	}
	w, err := c.r.Word()
	if err != nil {
		return "", err
	}
	if len(w) == 0 {
		return "", fmt.Errorf("%w: %q where a value was expected", imapwire.ErrGrammar, b)
	}
	return string(w[:min(len(w), max)]), nil
}

// maxName bounds the name of a mailbox.
const maxName = 16 << 10

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
			return "", imapwire.ErrToken
		}
		text, err := io.ReadAll(c.r.Literal(n))
		return string(text), err
	}
	// Some servers send names with parentheses as atoms.
	w, err := c.r.Word()
	return string(w), err
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
