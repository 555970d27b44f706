package router

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"mailgate/config"
)

// Login is a pending login: registered before the backend is asked, so that a flip cannot miss it. It is used by one
// goroutine. It never delays a drain; a fence cancels what it is doing.
type Login struct {
	r      *Router
	u      *user
	held   bool
	waited time.Duration           // behind fences, in all
	void   bool                    // what Route has answered does not count any more, see HoldAll; guarded by u.mu
	cancel context.CancelCauseFunc // of the context that Route gave out; guarded by u.mu
}

// Begin registers a pending login of a user, by canonical address. The caller must call End.
func (r *Router) Begin(name string) (*Login, error) {
	return r.begin(name, r.opts.Load().PendingPerUser)
}

// BeginStranger is Begin of somebody who has not logged in as that user from where he is: half of the room is for those who have, so that
// guessers do not shut the user out.
func (r *Router) BeginStranger(name string) (*Login, error) {
	return r.begin(name, (r.opts.Load().PendingPerUser+1)/2)
}

func (r *Router) begin(name string, most int) (*Login, error) {
	u := r.lock(name)
	defer u.mu.Unlock()
	if most > 0 && len(u.logins) >= most {
		return nil, ErrPendingCap
	}
	l := &Login{r: r, u: u}
	u.logins = append(u.logins, l)
	return l, nil
}

// Route answers the user's place, and a context for talking to that backend: a fence cancels it with the cause
// ErrMoved. While the user is fenced it waits, and calls tick (may be nil) every five seconds; past the hold limit, which
// is for all waits of the login together, the error is ErrHeld. It may be called again after ErrMoved.
func (l *Login) Route(ctx context.Context, tick func() error) (Place, context.Context, error) {
	var limit <-chan time.Time
	for {
		u := l.u
		l.r.holdMu.RLock()
		u.mu.Lock()
		wait := l.r.waits(u)
		l.r.holdMu.RUnlock()
		l.held = wait != nil
		if wait == nil {
			if !u.known {
				u.place.Side = (*l.r.unknown.Load())(u.name)
			}
			c, cancel := context.WithCancelCause(ctx)
			if l.cancel != nil {
				l.cancel(nil)
			}
			l.cancel, l.void = cancel, false
			p := u.place
			u.mu.Unlock()
			return p, c, nil
		}
		u.mu.Unlock()
		if limit == nil {
			t := time.NewTimer(l.r.opts.Load().Hold - l.waited)
			defer t.Stop()
			start := time.Now()
			defer func() { l.waited += time.Since(start) }()
			limit = t.C
		}
		if err := waitTick(ctx, wait, limit, tick); err != nil {
			return Place{}, nil, err
		}
	}
}

// keepAlive is how often a held login is told to be patient: well below the usual client's 30 s.
const keepAlive = 5 * time.Second

func waitTick(ctx context.Context, wait <-chan struct{}, limit <-chan time.Time, tick func() error) error {
	t := time.NewTicker(keepAlive)
	defer t.Stop()
	for {
		select {
		case <-wait:
			return nil
		case <-limit:
			return ErrHeld
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			if tick == nil {
				continue
			}
			if err := tick(); err != nil {
				return err
			}
		}
	}
}

// Moved tells whether p is no longer the user's place, or a fence stands: whatever the backend of p said does not
// count, not even that the password was wrong.
func (l *Login) Moved(p Place) bool {
	l.r.holdMu.RLock()
	defer l.r.holdMu.RUnlock()
	l.u.mu.Lock()
	defer l.u.mu.Unlock()
	return l.void || l.r.waits(l.u) != nil || l.u.place.Generation != p.Generation || l.u.place.Side != p.Side
}

// Admit makes the login a session, after comparing the generation again: ErrMoved means that the backend connection
// must be dropped and the login routed anew, ErrUserCap and ErrAddressCap that a cap is reached.
// Ender may be called from then on, even before Admit returns.
func (l *Login) Admit(p Place, d Details, e Ender) (*Session, error) {
	o := l.r.opts.Load()
	u := l.u
	l.r.holdMu.RLock()
	defer l.r.holdMu.RUnlock()
	u.mu.Lock()
	if l.void || l.r.waits(u) != nil || u.place.Generation != p.Generation || u.place.Side != p.Side {
		u.mu.Unlock()
		return nil, ErrMoved
	}
	if o.SessionsPerUser > 0 && len(u.sessions) >= o.SessionsPerUser {
		u.mu.Unlock()
		return nil, ErrUserCap
	}
	if !l.r.countIP(d.Client.Addr(), o.SessionsPerIP) {
		u.mu.Unlock()
		return nil, ErrAddressCap
	}
	s := &Session{ID: l.r.nextID.Add(1), User: u.name, Place: p, Details: d, Started: time.Now(), ender: e, r: l.r, u: u}
	u.sessions = append(u.sessions, s)
	l.drop()
	first := !u.known
	u.known = true
	u.mu.Unlock()
	if first && l.r.seen != nil {
		l.r.seen(u.name, p)
	}
	return s, nil
}

// drop unregisters the login; u.mu is held.
func (l *Login) drop() {
	if i := slices.Index(l.u.logins, l); i >= 0 {
		l.u.logins = slices.Delete(l.u.logins, i, i+1)
	}
	if l.cancel != nil {
		l.cancel(nil)
		l.cancel = nil
	}
}

// End unregisters the login. It may be called twice and after Admit.
func (l *Login) End() {
	u := l.u
	u.mu.Lock()
	l.drop()
	known := u.known
	u.mu.Unlock()
	if !known {
		l.r.forget(u)
	}
}

func (r *Router) countIP(a netip.Addr, limit int) bool {
	r.ipMu.Lock()
	defer r.ipMu.Unlock()
	a = config.Network(a)
	if limit > 0 && r.ips[a] >= limit {
		return false
	}
	r.ips[a]++
	return true
}

func (r *Router) uncountIP(a netip.Addr) {
	r.ipMu.Lock()
	defer r.ipMu.Unlock()
	a = config.Network(a)
	if r.ips[a]--; r.ips[a] <= 0 {
		delete(r.ips, a)
	}
}

// Details describe a session for lists, logs and drain.
type Details struct {
	Protocol config.Protocol
	Mailbox  bool // touches the mailbox: a drain waits for it (IMAP yes, submission no)
	Client   netip.AddrPort
	Host     string // backend host
	Listener string // URL of the listener that he came by
}
