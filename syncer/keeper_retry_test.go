package syncer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestKeeperRetry: who fails is due at once when what he fails for is mended, also when that was while a pass failed; the others, who
// fail as well, wait as long as before.
func TestKeeperRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passes, inside, end := map[string]int{}, make(chan bool), make(chan bool)
		hold := false
		var mu sync.Mutex
		k := NewKeeper(KeeperOptions{Retry: time.Hour, Late: time.Hour, Pass: func(_ context.Context, user string, _ bool) (bool, error) {
			mu.Lock()
			passes[user]++
			wait := hold
			mu.Unlock()
			if wait {
				inside <- true
				<-end
			}
			return false, errors.New("no")
		}})
		count := func(user string, want int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if passes[user] != want {
				t.Errorf("%s: %d passes, want %d", user, passes[user], want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.Run(ctx) })
		k.Keep([]string{"a", "b"}, nil)
		time.Sleep(time.Second)
		count("a", 1)
		count("b", 1)
		k.Retry("a")
		k.Retry("nobody")
		count("a", 2)
		count("b", 1)
		mu.Lock()
		hold = true
		mu.Unlock()
		k.Retry("a")
		<-inside
		k.Retry("a") // amid a pass
		mu.Lock()
		hold = false
		mu.Unlock()
		end <- true
		time.Sleep(time.Minute)
		count("a", 4)
		count("b", 1)
		time.Sleep(30 * time.Minute) // and not for ever
		count("a", 4)
		cancel()
		wg.Wait()
	})
}

// TestKeeperLease: who waits for the end of another process's lease is not tried less and less often, as others who fail are.
func TestKeeperLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		passes := map[string]int{}
		k := NewKeeper(KeeperOptions{Retry: 16 * time.Second, Late: time.Hour, Pass: func(_ context.Context, user string, _ bool) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			passes[user]++
			if user == "fenced" {
				return false, fmt.Errorf("%w: gw1", ErrFenced)
			}
			return false, errors.New("no")
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.Run(ctx) })
		k.Keep([]string{"fenced", "ill"}, nil)
		time.Sleep(3 * time.Minute)
		cancel()
		wg.Wait()
		if passes["fenced"] < 9 || passes["ill"] > 5 {
			t.Errorf("%v", passes)
		}
	})
}
