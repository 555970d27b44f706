package mailtest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// Talk is one end of a conversation: a Script's, or a client's made by Dial or NewTalk. Its methods do not return when
// the conversation went otherwise than expected: a client's end the test, a script's end the connection and fail the
// test. It belongs to one goroutine.
type Talk struct {
	net.Conn
	N    int               // number of the connection at its Script, from 1
	Vars map[string]string // what $names of patterns stand for

	script *Script
	said   *transcript
	server bool
	raw    net.Conn
	r      *bufio.Reader
	slow   time.Duration
	over   atomic.Bool
	fail   func(format string, args ...any) // does not return
}

var errTooSlow = errors.New("nothing came in time")

func newTalk(c net.Conn, server bool) *Talk {
	k := &Talk{Conn: c, raw: c, server: server, Vars: map[string]string{}}
	k.r = bufio.NewReader(recorder{k})
	return k
}

// NewTalk makes a client's end over a connection.
func NewTalk(tb TB, c net.Conn) *Talk {
	k := newTalk(c, false)
	k.fail = func(format string, args ...any) {
		tb.Helper()
		tb.Fatalf("client: "+format, args...)
	}
	tb.Cleanup(func() { k.raw.Close() })
	return k
}

// Dial connects a client to an address; with a TLS config it begins with a handshake.
func Dial(tb TB, addr string, t *tls.Config) *Talk {
	tb.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		tb.Fatalf("dial: %v", err)
	}
	k := NewTalk(tb, c)
	if t != nil {
		k.StartTLS(t)
	}
	return k
}

// recorder reads from the present connection, which StartTLS changes, and keeps what a script's peer sent.
type recorder struct{ k *Talk }

func (r recorder) Read(b []byte) (int, error) {
	n, err := r.k.Conn.Read(b)
	if s := r.k.said; s != nil && n > 0 {
		s.mu.Lock()
		s.in.Write(b[:n])
		s.mu.Unlock()
	}
	return n, err
}

// StartTLS makes a handshake, as server or client. Bytes that were read ahead in clear are lost.
func (k *Talk) StartTLS(c *tls.Config) {
	var t *tls.Conn
	if k.server {
		t = tls.Server(k.raw, c)
	} else {
		t = tls.Client(k.raw, c)
	}
	_ = k.raw.SetDeadline(time.Now().Add(patience))
	if err := t.Handshake(); err != nil {
		k.ended("handshake", err)
	}
	_ = k.raw.SetDeadline(time.Time{})
	k.Conn = t
	k.r.Reset(recorder{k})
}

// ended is what happens when the peer is gone or silent.
func (k *Talk) ended(what string, err error) {
	if k.script != nil && (k.over.Load() || k.script.gone && gone(err)) {
		k.exit()
	}
	k.fail("%s: %v", what, err)
	k.exit()
}

// Send sends text as it is; with Slow, byte by byte.
func (k *Talk) Send(text string) {
	if k.slow == 0 {
		if _, err := io.WriteString(k.Conn, text); err != nil {
			k.ended("send", err)
		}
		return
	}
	for i := range len(text) {
		if _, err := io.WriteString(k.Conn, text[i:i+1]); err != nil {
			k.ended("send", err)
		}
		k.Late(k.slow)
	}
}

// Line reads a line, without its CRLF.
func (k *Talk) Line() string {
	s, err := k.read(func() (string, error) { return k.r.ReadString('\n') })
	if err != nil {
		k.ended("read a line after "+quoteShort(s), err)
	}
	return strings.TrimRight(s, "\r\n")
}

// ReadN reads n bytes.
func (k *Talk) ReadN(n int) string {
	b := make([]byte, n)
	got, err := k.read(func() (string, error) {
		m, err := io.ReadFull(k.r, b)
		return string(b[:m]), err
	})
	if err != nil {
		k.ended("read bytes after "+quoteShort(got), err)
	}
	return got
}

func (k *Talk) read(f func() (string, error)) (string, error) {
	_ = k.raw.SetReadDeadline(time.Now().Add(patience))
	s, err := f()
	_ = k.raw.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errTooSlow
	}
	return s, err
}

