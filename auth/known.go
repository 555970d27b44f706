package auth

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"mailgate/config"
)

// Limits of what is remembered of who has logged in from where.
const (
	knownTime  = 30 * 24 * time.Hour // since the last login from there
	knownUser  = 64                  // addresses of one user: whoever knows one password must not make the gateway forget all others
	knownEvery = 24 * time.Hour      // how old "last seen" may be in the store
)

// Known is an address, or an IPv6 /64 (config.Network), from which a user has logged in.
type Known struct {
	User    string
	Network netip.Addr
	Seen    time.Time
}

// Memory keeps over restarts who has logged in from where: whoever guesses must not lock a user out while the gateway learns anew.
// Package store implements it.
type Memory interface {
	// KnownAddresses lists the most newest of those seen later than since, oldest first.
	KnownAddresses(ctx context.Context, since time.Time, most int) ([]Known, error)
	// KeepAddresses writes what was seen, and drops what is gone and what was seen last at or before a time.
	KeepAddresses(ctx context.Context, seen, gone []Known, before time.Time) error
}

// lastSeen is what is remembered of a pair.
type lastSeen struct {
	seen   time.Time
	stored time.Time // what the Memory has; zero for nothing
}

// homes are the addresses that users are known at. Limiter.mu guards them.
type homes struct {
	lru  lru[pair, lastSeen]
	of   map[string][]netip.Addr // of each user, the latest last
	todo map[pair]time.Time      // what the Memory is owed: zero where it is to drop it
}

// has tells whether a user is known at an address.
func (h *homes) has(p pair, now time.Time) bool {
	x, ok := h.lru.get(p)
	return ok && now.Sub(x.seen) < knownTime
}

// note remembers a login.
func (h *homes) note(p pair, now time.Time) {
	x, ok := h.lru.get(p)
	x.seen = now
	if now.Sub(x.stored) >= knownEvery {
		h.owe(p, now)
		x.stored = now
	}
	h.put(p, x, ok)
}

// owe notes what is to be written. While a Memory is down for days it does not grow without end: what does not fit is written another day,
// or expires.
func (h *homes) owe(p pair, at time.Time) {
	if h.todo == nil {
		h.todo = map[pair]time.Time{}
	}
	if _, there := h.todo[p]; there || len(h.todo) < limiterEntries {
		h.todo[p] = at
	}
}

func (h *homes) put(p pair, x lastSeen, there bool) {
	if h.of == nil {
		h.of = map[string][]netip.Addr{}
		h.lru.gone = func(p pair) { // the one who was here longest ago makes room
			h.dropOf(p)
			h.owe(p, time.Time{})
		}
	}
	if there {
		h.dropOf(p)
	} else if mine := h.of[p.user]; len(mine) >= knownUser {
		old := pair{mine[0], p.user}
		h.lru.remove(old)
		h.dropOf(old)
		h.owe(old, time.Time{})
	}
	h.of[p.user] = append(h.of[p.user], p.addr)
	h.lru.put(p, x)
}

func (h *homes) dropOf(p pair) {
	mine := h.of[p.user]
	if i := slices.Index(mine, p.addr); i >= 0 {
		mine = slices.Delete(mine, i, i+1)
	}
	if len(mine) == 0 {
		delete(h.of, p.user)
		return
	}
	h.of[p.user] = mine
}

// Remember takes over what a Memory has. Call it before logins are served.
func (l *Limiter) Remember(ctx context.Context, m Memory) error {
	now := l.now()
	list, err := m.KnownAddresses(ctx, now.Add(-knownTime), limiterEntries)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range list {
		p := pair{config.Network(k.Network), k.User}
		if _, there := l.good.lru.get(p); !there {
			l.good.put(p, lastSeen{k.Seen, k.Seen}, false)
		}
	}
	return nil
}

// Times of Keep.
const (
	keepEvery = 5 * time.Second
	lastKeep  = 5 * time.Second // for what is left at the end
	keepBatch = 500
)

// Keep writes to a Memory who has logged in from where, until ctx ends; what is left then is written before it returns. A Memory that
// cannot be written is tried again: nobody waits for it.
func (l *Limiter) Keep(ctx context.Context, m Memory, log *slog.Logger) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	ill := false
	flush := func(ctx context.Context) {
		for more := true; more; {
			var err error
			if more, err = l.keepSome(ctx, m); err != nil {
				if !ill {
					log.Warn("addresses that users logged in from are not written", "err", err)
				}
				ill = true
				return
			}
			ill = false
		}
	}
	for {
		select {
		case <-tick.C:
			flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastKeep)
			defer cancel()
			flush(last)
			return
		}
	}
}

// keepSome writes a batch of what is owed, and tells whether there is more.
func (l *Limiter) keepSome(ctx context.Context, m Memory) (more bool, err error) {
	l.mu.Lock()
	var seen, gone []Known
	batch := map[pair]time.Time{}
	for p, at := range l.good.todo {
		if len(batch) == keepBatch {
			more = true
			break
		}
		batch[p] = at
		delete(l.good.todo, p)
		if k := (Known{p.user, p.addr, at}); at.IsZero() {
			gone = append(gone, k)
		} else {
			seen = append(seen, k)
		}
	}
	before := l.now().Add(-knownTime)
	l.mu.Unlock()
	if len(batch) == 0 {
		return false, nil
	}
	if err := m.KeepAddresses(ctx, seen, gone, before); err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		for p, at := range batch {
			if _, newer := l.good.todo[p]; !newer {
				l.good.owe(p, at)
			}
		}
		return false, err
	}
	return more, nil
}
