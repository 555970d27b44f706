package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// With several nodes the rules for people without a row change under a pause: every node keeps such people waiting, and has written whom
// it has let in, before the new rules are recorded; then each loads them, and all rows. Else one node could let somebody in by the old
// rules and another by the new ones. The record is refused when a node has joined meanwhile.
const (
	AskPause Kind = "pause" // people without a row wait; the rows owed are written
	AskRules Kind = "rules" // the rules may have changed: load them and all rows, and let people go on
)

// ErrAway means that something needs every node, and one does not answer.
var ErrAway = errors.New("not every node has answered")

// pauseTime bounds the wait for the nodes' acknowledgements of a pause.
const pauseTime = 5 * time.Second

// rulesOf are the rules that a routes file makes.
func (m *Manager) rulesOf(rf *config.RouteFile) op.Rules {
	r := op.Rules{Default: rf.Default, Addresses: addressRules(m.set.Load().routes)}
	for _, p := range rf.Patterns {
		r.Patterns = append(r.Patterns, op.Pattern{Domain: p.Domain, Side: p.Side})
	}
	return r
}

// pauseFor pauses all nodes if a routes file changes the rules, and tells who has acknowledged it. resume must be called when the import
// was recorded, or was not. importMu is held.
func (m *Manager) pauseFor(ctx context.Context, rf *config.RouteFile) (stood []op.Node, resume func(), err error) {
	old, next := m.newcomers.rules.Load(), m.rulesOf(rf)
	if m.cluster == nil || m.serial != "" && old.Default == next.Default && slices.Equal(old.Patterns, next.Patterns) {
		return nil, func() {}, nil
	}
	m.pauses++
	n := m.pauses
	resume = func() { m.resume(ctx, n) }
	nodes, err := m.registered(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("read nodes: %w", err)
	}
	short, cancel := context.WithTimeoutCause(ctx, pauseTime, ErrDeadline)
	defer cancel()
	if _, err := m.ask(short, Message{Kind: AskPause, Generation: n}, nodes); err != nil {
		resume()
		return nil, nil, fmt.Errorf("%w, so default and patterns stay as they are (if it is down for good: mailgate nodes remove): %w", ErrAway, err)
	}
	stood = []op.Node{}
	for _, n := range nodes {
		stood = append(stood, op.Node{Name: n.Name(), Incarnation: n.Incarnation()})
	}
	return stood, resume, nil
}

// resume tells all nodes that they may load the rules: once now, and behind this, until all have heard.
func (m *Manager) resume(ctx context.Context, n int64) {
	if m.rulesTeller(n)(ctx) == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.resumes = max(m.resumes, n)
	if !m.resuming && m.ctx.Err() == nil { // else the next Start tells them
		m.resuming = true
		m.wg.Go(m.resumeLate)
	}
}

// rulesTeller tells the nodes of the end of a pause; it may be called again after an error.
func (m *Manager) rulesTeller(n int64) func(context.Context) error {
	var told *teller
	return func(ctx context.Context) error {
		if told == nil {
			nodes, err := m.registered(ctx)
			if err != nil {
				return err
			}
			told = m.teller(Message{Kind: AskRules, Generation: n}, nodes)
		}
		return told.tell(ctx)
	}
}

// resumeLate tells of the end of the last pause until all have heard: that of one before is told with it. There is one, however often a
// reload is tried while a node is silent.
func (m *Manager) resumeLate() {
	n := int64(-1)
	var tell func(context.Context) error
	_ = m.retry(func(ctx context.Context) error {
		m.mu.Lock()
		if m.resumes != n {
			n = m.resumes
			tell = m.rulesTeller(n)
		}
		m.mu.Unlock()
		if err := tell(ctx); err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.resumes != n {
			return errNewerPause
		}
		m.resuming = false
		return nil
	})
}

var errNewerPause = errors.New("there was another pause meanwhile")