// Expect reads a line and compares it with a pattern: "..." stands for anything, $name for a word that is kept in Vars
// the first time and must be the same later; $$ is a dollar sign.
func (k *Talk) Expect(pattern string) string {
	line := k.Line()
	if !k.match(pattern, line) {
		k.fail("got %q, want %q", line, pattern)
		k.exit()
	}
	return line
}

// Until reads lines up to one that matches, and returns them all.
func (k *Talk) Until(pattern string) string {
	var seen strings.Builder
	for {
		line := k.Line()
		seen.WriteString(line + "\n")
		if k.match(pattern, line) {
			return seen.String()
		}
		if seen.Len() > 1<<20 {
			k.fail("a megabyte without %q", pattern)
			k.exit()
		}
	}
}

// ExpectEnd reads up to the peer's end, and returns what came before it. An end by reset is an end too.
func (k *Talk) ExpectEnd() string {
	s, err := k.read(func() (string, error) {
		b, err := io.ReadAll(io.LimitReader(k.r, 64<<20))
		return string(b), err
	})
	if errors.Is(err, errTooSlow) {
		k.ended("wait for the end after "+quoteShort(s), err)
	}
	return s
}

var variable = regexp.MustCompile(`\$\$|\$[a-z][a-zA-Z0-9]*|\.\.\.`)

func (k *Talk) match(pattern, line string) bool {
	var names []string
	re := "^"
	at := 0
	for _, m := range variable.FindAllStringIndex(pattern, -1) {
		re += regexp.QuoteMeta(pattern[at:m[0]])
		switch v := pattern[m[0]:m[1]]; {
		case v == "$$":
			re += `\$`
		case v == "...":
			re += ".*"
		default:
			if value, ok := k.Vars[v[1:]]; ok {
				re += regexp.QuoteMeta(value)
			} else {
				names = append(names, v[1:])
				re += `(\S+?)`
			}
		}
		at = m[1]
	}
	m := regexp.MustCompile("(?s)" + re + regexp.QuoteMeta(pattern[at:]) + "$").FindStringSubmatch(line)
	if m == nil {
		return false
	}
	for i, name := range names {
		k.Vars[name] = m[i+1]
	}
	return true
}

// expand puts values in for $names.
func (k *Talk) expand(s string) string {
	return variable.ReplaceAllStringFunc(s, func(v string) string {
		if v == "$$" {
			return "$"
		}
		if value, ok := k.Vars[v[1:]]; ok && v[0] == '$' {
			return value
		}
		return v
	})
}

// Forget drops what a $name stands for: it is taken anew.
func (k *Talk) Forget(name string) { delete(k.Vars, name) }

// Slow makes what is sent from now on come byte by byte, with a pause behind each; 0 ends that.
func (k *Talk) Slow(d time.Duration) { k.slow = d }

// Late waits.
func (k *Talk) Late(d time.Duration) {
	time.Sleep(d) // the fault that is injected is time itself
	if k.over.Load() {
		k.exit()
	}
}

// Silent says nothing more, reads what comes, and returns at the peer's end.
func (k *Talk) Silent() { _, _ = io.Copy(io.Discard, k.r) }

// Deaf says nothing and reads nothing more until the script is closed or the event happens.
func (k *Talk) Deaf(event string) { <-k.script.event(event) }

// Garbage sends n random bytes, the same in each run.
func (k *Talk) Garbage(n int) {
	rnd := rand.NewChaCha8([32]byte{1})
	for n > 0 {
		var b [4096]byte
		_, _ = rnd.Read(b[:])
		m := min(n, len(b))
		k.Send(string(b[:m]))
		n -= m
	}
}

// Endless sends one line that does not end, up to most bytes or until the peer has had enough; it returns how many
// bytes were taken.
func (k *Talk) Endless(most int64) (sent int64) {
	b := []byte(strings.Repeat("x", 64<<10))
	for sent < most {
		n, err := k.Conn.Write(b[:min(int64(len(b)), most-sent)])
		if sent += int64(n); err != nil {
			break
		}
	}
	return sent
}

// Reset ends the connection with RST.
func (k *Talk) Reset() {
	if t, ok := k.raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	k.raw.Close()
}

// CloseWrite sends the end, and goes on reading.
func (k *Talk) CloseWrite() {
	if w, ok := k.Conn.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}

func quoteShort(s string) string {
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return `"` + s + `"`
}
