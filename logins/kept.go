package logins

import (
	"context"
	"slices"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// wants tells whether there is something to do about a password that was let in; mu is held.
func (l *Ledger) wants(p *person, n note) bool {
	due := l.renewAfter()
	if n.protocol == config.Submission && n.sum == p.other.sum && n.at.Sub(p.other.at) < due {
		return false
	}
	if p.keptAt.IsZero() || n.sum != p.kept || n.at.Sub(p.keptAt) >= due {
		return true
	}
	return len(l.set.Hook) > 0 && !p.done && l.jobs[n.user] == nil && !l.busy[n.user]
}

// keep lets a login wait for its password to be hashed; the newest of a user counts. mu is held.
func (l *Ledger) keep(p *person, n note) {
	if p.waits == nil {
		if len(l.order) >= maxQueue {
			l.o.Recorder.LearnedHash("dropped")
			return
		}
		l.order = append(l.order, n.user)
	}
	p.waits = &n
	wake(l.hashing)
}

// maxRest bounds the rest behind a hash.
const maxRest = time.Second

// runHashes hashes what waits, one at a time, until ctx ends, and erases what is over, at once and every hour.
func (l *Ledger) runHashes(ctx context.Context) {
	l.tidy(ctx)
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.tidy(ctx)
			continue
		case <-l.hashing:
		}
		for began := time.Now(); ctx.Err() == nil && l.keepNext(ctx); began = time.Now() {
			select { // three times as long as that took: hashes have a quarter of a core, however many there are
			case <-ctx.Done():
			case <-time.After(min(3*time.Since(began), maxRest)):
			}
		}
	}
}

// keepNext hashes the password that has waited longest; false when there is none.
func (l *Ledger) keepNext(ctx context.Context) bool {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	if len(l.order) == 0 {
		l.mu.Unlock()
		return false
	}
	p := l.people[l.order[0]]
	l.order = l.order[1:]
	n, set, known := *p.waits, l.set, !p.keptAt.IsZero() && p.kept == p.waits.sum
	p.waits = nil
	l.mu.Unlock()
	k, result, err := l.write(ctx, set, n, known)
	if err != nil {
		if ctx.Err() == nil {
			l.o.Log.Warn("the hash of a password is not kept; it will be at the next login", "user", n.user, "side", n.side.String(), "err", err)
		}
		l.o.Recorder.LearnedHash("failed")
		return true
	}
	l.o.Recorder.LearnedHash(result)
	l.mu.Lock()
	defer l.mu.Unlock()
	if result == "kept" {
		p.other = sight{n.sum, n.at, n.protocol}
		return true
	}
	p.kept, p.keptAt, p.done = n.sum, n.at, !k.Hook.Done.IsZero()
	if p.other.sum == n.sum {
		p.other = sight{}
	}
	if len(set.Hook) > 0 && !p.done {
		l.plan(k, n.password)
	}
	return true
}

// write writes down a login with a password that is, or is not, known to be that of the row; writing is held. A password of submission
// does not take the place of one that a mail service took: where a host has several, it is the mailbox's that counts.
func (l *Ledger) write(ctx context.Context, set Settings, n note, known bool) (k Kept, result string, err error) {
	rows, err := l.o.Store.Kept(ctx, n.user)
	if err != nil {
		return k, "", err
	}
	next := Kept{User: n.user, Side: n.side, Protocol: n.protocol, Learned: n.at, Seen: n.at, Expires: n.at.Add(set.Expire)}
	for _, r := range rows {
		if known || Matches(r.Hash, n.password) {
			r.Side, r.Seen, r.Expires = n.side, n.at, next.Expires
			there, err := l.o.Store.RenewKept(ctx, r)
			if err != nil || there {
				return r, "renewed", err
			}
			continue
		}
		if n.protocol == config.Submission && r.Protocol != config.Submission && l.ends(set, r).After(n.at) {
			return r, "kept", nil
		}
		if !r.Learned.Before(next.Learned) { // it tells one password from the next, also where clocks go back
			next.Learned = r.Learned.Add(1)
		}
		l.left = true
	}
	next.Hash = l.hash(n.password)
	if l.o.Shared { // that took a while, and he may have logged in elsewhere meanwhile: one of both is to run the hook
		now, err := l.o.Store.Kept(ctx, n.user)
		if err != nil {
			return k, "", err
		}
		for _, r := range now {
			if !slices.ContainsFunc(rows, func(x Kept) bool { return x.Learned.Equal(r.Learned) }) && Matches(r.Hash, n.password) {
				return r, "renewed", nil
			}
		}
	}
	return next, "learned", l.o.Store.PutKept(ctx, next)
}

// ends is when a row is over: a life that was made shorter since holds for what was kept before, too.
func (l *Ledger) ends(set Settings, k Kept) time.Time {
	if at := k.Seen.Add(set.Expire); at.Before(k.Expires) {
		return at
	}
	return k.Expires
}

// tidy erases what is over, and what is left in files of what was erased.
func (l *Ledger) tidy(ctx context.Context) {
	l.writing.Lock()
	defer l.writing.Unlock()
	now := time.Now()
	l.mu.Lock()
	unseen := now.Add(-l.set.Expire)
	old := func(x sight) bool { return !x.at.After(unseen) }
	for user, p := range l.people {
		for _, side := range config.Sides {
			p.worked[side] = slices.DeleteFunc(p.worked[side], old)
		}
		if len(p.worked[0])+len(p.worked[1]) == 0 && p.waits == nil && l.jobs[user] == nil {
			delete(l.people, user)
		}
	}
	for at, e := range l.in {
		if now.Sub(e.at) > tidyEvery {
			delete(l.in, at)
		}
	}
	l.mu.Unlock()
	n, err := l.o.Store.ExpireKept(ctx, now, unseen)
	if n > 0 {
		l.o.Log.Info("hashes of passwords are erased: their time is over", "hashes", n)
	}
	l.left = l.left || n > 0
	if err == nil && l.left {
		if err = l.o.Store.ScrubSecrets(ctx); err == nil {
			l.left = false
		}
	}
	if err != nil && ctx.Err() == nil {
		l.o.Log.Warn("hashes whose time is over are not erased yet; it is tried again", "err", err, "again_in", tidyEvery.String())
	}
}

// Forget erases what is kept of the passwords of a user, or of everybody (""), in memory and in the store, and tells of how many users
// there was something in the store. What the hook has done stays done; it runs again at the next login. The caller sees to ScrubSecrets.
func (l *Ledger) Forget(ctx context.Context, user, by, from string) (int, error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	meant := func(u string) bool { return user == "" || u == user }
	l.mu.Lock()
	l.order = slices.DeleteFunc(l.order, meant)
	for u := range l.people {
		if meant(u) {
			delete(l.people, u)
		}
	}
	for u := range l.jobs {
		if meant(u) {
			delete(l.jobs, u)
		}
	}
	l.asks = slices.DeleteFunc(l.asks, func(a ask) bool { return meant(a.user) })
	l.mu.Unlock()
	n, err := l.o.Store.DropKept(ctx, user, op.Event{At: time.Now(), User: user, By: by, From: from, What: "hash of a password erased"})
	if err != nil {
		return 0, err
	}
	l.left = l.left || n > 0
	return n, nil
}
