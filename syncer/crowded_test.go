package syncer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
)

// TestBudgetSoon: who has somebody's turn meanwhile waits for a slot for a moment, makes others give up what they can spare, and does not
// wait behind another one.
func TestBudgetSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{})
		b.Set([2]int{1, 0})
		held := mustFirst(t, b, "a")
		began := time.Now()
		if _, err := b.soon(t.Context(), config.Old, "b", 2*time.Second); !errors.Is(err, ErrCrowded) || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			s, err := b.first(t.Context(), config.Old, "c")
			if err != nil {
				t.Error(err)
			}
			s.release()
		})
		synctest.Wait()
		began = time.Now()
		if _, err := b.soon(t.Context(), config.Old, "b", 2*time.Second); !errors.Is(err, ErrCrowded) || time.Since(began) != 0 {
			t.Errorf("behind another one: %v after %s", err, time.Since(began))
		}
		held.release()
		wg.Wait()
		if s, err := b.soon(t.Context(), config.Old, "b", 2*time.Second); err != nil {
			t.Errorf("there is room: %v", err)
		} else {
			s.release()
		}
		time.Sleep(10 * time.Second)
		spare := mustFirst(t, b, "d")
		spare.spare(spare.release)
		s, err := b.soon(t.Context(), config.Old, "b", 2*time.Second)
		if err != nil {
			t.Fatalf("what can be spared was not given up: %v", err)
		}
		s.release()
	})
}

// TestKeeperCrowded: users of a host that is crowded for hours take nobody's turn, are not called failing, and are done soon when there is
// room.
func TestKeeperCrowded(t *testing.T) {
	for _, passes := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBudget(BudgetOptions{})
			b.Set([2]int{1, 0})
			sessions := mustFirst(t, b, "sessions")
			var tries atomic.Int64
			k := NewKeeper(KeeperOptions{Passes: passes, Pass: func(ctx context.Context, user string, _ bool) (bool, error) {
				if user[0] == 'c' {
					tries.Add(1)
					s, err := b.soon(ctx, config.Old, user, 2*time.Second)
					if err != nil {
						return false, fmt.Errorf("%w: %w", ErrBusy, err)
					}
					defer s.release()
				}
				time.Sleep(100 * time.Millisecond)
				return false, nil
			}})
			users := []string{"free"}
			for i := range 300 {
				users = append(users, fmt.Sprint("crowded", i))
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { k.Run(ctx) })
			k.Keep(users, nil)
			for _, u := range users {
				k.Through(u)
			}
			time.Sleep(10 * time.Minute)
			before := tries.Load()
			var worst time.Duration
			for range 360 {
				k.Hint("free")
				time.Sleep(10 * time.Second)
				if s, _ := k.State("free"); !s.Since.IsZero() {
					worst = max(worst, time.Since(s.Since))
				}
			}
			if worst > 30*time.Second || passes > 1 && worst > 0 {
				t.Errorf("%d turns: somebody else waited for %s", passes, worst)
			}
			if n := tries.Load() - before; n > 300*90 {
				t.Errorf("%d turns: %d tries in an hour", passes, n)
			}
			if s, _ := k.State("crowded7"); s.Phase != "converged" || s.Tries != 0 || s.Err != nil {
				t.Errorf("%+v", s)
			}
			sessions.release()
			time.Sleep(5 * time.Minute)
			for _, u := range users {
				if s, _ := k.State(u); s.Last.IsZero() {
					t.Errorf("%d turns: %s was not done: %+v", passes, u, s)
				}
			}
			cancel()
			wg.Wait()
		})
	}
}
