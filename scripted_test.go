package mailgate

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// journal is what happened, in one order over both hosts and the store.
type journal struct {
	mu     sync.Mutex
	events []happened
}

type happened struct {
	side, user, what string // side "" is the store: what is "commit old" or "commit new"
}

func (j *journal) add(side, user, what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, happened{side, user, what})
}

func (j *journal) list() []happened {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]happened(nil), j.events...)
}

// count is how often something happened.
func (j *journal) count(h happened) (n int) {
	for _, e := range j.list() {
		if e == h {
			n++
		}
	}
	return n
}

// host is an IMAP server that does as it is told. It writes into the journal what it carries out, at the moment that it
// does: a command when all its bytes are there.
type host struct {
	side string
	log  *journal
	addr string

	// onLogin (may be nil) is called before a login is answered; what it returns is said instead of OK, "" means OK,
	// "close" closes.
	onLogin func(user string) string
	// fetch (may be nil) is received from in the middle of the answer to FETCH, slow before the answer to XSLOW.
	fetch, slow chan struct{}
	begun       atomic.Int64 // commands behind logins whose first line has arrived

	l      net.Listener
	closed chan struct{}
	wg     sync.WaitGroup
	mu     sync.Mutex
	conns  map[net.Conn]bool
}

func newHost(t *testing.T, side string, j *journal) *host {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{side: side, log: j, addr: l.Addr().String(), l: l, closed: make(chan struct{}), conns: map[net.Conn]bool{}}
	h.wg.Go(h.accept)
	return h
}

func (h *host) accept() {
	for {
		c, err := h.l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[c] = true
		h.mu.Unlock()
		h.wg.Go(func() {
			defer c.Close()
			s := &hostSession{h: h, c: c, r: bufio.NewReader(c)}
			s.say("* OK [CAPABILITY IMAP4rev1 LITERAL+ IDLE] %s", h.side)
			for s.command() {
			}
			h.mu.Lock()
			delete(h.conns, c)
			h.mu.Unlock()
		})
	}
}

func (h *host) close() {
	close(h.closed)
	h.l.Close()
	h.mu.Lock()
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// hostSession is one connection to a host.
type hostSession struct {
	h    *host
	c    net.Conn
	r    *bufio.Reader
	user string
}

func (s *hostSession) say(format string, args ...any) {
	fmt.Fprintf(s.c, format+"\r\n", args...)
}

// fetchSize is the size of the message that FETCH answers with.
const fetchSize = 100_000

// command carries out one command; false ends the session.
func (s *hostSession) command() bool {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return false
	}
	line = strings.TrimSuffix(line, "\r\n")
	tag, rest, _ := strings.Cut(line, " ")
	name, args, _ := strings.Cut(rest, " ")
	name = strings.ToUpper(name)
	if s.user == "" {
		return s.login(tag, name, args)
	}
	s.h.begun.Add(1)
	switch name {
	case "APPEND":
		body, ok := s.literal(args)
		if !ok {
			return false
		}
		s.h.log.add(s.h.side, s.user, "APPEND "+body)
	case "FETCH":
		s.h.log.add(s.h.side, s.user, name)
		s.say("* 1 FETCH (BODY[] {%d}", fetchSize)
		half := strings.Repeat("x", fetchSize/2)
		if _, err := io.WriteString(s.c, half); err != nil {
			return false
		}
		if s.h.fetch != nil && !s.wait(s.h.fetch) {
			return false
		}
		if _, err := io.WriteString(s.c, half+")\r\n"); err != nil {
			return false
		}
	case "IDLE":
		s.h.log.add(s.h.side, s.user, name)
		s.say("+ idling")
		if done, err := s.r.ReadString('\n'); err != nil || done != "DONE\r\n" {
			return false
		}
	case "XSLOW":
		if !s.wait(s.h.slow) {
			return false
		}
		s.h.log.add(s.h.side, s.user, name)
	case "LOGOUT":
		s.say("* BYE")
		s.say("%s OK bye", tag)
		return false
	default:
		s.h.log.add(s.h.side, s.user, name)
	}
	s.say("%s OK on %s", tag, s.h.side)
	return true
}

// wait waits for the test's sign; false when the host closes.
func (s *hostSession) wait(sign chan struct{}) bool {
	select {
	case <-sign:
		return true
	case <-s.h.closed:
		return false
	}
}

func (s *hostSession) login(tag, name, args string) bool {
	if name == "LOGOUT" {
		return false
	}
	if name != "LOGIN" {
		s.say("%s BAD not now", tag)
		return true
	}
	user, _, _ := strings.Cut(args, " ")
	user = strings.Trim(user, `"`)
	s.h.log.add(s.h.side, user, "login")
	said := ""
	if s.h.onLogin != nil {
		said = s.h.onLogin(user)
	}
	switch said {
	case "close":
		return false
	case "":
		s.user = user
		s.say("%s OK [CAPABILITY IMAP4rev1 LITERAL+ IDLE] on %s", tag, s.h.side)
	default:
		s.say("%s", strings.ReplaceAll(said, "TAG", tag))
	}
	return true
}

// literal reads the literal at the end of a line, and the end of that line.
func (s *hostSession) literal(args string) (string, bool) {
	i := strings.LastIndexByte(args, '{')
	size := strings.TrimSuffix(args[i+1:], "}")
	plus := strings.HasSuffix(size, "+")
	n, err := strconv.Atoi(strings.TrimSuffix(size, "+"))
	if err != nil {
		return "", false
	}
	if !plus {
		s.say("+ go on")
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(s.r, b); err != nil || string(b[n:]) != "\r\n" {
		return "", false
	}
	return string(b[:n]), true
}
