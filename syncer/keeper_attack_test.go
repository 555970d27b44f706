package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestKeeperAttacked: a Keeper, a Watcher, looks and counts share few connections to hosts that fail in all ways, while people work, pauses
// and changes of who is kept come in bursts, and passes are ended and asked to give way at any moment. When the hosts are well again the
// user converges by himself; no connection and no goroutine is left at the end, and the mail is what it has to be.
func TestKeeperAttacked(t *testing.T) {
	for _, seed := range seeds(t, 6) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			leavesNothing(t)
			rnd := rand.New(rand.NewPCG(seed, 77))
			budget := syncer.NewBudget(syncer.BudgetOptions{})
			most := 1 + rnd.IntN(3)
			budget.Set([2]int{most, most})
			var dialer *backend.Dialer
			products := []func() faulty.Product{faulty.Dovecot, faulty.Cyrus, faulty.DovecotPrefixed}
			w := newFaultyWorld(t, products[rnd.IntN(3)](), products[rnd.IntN(3)](), seed, func(o *syncer.Options) {
				o.Budget, o.Keep = budget, 50*time.Millisecond
			})
			dialer = w.dialer(t)
			defer w.Close()
			k := syncer.NewKeeper(syncer.KeeperOptions{Passes: 1 + rnd.IntN(2), Soon: 2 * time.Millisecond, Busy: 5 * time.Millisecond, Quiet: 20 * time.Millisecond,
				Retry: 5 * time.Millisecond, Late: 20 * time.Millisecond, Slice: time.Millisecond, Pass: func(ctx context.Context, user string, hinted bool) (bool, error) {
					if user == "other" {
						return true, nil
					}
					ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Second, errors.New("of a test"))
					defer cancel()
					if !hinted {
						if changed, err := w.Peek(ctx, user); err != nil || !changed {
							return false, err
						}
					}
					_, err := w.Run(ctx, user, syncer.RunOptions{Deletes: true})
					return true, err
				}})
			watcher := syncer.NewWatcher(syncer.WatcherOptions{Hint: k.Hint, Budget: budget, Max: 2, Pause: time.Millisecond, Longest: 10 * time.Millisecond,
				Place: func(side config.Side, _ string) string { return side.String() },
				Open: func(ctx context.Context, side config.Side, user string) (*backend.Client, error) {
					c, err := auth.Password("PLAIN", user, faulty.Password)
					if err != nil {
						return nil, err
					}
					return dialer.DialClient(ctx, side, "", backend.Account{Credentials: c, LoginName: user})
				}})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { k.Run(ctx) })
			wg.Go(func() { watcher.Run(ctx) })
			storm, calm := context.WithCancel(ctx)
			wg.Go(func() {
				for storm.Err() == nil {
					_, _ = w.Peek(storm, "user")
					_, _ = w.Size(storm, "user")
					time.Sleep(time.Millisecond)
				}
			})
			both := []string{"other", "user"}
			k.Keep(both, nil)
			k.Through("other")
			for round := range 60 {
				switch rnd.IntN(8) {
				case 0:
					k.Keep([]string{"other"}, nil)
				case 1:
					k.Keep(both, map[string]bool{"user": rnd.IntN(2) == 0})
				case 2:
					k.Pause("user", rnd.IntN(2) == 0)
				case 3:
					k.Configure(1+rnd.IntN(3), 0)
					k.Again()
				case 4:
					watcher.Set(map[string]config.Side{"user": config.Side(rnd.IntN(2))})
					watcher.Prefer(map[string]bool{"user": rnd.IntN(2) == 0})
				case 5:
					watcher.Set(nil)
				case 6:
					h := w.hosts[rnd.IntN(2)]
					h.Fail(&faulty.Faults{Seed: seed*100 + uint64(round), Rate: []float64{0.02, 0.1, 0.5}[rnd.IntN(3)], Kinds: faulty.All(), Wait: 10 * time.Millisecond})
				case 7:
					w.hosts[rnd.IntN(2)].Sound() // cuts what is there
				}
				w.work()
				k.Hint("user")
				k.Hint("other")
				time.Sleep(time.Duration(rnd.IntN(25)) * time.Millisecond)
			}
			calm()
			for _, h := range w.hosts {
				h.Sound()
			}
			watcher.Set(map[string]config.Side{"user": config.Old})
			k.Keep(both, nil)
			k.Again()
			from := time.Now()
			for end := from.Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				s, ok := k.State("user")
				if ok && s.Phase == "converged" && s.Last.After(from) && !s.Now {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("it does not recover: %+v, budget %+v", s, budget.Use())
				}
				k.Hint("user")
			}
			cancel()
			wg.Wait()
			w.settle(t, fmt.Sprintf("seed %d", seed))
			w.check(t, fmt.Sprintf("seed %d", seed), true)
			w.Close()
			for _, u := range budget.Use() {
				if u.Open != 0 || u.Waiting != 0 {
					t.Errorf("left in the budget: %+v", u)
				}
			}
			for _, side := range config.Sides {
				for range most { // each slot can be had
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					release, err := budget.Hold(ctx, side, "user")
					if err != nil {
						t.Errorf("a slot was not given back: %v", err)
					}
					defer release()
					cancel()
				}
				if open, _ := dialer.Load(side, ""); open != 0 {
					t.Errorf("%d connections to %s are left", open, side)
				}
			}
		})
	}
}

// dialer is another one to the same hosts, for what is not a pass.
func (w *faultyWorld) dialer(t testing.TB) *backend.Dialer {
	t.Helper()
	var b [2]config.Backend
	for side, h := range w.hosts {
		b[side] = config.Backend{Hosts: []config.Host{{Name: fmt.Sprintf("host%d", side), IMAP: config.Endpoint{Protocol: config.IMAP, Host: "127.0.0.1", Port: h.Port()}}},
			ConnectTimeout: 5 * time.Second, LoginTimeout: 5 * time.Second}
	}
	d, err := backend.NewDialer(b, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
