package proxy

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// oneCommand says what readCommand must make of what a client sends, the slow way.
func oneCommand(s string) (line, rest string, err error) {
	i := strings.IndexByte(s, '\n')
	switch {
	case i < 0 && len(s) <= maxCommand && s == "":
		return "", "", io.EOF
	case i < 0 && len(s) <= maxCommand:
		return "", "", io.ErrUnexpectedEOF
	case i < 0 || i >= maxCommand:
		return "", "", errLineLength
	case i == 0 || s[i-1] != '\r':
		return "", "", errLineEnd
	case strings.ContainsAny(s[:i-1], "\r\x00"):
		return "", s[i+1:], errLineForm
	}
	return s[:i-1], s[i+1:], nil
}

func checkCommand(t *testing.T, s string) {
	t.Helper()
	want, rest, wantErr := oneCommand(s)
	for _, size := range []int{16, 4096} {
		for i, r := range []io.Reader{strings.NewReader(s), iotest.OneByteReader(strings.NewReader(s)), iotest.DataErrReader(strings.NewReader(s))} {
			b := bufio.NewReaderSize(r, size)
			got, err := readCommand(b, nil)
			if got != want || !errors.Is(err, wantErr) {
				t.Fatalf("%.80q, reader %d: %.80q, %v; want %.80q, %v", s, i, got, err, want, wantErr)
			}
			if err != nil && !errors.Is(err, errLineForm) {
				continue // the caller must read no more
			}
			if left, _ := io.ReadAll(b); string(left) != rest {
				t.Fatalf("%.80q: %.80q is left, want %.80q", s, left, rest)
			}
		}
	}
}

var commands = []string{"", "NOOP\r\n", "NOOP\r\nQUIT\r\n", "NOOP", "NOOP\n", "NOOP\r", "NOOP\r\r\n", "A\rB\r\n", "A\nB\r\n", "\r\n", "\n",
	"A\x00B\r\nNOOP\r\n", "A\r\x00\n", "\r\r\n", strings.Repeat("x", 4095) + "\r\n", strings.Repeat("x", 4096) + "\r\nQUIT\r\n",
	strings.Repeat("x", maxCommand-2) + "\r\n", strings.Repeat("x", maxCommand-1) + "\r\n", strings.Repeat("x", maxCommand+1),
	strings.Repeat("x", maxCommand) + "\n", "J\xfcrgen\r\n"}

func TestReadCommand(t *testing.T) {
	for _, s := range commands {
		checkCommand(t, s)
	}
	// An endless line is given up at once, and not kept.
	if _, err := readCommand(bufio.NewReader(endless{}), nil); !errors.Is(err, errLineLength) {
		t.Error(err)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

func FuzzReadCommand(f *testing.F) {
	for _, s := range commands[:len(commands)-6] {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkCommand(t, s) })
}

func TestParameters(t *testing.T) {
	for line, want := range map[string][]string{
		"MAIL FROM:<>": nil, "MAIL FROM:<a@b> SIZE=1": {"SIZE=1"}, "MAIL FROM: <a@b>  SIZE=1  BODY=8BITMIME ": {"SIZE=1", "BODY=8BITMIME"},
		`RCPT TO:<"a>b c"@x> NOTIFY=NEVER`: {"NOTIFY=NEVER"}, `RCPT TO:<"a\">b"@x> ORCPT=rfc822;a>b@c`: {"ORCPT=rfc822;a>b@c"},
		"MAIL FROM:a@b SIZE=1": {"SIZE=1"}, "MAIL FROM:<a@b": nil, "MAIL": nil, "MAIL FROM:": nil, `MAIL FROM:<"\`: nil,
		"MAIL FROM:<a@b>SIZE=1": {"SIZE=1"},
	} {
		got, at := parameters(line)
		if !slices.Equal(got, want) || !slices.Equal(strings.Fields(line[at:]), want) {
			t.Errorf("%s: %q", line, got)
		}
	}
}

// TestASCIIOnly: no letter that Unicode folds to an ASCII one makes a verb or a parameter.
func TestASCIIOnly(t *testing.T) {
	if name, _ := verb("ma\u0131l FROM:<>"); name == "MAIL" {
		t.Error(name)
	}
	if name, _ := verb("r\u017fet"); name == "RSET" {
		t.Error(name)
	}
	if hasParameter("MAIL FROM:<a> \u017fMTPUTF8", "SMTPUTF8") {
		t.Error("a long s is no S")
	}
}

func FuzzParameters(f *testing.F) {
	f.Add("MAIL FROM:<a@b> SIZE=1")
	f.Add(`RCPT TO:<"a\">b"@x> ORCPT=rfc822;a>b@c`)
	f.Fuzz(func(t *testing.T, line string) {
		params, at := parameters(line)
		if at < 0 || at > len(line) || !slices.Equal(params, strings.Fields(line[at:])) {
			t.Fatalf("%q: %q at %d", line, params, at)
		}
		for _, p := range params {
			if !hasParameter(line, upper(p)) {
				t.Fatalf("%q has no %q", line, p)
			}
		}
	})
}
