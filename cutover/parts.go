package cutover

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// parts are the moves of several users that are under way: what their edit of the routes file asks for belongs to them.
type parts struct {
	mu sync.Mutex
	of map[string]op.Operation // by user: the operation that he is moved by
}

// claim makes what an import asks for these users a part of o, until it is given back.
func (p *parts) claim(o op.Operation, users []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]op.Operation{}
	}
	for _, u := range users {
		p.of[u] = o
	}
}

func (p *parts) giveBack(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for u, o := range p.of {
		if o.ID == id {
			delete(p.of, u)
		}
	}
}

// adopt makes a flip that an import asks for a part of the move that edited the file.
func (p *parts) adopt(o *op.Operation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.of[o.User]
	if !ok || w.Target != o.Target {
		return false
	}
	o.From, o.Plan = w.From, w.Plan
	if w.ID != "" {
		o.Parent, o.By = w.ID, w.By
		o.Wave = cmp.Or(w.Wave, o.Wave)
	}
	return true
}

// Asked notes where a request came from and what was shown before, for a flip that an edit of the routes file is about to ask for. done ends
// that.
func (m *Manager) Asked(user string, target config.Side, from, plan string) (done func()) {
	p := &m.parts
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]op.Operation{}
	}
	if _, moving := p.of[user]; moving {
		return func() {}
	}
	p.of[user] = op.Operation{Target: target, From: from, Plan: plan}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.of[user].ID == "" {
			delete(p.of, user)
		}
	}
}

// part is one user's flip as a part of a move of several.
func part(w op.Operation, user, wave string) op.Operation {
	now := time.Now()
	return op.Operation{Kind: op.Flip, User: user, Target: w.Target, Status: op.Accepted, By: w.By, From: w.From, Pin: w.Pin, Now: w.Now, Wave: wave,
		Parent: w.ID, Created: now, Changed: now}
}

// requestParts asks for flips that are parts of a move: all of them, or none.
func (m *Manager) requestParts(ctx context.Context, list []op.Operation) error {
	m.asking.RLock()
	defer m.asking.RUnlock()
	if err := m.isWorking(); err != nil {
		return err
	}
	events := make([]op.Event, len(list))
	for i, o := range list {
		events[i] = op.Event{At: o.Created, User: o.User, What: "flip requested", After: o.Target.String(), By: o.By, From: o.From, Detail: "part of " + o.Parent}
	}
	ctx, cancel := context.WithTimeout(ctx, importTime)
	defer cancel()
	ops, err := m.store.NewOperations(ctx, list, events)
	if err != nil {
		signal(m.stray)
		return fmt.Errorf("record requests: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range ops {
		m.enqueue(o)
	}
	m.dispatch()
	return nil
}

// strayReason is that of a request which was recorded although the store answered an error.
const strayReason = "the store answered an error when it was asked for; ask again"

// sideNow is where a user is.
func (m *Manager) sideNow(user string) config.Side {
	p, _ := m.router.Lookup(user)
	return p.Side
}

// lost tells whether a flip is open in the store and nobody has it: the sweeper ends it.
func (m *Manager) lost(o op.Operation) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !o.Status.Final() && m.tasks[o.ID] == nil
}
