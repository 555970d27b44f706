package backend

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"mailgate/config"
	"mailgate/tlsconf"
)

// Limits of what a server may say before the login is through. Post-login lines are the client's affair.
const (
	maxServerLine  = 64 << 10
	maxServerPhase = 256 << 10
)

// Errors of a server's words.
var (
	errLineLength = errors.New("line longer than 64 KiB")
	errFlood      = errors.New("more than 256 KiB before the login is through")
	errNotOK      = errors.New("does not greet with OK")
	errBye        = errors.New("server said BYE")
	errBuffered   = errors.New("bytes in clear behind the answer to STARTTLS")
)

// conn is a connection to a server before it is handed over. It belongs to one goroutine.
type conn struct {
	net.Conn // *tlsconf.Quiet, or TLS over it
	raw      *tlsconf.Quiet
	host     *host
	conf     config.Backend
	protocol config.Protocol
	r        *bufio.Reader
	left     int    // bytes that the server may still say
	own      string // name of this run of the gateway
	gateway  bool   // the server is a gateway too
	peer     string // and this is its name
}

func newConn(q *tlsconf.Quiet, h *host, b config.Backend, p config.Protocol) *conn {
	return &conn{Conn: q, raw: q, host: h, conf: b, protocol: p, r: bufio.NewReaderSize(q, 2048), left: maxServerPhase}
}

// within bounds what follows by a time and by ctx; the caller calls the result when it is done.
func (c *conn) within(ctx context.Context, d time.Duration) (done func()) {
	return c.before(ctx, time.Now().Add(d))
}

func (c *conn) before(ctx context.Context, limit time.Time) (done func()) {
	_ = c.raw.SetDeadline(limit)
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if stop() {
			_ = c.raw.SetDeadline(time.Time{})
		}
	}
}

// handshake begins TLS.
func (c *conn) handshake(ctx context.Context) error {
	t := tls.Client(c.raw, c.host.tls[index(c.protocol)])
	ctx, cancel := context.WithTimeout(ctx, c.conf.ConnectTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		kind := Temporary
		var cv *tls.CertificateVerificationError
		if errors.As(err, &cv) || errors.Is(err, tlsconf.ErrPin) {
			kind = Refused
		}
		return &Error{Step: StepTLS, Kind: kind, Host: c.host.Name, Reply: tlsconf.Explain(err), Err: err}
	}
	c.Conn = t
	c.r.Reset(t)
	return nil
}

// line reads a line without its CRLF.
func (c *conn) line() (string, error) {
	var line []byte
	for {
		b, err := c.r.ReadSlice('\n')
		if c.left -= len(b); c.left < 0 {
			return "", errFlood
		}
		line = append(line, b...)
		if len(line) > maxServerLine {
			return "", errLineLength
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) && len(line) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return string(line), err
		}
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return string(line), nil
}

func (c *conn) send(s string) error {
	_, err := io.WriteString(c.Conn, s)
	return err
}

// fail makes an Error of this host.
func (c *conn) fail(step Step, kind Kind, reply string, err error) *Error {
	return &Error{Step: step, Kind: kind, Host: c.host.Name, Reply: printable(reply), Err: err}
}

// buffered takes what the server has sent beyond what was read.
func (c *conn) buffered() []byte {
	n := c.r.Buffered()
	if n == 0 {
		return nil
	}
	b, _ := c.r.Peek(n)
	return append([]byte(nil), b...)
}
