package proxy

import (
	"cmp"
	"math/rand/v2"
	"sync"
	"time"

	"mailgate/config"
)

// A host that goes down ends thousands of sessions at once, and clients that are told so at once come back at once. So clients who are
// idle learn of it over a span (limits.disconnect_spread): they wait for nothing, and see the same bytes, only later. Who asks for
// something meanwhile is told then.

// Sizes of a crowd.
const (
	spreadFrom  = 20              // sessions at a service of a host; fewer may come back at once
	spreadShare = 50              // of these one may end, within the window, without being a sign of anything
	spreadFree  = 5               // ... and as many in any case
	spreadTime  = 2 * time.Second // the window
)

// service is one of a host, as sessions have it.
type service struct {
	side     config.Side
	host     string
	protocol config.Protocol
}

// crowd is how many sessions stand at a service, and how many it has ended lately.
type crowd struct {
	standing int
	window   time.Time // its begin
	had      int       // sessions that stood then
	ended    int       // by the host, since
}

// spread knows of the sessions of all services. Its zero value is ready; it is safe for concurrent use.
type spread struct {
	span time.Duration // of the window; 0 means spreadTime, tests take longer

	mu  sync.Mutex
	all map[service]*crowd
}

// begin counts a session until the end is called.
func (s *spread) begin(at service) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.all[at]
	if c == nil {
		if s.all == nil {
			s.all = map[service]*crowd{}
		}
		c = &crowd{}
		s.all[at] = c
	}
	c.standing++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.standing--; c.standing == 0 {
			delete(s.all, at)
		}
	}
}

// ended notes that a host has ended a session which still counts, and tells how long its client may be left in peace.
func (s *spread) ended(at service, now time.Time, span time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.all[at]
	if c == nil {
		return 0
	}
	if now.Sub(c.window) >= cmp.Or(s.span, spreadTime) {
		c.window, c.had, c.ended = now, c.standing, 0
	}
	c.ended++
	if span <= 0 || c.had < spreadFrom || c.ended <= max(spreadFree, c.had/spreadShare) {
		return 0
	}
	return time.Duration(rand.Int64N(int64(span)))
}
