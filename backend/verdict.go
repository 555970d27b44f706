package backend

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"

	"mailgate/config"
)

// asker is who wants a connection. Users' logins and the syncer share the circuit breaker of a host, and what the syncer meets must not
// shut users out of a host that serves them.
type asker struct {
	syncer bool
	client netip.AddrPort // whose login it is; not valid where nobody's
	hops   int            // how many were left when the client came; 0 where nobody told
}

// forUser is a user's login, forSync the syncer's.
func forUser(client netip.AddrPort) asker { return asker{client: client} }
func forSync() asker                      { return asker{syncer: true} }

// tells tells whether the outcome of an attempt says something of the machine.
//
// What does not: our own cap. And a machine that answers and sends us away while connections of ours stand to it: it is crowded (Courier
// takes four from an address, Dovecot's login processes run out), not down, and who waits for it waits for nothing. One that sends
// everybody away counts: nothing stands there. Of the syncer only what everybody would meet counts: that connecting, TLS or the greeting
// fails or takes too long; users find out for themselves whether they are sent away too.
func (h *health) tells(p config.Protocol, who asker, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, ErrBudget):
		return false
	case sentAway(err):
		return !who.syncer && !h.serves(p)
	case who.syncer:
		return !spoke(err)
	}
	return true
}

// sentAway tells whether a host that could be reached did not want us: it said so (BYE, or 421 of RFC 5321, section 3.8), or closed.
func sentAway(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Step == StepConnect {
		return false
	}
	return errors.Is(e.Err, errBye) || e.Code == "421" || errors.Is(e.Err, io.EOF) || errors.Is(e.Err, io.ErrUnexpectedEOF) ||
		errors.Is(e.Err, syscall.ECONNRESET) || errors.Is(e.Err, syscall.EPIPE)
}

// spoke tells whether the trouble is in what a host said, rather than in reaching it or in its silence.
func spoke(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Step == StepConnect || e.Step == StepTLS {
		return false
	}
	var late net.Error
	return !errors.As(e.Err, &late) || !late.Timeout()
}
