package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"mailgate/admin"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// syncing runs what the sync verbs ask for, in serve or in a verb that opened the store itself. One pass over a user at a time.
type syncing struct {
	g        *gateway
	accounts *accounts

	mu      sync.Mutex
	passes  map[string]context.CancelCauseFunc // by user, those under way
	closing bool
	wg      sync.WaitGroup
}

// Causes why a pass ends early.
var (
	errClosing = errors.New("mailgate is ending; the next pass goes on where this one was")
	errFlip    = errors.New("the user is being moved; the next pass goes on where this one was")
)

func newSyncing(g *gateway, d *backend.Dialer) *syncing {
	return &syncing{g: g, accounts: &accounts{g: g, dialer: d}, passes: map[string]context.CancelCauseFunc{}}
}

// syncer is made for each call: the configuration may have changed since the last one. The node owns the accounts: whoever has
// the store open for writing knows that its predecessor is gone.
func (s *syncing) syncer() *syncer.Syncer {
	c := s.g.conf.Load().Sync
	rules := syncer.Rules{Rename: map[string]string{}, Use: map[string]string{}, Exclude: c.Exclude}
	for _, r := range c.Rename {
		rules.Rename[r.From] = r.To
	}
	for _, u := range c.Use {
		rules.Use[u.From] = u.To
	}
	grace := c.Grace
	if grace == 0 {
		grace = -1
	}
	return syncer.New(syncer.Options{Store: s.g.store, Open: s.accounts.open, Route: s.route, Rules: rules, Connections: c.Connections,
		Batch: c.Batch, Settle: c.Settle, Grace: grace, Owner: nodeName(s.g.conf.Load()), Log: s.g.log})
}

// route tells who decides: the store's row, or where a user without one would be.
func (s *syncing) route(ctx context.Context, user string) (config.Side, int64, error) {
	r, err := s.g.store.Row(ctx, user)
	switch {
	case errors.Is(err, op.ErrNotFound):
		if s.g.manager.Imported() {
			return s.g.manager.Side(user), 0, nil
		}
		return s.g.routes.Load().For(user).Side, 0, nil // before the first import lines are places
	case err != nil:
		return 0, 0, err
	case r.State != op.Settled:
		return 0, 0, fmt.Errorf("%s is being moved right now; try again in a moment", user)
	}
	return r.Side, r.Epoch, nil
}

// enter notes a pass over a user, so that a flip and the end of the program can end it.
func (s *syncing) enter(ctx context.Context, user string) (context.Context, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return nil, nil, errClosing
	}
	if s.passes[user] != nil {
		return nil, nil, exitError{exitRefused, fmt.Errorf("%s: %w", user, syncer.ErrBusy)}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.passes[user] = cancel
	s.wg.Add(1)
	return ctx, func() {
		cancel(nil)
		s.mu.Lock()
		delete(s.passes, user)
		s.mu.Unlock()
		s.wg.Done()
	}, nil
}

// Quiesce ends the pass over a user, if there is one, and waits for its end: a flip begins.
func (s *syncing) Quiesce(ctx context.Context, user string) {
	for {
		s.mu.Lock()
		cancel := s.passes[user]
		s.mu.Unlock()
		if cancel == nil || ctx.Err() != nil {
			return
		}
		cancel(errFlip)
		time.Sleep(5 * time.Millisecond) // a pass ends within moments; the flip's deadline bounds it
	}
}

