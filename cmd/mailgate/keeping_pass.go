package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/learned"
	"mailgate/op"
	"mailgate/syncer"
)

// pass makes one pass over a user, for the keeper.
func (kp *keeping) pass(ctx context.Context, user string, hinted bool) (changed bool, err error) {
	began := time.Now()
	st, _ := kp.k.State(user) // Since is of what this pass is to carry
	r, err := kp.once(ctx, user, hinted)
	switch {
	case errors.Is(err, syncer.ErrBusy):
		return false, err
	case err == nil && r == nil:
		kp.lookedAt(user, began)
		kp.s.g.metrics.Pass("unchanged", 0)
		return false, nil
	}
	kp.s.g.metrics.PassDid(r, err)
	if err == nil && !st.Since.IsZero() {
		kp.s.g.metrics.Carried(time.Since(st.Since))
	}
	if err == nil {
		kp.s.g.sieveTold(r)
		ctx, cancel := kp.s.ending()
		kp.s.caughtUp(ctx, user, r)
		cancel()
	}
	kp.note(user, r, err) // when the mailboxes are free again: where the store is slow nobody waits for that
	switch {
	case err != nil:
		kp.s.g.metrics.Pass("failed", time.Since(began))
	case len(r.Errors) > 0:
		kp.s.g.metrics.Pass("partly", time.Since(began))
	default:
		kp.s.g.metrics.Pass("ok", time.Since(began))
	}
	return err == nil && worked(r), err
}

// lookedAt notes that a look at numbers, begun then, showed no change.
func (kp *keeping) lookedAt(user string, at time.Time) {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	if k := kp.users[user]; k != nil {
		k.looked = at
	}
}

// once is the pass itself; no report and no error mean that a look at numbers was enough. Its error is ErrBusy when it did not begin, or
// was told to end: that says nothing of the mailboxes.
func (kp *keeping) once(ctx context.Context, user string, hinted bool) (*syncer.Report, error) {
	u, leave, err := kp.s.enter(ctx, user, true)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", syncer.ErrBusy, err)
	}
	defer leave()
	if err := kp.begin(user); err != nil { // decided since the keeper chose him; what is decided from now on ends the pass
		return nil, fmt.Errorf("%w: %w", syncer.ErrBusy, err)
	}
	e := kp.take()
	defer kp.put(e)
	if !hinted && kp.atRest(user, e.conf, time.Now()) {
		look, cancel := context.WithTimeoutCause(u.ctx, min(peekTime, kp.patience()), errStalled)
		changed, err := e.Peek(look, user)
		late := look.Err() != nil
		cancel()
		switch {
		case err == nil && !changed:
			return nil, nil
		case errors.Is(err, syncer.ErrCrowded):
			return nil, fmt.Errorf("%w: %w", syncer.ErrBusy, err)
		case u.ctx.Err() == nil && err != nil && late:
			return nil, errStalled
		case u.ctx.Err() == nil && syncer.Silent(err): // a pass would wait for the same host, and longer
			return nil, err
		}
	}
	r, err := kp.over(u, e, user)
	if err != nil {
		e.LookAnew(user)
	}
	if r == nil && errors.Is(err, syncer.ErrCrowded) { // it has not begun
		return nil, fmt.Errorf("%w: %w", syncer.ErrBusy, err)
	}
	if err == nil {
		kp.mu.Lock()
		if k := kp.users[user]; k != nil {
			k.under = e.conf
		}
		kp.mu.Unlock()
	}
	cause := context.Cause(u.ctx)
	if errors.Is(cause, errStalled) {
		return r, err
	}
	if err == nil || cause == nil && !errors.Is(err, errMovingNow) && !errors.Is(err, syncer.ErrMoved) && !errors.Is(err, syncer.ErrYielded) {
		return r, err
	}
	kp.s.g.metrics.Pass("interrupted", 0)
	return nil, fmt.Errorf("%w: %w", syncer.ErrBusy, cmp.Or(cause, err))
}

// patience is how long a pass may make no headway.
func (kp *keeping) patience() time.Duration {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	return kp.stall
}

// crowdedWait is how long a pass waits for a host that is crowded, with a turn that others could have.
const crowdedWait = 2 * time.Second

// begin tells what is in the way of a pass.
func (kp *keeping) begin(user string) error {
	if st, _ := kp.k.State(user); st.Phase == "first copy" {
		if open, _ := kp.s.windowOpen(time.Now()); !open { // it has closed since the keeper chose him
			return errWindow
		}
	}
	kp.mu.Lock()
	defer kp.mu.Unlock()
	k := kp.users[user]
	if k == nil {
		return errNotKept
	}
	if _, paused := kp.pauseOf(user); paused {
		return errPaused
	}
	k.progress = syncer.Progress{} // that of the last one
	return nil
}

// wholeEvery is how often a whole pass is made over a user in whose mailboxes nothing seems to change: a look at numbers does not show
// all (subscriptions, what is in quarantine and may be tried again, flags where there is no CONDSTORE but for INBOX and what was busy lately).
const wholeEvery = 15 * time.Minute

// wholeAfter is that time for a user: users who were copied together must not have their whole passes together ever after.
func wholeAfter(user string) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(user))
	return wholeEvery - wholeEvery/3*time.Duration(h.Sum32()%1000)/1000
}

// sieveEvery is how often a user's Sieve scripts are looked at, with the next pass: each time costs a login on each side.
const sieveEvery = 10 * time.Minute

