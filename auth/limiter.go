package auth

import (
	"container/list"
	"errors"
	"net/netip"
	"sync"
	"time"

	"mailgate/config"
)

// ErrTooMany means that too many attempts of an address wait already: a temporary failure, never a wrong password.
var ErrTooMany = errors.New("too many login attempts wait")

// Limits of the Limiter that need no setting.
const (
	limiterEntries = 1 << 16          // of each kind that is remembered
	limiterWindow  = 10 * time.Minute // after which failures are forgotten
	freeRefusals   = 3                // refusals that are answered at once
	freeFailures   = 20               // failures of an address or user before strangers wait
	maxWaiting     = 64               // attempts of one address that wait
	maxWaitingUser = 16               // those of them for one user: who guesses one password leaves room for others behind his address
	stepDelay      = 250 * time.Millisecond
)

// Limiter slows down guessing. It delays refusals, and, when an address or a user has failed often, also the attempts
// of strangers; a user who logged in from an address before (within 30 days; known.go) is never delayed there, so that nobody can
// lock him out. Its memory is bounded. It is safe for concurrent use.
type Limiter struct {
	now func() time.Time

	mu      sync.Mutex
	max     time.Duration
	failed  lru[any, failures]
	good    homes
	waiting map[pair]int // of an address in all, with user ""; and for each user
}

type pair struct {
	addr netip.Addr
	user string
}

type failures struct {
	n    int
	last time.Time
}

// NewLimiter makes a Limiter whose longest delay is max. now may be nil.
func NewLimiter(max time.Duration, now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{now: now, max: max, waiting: map[pair]int{}}
}

// SetMax changes the longest delay.
func (l *Limiter) SetMax(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.max = d
}

// Knows tells whether a user has logged in from an address before.
func (l *Limiter) Knows(addr netip.Addr, user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.good.has(pair{config.Network(addr), user}, l.now())
}

// Before tells how long an attempt must wait before it is tried; the caller then calls release, once or more. The error is
// ErrTooMany when too many attempts of the address wait, or of it for the user.
func (l *Limiter) Before(addr netip.Addr, user string) (wait time.Duration, release func(), err error) {
	addr = config.Network(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	none := func() {}
	if l.good.has(pair{addr, user}, l.now()) {
		return 0, none, nil
	}
	n := max(l.count(addr), l.count(user)) - freeFailures
	if n < 0 {
		return 0, none, nil
	}
	places := []pair{{addr, ""}, {addr, user}}
	if l.waiting[places[0]] >= maxWaiting || l.waiting[places[1]] >= maxWaitingUser {
		return 0, nil, ErrTooMany
	}
	for _, p := range places {
		l.waiting[p]++
	}
	released := false
	return min(stepDelay*time.Duration(n+1), l.max), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if released {
			return
		}
		released = true
		for _, p := range places {
			if l.waiting[p]--; l.waiting[p] <= 0 {
				delete(l.waiting, p)
			}
		}
	}, nil
}

// count is the number of recent failures of an address or a user; l.mu is held.
func (l *Limiter) count(key any) int {
	f, ok := l.failed.get(key)
	if !ok || l.now().Sub(f.last) > limiterWindow {
		return 0
	}
	return f.n
}

// Failed notes a refusal of a user ("" when he is not known), and tells how long its answer is to be delayed.
func (l *Limiter) Failed(addr netip.Addr, user string) time.Duration {
	addr = config.Network(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, key := range []any{addr, user} {
		if key == "" { // malformed credentials name nobody
			continue
		}
		f := failures{n: l.count(key) + 1, last: l.now()}
		l.failed.put(key, f)
		n = max(n, f.n)
	}
	if n <= freeRefusals {
		return 0
	}
	return min(stepDelay<<min(n-freeRefusals-1, 10), l.max)
}

// Succeeded notes a login: the user is known at the address from now on, and his failures are forgotten.
func (l *Limiter) Succeeded(addr netip.Addr, user string) {
	addr = config.Network(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.good.note(pair{addr, user}, l.now())
	l.failed.remove(user)
}

// lru is a bounded map that forgets what was used longest ago.
type lru[K comparable, V any] struct {
	m    map[K]*list.Element
	l    list.List
	gone func(K) // is told what was forgotten for want of room; may be nil
}

type lruItem[K comparable, V any] struct {
	key   K
	value V
}

func (c *lru[K, V]) get(k K) (v V, ok bool) {
	e := c.m[k]
	if e == nil {
		return v, false
	}
	c.l.MoveToFront(e)
	return e.Value.(*lruItem[K, V]).value, true
}

func (c *lru[K, V]) put(k K, v V) {
	if c.m == nil {
		c.m = map[K]*list.Element{}
	}
	if e := c.m[k]; e != nil {
		e.Value.(*lruItem[K, V]).value = v
		c.l.MoveToFront(e)
		return
	}
	c.m[k] = c.l.PushFront(&lruItem[K, V]{k, v})
	if c.l.Len() > limiterEntries {
		last := c.l.Back()
		c.removeElement(last)
		if c.gone != nil {
			c.gone(last.Value.(*lruItem[K, V]).key)
		}
	}
}

func (c *lru[K, V]) remove(k K) {
	if e := c.m[k]; e != nil {
		c.removeElement(e)
	}
}

func (c *lru[K, V]) removeElement(e *list.Element) {
	delete(c.m, e.Value.(*lruItem[K, V]).key)
	c.l.Remove(e)
}
