package backend

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/config"
)

// LoginIMAP is who logs in at an IMAP server.
type LoginIMAP struct {
	Credentials *auth.Credentials
	LoginName   string // on this side
	Authzid     string // whose mailbox is opened, where that is another's: PLAIN only (RFC 4616)
	ClientAddr  netip.AddrPort
	ClientID    []string // the arguments of the client's ID command
	Hops        int      // how many were left when the client came; 0 where nobody told
}

// IMAPConn is a connection that is logged in. It runs over a tlsconf.Quiet.
type IMAPConn struct {
	net.Conn
	Buffered     []byte   // what the server said behind its answer to the login
	Capabilities []string // after the login, in the server's order
	OKText       string   // text of the tagged OK, printable, without its response code
	Alerts       []string // what the server wants the user to see (RFC 9051, section 7.1)
	Host         string

	health *health
}

// imapConn is the client's side of IMAP up to the login.
type imapConn struct {
	*conn
	caps   []string // the latest known
	listed bool     // they came untagged, in the answer that is being read or was read last
	alerts []string
	tag    int
	limit  time.Time // for the answer to the login; set with the banner
}

// DialIMAP connects and logs in (RFC 9051, sections 6.2.2 and 6.2.3). Nothing is sent behind LOGIN or AUTHENTICATE
// before its answer. The error is an *Error.
func (d *Dialer) DialIMAP(ctx context.Context, at config.Side, name string, who LoginIMAP) (*IMAPConn, error) {
	return d.dialIMAP(ctx, at, name, forUser(who.ClientAddr).after(who.Hops), who)
}

func (d *Dialer) dialIMAP(ctx context.Context, at config.Side, name string, by asker, who LoginIMAP) (*IMAPConn, error) {
	var c *imapConn
	var start time.Time
	_, err := d.connectAnd(ctx, at, config.IMAP, name, by, func(ctx context.Context, raw *conn) error {
		c, start = &imapConn{conn: raw}, time.Now()
		return c.open(ctx)
	})
	if err != nil {
		return nil, err
	}
	done := c.before(ctx, c.limit)
	out, err := c.login(who)
	done()
	if err != nil {
		if by.syncer && ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
			c.host.muted(config.IMAP, err)
		}
		c.Close()
		return nil, err
	}
	d.rec.LoggedIn(at, config.IMAP, time.Since(start))
	return out, nil
}

func (c *imapConn) login(who LoginIMAP) (*IMAPConn, error) {
	if err := c.id(who); err != nil {
		return nil, err
	}
	text, err := c.authenticate(who)
	if err != nil {
		return nil, err
	}
	code, words := cutCode(text)
	if code == "ALERT" {
		c.alert(words)
	}
	if c.caps == nil || c.listed && c.early() {
		if err := c.capability(); err != nil {
			return nil, err
		}
	}
	return &IMAPConn{Conn: c.Conn, Buffered: c.buffered(), Capabilities: c.caps, OKText: printable(words),
		Alerts: c.alerts, Host: c.host.Name, health: c.host.health}, nil
}

// open reads the greeting, learns the capabilities, and begins TLS where that is configured.
func (c *imapConn) open(ctx context.Context) error {
	done := c.within(ctx, c.conf.ConnectTimeout)
	err := c.banner()
	done()
	if err != nil {
		return err
	}
	c.limit = time.Now().Add(c.conf.LoginTimeout)
	defer c.before(ctx, c.limit)()
	if c.host.IMAP.Mode == config.StartTLS {
		if err := c.startTLS(ctx); err != nil {
			return err
		}
	}
	if c.caps == nil {
		if err := c.capability(); err != nil {
			return err
		}
	}
	if !c.has("IMAP4rev1") && !c.has("IMAP4rev2") {
		return c.fail(StepCapability, Refused, strings.Join(c.caps, " "), errors.New("speaks no IMAP4rev1"))
	}
	return nil
}

func (c *imapConn) banner() error {
	line, err := c.line()
	if err != nil {
		return c.fail(StepBanner, Temporary, line, err)
	}
	star, rest := cutWord(line)
	status, text := cutWord(rest)
	switch {
	case star == "*" && strings.EqualFold(status, "BYE"):
		e := c.fail(StepBanner, Temporary, line, errBye)
		e.Code, _ = cutCode(text)
		return e
	case star != "*" || !strings.EqualFold(status, "OK"):
		return c.fail(StepBanner, Refused, line, errNotOK) // PREAUTH too: it would be anybody's mailbox
	}
	c.codeCapability(text)
	return c.greeted(text)
}

// maxAlerts bounds what is kept for the user.
const maxAlerts = 4

func (c *imapConn) alert(text string) {
	if len(c.alerts) < maxAlerts {
		c.alerts = append(c.alerts, printable(text))
	}
}

func (c *imapConn) has(name string) bool {
	return slices.ContainsFunc(c.caps, func(x string) bool { return strings.EqualFold(x, name) })
}

