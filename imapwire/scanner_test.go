package imapwire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestScanner reads one of everything, in whatever pieces it comes.
func TestScanner(t *testing.T) {
	const text = "word(\"quo\\\"ted\" 42) {5}\r\nhello ~{3+}\r\na\x00b X[HEADER (\"]\")] rest of it\r\nnext\n"
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)), "late end": iotest.DataErrReader(strings.NewReader(text))} {
		s := NewScanner(r)
		want := func(what string, got []byte, err error) {
			t.Helper()
			if err != nil || string(got) != what {
				t.Errorf("%s: %q, %v; want %q", name, got, err, what)
			}
		}
		skip := func(c byte) {
			t.Helper()
			if err := s.Expect(c); err != nil {
				t.Error(name, err)
			}
		}
		b, err := s.Word()
		want("word", b, err)
		skip('(')
		b, err = s.Quoted()
		want(`quo"ted`, b, err)
		skip(' ')
		if n, err := s.Number(); n != 42 || err != nil {
			t.Error(name, n, err)
		}
		skip(')')
		skip(' ')
		for _, lit := range []string{"hello", "a\x00b"} {
			n, err := s.LiteralSize()
			if err != nil {
				t.Fatal(name, err)
			}
			b, err = io.ReadAll(s.Literal(n))
			want(lit, b, err)
			skip(' ')
		}
		b, err = s.Name()
		want("X", b, err)
		skip('[')
		b, err = s.Section()
		want(`HEADER ("]")`, b, err)
		b, err = s.Line()
		want(" rest of it", b, err)
		b, err = s.Line()
		want("next", b, err)
		if _, err := s.Peek(); err != io.ErrUnexpectedEOF {
			t.Error(name, err)
		}
	}
}

