package syncer

import (
	"errors"

	"mailgate/backend"
)

// Silent tells whether a host stopped talking amid what it was asked: see backend.SilenceError. Nothing is tried again at once then: each
// try would take minutes.
func Silent(err error) bool {
	var s *backend.SilenceError
	return errors.As(err, &s)
}

// hopeless tells whether it is no use to try again at once: the host has asked to be left alone, or says nothing.
func hopeless(err error) bool {
	var login *backend.Error
	return asked(err) > 0 || Silent(err) || errors.As(err, &login) && login.Kind == backend.AuthFailed // hosts count wrong passwords
}

// strikes is how many folders may break their connections one behind the other, with no other done between, before it is the host's
// trouble rather than theirs: a mailbox that is damaged on the server may take its connection along.
const strikes = 2
