package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer"
)

// quarantine answers the verbs of that name: action is "list", "retry" or "waive". It touches no message, so a pass or a flip of the
// user may be under way; the end of the program waits for it.
func (s *syncing) quarantine(ctx context.Context, y *syncer.Syncer, form url.Values) (any, error) {
	user, _, _, err := s.g.Resolve(form.Get("user"))
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	ctx, leave, err := s.visit(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	decisions := map[string]syncer.Decision{"retry": syncer.Retry, "waive": syncer.Waived}
	action := form.Get("action")
	if action == "list" {
		l, err := s.prudent(y).ListQuarantine(ctx, user)
		return l, ending(ctx, false, err)
	}
	d, ok := decisions[action]
	if !ok {
		return nil, exitError{exitUsage, fmt.Errorf("unknown action %q", action)}
	}
	o := syncer.DecideOptions{By: form.Get("by"), From: form.Get("from"), DryRun: form.Get("dry-run") == "true"}
	o.Folder, o.Side, o.Reason, o.Waived = form.Get("folder"), form.Get("side"), form.Get("reason"), form.Get("waived") == "true"
	if o.UIDs, err = uidList(form["uid"]); err != nil {
		return nil, exitError{exitUsage, err}
	}
	out, err := y.DecideQuarantine(ctx, user, d, o)
	if err == nil && !o.DryRun && s.keeping != nil {
		s.keeping.k.Hint(user) // numbers do not tell of it
	}
	switch {
	case errors.Is(err, syncer.ErrNoneMeant):
		err = exitError{exitDifference, err}
	case errors.Is(err, syncer.ErrAmbiguous):
		err = exitError{exitUsage, err}
	}
	return out, ending(ctx, false, err)
}

// prudent is a Syncer that opens no mailbox with a master login that is not proven: it might be somebody else's.
func (s *syncing) prudent(y *syncer.Syncer) *syncer.Syncer {
	listed := slices.Sorted(maps.Keys(s.g.routes.Load().Users))
	return syncer.New(syncer.Options{Store: s.g.store, Open: func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
		if err := s.accounts.prove(ctx, y, side, user, listed, false); err != nil {
			return nil, err
		}
		return s.accounts.open(ctx, side, user)
	}})
}

// visit notes something short, other than a pass, that the end of the program has to end and wait for.
func (s *syncing) visit(ctx context.Context) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, nil, exitError{exitRefused, fmt.Errorf("%w; nothing was begun", errClosing)}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	v := new(visitor)
	v.cancel = cancel
	if s.visitors == nil {
		s.visitors = map[*visitor]bool{}
	}
	s.visitors[v] = true
	s.wg.Add(1)
	return ctx, func() {
		cancel(nil)
		s.mu.Lock()
		delete(s.visitors, v)
		s.mu.Unlock()
		s.wg.Done()
	}, nil
}

// visitor is who is noted by visit.
type visitor struct{ cancel context.CancelCauseFunc }

// uidList reads UIDs and ranges of them, such as "7" and "10:12".
func uidList(words []string) (uids []uint32, err error) {
	for _, word := range words {
		for part := range strings.SplitSeq(word, ",") {
			first, last, isRange := strings.Cut(part, ":")
			a, err := strconv.ParseUint(first, 10, 32)
			b := a
			if err == nil && isRange {
				b, err = strconv.ParseUint(last, 10, 32)
			}
			if err != nil || a == 0 || b < a || b-a >= maxUIDs {
				return nil, fmt.Errorf("--uid %q: a UID such as 7, or a range such as 10:12", part)
			}
			for u := a; u <= b; u++ {
				uids = append(uids, uint32(u))
			}
		}
	}
	return uids, nil
}

// maxUIDs bounds a range.
const maxUIDs = 100_000

// sideFlag checks the value of --side.
func sideFlag(text string) error {
	if _, ok := config.ParseSide(text); text != "" && !ok {
		return exitError{exitUsage, fmt.Errorf("unknown side %q; old or new", text)}
	}
	return nil
}
