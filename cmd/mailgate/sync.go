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
	"mailgate/learned"
	"mailgate/logins"
	"mailgate/op"
	"mailgate/syncer"
)

// syncing runs what the sync verbs ask for, in serve or in a verb that opened the store itself. One pass over a user at a time.
type syncing struct {
	g        *gateway
	accounts *accounts
	budget   *syncer.Budget
	limits   *syncer.Limits
	book     *learned.Book
	ledger   *logins.Ledger
	proofs   *syncer.Proofs // of deletes that clients asked for

	keeping *keeping // nil in a verb

	flipped map[string]bool // users whose flip has begun in this process: what clients delete is noted though no wave of theirs has started
	behind  behind          // what flips left on a side that was not reached

	enough context.Context // ends when what passes still do when they were told to end may take no longer
	cut    context.CancelFunc
	clock  *syncer.Clock // in serve; a verb of its own has the machine's

	mu       sync.Mutex
	passes   map[string]*underway // by user
	moving   map[string]int       // by user: flips that keep passes out
	awaited  map[string]int       // by user: steps of flips that wait for the end of what is under way
	filed    throttle             // what the file said when it was last taken over
	closing  bool
	visitors map[*visitor]bool
	wg       sync.WaitGroup
}

func newSyncing(g *gateway, d *backend.Dialer) *syncing {
	s := &syncing{g: g, proofs: &syncer.Proofs{}, budget: newBudget(g, d), limits: syncer.NewLimits(syncer.LimitSettings{}), passes: map[string]*underway{},
		moving: map[string]int{}, awaited: map[string]int{}}
	s.enough, s.cut = context.WithCancel(context.Background())
	s.book = newBook(s)
	s.ledger = newLedger(s)
	s.accounts = &accounts{g: g, dialer: d, budget: s.budget, book: s.book}
	s.throttle(g.conf.Load())
	return s
}

// syncer is made for each call: the configuration may have changed since the last one. The node owns the accounts: whoever has
// the store open for writing knows that its predecessor is gone.
func (s *syncing) syncer() *syncer.Syncer { return s.syncerFor(s.g.conf.Load(), 0) }

// syncerFor makes one that keeps connections for a time between passes over the same user.
func (s *syncing) syncerFor(conf *config.Config, keep time.Duration) *syncer.Syncer {
	c := conf.Sync
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
	o := syncer.Options{Store: s.g.store, Open: s.accounts.open, Route: s.route, Rules: rules, Connections: c.Connections,
		Batch: c.Batch, Settle: c.Settle, Grace: grace, Confirm: c.Confirm, Keep: keep, Doubt: s.doubt, Proofs: s.proofs, Budget: s.budget, Limits: s.limits,
		Enough: s.enough, Clock: s.clock, Owner: nodeName(conf), Log: s.g.log}
	for _, side := range config.Sides {
		o.SieveNames[side] = conf.Backends[side].Sync.SieveNames
		if hasSieve(conf, side, "") {
			o.OpenSieve = s.accounts.openSieve
		}
	}
	return syncer.New(o)
}

// route tells who decides: the store's row, or where a user without one would be.
func (s *syncing) route(ctx context.Context, user string) (config.Side, int64, error) {
	r, err := s.g.store.Row(ctx, user)
	switch {
	case errors.Is(err, op.ErrNotFound):
		if s.g.manager().Imported() {
			return s.g.manager().Side(user), 0, nil
		}
		return s.g.routes.Load().For(user).Side, 0, nil // before the first import lines are places
	case err != nil:
		return 0, 0, err
	case r.State != op.Settled && r.State != op.Prep: // in PREP he works on, and his mailboxes are brought together
		return 0, 0, errMoving(user)
	}
	return r.Side, r.Epoch, nil
}

