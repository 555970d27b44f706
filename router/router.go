package router

import (
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/config"
)

// Place is where a user is: the answer of the router.
type Place struct {
	Side       config.Side
	Epoch      int64 // number of committed flips
	Generation int64 // rises with each change of the row
}

// Options of a Router. The zero value means no caps and no hold.
type Options struct {
	Hold            time.Duration // longest wait of a login behind a fence
	SessionsPerUser int           // 0 means no cap
	SessionsPerIP   int           // 0 means no cap
	PendingPerUser  int           // 0 means no cap
}

// Router knows where each user is and which sessions he has. It is safe for concurrent use.
type Router struct {
	opts    atomic.Pointer[Options]
	unknown atomic.Pointer[func(user string) config.Side]
	seen    func(user string, p Place)
	nextID  atomic.Uint64

	mu    sync.RWMutex // guards the map; a user's own mutex guards the rest. Order: mu, then user.mu, then ipMu
	users map[string]*user

	ipMu sync.Mutex
	ips  map[netip.Addr]int

	holdMu sync.RWMutex // held for reading while a login is admitted, until seen has returned. Order: holdMu, then user.mu
	scope  [scopes]bool
	eased  chan struct{} // closed and made anew when fewer wait
}

// user is one user in memory. Those who have a row stay; others live while somebody tries to log in.
type user struct {
	name string

	mu       sync.Mutex
	place    Place
	known    bool          // has a row, or one is owed
	gone     bool          // taken out of the map; look him up again
	fenced   bool          // no login is admitted
	released chan struct{} // closed by Release; nil unless fenced
	empty    chan struct{} // closed when fenced and no mailbox session is left; nil unless fenced
	isEmpty  bool          // empty is closed
	logins   []*Login
	sessions []*Session
}

// New makes an empty Router. unknown answers the side of users who have no row; seen (may be nil) is called after the
// first admitted login of such a user, without locks held, and must not block.
func New(o Options, unknown func(user string) config.Side, seen func(user string, p Place)) *Router {
	r := &Router{seen: seen, users: map[string]*user{}, ips: map[netip.Addr]int{}, eased: make(chan struct{})}
	r.opts.Store(&o)
	r.unknown.Store(&unknown)
	return r
}

// Configure changes caps and hold for logins to come.
func (r *Router) Configure(o Options) { r.opts.Store(&o) }

// SetUnknown changes the answer for users who have no row. Live sessions are not touched.
func (r *Router) SetUnknown(f func(user string) config.Side) { r.unknown.Store(&f) }

// Load sets a user's place from the store; logins under way are routed anew. A user who is
// fenced or has newer state is left alone, and so is one with sessions on another side or of another epoch; false is
// returned then.
func (r *Router) Load(name string, p Place) bool {
	u := r.lock(name)
	defer u.mu.Unlock()
	if u.known && (u.fenced || u.place.Generation > p.Generation) {
		return false
	}
	if len(u.sessions) > 0 && (u.place.Side != p.Side || u.place.Epoch != p.Epoch) {
		return false // I1: their side is the truth
	}
	u.place, u.known = p, true
	return true
}

// Place is Load for a user who has no row yet; false when he has one by now, or is owed one.
func (r *Router) Place(name string, p Place) bool {
	u := r.lock(name)
	defer u.mu.Unlock()
	if u.known {
		return false
	}
	u.place, u.known = p, true
	return true
}

// Lookup answers a user's place, and whether he has a row. It does not allocate.
func (r *Router) Lookup(name string) (Place, bool) {
	if u := r.find(name); u != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.known {
			return u.place, true
		}
	}
	return Place{Side: (*r.unknown.Load())(name)}, false
}

// find returns the user, nil when he is not in memory.
func (r *Router) find(name string) *user {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.users[name]
}

// lock returns the user, made if need be, with his mutex held.
func (r *Router) lock(name string) *user {
	for {
		u := r.find(name)
		if u == nil {
			r.mu.Lock()
			if u = r.users[name]; u == nil {
				u = &user{name: name, place: Place{Side: (*r.unknown.Load())(name)}}
				r.users[name] = u
			}
			r.mu.Unlock()
		}
		u.mu.Lock()
		if !u.gone {
			return u
		}
		u.mu.Unlock()
	}
}

// forget takes a user out of the map who is nobody: no row, no session, no login, no fence. Strangers' names must not
// stay in memory.
func (r *Router) forget(u *user) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.known && !u.fenced && !u.gone && len(u.sessions)+len(u.logins) == 0 {
		u.gone = true
		delete(r.users, u.name)
	}
}

// Users calls f for each user with a row, in no order; f must not call the router.
func (r *Router) Users(f func(name string, p Place, fenced bool)) {
	for _, u := range r.all() {
		u.mu.Lock()
		known, p, fenced := u.known, u.place, u.fenced
		u.mu.Unlock()
		if known {
			f(u.name, p, fenced)
		}
	}
}

// Len is the number of users in memory.
func (r *Router) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.users)
}

// Sessions lists the live sessions, of one user unless name is "", oldest first.
func (r *Router) Sessions(name string) []*Session {
	r.mu.RLock()
	var all []*user
	if name != "" {
		if u := r.users[name]; u != nil {
			all = append(all, u)
		}
	} else {
		for _, u := range r.users {
			all = append(all, u)
		}
	}
	r.mu.RUnlock()
	var out []*Session
	for _, u := range all {
		u.mu.Lock()
		out = append(out, u.sessions...)
		u.mu.Unlock()
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}

// Pending is the number of logins of a user that are under way, and of those the ones that wait behind a fence.
func (r *Router) Pending(name string) (logins, held int) {
	u := r.find(name)
	if u == nil {
		return 0, 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.logins {
		if l.held {
			held++
		}
	}
	return len(u.logins), held
}
