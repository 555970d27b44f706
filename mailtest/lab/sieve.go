package lab

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// SieveTalk is a user's ManageSieve client (RFC 5804): plain lines on a socket, one command at a time. It shares no code with the gateway.
type SieveTalk struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// DialSieve logs user n in at a host's ManageSieve. Cyrus refuses that to who has never logged in by IMAP.
func DialSieve(t testing.TB, h Host, n int) *SieveTalk {
	t.Helper()
	c, err := net.Dial("tcp", Addr(h.Sieve))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	x := &SieveTalk{t: t, conn: c, r: bufio.NewReader(c)}
	if _, status := x.answer(); !strings.HasPrefix(status, "OK") {
		t.Fatal(status)
	}
	x.Do(`AUTHENTICATE "PLAIN" "%s"`, base64.StdEncoding.EncodeToString([]byte("\x00"+User(n)+"\x00"+Password(n))))
	return x
}

// Do sends a command that has to succeed, and returns what stands before the status; literals are resolved.
func (x *SieveTalk) Do(format string, args ...any) []string {
	x.t.Helper()
	lines, status := x.Try(format, args...)
	if !strings.HasPrefix(status, "OK") {
		x.t.Fatalf("%.200s: %s", fmt.Sprintf(format, args...), status)
	}
	return lines
}

// Try sends a command, and returns what stands before the status, and the status.
func (x *SieveTalk) Try(format string, args ...any) (lines []string, status string) {
	x.t.Helper()
	if _, err := fmt.Fprintf(x.conn, format+"\r\n", args...); err != nil {
		x.t.Fatal(err)
	}
	return x.answer()
}

func (x *SieveTalk) answer() (lines []string, status string) {
	x.t.Helper()
	for {
		line := x.line()
		for _, word := range []string{"OK", "NO", "BYE"} {
			if line == word || strings.HasPrefix(line, word+" ") {
				return lines, line
			}
		}
		lines = append(lines, line)
	}
}

// line reads a line; a literal at its end is replaced by what it holds.
func (x *SieveTalk) line() string {
	x.t.Helper()
	line, err := x.r.ReadString('\n')
	if err != nil {
		x.t.Fatal(err)
	}
	line = strings.TrimRight(line, "\r\n")
	open := strings.LastIndexByte(line, '{')
	var n int
	if open < 0 || !strings.HasSuffix(line, "}") {
		return line
	}
	if _, err := fmt.Sscanf(line[open:], "{%d}", &n); err != nil {
		return line
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(x.r, b); err != nil {
		x.t.Fatal(err)
	}
	return line[:open] + string(b) + x.line()
}

// Put stores a script, which has to be taken.
func (x *SieveTalk) Put(name, text string) {
	x.t.Helper()
	x.Do("PUTSCRIPT %s {%d+}\r\n%s", sieveQuote(name), len(text), text)
}

// Get is a script's text.
func (x *SieveTalk) Get(name string) string {
	x.t.Helper()
	return strings.Join(x.Do("GETSCRIPT %s", sieveQuote(name)), "\r\n")
}

// Activate makes a script the active one; "" means none.
func (x *SieveTalk) Activate(name string) { x.t.Helper(); x.Do("SETACTIVE %s", sieveQuote(name)) }

// Delete deletes a script that is not active.
func (x *SieveTalk) Delete(name string) { x.t.Helper(); x.Do("DELETESCRIPT %s", sieveQuote(name)) }

// All is every script by name, and the active one's name, "" for none.
func (x *SieveTalk) All() (scripts map[string]string, active string) {
	x.t.Helper()
	scripts = map[string]string{}
	unquote := strings.NewReplacer(`\\`, `\`, `\"`, `"`)
	for _, line := range x.Do("LISTSCRIPTS") {
		quoted, is := strings.CutSuffix(line, " ACTIVE")
		name := unquote.Replace(strings.TrimSuffix(strings.TrimPrefix(quoted, `"`), `"`))
		if scripts[name] = x.Get(name); is {
			active = name
		}
	}
	return scripts, active
}

// Close ends the session.
func (x *SieveTalk) Close() {
	x.t.Helper()
	x.Do("LOGOUT")
	_ = x.conn.Close()
}

func sieveQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Deliver hands a message for user n to a host's LMTP, whose Sieve files it.
func Deliver(t testing.TB, h Host, n int, message string) {
	t.Helper()
	c, err := net.Dial("tcp", Addr(h.LMTP))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	r := bufio.NewReader(c)
	for _, line := range []string{"", "LHLO lab", "MAIL FROM:<sender@example.net>", "RCPT TO:<" + User(n) + ">", "DATA", message + "\r\n.", "QUIT"} {
		if line != "" {
			fmt.Fprintf(c, "%s\r\n", line)
		}
		for {
			reply, err := r.ReadString('\n')
			if err != nil || reply[0] > '3' {
				t.Fatalf("LMTP: %.60q: %s%v", line, reply, err)
			}
			if len(reply) < 4 || reply[3] != '-' {
				break
			}
		}
	}
}
