package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"mailgate/config"
)

// SieveConn is a ManageSieve connection that is logged in, for a client's session. It runs over a tlsconf.Quiet.
type SieveConn struct {
	net.Conn
	Buffered []byte // what the server said behind its answer to the login
	Host     string
}

// DialSieveSession connects and logs in for a client (RFC 5804, section 2.1), whose address is told to a host that trusts us. The error is
// an *Error.
func (d *Dialer) DialSieveSession(ctx context.Context, at config.Side, name string, who Account, client netip.AddrPort) (*SieveConn, error) {
	var c *sieveConn
	var start time.Time
	_, err := d.connectAnd(ctx, at, config.Sieve, name, forUser(client).after(who.Hops), func(ctx context.Context, raw *conn) error {
		c, start = &sieveConn{conn: raw}, time.Now()
		return c.open(ctx)
	})
	if err != nil {
		return nil, err
	}
	done := c.before(ctx, c.limit)
	if err = c.xclient(client, who.Hops, d); err == nil {
		err = c.hop(who.Hops)
	}
	if err == nil {
		err = c.in(who)
	}
	done()
	if err != nil {
		c.Close()
		return nil, err
	}
	d.rec.LoggedIn(at, config.Sieve, time.Since(start))
	return &SieveConn{Conn: c.Conn, Buffered: c.buffered(), Host: c.host.Name}, nil
}

// xclient tells a host that trusts us who the client is, and how many hops are left (Dovecot). A refusal is no reason to fail: the login
// follows on this very connection, and is tried nowhere else.
func (c *sieveConn) xclient(client netip.AddrPort, hops int, d *Dialer) error {
	if !c.conf.ClientAddress || !client.IsValid() || !c.caps.XCLIENT {
		return nil
	}
	command := fmt.Sprintf("XCLIENT ADDR=%s PORT=%d TTL=%d", client.Addr().WithZone(""), client.Port(), hopsLeft(hops)) // no strings: it takes atoms
	if err := c.send(command + "\r\n"); err != nil {
		return c.fail(StepXCLIENT, Temporary, "", err)
	}
	a, err := c.behind(func(l sieveLine) bool { _, str := l.string(0); return l.bad || !str })
	if err != nil {
		return c.fail(StepXCLIENT, Temporary, "", err)
	}
	if a.status != "OK" {
		d.log.Warn("backend refuses XCLIENT; going on without", "host", c.host.Name, "reply", sieveWords(a.text))
	}
	return nil
}

// hop tells another gateway how many hops are left.
func (c *sieveConn) hop(hops int) error {
	if !c.gateway {
		return nil
	}
	if err := c.send("NOOP " + sieveString(hopsNoop(hops)) + "\r\n"); err != nil {
		return c.fail(StepXCLIENT, Temporary, "", err)
	}
	a, err := c.behind(func(l sieveLine) bool { _, str := l.string(0); return l.bad || !str })
	if err == nil && a.status != "OK" {
		err = errors.New("refuses NOOP")
	}
	if err != nil {
		return c.fail(StepXCLIENT, Temporary, sieveWords(a.text), err)
	}
	return nil
}
