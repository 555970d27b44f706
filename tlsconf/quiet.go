package tlsconf

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Quiet is a TCP connection that can wait for bytes without holding a buffer for them, also underneath TLS: an idle
// session then costs no buffer. Reads are for one goroutine, as are writes.
type Quiet struct {
	*net.TCPConn
	raw     syscall.RawConn
	noBlock atomic.Bool
	closed  atomic.Bool
	onClose func()

	before, wrote func()       // ahead of each Read that may wait, and of each Write; see Handshakes
	after         func() error // behind each such Read

	// What the two system calls take and give: kept here, with their functions, so that a wake-up allocates nothing.
	peekFunc, readFunc func(fd uintptr) bool
	one                [1]byte
	buf                []byte
	n                  int
	errno              error
}

// OnClose sets what is called once when the connection is closed. Set it before the connection is shared.
func (q *Quiet) OnClose(f func()) { q.onClose = f }

// Close closes the connection.
func (q *Quiet) Close() error {
	if q.closed.CompareAndSwap(false, true) && q.onClose != nil {
		defer q.onClose()
	}
	return q.TCPConn.Close()
}

// NewQuiet wraps a TCP connection; others are an error.
func NewQuiet(c net.Conn) (*Quiet, error) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil, errors.New("not a TCP connection")
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return nil, err
	}
	q := &Quiet{TCPConn: t, raw: raw}
	q.peekFunc, q.readFunc = q.peek, q.read
	return q, nil
}

// KeepAlive is how dead peers are found: a connection of either side without traffic is probed after two minutes, and
// given up two minutes later. That keeps most NAT entries alive, and is no more than Dovecot's "Still here" in IDLE.
func KeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second, Count: 4}
}

// wouldBlock is what Read returns in between; crypto/tls takes it for a timeout and can go on afterwards.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no bytes now" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// ErrWouldBlock is returned by ReadNow when no bytes are there.
var ErrWouldBlock net.Error = wouldBlock{}

// Wait returns when the connection has bytes or an end to read, or with its error, that of the read deadline among them.
func (q *Quiet) Wait() error {
	if err := q.raw.Read(q.peekFunc); err != nil {
		return err
	}
	return q.failed("recvfrom")
}

// peek tells whether there is something to read. An error of the socket is told once by the system, so it is kept.
func (q *Quiet) peek(fd uintptr) bool {
	for {
		_, _, q.errno = syscall.Recvfrom(int(fd), q.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if q.errno != syscall.EINTR { // readiness is told once: look again, or miss it
			return q.errno != syscall.EAGAIN
		}
	}
}

func again(err error) bool { return err == syscall.EAGAIN || err == syscall.EINTR }

// failed is the error of a system call.
func (q *Quiet) failed(call string) error {
	if q.errno == nil {
		return nil
	}
	return &net.OpError{Op: "read", Net: "tcp", Addr: q.RemoteAddr(), Err: os.NewSyscallError(call, q.errno)}
}

func (q *Quiet) read(fd uintptr) bool {
	q.n, q.errno = syscall.Read(int(fd), q.buf)
	return true
}

// Read reads as a TCP connection does, but within ReadNow it does not wait.
func (q *Quiet) Read(b []byte) (n int, err error) {
	if !q.noBlock.Load() {
		if q.before == nil {
			return q.TCPConn.Read(b)
		}
		q.before()
		n, err = q.TCPConn.Read(b)
		if late := q.after(); late != nil {
			return 0, late
		}
		return n, err
	}
	if len(b) == 0 {
		return 0, nil
	}
	q.buf = b
	err = q.raw.Read(q.readFunc)
	q.buf = nil
	switch {
	case err != nil:
		return 0, err
	case again(q.errno):
		return 0, ErrWouldBlock
	case q.errno != nil:
		return 0, q.failed("read")
	case q.n == 0:
		return 0, io.EOF
	}
	return q.n, nil
}

// Write writes as a TCP connection does.
func (q *Quiet) Write(b []byte) (int, error) {
	if q.wrote != nil {
		q.wrote()
	}
	return q.TCPConn.Write(b)
}

// ready tells, without waiting, whether there is something to read, or an end.
func (q *Quiet) ready() (is bool) {
	err := q.raw.Control(func(fd uintptr) {
		_, _, errno := syscall.Recvfrom(int(fd), q.one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		is = !again(errno)
	})
	return is && err == nil
}

// Stream reads from a Quiet connection, through TLS if tc is not nil.
type Stream struct {
	q  *Quiet
	tc *tls.Conn
	// drained means that tc holds no whole record: only then may one wait on the socket.
	drained bool
}

// NewStream makes a Stream of c, which is a *Quiet or a *tls.Conn over one. ok is false for others.
func NewStream(c net.Conn) (s Stream, ok bool) {
	switch c := c.(type) {
	case *Quiet:
		return Stream{q: c, drained: true}, true
	case *tls.Conn:
		q, ok := c.NetConn().(*Quiet)
		return Stream{q: q, tc: c}, ok
	}
	return Stream{}, false
}

// Wait returns when ReadNow may have something.
func (s *Stream) Wait() error {
	if !s.drained {
		return nil
	}
	return s.q.Wait()
}

// ReadNow reads what is there; ErrWouldBlock means: Wait.
func (s *Stream) ReadNow(b []byte) (int, error) {
	s.q.noBlock.Store(true)
	defer s.q.noBlock.Store(false)
	if s.tc == nil {
		return s.q.Read(b)
	}
	n, err := s.tc.Read(b)
	if s.drained = errors.Is(err, ErrWouldBlock); s.drained {
		release(s.tc)
	}
	return n, err
}
