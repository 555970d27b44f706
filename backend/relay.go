package backend

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/auth"
)

// errBinds means that a login could only fail, though the password is right (RFC 5802, section 6).
var errBinds = errors.New("offers channel binding, which the client knows and cannot have through a gateway")

// relays tells whether the server takes a relayed login, given the mechanisms that it lists. The error says that nothing was sent.
func (c *conn) relays(cr *auth.Credentials, listed []string) error {
	switch {
	case !slices.Contains(listed, cr.Mechanism):
		return fmt.Errorf("%w %s", ErrNotOffered, cr.Mechanism)
	case cr.Relay.CouldBind && slices.Contains(listed, cr.Mechanism+plusSuffix):
		return errBinds
	case cr.Relay.Begun():
		return errors.New("the exchange has begun with another connection")
	}
	return nil
}

// errChallenge holds nothing of the challenge.
var errChallenge = errors.New("its challenge is not base64")

// relay takes a challenge to the client, and gives what he answers, in base64. However long he takes, the server has its whole time for
// what it says next. With an error the server is to be told that the exchange is called off: see calledOff.
func (c *conn) relay(r *auth.Relay, challenge string) (answer string, err error) {
	b, err := base64.StdEncoding.DecodeString(challenge)
	if err != nil {
		return "", errChallenge
	}
	response, err := r.Next(b)
	if err != nil {
		return "", err
	}
	c.renew(time.Now().Add(c.conf.LoginTimeout))
	return base64.StdEncoding.EncodeToString(response), nil
}

// calledOff is how long a server may take to hear that an exchange is over.
const calledOff = time.Second

// callOff tells the server that the exchange is over (RFC 4422, section 3.5), and lets it say a word before the connection is closed:
// unread bytes would make a reset of that, which can overtake ours.
func (c *conn) callOff(line string) {
	c.renew(time.Now().Add(calledOff))
	if c.send(line) == nil {
		_, _ = c.line()
	}
}
