package learned

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// ErrLeft means that rows are erased, and that something of them may still stand in the files of the database.
var ErrLeft = errors.New("erased, but something may be left in the files of the store: ask again")

// Forget erases what is known of a user, or of everybody (""), in memory, in the queue and in the store, and tells how many passwords of
// the store that were. The history has an event for each user. Behind it nothing can be read any more; whoever logs in again is learned again.
func (b *Book) Forget(ctx context.Context, user, by, from string) (int, error) {
	b.writing.Lock()
	defer b.writing.Unlock()
	meant := func(u string) bool { return user == "" || u == user }
	b.mu.Lock()
	b.order = slices.DeleteFunc(b.order, func(l login) bool { return meant(l.user) })
	for l := range b.queue {
		if meant(l.user) {
			delete(b.queue, l)
		}
	}
	for l := range b.seen {
		if meant(l.user) {
			delete(b.seen, l)
		}
	}
	for a := range b.refused {
		if meant(a.user) {
			delete(b.refused, a)
		}
	}
	b.mu.Unlock()
	n, err := b.o.Store.DropSecrets(ctx, user, op.Event{At: b.o.Now(), User: user, By: by, From: from, What: "learned password erased"})
	if err != nil {
		return 0, err
	}
	b.left = true
	if err := b.o.Store.ScrubSecrets(ctx); err != nil {
		return n, fmt.Errorf("%w (%w)", ErrLeft, err)
	}
	b.left = false
	return n, nil
}

// Allow takes back that passwords of a user, or of everybody (""), are refused: somebody says that the host was wrong, and each may be tried
// once more. It tells of how many passwords that was so.
func (b *Book) Allow(ctx context.Context, user, by, from string) (int, error) {
	n, err := b.o.Store.AllowSecrets(ctx, user, op.Event{At: b.o.Now(), User: user, By: by, From: from, What: "learned password may be tried again"})
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for a := range b.refused {
		if user == "" || a.user == user {
			delete(b.refused, a)
		}
	}
	return n, nil
}

// Entry tells of a row, without the password.
type Entry struct {
	User    string      `json:"user"`
	Side    config.Side `json:"side"`
	Learned time.Time   `json:"learned"`
	Seen    time.Time   `json:"last_login"`
	Expires time.Time   `json:"expires"`
	State   State       `json:"state"`
	Refused []string    `json:"refused_by,omitempty"` // sides
}

// State is whether a row can be used.
type State string

const (
	Usable   State = "usable"
	Expired  State = "expired"   // and goes within the hour
	OtherKey State = "other-key" // it does not open with the key of login.learn.key, or stands in another's place
	NoKey    State = "no-key"    // login.learn.key is not set
	Refused  State = "refused"   // by the side that it was learned at
)

// List tells of all rows, or of those of a user.
func (b *Book) List(ctx context.Context, user string) ([]Entry, error) {
	rows, err := b.o.Store.Secrets(ctx, user)
	if err != nil {
		return nil, err
	}
	key, now, out := b.key.Load(), b.o.Now(), []Entry{}
	for _, r := range rows {
		e := Entry{User: r.User, Side: r.Side, Learned: r.Learned, Seen: r.Seen, Expires: b.ends(r), State: Usable}
		var password config.Secret
		err := ErrOff
		if key != nil {
			password, err = key.Open(r.User, r.Side, r.Sealed)
		}
		for _, side := range config.Sides {
			if !r.Refused[side].IsZero() || err == nil && !b.refusedAt(r, password, side, "").IsZero() {
				e.Refused = append(e.Refused, side.String())
			}
		}
		switch {
		case !e.Expires.After(now):
			e.State = Expired
		case key == nil:
			e.State = NoKey
		case err != nil:
			e.State = OtherKey
		case slices.Contains(e.Refused, r.Side.String()):
			e.State = Refused
		}
		out = append(out, e)
	}
	return out, nil
}
