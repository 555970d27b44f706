package backend

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/imapwire"
)

// LoginIMAP is who logs in at an IMAP server.
type LoginIMAP struct {
	Credentials *auth.Credentials
	LoginName   string // on this side
	ClientAddr  netip.AddrPort
	ClientID    []string // the arguments of the client's ID command
}

// IMAPConn is a connection that is logged in. It runs over a tlsconf.Quiet.
type IMAPConn struct {
	net.Conn
	Buffered     []byte   // what the server said behind its answer to the login
	Capabilities []string // after the login, in the server's order
	OKText       string   // text of the tagged OK, without its CAPABILITY code
	Host         string
}

// imapConn is the client's side of IMAP up to the login.
type imapConn struct {
	*conn
	caps []string // the latest known
	tag  int
}

// DialIMAP connects and logs in (RFC 9051, sections 6.2.2 and 6.2.3). Nothing is sent behind LOGIN or AUTHENTICATE
// before its answer. The error is an *Error.
func (d *Dialer) DialIMAP(ctx context.Context, at config.Side, name string, who LoginIMAP) (*IMAPConn, error) {
	raw, err := d.connect(ctx, at, config.IMAP, name)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	c := &imapConn{conn: raw}
	done := c.within(ctx, raw.conf.LoginTimeout)
	out, err := c.login(ctx, who)
	done()
	if err != nil {
		c.Close()
		return nil, err
	}
	d.rec.LoggedIn(at, config.IMAP, time.Since(start))
	return out, nil
}

func (c *imapConn) login(ctx context.Context, who LoginIMAP) (*IMAPConn, error) {
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	if err := c.id(who); err != nil {
		return nil, err
	}
	ok, err := c.authenticate(who)
	if err != nil {
		return nil, err
	}
	if c.caps == nil {
		if err := c.capability(); err != nil {
			return nil, err
		}
	}
	return &IMAPConn{Conn: c.Conn, Buffered: c.buffered(), Capabilities: c.caps, OKText: ok, Host: c.host.Name}, nil
}

// open reads the greeting, learns the capabilities, and begins TLS where that is configured.
func (c *imapConn) open(ctx context.Context) error {
	line, err := c.line()
	if err != nil {
		return c.fail(StepBanner, Temporary, line, err)
	}
	status, text := cutWord(strings.TrimPrefix(line, "* "))
	switch {
	case strings.HasPrefix(line, "* ") && strings.EqualFold(status, "BYE"):
		return c.fail(StepBanner, Temporary, line, errNotOK)
	case !strings.HasPrefix(line, "* ") || !strings.EqualFold(status, "OK"):
		return c.fail(StepBanner, Refused, line, errNotOK) // PREAUTH too: it would be anybody's mailbox
	}
	c.codeCapability(text)
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
		c.caps = strings.Fields(list)
	}
	return strings.TrimPrefix(rest, " ")
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
			return status, c.codeCapability(text), responseCode(text), nil
		case first == "+":
			return "", rest, "", errContinue
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
		c.caps = strings.Fields(rest)
	case "BYE":
		return errors.New("server said BYE")
	case "OK":
		c.codeCapability(rest)
	case "NO", "BAD":
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

// responseCode is the name of the code in "[CODE ...] text", upper case.
func responseCode(text string) string {
	if !strings.HasPrefix(text, "[") {
		return ""
	}
	code, _, ok := strings.Cut(text[1:], "]")
	if !ok {
		return ""
	}
	name, _ := cutWord(code)
	return strings.ToUpper(name)
}

// id passes the client's ID on (RFC 2971), and his address to a host that trusts us.
func (c *imapConn) id(who LoginIMAP) error {
	if !c.has("ID") {
		return nil
	}
	var pairs []string
	for i := 0; i+1 < len(who.ClientID); i += 2 {
		key, value := who.ClientID[i], who.ClientID[i+1]
		if len(key) > 30 || len(value) > 1024 || trustKey(key) {
			continue // RFC 2971, section 3.3; and what only a trusted proxy may say
		}
		pairs = append(pairs, key, value)
	}
	if c.conf.ClientAddress && who.ClientAddr.IsValid() {
		pairs = pairs[:min(len(pairs), 50)]
		pairs = append(pairs, "x-originating-ip", who.ClientAddr.Addr().String(),
			"x-originating-port", strconv.Itoa(int(who.ClientAddr.Port())))
	}
	if len(pairs) == 0 {
		return nil
	}
	var b strings.Builder
	for i, p := range pairs {
		q, ok := imapwire.Quote(p)
		switch {
		case i%2 == 1 && strings.EqualFold(p, "NIL"):
			q = "NIL"
		case !ok && i%2 == 0:
			q = `"x"`
		case !ok:
			q = "NIL"
		}
		b.WriteString(" " + q)
	}
	tag := c.nextTag()
	if err := c.send(tag + " ID (" + b.String()[1:] + ")\r\n"); err != nil {
		return c.fail(StepID, Temporary, "", err)
	}
	if _, text, _, err := c.answer(tag); err != nil {
		return c.fail(StepID, Temporary, text, err)
	}
	return nil // a server that refuses ID can be used all the same
}

