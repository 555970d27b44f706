package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
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
	c.loop("-ERR Time before login is up\r\n", func() error {
		line, err := readCommand(c.r, nil)
		if err != nil {
			return s.complain(err)
		}
		return s.command(ctx, line)
	})
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
	return s.client.mistake("-ERR "+text+"\r\n", "-ERR Too many errors, closing connection\r\n")
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
		return s.auth(ctx, args)
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
		return err
	}
	s.user, s.utf8 = "", false // what was said in clear may not be the client's
	return nil
}

// pass is the password: everything behind one space, spaces too (RFC 1939, section 7).
func (s *popClient) pass(ctx context.Context, line string) error {
	_, password, _ := strings.Cut(line, " ")
	name := s.user
	if s.secure() && (name == "" || password == "") {
		return s.mistake("PASS takes a password, behind USER")
	}
	s.user = ""
	return s.password(ctx, s, name, password)
}

// auth runs a SASL exchange (RFC 5034, section 4). Without a mechanism it lists them, as old clients ask.
func (s *popClient) auth(ctx context.Context, args string) error {
	if args == "" && s.secure() {
		return s.ok("Mechanisms follow\r\n" + strings.Join(append(s.srv.mechanisms(s.set, config.POP3), "."), "\r\n"))
	}
	name, initial, has := strings.Cut(args, " ")
	return s.sasl(ctx, s, name, initial, has)
}

// What follows implements dialect.

func (s *popClient) challenge(b []byte) error {
	return s.write("+ " + base64.StdEncoding.EncodeToString(b) + "\r\n")
}

func (s *popClient) response() (string, error) {
	line, err := readCommand(s.r, nil)
	if err == nil && line == "*" {
		err = errCancelled
	}
	return line, err
}

func (s *popClient) mistaken(why error) error {
	switch why {
	case errClear:
		return s.mistake(needTLS)
	case errMechanism:
		return s.mistake("Unsupported authentication mechanism")
	case errInitial:
		return s.mistake("The initial response is not base64")
	case errCancelled:
		return s.mistake("Authentication cancelled")
	}
	return s.mistake("The response is not base64")
}

// failed has the codes of RFC 3206: a client asks for another password at AUTH alone; and what is for the client to know (RFC 2449,
// section 8.1).
func (s *popClient) failed(e *loginError) error {
	code, text := "SYS/TEMP", e.text
	var be *backend.Error
	switch {
	case e.rejected() || e.result == "malformed":
		code = "AUTH"
	case e.result != "backend_error" || !errors.As(e, &be):
	case be.Code == "IN-USE":
		code, text = be.Code, "Your mailbox is in use by another session, try again later"
	case be.Code == "LOGIN-DELAY":
		code, text = be.Code, "You logged in a moment ago, try again later"
	}
	return s.write("-ERR [" + code + "] " + text + "\r\n")
}

func (s *popClient) tooMany() {} // it has no words for that

func (s *popClient) waiting() error { return nil } // nothing may be said to a client that waits

func (s *popClient) dial(ctx context.Context, at target, creds *auth.Credentials) (dialed, error) {
	conn, err := s.srv.dialer.DialPOP3(ctx, at.Side, at.host, backend.LoginPOP3{Credentials: creds, LoginName: at.login,
		ClientAddr: s.addr, UTF8: s.utf8, Hops: s.hops})
	if err != nil {
		return dialed{}, err
	}
	return s.linked(conn.Conn, conn.Host, "+OK "+conn.OKText+"\r\n", conn.Buffered, &popTracker{})
}
