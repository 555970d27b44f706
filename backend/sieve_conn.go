package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/config"
)

// SieveCapabilities is what a ManageSieve server says of itself (RFC 5804, section 1.7).
type SieveCapabilities struct {
	Implementation string
	Version        string   // "" before RFC 5804: CHECKSCRIPT is not there
	Extensions     []string // of Sieve, in lower case, without the core
	Mechanisms     []string // of SASL, in upper case
	Notify         []string // methods of enotify, in lower case
	StartTLS       bool
	XCLIENT        bool // the host takes it from us (Dovecot)
}

// Lacks lists those of names that the server's Sieve does not have; "comparator-i;octet" and the like of the core are never missing.
func (c SieveCapabilities) Lacks(names []string) (out []string) {
	core := []string{"comparator-i;octet", "comparator-i;ascii-casemap"} // RFC 5228, section 2.7.3
	for _, n := range names {
		n = strings.ToLower(n)
		if !slices.Contains(c.Extensions, n) && !slices.Contains(core, n) && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// sieveConn is a connection to a ManageSieve server up to the login.
type sieveConn struct {
	*conn
	caps  SieveCapabilities
	limit time.Time // for the answer to the login
	late  bool      // capabilities were asked for because none came unasked: those may come yet
}

// DialSieve connects to a side's ManageSieve and logs in (RFC 5804, section 2.1). The error is an *Error; it wraps ErrNoHost when the
// side has no ManageSieve. max_connections counts the connection.
func (d *Dialer) DialSieve(ctx context.Context, at config.Side, name string, who Account) (*SieveClient, error) {
	var c *sieveConn
	var start time.Time
	_, err := d.connectAnd(ctx, at, config.Sieve, name, forSync(), func(ctx context.Context, raw *conn) error {
		c, start = &sieveConn{conn: raw}, time.Now()
		return c.open(ctx)
	})
	if err != nil {
		return nil, err
	}
	done := c.before(ctx, c.limit)
	err = c.login(who)
	done()
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
			c.host.muted(config.Sieve, err)
		}
		c.Close()
		return nil, err
	}
	d.rec.LoggedIn(at, config.Sieve, time.Since(start))
	return &SieveClient{c: c.conn, caps: c.caps, patience: sievePatience}, nil
}

// open reads the greeting, which is what CAPABILITY says, and begins TLS where that is configured.
func (c *sieveConn) open(ctx context.Context) error {
	done := c.within(ctx, c.conf.ConnectTimeout)
	err := c.greeting(StepBanner)
	done()
	if err != nil {
		return err
	}
	c.limit = time.Now().Add(c.conf.LoginTimeout)
	if c.host.Sieve.Mode != config.StartTLS {
		return nil
	}
	defer c.before(ctx, c.limit)()
	return c.startTLS(ctx)
}

// greeting takes capabilities up to OK.
func (c *sieveConn) greeting(step Step) error {
	a, err := c.answer()
	if err == nil && a.status == "OK" && a.lines == nil {
		err = fmt.Errorf("%w: no capabilities", errSieveGrammar)
	}
	kind := Temporary
	switch {
	case errors.Is(err, errSieveGrammar):
		kind = Refused
	case err == nil && a.status == "OK":
		c.take(a.lines)
		return c.greeted(a.text)
	case err == nil && a.status == "BYE":
		err = errBye
	case err == nil:
		err = errors.New("answers " + a.status)
	}
	e := c.fail(step, kind, sieveWords(a.text), err)
	e.Code = a.code
	return e
}

// answer reads one. What is no ManageSieve is told by its first line, rather than when the server has said all it has to say.
func (c *sieveConn) answer() (sieveAnswer, error) {
	r := sieveReader{c: c.conn}
	a, err := r.answer(func(l sieveLine) bool { _, str := l.string(0); return l.bad || !str })
	if err == nil && a.status == "" {
		err = fmt.Errorf("%w: %q", errSieveGrammar, printable(a.lines[len(a.lines)-1].raw))
	}
	return a, err
}

