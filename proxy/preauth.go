package proxy

import (
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"

	"mailgate/config"
)

// preAuth keeps the clients who have not logged in, oldest first. When there are too many the oldest who is not in the
// middle of a login gives way, so that ten thousand silent connections do not keep one user out.
type preAuth struct {
	mu    sync.Mutex
	all   list.List                 // of *client
	perIP map[netip.Addr]*list.List // of *client

	inMidway atomic.Int64 // clients who are asked in the middle of a relayed exchange
}

func (p *preAuth) init() { p.perIP = map[netip.Addr]*list.List{} }

// add takes a client in, or says that there is no room.
func (p *preAuth) add(c *client, l config.Limits) bool {
	key := config.Network(c.addr.Addr())
	p.mu.Lock()
	defer p.mu.Unlock()
	mine := p.perIP[key]
	if mine == nil {
		mine = list.New()
	}
	if l.PreAuthPerIP > 0 && mine.Len() >= l.PreAuthPerIP && !p.giveWay(mine) {
		return false
	}
	if l.PreAuth > 0 && p.all.Len() >= l.PreAuth && !p.giveWay(&p.all) {
		return false
	}
	p.perIP[key] = mine
	c.inAll, c.inIP = p.all.PushBack(c), mine.PushBack(c)
	return true
}

// giveWay closes the oldest of a list who is not being logged in; p.mu is held.
func (p *preAuth) giveWay(l *list.List) bool {
	for e := l.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*client); !c.busy.Load() {
			p.close(c)
			return true
		}
	}
	return false
}

// evict closes a client's connection, unless it was handed to a session.
func (p *preAuth) evict(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.inAll != nil {
		p.close(c)
	}
}

// close wakes whatever the client waits for; p.mu is held.
func (p *preAuth) close(c *client) {
	p.unlink(c)
	c.raw.Close()
}

// evictOldest makes room when descriptors are short: an eighth of the strangers go, since whoever is let in next needs one
// for his backend too.
func (p *preAuth) evictOldest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := 1 + p.all.Len()/8; n > 0 && p.giveWay(&p.all); n-- {
	}
}

// remove takes a client out; it may be called again.
func (p *preAuth) remove(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unlink(c)
}

func (p *preAuth) unlink(c *client) {
	if c.inAll == nil {
		return
	}
	p.all.Remove(c.inAll)
	key := config.Network(c.addr.Addr())
	if l := p.perIP[key]; l != nil {
		l.Remove(c.inIP)
		if l.Len() == 0 {
			delete(p.perIP, key)
		}
	}
	c.inAll, c.inIP = nil, nil
}
