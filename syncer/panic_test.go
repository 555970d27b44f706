package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"mailgate/backend"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// defective is a store that panics at one write: a defect in the midst of a pass.
type defective struct {
	syncer.Store
	writes *atomic.Int64 // to go
}

func (d defective) Apply(ctx context.Context, c syncer.Change) (syncer.Applied, error) {
	if d.writes.Add(-1) == 0 {
		panic("injected")
	}
	return d.Store.Apply(ctx, c)
}

// TestDefect has a defect in the midst of a pass, at each write and at each step that is told of: it is an error of that pass and of
// nothing else, no goroutine and no connection stays, and the next pass goes on as after a crash.
func TestDefect(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"write", "progress"} {
		for n := int64(1); ; n++ {
			var left, told atomic.Int64
			w := newFaultyWorld(t, faulty.DovecotPrefixed(), faulty.Dovecot(), 1, func(o *syncer.Options) { o.Store = defective{o.Store, &left} })
			for range 30 {
				w.work()
			}
			w.settle(t, "before")
			for range 15 {
				w.work()
			}
			o := syncer.RunOptions{Deletes: true}
			if where == "write" {
				left.Store(n)
			} else {
				o.Progress = func(syncer.Progress) {
					if told.Add(1) == n {
						panic("injected")
					}
				}
			}
			_, err := w.Run(t.Context(), "user", o)
			hit := left.Load() <= 0 && where == "write" || told.Load() >= n
			var here *syncer.PanicError
			var there *backend.DefectError
			if hit && !errors.As(err, &here) && !errors.As(err, &there) && told.Load() == n {
				t.Errorf("%s %d: the pass ends with %v", where, n, err)
			}
			left.Store(0)
			what := fmt.Sprintf("a defect at %s %d", where, n)
			w.settle(t, what)
			w.check(t, what, true)
			if !hit {
				if err != nil || n < 4 {
					t.Fatalf("%s: never reached, %v", what, err)
				}
				break
			}
		}
	}
}
