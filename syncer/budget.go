package syncer

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"mailgate/config"
)

// BudgetOptions of a Budget.
type BudgetOptions struct {
	// Place names the host that a user's connections to a side count to. Those who may come to any of several hosts have one place
	// together. nil means one place for each side.
	Place func(side config.Side, user string) string
	// Load tells how many connections to a place there are, user sessions included, and how many there may be; 0 means any number. nil
	// means that nobody else is there.
	Load func(side config.Side, place string) (open, most int)
	Log  *slog.Logger
}

// Budget caps the syncer's connections to a host, over all users. It learns: a host that refuses one more while n are open is taken to
// allow n, and is tried with more after ten minutes. User sessions come first: of a host with a cap for all of us, the syncer takes a
// half at most, and none when less than a quarter is left.
//
// A pass has a slot at each side for as long as it runs, taken at its beginning in one order (OLD, then NEW), and keeps it while its
// connection breaks and is made anew: so every pass that has begun can go on with one connection to each side, and passes do not wait for
// each other in a circle. Further slots are given only when nobody waits for a first one. It is safe for concurrent use; nil has slots
// without end.
type Budget struct {
	o BudgetOptions

	mu     sync.Mutex
	caps   [2]int
	places map[hostKey]*hostUse
	idle   map[*idleConns]bool // of the syncers that share it
}

type hostKey struct {
	side config.Side
	name string
}

// hostUse is a host, or several that are as one. Budget.mu guards it.
type hostUse struct {
	key     hostKey
	held    int           // slots given out
	open    int           // those of them that have a connection
	waiting int           // passes that wait for their first slot
	trying  bool          // a further connection is being made: one at a time, so that a host that refuses it does so once
	learned int           // cap; 0 means that none is known
	until   time.Time     // when a higher one is tried
	vain    time.Time     // until when nobody waits who has somebody's turn: one has, and got none
	changed chan struct{} // closed when one who waits should look again

	spares map[*slot]func() // end connections that are good to have and no more
}

// slot is the right to a connection.
type slot struct {
	b        *Budget
	p        *hostUse
	open     bool
	trying   bool // it is the further one that is being made
	guessed  int  // refusals that were taken for a crowd though nothing of ours was seen there
	released bool
}

// learnedTime is how long a cap that a host has shown is believed.
const learnedTime = 10 * time.Minute

// crowdedTime is how long a pass that has begun waits for a connection that it must have, where a host turns out to allow fewer than there
// were before.
const crowdedTime = 2 * time.Minute

// loadTime is how often the load of user sessions is looked at while it is in the way.
const loadTime = time.Second

// ErrCrowded means that no connection to a host is free.
var ErrCrowded = errors.New("the host has as many sync connections as it may")

// NewBudget makes a Budget without caps.
func NewBudget(o BudgetOptions) *Budget {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Budget{o: o, places: map[hostKey]*hostUse{}, idle: map[*idleConns]bool{}}
}

// share notes connections that are kept between passes, until the end is called: they go when somebody waits for his first one.
func (b *Budget) share(i *idleConns) (end func()) {
	if b == nil {
		return func() {}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle[i] = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.idle, i)
	}
}

// Set puts caps in force, by side; 0 means none. Connections that are there stay.
func (b *Budget) Set(caps [2]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.caps = caps
	for _, p := range b.places {
		p.wake()
	}
}

// Caps are those that were set.
func (b *Budget) Caps() [2]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.caps
}

// PlaceUse is how much of a place's budget is used.
type PlaceUse struct {
	Side    config.Side `json:"-"`
	Place   string      `json:"host"` // "" means all hosts of the side
	Open    int         `json:"open"`
	Cap     int         `json:"cap"`               // of all that counts; 0 means none
	Learned int         `json:"learned,omitempty"` // the host has refused more
	Until   time.Time   `json:"until,omitzero"`    // when more is tried
	Waiting int         `json:"waiting"`           // passes that wait for their first connection
}

// Use lists the places that are in use or have taught something, in no order.
func (b *Budget) Use() (out []PlaceUse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, p := range b.places {
		most, _ := b.most(p, now)
		u := PlaceUse{Side: p.key.side, Place: p.key.name, Open: p.open, Cap: most, Learned: p.learned, Waiting: p.waiting}
		if p.learned > 0 {
			u.Until = p.until
		}
		out = append(out, u)
	}
	return out
}

