package imapwire

import (
	"io"
	"strings"
	"testing"
)

// chunks gives one piece a read, or what of it there is room for.
type chunks struct{ list []string }

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.list) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.list[0])
	if c.list[0] = c.list[0][n:]; c.list[0] == "" {
		c.list = c.list[1:]
	}
	return n, nil
}

// TestScannerWindow: the window grows while much comes, up to ScanWindow, and is small again when little does; nothing is lost for that.
func TestScannerWindow(t *testing.T) {
	line := strings.Repeat("x", 997) + "\r\n"
	const many, few = 1000, 40
	in := &chunks{list: []string{"little\r\n", strings.Repeat(line, many)}}
	for range few {
		in.list = append(in.list, line)
	}
	s := NewScanner(in)
	next := func(want string) {
		t.Helper()
		if b, err := s.Line(); err != nil || string(b)+"\r\n" != want {
			t.Fatalf("%.20q, %v", b, err)
		}
	}
	next("little\r\n")
	if len(s.buf) != smallWindow {
		t.Errorf("the window begins with %d bytes", len(s.buf))
	}
	for range many {
		next(line)
	}
	if len(s.buf) != ScanWindow {
		t.Errorf("a megabyte later the window has %d bytes, want %d", len(s.buf), ScanWindow)
	}
	for range few {
		next(line)
	}
	if len(s.buf) != smallWindow {
		t.Errorf("at rest the window has %d bytes", len(s.buf))
	}
}
