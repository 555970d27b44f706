package faulty

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Password is everybody's.
const Password = "secret"

// TB is what a host needs of a *testing.T.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Host is an IMAP server in clear on loopback. Whoever logs in opens Account.
type Host struct {
	Account *Account
	Addr    string

	l    net.Listener
	wg   sync.WaitGroup // connections
	late sync.WaitGroup // commands that are done when nobody waits for them any more

	mu     sync.Mutex
	conns  map[net.Conn]bool
	faults *Faults
	closed bool
	trace  []string
	crowd  *Crowd
}

// Start starts a host that is sound. It ends with the test.
func Start(tb TB, p Product) *Host {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("faulty: %v", err)
	}
	h := &Host{Account: newAccount(p), Addr: l.Addr().String(), l: l, conns: map[net.Conn]bool{}}
	h.wg.Go(h.accept)
	tb.Cleanup(func() {
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		l.Close()
		h.Sound()
		h.wg.Wait()
	})
	return h
}

// Port is the number of the port.
func (h *Host) Port() int { return h.l.Addr().(*net.TCPAddr).Port }

// Fail makes the host go wrong from now on.
func (h *Host) Fail(f *Faults) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = f
}

// Connections is how many are open.
func (h *Host) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// Trace is what was asked and answered, for people, each command a line.
func (h *Host) Trace() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trace
}

// note adds to the trace. The answer may hold anything: only its last line is kept.
func (h *Host) note(began time.Time, c *command, f fault, out []byte) {
	line := began.Format("05.0000 ") + c.tag + " " + c.name
	for _, w := range c.args {
		line += " " + w.String()
	}
	answer := strings.Split(strings.TrimSpace(string(out)), "\r\n")
	if f.kind != None {
		line += " !" + f.kind.String()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trace = append(h.trace, line+" => "+answer[len(answer)-1])
}

// Sound ends the faults, cuts all connections, and waits until commands that are late have been done.
func (h *Host) Sound() {
	h.mu.Lock()
	h.faults = nil
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.late.Wait()
}

func (h *Host) accept() {
	for {
		c, err := h.l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.closed {
			h.mu.Unlock()
			c.Close()
			return
		}
		h.conns[c] = true
		h.mu.Unlock()
		h.wg.Go(func() {
			defer func() {
				c.Close()
				h.mu.Lock()
				delete(h.conns, c)
				h.mu.Unlock()
			}()
			h.serve(c)
		})
	}
}

// errCut ends a connection.
var errCut = errors.New("cut")

// session is one connection.
type session struct {
	h      *Host
	a      *Account
	c      net.Conn
	r      *reader
	out    bytes.Buffer
	authed bool
	bye    bool
	leave  []func() // of the host's Crowd

	box       *mailbox
	name      string
	validity  uint32 // when it was opened
	view      []uint32
	seen      uint64 // the mod-sequence up to which flags were told
	readOnly  bool
	condstore bool
	qresync   bool

	fault     fault         // of this command
	notifying chan struct{} // closed when what NOTIFY began is to end; nil while there is none
}

func (s *session) has(capability string) bool {
	for c := range strings.FieldsSeq(s.a.product.Capabilities) {
		if c == capability {
			return true
		}
	}
	return false
}

func (h *Host) serve(c net.Conn) {
	s := &session{h: h, a: h.Account, c: c}
	s.r = &reader{r: bufio.NewReaderSize(c, 32<<10), more: s.more, literal: s.literal}
	leave := h.greet(c, fmt.Sprintf("* OK [CAPABILITY %s] %s ready", s.a.product.Capabilities, s.a.product.Name))
	if leave == nil {
		return
	}
	s.leave = append(s.leave, leave)
	defer s.depart()
	defer s.quiet()
	for !s.bye {
		cmd, err := s.r.command()
		var early refused
		switch {
		case errors.As(err, &early):
			s.out.Reset()
			s.printf("%s %s\r\n", cmd.tag, early.text)
		case errors.Is(err, errSyntax):
			s.out.Reset()
			s.printf("%s BAD syntax\r\n", cmd.tag)
		case err != nil:
			return
		default:
			if s.run(cmd) != nil {
				return
			}
		}
		if _, err := c.Write(s.out.Bytes()); err != nil {
			return
		}
		s.out.Reset()
	}
}

// more asks for a literal, or refuses it.
func (s *session) more(c *command) error {
	if c.name == "APPEND" && s.h.refusesLiteral() {
		return refused{"NO [OVERQUOTA] no room for this one"}
	}
	_, err := s.c.Write([]byte("+ go on\r\n"))
	return err
}

// literal may end the connection somewhere in it.
func (s *session) literal(size int) error {
	if n, cut := s.h.cutLiteral(size); cut {
		_, _ = s.r.r.Discard(n)
		return errCut
	}
	return nil
}

func (s *session) printf(format string, args ...any) { fmt.Fprintf(&s.out, format, args...) }

// run does a command, or what the faults make of it. The answer is in out.
func (s *session) run(c *command) error {
	s.fault = fault{}
	began := time.Now()
	defer func() {
		if s.fault.kind == Late { // its answer is being made
			s.h.note(began, c, s.fault, nil)
			return
		}
		s.h.note(began, c, s.fault, s.out.Bytes())
	}()
	if s.authed && c.name != "LOGOUT" {
		s.fault = s.h.roll(c)
	}
	switch s.fault.kind {
	case Cut:
		return errCut
	case Late:
		if writes[c.name] {
			s.h.late.Go(func() {
				time.Sleep(s.fault.wait)
				_ = s.execute(c)
			})
		}
		return errCut
	case Bye:
		fmt.Fprintf(s.c, "* BYE %s\r\n", s.fault.text)
		return errCut
	case Refuse:
		if c.name == "SELECT" || c.name == "EXAMINE" {
			s.box = nil // RFC 9051, section 6.3.2
		}
		s.printf("%s NO %s\r\n", c.tag, s.fault.text)
		return nil
	case Bad: // the mailbox before stays open, if it was a SELECT: some read the RFC so
		s.printf("%s BAD what?\r\n", c.tag)
		return nil
	case Noise:
		s.printf("%s", s.fault.text)
	}
	err := s.execute(c)
	switch s.fault.kind {
	case Lost:
		return errCut
	case Inside:
		_, _ = s.c.Write(s.out.Bytes()[:int(s.fault.part*float64(s.out.Len()))])
		return errCut
	case Slow, Half:
		time.Sleep(s.fault.wait)
	}
	return err
}

// some is how many of n are done before the command fails; all, when it does not.
func (s *session) some(n int) int {
	if s.fault.kind != Some {
		return n
	}
	return int(s.fault.part * float64(n))
}

// leftOut tells of one of many lines whether the fault leaves it out.
func (s *session) leftOut() bool {
	return s.fault.kind == Half && s.fault.dice != nil && s.fault.dice()
}