// behind reads the answer to a command that is not about capabilities. Those that came late stand before it, once.
func (c *sieveConn) behind(more func(sieveLine) bool) (sieveAnswer, error) {
	for {
		first := true
		r := sieveReader{c: c.conn}
		a, err := r.answer(func(l sieveLine) bool {
			was := first
			first = false
			return was && more(l)
		})
		if err != nil || !c.late || a.status != "OK" || a.lines == nil {
			return a, err
		}
		c.late = false
	}
}

// maxSieveWords bounds the words of a capability: every greeting of ours compares those of both sides.
const maxSieveWords = 200

// sieveList takes a capability's words, without what no name holds.
func sieveList(value string) []string {
	list := strings.Fields(value)
	list = slices.DeleteFunc(list[:min(len(list), maxSieveWords)], func(w string) bool {
		return len(w) > 100 || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r >= 0x7f })
	})
	return slices.Clip(list)
}

// take reads capabilities: a name, and perhaps a value, both strings.
func (c *sieveConn) take(lines []sieveLine) {
	c.caps = SieveCapabilities{}
	for _, l := range lines {
		name, _ := l.string(0)
		value, _ := l.string(1)
		switch strings.ToUpper(name) {
		case "IMPLEMENTATION":
			c.caps.Implementation = printable(value)
		case "VERSION":
			c.caps.Version = printable(value)
		case "SIEVE":
			c.caps.Extensions = sieveList(strings.ToLower(value))
		case "NOTIFY":
			c.caps.Notify = sieveList(strings.ToLower(value))
		case "SASL":
			c.caps.Mechanisms = sieveList(strings.ToUpper(value))
		case "STARTTLS":
			c.caps.StartTLS = true
		case "XCLIENT":
			c.caps.XCLIENT = true // Dovecot names no attributes
		}
	}
}

// unasked is how long capabilities are waited for behind TLS before they are asked for: servers of a time before RFC 5804 do not send
// them by themselves.
const unasked = 3 * time.Second

// startTLS begins TLS; what was said in clear is forgotten (RFC 5804, section 2.2).
func (c *sieveConn) startTLS(ctx context.Context) error {
	if err := c.send("STARTTLS\r\n"); err != nil {
		return c.fail(StepStartTLS, Temporary, "", err)
	}
	a, err := c.answer()
	switch {
	case err != nil:
		return c.fail(StepStartTLS, Temporary, "", err)
	case a.status != "OK":
		return c.fail(StepStartTLS, Refused, sieveWords(a.text), errors.New("refuses STARTTLS"))
	case c.r.Buffered() > 0:
		return c.fail(StepStartTLS, Refused, "", errBuffered)
	}
	if err := c.handshake(ctx); err != nil {
		return err
	}
	_ = c.raw.SetReadDeadline(time.Now().Add(unasked))
	_, err = c.r.Peek(1)
	_ = c.raw.SetReadDeadline(c.limit)
	if ctx.Err() != nil { // whose own deadline that took away
		return c.fail(StepCapability, Temporary, "", ctx.Err())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.late = true
		return c.capability()
	}
	return c.greeting(StepCapability)
}

// capability asks for the capabilities.
func (c *sieveConn) capability() error {
	if err := c.send("CAPABILITY\r\n"); err != nil {
		return c.fail(StepCapability, Temporary, "", err)
	}
	return c.greeting(StepCapability)
}

// login authenticates, and learns the capabilities that hold from then on.
func (c *sieveConn) login(who Account) error {
	if err := c.in(who); err != nil {
		return err
	}
	return c.capability()
}

// in authenticates.
func (c *sieveConn) in(who Account) error {
	cr := who.Credentials
	mechanism, first := "PLAIN", append([]byte(who.Authzid), auth.ClientResponse("PLAIN", cr, who.LoginName)...)
	if cr.OAuth() {
		mechanism, first = cr.Mechanism, auth.ClientResponse(cr.Mechanism, cr, who.LoginName)
	}
	if !slices.Contains(c.caps.Mechanisms, mechanism) {
		return c.fail(StepLogin, Refused, strings.Join(c.caps.Mechanisms, " "), fmt.Errorf("%w %s", ErrNotOffered, mechanism))
	}
	return c.authenticate(mechanism, first)
}
