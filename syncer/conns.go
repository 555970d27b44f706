package syncer

import (
	"context"
	"slices"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// pool are the connections of one pass to one side.
type pool struct {
	side  config.Side
	limit int
	open  func(ctx context.Context) (*backend.Client, error)

	mu   sync.Mutex
	free []*backend.Client
	used map[*backend.Client]bool
	all  int // also those in use
}

// get takes a connection that is free, or makes one: the one that has a mailbox open, if there is such; else one that has none
// open, if need be a new one. To open a large mailbox can take longer than to log in.
func (p *pool) get(ctx context.Context, mailbox string) (*backend.Client, error) {
	p.mu.Lock()
	p.free = slices.DeleteFunc(p.free, func(c *backend.Client) bool {
		if c.Err() == nil {
			return false
		}
		p.all--
		_ = c.Close()
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
	if best >= 0 {
		c := p.free[best]
		p.free = slices.Delete(p.free, best, best+1)
		p.used[c] = true
		p.mu.Unlock()
		return c, nil
	}
	p.all++
	p.mu.Unlock()
	c, err := p.open(ctx)
	if err != nil {
		p.lost()
		return nil, &SideError{p.side, err}
	}
	// CONDSTORE and QRESYNC have to be on before SELECT (RFC 7162, section 3.1). Nobody waits for the answer.
	if c.Has("QRESYNC") {
		c.Enable("QRESYNC")
	} else if c.Has("CONDSTORE") && c.Has("ENABLE") {
		c.Enable("CONDSTORE")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[c] = true
	return c, nil
}

// lost notes that a connection is no more.
func (p *pool) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
}

// drop ends a connection that was taken.
func (p *pool) drop(c *backend.Client) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, c)
	p.all--
}

// end closes those that nobody has given back: a defect ended who had them.
func (p *pool) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.used {
		_ = c.Close()
	}
	clear(p.used)
}

// put gives one back. One with something outstanding, or that has failed, has to be closed instead.
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
	delete(p.used, c)
	p.free = append(p.free, c)
}

// take empties the pool.
func (p *pool) take() []*backend.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.free
	p.free = nil
	return out
}

// idleConns keeps a connection to each side between passes over the same user.
type idleConns struct {
	mu    sync.Mutex
	users map[string]*idleUser
}

type idleUser struct {
	conns [2]*backend.Client
	timer *time.Timer
}

func (i *idleConns) take(user string) [2]*backend.Client {
	i.mu.Lock()
	defer i.mu.Unlock()
	u := i.users[user]
	if u == nil {
		return [2]*backend.Client{}
	}
	u.timer.Stop()
	delete(i.users, user)
	return u.conns
}

// keep holds connections for a time. Those that are there already go.
func (i *idleConns) keep(user string, conns [2]*backend.Client, d time.Duration) {
	closeConns(i.take(user))
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
			closeConns(u.conns)
		}
	})
}

func (i *idleConns) closeAll() {
	i.mu.Lock()
	users := i.users
	i.users = nil
	i.mu.Unlock()
	for _, u := range users {
		u.timer.Stop()
		closeConns(u.conns)
	}
}

func closeConns(conns [2]*backend.Client) {
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
}

// logoutTime bounds the leave-taking at the end of a pass.
const logoutTime = 2 * time.Second

// leave closes the mailbox of a connection that is to be kept: what it shows is of this pass, and the next one must not take it
// for what is there then. It tells whether that went well.
func leave(c *backend.Client) bool {
	ctx, cancel := context.WithTimeout(context.Background(), logoutTime)
	defer cancel()
	return c.Mailbox() == "" || c.Unselect().Wait(ctx) == nil
}

// logout ends connections that are not kept, all at once.
func logout(ctx context.Context, list []*backend.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, c := range list {
		wg.Go(func() { _ = c.Logout(ctx) })
	}
	wg.Wait()
}
