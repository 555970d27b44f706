package main

import (
	"context"
	"sync"
)

// leadingPart is what this process alone runs, while it leads.
type leadingPart struct {
	ctx   context.Context
	stop  context.CancelFunc
	wg    sync.WaitGroup
	ended chan struct{} // closed when it has ended
}

// startLeading begins it, within run's work. The one before has ended.
func (g *gateway) startLeading() {
	p := &leadingPart{ended: make(chan struct{})}
	p.ctx, p.stop = context.WithCancel(*g.working.Load())
	if g.acme != nil {
		p.wg.Go(func() { g.acme.Run(p.ctx) })
	}
	p.wg.Go(func() { g.watch(p.ctx) })
	p.wg.Go(func() { g.lead(p.ctx) })
	if g.member != nil {
		p.wg.Go(func() { g.watchEnded(p.ctx) })
	} else { // else with the term: elect
		p.wg.Go(func() { g.syncing.proofs.Run(p.ctx, g.store.SaveProofs, g.log) })
	}
	p.wg.Go(func() { g.syncing.book.Run(p.ctx) })
	p.wg.Go(func() { g.limiter.Keep(p.ctx, g.store, g.log) })
	p.wg.Go(func() { g.syncing.ledger.Run(p.ctx) })
	p.wg.Go(func() { g.gates.Run(p.ctx) })
	if host := g.host.Load(); host != nil {
		p.wg.Go(func() { host.Run(p.ctx) })
	}
	go func() { // ends with them
		p.wg.Wait()
		close(p.ended)
	}()
	g.leading.Store(p)
}

// endLeading ends it, and waits until ctx ends; false when it goes on still, and is told to end.
func (g *gateway) endLeading(ctx context.Context) bool {
	p := g.leading.Load()
	if p == nil {
		return true
	}
	p.stop()
	select {
	case <-p.ended:
		g.leading.CompareAndSwap(p, nil)
		return true
	case <-ctx.Done():
		return false
	}
}
