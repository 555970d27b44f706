package proxy

import (
	"strings"

	"mailgate/backend"
)

// ready is the text of a greeting: who we are, and by which another gateway knows us.
func (c *client) ready(word string) string {
	return c.set.cfg.Hostname + " " + word + "ready " + c.srv.dialer.Gateway()
}

// noop takes the argument of NOOP, by which a gateway before us says how often the login may be passed on.
func (c *client) noop(argument string) {
	if n, ok := backend.Hops(argument); ok {
		c.hop(n)
	}
}

// hopID takes the same of ID (IMAP), in which Dovecot's proxy says it too.
func (c *client) hopID(args []string) {
	for i := 0; i+1 < len(args); i += 2 {
		if n, ok := backend.HopsValue(args[i+1]); ok && strings.EqualFold(args[i], "x-proxy-ttl") {
			c.hop(n)
		}
	}
}

// hop heeds whoever says it, trusted or not: it can only make fewer of his own.
func (c *client) hop(n int) {
	if c.hops == 0 || n < c.hops {
		c.hops = n
	}
}
