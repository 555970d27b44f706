package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/router"
)

// popFront is POP3 (RFC 1939, RFC 2449, RFC 5034) before login, its AUTHORIZATION state; after it the session is a link that is
// followed by popTracker.
type popFront struct{}

// refuse implements protocol.
func (*popFront) refuse(text string) string { return "-ERR [SYS/TEMP] " + text + "\r\n" }

// popClient is one client before login.
type popClient struct {
	*client
	user string // of USER, "" before it
	utf8 bool   // RFC 6856: he asked for it
}

// serve implements protocol.
func (*popFront) serve(ctx context.Context, c *client) {
	s := &popClient{client: c}
	if s.write(s.greeting()) != nil {
		return
	}
	for {
		if err := c.await(); err != nil {
			_ = s.write("-ERR Time before login is up\r\n")
			return
		}
		line, err := readCommand(c.r, nil)
		if err == nil {
			err = s.command(ctx, line)
		} else {
			err = s.complain(err)
		}
		if err != nil {
			return
		}
	}
}

// greeting is the line that a client sees first.
func (s *popClient) greeting() string { return "+OK " + s.ready("") + "\r\n" }

func (s *popClient) ok(text string) error { return s.write("+OK " + text + "\r\n") }

// complain answers a line that could not be read.
func (s *popClient) complain(err error) error {
	switch {
	case errors.Is(err, errLineForm):
		return s.mistake("Lines hold no CR, LF or NUL but the CRLF at their end")
	case errors.Is(err, errLineEnd):
		_ = s.write("-ERR Lines end in CRLF, this one has a bare LF\r\n")
	case errors.Is(err, errLineLength):
		_ = s.write("-ERR Line too long\r\n")
	case isTimeout(err):
		_ = s.write("-ERR Disconnected for inactivity\r\n")
	}
	return errOver
}

// mistake answers what makes no sense, and closes on a client that makes nothing else.
func (s *popClient) mistake(text string) error {
	if s.mistakes++; s.mistakes >= maxMistakes {
		_ = s.write("-ERR Too many errors, closing connection\r\n")
		return errOver
	}
	return s.write("-ERR " + text + "\r\n")
}

// needTLS is the answer to a login in clear.
const needTLS = "Plaintext authentication is disallowed without TLS, use STLS first"

// command answers one command before login; an error ends the loop.
func (s *popClient) command(ctx context.Context, line string) error {
	name, args := verb(line)
	switch name {
	case "CAPA":
		return s.ok("Capability list follows\r\n" + strings.Join(s.capabilities(), "\r\n") + "\r\n.")
	case "QUIT":
		_ = s.ok("Bye")
		return errOver
	case "NOOP": // not of this state, and harmless
		s.noop(args)
		return s.ok("Nothing done")
	case "STLS":
		return s.stls(args)
	case "UTF8":
		if _, ok := s.both("UTF8"); !ok || args != "" {
			return s.mistake("UTF8 is not offered here")
		}
		s.utf8 = true
		return s.ok("UTF8 is on")
	case "USER":
		switch {
		case !s.secure():
			return s.mistake(needTLS)
		case args == "":
			return s.mistake("USER takes a name")
		}
		s.user = args
		return s.ok("Send your password") // whether there is such a user is nobody's business
	case "PASS":
		return s.pass(ctx, line)
	case "AUTH":
		return s.authCommand(ctx, args)
	case "APOP":
		return s.mistake("APOP is not offered here")
	}
	return s.mistake("Unknown command, or not before login")
}

// both gives a capability that both sides have, with the parameters of OLD.
func (s *popClient) both(name string) (parameters []string, ok bool) {
	if _, ok := s.srv.dialer.Features(config.New).POP3Has(name); !ok {
		return nil, false
	}
	return s.srv.dialer.Features(config.Old).POP3Has(name)
}

// capabilities are what the gateway itself takes, and what both sides promise for the time after the login: a client may ask once.
func (s *popClient) capabilities() []string {
	out := []string{"RESP-CODES", "AUTH-RESP-CODE"}
	for _, name := range []string{"TOP", "UIDL", "PIPELINING", "UTF8"} {
		if _, ok := s.both(name); ok {
			out = append(out, name)
		}
	}
	if s.secure() {
		out = append(out, "USER", "SASL "+strings.Join(s.srv.mechanisms(s.set, config.POP3), " "))
	}
	if !s.tls && s.ln.Mode == config.StartTLS {
		out = append(out, "STLS")
	}
	return append(out, "IMPLEMENTATION mailgate")
}

// stls begins TLS (RFC 2595, section 4).
func (s *popClient) stls(args string) error {
	switch {
	case args != "":
		return s.mistake("STLS takes no argument")
	case s.tls:
		return s.mistake("TLS is already active")
	case s.ln.Mode != config.StartTLS:
		return s.mistake("STLS is not offered here")
	}
	if err := s.ok("Begin TLS negotiation"); err != nil {
		return err
	}
	if err := s.startTLS(); err != nil {
		s.srv.log.Info("TLS handshake", "protocol", config.POP3, "client", s.addr, "err", err)
		return err
	}
	s.user, s.utf8 = "", false // what was said in clear may not be the client's
	return nil
}

