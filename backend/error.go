package backend

import (
	"errors"
	"fmt"
	"strings"
)

// Kind sorts failures by what they mean for the client.
type Kind uint8

const (
	Temporary  Kind = iota // down, slow, broken or full: try again later
	AuthFailed             // the backend refused the credentials, and only that
	Refused                // the backend cannot be used as it is configured; the client sees a temporary failure
)

// ErrNotOffered means that the server does not offer the mechanism that was asked for: no credentials were sent.
var ErrNotOffered = errors.New("does not offer")

// errNoPlain means that a master cannot say for whom he logs in.
var errNoPlain = errors.New("does not offer PLAIN, which a login for somebody else needs")

// ErrUnproven means that nobody has seen the master login of a host to open the mailbox of the user who is asked for: it is not used.
var ErrUnproven = errors.New("the master login is not proven here: run mailgate probe backends")

// Step names where a login stood, as logs show it.
type Step string

const (
	StepConnect    Step = "connect"
	StepTLS        Step = "tls"
	StepBanner     Step = "banner"
	StepCapability Step = "capability"
	StepStartTLS   Step = "starttls"
	StepID         Step = "id"
	StepXCLIENT    Step = "xclient"
	StepLogin      Step = "login"
)

// Error is a login at a backend that failed.
type Error struct {
	Step      Step
	Kind      Kind
	Host      string
	Code      string // response code of IMAP, or the SMTP reply code
	Reply     string // what the server said, printable, cut; never a secret
	Challenge []byte // what it said in XOAUTH2 or OAUTHBEARER before it refused
	Err       error
}

// Error implements error.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Host, e.Step)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Reply != "" {
		s += fmt.Sprintf(" (it said %q)", e.Reply)
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// printable makes a server's words fit for logs.
func printable(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.TrimRight(s, "\r\n"))
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
