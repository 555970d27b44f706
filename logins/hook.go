package logins

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Back-off of a hook that fails: it doubles from the first to the last.
const (
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// job is a hook that waits.
type job struct {
	kept     Kept
	password config.Secret
	at       time.Time // not before
}

// plan lets the hook wait for a password of which a row was written; mu is held. What waits of an earlier password is dropped.
func (l *Ledger) plan(k Kept, password config.Secret) {
	if l.jobs[k.User] == nil && len(l.jobs) >= maxQueue {
		l.o.Recorder.LoginHook("dropped")
		return
	}
	l.jobs[k.User] = &job{k, password, k.Hook.Next}
	wake(l.hooking)
}

// runHooks runs hooks until ctx ends, and waits for those under way, which end with it.
func (l *Ledger) runHooks(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(l.startDue(ctx, &wg))
		select {
		case <-ctx.Done():
			return
		case <-l.hooking:
		case <-timer.C:
		}
	}
}

// startDue starts the hooks that may run now, and tells how long the next one has to wait.
func (l *Ledger) startDue(ctx context.Context, wg *sync.WaitGroup) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, next := time.Now(), time.Hour
	for user, j := range l.jobs {
		switch {
		case !l.o.Listed(user):
			delete(l.jobs, user)
		case l.busy[user] || len(l.busy) >= l.set.Hooks: // whoever ends wakes us
		case j.at.After(now):
			next = min(next, j.at.Sub(now))
		default:
			delete(l.jobs, user)
			l.busy[user] = true
			set := l.set
			wg.Go(func() { l.runHook(ctx, set, j) })
		}
	}
	return next
}

// runHook runs the hook for one user, and records how that ended.
func (l *Ledger) runHook(ctx context.Context, set Settings, j *job) {
	user, side := j.kept.User, j.kept.Side.String()
	defer func() {
		l.mu.Lock()
		delete(l.busy, user)
		l.mu.Unlock()
		wake(l.hooking)
	}()
	before := j.kept
	if l.o.Shared && !l.claim(ctx, set, j) {
		return
	}
	run, cancel := context.WithTimeoutCause(ctx, set.HookTime, errLate)
	err := l.o.Run(run, Call{Argv: set.Hook, User: user, Side: j.kept.Side, Password: j.password})
	late := errors.Is(context.Cause(run), errLate)
	cancel()
	if ctx.Err() != nil && err != nil { // it runs again at his next login
		if l.o.Shared {
			l.unclaim(ctx, before)
		}
		return
	}
	k, now := j.kept, time.Now()
	e := op.Event{At: now, User: user, By: "serve", What: "login hook done", Detail: "for his password on " + side}
	var events []op.Event
	switch {
	case err == nil:
		k.Hook = HookState{Done: now}
		events = []op.Event{e}
		l.o.Recorder.LoginHook("done")
		l.o.Log.Info("the login hook is done", "user", user, "side", side)
	default:
		k.Hook.Tries++
		k.Hook.Next, k.Hook.Error = now.Add(backOff(k.Hook.Tries)), err.Error()
		if k.Hook.Tries == 1 {
			e.What, e.Detail = "login hook failed", e.Detail+": "+k.Hook.Error
			events = []op.Event{e}
		}
		if late {
			l.o.Recorder.LoginHook("late")
		} else {
			l.o.Recorder.LoginHook("failed")
		}
		l.o.Log.Warn("the login hook has failed; it is tried again", "user", user, "side", side, "tries", k.Hook.Tries, "err", err,
			"again_in", k.Hook.Next.Sub(now).Round(time.Second).String())
	}
	l.hooked(ctx, k, j.password, events)
}

// claimMargin is how much longer than the hook a claim stands: for the record of its end, and for clocks that differ.
const claimMargin = time.Minute

// claim sees to it that of several processes one runs the hook. Where another one does, or has, this one waits until that has had its time,
// and looks again: false.
func (l *Ledger) claim(ctx context.Context, set Settings, j *job) bool {
	try, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	now := time.Now()
	k, mine, err := l.o.Store.ClaimHook(try, j.kept, now, now.Add(set.HookTime+claimMargin))
	if mine || ctx.Err() != nil {
		return mine
	}
	if err != nil {
		l.o.Log.Warn("whether the login hook runs elsewhere is not known; it waits", "user", j.kept.User, "err", err)
		k = j.kept
		k.Hook.Next = now.Add(firstRetry)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch p := l.people[k.User]; {
	case p == nil, len(l.set.Hook) == 0: // forgotten, or he has another password since
	case !k.Hook.Done.IsZero():
		p.done = l.sum(k.User, j.password) == p.kept
	case l.jobs[k.User] == nil:
		l.plan(k, j.password)
	}
	return false
}

// unclaim lets others run a hook that was ended with this process.
func (l *Ledger) unclaim(ctx context.Context, k Kept) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime)
	defer cancel()
	if _, err := l.o.Store.SetHook(last, k); err != nil {
		l.o.Log.Warn("the login hook was ended and runs again, later", "user", k.User, "err", err)
	}
}

// hooked records a hook that has ended. What the store does not take is run again: the hook bears that (see docs/operating.md).
func (l *Ledger) hooked(ctx context.Context, k Kept, password config.Secret, events []op.Event) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime)
	defer cancel()
	there, err := l.o.Store.SetHook(last, k, events...)
	if err != nil {
		l.o.Log.Warn("how the login hook has ended is not recorded; it runs again", "user", k.User, "err", err)
		k.Hook.Done, k.Hook.Next = time.Time{}, time.Now().Add(backOff(k.Hook.Tries+1))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.people[k.User]
	if p == nil || err == nil && !there || len(l.set.Hook) == 0 { // forgotten, or he has another password since
		return
	}
	if !k.Hook.Done.IsZero() {
		p.done = l.sum(k.User, password) == p.kept
		return
	}
	if l.jobs[k.User] == nil {
		l.plan(k, password)
	}
}

// noteTime bounds the wait for the store to take that.
const noteTime = 10 * time.Second

// backOff is how long a hook rests that has failed so often, give or take a fifth: not all at once behind an outage.
func backOff(tries int) time.Duration {
	d := lastRetry
	if tries < 7 {
		d = min(firstRetry<<(tries-1), lastRetry)
	}
	return d*4/5 + rand.N(d*2/5)
}
