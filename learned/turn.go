package learned

import (
	"context"

	"mailgate/config"
)

// turn is what one login at a time has.
type turn struct {
	user string
	side config.Side
}

// turnstile lets one through; Book.mu guards waiting.
type turnstile struct {
	free    chan struct{} // holds one while nobody is through
	waiting int           // with the one who is through
}

// enter waits for a turn; leave ends it.
func (b *Book) enter(ctx context.Context, t turn) (leave func(), err error) {
	b.mu.Lock()
	s := b.turns[t]
	if s == nil {
		s = &turnstile{free: make(chan struct{}, 1)}
		s.free <- struct{}{}
		b.turns[t] = s
	}
	s.waiting++
	b.mu.Unlock()
	gone := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if s.waiting--; s.waiting == 0 {
			delete(b.turns, t)
		}
	}
	select {
	case <-s.free:
		return func() {
			s.free <- struct{}{}
			gone()
		}, nil
	case <-ctx.Done():
		gone()
		return nil, context.Cause(ctx)
	}
}
