package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/router"
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

// Limits of the command reader that need no setting.
const (
	maxArgs     = 70 // ID has at most 30 pairs (RFC 2971, section 3.3)
	maxMistakes = 10
	maxSASLLine = 16 << 10 // OAuth tokens are long
)

// serve implements protocol.
func (*imapFront) serve(ctx context.Context, c *client) {
	s := &imapClient{client: c}
	s.in = imapwire.CommandReader{R: c.r, MaxLine: c.set.cfg.Limits.LineLength, MaxLiteral: c.set.cfg.Limits.LiteralLength,
		MaxArgs: maxArgs, Continue: func() error { return c.write("+ OK\r\n") }}
	s.in.MaxLine += s.in.MaxLiteral // a line of text, and a literal in it
	if err := c.write("* OK [CAPABILITY " + s.capabilities() + "] " + c.set.cfg.Hostname + " ready.\r\n"); err != nil {
		return
	}
	for {
		if err := c.await(); err != nil {
			_ = c.write("* BYE Time before login is up.\r\n")
			return
		}
		cmd, err := s.in.Read()
		if err == nil {
			err = s.command(ctx, cmd)
		} else {
			err = s.complain(cmd.Tag, err)
		}
		if err != nil {
			return
		}
	}
}

// errOver ends the loop before login: the client logged out, was handed on, or was told to go.
var errOver = errors.New("over")

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
	if s.mistakes++; s.mistakes >= maxMistakes {
		_ = s.write("* BYE Too many invalid commands.\r\n")
		return errOver
	}
	return s.write(tag + " BAD " + text + "\r\n")
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
		if !s.secure() {
			return s.write(c.Tag + " NO [PRIVACYREQUIRED] Plaintext authentication is disallowed without TLS.\r\n")
		}
		creds, err := auth.Password("LOGIN", c.Args[0], c.Args[1])
		if err != nil {
			return s.malformed(c.Tag, err)
		}
		return s.authenticate(ctx, c.Tag, creds)
	case "AUTHENTICATE":
		return s.authenticateCommand(ctx, c)
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
		s.srv.log.Info("TLS handshake", "protocol", config.IMAP, "client", s.addr, "err", err)
		return err
	}
	s.id, s.askedCap = nil, false // what was said in clear may not be the client's
	return nil
}

// authenticateCommand runs a SASL exchange (RFC 9051, section 6.2.2; initial response: RFC 4959).
func (s *imapClient) authenticateCommand(ctx context.Context, c imapwire.Command) error {
	if len(c.Args) < 1 || len(c.Args) > 2 {
		return s.mistake(c.Tag, "AUTHENTICATE takes a mechanism and perhaps an initial response.")
	}
	if !s.secure() {
		return s.write(c.Tag + " NO [PRIVACYREQUIRED] Plaintext authentication is disallowed without TLS.\r\n")
	}
	name := strings.ToUpper(c.Args[0])
	if !s.srv.offers(s.set, config.IMAP, name) {
		return s.write(c.Tag + " NO Unsupported authentication mechanism.\r\n")
	}
	x, err := auth.Start(name)
	if err != nil {
		return s.write(c.Tag + " NO Unsupported authentication mechanism.\r\n")
	}
	var response []byte
	if len(c.Args) == 2 {
		if response, err = decodeSASL(c.Args[1]); err != nil {
			return s.mistake(c.Tag, "The initial response is not base64.")
		}
	}
	have := len(c.Args) == 2
	for {
		if !have {
			response = nil
		}
		challenge, creds, err := x.Next(response)
		if err != nil {
			return s.malformed(c.Tag, err)
		}
		if creds != nil {
			return s.authenticate(ctx, c.Tag, creds)
		}
		if response, err = s.saslLine(challenge); err != nil {
			if errors.Is(err, errCancelled) {
				return s.write(c.Tag + " BAD Authentication cancelled.\r\n")
			}
			if errors.Is(err, errBase64) {
				return s.mistake(c.Tag, "The response is not base64.")
			}
			return s.complain(c.Tag, err)
		}
		have = true
	}
}

var (
	errCancelled = errors.New("client cancelled the exchange")
	errBase64    = errors.New("not base64")
)