// close ends all passes and waits for them.
func (s *syncing) close() {
	s.mu.Lock()
	s.closing = true
	for _, cancel := range s.passes {
		cancel(errClosing)
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Sync implements admin.Gateway: verb is "plan", "run", "verify" or "probe". progress is called often.
func (s *syncing) Sync(ctx context.Context, verb string, form url.Values, progress func(any)) (any, error) {
	tell := func(p syncer.Progress) { progress(p) }
	y := s.syncer()
	defer y.Close()
	if verb == "probe" {
		return s.probe(ctx, y, form["user"])
	}
	user, _, _, err := s.g.Resolve(form.Get("user"))
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	ctx, leave, err := s.enter(ctx, user)
	if err != nil {
		return nil, err
	}
	defer leave()
	dry, _ := strconv.ParseBool(form.Get("dry-run"))
	listed := slices.Sorted(maps.Keys(s.g.routes.Load().Users))
	for _, side := range config.Sides {
		if err := s.accounts.prove(ctx, y, side, user, listed, verb == "run" && !dry); err != nil {
			return nil, ending(ctx, err)
		}
	}
	var out any
	switch verb {
	case "plan":
		out, err = y.Plan(ctx, user)
	case "verify":
		deep, _ := strconv.ParseBool(form.Get("deep"))
		out, err = y.Verify(ctx, user, syncer.VerifyOptions{Deep: deep, Progress: tell})
	case "run":
		o := syncer.RunOptions{Progress: tell, DryRun: dry}
		o.Deletes, _ = strconv.ParseBool(form.Get("deletes"))
		var r *syncer.Report
		r, err = y.Run(ctx, user, o)
		out = r
		if err == nil && !o.DryRun {
			s.note(ctx, r, form.Get("by"))
		}
	default:
		return nil, exitError{exitUsage, fmt.Errorf("unknown sync verb %q", verb)}
	}
	return out, ending(ctx, err)
}

// note writes a pass that did something to the history.
func (s *syncing) note(ctx context.Context, r *syncer.Report, by string) {
	did := fmt.Sprintf("%d copied, %d flags, %d moved, %d expunged, %d in quarantine, %d held back", r.Copied[0]+r.Copied[1], r.Flags[0]+r.Flags[1],
		r.Moved[0]+r.Moved[1], r.Expunged[0]+r.Expunged[1], len(r.Quarantine), len(r.Held))
	if err := s.g.store.AddEvents(ctx, op.Event{User: r.User, What: "sync pass", By: by, Detail: did}); err != nil {
		s.g.log.Warn("the pass is not in the history", "user", r.User, "err", err)
	}
}

// ending gives an error its exit code. Where ctx was ended for a reason, that is the error.
func ending(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		return exitError{exitFailed, fmt.Errorf("ended early: %w", cause)}
	}
	var refused *syncer.RefusedError
	var side *syncer.SideError
	var coded exitError
	switch {
	case errors.As(err, &coded):
		return err
	case errors.As(err, &refused), errors.Is(err, errNoLogin), errors.Is(err, syncer.ErrBusy), errors.Is(err, syncer.ErrFenced):
		return exitError{exitRefused, err}
	case errors.As(err, &side):
		return exitError{exitUnknown, err}
	}
	return err
}

// Probed is what probe backends found.
type Probed struct {
	Profiles [2]*syncer.Profile `json:"profiles"` // old and new; null where the side could not be probed
	Errors   [2]string          `json:"errors"`
}

// probe probes both sides with the first user, and proves master logins with the first two.
func (s *syncing) probe(ctx context.Context, y *syncer.Syncer, users []string) (any, error) {
	listed := slices.Sorted(maps.Keys(s.g.routes.Load().Users))
	var who []string
	for _, u := range users {
		user, _, _, err := s.g.Resolve(u)
		if err != nil {
			return nil, exitError{exitUsage, err}
		}
		who = append(who, user)
	}
	if who = append(who, listed...); len(who) == 0 {
		return nil, exitError{exitUsage, errors.New("no user to probe with: add --user ADDRESS")}
	}
	ctx, leave, err := s.enter(ctx, who[0])
	if err != nil {
		return nil, err
	}
	defer leave()
	var out Probed
	var errs [2]error
	var wg sync.WaitGroup
	for _, side := range config.Sides {
		wg.Go(func() {
			out.Profiles[side], errs[side] = s.probeSide(ctx, y, side, who)
			if errs[side] != nil {
				out.Errors[side] = errs[side].Error()
			}
		})
	}
	wg.Wait()
	return out, ending(ctx, both(errs))
}

// both is the error of two sides: the one that somebody must do something about comes first, and gives the exit code.
func both(errs [2]error) error {
	var refused exitError
	if errs[1] != nil && errors.As(errs[1], &refused) {
		errs[0], errs[1] = errs[1], errs[0]
	}
	switch {
	case errs[0] == nil:
		return errs[1]
	case errs[1] == nil:
		return errs[0]
	}
	return fmt.Errorf("%w; %w", errs[0], errs[1])
}

// probeSide proves a master login before the first odd message is written with it.
func (s *syncing) probeSide(ctx context.Context, y *syncer.Syncer, side config.Side, who []string) (*syncer.Profile, error) {
	began := time.Now()
	if err := s.accounts.prove(ctx, y, side, who[0], who, true); err != nil {
		return nil, err
	}
	for _, host := range s.accounts.hosts(s.g.conf.Load(), side, who[0]) { // the proof may have done it
		if p, err := y.Profile(ctx, side, host); err == nil && p != nil && p.At.After(began) {
			return p, nil
		}
	}
	return y.Probe(ctx, side, who[0])
}

var _ admin.Syncing = (*syncing)(nil)
