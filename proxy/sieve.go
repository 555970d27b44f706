package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/router"
)

// sieveFront is ManageSieve (RFC 5804) before login; after it the session is a link that is followed by sieveTracker.
type sieveFront struct{}

// refuse implements protocol.
func (*sieveFront) refuse(text string) string { return "BYE (TRYLATER) " + sieveString(text) + "\r\n" }

// sieveClient is one client before login.
type sieveClient struct{ *client }

// serve implements protocol.
func (*sieveFront) serve(ctx context.Context, c *client) {
	s := &sieveClient{client: c}
	if s.write(s.capabilities()+s.greeting()) != nil {
		return
	}
	for {
		if err := c.await(); err != nil {
			_ = s.write(s.status("BYE", "", "Time before login is up."))
			return
		}
		args, err := readSieve(c.r, max(c.set.cfg.Limits.LiteralLength, maxSASLLine)) // tokens are long
		if err == nil {
			err = s.command(ctx, args)
		} else {
			err = s.complain(err)
		}
		if err != nil {
			return
		}
	}
}

// greeting is the line behind the capabilities that a client sees first.
func (s *sieveClient) greeting() string { return s.status("OK", "", s.ready("")) }

// status is a line that answers: OK, NO or BYE, with a response code or "".
func (s *sieveClient) status(word, code, text string) string {
	if code != "" {
		word += " (" + code + ")"
	}
	return word + " " + sieveString(text) + "\r\n"
}

// complain answers a command that could not be read.
func (s *sieveClient) complain(err error) error {
	switch {
	case errors.Is(err, errSieveSyntax):
		return s.mistake("Syntax error in command.")
	case errors.Is(err, errLineForm):
		return s.mistake("Lines hold no CR, LF or NUL but the CRLF at their end.")
	case errors.Is(err, errLineEnd):
		_ = s.write(s.status("BYE", "", "Lines end in CRLF, this one has a bare LF."))
	case errors.Is(err, errLineLength):
		_ = s.write(s.status("BYE", "", "The line or the literal is too long before login; literals are {5+}."))
	case isTimeout(err):
		_ = s.write(s.status("BYE", "", "Disconnected for inactivity."))
	}
	return errOver
}

// mistake answers NO, and closes on a client that makes nothing but mistakes.
func (s *sieveClient) mistake(text string) error {
	if s.mistakes++; s.mistakes >= maxMistakes {
		_ = s.write(s.status("BYE", "", "Too many invalid commands."))
		return errOver
	}
	return s.write(s.status("NO", "", text))
}

// capabilities are those before login (RFC 5804, section 1.7): what the gateway itself takes, and of Sieve what both sides have, since a
// client reads it before we know whose side counts.
func (s *sieveClient) capabilities() string {
	var both backend.SieveCapabilities
	old, new := s.srv.dialer.Features(config.Old).Sieve, s.srv.dialer.Features(config.New).Sieve
	if old != nil && new != nil {
		both = *old.Common(new)
	}
	var b strings.Builder
	add := func(name, value string) { b.WriteString(`"` + name + `" ` + sieveString(value) + "\r\n") }
	add("IMPLEMENTATION", "mailgate")
	add("SIEVE", strings.Join(both.Extensions, " "))
	if slices.Contains(both.Extensions, "enotify") { // then it must be there (RFC 5804, section 1.7)
		add("NOTIFY", strings.Join(both.Notify, " "))
	}
	mechanisms := ""
	if s.secure() {
		mechanisms = strings.Join(s.mechanisms(), " ")
	}
	add("SASL", mechanisms)
	if !s.tls && s.ln.Mode == config.StartTLS {
		b.WriteString("\"STARTTLS\"\r\n")
	}
	if both.Version != "" {
		add("VERSION", both.Version)
	}
	return b.String()
}

// mechanisms are those of the protocol; it has no other login, so LOGIN is of no use.
func (s *sieveClient) mechanisms() []string {
	return slices.DeleteFunc(s.srv.mechanisms(s.set, config.Sieve), func(m string) bool { return m == "LOGIN" })
}

// command answers one command before login; an error ends the loop.
func (s *sieveClient) command(ctx context.Context, args []sieveArg) error {
	if len(args) == 0 {
		return nil // an empty line
	}
	name := upper(args[0].text)
	if args[0].quoted {
		name = ""
	}
	switch {
	case name == "CAPABILITY" && len(args) == 1:
		return s.write(s.capabilities() + s.status("OK", "", "Capability completed."))
	case name == "NOOP" && len(args) == 1:
		return s.write(s.status("OK", "", "NOOP completed."))
	case name == "NOOP" && len(args) == 2 && args[1].quoted && len(args[1].text) <= 256:
		s.noop(args[1].text)
		return s.write(s.status("OK", "TAG "+sieveString(args[1].text), "NOOP completed."))
	case name == "LOGOUT" && len(args) == 1:
		_ = s.write(s.status("OK", "", "Logout completed."))
		return errOver
	case name == "STARTTLS" && len(args) == 1:
		return s.startTLSCommand()
	case name == "AUTHENTICATE" && (len(args) == 2 || len(args) == 3) && args[1].quoted && (len(args) == 2 || args[2].quoted):
		return s.authenticateCommand(ctx, args[1:])
	}
	return s.mistake("Unknown command, or not before login.")
}