// TestScannerOdd: what is not there is told in front of the line's end, so that the rest can be passed over.
func TestScannerOdd(t *testing.T) {
	for _, c := range []struct {
		text string
		take func(*Scanner) ([]byte, error)
		want string // "" for ErrGrammar
		rest string // of the line
	}{
		{"\"abc", (*Scanner).Quoted, "", ""},
		{"\"abc\\", (*Scanner).Quoted, "", ""},
		{"\"a\\\"\\\\\" x", (*Scanner).Quoted, `a"\`, " x"},
		{"HEADER ({3}\r\nFoo {2+}\r\n\"\\)] x", (*Scanner).Section, `HEADER ("Foo" "\"\\")`, " x"},
		{"HEADER (\"a {3}", (*Scanner).Section, "", ""},
		{"HEADER", (*Scanner).Section, "", ""},
		{"abc\rdef", func(s *Scanner) ([]byte, error) { return s.WholeLine(100) }, "abc\rdef", "next"},
		{"[A \"]\" b]c", func(s *Scanner) ([]byte, error) { b, _, err := s.Code(100); return b, err }, `A "]" b`, "c"},
		{"[A \"] b", func(s *Scanner) ([]byte, error) { b, _, err := s.Code(100); return b, err }, `[A "] b`, ""},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(c.text + "\r\nnext\r\n"), "bytes": iotest.OneByteReader(strings.NewReader(c.text + "\r\nnext\r\n"))} {
			s := NewScanner(r)
			b, err := c.take(s)
			if string(b) != c.want || (c.want == "") != errors.Is(err, ErrGrammar) {
				t.Errorf("%s: %q: %q, %v", name, c.text, b, err)
			}
			if rest, err := s.Line(); err != nil || string(rest) != c.rest {
				t.Errorf("%s: %q: behind it %q, %v", name, c.text, rest, err)
			}
		}
	}
	var limit *LimitError
	for text, take := range map[string]func(*Scanner) error{
		strings.Repeat("x", MaxToken+1) + "\n":     func(s *Scanner) error { _, err := s.Word(); return err },
		"\"" + strings.Repeat("x", MaxQuoted+1):    func(s *Scanner) error { _, err := s.Quoted(); return err },
		strings.Repeat("{1}\r\nx", MaxToken) + "]": func(s *Scanner) error { _, err := s.Section(); return err },
		"{4294967296}\r\n":                         func(s *Scanner) error { _, err := s.LiteralSize(); return err },
		"{99999999999999999999}\r\n":               (*Scanner).SkipLine,
		"[" + strings.Repeat("x", 101) + "]\n":     func(s *Scanner) error { _, _, err := s.Code(100); return err },
		strings.Repeat("x", 101) + "\n":            func(s *Scanner) error { _, err := s.WholeLine(100); return err },
	} {
		if err := take(NewScanner(strings.NewReader(text))); !errors.As(err, &limit) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// TestSkipLine passes over one response, whatever is in it, and no more.
func TestSkipLine(t *testing.T) {
	for _, text := range []string{"", "a b", "\"a", "a \"b\\", "{3}\r\na\"\n", "x {2}\r\n\r\n ~{1+}\r\n\" \"{5}\" {1}x {}", "{x {1}\r\n\n", "(((", "\r \r", "{1 2}"} {
		s := NewScanner(iotest.OneByteReader(strings.NewReader(text + "\r\nnext\r\n")))
		err := s.SkipLine()
		if next, err2 := s.Line(); err != nil || err2 != nil || string(next) != "next" {
			t.Errorf("%q: %v %v, then %q", text, err, err2, next)
		}
	}
}

// FuzzScanner takes anything apart in any way: an error, never a panic, no more than the limits, and the same in whatever
// pieces it comes.
func FuzzScanner(f *testing.F) {
	f.Add([]byte("* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n"), []byte{0, 7, 0, 7, 0, 7, 7, 0, 7, 0, 7, 1, 7, 5, 7, 4, 8})
	f.Add([]byte("\"a\\\"b\" ~{3}\r\nabc 99999999999999999999"), []byte{3, 7, 4, 7, 2})
	f.Add([]byte("[COPYUID 1 2 3] x\r\nHEADER.FIELDS ({3}\r\nabc)] {2}\r\nab\"\r\n"), []byte{9, 6, 5, 8, 10})
	f.Add([]byte("* OK [X \"]\" y] z\r\n{5}\r\nab\r\nc\r\n"), []byte{0, 7, 0, 7, 9, 10, 11, 6})
	f.Fuzz(func(t *testing.T, b, how []byte) {
		s := NewScanner(iotest.HalfReader(bytes.NewReader(b)))
		one := NewScanner(iotest.OneByteReader(bytes.NewReader(b)))
		for _, h := range how {
			got, err := scan(s, h)
			got = bytes.Clone(got)
			again, slow := scan(one, h)
			if !bytes.Equal(got, again) || (err == nil) != (slow == nil) || err != nil && slow != nil && err.Error() != slow.Error() {
				t.Fatalf("%d: %q, %v; byte by byte %q, %v", h%12, got, err, again, slow)
			}
			var limit *LimitError
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &limit) {
				return
			}
			if err != nil && !errors.Is(err, ErrGrammar) {
				t.Fatal(err)
			}
			if len(got) > MaxQuoted {
				t.Fatalf("%d: %d bytes", h%12, len(got))
			}
		}
	})
}

// scan takes something of one kind.
func scan(s *Scanner, kind byte) (b []byte, err error) {
	switch kind % 12 {
	case 0:
		return s.Word()
	case 1:
		return s.Name()
	case 2:
		n, err := s.Number32()
		return []byte(fmt.Sprint(n)), err
	case 3:
		return s.Quoted()
	case 4:
		n, err := s.LiteralSize()
		if err != nil {
			return nil, err
		}
		l := s.Literal(n)
		if b, err = io.ReadAll(io.LimitReader(l, 10)); err == nil {
			err = l.Rest()
		}
		return b, err
	case 5:
		return s.Section()
	case 6:
		return s.Line()
	case 7:
		c, err := s.Next()
		return []byte{c}, err
	case 8:
		return nil, s.SkipLine()
	case 9:
		b, _, err = s.Code(1000)
		return b, err
	case 10:
		return s.WholeLine(1000)
	}
	return nil, s.EndOfLine()
}
