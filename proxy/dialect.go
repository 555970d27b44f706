package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/router"
)

// dialect is how one client's protocol says what happens at a login. What happens is the same in all of them and stands here.
type dialect interface {
	// challenge sends a challenge of a SASL exchange; it may be empty.
	challenge(b []byte) error

	// response reads what the client answers to one, in base64. errCancelled when he wants no more of it, errBase64 for what is no
	// response at all; other errors are of the line and for complain.
	response() (string, error)

	// complain answers a line that could not be read.
	complain(err error) error

	// mistaken answers a login that cannot begin or go on: errClear, errMechanism, errInitial, errBase64, errCancelled.
	mistaken(why error) error

	// failed says why a login failed.
	failed(e *loginError) error

	// tooMany is the last word to a client whose logins failed too often.
	tooMany()

	// dial logs in at the user's side and prepares the session.
	dial(ctx context.Context, at target) (dialed, error)

	// waiting is said every few seconds to a client whose user is fenced, where the protocol has a way.
	waiting() error
}

// Why a login cannot begin or go on.
var (
	errClear     = errors.New("passwords are not taken in clear")
	errMechanism = errors.New("mechanism is not offered")
	errInitial   = errors.New("initial response is not base64")
	errBase64    = errors.New("not base64")
	errCancelled = errors.New("client cancelled the exchange")
)

// errOver ends the loop before login: the client logged out, was handed on, or was told to go.
var errOver = errors.New("over")

// maxMistakes is how many commands that make no sense a client may send before login.
const maxMistakes = 10

// maxSASLLine is the longest line of a SASL exchange, in bytes: OAuth tokens are long.
const maxSASLLine = 16 << 10

// loop answers commands, each by next, until that has an error or the time before login is up.
func (c *client) loop(timeUp string, next func() error) {
	for {
		if c.await() != nil {
			_ = c.write(timeUp)
			return
		}
		if next() != nil {
			return
		}
	}
}

// mistake answers what makes no sense by reply, or by bye on a client that makes nothing else.
func (c *client) mistake(reply, bye string) error {
	if c.mistakes++; c.mistakes >= maxMistakes {
		_ = c.write(bye)
		return errOver
	}
	return c.write(reply)
}

// password logs in with a name and a password, of the command or mechanism named. errOver means that the session runs.
func (c *client) password(ctx context.Context, d dialect, name, password string) error {
	if !c.secure() {
		return d.mistaken(errClear)
	}
	creds, err := auth.Password("LOGIN", name, password)
	if err != nil {
		return c.malformed(d, "LOGIN", err)
	}
	return c.enter(ctx, d, creds)
}

// sasl runs a SASL exchange (RFC 4422) and the login behind it; initial is the initial response in base64 when there is one. errOver
// means that the session runs.
func (c *client) sasl(ctx context.Context, d dialect, mechanism, initial string, hasInitial bool) error {
	if !c.secure() {
		return d.mistaken(errClear)
	}
	mechanism = upper(mechanism)
	x, err := c.exchange(mechanism)
	if err != nil {
		return d.mistaken(errMechanism)
	}
	var response []byte
	if hasInitial {
		if response, err = decodeSASL(initial); err != nil {
			return d.mistaken(errInitial)
		}
	}
	for {
		challenge, creds, err := x.Next(response)
		switch {
		case err != nil:
			return c.malformed(d, mechanism, err)
		case creds != nil:
			return c.enter(ctx, d, creds)
		}
		switch response, err = c.step(d, challenge); {
		case errors.Is(err, errCancelled), errors.Is(err, errBase64):
			return d.mistaken(err)
		case err != nil:
			return d.complain(err)
		}
	}
}

// step sends a challenge and reads the response, which is never nil.
func (c *client) step(d dialect, challenge []byte) ([]byte, error) {
	if err := d.challenge(challenge); err != nil {
		return nil, err
	}
	if err := c.await(); err != nil {
		return nil, err
	}
	line, err := d.response()
	if err != nil {
		return nil, err
	}
	return decode64(line)
}

