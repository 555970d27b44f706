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
	return &Quiet{TCPConn: t, raw: raw}, nil
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

// Wait returns when the connection has bytes, an end or an error to read, or with the error of the read deadline.
func (q *Quiet) Wait() error {
	var one [1]byte
	var failed error
	if err := q.raw.Read(func(fd uintptr) bool {
		for {
			_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			switch {
			case errors.Is(err, syscall.EINTR):
				continue // readiness is told once: look again, or miss it
			case errors.Is(err, syscall.EAGAIN):
				return false
			}
			failed = err // looking takes a socket's error away: a read behind it would only see an end
			return true
		}
	}); err != nil {
		return err
	}
	if failed != nil {
		return &net.OpError{Op: "read", Net: "tcp", Addr: q.RemoteAddr(), Err: os.NewSyscallError("recvfrom", failed)}
	}
	return nil
}

// Read reads as a TCP connection does, but within ReadNow it does not wait.
func (q *Quiet) Read(b []byte) (n int, err error) {
	if !q.noBlock.Load() {
		return q.TCPConn.Read(b)
	}
	if len(b) == 0 {
		return 0, nil
	}
	var errno error
	if err := q.raw.Read(func(fd uintptr) bool {
		n, errno = syscall.Read(int(fd), b)
		return true
	}); err != nil {
		return 0, err
	}
	switch {
	case errors.Is(errno, syscall.EAGAIN), errors.Is(errno, syscall.EINTR):
		return 0, ErrWouldBlock
	case errno != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Addr: q.RemoteAddr(), Err: os.NewSyscallError("read", errno)}
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
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
