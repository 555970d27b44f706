package syncer

import (
	"context"
	"sync"
	"sync/atomic"

	"mailgate/config"
)

// Rate is how much a second; 0 means as much as goes.
type Rate struct {
	Messages int64 `json:"messages_per_second"`
	Bytes    int64 `json:"bytes_per_second"`
}

// LimitSettings are what Limits hold to.
type LimitSettings struct {
	Sides [2]Rate // over all users; a message counts on the side that it is read from, and on the one that it is written to
	User  Rate    // for each user
}

// Limits slow copying down. One is shared by all passes of a process. It is safe for concurrent use; nil limits nothing.
type Limits struct {
	any    atomic.Bool // there is a limit
	sized  atomic.Bool // one of bytes
	meters [2]meter

	mu       sync.Mutex
	settings LimitSettings
	sides    [2]rateLimit
	users    map[string]*userLimit
}

// rateLimit is a Rate in force.
type rateLimit struct{ messages, bytes *bucket }

func newRateLimit(r Rate) rateLimit {
	return rateLimit{newBucket(r.Messages), newBucket(r.Bytes)}
}

func (l rateLimit) set(r Rate) {
	l.messages.set(r.Messages)
	l.bytes.set(r.Bytes)
}

func (l rateLimit) take(ctx context.Context, messages, bytes int64) error {
	if err := l.messages.take(ctx, messages); err != nil {
		return err
	}
	return l.bytes.take(ctx, bytes)
}

// userLimit is that of a user whose pass is under way.
type userLimit struct {
	rateLimit
	passes int
}

// NewLimits makes Limits.
func NewLimits(s LimitSettings) *Limits {
	l := &Limits{users: map[string]*userLimit{}}
	for side := range l.sides {
		l.sides[side] = newRateLimit(Rate{})
	}
	l.Set(s)
	return l
}

// Set puts other limits in force. Whoever waits goes on by them at once; what was asked for before (up to 1024 messages for each
// connection, where there was no limit) comes as it was asked for.
func (l *Limits) Set(s LimitSettings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settings = s
	for side := range l.sides {
		l.sides[side].set(s.Sides[side])
	}
	for _, u := range l.users {
		u.set(s.User)
	}
	l.any.Store(s != LimitSettings{})
	l.sized.Store(s.Sides[0].Bytes > 0 || s.Sides[1].Bytes > 0 || s.User.Bytes > 0)
}

// Settings are those in force.
func (l *Limits) Settings() LimitSettings {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settings
}

// Present is what goes through now on each side, the mean of the last ten seconds.
func (l *Limits) Present() (out [2]Rate) {
	for side := range l.meters {
		out[side] = l.meters[side].rate()
	}
	return out
}

// limited tells whether there is any limit, sized whether there is one of bytes: then sizes have to be known.
func (l *Limits) limited() bool { return l != nil && l.any.Load() }
func (l *Limits) needSizes() bool {
	return l != nil && l.sized.Load()
}

// join notes that a pass over a user is under way; the caller calls leave when it is over. His passes share his limit.
func (l *Limits) join(user string) (leave func()) {
	if l == nil {
		return func() {}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.users[user]
	if u == nil {
		u = &userLimit{rateLimit: newRateLimit(l.settings.User)}
		l.users[user] = u
	}
	u.passes++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if u.passes--; u.passes == 0 {
			delete(l.users, user)
		}
	})
}

// part tells how many of some messages may be copied at once: no more than a second's worth, and one at least.
func (l *Limits) part(items []item) (n int, bytes int64) {
	s := l.Settings()
	least := func(get func(Rate) int64) (out int64) {
		for _, r := range []Rate{s.Sides[0], s.Sides[1], s.User} {
			if v := get(r); v > 0 && (out == 0 || v < out) {
				out = v
			}
		}
		return out
	}
	messages, most := least(func(r Rate) int64 { return r.Messages }), least(func(r Rate) int64 { return r.Bytes })
	for _, it := range items {
		if n > 0 && (messages > 0 && int64(n) >= messages || most > 0 && bytes+it.size > most) {
			break
		}
		n++
		bytes += it.size
	}
	return n, bytes
}

// wait waits until a user's messages of so many bytes may be copied from one side to the other. The error is the cause of ctx.
func (l *Limits) wait(ctx context.Context, user string, messages int, bytes int64) error {
	l.mu.Lock()
	all := make([]rateLimit, 0, 3)
	if u := l.users[user]; u != nil { // his own first: while he waits for that, he keeps nothing from the others
		all = append(all, u.rateLimit)
	}
	all = append(all, l.sides[config.Old], l.sides[config.New])
	l.mu.Unlock()
	for _, x := range all {
		if err := x.take(ctx, int64(messages), bytes); err != nil {
			return err
		}
	}
	return nil
}

// count notes a message that has gone from one side to the other.
func (l *Limits) count(bytes int64) {
	if l == nil {
		return
	}
	for side := range l.meters {
		l.meters[side].add(1, bytes)
	}
}