func trustKey(key string) bool { return len(key) >= 2 && strings.EqualFold(key[:2], "x-") }

// authenticate logs in, and returns the text of the tagged OK.
func (c *imapConn) authenticate(who LoginIMAP) (string, error) {
	cr := who.Credentials
	switch {
	case cr.OAuth():
		if !c.has("AUTH=" + cr.Mechanism) {
			return "", c.fail(StepLogin, Refused, strings.Join(c.caps, " "), errors.New("does not offer "+cr.Mechanism))
		}
		return c.sasl(cr.Mechanism, auth.ClientResponse(cr.Mechanism, cr, who.LoginName))
	case c.has("AUTH=PLAIN"):
		return c.sasl("PLAIN", auth.ClientResponse("PLAIN", cr, who.LoginName))
	case !c.has("LOGINDISABLED"):
		return c.loginCommand(who)
	case c.has("AUTH=LOGIN"):
		return c.sasl("LOGIN", []byte(who.LoginName), []byte(cr.Password.Reveal()))
	}
	return "", c.fail(StepLogin, Refused, strings.Join(c.caps, " "),
		errors.New("offers no way to log in with a password (LOGINDISABLED)"))
}

// maxInitial is the longest initial response that goes on the command line: some servers take no more than 8192.
const maxInitial = 6000

// sasl runs AUTHENTICATE; responses follow each other, the first as initial response where the server takes it
// (RFC 4959).
func (c *imapConn) sasl(mechanism string, responses ...[]byte) (string, error) {
	tag := c.nextTag()
	command := tag + " AUTHENTICATE " + mechanism
	if first := base64.StdEncoding.EncodeToString(responses[0]); c.has("SASL-IR") && len(first) <= maxInitial && mechanism != "LOGIN" {
		command += " " + first
		responses = responses[1:]
	}
	c.caps = nil // those after the login count
	if err := c.send(command + "\r\n"); err != nil {
		return "", c.fail(StepLogin, Temporary, "", err)
	}
	var challenge []byte
	for {
		status, text, code, err := c.answer(tag)
		if !errors.Is(err, errContinue) {
			return c.verdict(status, text, code, challenge, err)
		}
		reply := "*"
		if len(responses) > 0 {
			reply = base64.StdEncoding.EncodeToString(responses[0])
			responses = responses[1:]
		} else if mechanism == "XOAUTH2" || mechanism == "OAUTHBEARER" {
			// The server says why it refuses, and wants an answer first (RFC 7628, section 3.2.3).
			if challenge, err = base64.StdEncoding.DecodeString(text); err != nil || len(challenge) > 2048 {
				challenge = nil
			}
			reply = ""
			if mechanism == "OAUTHBEARER" {
				reply = "AQ=="
			}
		}
		if err := c.send(reply + "\r\n"); err != nil {
			return "", c.fail(StepLogin, Temporary, "", err)
		}
	}
}

// loginCommand runs LOGIN, with literals for what quoted strings cannot hold.
func (c *imapConn) loginCommand(who LoginIMAP) (string, error) {
	tag := c.nextTag()
	line := tag + " LOGIN"
	c.caps = nil
	for _, arg := range []string{who.LoginName, who.Credentials.Password.Reveal()} {
		if q, ok := imapwire.Quote(arg); ok {
			line += " " + q
			continue
		}
		if err := c.send(line + " {" + strconv.Itoa(len(arg)) + "}\r\n"); err != nil {
			return "", c.fail(StepLogin, Temporary, "", err)
		}
		if status, text, code, err := c.answer(tag); !errors.Is(err, errContinue) {
			return c.verdict(status, text, code, nil, err)
		}
		line = arg
	}
	if err := c.send(line + "\r\n"); err != nil {
		return "", c.fail(StepLogin, Temporary, "", err)
	}
	status, text, code, err := c.answer(tag)
	return c.verdict(status, text, code, nil, err)
}

// verdict reads the answer to a login. Only a NO that is about the credentials is AuthFailed (RFC 5530).
func (c *imapConn) verdict(status, text, code string, challenge []byte, err error) (string, error) {
	if err != nil {
		return "", c.fail(StepLogin, Temporary, text, err)
	}
	if status == "OK" {
		return text, nil
	}
	e := c.fail(StepLogin, Temporary, text, errors.New("answers "+status))
	e.Code, e.Challenge = code, challenge
	if status == "NO" {
		switch code {
		case "", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "ALERT":
			e.Kind = AuthFailed
		case "PRIVACYREQUIRED":
			e.Kind = Refused
		}
	}
	return "", e
}
