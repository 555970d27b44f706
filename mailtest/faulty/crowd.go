package faulty

import (
	"fmt"
	"net"
)

// Crowd is how a host refuses connections beyond a number.
type Crowd struct {
	Most     int
	Greeting string // in place of the greeting, such as "* BYE too many"; then it closes
	Login    string // the answer to a login, such as "NO [LIMIT] too many"; with neither the host closes without a word

	Peak    int // the most that were there at once; read it with Host.Crowded
	Refused int
	in      int
}

// Crowd makes the host refuse from now on. Connections that are there count from their login on.
func (h *Host) Crowd(c *Crowd) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.crowd = c
}

// Crowded is a copy of what Crowd was given, with what has happened since.
func (h *Host) Crowded() Crowd {
	h.mu.Lock()
	defer h.mu.Unlock()
	return *h.crowd
}

// enter counts a connection, or refuses it: at is "greeting" or "login". leave is nil when it is refused.
func (h *Host) enter(at string) (leave func(), refusal string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.crowd
	if c == nil || (c.Login != "") != (at == "login") {
		return func() {}, ""
	}
	if c.in >= c.Most {
		c.Refused++
		return nil, c.Login
	}
	c.in++
	c.Peak = max(c.Peak, c.in)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		c.in--
	}, ""
}

// depart ends what enter counted.
func (s *session) depart() {
	for _, leave := range s.leave {
		leave()
	}
	s.leave = nil
}

// greet says the greeting, or that there are too many.
func (h *Host) greet(c net.Conn, greeting string) (leave func()) {
	leave, _ = h.enter("greeting")
	switch {
	case leave != nil:
		fmt.Fprintf(c, "%s\r\n", greeting)
	default:
		h.mu.Lock()
		refusal := h.crowd.Greeting
		h.mu.Unlock()
		if refusal != "" {
			fmt.Fprintf(c, "%s\r\n", refusal)
		}
	}
	return leave
}
