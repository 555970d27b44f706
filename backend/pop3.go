package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/config"
)

// LoginPOP3 is who logs in at a POP3 server.
type LoginPOP3 struct {
	Credentials *auth.Credentials
	LoginName   string // on this side
	ClientAddr  netip.AddrPort
	UTF8        bool // the client asked for it (RFC 6856, section 2.1): the server must have it
	Hops        int  // how many were left when the client came; 0 where nobody told
}

// POP3Conn is a connection in the TRANSACTION state (RFC 1939, section 5). It runs over a tlsconf.Quiet.
type POP3Conn struct {
	net.Conn
	Buffered []byte // what the server said behind its answer to the login
	OKText   string // text of the +OK, printable
	Host     string
}

// popConn is the client's side of POP3 up to the login.
type popConn struct {
	*conn
	caps    []string  // as listed by CAPA, in upper case; nil where the server has no CAPA (RFC 2449)
	trusted bool      // the server takes XCLIENT from us
	limit   time.Time // for the answer to the login; set with the banner
}

// DialPOP3 connects and logs in. Nothing is sent behind the login before its answer. The error is an *Error.
func (d *Dialer) DialPOP3(ctx context.Context, at config.Side, name string, who LoginPOP3) (*POP3Conn, error) {
	var c *popConn
	var start time.Time
	_, err := d.connectAnd(ctx, at, config.POP3, name, forUser(who.ClientAddr).after(who.Hops), func(ctx context.Context, raw *conn) error {
		c, start = &popConn{conn: raw}, time.Now()
		return c.open(ctx)
	})
	if err != nil {
		return nil, err
	}
	done := c.before(ctx, c.limit)
	out, err := c.login(who, d)
	done()
	if err != nil {
		c.leave()
		return nil, err
	}
	d.rec.LoggedIn(at, config.POP3, time.Since(start))
	return out, nil
}

// leave says QUIT before it closes: a refused login shall not look like a connection that broke.
func (c *popConn) leave() {
	_ = c.raw.SetDeadline(time.Now().Add(time.Second))
	_ = c.send("QUIT\r\n")
	c.Close()
}

// open reads the greeting, learns the capabilities, and begins TLS where that is configured (RFC 2595, section 4).
func (c *popConn) open(ctx context.Context) error {
	done := c.within(ctx, c.conf.ConnectTimeout)
	line, err := c.line()
	done()
	if ok, text := popStatus(line); err == nil && !ok {
		if !strings.HasPrefix(line, "-ERR") {
			return c.fail(StepBanner, Refused, line, errNotOK)
		}
		e := c.fail(StepBanner, Temporary, line, errBye)
		e.Code, _ = cutCode(text)
		return e
	}
	if err != nil {
		return c.fail(StepBanner, Temporary, line, err)
	}
	if err := c.greeted(line); err != nil {
		return err
	}
	c.trusted = strings.HasPrefix(line, "+OK [XCLIENT]") // Dovecot, to who is in login_trusted_networks
	c.limit = time.Now().Add(c.conf.LoginTimeout)
	defer c.before(ctx, c.limit)()
	if c.host.POP3.Mode == config.StartTLS {
		if _, err := c.ask(StepStartTLS, "STLS"); err != nil {
			return err
		}
		if c.r.Buffered() > 0 {
			return c.fail(StepStartTLS, Refused, "", errBuffered)
		}
		if err := c.handshake(ctx); err != nil {
			return err
		}
	}
	return c.capability() // asked for once, behind TLS: what was said in clear would not count
}

// popStatus reads a status line: "+OK text" or "-ERR text".
func popStatus(line string) (ok bool, text string) {
	word, text := cutWord(line)
	return strings.EqualFold(word, "+OK"), text
}

// ask sends a command and wants +OK. Its failure is one of the configuration where the server says -ERR.
func (c *popConn) ask(step Step, command string) (text string, err error) {
	if err := c.send(command + "\r\n"); err != nil {
		return "", c.fail(step, Temporary, "", err)
	}
	line, err := c.line()
	if err != nil {
		return "", c.fail(step, Temporary, line, err)
	}
	ok, text := popStatus(line)
	if !ok {
		return "", c.fail(step, Refused, line, errors.New("refuses "+command))
	}
	return text, nil
}

// maxPopCapabilities is more than any server has.
const maxPopCapabilities = 100

// capability asks for the capabilities (RFC 2449, section 5). A server that knows no CAPA has none that matter here.
func (c *popConn) capability() error {
	c.caps = nil
	if err := c.send("CAPA\r\n"); err != nil {
		return c.fail(StepCapability, Temporary, "", err)
	}
	line, err := c.line()
	if err != nil {
		return c.fail(StepCapability, Temporary, line, err)
	}
	if ok, _ := popStatus(line); !ok {
		if !strings.HasPrefix(line, "-ERR") {
			return c.fail(StepCapability, Refused, line, errors.New("neither +OK nor -ERR"))
		}
		return nil
	}
	c.caps = []string{}
	for {
		line, err := c.line()
		switch {
		case err != nil:
			return c.fail(StepCapability, Temporary, line, err)
		case line == ".":
			return nil
		}
		if len(c.caps) == maxPopCapabilities {
			return c.fail(StepCapability, Refused, line, errFlood)
		}
		c.caps = append(c.caps, printable(strings.TrimPrefix(strings.ToUpper(line), ".")))
	}
}

// parameters are those of a capability.
func (c *popConn) parameters(name string) (list []string, ok bool) {
	return popCapability(c.caps, name)
}

// popCapability finds a capability by its keyword in a list of CAPA.
func popCapability(caps []string, name string) (parameters []string, ok bool) {
	for _, line := range caps {
		if f := strings.Fields(line); len(f) > 0 && strings.EqualFold(f[0], name) {
			return f[1:], true
		}
	}
	return nil, false
}

func (c *popConn) login(who LoginPOP3, d *Dialer) (*POP3Conn, error) {
	if err := c.xclient(who, d); err != nil {
		return nil, err
	}
	if c.gateway {
		if _, err := c.ask(StepXCLIENT, "NOOP "+hopsNoop(who.Hops)); err != nil {
			return nil, err
		}
	}
	if who.UTF8 {
		if _, err := c.ask(StepCapability, "UTF8"); err != nil {
			return nil, err
		}
	}
	text, err := c.authenticate(who)
	if err != nil {
		return nil, err
	}
	return &POP3Conn{Conn: c.Conn, Buffered: c.buffered(), OKText: printable(text), Host: c.host.Name}, nil
}

// xclient tells a host that trusts us who the client is, and how many hops are left (Dovecot, which takes an IPv6 address as it is, and a
// line of 1024 bytes at most). A refusal is no reason to fail: the login follows on this very connection, and is tried nowhere else.
func (c *popConn) xclient(who LoginPOP3, d *Dialer) error {
	if _, listed := c.parameters("XCLIENT"); !listed && !c.trusted || !c.conf.ClientAddress || !who.ClientAddr.IsValid() {
		return nil
	}
	command := fmt.Sprintf("XCLIENT ADDR=%s PORT=%d TTL=%d", who.ClientAddr.Addr().WithZone("").String(), who.ClientAddr.Port(), hopsLeft(who.Hops))
	if err := c.send(command + "\r\n"); err != nil {
		return c.fail(StepXCLIENT, Temporary, "", err)
	}
	line, err := c.line()
	if err != nil {
		return c.fail(StepXCLIENT, Temporary, line, err)
	}
	if ok, _ := popStatus(line); !ok {
		d.log.Warn("backend refuses XCLIENT; going on without", "host", c.host.Name, "reply", printable(line))
	}
	return nil
}
