package syncer

import (
	"slices"
	"time"
)

// Extent is how much mail a user has, and when the newest in his INBOX arrived; zero when that is not known.
type Extent struct {
	Messages int64
	Newest   time.Time
}

// class is an order of magnitude: within one, who has newer mail goes first. Below a thousand messages a copy takes no time.
func (e Extent) class() (c int) {
	for n := e.Messages; n >= 1000; n /= 10 {
		c++
	}
	return c
}

// Size says how much mail a user has: of those who wait for their first copy the small ones come first, of those of the same size who has
// the newest mail, and all of them before those of whom it is not known.
func (k *Keeper) Size(user string, e Extent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if u := k.users[user]; u != nil {
		u.extent = &e
		k.rank(u)
	}
}

// Online says who works now: their first copies go before those of others. A copy that is under way ends first.
func (k *Keeper) Online(users map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, u := range slices.Clone(k.fresh) {
		if u.online != users[u.user] {
			u.online = !u.online
			k.rank(u)
		}
	}
	k.poke()
}

const (
	oldest   = 20 * 365 * 24 * time.Hour // beyond that age of the newest mail it is all the same
	perClass = time.Hour                 // between classes of size, in when they are due
	longDue  = 100 * time.Hour           // since when those are due of whom the size is known; those at work, for twice as long again
)

// rank puts a user who waits for his first copy in his place: all of them are long due, and the order is that of since when. Who fails, or
// was interrupted, waits for his own time. mu is held.
func (k *Keeper) rank(u *kept) {
	if u.through || u.state.Tries > 0 || u.place < 0 || u.again {
		return
	}
	u.at = u.asked
	if e := u.extent; e != nil {
		age := oldest
		if !e.Newest.IsZero() {
			age = min(max(k.began.Sub(e.Newest), 0), oldest)
		}
		share := float64(age) / float64(oldest)
		u.at = k.began.Add(time.Duration(e.class())*perClass + time.Duration(share*float64(perClass-time.Second)) - longDue)
	}
	if u.online {
		u.at = u.at.Add(-2 * longDue)
	}
	k.queue(u)
}
