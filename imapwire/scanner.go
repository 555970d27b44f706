package imapwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Limits of what a Scanner holds at once. What is longer is a *LimitError, or is handed out in pieces.
const (
	ScanWindow = 64 << 10  // bytes read ahead, at most
	MaxToken   = 16 << 10  // an atom, a number, a section, a line of text that is kept
	MaxQuoted  = 64 << 10  // a quoted string
	MaxDepth   = 100       // parentheses in one another
	MaxLiteral = 1<<32 - 1 // what a literal may claim to be (RFC 3501, section 9: number)
)

// ErrGrammar means that what came is not what was asked for. The Scanner stands in front of what it could not take, never
// behind the end of the line: SkipLine may pass over the rest.
var ErrGrammar = errors.New("not IMAP")

// LimitError means that the other end has sent more than is held or taken. The stream is lost.
type LimitError struct {
	What string // in the plural, such as "bytes of an atom"
	Max  int64
}

func (e *LimitError) Error() string { return fmt.Sprintf("more than %d %s", e.Max, e.What) }

func tooLong(what string, max int) error { return &LimitError{"bytes of " + what, int64(max)} }

// Scanner takes what a server says apart, token by token (RFC 9051, section 9). Lines may be of any length; nothing but the
// token at hand is held. It is not safe for concurrent use. Slices that it returns are valid until the next call.
type Scanner struct {
	r        io.Reader
	buf      []byte // the window
	pos, end int
	little   int    // reads in a row that a small window would have held
	hold     []byte // a token that did not fit into the window's rest
}

// A window is as large as what comes needs: of connections that wait there are many, and each has one.
const (
	smallWindow = 4 << 10 // bytes
	manyLittle  = 16      // reads in a row, until a window that has grown is small again
)

// NewScanner reads from r.
func NewScanner(r io.Reader) *Scanner { return &Scanner{r: r, buf: make([]byte, smallWindow)} }

// Swap puts another stream in the place of the present one. What was read ahead is given to wrap.
func (s *Scanner) Swap(wrap func(ahead []byte) io.Reader) {
	s.r = wrap(bytes.Clone(s.buf[s.pos:s.end]))
	s.pos, s.end = 0, 0
}

// Buffered is how many bytes are there without reading.
func (s *Scanner) Buffered() int { return s.end - s.pos }

