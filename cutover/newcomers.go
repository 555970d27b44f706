package cutover

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// Newcomers are people without a row: the rules by which they are placed, and the rows owed to those who have logged in. A process has
// one for its life, whoever leads. It is safe for concurrent use.
type Newcomers struct {
	rules atomic.Pointer[op.Rules]

	mu   sync.Mutex
	owed []op.Row // not written yet

	flushing chan struct{} // held while owed rows are written
	wake     chan struct{} // rows are owed
}

// NewNewcomers makes one without rules.
func NewNewcomers() *Newcomers {
	n := &Newcomers{flushing: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	n.rules.Store(&op.Rules{})
	return n
}

// Side answers the side of a user without a row. It is the router's source.
func (n *Newcomers) Side(user string) config.Side { return n.rules.Load().Side(user) }

// Seen owes a row to a user who has logged in for the first time. It does not block: see router.New. Only admitted
// logins count, so there is one for each user that a backend knows, never one for a stranger's guess.
func (n *Newcomers) Seen(user string, p router.Place) {
	n.mu.Lock()
	n.owed = append(n.owed, op.Row{User: user, Side: p.Side, Epoch: p.Epoch, Generation: p.Generation, State: op.Settled,
		Since: time.Now()})
	n.mu.Unlock()
	signal(n.wake)
}

// Owed is the number of rows that wait to be written.
func (n *Newcomers) Owed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.owed)
}

// flush has what is owed now written. One at a time: two would each take the other's rows off the list.
func (n *Newcomers) flush(ctx context.Context, write func(ctx context.Context, rows []op.Row) error) error {
	select {
	case n.flushing <- struct{}{}:
		defer func() { <-n.flushing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	n.mu.Lock()
	rows := slices.Clone(n.owed)
	n.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	if err := write(ctx, rows); err != nil {
		return err
	}
	n.mu.Lock()
	n.owed = slices.Delete(n.owed, 0, len(rows))
	n.mu.Unlock()
	return nil
}

// forget drops what is owed: by a process that is no node any more it must not be written, since another may have placed these people
// elsewhere. Nobody is let in meanwhile.
func (n *Newcomers) forget(ctx context.Context) error {
	return n.flush(ctx, func(context.Context, []op.Row) error { return nil })
}
