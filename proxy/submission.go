package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/router"
)

// submissionFront is message submission (RFC 6409) before AUTH; submissionSession is what follows.
// The times are for tests; 0 means what the constants say.
type submissionFront struct {
	idleGrace time.Duration // before somebody listens to the backend of an idle client
	mostWait  time.Duration // for a backend, at any step
}

// refuse implements protocol.
func (*submissionFront) refuse(text string) string { return "421 4.7.0 " + text + "\r\n" }

// submissionClient is one client before AUTH.
type submissionClient struct {
	*client
	front *submissionFront
	helo  string // "" before EHLO
}

// serve implements protocol.
func (f *submissionFront) serve(ctx context.Context, c *client) {
	s := &submissionClient{client: c, front: f}
	if s.write(s.greeting()) != nil {
		return
	}
	c.loop("421 4.4.2 "+c.set.cfg.Hostname+" Time before login is up\r\n", func() error {
		line, err := readCommand(c.r, nil)
		if err != nil {
			return s.complain(err)
		}
		return s.command(ctx, line)
	})
}

// greeting is the line that a client sees first.
func (s *submissionClient) greeting() string { return "220 " + s.ready("ESMTP ") + "\r\n" }

func (s *submissionClient) say(lines ...string) error {
	return s.write(strings.Join(lines, "\r\n") + "\r\n")
}

// complain answers a line that could not be read.
func (s *submissionClient) complain(err error) error {
	switch {
	case errors.Is(err, errLineForm):
		return s.mistake("500 5.5.2 Lines hold no CR, LF or NUL but the CRLF at their end")
	case errors.Is(err, errLineEnd):
		_ = s.say("500 5.5.2 Lines end in CRLF, this one has a bare LF", "421 4.7.0 "+s.set.cfg.Hostname+" closing connection")
	case errors.Is(err, errLineLength):
		_ = s.say("500 5.5.6 Line too long", "421 4.7.0 "+s.set.cfg.Hostname+" closing connection")
	case isTimeout(err):
		_ = s.say("421 4.4.2 " + s.set.cfg.Hostname + " Timeout, closing connection")
	}
	return errOver
}

// mistake answers a command that makes no sense, and closes on a client that makes nothing else.
func (s *submissionClient) mistake(reply string) error {
	return s.client.mistake(reply+"\r\n", "421 4.7.0 "+s.set.cfg.Hostname+" Too many errors, closing connection\r\n")
}

// command answers one command before AUTH; an error ends the loop.
func (s *submissionClient) command(ctx context.Context, line string) error {
	name, args := verb(line)
	switch name {
	case "EHLO":
		if !validHelo(args) {
			return s.mistake("501 5.5.4 EHLO takes a domain or an address literal")
		}
		s.helo = args
		return s.say(s.srv.ehlo(s.client)...)
	case "HELO":
		if !validHelo(args) {
			return s.mistake("501 5.5.4 HELO takes a domain")
		}
		s.helo = args
		return s.say("250 " + s.set.cfg.Hostname)
	case "NOOP":
		s.noop(args)
		return s.say("250 2.0.0 OK")
	case "RSET":
		return s.say("250 2.0.0 OK")
	case "QUIT":
		_ = s.say("221 2.0.0 Bye")
		return errOver
	case "STARTTLS":
		return s.startTLSCommand(args)
	case "AUTH":
		return s.auth(ctx, args)
	case "MAIL", "RCPT", "DATA", "BDAT", "VRFY", "EXPN":
		if name == "BDAT" { // its bytes are on their way and must not be read as commands
			_ = s.say("530 5.7.0 Authentication required")
			return errOver
		}
		return s.mistake("530 5.7.0 Authentication required")
	case "HELP":
		return s.say("214 2.0.0 See RFC 6409; log in with AUTH first")
	}
	return s.mistake("500 5.5.2 Unknown command")
}

