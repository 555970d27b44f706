package syncer

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"time"

	"mailgate/backend"
)

// backoffTime is Exchange's "Suggested Backoff Time: 299961 milliseconds".
var backoffTime = regexp.MustCompile(`(?i)backoff time:?\s*(\d{1,9})`) //nolint:gochecknoglobals // a constant

// asked is how long a server asks in so many words to be left alone, an hour at most; 0 when it does not. A pass ends at that: whatever it
// would ask next is refused too, and counts against us.
func asked(err error) time.Duration {
	var text string
	var status *backend.StatusError
	var login *backend.Error
	switch {
	case errors.As(err, &status):
		text = status.Text
	case errors.As(err, &login):
		text = login.Reply
	}
	m := backoffTime.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	ms, _ := strconv.ParseInt(m[1], 10, 64)
	return min(time.Duration(ms)*time.Millisecond, time.Hour)
}

// refusedPause is how long a user is left alone at least whose login was refused: hosts lock out who goes on trying, and with him the
// user himself.
const refusedPause = 5 * time.Minute

// suggested is how long a server should be left alone after an error: as long as it asks for, or a minute where it has said that it is in
// trouble or has enough of us (RFC 5530, section 3), to a command or to a login; 0 when it says nothing of that.
func suggested(err error) time.Duration {
	if d := asked(err); d > 0 {
		return d
	}
	var login *backend.Error
	if errors.As(err, &login) && login.Kind == backend.AuthFailed {
		return refusedPause
	}
	if passing(err) || errors.As(err, &login) && slices.Contains([]string{"UNAVAILABLE", "LIMIT", "INUSE", "SERVERBUG", "CONTACTADMIN"}, login.Code) {
		return time.Minute
	}
	return 0
}
