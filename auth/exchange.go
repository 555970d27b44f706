package auth

import (
	"fmt"
	"strings"

	"mailgate/config"
)

// Exchange is the server's side of one SASL exchange (RFC 4422). It belongs to one goroutine.
type Exchange interface {
	// Next takes the client's response, nil when there is none yet (no initial response). It returns a challenge to
	// send, or the credentials, or an error: the exchange has failed.
	Next(response []byte) (challenge []byte, c *Credentials, err error)
}

// Start begins an exchange. ErrMechanism for a mechanism that is not ours.
func Start(mechanism string) (Exchange, error) {
	switch mechanism {
	case "PLAIN":
		return single(plain), nil
	case "LOGIN":
		return &login{}, nil
	case "XOAUTH2":
		return single(xoauth2), nil
	case "OAUTHBEARER":
		return single(oauthBearer), nil
	}
	if config.Relayed(mechanism) {
		return scram(mechanism), nil
	}
	return nil, fmt.Errorf("%w %.40q", ErrMechanism, mechanism)
}

// single is a mechanism of one message from the client.
type single func(message string) (*Credentials, error)

// Next implements Exchange.
func (f single) Next(response []byte) ([]byte, *Credentials, error) {
	if response == nil {
		return []byte{}, nil, nil
	}
	if len(response) > maxName+maxSecret {
		return nil, nil, fmt.Errorf("%w: too long", ErrMalformed)
	}
	c, err := f(string(response))
	return nil, c, err
}

// plain reads "authzid NUL authcid NUL password" (RFC 4616, section 2).
func plain(m string) (*Credentials, error) {
	f := strings.Split(m, "\x00")
	if len(f) != 3 {
		return nil, fmt.Errorf("%w: PLAIN takes three parts", ErrMalformed)
	}
	if f[0] != "" && f[0] != f[1] {
		return nil, ErrAuthzid
	}
	return Password("PLAIN", f[1], f[2])
}

// login is the LOGIN mechanism (draft-murchison-sasl-login): user name, then password.
type login struct {
	name string
	step int
}

// Next implements Exchange.
func (x *login) Next(response []byte) ([]byte, *Credentials, error) {
	if response == nil {
		return []byte("Username:"), nil, nil
	}
	switch x.step++; {
	case x.step > 2:
		return nil, nil, fmt.Errorf("%w: the exchange is over", ErrMalformed)
	case x.step == 1:
		x.name = string(response)
		if err := checkName(x.name); err != nil {
			x.name = ""
			return nil, nil, err
		}
		return []byte("Password:"), nil, nil
	case x.name == "":
		return nil, nil, fmt.Errorf("%w: the exchange is over", ErrMalformed)
	}
	c, err := Password("LOGIN", x.name, string(response))
	return nil, c, err
}

// xoauth2 reads "user=NAME ^A auth=Bearer TOKEN ^A ^A".
func xoauth2(m string) (*Credentials, error) {
	body, ok := strings.CutSuffix(m, "\x01\x01")
	f := strings.Split(body, "\x01")
	if !ok || len(f) != 2 || !strings.HasPrefix(f[0], "user=") {
		return nil, fmt.Errorf("%w: XOAUTH2 takes user= and auth=", ErrMalformed)
	}
	return bearer("XOAUTH2", f[0][len("user="):], f[1], nil)
}

// oauthBearer reads the client's message of RFC 7628, section 3.1.
func oauthBearer(m string) (*Credentials, error) {
	body, ok := strings.CutSuffix(m, "\x01\x01")
	f := strings.Split(body, "\x01")
	if !ok || len(f) < 2 {
		return nil, fmt.Errorf("%w: OAUTHBEARER takes a GS2 header and key/value pairs", ErrMalformed)
	}
	gs2 := strings.Split(f[0], ",")
	if len(gs2) != 3 || gs2[0] != "n" && gs2[0] != "y" || gs2[2] != "" || !strings.HasPrefix(gs2[1], "a=") {
		return nil, fmt.Errorf("%w: GS2 header without a=NAME", ErrMalformed)
	}
	name, ok := saslName(gs2[1][2:])
	if !ok {
		return nil, fmt.Errorf("%w: GS2 header: = stands for itself", ErrMalformed)
	}
	auth := ""
	var extra []string
	for _, kv := range f[1:] {
		switch {
		case control(kv) || !strings.Contains(kv, "="):
			return nil, fmt.Errorf("%w: key/value pair", ErrMalformed)
		case strings.HasPrefix(kv, "auth="):
			if auth != "" {
				return nil, fmt.Errorf("%w: two auth pairs", ErrMalformed)
			}
			auth = kv
		default:
			extra = append(extra, kv)
		}
	}
	return bearer("OAUTHBEARER", name, auth, extra)
}

// saslName undoes the escapes of a saslname; others than these two are errors (RFC 5801, section 4).
func saslName(s string) (string, bool) {
	plain := strings.NewReplacer("=2C", "", "=3D", "").Replace(s)
	return strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s), !strings.Contains(plain, "=")
}

func bearer(mechanism, name, auth string, extra []string) (*Credentials, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	const prefix = "auth=bearer "
	if len(auth) <= len(prefix) || !strings.EqualFold(auth[:len(prefix)], prefix) {
		return nil, fmt.Errorf("%w: no bearer token", ErrMalformed)
	}
	token := auth[len(prefix):]
	if len(token) > maxSecret {
		return nil, fmt.Errorf("%w: token too long", ErrMalformed)
	}
	if control(token) {
		return nil, ErrControl
	}
	return &Credentials{Mechanism: mechanism, Username: name, Token: config.Secret(token), Extra: extra}, nil
}