// codeCapability takes "[CAPABILITY ...]" at the start of a status text.
func (c *imapConn) codeCapability(text string) (rest string) {
	const p = "[CAPABILITY "
	if len(text) < len(p) || !strings.EqualFold(text[:len(p)], p) {
		return text
	}
	list, rest, ok := strings.Cut(text[len(p):], "]")
	if ok {
		c.caps, c.listed = strings.Fields(list), false
	}
	return strings.TrimPrefix(rest, " ")
}

// early tells whether capabilities that came untagged in the answer to the login are those from before it, which some servers tell late.
func (c *imapConn) early() bool {
	return slices.ContainsFunc(c.caps, func(x string) bool {
		x = strings.ToUpper(x)
		return strings.HasPrefix(x, "AUTH=") || x == "LOGINDISABLED" || x == "STARTTLS"
	})
}

func (c *imapConn) nextTag() string {
	c.tag++
	return "g" + strconv.Itoa(c.tag)
}

func (c *imapConn) startTLS(ctx context.Context) error {
	tag := c.nextTag()
	if err := c.send(tag + " STARTTLS\r\n"); err != nil {
		return c.fail(StepStartTLS, Temporary, "", err)
	}
	status, text, _, err := c.answer(tag)
	if err != nil {
		return c.fail(StepStartTLS, Temporary, text, err)
	}
	if status != "OK" {
		return c.fail(StepStartTLS, Refused, text, errors.New("refuses STARTTLS"))
	}
	if c.r.Buffered() > 0 {
		return c.fail(StepStartTLS, Refused, "", errBuffered)
	}
	c.caps = nil // RFC 9051, section 6.2.1: what was said in clear is forgotten
	return c.handshake(ctx)
}

func (c *imapConn) capability() error {
	tag := c.nextTag()
	if err := c.send(tag + " CAPABILITY\r\n"); err != nil {
		return c.fail(StepCapability, Temporary, "", err)
	}
	status, text, _, err := c.answer(tag)
	if err == nil && (status != "OK" || c.caps == nil) {
		err = errors.New("does not tell its capabilities")
	}
	if err != nil {
		return c.fail(StepCapability, Temporary, text, err)
	}
	return nil
}

// errContinue is answer's way to say that the server wants more.
var errContinue = errors.New("server continues")

// answer reads up to the tagged response, or up to a continuation request: then the error is errContinue and text what
// the request says. Untagged capabilities are taken, a BYE is an error, the rest is passed over.
func (c *imapConn) answer(tag string) (status, text string, code string, err error) {
	c.listed = false
	for {
		line, err := c.line()
		if err != nil {
			return "", line, "", err
		}
		switch first, rest := cutWord(line); {
		case first == tag:
			status, text := cutWord(rest)
			status = strings.ToUpper(status)
			if status != "OK" && status != "NO" && status != "BAD" {
				return "", line, "", errors.New("no status in the tagged response")
			}
			code, _ := cutCode(text)
			return status, c.codeCapability(text), code, nil
		case strings.HasPrefix(first, "+"): // some send no space behind it
			return "", strings.TrimPrefix(strings.TrimPrefix(line, "+"), " "), "", errContinue
		case first == "*":
			if err := c.untagged(rest); err != nil {
				return "", line, "", err
			}
		default:
			return "", line, "", errors.New("neither tagged nor untagged")
		}
	}
}

// untagged takes one untagged response, with the literals that it may hold.
func (c *imapConn) untagged(s string) error {
	word, rest := cutWord(s)
	switch strings.ToUpper(word) {
	case "CAPABILITY":
		if !c.listed {
			c.caps, c.listed = nil, true
		}
		c.caps = append(c.caps, strings.Fields(rest)...) // some tell them in several lines
	case "BYE":
		return errBye
	case "OK", "NO", "BAD":
		if code, text := cutCode(c.codeCapability(rest)); code == "ALERT" {
			c.alert(text)
		}
	default:
		return c.literals(s)
	}
	return nil
}

func (c *imapConn) literals(s string) error {
	for strings.HasSuffix(s, "}") {
		i := strings.LastIndexByte(s, '{')
		n, err := strconv.ParseUint(strings.TrimSuffix(s[i+1:len(s)-1], "+"), 10, 32)
		if i < 0 || err != nil {
			return nil
		}
		if c.left -= int(n); c.left < 0 {
			return errFlood
		}
		if _, err := c.r.Discard(int(n)); err != nil {
			return err
		}
		if s, err = c.line(); err != nil {
			return err
		}
	}
	return nil
}

func cutWord(s string) (word, rest string) {
	word, rest, _ = strings.Cut(s, " ")
	return word, rest
}

// cutCode splits "[CODE ...] text"; the name of the code is upper case, "" where there is none.
func cutCode(s string) (name, text string) {
	if !strings.HasPrefix(s, "[") {
		return "", s
	}
	code, text, ok := strings.Cut(s[1:], "]")
	if !ok {
		return "", s
	}
	name, _ = cutWord(code)
	return strings.ToUpper(name), strings.TrimPrefix(text, " ")
}
