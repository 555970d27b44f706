package syncer

import (
	"context"
	"errors"
	"strings"

	"mailgate/backend"
	"mailgate/config"
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
// trouble rather than theirs, if it does not do well with INBOX: a mailbox that is damaged on the server may take its connection along.
const strikes = 2

// endedError is of a connection that was there, and that ended under what was asked of it, each time that it was tried.
type endedError struct{ error }

func (e endedError) Unwrap() error { return e.error }

// ofFolder tells whether the end of connections, each at the same folder, is that folder's trouble: its host does well without it. A host that
// says nothing is not asked; a defect of ours is nobody's trouble.
func (p *pass) ofFolder(ctx context.Context, f *folder, err *SideError) bool {
	var ended endedError
	return errors.As(err.Err, &ended) && !Silent(err) && stackOf(err) == nil && p.well(ctx, err.Side, f)
}

// well opens INBOX on another connection, or another mailbox where INBOX is the one that is not asked for. A host that has no connection to spare
// just now is well.
func (p *pass) well(ctx context.Context, side config.Side, but *folder) bool {
	name := "INBOX"
	for _, f := range p.folders {
		if strings.EqualFold(but.Name[side], name) && f != but && f.Exists[side] {
			name = f.Name[side]
			break
		}
	}
	ctx = holding(ctx) // nobody waits long to learn that there is none
	err := p.on(ctx, side, func(c *backend.Client) error {
		_, err := c.Select(name, backend.SelectOptions{ReadOnly: true}).Result(ctx)
		return err
	})
	return err == nil || refused(err) || errors.Is(err, ErrCrowded)
}

// breaks tells whether connections end when a folder is opened for changes.
func (p *pass) breaks(ctx context.Context, side config.Side, f *folder) bool {
	var ended endedError
	return errors.As(p.on(ctx, side, func(c *backend.Client) error {
		_, err := c.Select(f.Name[side], backend.SelectOptions{}).Result(ctx)
		return err
	}), &ended)
}
