package router

// Scope is whose logins a hold of all keeps waiting.
type Scope uint8

const (
	Newcomers Scope = iota // who have no row: the rules by which they are placed are being changed
	Everybody              // the process does not know where anybody is
	scopes
)

// HoldAll lets logins of scope wait, as behind a fence, or lets them on again. When it returns from the first, no login of scope is
// admitted any more, and of all that were, seen has been told. Sessions live on.
func (r *Router) HoldAll(s Scope, on bool) {
	r.holdMu.Lock() // no admission is under way
	was := r.scope[s]
	r.scope[s] = on
	if was && !on {
		close(r.eased)
		r.eased = make(chan struct{})
	}
	r.holdMu.Unlock()
	if !on {
		return
	}
	for _, u := range r.all() {
		u.mu.Lock()
		if s == Everybody || !u.known {
			u.void()
		}
		u.mu.Unlock()
	}
}

// Held tells whether logins of scope wait by HoldAll.
func (r *Router) Held(s Scope) bool {
	r.holdMu.RLock()
	defer r.holdMu.RUnlock()
	return r.scope[s]
}

// waits tells what a login of u waits for: nil when it need not. u.mu and holdMu are held.
func (r *Router) waits(u *user) <-chan struct{} {
	switch {
	case r.scope[Everybody], r.scope[Newcomers] && !u.known:
		return r.eased
	case u.fenced:
		return u.released
	}
	return nil
}

// void cancels the logins under way, and lets none be admitted before it has asked for the way again; u.mu is held.
func (u *user) void() {
	for _, l := range u.logins {
		l.void = true
		if l.cancel != nil {
			l.cancel(ErrMoved)
		}
	}
}

// LoadFenced is Load of a user whose flip is under way: no login of his is admitted until Release. p is where he is until then, with
// the generation of his row.
func (r *Router) LoadFenced(name string, p Place) bool {
	u := r.lock(name)
	defer u.mu.Unlock()
	if u.known && u.place.Generation > p.Generation || len(u.sessions) > 0 && (u.place.Side != p.Side || u.place.Epoch != p.Epoch) {
		return false
	}
	u.place, u.known = p, true
	u.fence()
	u.drained()
	u.void()
	return true
}

// fence begins a fence if there is none; u.mu is held.
func (u *user) fence() {
	if !u.fenced {
		u.fenced, u.isEmpty = true, false
		u.released, u.empty = make(chan struct{}), make(chan struct{})
	}
}

// Forget drops what is known of all users, and their fences, so that it can be loaded anew; false, and nothing is done, while there is
// a session. Everybody must be held.
func (r *Router) Forget() bool {
	all := r.all()
	for _, u := range all {
		u.mu.Lock()
		n := len(u.sessions)
		u.mu.Unlock()
		if n > 0 {
			return false
		}
	}
	for _, u := range all {
		u.mu.Lock()
		u.place, u.known = Place{}, false
		if u.fenced {
			u.fenced, u.empty = false, nil
			close(u.released)
			u.released = nil
		}
		u.mu.Unlock()
		r.forget(u)
	}
	return true
}

// Fenced lists the users whose logins wait for the end of a flip, with where they were when it began.
func (r *Router) Fenced() map[string]Place {
	out := map[string]Place{}
	for _, u := range r.all() {
		u.mu.Lock()
		if u.fenced {
			out[u.name] = u.place
		}
		u.mu.Unlock()
	}
	return out
}

// CutAll ends all sessions at once, in the middle of whatever they do, with a text for the clients: they may be on the wrong side.
func (r *Router) CutAll(text string) {
	for _, s := range r.Sessions("") {
		s.ender.End(Cut, text)
	}
}

func (r *Router) all() []*user {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*user, 0, len(r.users))
	for _, u := range r.users {
		all = append(all, u)
	}
	return all
}
