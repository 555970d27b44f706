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

	creds   *auth.Credentials // what is shown there: the client's, or the side's master user's
	authzid string            // as whom the master acts, where the login name does not say so
	only    backend.Hosts     // hosts where the master login is proven; nil means all
	master  bool              // the side has not verified the user itself
}

// loginError is a login that failed, with what the client may know of it.
type loginError struct {
	result string // for metrics, see Recorder
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
	_ = c.conn.SetReadDeadline(time.Time{})
	start := time.Now()
	t := &trial{creds: creds}
	user, sess, d, err := c.tryLogin(ctx, t, dial, tick)
	side := config.Old
	if sess != nil {
		side = sess.Side
	} else if user != "" {
		p, _ := c.srv.router.Lookup(user)
		side = p.Side
	}
	if err == nil {
		c.srv.rec.Auth(c.ln.Protocol, side, user, creds.Mechanism, "ok")
		c.srv.happened(user, side, c.ln.Protocol, LoggedIn, nil)
		c.srv.log.Debug("login", "protocol", c.ln.Protocol, "user", user, "side", side.String(), "client", c.addr,
			"seconds", time.Since(start).Seconds())
		if t.by != nil {
			c.judged(user, *t.by, creds.Password, nil)
			if *t.by != sess.Side { // he is in there too; whether that side has his password nobody has asked
				c.judged(user, sess.Side, "", nil)
			}
		} else { // a file or a directory has: he is in, and no side's password is known for it
			c.judged(user, sess.Side, "", nil)
		}
		return sess, d, nil
	}
	c.busy.Store(false) // who is let in stays busy until he is handed on: he must not give way to others now
	le := asLoginError(err)
	c.srv.rec.Auth(c.ln.Protocol, side, user, creds.Mechanism, le.result)
	c.loginFailed(user, side, le, ctx.Err() != nil || errors.Is(err, context.Canceled))
	attrs := []any{"protocol", c.ln.Protocol, "user", user, "side", side.String(), "client", c.addr,
		"mechanism", creds.Mechanism, "result", le.result, "err", le.err}
	var be *backend.Error
	if errors.As(err, &be) {
		attrs = append(attrs, "step", be.Step, "reply", be.Reply)
	}
	switch {
	case le.rejected():
		c.srv.log.Info("login refused", attrs...)
	case le.result == "abandoned":
		c.srv.log.Info("login abandoned", attrs...)
	default:
		c.srv.log.Warn("login failed", attrs...)
	}
	return nil, d, le
}

// judged tells whoever asks how a side's server has just answered a login.
func (c *client) judged(user string, side config.Side, password config.Secret, refused error) {
	if c.srv.judged == nil || c.set.routes.Users[user] == nil {
		return
	}
	c.srv.judged(user, side, c.ln.Protocol, password, refused)
}

func (c *client) tryLogin(ctx context.Context, t *trial, dial dialFunc, tick func() error) (user string, sess *router.Session, d dialed, err error) {
	if user, err = c.set.routes.Lookup(c.set.addresses, t.creds.Username); t.creds.External() {
		user, err = c.identity, nil // an address, and no login name of anybody's
	}
	if err != nil {
		return "", nil, d, c.refused("", &loginError{"malformed", authFailed, err})
	}
	if err := c.throttle(ctx, user); err != nil {
		return user, nil, d, err
	}
	if err := c.relayable(user, t.creds); err != nil {
		return user, nil, d, err
	}
	sess, d, err = c.routed(ctx, t, user, dial, tick)
	if err == nil {
		c.srv.limiter.Succeeded(c.addr.Addr(), user)
		return user, sess, d, nil
	}
	return user, nil, d, c.refused(user, asLoginError(err))
}

