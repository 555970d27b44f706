package syncer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sharing is a Keeper with one turn, users whose first copies take long, in steps of a second, and others who had theirs.
type sharing struct {
	*Keeper
	copied  atomic.Int64 // seconds of first copies
	carried atomic.Int64 // passes over the others
	slices  atomic.Int64
}

func newSharing(t *testing.T, large time.Duration) *sharing {
	s := &sharing{}
	done := map[string]time.Duration{}
	s.Keeper = NewKeeper(KeeperOptions{Passes: 1, Pass: func(ctx context.Context, user string, _ bool) (bool, error) {
		if user[0] != 'n' {
			time.Sleep(100 * time.Millisecond)
			s.carried.Add(1)
			return true, nil
		}
		s.slices.Add(1)
		for done[user] < large {
			time.Sleep(time.Second)
			s.copied.Add(1)
			if done[user] += time.Second; yields(ctx) {
				return true, fmt.Errorf("copy: %w", ErrYielded)
			}
			if ctx.Err() != nil {
				return false, context.Cause(ctx)
			}
		}
		return true, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return s
}

// TestKeeperGivesWay: with one turn a first copy of hours gives way to others' changes every half a minute, is resumed, and is done in
// time. While nobody waits it goes on without a pause.
func TestKeeperGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSharing(t, time.Hour)
		s.Keep([]string{"old", "new"}, nil)
		s.Through("old")
		s.Pause("old", true)
		time.Sleep(20 * time.Minute)
		if n := s.slices.Load(); n != 1 || s.copied.Load() < 19*60 {
			t.Errorf("nobody waits: %d slices, %d s copied", n, s.copied.Load())
		}
		s.Pause("old", false)
		var worst time.Duration
		for range 60 {
			s.Hint("old")
			time.Sleep(10 * time.Second)
			if st, _ := s.State("old"); !st.Since.IsZero() {
				worst = max(worst, time.Since(st.Since))
			}
		}
		if worst > 45*time.Second || s.carried.Load() < 10 {
			t.Errorf("a change waited for %s; %d passes", worst, s.carried.Load())
		}
		if n := s.copied.Load(); n < 25*60 {
			t.Errorf("the first copy starves: %d s copied within half an hour", n)
		}
		if st, _ := s.State("new"); st.Phase != "first copy" || st.Tries != 0 || st.Err != nil {
			t.Errorf("%+v", st)
		}
		s.Pause("old", true)
		time.Sleep(40 * time.Minute)
		if st, _ := s.State("new"); st.Phase != "converged" {
			t.Errorf("%+v", st)
		}
	})
}

// TestKeeperShares: where others' changes never end, and neither do first copies, each have half of the time, be the copies large or
// small.
func TestKeeperShares(t *testing.T) {
	for _, large := range []time.Duration{2 * time.Second, 10 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s := newSharing(t, large)
			var users []string
			for i := range 2000 {
				users = append(users, fmt.Sprint("new", i))
			}
			for i := range 100 {
				users = append(users, fmt.Sprint("old", i))
			}
			s.Keep(users, nil)
			for i := range 100 {
				s.Through(fmt.Sprint("old", i))
			}
			time.Sleep(time.Hour) // a round of the others takes 10 s, and each is due after 5
			if n := s.copied.Load(); n < 25*60 || n > 35*60 {
				t.Errorf("%s: %d s of first copies", large, n)
			}
			if n := s.carried.Load(); n < 25*600 {
				t.Errorf("%s: %d passes over the others", large, n)
			}
		})
	}
}
