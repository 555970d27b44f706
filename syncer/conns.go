package syncer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// pool are the connections of one pass to one side. Where a Budget lets it have fewer than it would like, it does with those.
type pool struct {
	side   config.Side
	user   string
	limit  int
	open   func(ctx context.Context) (*backend.Client, error)
	budget *Budget

	mu      sync.Mutex
	free    []*backend.Client
	used    map[*backend.Client]bool
	all     int                       // also those in use
	slots   map[*backend.Client]*slot // theirs
	own     *slot                     // the pass's own while no connection has it; nil also without a Budget
	changed chan struct{}             // closed when one is given back, or is no more
}

func newPool(side config.Side, user string, o *Options) *pool {
	return &pool{side: side, user: user, limit: o.Connections, budget: o.Budget, used: map[*backend.Client]bool{},
		slots: map[*backend.Client]*slot{}, changed: make(chan struct{}),
		open: func(ctx context.Context) (*backend.Client, error) { return o.Open(ctx, side, user) }}
}

// reserve takes the slot that the pass keeps to its end, and takes over a connection that was kept. It waits for a slot as long as most
// says, 0 for as long as it takes.
func (p *pool) reserve(ctx context.Context, kept *backend.Client, s *slot, most time.Duration) (err error) {
	if kept != nil {
		p.all++
		p.slots[kept] = s
		p.put(kept)
		if s != nil || p.budget == nil {
			return nil
		}
	}
	if most > 0 {
		p.own, err = p.budget.soon(ctx, p.side, p.user, most)
	} else {
		p.own, err = p.budget.first(ctx, p.side, p.user)
	}
	return err
}

// get takes a connection that is free, or makes one: the one that has a mailbox open, if there is such; else one that has none
// open, if need be a new one. To open a large mailbox can take longer than to log in. While the budget gives none, one that the pass has is
// waited for; not for long by who holds one already (see holding): that may be the one.
func (p *pool) get(ctx context.Context, mailbox string) (*backend.Client, error) {
	patience := crowdedTime
	if holds(ctx) {
		patience = heldTime
	}
	var since time.Time // since when there is none to be had
	for {
		c, s, news := p.choose(mailbox)
		if c != nil {
			return c, nil
		}
		if news == nil {
			c, err := p.dial(ctx, s)
			if err == nil {
				return c, nil
			}
			refused := s.refused(err)
			p.undo(s)
			if !refused {
				return nil, &SideError{p.side, err}
			}
		}
		if since.IsZero() {
			since = time.Now()
		}
		if left := patience - time.Since(since); left <= 0 {
			return nil, &SideError{p.side, fmt.Errorf("%w, for %s", ErrCrowded, patience)}
		} else if err := p.await(ctx, s, news, left); err != nil {
			return nil, &SideError{p.side, err}
		}
	}
}

// choose gives a connection, or else a slot to make one with (nil without a Budget; the connection counts already), or else what to wait for.
func (p *pool) choose(mailbox string) (*backend.Client, *slot, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = slices.DeleteFunc(p.free, func(c *backend.Client) bool {
		if c.Err() == nil {
			return false
		}
		p.closed(c)
		return true
	})
	best := -1
	for i, c := range p.free {
		switch open := c.Mailbox(); {
		case open == mailbox:
			best = i
		case open == "" && best < 0, p.all >= p.limit && best < 0:
			best = i
		}
		if best >= 0 && p.free[best].Mailbox() == mailbox {
			break
		}
	}
	s, ok := p.own, true
	if best < 0 {
		if s != nil {
			p.own = nil
		} else if s, ok = p.budget.more(p.side, p.user); !ok && len(p.free) > 0 {
			best = 0
		}
	}
	switch {
	case best >= 0:
		c := p.free[best]
		p.free = slices.Delete(p.free, best, best+1)
		p.used[c] = true
		return c, nil, nil
	case !ok:
		return nil, nil, p.changed
	}
	p.all++
	return nil, s, nil
}

