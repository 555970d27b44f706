package router

import "errors"

var (
	// ErrHeld means that the user's fence outlasted the hold limit: a temporary failure.
	ErrHeld = errors.New("user is being moved; the hold limit passed")
	// ErrMoved means that the route changed since it was asked for: route anew.
	ErrMoved = errors.New("route changed")
	// ErrUserCap means that the user has as many sessions as he may.
	ErrUserCap = errors.New("too many sessions of this user")
	// ErrAddressCap means that the client's address has as many sessions as it may.
	ErrAddressCap = errors.New("too many sessions from this address")
	// ErrPendingCap means that too many logins of this user wait already.
	ErrPendingCap = errors.New("too many logins of this user are waiting")
	// ErrIllegal means that the table of moves has no such move.
	ErrIllegal = errors.New("illegal move")
	// ErrStale means that a message of an older generation came late and was ignored.
	ErrStale = errors.New("older generation")
)
