package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
)

// A relayed exchange (SCRAM) is worked out between the client and his side's server. Each challenge goes to the client by his dialect,
// each response to the server, and nobody here knows what they prove. It is with one server from the first challenge on: a client who
// has heard one cannot begin anew with another.

// clientError is what a client did in the middle of a relayed exchange: errCancelled, errBase64, or what became of his line.
type clientError struct{ err error }

func (e *clientError) Error() string { return "in mid-exchange: " + e.err.Error() }
func (e *clientError) Unwrap() error { return e.err }

// relayable tells whether credentials can go to the user's side as they are; those that are not relayed always can.
func (c *client) relayable(user string, creds *auth.Credentials) error {
	if creds.Relay == nil {
		return nil
	}
	r := c.set.routes.For(user)
	err := c.set.cfg.RelayName(r, creds.Username)
	if a := c.set.cfg.AuthorityOf(r); a.NeedsMaster(config.Old) || a.NeedsMaster(config.New) { // on either side: a flip changes nothing for him
		err = errNoSecret
	}
	if err != nil {
		c.failures++ // no guess, but nothing to try without end either
		return &loginError{"not_relayable", "This login name cannot be used with " + creds.Mechanism + ", use another way to log in", err}
	}
	return nil
}

// converse lets the server at a target ask the client. ctx is that of the login.
func (c *client) converse(ctx context.Context, at target, d dialect, r *auth.Relay) {
	if r == nil {
		return
	}
	r.Ask = func(challenge []byte) ([]byte, error) {
		if ctx.Err() != nil { // the route is another one, or nobody's: nothing has begun yet
			return nil, fmt.Errorf("%w: %w", auth.ErrNotAsked, context.Cause(ctx))
		}
		n := c.srv.midway[at.Side].Add(1)
		defer c.srv.midway[at.Side].Add(-1)
		if c.crowdMidway(at, n) {
			return nil, fmt.Errorf("%w: too many clients are in the middle of an exchange", auth.ErrNotAsked)
		}
		// A client who says nothing more must not take the room of others: he may give way, and does not count for the side.
		c.busy.Store(false)
		c.srv.asking[at.Side].Add(-1)
		back := c.srv.pre.midway(c, c.set.cfg.Limits)
		defer func() {
			back()
			c.srv.asking[at.Side].Add(1)
			c.busy.Store(true)
		}()
		// A fence does not cut this short: where answers have no tags, one that nobody waits for would be taken for the next one's.
		response, err := c.step(d, challenge)
		if err != nil {
			return nil, &clientError{err}
		}
		_ = c.conn.SetReadDeadline(time.Time{})
		return response, nil
	}
}

// wentAway answers a client who ended a relayed exchange himself, if he is still there.
func (c *client) wentAway(d dialect, err error) error {
	for _, why := range []error{errCancelled, errBase64} {
		if errors.Is(err, why) {
			return d.mistaken(why)
		}
	}
	return d.complain(err)
}

// relayFailed sorts the errors of a relayed exchange that are the client's; nil for others.
func relayFailed(err error) *loginError {
	var gone *clientError
	switch {
	case errors.As(err, &gone):
		return &loginError{"abandoned", temporary, err}
	case errors.Is(err, errNoSecret):
		return &loginError{"not_relayable", "This mechanism cannot be used for this user, use another way to log in", err}
	case errors.As(err, new(*backend.Error)) && errors.Is(err, auth.ErrMalformed): // of the client's; a file of the gateway's may be malformed too
		return &loginError{"malformed", authFailed, err}
	}
	return nil
}

// Limits of clients in the middle of a relayed exchange, each of whom holds a connection to a backend.
const (
	midwayShare  = 8                // one in so many of those before login is no reason to ask anybody to leave
	midwaySilent = 10 * time.Second // who has been silent for longer gives way then
)

// midway notes that a client is asked in the middle of an exchange, until the end is called. Where very many are, the one who has been
// silent longest gives way.
func (p *preAuth) midway(c *client, l config.Limits) (end func()) {
	c.midway.Store(time.Now().UnixNano())
	n := p.inMidway.Add(1)
	if most := int64(l.PreAuth / midwayShare); most > 0 && n > most {
		p.giveWayMidway(time.Now().Add(-midwaySilent))
	}
	return func() {
		p.inMidway.Add(-1)
		c.midway.Store(0)
	}
}

// crowdMidway tells whether strangers in mid-exchange have their share of the connections to a side: each holds one until he speaks, and
// anybody can begin. n are those of the side, this one among them.
func (c *client) crowdMidway(at target, n int64) bool {
	most := int64(c.set.cfg.Backends[at.Side].MaxConnections / 4)
	return most > 0 && n > most && !c.srv.limiter.Knows(c.addr.Addr(), at.user)
}

// giveWayMidway closes the connection of the client who has been asked longest ago, if that is before a time.
func (p *preAuth) giveWayMidway(before time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, oldest := before.UnixNano(), (*client)(nil)
	for e := p.all.Front(); e != nil; e = e.Next() {
		x := e.Value.(*client)
		if at := x.midway.Load(); at != 0 && at < since {
			since, oldest = at, x
		}
	}
	if oldest != nil {
		p.close(oldest)
	}
}
