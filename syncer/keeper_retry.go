package syncer

import "time"

// Retry makes the pass over a user who fails due at once: what he failed for is mended, somebody says. A pass that is under way may have
// met it as it was: when it fails, the next one is due soon.
func (k *Keeper) Retry(user string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if u := k.users[user]; u != nil {
		k.mend(u)
	}
}

// RetryAll does that for everybody.
func (k *Keeper) RetryAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range k.users {
		k.mend(u)
	}
}

func (k *Keeper) mend(u *kept) {
	now := time.Now()
	u.mended = u.state.Now
	if u.retry = k.o.Retry; u.state.Tries > 0 && u.place >= 0 && u.at.After(now) {
		u.at = now
		k.queue(u)
		k.poke()
	}
}
