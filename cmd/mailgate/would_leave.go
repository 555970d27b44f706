package main

import (
	"context"
	"net/url"

	"mailgate/syncer"
)

// wouldLeave answers what a user would leave on his side by rollback --now. No host is asked.
func (s *syncing) wouldLeave(ctx context.Context, y *syncer.Syncer, form url.Values) (any, error) {
	user, _, _, err := s.g.Resolve(form.Get("user"))
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	return s.leaves(ctx, y, user)
}

// leaves tells what a user would leave on the side that he is on.
func (s *syncing) leaves(ctx context.Context, y *syncer.Syncer, user string) (*syncer.LeftBehind, error) {
	side := s.g.manager.Side(user)
	if p, ok := s.g.router.Lookup(user); ok {
		side = p.Side
	}
	b, err := y.Behind(ctx, user, side)
	if err != nil {
		return nil, err
	}
	for _, n := range s.open(user) {
		b.Sessions += n
	}
	if kp := s.keeping; kp != nil {
		st, _ := kp.k.State(user)
		b.Hinted = st.Since
		kp.mu.Lock()
		defer kp.mu.Unlock()
		if k := kp.users[user]; k != nil {
			b.Looked, b.Scripts = k.looked, k.scripts > 0
			if k.whole.After(b.Read) {
				b.Read = k.whole
			}
		}
	}
	return b, nil
}