// pass is the password: everything behind one space, spaces too (RFC 1939, section 7).
func (s *popClient) pass(ctx context.Context, line string) error {
	if !s.secure() {
		return s.mistake(needTLS)
	}
	_, password, _ := strings.Cut(line, " ")
	if s.user == "" || password == "" {
		return s.mistake("PASS takes a password, behind USER")
	}
	name := s.user
	s.user = ""
	creds, err := auth.Password("LOGIN", name, password)
	if err != nil {
		return s.malformed(err)
	}
	return s.authenticate(ctx, creds)
}

// authCommand runs a SASL exchange (RFC 5034, section 4). Without a mechanism it lists them, as old clients ask.
func (s *popClient) authCommand(ctx context.Context, args string) error {
	if !s.secure() {
		return s.mistake(needTLS)
	}
	mechanisms := s.srv.mechanisms(s.set, config.POP3)
	if args == "" {
		return s.ok("Mechanisms follow\r\n" + strings.Join(append(mechanisms, "."), "\r\n"))
	}
	name, initial, have := strings.Cut(args, " ")
	name = upper(name)
	if !s.srv.offers(s.set, config.POP3, name) {
		return s.mistake("Unsupported authentication mechanism")
	}
	x, err := auth.Start(name)
	if err != nil {
		return s.mistake("Unsupported authentication mechanism")
	}
	var response []byte
	if have {
		if response, err = decodeSASL(initial); err != nil {
			return s.mistake("The initial response is not base64")
		}
	}
	for {
		challenge, creds, err := x.Next(response)
		if err != nil {
			return s.malformed(err)
		}
		if creds != nil {
			return s.authenticate(ctx, creds)
		}
		switch response, err = s.saslLine(challenge); {
		case errors.Is(err, errCancelled):
			return s.mistake("Authentication cancelled")
		case errors.Is(err, errBase64):
			return s.mistake("The response is not base64")
		case err != nil:
			return s.complain(err)
		}
	}
}

// saslLine sends a challenge and reads the response, which is never nil.
func (s *popClient) saslLine(challenge []byte) ([]byte, error) {
	if err := s.write("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n"); err != nil {
		return nil, err
	}
	if err := s.await(); err != nil {
		return nil, err
	}
	line, err := readCommand(s.r, nil)
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
	return append([]byte{}, b...), nil
}

// malformed answers credentials that cannot be anyone's.
func (s *popClient) malformed(err error) error {
	s.srv.log.Info("login malformed", "protocol", config.POP3, "client", s.addr, "err", err)
	s.srv.rec.Auth(config.POP3, config.Old, "", "none", "malformed")
	return s.answerFailure(s.refused("", &loginError{"malformed", authFailed, err}))
}

// authenticate takes credentials to the backend; errOver means that the session runs.
func (s *popClient) authenticate(ctx context.Context, creds *auth.Credentials) error {
	var conn *backend.POP3Conn
	var l *link
	dial := func(ctx context.Context, at target) (d dialed, err error) {
		conn, err = s.srv.dialer.DialPOP3(ctx, at.Side, at.host, backend.LoginPOP3{Credentials: creds, LoginName: at.login,
			ClientAddr: s.addr, UTF8: s.utf8, Hops: s.hops})
		if err != nil {
			return d, err
		}
		l, err = newLink(s.srv, s.conn, conn.Conn, &popTracker{})
		if err != nil {
			conn.Close()
			return d, err
		}
		return dialed{conn: conn.Conn, ender: l, host: conn.Host}, nil
	}
	sess, _, err := s.login(ctx, creds, true, dial, nil) // nothing may be said to a client that waits
	if err != nil {
		return s.answerLogin(err)
	}
	s.run(l, sess, "+OK "+conn.OKText+"\r\n", conn.Buffered)
	return errOver
}

// run hands the connection to the link. The answer to the login goes first.
func (s *popClient) run(l *link, sess *router.Session, hello string, fromServer []byte) {
	_, pipelined := s.hand()
	if err := s.write(hello); err != nil {
		l.abandon("client gone at login")
	}
	l.start(sess, s.srv.log, pipelined, fromServer)
}

// answerLogin answers a login that failed; the error is a *loginError.
func (s *popClient) answerLogin(err error) error {
	var le *loginError
	if !errors.As(err, &le) {
		le = &loginError{"backend_error", temporary, err}
	}
	var be *backend.Error
	if le.rejected() && errors.As(err, &be) && len(be.Challenge) > 0 {
		// RFC 7628, section 3.2.2: the client sees why, answers, and then gets the refusal.
		if _, err := s.saslLine(be.Challenge); err != nil && !errors.Is(err, errCancelled) && !errors.Is(err, errBase64) {
			return err
		}
	}
	if errors.As(err, &be) && le.result == "backend_error" { // what is for the client to know (RFC 2449, section 8.1)
		switch be.Code {
		case "IN-USE":
			return s.fail(be.Code, "Your mailbox is in use by another session, try again later")
		case "LOGIN-DELAY":
			return s.fail(be.Code, "You logged in a moment ago, try again later")
		}
	}
	return s.answerFailure(le)
}

// answerFailure says why a login failed (RFC 3206): a client asks for another password at AUTH alone.
func (s *popClient) answerFailure(e *loginError) error {
	code := "SYS/TEMP"
	if e.rejected() || e.result == "malformed" {
		code = "AUTH"
	}
	return s.fail(code, e.text)
}

func (s *popClient) fail(code, text string) error {
	if err := s.write("-ERR [" + code + "] " + text + "\r\n"); err != nil {
		return err
	}
	if s.failures >= s.set.cfg.Login.MaxFailures {
		return errOver
	}
	return nil
}