// heldTime is how long one who holds a connection waits for another one.
const heldTime = time.Second

type holdingKey struct{}

// holding marks what is done while a connection is held that others of the pass may wait for: it gives up soon where it would need more
// connections than there are. Who holds one and gives up lets go of it, and tries again without.
func holding(ctx context.Context) context.Context { return context.WithValue(ctx, holdingKey{}, true) }

func holds(ctx context.Context) bool { return ctx.Value(holdingKey{}) != nil }

// await waits until it may be worth while to try again: with a slot whose connection was refused, or for what closes news.
func (p *pool) await(ctx context.Context, s *slot, news <-chan struct{}, most time.Duration) error {
	if news == nil {
		if err := pause(ctx, 1); err != nil {
			return err
		}
		if p.keeps(s) {
			return s.again(ctx, most)
		}
		return nil
	}
	t := time.NewTimer(min(most, loadTime)) // user sessions that end tell nobody
	defer t.Stop()
	select {
	case <-news:
	case <-p.budget.news(p.side, p.user):
	case <-t.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// keeps tells whether a slot is the pass's own, without a connection.
func (p *pool) keeps(s *slot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return s != nil && p.own == s
}

// spares tells whether a connection should go to another pass, which has none.
func (p *pool) spares() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.slots) > 1 && p.budget.pressed(p.side, p.user)
}