// of gives the place of a user at a side. The caller holds mu.
func (b *Budget) of(side config.Side, user string) *hostUse {
	key := hostKey{side: side}
	if b.o.Place != nil {
		key.name = b.o.Place(side, user)
	}
	p := b.places[key]
	if p == nil {
		p = &hostUse{key: key, changed: make(chan struct{}), spares: map[*slot]func(){}}
		b.places[key] = p
	}
	return p
}

// wake lets those who wait look again. The caller holds Budget.mu.
func (p *hostUse) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// most is how many slots a place has, 0 for any number, and whether user sessions leave room for one more. The caller holds mu.
func (b *Budget) most(p *hostUse, now time.Time) (most int, room bool) {
	least := func(n int) {
		if n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	for p.learned > 0 && !now.Before(p.until) {
		p.learned += max(1, p.learned/2)
		p.until = p.until.Add(learnedTime)
		if p.learned > 2*max(p.held+p.waiting, 100) { // nobody comes near it
			p.learned = 0
		}
	}
	least(b.caps[p.key.side])
	least(p.learned)
	room = true
	if b.o.Load != nil {
		if open, all := b.o.Load(p.key.side, p.key.name); all > 0 {
			least(max(1, all/2))
			room = open+p.held-p.open < all-all/4 // slots that have no connection yet get one
		}
	}
	return most, room
}

// take takes a slot if there is one; first tells that it is a pass's own. The caller holds mu.
func (b *Budget) take(p *hostUse, first bool, now time.Time) (*slot, bool) {
	most, room := b.most(p, now)
	if !room || most > 0 && p.held >= most || !first && (p.waiting > 0 || p.trying) {
		return nil, false
	}
	p.held++
	p.trying = p.trying || !first
	return &slot{b: b, p: p, trying: !first}, true
}

// tried notes that a further connection is there, or is not to be. The caller holds Budget.mu.
func (s *slot) tried() {
	if s.trying {
		s.trying, s.p.trying = false, false
		s.p.wake()
	}
}

// more gives a further slot, if there is one.
func (b *Budget) more(side config.Side, user string) (*slot, bool) {
	if b == nil {
		return nil, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.take(b.of(side, user), false, time.Now())
}

// first waits for a slot that a pass cannot do without. The error is the cause of ctx.
func (b *Budget) first(ctx context.Context, side config.Side, user string) (*slot, error) {
	if b == nil {
		return nil, nil
	}
	b.mu.Lock()
	p := b.of(side, user)
	if s, ok := b.take(p, p.waiting == 0, time.Now()); ok {
		b.mu.Unlock()
		return s, nil
	}
	p.waiting++
	idle := slices.Collect(maps.Keys(b.idle))
	end := p.aSpare()
	b.mu.Unlock()
	for _, i := range idle {
		i.closeAll()
	}
	if end != nil {
		end()
	}
	var s *slot
	err := b.until(ctx, p, func(now time.Time) (ok bool) {
		s, ok = b.take(p, true, now)
		return ok
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.waiting--; p.waiting == 0 {
		p.wake()
	}
	return s, err
}

// soon is first for who has somebody's turn meanwhile: it waits for so long at most, and not at all behind another one, or when one has
// waited in vain a moment ago. The error is ErrCrowded then.
func (b *Budget) soon(ctx context.Context, side config.Side, user string, most time.Duration) (*slot, error) {
	if b == nil {
		return nil, nil
	}
	b.mu.Lock()
	p := b.of(side, user)
	now := time.Now()
	if p.waiting > 0 || now.Before(p.vain) {
		var s *slot
		ok := false
		if p.waiting == 0 {
			s, ok = b.take(p, true, now)
		}
		b.mu.Unlock()
		if !ok {
			return nil, ErrCrowded
		}
		return s, nil
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, most, ErrCrowded)
	defer cancel()
	s, err := b.first(ctx, side, user)
	if errors.Is(err, ErrCrowded) {
		b.mu.Lock()
		defer b.mu.Unlock()
		p.vain = time.Now().Add(5 * most)
	}
	return s, err
}

// until waits until done, which is called with mu held when something may have changed. The error is the cause of ctx.
func (b *Budget) until(ctx context.Context, p *hostUse, done func(now time.Time) bool) error {
	for {
		now := time.Now()
		b.mu.Lock()
		if done(now) {
			b.mu.Unlock()
			return nil
		}
		changed, wait := p.changed, time.Hour
		if p.learned > 0 {
			wait = max(p.until.Sub(now), time.Millisecond)
		}
		if b.o.Load != nil {
			wait = min(wait, loadTime)
		}
		b.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-changed:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
		t.Stop()
	}
}

// busy tells whether a further connection is being made, so that a slot may be had when that is through.
func (b *Budget) busy(side config.Side, user string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(side, user).trying
}

// GiveWay is told that a host has refused the login of a user, and tells whether it is worth while to try again in a moment: the host is
// crowded, or has as many connections as we may make, and some of them are the syncer's. At a crowded host one of those fewer will be had
// for ten minutes; what can be spared goes at once.
func (b *Budget) GiveWay(side config.Side, user string, err error) bool {
	if !crowded(err) && !full(err) {
		return false
	}
	b.mu.Lock()
	p := b.of(side, user)
	if p.open == 0 {
		b.mu.Unlock()
		return false
	}
	if !full(err) { // what our own cap leaves us is looked at all the time
		p.learned, p.until = max(1, p.open-1), time.Now().Add(learnedTime)
	}
	idle := slices.Collect(maps.Keys(b.idle))
	end := p.aSpare()
	p.wake()
	b.mu.Unlock()
	for _, i := range idle {
		i.closeAll()
	}
	if end != nil {
		end()
	}
	return true
}

// aSpare takes one that is good to have and no more, nil when there is none; the caller ends it without Budget.mu, which it holds.
func (p *hostUse) aSpare() (end func()) {
	for s, f := range p.spares { // any
		delete(p.spares, s)
		return f
	}
	return nil
}

// pressed tells whether somebody waits for a first slot at a place, or there are more connections than there should be: what can be spared
// should go.
func (b *Budget) pressed(side config.Side, user string) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.of(side, user)
	return p.waiting > 0 || p.learned > 0 && p.open > p.learned
}

// news is closed when there may be another slot at a place.
func (b *Budget) news(side config.Side, user string) <-chan struct{} {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(side, user).changed
}

// connected notes that a slot has a connection, or has it no more.
func (s *slot) connected(now bool) {
	if s == nil {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.connect(now)
}

func (s *slot) connect(now bool) {
	s.tried()
	if s.open == now {
		return
	}
	if s.open = now; !now {
		s.p.open--
		s.p.wake()
		return
	}
	s.p.open++
	if s.p.learned > 0 {
		s.p.learned = max(s.p.learned, s.p.open) // it was about to come while another one was refused
	}
}

// release gives a slot back. It may be called twice.
func (s *slot) release() {
	if s == nil {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.released {
		return
	}
	s.connect(false)
	s.released = true
	s.tried()
	delete(s.p.spares, s)
	s.p.held--
	s.p.wake()
}

// spare says how the connection of a slot is ended when a pass waits for its first one.
func (s *slot) spare(end func()) {
	if s == nil {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if !s.released {
		s.p.spares[s] = end
	}
}

// refused learns from a connection that did not come about, and tells whether one may come about when another one ends.
func (s *slot) refused(err error) bool {
	if s == nil {
		return false
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.p.open == 0 {
		return s.guess(err)
	}
	if !crowded(err) {
		return full(err)
	}
	if s.p.learned != s.p.open {
		s.b.o.Log.Info("a host takes no more sync connections; there will be so many for the next ten minutes", "side", s.p.key.side.String(),
			"host", s.p.key.name, "connections", s.p.open, "err", err)
	}
	s.p.learned, s.p.until = s.p.open, time.Now().Add(learnedTime)
	return true
}

// guesses is how often a refusal may be taken for a crowd of others that come at the same time.
const guesses = 10

// guess tells whether a host that none of our slots has a connection to may be crowded all the same: others of us are about to come, or
// user sessions are there. It may be down as well, so it is believed for a short time only, and nothing is learned. Budget.mu is held.
func (s *slot) guess(err error) bool {
	others := s.p.held > 1
	if !others && s.b.o.Load != nil {
		open, _ := s.b.o.Load(s.p.key.side, s.p.key.name)
		others = open > 0
	}
	s.guessed++
	return others && s.guessed <= guesses && crowded(err)
}

// again waits until a slot whose connection was refused may try anew: the host has fewer connections than it allows. The error is
// ErrCrowded when it takes too long.
func (s *slot) again(ctx context.Context, most time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, ErrCrowded)
	defer cancel()
	return s.b.until(ctx, s.p, func(now time.Time) bool {
		most, _ := s.b.most(s.p, now)
		return most == 0 || s.p.open < most
	})
}

// Hold takes a slot for connections outside of a pass; the caller calls release.
func (b *Budget) Hold(ctx context.Context, side config.Side, user string) (release func(), err error) {
	s, err := b.first(ctx, side, user)
	return s.release, err
}
