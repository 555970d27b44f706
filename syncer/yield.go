package syncer

import (
	"context"
	"errors"
	"sync/atomic"
)

// ErrYielded means that a first copy ended early because others' changes waited for its turn. What it had done is done; the next pass goes
// on there.
var ErrYielded = errors.New("it gives way to other users' changes for a moment")

type yieldKey struct{}

// yielding gives a pass a way to be asked to give way: it ends with ErrYielded between two runs of messages, with nothing under way.
func yielding(ctx context.Context, asked *atomic.Bool) context.Context {
	return context.WithValue(ctx, yieldKey{}, asked)
}

// yields tells whether a pass is asked to give way.
func yields(ctx context.Context) bool {
	asked, ok := ctx.Value(yieldKey{}).(*atomic.Bool)
	return ok && asked.Load()
}

// mayYield tells whether a pass has copied something, so that it does not read both sides again and again and never gets on.
func (p *pass) mayYield() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.report.Copied[0]+p.report.Copied[1] > 0
}
