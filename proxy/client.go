package proxy

import (
	"bufio"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"mailgate/config"
	"mailgate/tlsconf"
)

// client is a connection before login. It belongs to one goroutine; preAuth may close it from outside.
type client struct {
	srv  *Server
	set  *settings
	ln   *listener
	raw  *tlsconf.Quiet
	conn net.Conn // raw, or TLS over it
	r    *bufio.Reader
	addr netip.AddrPort
	tls  bool

	until    time.Time // login must be done by then
	failures int       // refused logins
	mistakes int       // commands that made no sense
	handed   bool      // the connection belongs to a session now
	hops     int       // how many gateways his login may still pass, as the one before us said; 0 where none did

	busy        atomic.Bool // the backend is being asked, or the user's fence waited for
	inAll, inIP *list.Element
}

func newClient(s *Server, l *listener, q *tlsconf.Quiet) *client {
	set := s.set.Load()
	c := &client{srv: s, set: set, ln: l, raw: q, conn: q, until: time.Now().Add(set.cfg.Limits.PreAuthTime)}
	if a, ok := q.RemoteAddr().(*net.TCPAddr); ok {
		p := a.AddrPort()
		c.addr = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	c.r = bufio.NewReaderSize(c.conn, 4096)
	return c
}

// leave ends the client, unless his connection was handed on.
func (c *client) leave() {
	c.srv.pre.remove(c)
	if !c.handed {
		c.close()
	}
}

// close says goodbye on the TLS layer and lets what was written arrive: bytes that we never read would make the
// kernel answer with a reset, which can overtake our last words.
func (c *client) close() {
	type closeWriter interface{ CloseWrite() error }
	_ = c.conn.SetDeadline(time.Now().Add(time.Second))
	if w, ok := c.conn.(closeWriter); ok && w.CloseWrite() == nil {
		discard(c.raw.TCPConn)
	}
	c.raw.Close()
}

// discard reads what comes, up to 1 MB, until end or deadline.
func discard(r net.Conn) {
	var b [512]byte
	for n := 0; n < 1<<20; {
		k, err := r.Read(b[:])
		if n += k; err != nil {
			return
		}
	}
}

// startTLS makes the handshake. What the client sent in clear before it is dropped (RFC 9051, section 6.2.1).
func (c *client) startTLS() error {
	limit := time.Now().Add(c.set.cfg.Limits.Handshake)
	_ = c.raw.SetDeadline(limit)
	t := tls.Server(c.raw, c.srv.certs.ConfigFor(c.ln.OldTLS))
	ctx, cancel := context.WithDeadline(c.srv.ctx, limit)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		c.srv.log.Info("TLS handshake", "protocol", c.ln.Protocol, "client", c.addr, "err", err)
		return err
	}
	if tlsconf.IsChallenge(t.ConnectionState()) {
		c.srv.log.Info("a certificate authority looks", "protocol", c.ln.Protocol, "client", c.addr)
		return errChallenge
	}
	_ = c.raw.SetDeadline(time.Time{})
	c.conn, c.tls = t, true
	c.r.Reset(t)
	return nil
}

// errChallenge means that no client came, but an authority that looked whether our names are ours: it has seen all it came for.
var errChallenge = errors.New("the look of a certificate authority is over")

// secure tells whether a password may be sent: over TLS, or on a listener that was declared plain.
func (c *client) secure() bool { return c.tls || c.ln.Mode == config.Plain }

// errTimeUp means that the client took too long before login.
var errTimeUp = errors.New("time before login is up")

// await sets the deadline for the client's next line.
func (c *client) await() error {
	d := time.Now().Add(c.set.cfg.Limits.CommandTime)
	if c.until.Before(d) {
		d = c.until
	}
	if !time.Now().Before(d) {
		return errTimeUp
	}
	return c.conn.SetReadDeadline(d)
}

// write sends text; a client who does not read is given as long as for a command.
func (c *client) write(text string) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.set.cfg.Limits.CommandTime))
	_, err := c.conn.Write([]byte(text))
	return err
}

// hand gives the connection to a session. The client's pipelined bytes are returned.
func (c *client) hand() (conn net.Conn, pipelined []byte) {
	c.handed = true
	c.srv.pre.remove(c)
	_ = c.conn.SetDeadline(time.Time{})
	if n := c.r.Buffered(); n > 0 {
		b, _ := c.r.Peek(n)
		pipelined = append([]byte(nil), b...)
	}
	c.r = nil
	return c.conn, pipelined
}
