package corpus

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is how long a server may be silent.
const patience = 2 * time.Minute

// conn is an IMAP connection, one command at a time. It knows just what this package needs, on purpose: it checks others.
type conn struct {
	net net.Conn
	in  *bufio.Reader
	out *bufio.Writer

	caps        map[string]bool
	prefix, sep string // of the personal namespace
	tag         int
	number      uint32 // of the untagged response that is being read
}

// refused is a tagged NO or BAD.
type refused struct{ command, text string }

func (e *refused) Error() string { return e.command + ": " + e.text }

// dial connects, logs in and learns capabilities and namespace.
func dial(addr, user, pass string) (*conn, error) {
	nc, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	c := &conn{net: nc, in: bufio.NewReaderSize(nc, 64<<10), out: bufio.NewWriterSize(nc, 64<<10), caps: map[string]bool{}}
	if err := c.begin(user, pass); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) begin(user, pass string) error {
	if line, err := c.line(); err != nil || !strings.HasPrefix(line, "* OK") {
		return fmt.Errorf("greeting %q: %w", line, err)
	}
	if err := c.command(nil, "LOGIN %s %s", quote(user), quote(pass)); err != nil {
		return err
	}
	err := c.command(func(kind string) error {
		line, err := c.rest()
		for _, w := range strings.Fields(line) {
			c.caps[strings.ToUpper(w)] = c.caps[strings.ToUpper(w)] || kind == "CAPABILITY"
		}
		return err
	}, "CAPABILITY")
	if err != nil {
		return err
	}
	if c.caps["NAMESPACE"] {
		err = c.command(func(kind string) error {
			if kind != "NAMESPACE" {
				_, err := c.rest()
				return err
			}
			v, err := c.values()
			if len(v) > 0 && len(v[0].list) > 0 && len(v[0].list[0].list) > 1 {
				c.prefix, c.sep = v[0].list[0].list[0].text, v[0].list[0].list[1].text
			}
			return err
		}, "NAMESPACE")
	}
	if err != nil || c.sep != "" && c.prefix != "INBOX"+c.sep {
		return err
	}
	return c.command(func(kind string) error {
		if kind != "LIST" {
			_, err := c.rest()
			return err
		}
		v, err := c.values()
		if len(v) > 1 && c.sep == "" {
			c.sep = v[1].text
		}
		return err
	}, `LIST "" ""`)
}

func (c *conn) close() {
	_ = c.command(nil, "LOGOUT")
	c.net.Close()
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// send writes a command line without its end.
func (c *conn) send(format string, args ...any) error {
	_ = c.net.SetDeadline(time.Now().Add(patience))
	c.tag++
	_, err := fmt.Fprintf(c.out, "t%d "+format, append([]any{c.tag}, args...)...)
	return err
}

// command sends one and reads until its tagged answer. untagged is called behind each "* KIND "; it must read the rest of
// the response, and may be nil. A number before the kind is in c.number then. NO and BAD are *refused.
func (c *conn) command(untagged func(kind string) error, format string, args ...any) error {
	if err := c.send(format+"\r\n", args...); err != nil {
		return err
	}
	return c.answer(untagged, strings.Fields(format)[0])
}

func (c *conn) answer(untagged func(kind string) error, name string) error {
	if err := c.out.Flush(); err != nil {
		return err
	}
	for {
		_ = c.net.SetDeadline(time.Now().Add(patience))
		first, err := c.word()
		if err != nil {
			return err
		}
		if first != "*" {
			rest, err := c.rest()
			switch {
			case err != nil:
				return err
			case first == "+":
			case first != "t"+strconv.Itoa(c.tag):
				return fmt.Errorf("%s: unexpected %q %q", name, first, rest)
			case !strings.HasPrefix(strings.ToUpper(rest), "OK"):
				return &refused{name, rest}
			default:
				return nil
			}
			continue
		}
		kind, err := c.word()
		if n, bad := strconv.ParseUint(kind, 10, 32); err == nil && bad == nil {
			c.number = uint32(n)
			kind, err = c.word()
		}
		if err != nil {
			return err
		}
		if untagged != nil {
			err = untagged(strings.ToUpper(kind))
		} else {
			_, err = c.rest()
		}
		if err != nil {
			return err
		}
	}
}

// line reads to the end of a line.
func (c *conn) line() (string, error) {
	s, err := c.in.ReadString('\n')
	return strings.TrimRight(s, "\r\n"), err
}

// word reads up to a blank, which it takes, or the end of the line, which it leaves.
func (c *conn) word() (string, error) {
	var b []byte
	for {
		x, err := c.in.ReadByte()
		if err != nil {
			return "", err
		}
		if x == ' ' {
			return string(b), nil
		}
		if x == '\r' || x == '\n' {
			return string(b), c.in.UnreadByte()
		}
		b = append(b, x)
	}
}

// rest reads to the end of the response, literals included.
func (c *conn) rest() (string, error) {
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		all.WriteString(line)
		n, found := literal(line)
		if !found {
			return all.String(), nil
		}
		if _, err := io.CopyN(io.Discard, c.in, n); err != nil {
			return "", err
		}
	}
}