// startTLSCommand begins TLS; the capabilities follow unasked (RFC 5804, section 2.2).
func (s *sieveClient) startTLSCommand() error {
	switch {
	case s.tls:
		return s.mistake("TLS is already active.")
	case s.ln.Mode != config.StartTLS:
		return s.mistake("STARTTLS is not offered here.")
	}
	if err := s.write(s.status("OK", "", "Begin TLS negotiation now.")); err != nil {
		return err
	}
	if err := s.startTLS(); err != nil {
		s.srv.log.Info("TLS handshake", "protocol", config.Sieve, "client", s.addr, "err", err)
		return err
	}
	return s.write(s.capabilities() + s.status("OK", "", "TLS negotiation successful."))
}

// authenticateCommand runs a SASL exchange (RFC 5804, section 2.1).
func (s *sieveClient) authenticateCommand(ctx context.Context, args []sieveArg) error {
	if !s.secure() {
		return s.write(s.status("NO", "ENCRYPT-NEEDED", "Plaintext authentication is disallowed without TLS."))
	}
	name := upper(args[0].text)
	x, err := auth.Start(name)
	if err != nil || !slices.Contains(s.mechanisms(), name) {
		return s.mistake("Unsupported authentication mechanism.")
	}
	var response []byte
	if len(args) == 2 {
		if response, err = base64.StdEncoding.DecodeString(args[1].text); err != nil {
			return s.mistake("The initial response is not base64.")
		}
		response = append([]byte{}, response...) // not nil: it is there
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
			return s.mistake("Authentication cancelled.")
		case errors.Is(err, errBase64):
			return s.mistake("The response is not base64.")
		case err != nil:
			return s.complain(err)
		}
	}
}

// saslLine sends a challenge and reads the response, which is never nil.
func (s *sieveClient) saslLine(challenge []byte) ([]byte, error) {
	if err := s.write(sieveString(base64.StdEncoding.EncodeToString(challenge)) + "\r\n"); err != nil {
		return nil, err
	}
	if err := s.await(); err != nil {
		return nil, err
	}
	args, err := readSieve(s.r, maxSASLLine)
	if err != nil {
		return nil, err
	}
	if len(args) != 1 || args[0].text == "*" {
		return nil, errCancelled
	}
	b, err := base64.StdEncoding.DecodeString(args[0].text)
	if err != nil || !args[0].quoted {
		return nil, errBase64
	}
	return append([]byte{}, b...), nil
}

// malformed answers credentials that cannot be anyone's.
func (s *sieveClient) malformed(err error) error {
	s.srv.log.Info("login malformed", "protocol", config.Sieve, "client", s.addr, "err", err)
	s.srv.rec.Auth(config.Sieve, config.Old, "", "none", "malformed")
	return s.answerFailure(s.refused("", &loginError{"malformed", authFailed, err}))
}

// authenticate takes credentials to the backend; errOver means that the session runs.
func (s *sieveClient) authenticate(ctx context.Context, creds *auth.Credentials) error {
	var conn *backend.SieveConn
	var l *link
	dial := func(ctx context.Context, at target) (d dialed, err error) {
		conn, err = s.srv.dialer.DialSieveSession(ctx, at.Side, at.host, backend.Account{Credentials: creds, LoginName: at.login}, s.addr, s.hops)
		if err != nil {
			return d, err
		}
		l, err = newLink(s.srv, s.conn, conn.Conn, &sieveTracker{})
		if err != nil {
			conn.Close()
			return d, err
		}
		return dialed{conn: conn.Conn, ender: l, host: conn.Host}, nil
	}
	sess, _, err := s.login(ctx, creds, true, dial, nil)
	if err != nil {
		return s.answerLogin(err)
	}
	s.run(l, sess, s.status("OK", "", "Logged in."), conn.Buffered)
	return errOver
}

// run hands the connection to the link. The answer to the login goes first.
func (s *sieveClient) run(l *link, sess *router.Session, hello string, fromServer []byte) {
	_, pipelined := s.hand()
	if err := s.write(hello); err != nil {
		l.abandon("client gone at login")
	}
	l.start(sess, s.srv.log, pipelined, fromServer)
}

// answerLogin answers a login that failed; the error is a *loginError.
func (s *sieveClient) answerLogin(err error) error {
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
	return s.answerFailure(le)
}

// answerFailure says why a login failed. TRYLATER tells that the password may be right (RFC 5804, section 1.3).
func (s *sieveClient) answerFailure(e *loginError) error {
	code := "TRYLATER"
	if e.rejected() || e.result == "malformed" {
		code = ""
	}
	if err := s.write(s.status("NO", code, e.text)); err != nil {
		return err
	}
	if s.failures >= s.set.cfg.Login.MaxFailures {
		_ = s.write(s.status("BYE", "", "Too many failed logins."))
		return errOver
	}
	return nil
}
