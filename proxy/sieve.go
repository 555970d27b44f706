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
	c.loop(s.status("BYE", "", "Time before login is up."), func() error {
		args, err := readSieve(c.r, max(c.set.cfg.Limits.LiteralLength, maxSASLLine)) // tokens are long
		if err != nil {
			return s.complain(err)
		}
		return s.command(ctx, args)
	})
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
	return s.client.mistake(s.status("NO", "", text), s.status("BYE", "", "Too many invalid commands."))
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
		mechanisms = strings.Join(s.srv.mechanisms(s.set, config.Sieve), " ")
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
		return s.sasl(ctx, s, args[1].text, args[len(args)-1].text, len(args) == 3)
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
		return err
	}
	return s.write(s.capabilities() + s.status("OK", "", "TLS negotiation successful."))
}

// What follows implements dialect (RFC 5804, section 2.1).

func (s *sieveClient) challenge(b []byte) error {
	return s.write(sieveString(base64.StdEncoding.EncodeToString(b)) + "\r\n")
}

func (s *sieveClient) response() (string, error) {
	args, err := readSieve(s.r, maxSASLLine)
	switch {
	case err != nil:
		return "", err
	case len(args) != 1 || args[0].text == "*":
		return "", errCancelled
	case !args[0].quoted:
		return "", errBase64
	}
	return args[0].text, nil
}

func (s *sieveClient) mistaken(why error) error {
	switch why {
	case errClear:
		return s.write(s.status("NO", "ENCRYPT-NEEDED", "Plaintext authentication is disallowed without TLS."))
	case errMechanism:
		return s.mistake("Unsupported authentication mechanism.")
	case errInitial:
		return s.mistake("The initial response is not base64.")
	case errCancelled:
		return s.mistake("Authentication cancelled.")
	}
	return s.mistake("The response is not base64.")
}

// failed says TRYLATER where the password may be right (RFC 5804, section 1.3).
func (s *sieveClient) failed(e *loginError) error {
	code := "TRYLATER"
	if e.rejected() || e.result == "malformed" {
		code = ""
	}
	return s.write(s.status("NO", code, e.text))
}

func (s *sieveClient) tooMany() { _ = s.write(s.status("BYE", "", "Too many failed logins.")) }

func (s *sieveClient) waiting() error { return nil } // nothing may be said to a client that waits

func (s *sieveClient) dial(ctx context.Context, at target, creds *auth.Credentials) (dialed, error) {
	conn, err := s.srv.dialer.DialSieveSession(ctx, at.Side, at.host, backend.Account{Credentials: creds, LoginName: at.login, Hops: s.hops}, s.addr)
	if err != nil {
		return dialed{}, err
	}
	return s.linked(conn.Conn, conn.Host, s.status("OK", "", "Logged in."), conn.Buffered, &sieveTracker{})
}
