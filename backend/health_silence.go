package backend

import (
	"sync/atomic"
	"time"

	"mailgate/config"
)

// silences is what the syncer's connections that were logged in have met at a machine: one that lets everybody in and then says nothing,
// as when its storage hangs. The circuit breaker does not see that, and users' sessions are none of its business: it only keeps the
// syncer from spending all its turns there, minutes each. health.mu guards it, but for any.
type silences struct {
	any   atomic.Bool // fails > 0
	fails int         // in a row, with no answer to any connection between
	why   string
	until time.Time // the syncer does not ask again before
}

// deafAfter is how many silences in a row it takes: two may be a single mailbox's, whose connection is made anew once.
const deafAfter = 3

// muted notes that a connection failed by silence.
func (h *health) muted(p config.Protocol, err error) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.deaf[index(p)]
	s.any.Store(true)
	s.fails++
	s.why = err.Error()
	s.until = time.Now().Add(min(30*time.Second<<min(max(s.fails-deafAfter, 0), 5), 5*time.Minute))
}

// heard notes that the machine has answered a command about mail.
func (h *health) heard(p config.Protocol) {
	if h == nil || !h.deaf[index(p)].any.Load() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.deaf[index(p)]
	s.any.Store(false)
	s.fails, s.why, s.until = 0, "", time.Time{}
}

// listens tells whether the syncer may ask the machine. Behind a pause one connection tries: the others are let in as soon as it has an
// answer to anything, or the next one a minute later.
func (h *health) listens(p config.Protocol, now time.Time) (why string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.deaf[index(p)]
	if s.fails < deafAfter {
		return "", true
	}
	if now.Before(s.until) {
		return s.why, false
	}
	s.until = now.Add(time.Minute) // who tries is not asked what became of it: it may never ask a thing
	return "", true
}
