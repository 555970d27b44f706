package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
)

// imapFront is IMAP (RFC 9051, RFC 3501) before login; after it the session is a link.
type imapFront struct{}

// refuse implements protocol.
func (*imapFront) refuse(text string) string { return "* BYE [UNAVAILABLE] " + text + "\r\n" }

// imapClient is one client before login.
type imapClient struct {
	*client
	in       imapwire.CommandReader
	id       []string // arguments of the client's ID command
	askedCap bool     // the client used CAPABILITY: he may not read the one in a tagged OK
}

// maxArgs is a limit of the command reader that needs no setting.
const maxArgs = 70 // ID has at most 30 pairs (RFC 2971, section 3.3)

// serve implements protocol.
func (*imapFront) serve(ctx context.Context, c *client) {
	s := &imapClient{client: c}
	s.in = imapwire.CommandReader{R: c.r, MaxLine: c.set.cfg.Limits.LineLength, MaxLiteral: c.set.cfg.Limits.LiteralLength,
		MaxArgs: maxArgs, Continue: func() error { return c.write("+ OK\r\n") }}
	s.in.MaxLine += s.in.MaxLiteral // a line of text, and a literal in it
	if err := c.write(s.greeting()); err != nil {
		return
	}
	c.loop("* BYE Time before login is up.\r\n", func() error {
		cmd, err := s.in.Read()
		if err != nil {
			return s.complain(cmd.Tag, err)
		}
		return s.command(ctx, cmd)
	})
}

// greeting is the line that a client sees first.
func (s *imapClient) greeting() string {
	return "* OK [CAPABILITY " + s.capabilities() + "] " + s.ready("") + "\r\n"
}

// complain answers a command that could not be read.
func (s *imapClient) complain(tag string, err error) error {
	if tag == "" {
		tag = "*"
	}
	switch {
	case errors.Is(err, imapwire.ErrSyntax):
		return s.mistake(tag, "Syntax error in command.")
	case errors.Is(err, imapwire.ErrLiteralSync):
		return s.mistake(tag, "[TOOBIG] Literal is too long before login.")
	case errors.Is(err, imapwire.ErrLineLength), errors.Is(err, imapwire.ErrLiteralData),
		errors.Is(err, imapwire.ErrControl):
		s.srv.log.Info("bad input before login", "protocol", config.IMAP, "client", s.addr, "err", err)
		_ = s.write("* BYE " + upperFirst(err.Error()) + ".\r\n")
		return errOver
	case isTimeout(err):
		_ = s.write("* BYE Disconnected for inactivity.\r\n")
	}
	return errOver
}

// mistake answers BAD, and closes on a client that makes nothing but mistakes.
func (s *imapClient) mistake(tag, text string) error {
	return s.client.mistake(tag+" BAD "+text+"\r\n", "* BYE Too many invalid commands.\r\n")
}

// capabilities are those before login: what the gateway itself accepts, and what both sides promise at that point.
func (s *imapClient) capabilities() string {
	caps := []string{"IMAP4rev1", "SASL-IR", "LITERAL-", "ID"}
	caps = append(caps, s.srv.commonCapabilities()...)
	if !s.tls && s.ln.Mode == config.StartTLS {
		caps = append(caps, "STARTTLS")
	}
	if !s.secure() {
		caps = append(caps, "LOGINDISABLED")
	}
	return strings.Join(append(caps, s.mechanisms()...), " ")
}

// mechanisms are the AUTH= capabilities.
func (s *imapClient) mechanisms() []string {
	if !s.secure() {
		return nil
	}
	var out []string
	for _, m := range s.srv.mechanisms(s.set, config.IMAP) {
		out = append(out, "AUTH="+m)
	}
	return out
}

// command answers one command; an error ends the loop.
func (s *imapClient) command(ctx context.Context, c imapwire.Command) error {
	switch c.Name {
	case "CAPABILITY":
		s.askedCap = true
		return s.write("* CAPABILITY " + s.capabilities() + "\r\n" + c.Tag + " OK Capability completed.\r\n")
	case "NOOP":
		return s.write(c.Tag + " OK NOOP completed.\r\n")
	case "LOGOUT":
		_ = s.write("* BYE Logging out\r\n" + c.Tag + " OK Logout completed.\r\n")
		return errOver
	case "ID":
		return s.idCommand(c)
	case "STARTTLS":
		return s.startTLSCommand(c)
	case "LOGIN":
		if len(c.Args) != 2 {
			return s.mistake(c.Tag, "LOGIN takes a user name and a password.")
		}
		return s.password(ctx, &imapLogin{s, c.Tag}, c.Args[0], c.Args[1])
	case "AUTHENTICATE": // RFC 9051, section 6.2.2; initial response: RFC 4959
		if len(c.Args) < 1 || len(c.Args) > 2 {
			return s.mistake(c.Tag, "AUTHENTICATE takes a mechanism and perhaps an initial response.")
		}
		return s.sasl(ctx, &imapLogin{s, c.Tag}, c.Args[0], c.Args[len(c.Args)-1], len(c.Args) == 2)
	}
	return s.mistake(c.Tag, "Unknown command, or not before login.")
}

