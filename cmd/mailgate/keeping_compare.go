package main

import (
	"context"
	"errors"
	"time"

	"mailgate/syncer"
)

// When the sides of users who are kept are compared as a whole: before a day is over since the last time, one user after the other, with a
// pause behind each look. What cannot be compared is tried again later.
const (
	compareEvery = verifiedFor - 4*time.Hour
	compareAgain = time.Hour
	comparePause = 5 * time.Second
	compareFirst = 5 * time.Minute // from the start: first copies and what is owed come first
)

// compares does it until ctx ends.
func (kp *keeping) compares(ctx context.Context) {
	due := map[string]time.Time{}
	for wait := kp.compareFirst; ; wait = kp.comparePause {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if user := kp.gapsDue(due, time.Now()); user != "" {
			due[user] = time.Now().Add(kp.compareNow(ctx, user))
		}
	}
}

// compareNow compares a user's sides, unless that was done not long ago, and tells when to look again.
func (kp *keeping) compareNow(ctx context.Context, user string) time.Duration {
	at, _, ok, err := kp.s.verified(ctx, user)
	if left := compareEvery - time.Since(at); err == nil && ok && left > 0 {
		return left
	}
	u, leave, err := kp.s.enter(ctx, user, true)
	if err != nil { // somebody else is at it
		return time.Minute
	}
	defer leave()
	e := kp.take()
	defer kp.put(e)
	if err = kp.s.proveBoth(u.ctx, e.Syncer, user, false); err == nil {
		_, err = kp.s.compare(u.ctx, e.Syncer, user, syncer.VerifyOptions{Sample: 1}, "serve")
	}
	switch {
	case err == nil:
		return compareEvery
	case ctx.Err() == nil && u.ctx.Err() == nil && !errors.Is(err, syncer.ErrCrowded):
		kp.s.g.log.Warn("a user's sides could not be compared; it is tried again", "user", user, "err", err)
	}
	return compareAgain
}
