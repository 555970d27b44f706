package syncer

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// journal writes the changes of one pass. What several workers ask for at once goes into one transaction, so that a disk
// that takes its time for each is waited for once.
type journal struct {
	store Store
	user  string
	owner string

	writing sync.Mutex // held while something is written, and while the token changes
	token   int64

	mu      sync.Mutex
	busy    bool // somebody writes
	waiting []*pending
}

type pending struct {
	change  Change
	applied Applied
	err     error
	done    chan struct{}
}

// write makes a change durable. Mailboxes of the change must have IDs.
func (j *journal) write(ctx context.Context, c Change) (Applied, error) {
	e := &pending{change: c, done: make(chan struct{})}
	j.mu.Lock()
	j.waiting = append(j.waiting, e)
	if j.busy {
		j.mu.Unlock()
		<-e.done // whoever writes now takes it along: it has an end of its own
		return e.applied, e.err
	}
	j.busy = true
	for len(j.waiting) > 0 {
		list := j.waiting
		j.waiting = nil
		j.mu.Unlock()
		j.apply(ctx, list)
		j.mu.Lock()
	}
	j.busy = false
	j.mu.Unlock()
	return e.applied, e.err
}

// apply writes several changes as one; when that fails, one by one, so that each learns what is his.
func (j *journal) apply(ctx context.Context, list []*pending) {
	all := Change{User: j.user}
	for _, e := range list {
		c := e.change
		all.Mailboxes = append(all.Mailboxes, c.Mailboxes...)
		all.DropMailboxes = append(all.DropMailboxes, c.DropMailboxes...)
		all.Chunks = append(all.Chunks, c.Chunks...)
		all.AddIntents = append(all.AddIntents, c.AddIntents...)
		all.DropIntents = append(all.DropIntents, c.DropIntents...)
		all.Quarantine = append(all.Quarantine, c.Quarantine...)
		all.Release = append(all.Release, c.Release...)
		all.Scripts = append(all.Scripts, c.Scripts...)
		all.DropScripts = append(all.DropScripts, c.DropScripts...)
	}
	// The write must not end half-known because one of those who asked has gone: it has its own time.
	var got Applied
	err := safely(func() (err error) {
		j.writing.Lock()
		defer j.writing.Unlock()
		all.Token = j.token
		got, err = j.store.Apply(context.WithoutCancel(ctx), all)
		return err
	})
	if err != nil && len(list) > 1 {
		for _, e := range list {
			j.apply(ctx, []*pending{e})
		}
		return
	}
	for _, e := range list {
		if e.err = err; err == nil {
			n, m := len(e.change.Mailboxes), len(e.change.AddIntents)
			e.applied = Applied{Mailboxes: got.Mailboxes[:n], Intents: got.Intents[:m]}
			got.Mailboxes, got.Intents = got.Mailboxes[n:], got.Intents[m:]
		}
		close(e.done)
	}
}

// acquire makes this process the one who may write, or stay so: each time there is a new token, and the old one is worth
// nothing from then on. A renewal that finds that somebody else has had the account since is ErrFenced, also when he has given it
// back: what was read before may not be so any more.
func (j *journal) acquire(ctx context.Context, ttl time.Duration) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	token, err := j.store.Acquire(ctx, j.user, j.owner, ttl)
	if err != nil {
		return err
	}
	if j.token != 0 && token != j.token+1 {
		_ = j.store.Release(ctx, j.user, token) // it is not ours to keep from others
		return fmt.Errorf("%w: it had the account in between", ErrFenced)
	}
	j.token = token
	return nil
}

// release gives that up.
func (j *journal) release(ctx context.Context) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	return j.store.Release(ctx, j.user, j.token)
}
