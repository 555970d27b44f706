package logins

import (
	"context"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Login is when a user has logged in at a side by a protocol.
type Login struct {
	User     string
	Side     config.Side
	Protocol config.Protocol
	First    time.Time
	Last     time.Time // give or take recordEvery
}

// Kept is what is kept of a user's password: a hash, and how the hook for it stands. One for each user.
type Kept struct {
	User     string
	Side     config.Side     // whose server let him in with it
	Protocol config.Protocol // by which he logged in when it was new
	Hash     string          // as Hash gives it
	Learned  time.Time       // when it was first seen; tells one password from the next
	Seen     time.Time       // the last login with it, give or take a little
	Expires  time.Time
	Hook     HookState
}

// HookState is how the hook for a password stands.
type HookState struct {
	Done  time.Time // when it ended well; zero while it has not
	Tries int       // that failed, one after the other
	Next  time.Time // not tried before
	Error string    // of the last try; no secret is in it
}

// Refusal is a password that worked on one side and that the other one refuses.
type Refusal struct {
	User     string
	Side     config.Side // that refuses it
	Protocol config.Protocol
	First    time.Time
	Last     time.Time
	Count    int64 // logins refused so far
}

// Store keeps what the Ledger knows. Packages outside implement it. All methods are safe for concurrent use, each is one transaction,
// durable when it returns nil, and wraps op.ErrUnavailable when the cause is the disk, a lock or the database's connection.
// A user of "" means everybody.
type Store interface {
	// Logins lists by user, side and protocol.
	Logins(ctx context.Context, user string) ([]Login, error)
	// SaveLogins writes logins: where one is there its First stays, and its Last never goes back.
	SaveLogins(ctx context.Context, list []Login) error

	// Kept lists by user.
	Kept(ctx context.Context, user string) ([]Kept, error)
	// PutKept writes what is kept of a user, in the place of what is there.
	PutKept(ctx context.Context, k Kept) error
	// RenewKept sets Side, Seen and Expires of what has this Learned; false when there is none.
	RenewKept(ctx context.Context, k Kept) (bool, error)
	// SetHook writes the state of the hook for what has this Learned, with the events; false, and no event, when there is none.
	SetHook(ctx context.Context, k Kept, events ...op.Event) (bool, error)
	// ClaimHook sets Hook.Next to until for what has this Learned, if the hook is not done and Next is not behind now: mine is true then. Else
	// is tells how it stands, the zero Kept where there is none.
	ClaimHook(ctx context.Context, k Kept, now, until time.Time) (is Kept, mine bool, err error)
	// DropKept deletes with an event for each user, and tells how many.
	DropKept(ctx context.Context, user string, e op.Event) (int, error)
	// ExpireKept deletes what expires at now or before, or was seen last at unseen or before, and tells how many.
	ExpireKept(ctx context.Context, now, unseen time.Time) (int, error)
	// ScrubSecrets sees to it that nothing of what was deleted is left in the files of the database. An error means that something may be.
	ScrubSecrets(ctx context.Context) error

	// Refusals lists by user, side and protocol.
	Refusals(ctx context.Context, user string) ([]Refusal, error)
	// PutRefusal writes one, in the place of what is there, with the events.
	PutRefusal(ctx context.Context, r Refusal, events ...op.Event) error
	// DropRefusal deletes that of a user, side and protocol, with the event; false, and no event, when there is none.
	DropRefusal(ctx context.Context, r Refusal, e op.Event) (bool, error)
}