// validHelo keeps control characters, other scripts (RFC 6531, section 3.7.1 wants A-labels) and endless names out of
// what is passed on.
func validHelo(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

func (s *submissionClient) startTLSCommand(args string) error {
	switch {
	case args != "":
		return s.mistake("501 5.5.4 STARTTLS takes no parameter")
	case s.tls:
		return s.mistake("503 5.5.1 TLS is already active")
	case s.ln.Mode != config.StartTLS:
		return s.mistake("502 5.5.1 STARTTLS is not offered here")
	}
	if err := s.say("220 2.0.0 Ready to start TLS"); err != nil {
		return err
	}
	if err := s.startTLS(); err != nil {
		return err
	}
	s.helo = "" // RFC 3207, section 4.2: what was said in clear is forgotten
	return nil
}

// auth runs AUTH (RFC 4954, section 4).
func (s *submissionClient) auth(ctx context.Context, args string) error {
	if s.helo == "" {
		return s.mistake("503 5.5.1 EHLO first")
	}
	name, initial, has := strings.Cut(args, " ")
	return s.sasl(ctx, s, name, strings.TrimSpace(initial), has)
}

// What follows implements dialect.

func (s *submissionClient) challenge(b []byte) error {
	return s.say("334 " + base64.StdEncoding.EncodeToString(b))
}

func (s *submissionClient) response() (string, error) {
	line, err := readCommand(s.r, nil)
	if err == nil && line == "*" {
		err = errCancelled
	}
	return line, err
}

func (s *submissionClient) mistaken(why error) error {
	switch why {
	case errClear:
		return s.mistake("538 5.7.11 Encryption required: STARTTLS first")
	case errMechanism:
		return s.mistake("504 5.5.4 Unrecognized authentication mechanism")
	case errInitial:
		return s.mistake("501 5.5.2 The initial response is not base64")
	case errCancelled:
		return s.mistake("501 5.7.0 Authentication cancelled")
	}
	return s.mistake("501 5.5.2 The response is not base64")
}

func (s *submissionClient) failed(e *loginError) error {
	if e.rejected() || e.result == "malformed" {
		return s.say("535 5.7.8 " + e.text)
	}
	return s.say("454 4.7.0 " + e.text) // RFC 4954, section 6: the credentials may be right
}

func (s *submissionClient) tooMany() {
	_ = s.say("421 4.7.0 " + s.set.cfg.Hostname + " Too many failed logins, closing connection")
}

func (s *submissionClient) waiting() error { return nil } // a reply is all that SMTP knows

// dial logs in; the session behind it outlives what ends strangers (Shutdown closes them at once), and has a stack of its own.
func (s *submissionClient) dial(ctx context.Context, at target, creds *auth.Credentials) (dialed, error) {
	conn, err := s.srv.dialer.DialSubmission(ctx, at.Side, at.host, backend.LoginSubmission{Credentials: creds,
		LoginName: at.login, ClientAddr: s.addr, Helo: s.helo, GatewayName: s.set.cfg.Hostname, Hops: s.hops})
	if err != nil {
		return dialed{}, err
	}
	run := &submissionSession{client: s.client, front: s.front, back: conn}
	return dialed{conn: conn.Conn, ender: run, host: conn.Host, begin: func(sess *router.Session) {
		run.sess = sess
		s.handed = true
		s.srv.pre.remove(s.client)
		s.srv.wg.Add(1)
		go run.run()
	}}, nil
}

// ehlo is the answer to EHLO: what both sides offer, for the user is not known yet.
func (s *Server) ehlo(c *client) []string {
	lines := []string{c.set.cfg.Hostname}
	offered := s.extensions(c)
	for _, name := range relayable {
		if params, ok := offered[name]; ok {
			lines = append(lines, strings.TrimSpace(name+" "+params))
		}
	}
	if !c.tls && c.ln.Mode == config.StartTLS {
		lines = append(lines, "STARTTLS")
	}
	if c.secure() {
		lines = append(lines, "AUTH "+strings.Join(s.mechanisms(c.set, config.Submission), " "))
	}
	for i := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		lines[i] = fmt.Sprint(250, sep, lines[i])
	}
	return lines
}
