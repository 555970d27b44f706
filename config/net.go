package config

import (
	"fmt"
	"net"
	"strconv"
)

func joinHostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// MarshalText gives "old" or "new", for JSON.
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads "old" or "new".
func (s *Side) UnmarshalText(b []byte) error {
	side, ok := ParseSide(string(b))
	if !ok {
		return fmt.Errorf("unknown side %q", b)
	}
	*s = side
	return nil
}
