package router

import (
	"context"
	"slices"
	"time"
)

// Pressure says how hard a session is asked to end.
type Pressure uint8

const (
	// AtBoundary ends the session when no command is without its answer.
	AtBoundary Pressure = iota + 1
	// CutReads also ends it between two responses of commands that only read, or when the client stopped reading them.
	CutReads
	// Cut ends it at once. Of flips only rollback --now asks for this, at half of its deadline: the side is given up.
	Cut
)

// Ender ends a session. Its methods are called without the router's locks, must not block, may be called often and
// concurrently, and before the session has begun to serve.
type Ender interface {
	// End asks the session to end, with a text for the client.
	End(p Pressure, text string)
	// Resume takes back End, if it has not ended yet: the flip was aborted.
	Resume()
}

// Session is a registered session. Its exported fields do not change.
type Session struct {
	ID   uint64
	User string
	Place
	Details
	Started time.Time

	ender Ender
	r     *Router
	u     *user
}

// Done unregisters the session, after the backend connection is closed. It may be called twice.
func (s *Session) Done() {
	u := s.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.sessions, s); i >= 0 {
		u.sessions = slices.Delete(u.sessions, i, i+1)
		s.r.uncountIP(s.Client.Addr())
		u.drained()
	}
}

// drained closes empty when a fenced user has no mailbox session left; u.mu is held.
func (u *user) drained() {
	if !u.fenced || u.isEmpty || slices.ContainsFunc(u.sessions, func(s *Session) bool { return s.Mailbox }) {
		return
	}
	u.isEmpty = true
	close(u.empty)
}

// Fence stops the admission of a user's logins, cancels those under way, and asks his sessions to end at a boundary.
// generation is the row's new generation; one that is not newer than what stands is ErrStale. The channel is closed
// when no mailbox session is left. Fencing again, with the same generation or a newer one, gives the same channel.
func (r *Router) Fence(name string, generation int64, text string) (<-chan struct{}, error) {
	u := r.lock(name)
	if u.place.Generation > generation || u.place.Generation == generation && !u.fenced {
		u.mu.Unlock()
		r.forget(u)
		return nil, ErrStale
	}
	if !u.known {
		u.place.Side = (*r.unknown.Load())(name)
	}
	u.fence()
	u.known = true
	u.place.Generation = generation
	for _, l := range u.logins {
		if l.cancel != nil {
			l.cancel(ErrMoved)
		}
	}
	done := u.empty
	list := slices.Clone(u.sessions)
	u.drained()
	u.mu.Unlock()
	for _, s := range list {
		s.ender.End(AtBoundary, text)
	}
	return done, nil
}

// Press asks the sessions of a user to end, harder, as long as he is fenced: a word that comes late must not end those
// that began behind the fence.
func (r *Router) Press(name string, p Pressure, text string) {
	u := r.find(name)
	if u == nil {
		return
	}
	u.mu.Lock()
	var list []*Session
	if u.fenced {
		list = slices.Clone(u.sessions)
	}
	u.mu.Unlock()
	for _, s := range list {
		s.ender.End(p, text)
	}
}

// Release ends a fence: the user is at p, held logins go on, and sessions that have not ended live on if they are of
// p's epoch (an abort). An older generation, or one that is not newer while he is not fenced, is ErrStale. A newer
// one of a user with a row that comes before its fence is kept, so that the fence, when it comes late, is stale.
func (r *Router) Release(name string, p Place) error {
	u := r.lock(name)
	if u.known && !u.fenced && u.place.Generation < p.Generation && u.place.Side == p.Side && u.place.Epoch == p.Epoch {
		u.place = p
		u.mu.Unlock()
		return nil
	}
	if !u.fenced || u.place.Generation > p.Generation {
		u.mu.Unlock()
		r.forget(u) // whom a late message alone has named is nobody
		return ErrStale
	}
	u.place, u.fenced, u.empty = p, false, nil
	close(u.released)
	u.released = nil
	list := slices.Clone(u.sessions)
	u.mu.Unlock()
	for _, s := range list {
		if s.Epoch == p.Epoch && s.Side == p.Side {
			s.ender.Resume()
		}
	}
	return nil
}

// Kick asks all sessions of a user to end at a boundary and waits for it until ctx ends. It returns how many were
// asked and how many are left. New logins are not stopped.
func (r *Router) Kick(ctx context.Context, name, text string, force bool) (asked, left int) {
	list := r.Sessions(name)
	p := AtBoundary
	if force {
		p = Cut
	}
	for _, s := range list {
		s.ender.End(p, text)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left = 0
		now := r.Sessions(name)
		for _, s := range list {
			if slices.Contains(now, s) {
				left++
			}
		}
		if left == 0 {
			return len(list), 0
		}
		select {
		case <-ctx.Done():
			return len(list), left
		case <-tick.C:
		}
	}
}

// Press asks the session to end.
func (s *Session) Press(p Pressure, text string) { s.ender.End(p, text) }
