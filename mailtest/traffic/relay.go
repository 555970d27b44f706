package traffic

import (
	"io"
	"log"
	"net"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"mailgate/mailtest/lab"
)

// StartRelay is the submission of a host that has none: it takes mail from users of the lab, and answers when the host has delivered it.
func StartRelay(t testing.TB, h lab.Host) (addr string) {
	t.Helper()
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &relaying{h: h}, nil }))
	s.Domain, s.AllowInsecureAuth, s.MaxMessageBytes = h.Name+".example.com", true, 1<<20
	s.ErrorLog = log.New(io.Discard, "", 0) // its clients come and go
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends when the listener is closed
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// relaying is a session of a relay.
type relaying struct {
	h  lab.Host
	in bool
	to []int
}

// AuthMechanisms implements smtp.AuthSession.
func (*relaying) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth implements smtp.AuthSession.
func (r *relaying) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if n := userOf(user); n == 0 || lab.Password(n) != password {
			return smtp.ErrAuthFailed
		}
		r.in = true
		return nil
	}), nil
}

func userOf(address string) int {
	for n := 1; n <= lab.Accounts; n++ {
		if lab.User(n) == address {
			return n
		}
	}
	return 0
}

// Mail implements smtp.Session.
func (r *relaying) Mail(string, *smtp.MailOptions) error {
	if !r.in {
		return smtp.ErrAuthRequired
	}
	return nil
}

// Rcpt implements smtp.Session.
func (r *relaying) Rcpt(to string, _ *smtp.RcptOptions) error {
	n := userOf(to)
	if n == 0 {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	}
	r.to = append(r.to, n)
	return nil
}

// Data implements smtp.Session.
func (r *relaying) Data(from io.Reader) error {
	text, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	for _, n := range r.to {
		if err := Deliver(r.h, n, text); err != nil {
			return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "not delivered"}
		}
	}
	return nil
}

// Reset implements smtp.Session.
func (r *relaying) Reset() { r.to = nil }

// Logout implements smtp.Session.
func (r *relaying) Logout() error { return nil }
