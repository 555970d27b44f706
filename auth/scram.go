package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a relayed exchange.
const (
	maxRelayed = 4096 // bytes of a message; real ones have 200
	maxRounds  = 4    // challenges of a server; SCRAM has two
)

// Errors of a relayed exchange that are the server's. They hold nothing of what was said.
var (
	errChallengeLong  = fmt.Errorf("the server's challenge is longer than %d bytes", maxRelayed)
	errChallengeCount = fmt.Errorf("the server has more than %d challenges", maxRounds)
)

// ErrNotAsked is what Ask returns, perhaps wrapped, when the client has not heard the challenge: his exchange may begin anew.
var ErrNotAsked = errors.New("the client was not asked")

// Relay is the rest of an exchange whose secret we never see: what the client has said to begin with, and the way to ask him for more.
// It belongs to one goroutine.
type Relay struct {
	First []byte // the client's first message, to the letter: what he proves later covers it
	// CouldBind means that the client knows channel binding and believes that the server does not (RFC 5802, section 6): a server that
	// does takes this for an attack.
	CouldBind bool
	// Ask sends a challenge to the client and returns his response. It is set by who speaks with him, before the login at the server.
	Ask func(challenge []byte) (response []byte, err error)

	rounds int
}

// Next takes a server's challenge to the client. The error is that of Ask, ErrMalformed for a response that cannot be one, or another one
// when it is the server that goes too far.
func (r *Relay) Next(challenge []byte) (response []byte, err error) {
	if len(challenge) > maxRelayed {
		return nil, errChallengeLong
	}
	if r.rounds++; r.rounds > maxRounds {
		return nil, errChallengeCount
	}
	if response, err = r.Ask(challenge); err != nil {
		if errors.Is(err, ErrNotAsked) {
			r.rounds--
		}
		return nil, err
	}
	if len(response) > maxRelayed {
		return nil, fmt.Errorf("%w: response too long", ErrMalformed)
	}
	return response, nil
}

// Begun tells whether the client has had a challenge: from then on the exchange is with that one server, and with no other.
func (r *Relay) Begun() bool { return r != nil && r.rounds > 0 }

// scram reads a client's first message (RFC 5802, section 7) for the name in it.
func scram(mechanism string) single {
	return func(m string) (*Credentials, error) {
		r := &Relay{First: []byte(m)}
		if len(m) > maxRelayed || !utf8.ValidString(m) || control(m) {
			return nil, fmt.Errorf("%w: %s: too long, or not printable", ErrMalformed, mechanism)
		}
		f := strings.Split(m, ",") // a comma in a value is =2C
		if len(f) < 4 {
			return nil, fmt.Errorf("%w: %s takes a GS2 header, n= and r=", ErrMalformed, mechanism)
		}
		switch r.CouldBind = f[0] == "y"; {
		case strings.HasPrefix(f[0], "p="):
			return nil, fmt.Errorf("%w: %s: channel binding, which was not offered", ErrMalformed, mechanism)
		case f[0] != "n" && f[0] != "y":
			return nil, fmt.Errorf("%w: %s: GS2 header", ErrMalformed, mechanism)
		}
		name, ok := attribute(f[2], "n=")
		if ok {
			name, ok = saslName(name)
		}
		if !ok { // also "m=", an extension that must be understood
			return nil, fmt.Errorf("%w: %s: no user name behind the GS2 header", ErrMalformed, mechanism)
		}
		if err := checkName(name); err != nil {
			return nil, err
		}
		if f[1] != "" {
			as, ok := attribute(f[1], "a=")
			if ok {
				as, ok = saslName(as)
			}
			if !ok {
				return nil, fmt.Errorf("%w: %s: GS2 header", ErrMalformed, mechanism)
			}
			if as != name {
				return nil, ErrAuthzid
			}
		}
		nonce, ok := attribute(f[3], "r=")
		if !ok || nonce == "" || strings.ContainsFunc(nonce, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return nil, fmt.Errorf("%w: %s: no nonce behind the user name", ErrMalformed, mechanism)
		}
		return &Credentials{Mechanism: mechanism, Username: name, Relay: r}, nil
	}
}

// attribute takes the value of an attribute of SCRAM.
func attribute(s, key string) (value string, ok bool) { return strings.CutPrefix(s, key) }
