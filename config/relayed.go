package config

import (
	"errors"
	"fmt"
	"slices"
)

// RelayedMechanisms are the SASL mechanisms whose exchange only the server and the client can work out between them (SCRAM: RFC 5802,
// RFC 7677): the client proves that he knows the password without telling it. Who stands between them passes their messages on.
func RelayedMechanisms() []string { return []string{"SCRAM-SHA-256", "SCRAM-SHA-1"} }

// Relayed tells whether a mechanism is one of RelayedMechanisms.
func Relayed(mechanism string) bool { return slices.Contains(RelayedMechanisms(), mechanism) }

// ErrNames means that a login cannot be relayed: the client's messages hold the name that he typed, and cannot be changed.
var ErrNames = errors.New("the login name is not the same everywhere")

// OneName tells whether users have the same login name on both sides, as far as no line of the routes file says otherwise.
func (c *Config) OneName() bool { return c.Backends[Old].Login == c.Backends[New].Login }

// RelayName tells whether a name that a client typed can go to either side as it is: that nothing changes for him with a flip, and the
// side knows him by it. Letters without accents count as the same in either case where routes.local_part says so. The error wraps ErrNames.
func (c *Config) RelayName(r Route, typed string) error {
	old, new := c.LoginName(Old, r), c.LoginName(New, r)
	if old != new {
		return fmt.Errorf("%w: it is %q on OLD and %q on NEW", ErrNames, old, new)
	}
	if typed == old || c.Routes.LocalPart == "fold" && lowerASCII(typed) == lowerASCII(old) {
		return nil
	}
	return fmt.Errorf("%w: he typed %q, and is %q on both sides", ErrNames, typed, old)
}

// lowerASCII folds no other letters: beyond ASCII there are some that fold to those, and a server may not do it.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// passwords tells whether anything is made of the passwords that clients log in with.
func (l Learn) passwords() bool { return l.Key != "" || l.Hash || len(l.Hook) > 0 }

// withoutRelayed are mechanisms of which passwords can be learned.
func withoutRelayed(list []string) []string { return slices.DeleteFunc(slices.Clone(list), Relayed) }
