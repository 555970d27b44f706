package syncer_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// talk is a user's client: plain lines on a socket, one command at a time.
type talk struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func newTalk(t testing.TB, h lab.Host, n int) *talk {
	t.Helper()
	c, err := net.Dial("tcp", lab.Addr(h.IMAP))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	x := &talk{t: t, conn: c, r: bufio.NewReader(c)}
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := x.r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	x.do("LOGIN %s %s", lab.User(n), lab.Password(n))
	return x
}

// do sends a command that has to succeed and returns the untagged lines.
func (x *talk) do(format string, args ...any) []string {
	x.t.Helper()
	lines, status := x.try(format, args...)
	if !strings.HasPrefix(status, "OK") {
		x.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), status)
	}
	return lines
}

func (x *talk) try(format string, args ...any) (lines []string, status string) {
	x.t.Helper()
	x.n++
	tag := fmt.Sprintf("t%d", x.n)
	if _, err := fmt.Fprintf(x.conn, tag+" "+format+"\r\n", args...); err != nil {
		x.t.Fatal(err)
	}
	return x.answer(tag)
}

func (x *talk) answer(tag string) (lines []string, status string) {
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

// append stores a message.
func (x *talk) append(box, flags, body string) {
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

// uids are those of the selected mailbox.
func (x *talk) uids() (out []uint32) {
	x.t.Helper()
	for _, line := range x.do("UID SEARCH ALL") {
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

func letter(n int) string {
	return fmt.Sprintf("From: a@example.com\r\nSubject: change %d\r\nMessage-ID: <change-%d@example.com>\r\nDate: Wed, 25 Nov 2026 10:00:%02d +0000\r\n\r\nBody %d.\r\n", n, n, n%60, n)
}
