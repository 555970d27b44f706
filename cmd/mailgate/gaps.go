package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer"
)

// gaps answers the verb of that name: what of a user does not travel, as last looked at, or (now) looked at anew. It touches no message, so a
// pass or a flip of the user may be under way; the end of the program waits for it.
func (s *syncing) gaps(ctx context.Context, y *syncer.Syncer, form url.Values) (any, error) {
	user, _, _, err := s.g.Resolve(form.Get("user"))
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	ctx, leave, err := s.visit(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if form.Get("now") == "true" {
		r, err := s.lookForGaps(ctx, y, user)
		if err != nil {
			return nil, ending(ctx, false, err)
		}
		if s.keeping != nil {
			s.keeping.noteGaps(r)
		}
		return r, nil
	}
	r, err := y.KeptGaps(ctx, user)
	switch {
	case err != nil:
		return nil, ending(ctx, false, err)
	case r == nil:
		return nil, exitError{exitUnknown, fmt.Errorf("nobody has looked yet what of %s does not travel: add --now", user)}
	}
	return r, nil
}

// lookForGaps looks with the connections of the budget. With a master login that is not proven no mailbox is opened: it might be somebody
// else's.
func (s *syncing) lookForGaps(ctx context.Context, y *syncer.Syncer, user string) (*syncer.GapReport, error) {
	conf, routes := s.g.conf.Load(), s.g.routes.Load()
	listed := slices.Sorted(maps.Keys(routes.Users))
	looker := syncer.New(syncer.Options{Store: s.g.store, Budget: s.budget, Log: s.g.log, Owner: nodeName(conf), OpenSieve: s.accounts.openSieve,
		Open: func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
			if err := s.accounts.prove(ctx, y, side, user, listed, false); err != nil {
				return nil, err
			}
			return s.accounts.open(ctx, side, user)
		}})
	defer looker.Close()
	o := syncer.GapOptions{Sources: []syncer.GapSource{looker.SieveGaps}}
	for _, side := range config.Sides {
		o.Names[side] = conf.LoginName(side, routes.For(user))
	}
	return looker.Gaps(ctx, user, o)
}

// gapsExit is how the verb ends for a user.
func gapsExit(r *syncer.GapReport) error {
	switch {
	case r.Open() > 0:
		return exitError{exitUnknown, errors.New(r.Summary())}
	case r.Found() > 0:
		return exitError{exitDifference, errors.New(r.Summary())}
	}
	return nil
}
