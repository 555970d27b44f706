package imapwire

import (
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

// FuzzScanner takes anything apart in any way: an error, never a panic, and no more than the limits.
func FuzzScanner(f *testing.F) {
	f.Add([]byte("* 1 FETCH (UID 1 BODY[] {3}\r\nabc)\r\n"), []byte{0, 1, 2, 3, 4, 5, 6, 7})
	f.Add([]byte("\"a\\\"b\" ~{3}\r\nabc 99999999999999999999"), []byte{3, 4, 2, 2})
	f.Fuzz(func(t *testing.T, b, how []byte) {
		s := NewScanner(iotest.HalfReader(strings.NewReader(string(b))))
		for _, h := range how {
			var err error
			switch h % 8 {
			case 0:
				_, err = s.Word()
			case 1:
				_, err = s.Name()
			case 2:
				_, err = s.Number()
			case 3:
				_, err = s.Quoted()
			case 4:
				var n int64
				if n, err = s.LiteralSize(); err == nil {
					err = s.Literal(n).Rest()
				}
			case 5:
				_, err = s.Section()
			case 6:
				var line []byte
				if line, err = s.Line(); len(line) > MaxToken {
					t.Fatal("too long")
				}
			case 7:
				_, err = s.Next()
			}
			if err == io.ErrUnexpectedEOF {
				return
			}
		}
	})
}
