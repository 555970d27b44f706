package backend

import (
	"math/rand/v2"
	"sync"
	"time"

	"mailgate/config"
)

// health is what is remembered of a machine.
type health struct {
	mu     sync.Mutex
	open   int                // connections, those that are being made too
	stands [services]int      // those of them that the machine has taken, by index
	of     [services]service  // by index
	deaf   [services]silences // of the syncer's connections, by index
}

// service is how one service of a machine was found.
type service struct {
	fails   int           // in a row
	steps   int           // those of them that came one after the other, since the circuit is open
	why     string        // of the last failure; "" when it was well
	until   time.Time     // not asked again before, as long as another host is well
	trying  bool          // one login tries whether it is well again
	well    time.Time     // when it last was
	ill     time.Time     // when it first was not, since
	changed chan struct{} // closed when who waits for it should look again; nil when nobody does
}

// breakAfter is how many failures in a row open the circuit: from then on a machine is asked by one login at a time,
// and the others are refused at once, but for the first moments (backGrace). Waiting for a dead machine would fill the gateway with
// logins that wait.
const breakAfter = 3

// longestBreak is how long a machine is left alone at most.
const longestBreak = 30 * time.Second

// HostHealth is a host as last seen.
type HostHealth struct {
	Name  string
	Error string // "" when it was well
}

// Health tells how the hosts of a side were at the last look or login.
func (d *Dialer) Health(at config.Side, p config.Protocol) []HostHealth {
	var out []HostHealth
	for _, h := range d.sides[at].Load().hosts {
		if h.Endpoint(p).Host == "" {
			continue
		}
		h.mu.Lock()
		out = append(out, HostHealth{h.Name, h.of[index(p)].why})
		h.mu.Unlock()
	}
	return out
}

// ill tells whether others are to be asked first.
func (h *health) ill(p config.Protocol, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.of[index(p)].until)
}

// attempt is a login that asks a machine, or a look at it. Exactly one of mark and undecided ends it.
type attempt struct {
	h     *health
	p     config.Protocol
	began time.Time
	lone  bool // it is the one that tries whether the machine is well again
	look  bool // it is no login
}

// admits tells whether a login may ask the machine; after true the caller must end the attempt.
func (h *health) admits(p config.Protocol, now time.Time) (a attempt, why string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.of[index(p)]
	a = attempt{h: h, p: p, began: now}
	if s.fails < breakAfter {
		return a, "", true
	}
	if s.trying || now.Before(s.until) {
		return a, s.why, false
	}
	s.trying, a.lone = true, true
	return a, "", true
}

// mark notes how an attempt went. A thousand that fail beside each other tell no more than one, and those that began before another
// one got in tell nothing: a machine that comes back is not left alone for what was before.
func (a attempt) mark(err error) {
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	s := &a.h.of[index(a.p)]
	now := time.Now()
	if err == nil {
		s.wake()
		*s = service{well: now}
		return
	}
	if a.lone {
		s.trying = false
	}
	if a.began.Before(s.well) {
		return
	}
	if s.fails++; s.fails == 1 {
		s.ill = now
	}
	s.why = err.Error()
	switch {
	case s.fails <= breakAfter:
	case a.lone, a.look:
		s.steps++
	default: // it was let through before the circuit opened
		return
	}
	d := min(time.Second<<min(s.steps, 5), longestBreak)
	s.until = now.Add(d - d/5 + time.Duration(rand.Int64N(int64(d/5)*2))) // spread, so that gateways do not march
	if a.lone || a.look {
		s.wake()
	}
}

// undecided ends an attempt that tells nothing of the machine.
func (a attempt) undecided() {
	if !a.lone {
		return // another one may be trying
	}
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	s := &a.h.of[index(a.p)]
	s.trying = false
	s.wake()
}

// wake tells those who wait; health.mu is held.
func (s *service) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// hopes tells whether a machine that has failed may be waited for: it was well a moment ago. It is worth asking again when changed is
// closed, or after a while.
func (h *health) hopes(p config.Protocol, now time.Time) (changed <-chan struct{}, after time.Duration, ok bool) {
	const least = 50 * time.Millisecond
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.of[index(p)]
	switch {
	case s.fails == 0: // another login got in meanwhile
		return nil, least, true
	case s.well.IsZero() || !now.Before(s.ill.Add(backGrace)):
		return nil, 0, false
	}
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	if s.trying {
		return s.changed, backGrace, true // whoever tries will tell
	}
	return s.changed, max(s.until.Sub(now), least), true
}

// stand counts a connection that the machine has taken, until the end is called.
func (h *health) stand(p config.Protocol) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stands[index(p)]++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stands[index(p)]--
	}
}

// serves tells whether connections of ours stand to the machine.
func (h *health) serves(p config.Protocol) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stands[index(p)] > 0
}

// reserve takes a place in the machine's budget.
func (h *health) reserve(most int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if most > 0 && h.open >= most {
		return false
	}
	h.open++
	return true
}

func (h *health) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
}