// idCommand answers ID (RFC 2971) and keeps what the client said for the backend.
func (s *imapClient) idCommand(c imapwire.Command) error {
	if len(c.Args) == 1 && strings.EqualFold(c.Args[0], "NIL") {
		s.id = nil
	} else if len(c.Args)%2 != 0 || len(c.Args) > 60 {
		return s.mistake(c.Tag, "ID takes a list of at most 30 pairs, or NIL.")
	} else {
		s.id = c.Args
		s.hopID(c.Args)
	}
	return s.write("* ID (\"name\" \"mailgate\")\r\n" + c.Tag + " OK ID completed.\r\n")
}

func (s *imapClient) startTLSCommand(c imapwire.Command) error {
	if s.tls {
		return s.mistake(c.Tag, "TLS is already active.")
	}
	if s.ln.Mode != config.StartTLS {
		return s.mistake(c.Tag, "STARTTLS is not offered here.")
	}
	if err := s.write(c.Tag + " OK Begin TLS negotiation now.\r\n"); err != nil {
		return err
	}
	if err := s.startTLS(); err != nil {
		return err
	}
	s.id, s.askedCap = nil, false // what was said in clear may not be the client's
	return nil
}

// imapLogin is a LOGIN or AUTHENTICATE under its tag; it implements dialect.
type imapLogin struct {
	*imapClient
	tag string
}

func (s *imapLogin) challenge(b []byte) error {
	return s.write("+ " + base64.StdEncoding.EncodeToString(b) + "\r\n")
}

func (s *imapLogin) response() (string, error) {
	line, err := s.in.Line(maxSASLLine)
	if err == nil && line == "*" {
		err = errCancelled
	}
	return line, err
}

func (s *imapLogin) complain(err error) error { return s.imapClient.complain(s.tag, err) }

func (s *imapLogin) mistaken(why error) error {
	switch why {
	case errClear:
		return s.write(s.tag + " NO [PRIVACYREQUIRED] Plaintext authentication is disallowed without TLS.\r\n")
	case errMechanism:
		return s.write(s.tag + " NO Unsupported authentication mechanism.\r\n")
	case errInitial:
		return s.mistake(s.tag, "The initial response is not base64.")
	case errCancelled:
		return s.write(s.tag + " BAD Authentication cancelled.\r\n")
	}
	return s.mistake(s.tag, "The response is not base64.")
}

func (s *imapLogin) failed(e *loginError) error {
	code := "UNAVAILABLE" // RFC 5530: the credentials may be right
	switch {
	case e.rejected() || e.result == "malformed":
		code = "AUTHENTICATIONFAILED"
	case e.result == "rate_limited":
		code = "LIMIT"
	}
	return s.write(fmt.Sprintf("%s NO [%s] %s\r\n", s.tag, code, e.text))
}

func (s *imapLogin) tooMany() { _ = s.write("* BYE Too many failed logins.\r\n") }

func (s *imapLogin) waiting() error {
	return s.write("* OK [INPROGRESS] Your mailbox is being moved, please wait.\r\n")
}

func (s *imapLogin) dial(ctx context.Context, at target, creds *auth.Credentials) (dialed, error) {
	conn, err := s.srv.dialer.DialIMAP(ctx, at.Side, at.host, backend.LoginIMAP{Credentials: creds, LoginName: at.login,
		ClientAddr: s.addr, ClientID: s.id, Hops: s.hops})
	if err != nil {
		return dialed{}, err
	}
	caps := strings.Join(imapwire.OfferableStrings(conn.Capabilities), " ")
	hello := s.tag + " OK [CAPABILITY " + caps + "] " + conn.OKText + "\r\n"
	if s.askedCap {
		hello = "* CAPABILITY " + caps + "\r\n" + hello
	}
	for _, a := range conn.Alerts {
		hello = "* OK [ALERT] " + a + "\r\n" + hello
	}
	return s.linked(conn.Conn, conn.Host, hello, conn.Buffered, &imapBoundary{})
}

// imapBoundary makes the tracker a boundary.
type imapBoundary struct{ imapwire.Tracker }

// ByeLine implements boundary.
func (t *imapBoundary) ByeLine(text string) string {
	if t.Bye() || !t.ServerAtStart() {
		return ""
	}
	return "* BYE [UNAVAILABLE] " + text + "\r\n"
}

// Leave implements boundary.
func (t *imapBoundary) Leave() string {
	switch {
	case t.Bye() || !t.ClientAtStart():
		return "" // a line of ours behind half a line of the client's would make another command of it
	case t.Idling():
		return "DONE\r\nmailgate LOGOUT\r\n"
	}
	return "mailgate LOGOUT\r\n"
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, io.ErrNoProgress)
}