// dial makes a connection with a slot.
func (p *pool) dial(ctx context.Context, s *slot) (*backend.Client, error) {
	c, err := p.open(ctx)
	if err != nil {
		return nil, err
	}
	s.connected(true)
	enable(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[c] = true
	p.slots[c] = s
	return c, nil
}

// enable has CONDSTORE and QRESYNC on before SELECT (RFC 7162, section 3.1): a pass asks for what they give, also over a connection that a look
// has made and that was kept. Nobody waits for the answer.
func enable(c *backend.Client) {
	if c.Has("QRESYNC") {
		c.Enable("QRESYNC")
	} else if c.Has("CONDSTORE") && c.Has("ENABLE") {
		c.Enable("CONDSTORE")
	}
}

// undo takes back what choose has counted.
func (p *pool) undo(s *slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	p.spare(s)
}

// spare gives a slot back that has no connection, unless it is the last one: that one the pass keeps. The caller holds mu.
func (p *pool) spare(s *slot) {
	s.connected(false)
	if s != nil && p.own == nil && len(p.slots) == 0 {
		p.own = s
	} else {
		s.release()
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// closed ends a connection. The caller holds mu.
func (p *pool) closed(c *backend.Client) {
	_ = c.Close()
	s := p.slots[c]
	delete(p.slots, c)
	delete(p.used, c)
	p.all--
	p.spare(s)
}

// drop ends a connection that was taken.
func (p *pool) drop(c *backend.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed(c)
}

// end closes those that nobody has given back: a defect ended who had them.
func (p *pool) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.used {
		p.closed(c)
	}
}

// put gives one back. One with something outstanding, or that has failed, has to be closed instead. So is one that can be spared while
// another pass has none.
func (p *pool) put(c *backend.Client) {
	if c == nil {
		return
	}
	c.SetUntagged(backend.Untagged{})
	if c.Err() != nil {
		p.drop(c)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.slots) > 1 && p.budget.pressed(p.side, p.user) {
		s := p.slots[c]
		delete(p.slots, c)
		delete(p.used, c)
		p.all--
		p.mu.Unlock()
		logout(context.Background(), []pooled{{c, nil}}) // not just closed: the host is to know before the next one comes
		p.mu.Lock()
		p.spare(s)
		return
	}
	delete(p.used, c)
	p.free = append(p.free, c)
	close(p.changed)
	p.changed = make(chan struct{})
}

// take empties the pool. Slots of what is taken are the caller's; the pool's own goes.
func (p *pool) take() (out []pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.free {
		out = append(out, pooled{c, p.slots[c]})
		delete(p.slots, c)
	}
	p.free = nil
	p.own.release()
	p.own = nil
	return out
}

// pooled is a connection with its slot.
type pooled struct {
	*backend.Client
	slot *slot
}

// end closes it.
func (c pooled) end() {
	if c.Client != nil {
		_ = c.Close()
		c.slot.release()
	}
}

// idleConns keeps a connection to each side between passes over the same user.
type idleConns struct {
	enough context.Context // as in Options; may be nil

	mu    sync.Mutex
	users map[string]*idleUser
}

type idleUser struct {
	conns [2]pooled
	timer *time.Timer
}

func (i *idleConns) take(user string) [2]pooled {
	i.mu.Lock()
	defer i.mu.Unlock()
	u := i.users[user]
	if u == nil {
		return [2]pooled{}
	}
	u.timer.Stop()
	delete(i.users, user)
	return u.conns
}

// keep holds connections for a time. Those that are there already go.
func (i *idleConns) keep(user string, conns [2]pooled, d time.Duration) {
	before := i.take(user)
	i.close(before[:]...)
	u := &idleUser{conns: conns}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.users == nil {
		i.users = map[string]*idleUser{}
	}
	i.users[user] = u
	u.timer = time.AfterFunc(d, func() {
		i.mu.Lock()
		mine := i.users[user] == u
		if mine {
			delete(i.users, user)
		}
		i.mu.Unlock()
		if mine {
			i.close(u.conns[:]...)
		}
	})
}

func (i *idleConns) closeAll() {
	i.mu.Lock()
	users := i.users
	i.users = nil
	i.mu.Unlock()
	var all []pooled
	for _, u := range users {
		u.timer.Stop()
		all = append(all, u.conns[:]...)
	}
	i.close(all...)
}

// close takes leave: hosts count connections, and are to know that these are over before the next ones come.
func (i *idleConns) close(list ...pooled) {
	logout(cmp.Or(i.enough, context.Background()), slices.DeleteFunc(list, func(c pooled) bool { return c.Client == nil }))
}

// logoutTime bounds the leave-taking at the end of a pass.
const logoutTime = 2 * time.Second

// leave closes the mailbox of a connection that is to be kept: what it shows is of this pass, and the next one must not take it
// for what is there then. It tells whether that went well.
func leave(ctx context.Context, c *backend.Client) bool {
	ctx, cancel := context.WithTimeout(ctx, logoutTime)
	defer cancel()
	return c.Mailbox() == "" || c.Unselect().Wait(ctx) == nil
}

// logout ends connections that are not kept, all at once, within logoutTime at most.
func logout(ctx context.Context, list []pooled) {
	ctx, cancel := context.WithTimeout(ctx, logoutTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range list {
		wg.Go(func() {
			_ = c.Logout(ctx)
			c.slot.release()
		})
	}
	wg.Wait()
}

// keep holds connections for the next pass, unless another one waits for them.
func (s *Syncer) keep(user string, conns [2]pooled) {
	s.idle.keep(user, conns, s.o.Keep)
	if b := s.o.Budget; b.pressed(config.Old, user) || b.pressed(config.New, user) { // asked afterwards: who comes to wait later ends them himself
		s.idle.closeAll()
	}
}

// openOne makes a connection outside of a pass. It does not wait long: a pass may be under way that has all there are.
func (s *Syncer) openOne(ctx context.Context, side config.Side, user string) (pooled, error) {
	wait, cancel := context.WithTimeoutCause(ctx, 5*heldTime, ErrCrowded)
	defer cancel()
	sl, err := s.o.Budget.first(wait, side, user)
	if err != nil {
		return pooled{}, err
	}
	return s.openWith(ctx, sl, side, user)
}

// openWith makes a connection with a slot, which is given back when that fails.
func (s *Syncer) openWith(ctx context.Context, sl *slot, side config.Side, user string) (pooled, error) {
	c, err := s.o.Open(ctx, side, user)
	if err != nil {
		sl.release()
		return pooled{}, err
	}
	sl.connected(true)
	return pooled{c, sl}, nil
}
