package main

import (
	"context"
	"slices"
	"time"

	"mailgate/syncer"
)

// How often it is looked what of a user does not travel: once a day, and sooner where a side could not be asked, or passes were
// not through with all folders. Between two users there is a pause: nothing is in a hurry.
const (
	gapsEvery = 24 * time.Hour
	gapsAgain = time.Hour
	gapsPause = 5 * time.Second
)

// gaps looks, one user after the other, what of those who are kept does not travel. Who has not had his first copy, is paused, or fails,
// is left for later. A look takes a connection like any pass, gives way where there is none, and its trouble is nobody's but its own.
func (kp *keeping) gaps(ctx context.Context) {
	var due map[string]time.Time // when each user's next look is due; who is not in it had none yet
	for {
		t := time.NewTimer(kp.gapsPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if due == nil {
			times, err := kp.s.g.store.GapTimes(ctx)
			if err != nil { // it is tried again
				continue
			}
			due = make(map[string]time.Time, len(times))
			for user, at := range times {
				due[user] = at.Add(gapsEvery)
			}
			kp.recallGaps(ctx, times)
		}
		if user := kp.gapsDue(due, time.Now()); user != "" {
			due[user] = time.Now().Add(kp.lookForGaps(ctx, user))
		}
	}
}

// recallGaps shows in status what was seen before this process began.
func (kp *keeping) recallGaps(ctx context.Context, times map[string]time.Time) {
	y := kp.s.syncer()
	defer y.Close()
	for user := range times {
		if r, err := y.KeptGaps(ctx, user); err == nil && r != nil {
			kp.noteGaps(r)
		}
	}
}

// noteGaps remembers a look for status.
func (kp *keeping) noteGaps(r *syncer.GapReport) {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	if k := kp.users[r.User]; k != nil && !r.At.Before(k.gapsAt) {
		k.gaps, k.gapsAt = r.Summary(), r.At
	}
}

// gapsDue is the user who waits longest, "" when nobody does.
func (kp *keeping) gapsDue(due map[string]time.Time, now time.Time) (next string) {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	for user, k := range kp.users {
		if _, paused := kp.pauseOf(user); paused || !k.copied || k.failing || due[user].After(now) {
			continue
		}
		if next == "" || due[user].Before(due[next]) || due[user].Equal(due[next]) && user < next {
			next = user
		}
	}
	return next
}

// lookForGaps looks at a user, and tells when to look again.
func (kp *keeping) lookForGaps(ctx context.Context, user string) time.Duration {
	y := kp.s.syncer()
	defer y.Close()
	r, err := kp.s.lookForGaps(ctx, y, user)
	if err != nil {
		if ctx.Err() == nil {
			kp.s.g.log.Warn("what of a user does not travel could not be looked at; it is tried again", "user", user, "err", err)
		}
		return gapsAgain
	}
	kp.noteGaps(r)
	early := slices.ContainsFunc(r.Gaps, func(g syncer.Gap) bool { return g.Kind == syncer.GapKeywords && g.Why != "" }) // passes are not through with all
	if early || r.Unreached != [2]string{} {
		return gapsAgain
	}
	return gapsEvery
}
