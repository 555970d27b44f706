package syncer

import (
	"crypto/sha256"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestAlike: what hosts are known to do to mail that they are given is told from other differences, however the text comes in pieces.
func TestAlike(t *testing.T) {
	sum := func(text string) bodySum {
		var out bodySum
		for i, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			n := newLoose()
			if _, err := io.Copy(n, r); err != nil {
				t.Fatal(err)
			}
			if s := n.sum(sha256.Sum256([]byte(text))); i > 0 && s != out {
				t.Errorf("%q: not the same in one piece and byte by byte", text)
			} else {
				out = s
			}
		}
		return out
	}
	const ends, eight = "only line ends", "only characters of the header"
	for _, c := range []struct{ a, b, want string }{
		{"A: b\r\n\r\nc\r\n", "A: b\n\nc", ends},
		{"A: b\r\n\r\nc\x00d\r\n", "A: b\r\n\r\nc\x80d\r\n", ends},
		{"A: \xe9\xff\r\n\r\n\xe9\r\n", "A: XX\r\n\r\n\xe9\r\n", eight},
		{"A: \xe9\r\n\r\nc", "A: X\r\n\r\nc\r\n", eight},
		{"A: \xe9\r\n\r\nc\r\n", "A: \xea\r\n\r\nc\r\n", ""}, // neither has made X of it
		{"A: \xe9\r\n\r\nc\r\n", "A: Y\r\n\r\nc\r\n", ""},
		{"A: b\r\n\r\n\xe9\r\n", "A: b\r\n\r\nX\r\n", ""}, // in the body
		{"A: b\r\n\r\nc\r\n", "A: X\r\n\r\nc\r\n", ""},
		{"", "\r\n", ends},
		{"\r\n\xe9\r\n", "\r\nX\r\n", ""}, // no header
	} {
		got := sum(c.a).alike(sum(c.b))
		if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
			t.Errorf("%q and %q: %q, want %q", c.a, c.b, got, c.want)
		}
		if back := sum(c.b).alike(sum(c.a)); back != got {
			t.Errorf("%q and %q: %q the other way round", c.a, c.b, back)
		}
	}
}
