package gate

import (
	"context"
	"time"

	"mailgate/config"
)

// Member is a user whose wave is judged.
type Member struct {
	User  string
	Side  config.Side
	Since time.Time // of his last flip; zero when there was none
}

// Sources are asked for what a Book does not count itself. Any may be nil: then the gate is unknown.
type Sources struct {
	// Lag is the age of the oldest change of a user that is not carried yet; an error says why it is not known.
	Lag func(user string) (time.Duration, error)
	// Regressed are the users whom a side refuses with a password that worked on the other one.
	Regressed func(ctx context.Context, side config.Side) (map[string]bool, error)
}