// more reads at least one byte into the window, which is empty.
func (s *Scanner) more() error {
	if s.end == len(s.buf) && s.end < ScanWindow { // there was more than it held
		s.buf = make([]byte, 2*s.end)
	} else if s.little >= manyLittle && len(s.buf) > smallWindow {
		s.buf = make([]byte, smallWindow)
	}
	s.pos, s.end = 0, 0
	for range 100 {
		n, err := s.r.Read(s.buf)
		if n > 0 {
			if s.end = n; n < smallWindow {
				s.little++
			} else {
				s.little = 0
			}
			return nil // the error comes back at the next call
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return io.ErrNoProgress
}

// Peek looks at the next byte.
func (s *Scanner) Peek() (byte, error) {
	if s.pos == s.end {
		if err := s.more(); err != nil {
			return 0, err
		}
	}
	return s.buf[s.pos], nil
}

// Next takes the next byte.
func (s *Scanner) Next() (byte, error) {
	c, err := s.Peek()
	if err == nil {
		s.pos++
	}
	return c, err
}

// Expect takes a byte that has to be there.
func (s *Scanner) Expect(want byte) error {
	c, err := s.Peek()
	if err != nil {
		return err
	}
	if c != want {
		return fmt.Errorf("%w: %q where %q was expected", ErrGrammar, c, want)
	}
	s.pos++
	return nil
}

// Take takes a byte if it is the next one.
func (s *Scanner) Take(want byte) (bool, error) {
	c, err := s.Peek()
	if err != nil || c != want {
		return false, err
	}
	s.pos++
	return true, nil
}

// until takes bytes up to one for which stop holds, at most max of them.
func (s *Scanner) until(max int, stop func(byte) bool) ([]byte, error) {
	s.hold = s.hold[:0]
	for {
		if s.pos == s.end {
			if err := s.more(); err != nil {
				return nil, err
			}
		}
		w := s.buf[s.pos:s.end]
		for i, c := range w {
			if stop(c) {
				s.pos += i
				if len(s.hold)+i > max {
					return nil, tooLong("a token", max)
				}
				if len(s.hold) == 0 {
					return w[:i], nil
				}
				s.hold = append(s.hold, w[:i]...)
				return s.hold, nil
			}
		}
		if len(s.hold)+len(w) > max {
			return nil, tooLong("a token", max)
		}
		s.hold = append(s.hold, w...)
		s.pos = s.end
	}
}

// Word takes bytes up to a space, a parenthesis or the end of the line. It may be empty.
func (s *Scanner) Word() ([]byte, error) {
	return s.until(MaxToken, func(c byte) bool { return c == ' ' || c == '(' || c == ')' || c == '\r' || c == '\n' })
}

// Name takes the name of a FETCH item: as Word, and up to a bracket.
func (s *Scanner) Name() ([]byte, error) {
	return s.until(MaxToken, func(c byte) bool {
		return c == ' ' || c == '(' || c == ')' || c == '[' || c == '\r' || c == '\n'
	})
}

// Section takes what stands up to the bracket that ends a section, and the bracket. Header lists may hold quoted strings
// with brackets; a literal among them is given as a quoted string.
func (s *Scanner) Section() ([]byte, error) {
	var whole []byte // when there are literals
	for {
		quoted := false
		b, err := s.bracketed(MaxToken, &quoted)
		if err != nil {
			return nil, err
		}
		if s.buf[s.pos] == ']' {
			s.pos++
			if whole == nil {
				return b, nil
			}
			return append(whole, b...), nil
		}
		size, _, ok := parseLiteral(b)
		if quoted || !ok {
			return nil, fmt.Errorf("%w: a line ends in a section", ErrGrammar)
		}
		whole = append(whole, b[:bytes.LastIndexByte(b, '{')]...)
		if size > uint64(MaxToken-min(len(whole), MaxToken)) {
			return nil, tooLong("a section", MaxToken)
		}
		if err := s.EndOfLine(); err != nil {
			return nil, err
		}
		text := make([]byte, size)
		if _, err := io.ReadFull(s.Literal(int64(size)), text); err != nil {
			return nil, err
		}
		whole = append(whole, '"')
		for _, c := range text {
			if c == '"' || c == '\\' {
				whole = append(whole, '\\')
			}
			whole = append(whole, c)
		}
		whole = append(whole, '"')
	}
}

// bracketed takes bytes up to a bracket outside quotes, or the end of the line.
func (s *Scanner) bracketed(max int, quoted *bool) ([]byte, error) {
	escaped := false
	return s.until(max, func(c byte) bool {
		switch {
		case c == '\r' || c == '\n':
			return true
		case escaped:
			escaped = false
		case *quoted && c == '\\':
			escaped = true
		case c == '"':
			*quoted = !*quoted
		case c == ']' && !*quoted:
			return true
		}
		return false
	})
}

// Code takes a response code, "[NAME arguments]" (RFC 9051, section 7.1), of at most max bytes. Without a bracket that
// closes it, ok is false and b is the line as it stands.
func (s *Scanner) Code(max int) (b []byte, ok bool, err error) {
	if err := s.Expect('['); err != nil {
		return nil, false, err
	}
	quoted := false
	if b, err = s.bracketed(max, &quoted); err != nil {
		return nil, false, err
	}
	if cap(s.hold) > MaxQuoted {
		s.hold = nil // nobody else needs so much
	}
	if s.buf[s.pos] != ']' {
		return append([]byte("["), b...), false, nil
	}
	s.pos++
	return b, true, nil
}

// SkipLine passes over the rest of a response, with the literals in it and the end of its last line. A quote that nothing
// closes, and a brace that is no literal, are text.
func (s *Scanner) SkipLine() error {
	quoted := false
	for {
		c, err := s.Next()
		if err != nil {
			return err
		}
		switch {
		case c == '\n':
			return nil
		case quoted && c == '\\':
			if c, err = s.Peek(); err != nil {
				return err
			}
			if c != '\r' && c != '\n' {
				s.pos++
			}
		case c == '"':
			quoted = !quoted
		case c == '{' && !quoted:
			s.pos-- // Next has just taken it out of the window
			n, err := s.LiteralSize()
			if err == nil {
				err = s.Literal(n).Rest()
			}
			if err != nil && !errors.Is(err, ErrGrammar) { // no literal: the brace has been passed over
				return err
			}
		}
	}
}

// Line takes the rest of the line and its end. Bytes beyond MaxToken are passed over.
func (s *Scanner) Line() ([]byte, error) {
	var line []byte
	for {
		if s.pos == s.end {
			if err := s.more(); err != nil {
				return nil, err
			}
		}
		w := s.buf[s.pos:s.end]
		i := bytes.IndexByte(w, '\n')
		part := w
		if i >= 0 {
			part = w[:i]
		}
		if i >= 0 && line == nil {
			s.pos += i + 1
			return bytes.TrimSuffix(part[:min(len(part), MaxToken)], []byte("\r")), nil
		}
		line = append(line, part[:min(len(part), MaxToken-len(line))]...)
		if i >= 0 {
			s.pos += i + 1
			return bytes.TrimSuffix(line, []byte("\r")), nil
		}
		s.pos = s.end
	}
}

// WholeLine takes the rest of the line and its end, at most max bytes.
func (s *Scanner) WholeLine(max int) ([]byte, error) {
	b, err := s.until(max, func(c byte) bool { return c == '\n' })
	if err != nil {
		return nil, err
	}
	s.pos++
	return bytes.TrimSuffix(b, []byte("\r")), nil
}

// EndOfLine takes CRLF; a lone LF will do.
func (s *Scanner) EndOfLine() error {
	if _, err := s.Take('\r'); err != nil {
		return err
	}
	return s.Expect('\n')
}

// Number takes digits. There has to be one at least, and no more than fit into 64 bits.
func (s *Scanner) Number() (uint64, error) {
	var n uint64
	for digits := 0; ; digits++ {
		c, err := s.Peek()
		if err != nil {
			return 0, err
		}
		if c < '0' || c > '9' {
			if digits == 0 {
				return 0, fmt.Errorf("%w: %q where a number was expected", ErrGrammar, c)
			}
			return n, nil
		}
		if digits == 19 {
			return 0, &LimitError{"digits of a number", 19}
		}
		n = n*10 + uint64(c-'0')
		s.pos++
	}
}

// Number32 is Number for what fits into 32 bits.
func (s *Scanner) Number32() (uint32, error) {
	n, err := s.Number()
	if err == nil && n > 1<<32-1 {
		err = fmt.Errorf("%w: number too large", ErrGrammar)
	}
	return uint32(n), err
}

// Quoted takes a quoted string with its quotes, and returns what it says.
func (s *Scanner) Quoted() ([]byte, error) {
	if err := s.Expect('"'); err != nil {
		return nil, err
	}
	s.hold = s.hold[:0]
	for escaped := false; ; {
		c, err := s.Peek()
		if err != nil {
			return nil, err
		}
		if c == '\r' || c == '\n' {
			return nil, fmt.Errorf("%w: line ends in a quoted string", ErrGrammar)
		}
		s.pos++
		if !escaped {
			if c == '"' {
				return s.hold, nil
			}
			if c == '\\' {
				escaped = true
				continue
			}
		}
		escaped = false
		if len(s.hold) >= MaxQuoted {
			return nil, tooLong("a quoted string", MaxQuoted)
		}
		s.hold = append(s.hold, c)
	}
}

// LiteralSize takes the head of a literal, "{n}" or "~{n}", and the end of its line.
func (s *Scanner) LiteralSize() (int64, error) {
	if _, err := s.Take('~'); err != nil {
		return 0, err
	}
	if err := s.Expect('{'); err != nil {
		return 0, err
	}
	n, err := s.Number()
	if err != nil {
		return 0, err
	}
	if n > MaxLiteral {
		return 0, &LimitError{"bytes of a literal", MaxLiteral}
	}
	if _, err := s.Take('+'); err != nil {
		return 0, err
	}
	if err := s.Expect('}'); err != nil {
		return 0, err
	}
	return int64(n), s.EndOfLine()
}

// Literal is what follows a literal's head. It ends after size bytes with io.EOF. Rest passes over what was not read.
type Literal struct {
	s    *Scanner
	left int64
}

// Literal hands out the next n bytes.
func (s *Scanner) Literal(n int64) *Literal { return &Literal{s, n} }

// Read implements io.Reader.
func (l *Literal) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	s := l.s
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	if s.pos == s.end {
		if len(p) >= len(s.buf) { // no need to go through the window
			n, err := s.r.Read(p)
			l.left -= int64(n)
			if n > 0 {
				return n, nil
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if err := s.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.pos:s.end])
	s.pos += n
	l.left -= int64(n)
	return n, nil
}

// WriteTo implements io.WriterTo: the window is written as it is.
func (l *Literal) WriteTo(w io.Writer) (total int64, err error) {
	s := l.s
	for l.left > 0 {
		if s.pos == s.end {
			if err := s.more(); err != nil {
				return total, err
			}
		}
		p := s.buf[s.pos:s.end]
		if int64(len(p)) > l.left {
			p = p[:l.left]
		}
		n, err := w.Write(p)
		s.pos += n
		l.left -= int64(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Rest passes over what was not read.
func (l *Literal) Rest() error {
	_, err := l.WriteTo(io.Discard)
	return err
}

// Len is how many bytes are left.
func (l *Literal) Len() int64 { return l.left }