// Sync implements admin.Syncing: verb is "plan", "run", "verify", "probe", "quarantine", "gaps", "forecast", "behind", "pause", "resume", "secrets", "ready" or "limits". progress is called often.
func (s *syncing) Sync(ctx context.Context, verb string, form url.Values, progress func(any)) (any, error) {
	switch verb {
	case "limits":
		return s.changeAndShow(ctx, form)
	case "rehearse":
		return s.rehearse(ctx, form, progress)
	case "secrets":
		return s.secrets(ctx, form)
	case "ready":
		return s.notReady(ctx, form)
	}
	y := s.syncer()
	defer y.Close()
	switch verb {
	case "probe":
		return s.probe(ctx, y, form["user"])
	case "quarantine":
		return s.quarantine(ctx, y, form)
	case "gaps":
		return s.gaps(ctx, y, form)
	case "forecast":
		return s.forecast(ctx, y, form)
	case "behind":
		return s.leavesBehind(ctx, y, form)
	case "pause", "resume":
		return s.pause(ctx, verb, form)
	case "plan", "run", "verify":
	default:
		return nil, exitError{exitUsage, fmt.Errorf("unknown sync verb %q", verb)}
	}
	user, _, _, err := s.g.Resolve(form.Get("user"))
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	u, leave, err := s.enter(ctx, user, false)
	if err != nil {
		return nil, err
	}
	defer leave()
	tell := func(p syncer.Progress) {
		s.mu.Lock()
		u.progress = p
		s.mu.Unlock()
		progress(p)
	}
	on := func(key string) bool {
		b, _ := strconv.ParseBool(form.Get(key))
		return b
	}
	writes := verb == "run" && !on("dry-run")
	var out any
	if err = s.proveBoth(u.ctx, y, user, writes); err == nil {
		switch verb {
		case "plan":
			out, err = y.Plan(u.ctx, user)
		case "verify":
			out, err = s.compare(u.ctx, y, user, syncer.VerifyOptions{Deep: on("deep"), Progress: tell}, form.Get("by"))
		default:
			o := syncer.RunOptions{Progress: tell, DryRun: !writes, Recount: true, Deletes: on("deletes")}
			out, err = s.pass(u, y, user, o, form.Get("by"), form.Get("from"))
		}
	}
	return out, ending(u.ctx, writes, err)
}

// proveBoth proves the master logins of both sides, see accounts.prove.
func (s *syncing) proveBoth(ctx context.Context, y *syncer.Syncer, user string, write bool) error {
	listed := slices.Sorted(maps.Keys(s.g.routes.Load().Users))
	for _, side := range config.Sides {
		if err := s.accounts.prove(ctx, y, side, user, listed, write); err != nil {
			return err
		}
	}
	return nil
}

// pass makes one pass; one that writes is an operation.
func (s *syncing) pass(u *underway, y *syncer.Syncer, user string, o syncer.RunOptions, by, from string) (*syncer.Report, error) {
	if o.DryRun {
		return y.Run(u.ctx, user, o)
	}
	end, err := s.record(u, user, by, from)
	if err != nil {
		return nil, err
	}
	r, err := y.Run(u.ctx, user, o)
	if err == nil {
		s.g.sieveTold(r)
		s.caughtUp(u.ctx, user, r)
	}
	end(r, err)
	return r, err
}

// ending gives an error its exit code. Where ctx was ended for a reason, that is the error: what wrote is partly done then,
// and a question is not answered.
func ending(ctx context.Context, wrote bool, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		if wrote {
			return exitError{exitPartly, fmt.Errorf("ended early: %w; the next pass goes on where this one was", cause)}
		}
		return exitError{exitUnknown, fmt.Errorf("ended early: %w; ask again", cause)}
	}
	var refused *syncer.RefusedError
	var side *syncer.SideError
	var coded exitError
	switch {
	case errors.As(err, &coded):
		return err
	case errors.As(err, &refused), errors.Is(err, syncer.ErrNoLogin), notLearned(err), errors.Is(err, syncer.ErrBusy), errors.Is(err, syncer.ErrFenced):
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
	u, leave, err := s.enter(ctx, who[0], false)
	if err != nil {
		return nil, err
	}
	defer leave()
	var out Probed
	var errs [2]error
	var wg sync.WaitGroup
	for _, side := range config.Sides {
		wg.Go(func() {
			out.Profiles[side], errs[side] = s.probeSide(u.ctx, y, side, who)
			if errs[side] != nil {
				out.Errors[side] = errs[side].Error()
			}
		})
	}
	wg.Wait()
	return out, ending(u.ctx, false, both(errs))
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

// probeSide proves a master login before the first odd message is written with it, and probes each host that the user may come
// to. The first one's profile is shown.
func (s *syncing) probeSide(ctx context.Context, y *syncer.Syncer, side config.Side, who []string) (first *syncer.Profile, err error) {
	began := time.Now()
	if err := s.accounts.prove(ctx, y, side, who[0], who, true); err != nil {
		return nil, err
	}
	for _, host := range s.accounts.hosts(s.g.conf.Load(), side, who[0]) {
		p, e := y.Profile(ctx, side, host)
		if e == nil && (p == nil || p.At.Before(began)) { // else the proof has just done it
			p, e = s.accounts.probe(ctx, side, host, who[0])
		}
		if e != nil {
			err = errors.Join(err, e)
		} else if first == nil {
			first = p
		}
		if e == nil {
			err = errors.Join(err, s.accounts.proveServices(ctx, y, side, host, who))
		}
	}
	return first, err
}

var _ admin.Syncing = (*syncing)(nil)
