package main

import (
	"context"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/imapwire"
)

// maxNotes bounds what waits to be told of sessions. More is forgotten: then a pass is later, and a delete is not known to be meant.
const maxNotes = 4096

// notes are what sessions of this process have done while another has the store, or is to have it. They are told to that one; until it
// serves they are kept all the same, since it may end, and then whoever has the store next must know them. They are safe for concurrent use.
type notes struct {
	mu     sync.Mutex
	keeps  bool           // what sessions do comes here
	served bool           // by who is told
	list   []cutover.Note // not told yet, the oldest first
	told   []cutover.Note // to one that does not serve yet
	more   chan struct{}  // has room for one: there may be something in list
}

func newNotes() *notes { return &notes{more: make(chan struct{}, 1)} }

// keep has notes come here from now on.
func (n *notes) keep() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.keeps = true
}

// add takes one, unless this process has the store: then kept is false. It does not block.
func (n *notes) add(x cutover.Note) (kept bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.keeps {
		return false
	}
	if len(n.list)+len(n.told) < maxNotes {
		n.list = append(n.list, x)
		n.wake()
	}
	return true
}

// wake is for tell; mu is held.
func (n *notes) wake() {
	select {
	case n.more <- struct{}{}:
	default:
	}
}

// anew begins with another process, which knows nothing of what was told before.
func (n *notes) anew() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list, n.told = append(n.told, n.list...), nil
	n.wake()
}

// serves notes that who is told serves: it has them for good.
func (n *notes) serves() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.served, n.told = true, nil
}

// drain gives all to f, in the order in which they came, and takes no more: this process has the store. f must not block.
func (n *notes) drain(f func(cutover.Note)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range append(n.told, n.list...) {
		f(x)
	}
	n.list, n.told, n.keeps = nil, nil, false
}

func (n *notes) first() (x cutover.Note, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) == 0 {
		return x, false
	}
	return n.list[0], true
}

// pass is behind the telling of the first.
func (n *notes) pass() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.served {
		n.told = append(n.told, n.list[0])
	}
	n.list = n.list[1:]
}

// tell tells them by way of to, one after the other, until ctx ends. One goroutine may be in it at a time.
func (n *notes) tell(ctx context.Context, to func(context.Context, cutover.Note) error) {
	for {
		x, ok := n.first()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-n.more:
			}
			continue
		}
		for try := retryFirst; to(ctx, x) != nil; try = min(2*try, retryLast) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(try):
			}
		}
		n.pass()
	}
}

// allTold waits until nothing is to be told any more.
func (n *notes) allTold(ctx context.Context) {
	for ctx.Err() == nil {
		if _, some := n.first(); !some {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Times of tell.
const (
	retryFirst = 50 * time.Millisecond
	retryLast  = time.Second
)

// changed, deleted and judged are told by the fronts: see proxy.Options. What they are told of belongs to who has the store, or leads.
func (g *gateway) changed(user string, p config.Protocol) {
	n := cutover.Note{User: user, Protocol: p}
	if !g.leaving.notes.add(n) && !g.telling.note(n) {
		g.syncing.keeping.changed(user, p)
	}
}

func (g *gateway) deleted(user string, side config.Side, session uint64, d imapwire.Deletes) {
	n := cutover.Note{User: user, Side: side, Session: session&(1<<32-1) | uint64(g.origin)<<32, Deletes: &d} // not one of the other's
	if !g.leaving.notes.add(n) && !g.telling.note(n) {
		g.syncing.keeping.deleted(user, side, n.Session, d)
	}
}

func (g *gateway) judged(user string, side config.Side, p config.Protocol, password config.Secret, refused error) {
	if !g.leaving.lent.Load() { // else the next login tells, with the other process
		g.syncing.judged(user, side, p, password, refused)
	}
}

// heard takes what a process that has handed over tells of its sessions, or what one of this process did while another one had the store.
func (g *gateway) heard(n cutover.Note) {
	switch kp := g.syncing.keeping; {
	case kp == nil:
	case n.Deletes != nil:
		kp.deleted(n.User, n.Side, n.Session, *n.Deletes)
	default:
		kp.changed(n.User, n.Protocol)
	}
}
