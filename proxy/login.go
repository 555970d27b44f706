package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/router"
)

// dialed is a backend connection that is logged in and waits to become a session.
type dialed struct {
	conn  net.Conn
	ender router.Ender
	host  string
	begin func(*router.Session) // hands the client's connection to the session
}

// dialFunc logs in to the user's backend and prepares the session's Ender.
type dialFunc func(ctx context.Context, at target) (dialed, error)

// target is where a login goes.
type target struct {
	router.Place
	user  string // canonical address
	host  string // "" means any host of the side
	login string // login name there
}

// loginError is a login that failed, with what the client may know of it.
type loginError struct {
	result string // for metrics: backend_rejected, backend_error, rate_limited, held, malformed
	text   string // for the client
	err    error
}

func (e *loginError) Error() string { return e.result + ": " + e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// asLoginError gives the error of a login its result: what nothing is known of is temporary.
func asLoginError(err error) *loginError {
	var le *loginError
	if !errors.As(err, &le) {
		le = &loginError{"backend_error", temporary, err}
	}
	return le
}

// rejected tells whether the backend has refused the credentials: the one failure that may look like a wrong password.
func (e *loginError) rejected() bool { return e.result == "backend_rejected" }

// maxRoutes bounds how often a login is routed anew because of flips in between.
const maxRoutes = 8

// login takes credentials to the user's backend and registers the session. tick is called every few seconds while the user is
// fenced. A failure is logged.
func (c *client) login(ctx context.Context, creds *auth.Credentials, dial dialFunc, tick func() error) (*router.Session, dialed, *loginError) {
	defer c.busy.Store(false)
	_ = c.conn.SetReadDeadline(time.Time{})
	start := time.Now()
	user, sess, d, err := c.tryLogin(ctx, creds, dial, tick)
	side := config.Old
	if sess != nil {
		side = sess.Side
	} else if user != "" {
		p, _ := c.srv.router.Lookup(user)
		side = p.Side
	}
	if err == nil {
		c.srv.rec.Auth(c.ln.Protocol, side, user, creds.Mechanism, "ok")
		c.srv.log.Debug("login", "protocol", c.ln.Protocol, "user", user, "side", side.String(), "client", c.addr,
			"seconds", time.Since(start).Seconds())
		c.learn(user, sess.Side, creds)
		return sess, d, nil
	}
	le := asLoginError(err)
	c.srv.rec.Auth(c.ln.Protocol, side, user, creds.Mechanism, le.result)
	attrs := []any{"protocol", c.ln.Protocol, "user", user, "side", side.String(), "client", c.addr,
		"mechanism", creds.Mechanism, "result", le.result, "err", le.err}
	var be *backend.Error
	if errors.As(err, &be) {
		attrs = append(attrs, "step", be.Step, "reply", be.Reply)
	}
	if le.rejected() {
		c.srv.log.Info("login refused", attrs...)
	} else {
		c.srv.log.Warn("login failed", attrs...)
	}
	return nil, d, le
}

// learn tells whoever keeps passwords of one that a side's server has just let in.
func (c *client) learn(user string, side config.Side, creds *auth.Credentials) {
	if c.srv.learned == nil || creds.Password == "" || c.set.routes.Users[user] == nil {
		return
	}
	c.srv.learned(user, side, c.ln.Protocol, creds.Password)
}

func (c *client) tryLogin(ctx context.Context, creds *auth.Credentials, dial dialFunc, tick func() error) (user string, sess *router.Session, d dialed, err error) {
	user, err = c.set.routes.Lookup(c.set.addresses, creds.Username)
	if err != nil {
		return "", nil, d, c.refused("", &loginError{"malformed", authFailed, err})
	}
	if err := c.throttle(ctx, user); err != nil {
		return user, nil, d, err
	}
	c.busy.Store(true) // who only waits for a penalty to pass may give way to others
	l, err := c.srv.router.Begin(user)
	if err != nil {
		return user, nil, d, &loginError{"rate_limited", "Too many logins of this user are under way, try again later", err}
	}
	defer l.End()
	for range maxRoutes {
		place, dctx, err := l.Route(ctx, tick)
		if errors.Is(err, router.ErrHeld) {
			return user, nil, d, &loginError{"held", "Your mailbox is being moved, try again in a moment", err}
		}
		if err != nil {
			return user, nil, d, &loginError{"backend_error", temporary, err}
		}
		sess, d, err := c.once(dctx, l, c.target(user, place), dial)
		if errors.Is(err, router.ErrMoved) {
			continue
		}
		if err == nil {
			c.srv.limiter.Succeeded(c.addr.Addr(), user)
			return user, sess, d, nil
		}
		return user, nil, d, c.refused(user, verdict(err))
	}
	return user, nil, d, &loginError{"held", "Your mailbox is being moved, try again in a moment", router.ErrMoved}
}

// once tries one route. ErrMoved means that it was no longer the user's: whatever the backend said does not count.
func (c *client) once(ctx context.Context, l *router.Login, at target, dial dialFunc) (*router.Session, dialed, error) {
	d, err := c.ask(ctx, at, dial)
	if err != nil {
		if l.Moved(at.Place) {
			return nil, d, fmt.Errorf("%w: %w", router.ErrMoved, err)
		}
		return nil, d, err
	}
	sess, err := l.Admit(at.Place, router.Details{Protocol: c.ln.Protocol, Mailbox: c.ln.Protocol != config.Submission, Client: c.addr, Host: d.host,
		Listener: c.ln.URL}, d.ender)
	if err != nil {
		d.conn.Close()
		return nil, d, err
	}
	return sess, d, nil
}

// errSideBusy means that half of all clients before login wait for this side: the other half is for the other one.
var errSideBusy = errors.New("too many logins wait for this side")

// ask dials, unless too many wait for that side already: one that hangs must not take the room of both.
func (c *client) ask(ctx context.Context, at target, dial dialFunc) (dialed, error) {
	n := c.srv.asking[at.Side].Add(1)
	defer c.srv.asking[at.Side].Add(-1)
	if most := c.set.cfg.Limits.PreAuth / 2; most > 0 && n > int64(most) {
		return dialed{}, errSideBusy
	}
	return dial(ctx, at)
}

func (c *client) target(user string, p router.Place) target {
	r := c.set.routes.For(user)
	return target{Place: p, user: user, host: r.Host[p.Side], login: c.set.cfg.LoginName(p.Side, r)}
}

// Texts that clients see; they tell nothing of the backends.
const (
	authFailed = "Authentication failed."
	temporary  = "The mail server cannot be reached now, try again later"
)

// verdict sorts the errors of a login.
func verdict(err error) *loginError {
	var be *backend.Error
	switch {
	case errors.Is(err, router.ErrUserCap), errors.Is(err, router.ErrAddressCap):
		return &loginError{"rate_limited", "Too many sessions, close some and try again", err}
	case errors.As(err, &be) && be.Kind == backend.AuthFailed:
		return &loginError{"backend_rejected", authFailed, err}
	}
	return &loginError{"backend_error", temporary, err}
}

// throttle makes strangers wait who, or whose address, failed often.
func (c *client) throttle(ctx context.Context, user string) error {
	wait, release, err := c.srv.limiter.Before(c.addr.Addr(), user)
	if err != nil { // told at leisure: a guesser must not be told so in a tight loop
		_ = pause(ctx, c.set.cfg.Login.FailDelay)
		c.failures++
		return &loginError{"rate_limited", "Too many failed logins from your address, try again later", err}
	}
	defer release()
	if err := pause(ctx, wait); err != nil {
		return &loginError{"backend_error", temporary, err}
	}
	return nil
}

// refused delays the answer to a refusal, so that guessing is slow.
func (c *client) refused(user string, e *loginError) *loginError {
	c.busy.Store(false)
	if e.rejected() || e.result == "malformed" {
		_ = pause(c.srv.ctx, c.srv.limiter.Failed(c.addr.Addr(), user))
		c.failures++
	}
	return e
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
