package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode/utf8"

	"mailgate/config"
)

// Errors of credentials. They never hold a secret.
var (
	ErrMalformed = errors.New("malformed credentials")
	ErrControl   = errors.New("control character in credentials")
	ErrAuthzid   = errors.New("logging in as somebody else is not offered")
	ErrMechanism = errors.New("unknown mechanism")
)

// Limits of credentials, in bytes.
const (
	maxName   = 320
	maxSecret = 8 << 10 // OAuth tokens
)

// Credentials are what a client logs in with.
type Credentials struct {
	Mechanism string // PLAIN, LOGIN (the command or the mechanism), XOAUTH2, OAUTHBEARER, or one of config.RelayedMechanisms
	Username  string
	Password  config.Secret // PLAIN, LOGIN
	Token     config.Secret // XOAUTH2, OAUTHBEARER
	Extra     []string      `json:"-"` // OAUTHBEARER: key=value pairs other than auth, in order
	Relay     *Relay        `json:"-"` // SCRAM: there is no secret here
}

// Format prints mechanism and name for every verb: what a client put into Extra may be secret as well.
func (c Credentials) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "%s %q", c.Mechanism, c.Username)
}

// LogValue implements slog.LogValuer.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// OAuth tells whether the secret is a token.
func (c *Credentials) OAuth() bool { return c.Mechanism == "XOAUTH2" || c.Mechanism == "OAUTHBEARER" }

// External tells whether there is no secret: the TLS connection has shown who it is.
func (c *Credentials) External() bool { return c.Mechanism == "EXTERNAL" }

// Password makes credentials of a name and a password.
func Password(mechanism, name, password string) (*Credentials, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if password == "" || len(password) > maxSecret {
		return nil, fmt.Errorf("%w: password empty or too long", ErrMalformed)
	}
	if control(password) {
		return nil, ErrControl
	}
	return &Credentials{Mechanism: mechanism, Username: name, Password: config.Secret(password)}, nil
}

// checkName refuses names that no backend should see: a CR or LF in one would be a command there.
func checkName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("%w: user name empty or too long", ErrMalformed)
	case control(name):
		return ErrControl
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: user name is not UTF-8", ErrMalformed)
	}
	return nil
}

func control(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// ClientResponse is the initial response of a mechanism towards a backend, under the login name that the user has
// there. For LOGIN it is the user name; the password follows.
func ClientResponse(mechanism string, c *Credentials, login string) []byte {
	switch mechanism {
	case "PLAIN": // RFC 4616, section 2; the authzid stays empty, see ErrAuthzid
		return []byte("\x00" + login + "\x00" + c.Password.Reveal())
	case "XOAUTH2":
		return []byte("user=" + login + "\x01auth=Bearer " + c.Token.Reveal() + "\x01\x01")
	case "OAUTHBEARER": // RFC 7628, section 3.1
		var b strings.Builder
		b.WriteString("n,a=" + strings.NewReplacer("=", "=3D", ",", "=2C").Replace(login) + ",\x01")
		for _, kv := range c.Extra {
			b.WriteString(kv + "\x01")
		}
		b.WriteString("auth=Bearer " + c.Token.Reveal() + "\x01\x01")
		return []byte(b.String())
	}
	return []byte(login)
}