// routed tries the user's route, and anew where it changes. The penalty for a refusal is no part of it.
func (c *client) routed(ctx context.Context, t *trial, user string, dial dialFunc, tick func() error) (*router.Session, dialed, error) {
	c.busy.Store(true) // who only waits for a penalty to pass may give way to others
	begin := c.srv.router.BeginStranger
	if c.srv.limiter.Knows(c.addr.Addr(), user) {
		begin = c.srv.router.Begin
	}
	l, err := begin(user)
	if err != nil {
		return nil, dialed{}, &loginError{"rate_limited", "Too many logins of this user are under way, try again later", err}
	}
	defer l.End()
	for range maxRoutes {
		place, dctx, err := l.Route(ctx, tick)
		if errors.Is(err, router.ErrHeld) {
			return nil, dialed{}, &loginError{"held", moving, err}
		}
		if err != nil {
			return nil, dialed{}, &loginError{"backend_error", temporary, err}
		}
		sess, d, err := c.once(dctx, l, c.target(user, place), t, dial)
		switch {
		case !errors.Is(err, router.ErrMoved):
		case t.creds.Relay.Begun(): // with that server, and with no other
			return nil, d, &loginError{"held", moving, err}
		default:
			continue
		}
		if err == nil {
			return sess, d, nil
		}
		le := verdict(err)
		if le.rejected() && t.asked != nil {
			c.judged(user, *t.asked, t.creds.Password, le.err)
		}
		return nil, d, le
	}
	return nil, dialed{}, &loginError{"held", moving, router.ErrMoved}
}

// once tries one route. ErrMoved means that it was no longer the user's: whatever the backend said does not count.
func (c *client) once(ctx context.Context, l *router.Login, at target, t *trial, dial dialFunc) (*router.Session, dialed, error) {
	var d dialed
	at, err := c.admit(ctx, at, t)
	if err == nil {
		d, err = c.ask(ctx, at, dial)
	}
	if err != nil {
		if relayFailed(err) == nil && l.Moved(at.Place) {
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
	known := c.srv.limiter.Knows(c.addr.Addr(), at.user)
	done, err := c.wait(at.Side, known)
	if err != nil {
		return dialed{}, err
	}
	defer done()
	if known {
		ctx = auth.AsKnown(ctx)
	}
	d, err := dial(ctx, at)
	if err != nil && at.master {
		err = masterError{err}
	}
	return d, err
}

// wait counts a login that waits for a side; the caller calls done.
func (c *client) wait(side config.Side, known bool) (done func(), err error) {
	n := c.srv.asking[side].Add(1)
	done = func() { c.srv.asking[side].Add(-1) }
	most := c.set.cfg.Limits.PreAuth / 2
	if known { // strangers who wait hold up nobody who has logged in from where he is
		most += most / 2
	}
	both := c.srv.asking[config.Old].Load() + c.srv.asking[config.New].Load()
	if all := c.set.cfg.Limits.PreAuth; most > 0 && n > int64(most) || all > 0 && !known && both > int64(all*3/4) { // room to come in at all
		done()
		return nil, errSideBusy
	}
	return done, nil
}

func (c *client) target(user string, p router.Place) target {
	r := c.set.routes.For(user)
	return target{Place: p, user: user, host: r.Host[p.Side], login: c.set.cfg.LoginName(p.Side, r)}
}

// Texts that clients see; they tell nothing of the backends.
const (
	authFailed = "Authentication failed."
	moving     = "Your mailbox is being moved, try again in a moment"
	temporary  = "The mail server cannot be reached now, try again later"
)

// verdict sorts the errors of a login.
func verdict(err error) *loginError {
	var be *backend.Error
	var master masterError
	switch {
	case errors.As(err, &master): // whatever the host says: it is the gateway's login that failed
		return &loginError{"backend_error", temporary, err}
	case errors.Is(err, router.ErrUserCap), errors.Is(err, router.ErrAddressCap):
		return &loginError{"rate_limited", "Too many sessions, close some and try again", err}
	case errors.As(err, &be) && be.Kind == backend.AuthFailed:
		return &loginError{"backend_rejected", authFailed, err}
	}
	if le := relayFailed(err); le != nil {
		return le
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
	if e.result == "abandoned" { // it costs a host a connection
		c.failures++
	}
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