// sameRules tells whether passes do the same under both: numbers do not tell what another folder plan, or another host, means.
func sameRules(a, b *config.Config) bool {
	return a == b || a != nil && b != nil && reflect.DeepEqual(a.Sync, b.Sync) && reflect.DeepEqual(a.Backends, b.Backends)
}

// atRest tells that a look at numbers is enough for now: the last whole pass is not long ago, and left nothing undone.
func (kp *keeping) atRest(user string, conf *config.Config, now time.Time) bool {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	k := kp.users[user]
	return k != nil && !k.failing && sameRules(k.under, conf) && k.report != nil && len(k.report.Errors) == 0 && now.Sub(k.whole) < wholeAfter(user)
}

// changed is what the gateway's own sessions tell: it must not block for long.
func (kp *keeping) changed(user string, p config.Protocol) {
	if p == config.Sieve {
		kp.mu.Lock()
		if k := kp.users[user]; k != nil {
			k.scripts++
		}
		kp.mu.Unlock()
	}
	kp.k.Hint(user)
}

// scripts tells how many changes of a user's scripts are known of that no pass has looked at; looked that one has looked at so many.
func (kp *keeping) scripts(user string) uint64 {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	if k := kp.users[user]; k != nil {
		return k.scripts
	}
	return 0
}

func (kp *keeping) looked(user string, n uint64) {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	if k := kp.users[user]; k != nil {
		k.scripts -= min(n, k.scripts)
	}
}

func (kp *keeping) over(u *underway, e *engine, user string) (*syncer.Report, error) {
	if err := kp.s.proveBoth(u.ctx, e.Syncer, user, true); err != nil {
		return nil, err
	}
	kp.mu.Lock()
	k := kp.users[user]
	first := k != nil && !k.copied
	kp.mu.Unlock()
	if first && kp.through(u.ctx, user) {
		kp.mu.Lock()
		k.copied = true
		kp.mu.Unlock()
	}
	after, changed := sieveEvery, kp.scripts(user)
	if changed > 0 {
		after = 0
	}
	patience := kp.patience()
	stalled := time.AfterFunc(patience, func() { u.cancel(errStalled) })
	defer stalled.Stop()
	r, err := e.Run(u.ctx, user, syncer.RunOptions{Wait: crowdedWait, Leave: true, SieveAfter: after, Progress: func(p syncer.Progress) {
		stalled.Reset(patience)
		kp.s.mu.Lock()
		u.progress = p
		kp.s.mu.Unlock()
		kp.mu.Lock()
		defer kp.mu.Unlock()
		if k := kp.users[user]; k != nil {
			k.progress = p
		}
	}})
	if err == nil && r.Sieve != nil && !r.Sieve.At.Before(r.Began) { // also in trouble: not a login that is refused with every pass
		kp.looked(user, changed)
	}
	return r, err
}

// worked tells whether a pass has changed anything.
func worked(r *syncer.Report) bool {
	n := r.Copied[0] + r.Copied[1] + r.Moved[0] + r.Moved[1] + r.Flags[0] + r.Flags[1] + r.Expunged[0] + r.Expunged[1] + r.Paired
	for side := range config.Sides {
		n += int64(r.Created[side] + r.Renamed[side] + r.Deleted[side] + r.Subscribed[side])
	}
	return n > 0
}

// tellAgain is the shortest between two notes in the history that a user fails: one who fails and works by turns must not fill it.
const tellAgain = time.Hour

// note remembers how a pass ended. The history has the turns: the first copy, trouble, and its end.
func (kp *keeping) note(user string, r *syncer.Report, err error) {
	var events []op.Event
	add := func(what, detail string) {
		events = append(events, op.Event{At: time.Now(), User: user, By: "serve", What: what, Detail: strings.ReplaceAll(detail, "\n", "; ")})
	}
	kp.mu.Lock()
	k := kp.users[user]
	if k != nil {
		k.failing = err != nil
	}
	switch {
	case k == nil: // not kept any more
	case errors.As(err, new(*learned.UnknownError)): // no trouble: he will log in, or not
	case err == nil:
		if k.told {
			add("sync works again", did(r))
		}
		if !k.copied {
			add("first copy done", did(r))
		}
		k.report, k.whole, k.copied, k.told = r, r.Began, true, false
		k.paced(r)
	case !k.told && (k.toldAt.IsZero() || time.Since(k.toldAt) >= tellAgain):
		add("sync is failing", err.Error())
		k.told, k.toldAt = true, time.Now()
	}
	kp.mu.Unlock()
	if len(events) == 0 {
		return
	}
	if err != nil {
		kp.s.g.log.Warn("a user's mailboxes cannot be brought together; it is tried again", "user", user, "err", err)
	}
	ctx, cancel := kp.s.ending()
	defer cancel()
	if err := kp.s.g.store.AddEvents(ctx, events...); err != nil {
		kp.s.g.log.Warn("an event is not recorded", "user", user, "what", events[0].What, "err", err)
	}
}

// through tells whether a pass over a user has come to its end before: the store says how far the sides were read then.
func (kp *keeping) through(ctx context.Context, user string) bool {
	list, err := kp.s.g.store.Mailboxes(ctx, user)
	return err == nil && slices.ContainsFunc(list, func(m syncer.Mailbox) bool { return m.Cursor != [2]syncer.Cursor{} })
}
