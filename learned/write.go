package learned

import (
	"context"
	"crypto/subtle"
	"time"

	"mailgate/config"
)

// writeNext writes down the oldest login that waits; false when there is none.
func (b *Book) writeNext(ctx context.Context) bool {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.Lock()
	if len(b.order) == 0 {
		b.mu.Unlock()
		return false
	}
	l := b.order[0]
	n := b.queue[l]
	b.order = b.order[1:]
	delete(b.queue, l)
	key, expire := b.key.Load(), b.expire
	b.mu.Unlock()
	if key == nil {
		return true
	}
	result, err := b.write(ctx, key, expire, l, n)
	if err != nil {
		if ctx.Err() == nil {
			b.o.Log.Warn("a password is not learned; it will be at the next login", "user", l.user, "side", l.side.String(), "err", err)
		}
		b.o.Recorder.LearnedPassword("failed")
		return true
	}
	b.mu.Lock()
	if b.key.Load() == key {
		b.seen[l] = sight{b.sum(place(l.user, l.side)+string(l.protocol), n.password), n.at}
	}
	b.mu.Unlock()
	b.o.Recorder.LearnedPassword(result)
	if result == "learned" {
		b.o.Changed(l.user)
	}
	return true
}

// write writes a login down; writing is held. A password that is known at a side is renewed there, wherever he logged in with it:
// somebody who was moved to NEW must not be lost on OLD for that. Another one takes its place, and what is known of refusals
// goes with the one before. But one of submission does not take the place of one that may still be good: where both have
// passwords of their own, it is that of IMAP that the syncer needs, and each change would be a try more with the wrong one.
func (b *Book) write(ctx context.Context, key *Key, expire time.Duration, l login, n note) (result string, err error) {
	rows, err := b.o.Store.Secrets(ctx, l.user)
	if err != nil {
		return "", err
	}
	replaces := false
	next := Row{User: l.user, Side: l.side, Learned: n.at, Seen: n.at, Expires: n.at.Add(expire)}
	for _, r := range rows {
		password, err := key.Open(r.User, r.Side, r.Sealed)
		here := r.Side == l.side
		switch {
		case err == nil && same(password, n.password):
			r.Seen, r.Expires = n.at, next.Expires
			there, err := b.o.Store.RenewSecret(ctx, r)
			if err != nil {
				return "", err
			}
			if here && there {
				result = "renewed"
			}
		case here && err == nil && l.protocol != config.IMAP && b.refusedAt(r, password, r.Side, "").IsZero() && b.ends(r).After(n.at):
			result = "kept"
		case here && !r.Learned.Before(next.Learned): // it tells one password from the next, also where clocks go back
			next.Learned = r.Learned.Add(1)
		}
		replaces = replaces || here
	}
	if result != "" {
		return result, nil
	}
	if next.Sealed, err = key.Seal(l.user, l.side, n.password); err != nil {
		return "", err
	}
	b.left = b.left || replaces
	return "learned", b.o.Store.PutSecret(ctx, next)
}

// ends is when a row is over: a life that was made shorter since holds for what was learned before, too.
func (b *Book) ends(r Row) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at := r.Seen.Add(b.expire); at.Before(r.Expires) {
		return at
	}
	return r.Expires
}

// same compares in a time that tells nothing of where two differ.
func same(a, b config.Secret) bool {
	return subtle.ConstantTimeCompare([]byte(a.Reveal()), []byte(b.Reveal())) == 1
}

// tidy erases what is over, and what is left in files of what was erased.
func (b *Book) tidy(ctx context.Context) {
	b.writing.Lock()
	defer b.writing.Unlock()
	now := b.o.Now()
	b.mu.Lock()
	unseen := now.Add(-b.expire)
	for l, s := range b.seen {
		if now.Sub(s.at) > forgetAfter {
			delete(b.seen, l)
		}
	}
	b.mu.Unlock()
	n, err := b.o.Store.ExpireSecrets(ctx, now, unseen)
	if n > 0 {
		b.o.Log.Info("learned passwords are erased: their time is over", "passwords", n)
	}
	b.left = b.left || n > 0
	if err == nil && b.left {
		if err = b.o.Store.ScrubSecrets(ctx); err == nil {
			b.left = false
		}
	}
	if err != nil && ctx.Err() == nil {
		b.o.Log.Warn("learned passwords whose time is over are not erased yet; they are not used, and it is tried again", "err", err,
			"again_in", tidyEvery.Round(time.Second).String())
	}
}
