package proxy

import (
	"context"
	"errors"
	"fmt"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
)

// trial is a login's credentials, and what is known of them so far: a login that is routed anew is not verified again.
type trial struct {
	creds    *auth.Credentials
	verified bool         // by an authority that is not the side where the user is
	by       *config.Side // whose password it is, as that side has just said; nil while no side has
	asked    *config.Side // that was last shown the user's own secret; nil where a file or a directory was
}

// masterError is a master login that failed. The host may speak of wrong credentials, and it means the gateway's: the user's are right.
type masterError struct{ error }

func (e masterError) Unwrap() error { return e.error }

// errIndistinct means that a login name may be that of another user too.
var errIndistinct = errors.New("the login name there is the same for users of one name in two domains, so it cannot be told whose mailbox would be opened: " +
	"set routes.default_domain, write {address} into backends.….login, or the login name into the user's line")

// errNoSecret means that the mechanism shows no secret that an authority could look at, only a proof for the server that knows it.
var errNoSecret = errors.New("the user is verified by another than his side, who needs a password or a token")

var errNoAuthority = errors.New("nobody can verify users in this gateway but their sides")

// admit has the user's authority verify him, unless that is the side where he is: then his own secret goes there, as always. Else it gives
// the target as his side's master user.
func (c *client) admit(ctx context.Context, at target, t *trial) (target, error) {
	r := c.set.routes.For(at.user)
	authority := c.set.cfg.AuthorityOf(r)
	side, isSide := authority.Verifier(at.Side)
	if isSide && side == at.Side && !t.creds.External() {
		at.creds, t.by, t.asked = t.creds, &side, &side // it counts once the side has let him in
		return at, nil
	}
	if t.creds.Password == "" && t.creds.Token == "" && !t.creds.External() {
		return at, fmt.Errorf("%s: %w", t.creds.Mechanism, errNoSecret)
	}
	if !c.set.routes.Distinct(c.set.cfg, at.Side, at.user) {
		return at, fmt.Errorf("%s: %w", at.Side, errIndistinct)
	}
	if !t.verified && !t.creds.External() {
		if err := c.verify(ctx, authority, at.user, r, t); err != nil {
			return at, err
		}
	}
	t.verified = true
	who, err := c.srv.master(at.Side, c.ln.Protocol, at.login)
	if err != nil {
		return at, masterError{err}
	}
	at.creds, at.login, at.authzid, at.only, at.master = who.Credentials, who.LoginName, who.Authzid, who.Only, true
	return at, nil
}

// verify asks an authority that is not the side where the user is.
func (c *client) verify(ctx context.Context, authority config.Authority, user string, r config.Route, t *trial) error {
	side, isSide := authority.Verifier(config.Old)
	known := c.srv.limiter.Knows(c.addr.Addr(), user)
	if known {
		ctx = auth.AsKnown(ctx)
	}
	if !isSide {
		t.asked = nil
		done, err := c.queue(known)
		if err != nil {
			return err
		}
		defer done()
		err = c.srv.verifier(ctx, authority, user, t.creds)
		var refused *auth.RefusedError
		if !errors.As(err, &refused) {
			return err
		}
		e := &backend.Error{Step: backend.StepLogin, Kind: backend.AuthFailed, Host: "authority " + string(authority), Err: err}
		if t.creds.OAuth() {
			e.Challenge = []byte(`{"status":"invalid_token","schemes":"bearer"}`) // RFC 7628, section 3.2.2
		}
		return e
	}
	if !c.set.routes.Distinct(c.set.cfg, side, user) {
		return fmt.Errorf("%s: %w", side, errIndistinct)
	}
	done, err := c.wait(side, known)
	if err != nil {
		return err
	}
	defer done()
	who := backend.LoginIMAP{Credentials: t.creds, LoginName: c.set.cfg.LoginName(side, r), ClientAddr: c.addr, Hops: c.hops}
	t.asked = &side
	err = c.srv.dialer.Verify(ctx, side, r.Host[side], who)
	for tries := 1; err != nil && tries <= crowdedTries && c.srv.crowded(side, user, err) && moment(ctx); tries++ {
		err = c.srv.dialer.Verify(ctx, side, r.Host[side], who)
	}
	if err == nil {
		t.by = &side
	}
	return err
}

// errAuthorityBusy means that a quarter of all clients before login wait for an authority that is no side; an eighth, of strangers.
var errAuthorityBusy = errors.New("too many logins wait for the authority")

// queue counts a login that waits for an authority that is no side; the caller calls done. Hashing takes its time, and a directory may be
// silent: who waits must not take the room of users whom their sides verify.
func (c *client) queue(known bool) (done func(), err error) {
	n := c.srv.verifying.Add(1)
	done = func() { c.srv.verifying.Add(-1) }
	most := c.set.cfg.Limits.PreAuth / 4
	if !known {
		most /= 2
	}
	if most > 0 && n > int64(most) {
		done()
		return nil, errAuthorityBusy
	}
	return done, nil
}
