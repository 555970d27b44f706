package syncer

import (
	"context"
	"time"
)

// endTime bounds all that a pass does when its work is over, whatever ended it: the last writes to the store, and leave-taking. Hosts that
// say nothing and a store that is locked may each take a part of it, and no more together.
const endTime = 5 * time.Second

// storeEndTime is how long each of the last writes may take.
const storeEndTime = 3 * time.Second

// ending is the context for a step of that, which may take its part of what is left of the time. It outlives the pass's own context, and
// ends with Options.Enough.
func (p *pass) ending(most time.Duration) (context.Context, context.CancelFunc) {
	p.overOnce.Do(func() { p.over = time.Now().Add(endTime) })
	return p.s.ending(min(most, time.Until(p.over)))
}

// ending is a context for leave-taking.
func (s *Syncer) ending(most time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	if s.o.Enough == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(s.o.Enough, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}