// decodeSASL decodes an initial response; "=" is an empty one (RFC 4959, section 3).
func decodeSASL(s string) ([]byte, error) {
	if s == "=" {
		return []byte{}, nil
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}

// saslLine sends a challenge and reads the response.
func (s *imapClient) saslLine(challenge []byte) ([]byte, error) {
	if err := s.write("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n"); err != nil {
		return nil, err
	}
	if err := s.await(); err != nil {
		return nil, err
	}
	line, err := s.in.Line(maxSASLLine)
	if err != nil {
		return nil, err
	}
	if line == "*" {
		return nil, errCancelled
	}
	b, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}

// malformed answers credentials that cannot be anyone's.
func (s *imapClient) malformed(tag string, err error) error {
	s.srv.log.Info("login malformed", "protocol", config.IMAP, "client", s.addr, "err", err)
	s.srv.rec.Auth(config.IMAP, config.Old, "", "none", "malformed")
	return s.answerFailure(tag, s.refused("", &loginError{"malformed", authFailed, err}))
}

// crowdedTries is how often a login is tried again at a host that is crowded with connections of ours that give way.
const crowdedTries = 5

// moment waits for one, and tells whether ctx lasts.
func moment(ctx context.Context) bool {
	t := time.NewTimer(300 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// authenticate takes credentials to the backend; errOver means that the session runs.
func (s *imapClient) authenticate(ctx context.Context, tag string, creds *auth.Credentials) error {
	var conn *backend.IMAPConn
	var l *link
	dial := func(ctx context.Context, at target) (d dialed, err error) {
		who := backend.LoginIMAP{Credentials: creds, LoginName: at.login, ClientAddr: s.addr, ClientID: s.id}
		conn, err = s.srv.dialer.DialIMAP(ctx, at.Side, at.host, who)
		for tries := 1; err != nil && tries <= crowdedTries && s.srv.crowded(at.Side, at.user, err) && moment(ctx); tries++ {
			conn, err = s.srv.dialer.DialIMAP(ctx, at.Side, at.host, who)
		}
		if err != nil {
			return d, err
		}
		l, err = newLink(s.srv, s.conn, conn.Conn, &imapBoundary{})
		if err != nil {
			conn.Close()
			return d, err
		}
		return dialed{conn: conn.Conn, ender: l, host: conn.Host}, nil
	}
	sess, _, err := s.login(ctx, creds, true, dial, func() error {
		return s.write("* OK [INPROGRESS] Your mailbox is being moved, please wait.\r\n")
	})
	if err != nil {
		return s.answerLogin(tag, err)
	}
	caps := strings.Join(imapwire.OfferableStrings(conn.Capabilities), " ")
	hello := tag + " OK [CAPABILITY " + caps + "] " + conn.OKText + "\r\n"
	if s.askedCap {
		hello = "* CAPABILITY " + caps + "\r\n" + hello
	}
	for _, a := range conn.Alerts {
		hello = "* OK [ALERT] " + a + "\r\n" + hello
	}
	s.run(l, sess, hello, conn.Buffered)
	return errOver
}

// run hands the connection to the link. The answer to the login goes first, and counts as its first bytes.
func (s *imapClient) run(l *link, sess *router.Session, hello string, fromServer []byte) {
	_, pipelined := s.hand()
	if err := s.write(hello); err != nil {
		l.abandon("client gone at login")
	}
	l.start(sess, s.srv.log, pipelined, fromServer)
}

// answerLogin answers a login that failed; the error is a *loginError.
func (s *imapClient) answerLogin(tag string, err error) error {
	var le *loginError
	if !errors.As(err, &le) {
		le = &loginError{"backend_error", temporary, err}
	}
	var be *backend.Error
	if le.rejected() && errors.As(err, &be) && len(be.Challenge) > 0 {
		// RFC 7628, section 3.2.2: the client sees why, answers, and then gets the tagged NO.
		if _, err := s.saslLine(be.Challenge); err != nil && !errors.Is(err, errCancelled) && !errors.Is(err, errBase64) {
			return err
		}
	}
	return s.answerFailure(tag, le)
}

func (s *imapClient) answerFailure(tag string, e *loginError) error {
	code := "UNAVAILABLE" // RFC 5530: the credentials may be right
	switch {
	case e.rejected() || e.result == "malformed":
		code = "AUTHENTICATIONFAILED"
	case e.result == "rate_limited":
		code = "LIMIT"
	}
	if err := s.write(fmt.Sprintf("%s NO [%s] %s\r\n", tag, code, e.text)); err != nil {
		return err
	}
	if s.failures >= s.set.cfg.Login.MaxFailures {
		_ = s.write("* BYE Too many failed logins.\r\n")
		return errOver
	}
	return nil
}

// imapBoundary makes the tracker a boundary.
type imapBoundary struct{ imapwire.Tracker }

// Answering implements boundary.
func (t *imapBoundary) Answering() bool {
	return t.Outstanding() > 0 && !t.Idling() && t.ClientAtStart()
}

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
