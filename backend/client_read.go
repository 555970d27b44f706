package backend

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"

	"mailgate/config"
	"mailgate/imapwire"
)

// readState is what the reader keeps between responses.
type readState struct {
	// closed is why the mailbox that was asked for last could not be opened. None is open then (RFC 9051, section 6.3.2), but should a
	// server keep the one before, what it says to the commands behind is about the wrong one.
	closed *StatusError

	message  Message // reused
	bye      *StatusError
	name     []byte // of a FETCH item
	last     string // the same, of the item before
	other    int    // bytes of Message.Other
	ended    bool   // nothing more can be read
	respells bool   // it answers STATUS by other names than it was asked
}

// read takes what the server says until the connection ends.
func (c *Client) read() {
	defer close(c.end)
	for {
		if err := c.safeResponse(); err != nil {
			_ = c.fail(c.mute(c.reason(err)))
			_ = c.conn.Close()
			return
		}
	}
}

// DefectError is a defect of the program that ended a connection: a handler panicked, or the reader did.
type DefectError struct {
	Value any
	Stack []byte // for the log
}

func (e *DefectError) Error() string {
	return fmt.Sprintf("a defect of mailgate ended the connection: %v", e.Value)
}

// safeResponse is response where a defect, in a handler most likely, ends this connection and nothing else.
func (c *Client) safeResponse() (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &DefectError{v, debug.Stack()}
		}
	}()
	return c.response()
}

// reason is why the connection has ended: what the server said last, or what it did not take, rather than how reading failed.
func (c *Client) reason(err error) error {
	if !c.rs.ended && !tolerable(err) { // a limit, or a handler
		return err
	}
	if c.rs.bye != nil {
		return c.rs.bye
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsent != nil {
		err = c.unsent
	}
	return err
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
	case '\r', '\n': // an empty line
		return c.r.SkipLine()
	}
	tag, err := c.r.Word()
	if err != nil {
		return err
	}
	return c.tagged(string(tag))
}

// statusText takes what follows OK, NO, BAD or BYE: a response code, whole, and the text.
func (c *Client) statusText() (code Code, text string, err error) {
	if _, err := c.r.Take(' '); err != nil {
		return code, "", err
	}
	b, err := c.r.Peek()
	if err != nil {
		return code, "", err
	}
	if b == '[' {
		inside, ok, err := c.r.Code(maxCode)
		if err != nil {
			return code, "", err
		}
		if ok {
			name, args, _ := bytes.Cut(inside, []byte(" "))
			code = Code{Name: strings.ToUpper(string(name)), Args: string(args)}
			if _, err := c.r.Take(' '); err != nil {
				return code, "", err
			}
		} else {
			text = string(inside[:min(len(inside), imapwire.MaxToken)])
		}
	}
	line, err := c.r.Line()
	return code, text + string(line), err
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
func (c *Client) tagged(tag string) error {
	if _, err := c.r.Take(' '); err != nil {
		return err
	}
	word, err := c.r.Word()
	if err != nil {
		return err
	}
	status := strings.ToUpper(string(word))
	if status != "OK" && status != "NO" && status != "BAD" {
		return fmt.Errorf("%w: no status in %q", imapwire.ErrGrammar, printable(tag+" "+status))
	}
	code, text, err := c.statusText()
	if err != nil {
		return err
	}
	x := c.ended(tag)
	if x == nil {
		return nil
	}
	if x.silence() > briefSilence { // a machine whose storage hangs answers what needs none
		c.health.heard(config.IMAP)
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
	case status == "OK" || x.futile:
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
		code, text, err := c.statusText()
		if err != nil {
			return err
		}
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
				if len(c.enabled) < maxList {
					c.enabled[strings.ToUpper(s)] = true
				}
			}
		})
	case "FLAGS":
		line, err := c.r.WholeLine(maxItem)
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
		return c.passable(c.statusResponse())
	default:
		return c.otherResponse(kind)
	}
}

// words takes the words up to the end of the line.
func (c *Client) words(f func([]string)) error {
	line, err := c.r.WholeLine(maxItem)
	if err != nil {
		return err
	}
	f(strings.Fields(string(line)))
	return nil
}

// otherResponse gives a response to the command that asked for such, or passes over it. One that cannot be understood fails
// the command that wants it, not the connection.
func (c *Client) otherResponse(kind string) error {
	x := c.oldest(func(x *Command) bool { return x.other != nil })
	if x != nil {
		taken, err := x.other(kind)
		if tolerable(err) {
			_ = x.tell(err)
		}
		if taken || err != nil {
			return c.passable(err)
		}
	}
	return c.r.SkipLine()
}

// passable passes over the rest of a response that nobody will miss and that could not be understood.
func (c *Client) passable(err error) error {
	if tolerable(err) {
		return c.r.SkipLine()
	}
	return err
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
	return c.r.SkipLine()
}
