package imapwire

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func reader(s string, asked *int) *CommandReader {
	return &CommandReader{R: bufio.NewReaderSize(strings.NewReader(s), 16), MaxLine: 200, MaxLiteral: 50, MaxArgs: 6,
		Continue: func() error { *asked++; return nil }}
}

func TestCommandReader(t *testing.T) {
	for _, tt := range []struct {
		in    string
		name  string
		args  []string
		asked int // continuation requests
		err   error
		rest  string
	}{
		{in: "a noop\r\nrest", name: "NOOP", rest: "rest"},
		{in: "a noop\nrest", name: "NOOP", rest: "rest"},
		{in: "a \u017fTARTTLS\r\n", name: "\u017fTARTTLS"}, // a long s is no S
		{in: "a LOGIN u p\r\n", name: "LOGIN", args: []string{"u", "p"}},
		{in: "a LOGIN \"u \\\"\\\\\" \"{5}\"\r\nx", name: "LOGIN", args: []string{`u "\`, "{5}"}, rest: "x"},
		{in: "a LOGIN {1}\r\nu {2}\r\np \r\nx", name: "LOGIN", args: []string{"u", "p "}, asked: 2, rest: "x"},
		{in: "a LOGIN {1+}\r\nu {2}\r\np \r\n", name: "LOGIN", args: []string{"u", "p "}, asked: 1},
		{in: "a LOGIN {1+}\r\nu {2+}\r\np \r\n", name: "LOGIN", args: []string{"u", "p "}},
		{in: "a LOGIN {1+}\r\nu p\r\n", name: "LOGIN", args: []string{"u", "p"}},
		{in: "a LOGIN u {0+}\r\n\r\n", name: "LOGIN", args: []string{"u", ""}},
		{in: "a LOGIN \"\" {6+}\r\nä\r\n\x01z\r\n", name: "LOGIN", args: []string{"", "ä\r\n\x01z"}},
		{in: "a ID (\"a\" {1}\r\nb \"c\" NIL)\r\n", name: "ID", args: []string{"a", "b", "c", "NIL"}, asked: 1},
		{in: "a LOGIN u {5-}\r\nx", name: "LOGIN", args: []string{"u", "{5-}"}, rest: "x"},
		{in: "a LOGIN u {51}\r\nx", name: "LOGIN", err: ErrLiteralSync, rest: "x"},
		{in: "a LOGIN u {51+}\r\nx", name: "LOGIN", err: ErrLiteralData, rest: "x"},
		{in: "a LOGIN {4294967295}\r\n", name: "LOGIN", err: ErrLiteralSync},
		{in: "a LOGIN {18446744073709551617}\r\n", name: "LOGIN", err: ErrLiteralSync},
		{in: "a LOGIN {99999999999999999999+}\r\n", name: "LOGIN", err: ErrLiteralData},
		{in: "a LOGIN {" + strings.Repeat("9", 120) + "+}\r\n", name: "LOGIN", err: ErrLiteralData},
		{in: "a LOGIN {50}\r\n" + strings.Repeat("x", 50) + " {50}\r\n" + strings.Repeat("x", 50) + " {50}\r\n" + strings.Repeat("x", 50) + " {50}\r\n",
			name: "LOGIN", asked: 3, err: ErrLiteralSync}, // the sum counts
		{in: strings.Repeat("x", 201) + "\r\n", err: ErrLineLength},
		{in: "a LOGIN u\x00 p\r\n", err: ErrControl},
		{in: "a NOOP\rb NOOP\r\n", err: ErrControl},
		{in: "\r\nx", err: ErrSyntax, rest: "x"},
		{in: "a\r\nx", err: ErrSyntax, rest: "x"},
		{in: "+a NOOP\r\nx", err: ErrSyntax, rest: "x"},
		{in: "a LOGIN \"u p\r\nx", name: "LOGIN", err: ErrSyntax, rest: "x"},
		{in: "a LOGIN \"u\"p\r\nx", name: "LOGIN", err: ErrSyntax, rest: "x"},
		{in: "a LOGIN \"u\\x\" p\r\nx", name: "LOGIN", err: ErrSyntax, rest: "x"},
		{in: "a X ((((( \r\nx", name: "X", err: ErrSyntax, rest: "x"},
		{in: "a X )\r\nx", name: "X", err: ErrSyntax, rest: "x"},
		{in: "a X 1 2 3 4 5 6 7\r\nx", name: "X", err: ErrSyntax, rest: "x"},
		{in: "a NOOP", err: io.ErrUnexpectedEOF},
		{in: "a LOGIN {5}\r\nab", name: "LOGIN", asked: 1, err: io.ErrUnexpectedEOF},
		{in: "", err: io.EOF},
	} {
		asked := 0
		r := reader(tt.in, &asked)
		c, err := r.Read()
		if c.Name != tt.name || err == nil && !slices.Equal(c.Args, tt.args) || asked != tt.asked || !errors.Is(err, tt.err) {
			t.Errorf("%q: %+v, %d, %v; want %s %q, %d, %v", tt.in, c, asked, err, tt.name, tt.args, tt.asked, tt.err)
		}
		if rest, _ := io.ReadAll(r.R); (err == nil || errors.Is(err, ErrSyntax) || errors.Is(err, ErrLiteralSync)) && string(rest) != tt.rest {
			t.Errorf("%q: left %q, want %q", tt.in, rest, tt.rest)
		}
	}
}

// FuzzCommandReader looks that every limit holds and that no command is read twice.
func FuzzCommandReader(f *testing.F) {
	f.Add("a LOGIN {1}\r\nu {2+}\r\np \r\nb ID (\"x\" NIL)\r\n")
	f.Add("a AUTHENTICATE PLAIN =\r\n\x00")
	f.Fuzz(func(t *testing.T, s string) {
		asked := 0
		r := reader(s, &asked)
		left := len(s)
		for {
			c, err := r.Read()
			size := len(c.Tag) + len(c.Name)
			for _, a := range c.Args {
				size += len(a)
			}
			if len(c.Args) > 6 || size > 200 || len(c.Tag) > 64 {
				t.Fatalf("%q: %+v is over a limit", s, c)
			}
			if err != nil && !errors.Is(err, ErrSyntax) && !errors.Is(err, ErrLiteralSync) {
				return
			}
			if left -= max(size, 1); left < 0 {
				t.Fatalf("%q: more was read than there is", s)
			}
		}
	})
}