// literal tells whether a line ends with the announcement of one.
func literal(line string) (int64, bool) {
	i := strings.LastIndexByte(line, '{')
	if i < 0 || !strings.HasSuffix(line, "}") {
		return 0, false
	}
	n, err := strconv.ParseInt(line[i+1:len(line)-1], 10, 64)
	return n, err == nil
}

// value is a token of a response: an atom or string, or a list.
type value struct {
	text   string
	list   []value
	isList bool
}

// values reads the rest of a response, as tokens.
func (c *conn) values() ([]value, error) {
	var out []value
	for {
		x, err := c.in.ReadByte()
		switch {
		case err != nil:
			return nil, err
		case x == ' ' || x == '\r':
			continue
		case x == '\n':
			return out, nil
		}
		_ = c.in.UnreadByte()
		v, err := c.value(nil)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
}

// value reads one token. A string or literal goes to w instead, if that is not nil.
func (c *conn) value(w io.Writer) (value, error) {
	x, err := c.in.ReadByte()
	if err != nil {
		return value{}, err
	}
	if next, _ := c.in.Peek(1); x == '~' && string(next) == "{" { // literal8
		x, _ = c.in.ReadByte()
	}
	switch x {
	case '(':
		v := value{isList: true}
		for {
			x, err := c.in.ReadByte()
			if err != nil {
				return v, err
			}
			switch x {
			case ')':
				return v, nil
			case ' ':
				continue
			}
			_ = c.in.UnreadByte()
			e, err := c.value(nil)
			if err != nil {
				return v, err
			}
			v.list = append(v.list, e)
		}
	case '"':
		var b []byte
		for {
			x, err := c.in.ReadByte()
			if err != nil {
				return value{}, err
			}
			if x == '"' {
				break
			}
			if x == '\\' {
				if x, err = c.in.ReadByte(); err != nil {
					return value{}, err
				}
			}
			b = append(b, x)
		}
		return deliver(b, w)
	case '{':
		line, err := c.line()
		if err != nil {
			return value{}, err
		}
		n, found := literal(string(x) + line)
		if !found {
			return value{}, fmt.Errorf("no literal: %q", line)
		}
		if w != nil {
			return value{}, c.stream(w, n)
		}
		if n > 1<<20 {
			return value{}, errors.New("a literal of more than 1 MB where none is expected")
		}
		b := make([]byte, n)
		_, err = io.ReadFull(c.in, b)
		return value{text: string(b)}, err
	}
	b := []byte{x}
	for {
		x, err := c.in.ReadByte()
		if err != nil {
			return value{}, err
		}
		if x == ' ' || x == ')' || x == '(' || x == '\r' || x == '\n' {
			_ = c.in.UnreadByte()
			if w != nil && strings.EqualFold(string(b), "NIL") {
				b = nil
			}
			return deliver(b, w)
		}
		b = append(b, x)
	}
}

func deliver(b []byte, w io.Writer) (value, error) {
	if w == nil {
		return value{text: string(b)}, nil
	}
	_, err := w.Write(b)
	return value{}, err
}

// stream copies a literal, giving the server time as long as bytes come.
func (c *conn) stream(w io.Writer, n int64) error {
	for n > 0 {
		_ = c.net.SetDeadline(time.Now().Add(patience))
		k, err := io.CopyN(w, c.in, min(n, 1<<20))
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}
