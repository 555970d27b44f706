package lab

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// Talk is a user's client: plain lines on a socket, one command at a time.
type Talk struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

// Dial logs user n in at a host.
func Dial(t testing.TB, h Host, n int) *Talk {
	t.Helper()
	c, err := net.Dial("tcp", Addr(h.IMAP))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	x := &Talk{t: t, conn: c, r: bufio.NewReader(c)}
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := x.r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	x.Do("LOGIN %s %s", User(n), Password(n))
	return x
}

// Do sends a command that has to succeed and returns the untagged lines.
func (x *Talk) Do(format string, args ...any) []string {
	x.t.Helper()
	lines, status := x.Try(format, args...)
	if !strings.HasPrefix(status, "OK") {
		x.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), status)
	}
	return lines
}

// Try sends a command, and returns the untagged lines and the status.
func (x *Talk) Try(format string, args ...any) (lines []string, status string) {
	x.t.Helper()
	x.n++
	tag := fmt.Sprintf("t%d", x.n)
	if _, err := fmt.Fprintf(x.conn, tag+" "+format+"\r\n", args...); err != nil {
		x.t.Fatal(err)
	}
	return x.answer(tag)
}

func (x *Talk) answer(tag string) (lines []string, status string) {
	x.t.Helper()
	for {
		line, err := x.r.ReadString('\n')
		if err != nil {
			x.t.Fatal(err)
		}
		line = strings.TrimRight(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			return lines, rest
		}
		lines = append(lines, line)
	}
}

// Append stores a message.
func (x *Talk) Append(box, flags, body string) {
	x.t.Helper()
	x.n++
	tag := fmt.Sprintf("t%d", x.n)
	fmt.Fprintf(x.conn, "%s APPEND \"%s\" (%s) {%d}\r\n", tag, box, flags, len(body))
	if line, err := x.r.ReadString('\n'); err != nil || line[0] != '+' {
		x.t.Fatalf("APPEND: %q, %v", line, err)
	}
	fmt.Fprintf(x.conn, "%s\r\n", body)
	if _, status := x.answer(tag); !strings.HasPrefix(status, "OK") {
		x.t.Fatal(status)
	}
}

// UIDs are those of the selected mailbox.
func (x *Talk) UIDs() (out []uint32) {
	x.t.Helper()
	for _, line := range x.Do("UID SEARCH ALL") {
		f := strings.Fields(line)
		if len(f) < 2 || f[1] != "SEARCH" {
			continue
		}
		for _, s := range f[2:] {
			var u uint32
			if _, err := fmt.Sscan(s, &u); err == nil {
				out = append(out, u)
			}
		}
	}
	return out
}

// Close ends the session.
func (x *Talk) Close() {
	x.t.Helper()
	x.Do("LOGOUT")
	_ = x.conn.Close()
}
