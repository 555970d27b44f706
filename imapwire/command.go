package imapwire

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Errors of CommandReader. After ErrSyntax, ErrLiteralSync the reader stands behind the command and may go on; after
// the others the stream is lost and must be closed.
var (
	ErrSyntax      = errors.New("syntax error")
	ErrLineLength  = errors.New("command line too long")
	ErrLiteralSync = errors.New("literal too long")                   // refused before the client sent it
	ErrLiteralData = errors.New("non-synchronizing literal too long") // its bytes are on their way
	ErrControl     = errors.New("NUL, or CR without LF")              // RFC 9051, section 9: no command has these
)

// Command is a command before login.
type Command struct {
	Tag  string
	Name string   // upper case
	Args []string // atoms, strings and literals in order; the parentheses of ID are dropped, NIL is kept as it is
}

// CommandReader reads commands from a client who has not logged in. Each limit holds for a whole command.
type CommandReader struct {
	R          *bufio.Reader
	MaxLine    int          // bytes of all lines of a command
	MaxLiteral int          // bytes of one literal
	MaxArgs    int          // arguments
	Continue   func() error // sends "+ ..." for a synchronizing literal
}

// Read reads one command. On ErrSyntax and ErrLiteralSync the command has its tag, if one could be read.
func (r *CommandReader) Read() (Command, error) {
	var c Command
	var p parser
	left := r.MaxLine
	for first := true; ; first = false {
		line, err := r.line(&left)
		if err != nil {
			return c, err
		}
		text, size, sync, literal := splitLiteral(line)
		p.feed(text)
		if first {
			c.Tag, c.Name = p.head()
		}
		p.args(r.MaxArgs)
		if !literal {
			break
		}
		if size > uint64(r.MaxLiteral) || size > uint64(left) {
			if sync {
				return c, ErrLiteralSync
			}
			return c, ErrLiteralData
		}
		if sync {
			if err := r.Continue(); err != nil {
				return c, err
			}
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(r.R, b); err != nil {
			return c, fmt.Errorf("literal: %w", err)
		}
		left -= int(size)
		p.out = append(p.out, string(b))
	}
	c.Args = p.out
	if p.err != nil {
		return c, p.err
	}
	return c, nil
}

// Line reads one line, such as a SASL response, without its CRLF.
func (r *CommandReader) Line(limit int) (string, error) {
	b, err := r.line(&limit)
	return string(b), err
}

// line reads up to CRLF (or a bare LF, which clients by hand send) and takes its length off left.
func (r *CommandReader) line(left *int) ([]byte, error) {
	var line []byte
	for {
		b, err := r.R.ReadSlice('\n')
		if *left -= len(b); *left < 0 {
			return nil, ErrLineLength
		}
		line = append(line, b...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if len(line) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	for _, c := range line {
		if c == 0 || c == '\r' {
			return nil, ErrControl
		}
	}
	return line, nil
}

func splitLiteral(line []byte) (text string, size uint64, sync, ok bool) {
	size, sync, ok = parseLiteral(line)
	if !ok {
		if n := len(line); n > 2 && line[n-1] == '}' && hugeLiteral(line) {
			return string(line), 1 << 62, !strings.HasSuffix(string(line), "+}"), true
		}
		return string(line), 0, false, false
	}
	i := strings.LastIndexByte(string(line), '{')
	return string(line[:i]), size, sync, true
}

// hugeLiteral recognises a size of more digits than a number has: it must be refused as a literal, not read as text.
func hugeLiteral(line []byte) bool {
	i := len(line) - 2
	if line[i] == '+' {
		i--
	}
	digits := 0
	for ; i >= 0 && line[i] >= '0' && line[i] <= '9'; i-- {
		digits++
	}
	return digits > 18 && i >= 0 && line[i] == '{'
}

// parser splits lines into arguments.
type parser struct {
	s     string
	out   []string
	depth int
	err   error
}

func (p *parser) feed(s string) { p.s = s }

func (p *parser) fail() {
	if p.err == nil {
		p.err = ErrSyntax
	}
	p.s = ""
}

// head takes tag and name off the first line.
func (p *parser) head() (tag, name string) {
	tag, rest, _ := strings.Cut(p.s, " ")
	if !validTag(tag) {
		p.fail()
		return "", ""
	}
	name, args, more := strings.Cut(rest, " ")
	if name == "" {
		p.fail()
		return tag, ""
	}
	p.s = args
	if more && args == "" { // "a1 LOGIN " may go on with a literal; alone it is an error that the command finds
		p.s = ""
	}
	return tag, upperASCII(name)
}

// upperASCII leaves other letters alone: no command has any, and some fold to ASCII ones.
func upperASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = upper(c)
	}
	return string(b)
}

// validTag follows RFC 9051, section 9: 1*<any ASTRING-CHAR except "+">, here at most 64 of them.
func validTag(tag string) bool {
	if tag == "" || len(tag) > 64 {
		return false
	}
	for i := 0; i < len(tag); i++ {
		if !tagChar(tag[i]) {
			return false
		}
	}
	return true
}

func tagChar(c byte) bool { return c > ' ' && c < 0x7f && strings.IndexByte(`(){%*"\+`, c) < 0 }

// args reads what is left of the line.
func (p *parser) args(most int) {
	for p.s != "" && p.err == nil {
		switch c := p.s[0]; c {
		case ' ':
			p.s = p.s[1:]
		case '(':
			if p.depth++; p.depth > 4 {
				p.fail()
				return
			}
			p.s = p.s[1:]
		case ')':
			if p.depth--; p.depth < 0 {
				p.fail()
				return
			}
			p.s = p.s[1:]
		case '"':
			p.quoted()
		default:
			p.atom()
		}
		if len(p.out) > most {
			p.fail()
		}
	}
}

func (p *parser) quoted() {
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; c {
		case '\\':
			i++
			if i == len(p.s) || p.s[i] != '\\' && p.s[i] != '"' {
				p.fail()
				return
			}
			b.WriteByte(p.s[i])
		case '"':
			p.out = append(p.out, b.String())
			p.s = p.s[i+1:]
			if p.s != "" && p.s[0] != ' ' && p.s[0] != ')' {
				p.fail()
			}
			return
		default:
			b.WriteByte(c)
		}
	}
	p.fail()
}

func (p *parser) atom() {
	i := strings.IndexAny(p.s, ` ()"`)
	if i < 0 {
		i = len(p.s)
	}
	if i == 0 || i < len(p.s) && (p.s[i] == '"' || p.s[i] == '(') {
		p.fail()
		return
	}
	p.out = append(p.out, p.s[:i])
	p.s = p.s[i:]
}