// decodeSASL decodes an initial response; "=" is an empty one (RFC 4959, section 3; RFC 4954, section 4).
func decodeSASL(s string) ([]byte, error) {
	if s == "=" {
		return []byte{}, nil
	}
	return decode64(s)
}

// decode64 never returns nil but with an error, which is errBase64.
func decode64(s string) ([]byte, error) {
	b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Decode(b, []byte(s))
	if err != nil {
		return nil, errBase64
	}
	return b[:n], nil
}

// malformed answers credentials that cannot be anyone's.
func (c *client) malformed(d dialect, mechanism string, err error) error {
	c.srv.log.Info("login malformed", "protocol", c.ln.Protocol, "client", c.addr, "err", err)
	c.srv.rec.Auth(c.ln.Protocol, 0, "", mechanism, "malformed")
	return c.answerFailure(d, c.refused("", &loginError{"malformed", authFailed, err}))
}

// crowdedTries is how often a login is tried again at a host that is crowded with connections of ours that give way.
const crowdedTries = 5

// moment waits for one, and tells whether ctx lasts.
func moment(ctx context.Context) bool {
	t := time.NewTimer(300 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// givesWay tells whether others of ours make room at a host that has refused a login. Hosts count the connections of each service by
// themselves, and the syncer's are IMAP; we count all of them together.
func (c *client) givesWay(at target, err error) bool {
	return (c.ln.Protocol == config.IMAP || errors.Is(err, backend.ErrBudget)) && c.srv.crowded(at.Side, at.user, err)
}

// enter takes credentials to the backend; errOver means that the session runs.
func (c *client) enter(ctx context.Context, d dialect, creds *auth.Credentials) error {
	sess, got, err := c.login(ctx, creds, func(ctx context.Context, at target) (dialed, error) {
		c.converse(ctx, at, d, at.creds.Relay)
		got, err := d.dial(ctx, at)
		for tries := 1; err != nil && tries <= crowdedTries && !at.creds.Relay.Begun() && c.givesWay(at, err) && moment(ctx); tries++ {
			got, err = d.dial(ctx, at)
		}
		return got, err
	}, d.waiting)
	if err != nil {
		return c.answerLogin(d, err)
	}
	got.begin(sess)
	return errOver
}

// answerLogin answers a login that failed.
func (c *client) answerLogin(d dialect, e *loginError) error {
	var gone *clientError
	if errors.As(e, &gone) {
		if err := c.wentAway(d, gone.err); err != nil {
			return err
		}
		return c.enough(d)
	}
	var be *backend.Error
	if e.rejected() && errors.As(e, &be) && len(be.Challenge) > 0 {
		// RFC 7628, section 3.2.2: the client sees why, answers, and then gets the refusal.
		if _, err := c.step(d, be.Challenge); err != nil && !errors.Is(err, errCancelled) && !errors.Is(err, errBase64) {
			return err
		}
	}
	return c.answerFailure(d, e)
}

// answerFailure says why a login failed, and closes on a client whose logins failed too often.
func (c *client) answerFailure(d dialect, e *loginError) error {
	if err := d.failed(e); err != nil {
		return err
	}
	return c.enough(d)
}

// enough closes on a client whose logins failed too often.
func (c *client) enough(d dialect) error {
	if c.failures >= c.set.cfg.Login.MaxFailures {
		d.tooMany()
		return errOver
	}
	return nil
}

// linked prepares a session that is a link between the client and a backend connection, which it closes when that fails. hello is the
// answer to the login; it goes first, and counts as the first bytes of the backend. buffered is what the backend said behind it.
func (c *client) linked(conn net.Conn, host, hello string, buffered []byte, t boundary) (dialed, error) {
	l, err := newLink(c.srv, c.conn, conn, t)
	if err != nil {
		conn.Close()
		return dialed{}, err
	}
	return dialed{conn: conn, host: host, ender: l, begin: func(sess *router.Session) {
		_, pipelined := c.hand()
		if err := c.write(hello); err != nil {
			l.abandon("client gone at login")
		}
		l.start(sess, c.srv.log, pipelined, buffered)
	}}, nil
}
