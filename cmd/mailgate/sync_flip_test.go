package main

import (
	"errors"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// TestFlipsAndPasses lets flips and passes of the same users race: while a user is fenced no pass over him is under way, and who
// asks for one is told that he is being moved. In the end nothing is lost or doubled.
func TestFlipsAndPasses(t *testing.T) {
	t.Parallel()
	users := []string{"alice@example.com", "bob@example.com"}
	m := newMemory(t, users...)
	for _, u := range users {
		m.deliver(0, u, 40)
	}
	g := m.serve()
	fenced := func(user string) (yes bool) {
		g.router.Users(func(u string, _ router.Place, fenced bool) { yes = yes || u == user && fenced })
		return yes
	}
	var passes, refused, ended, flips atomic.Int64
	happened := func() bool { return flips.Load() >= 10 && passes.Load() >= 5 && refused.Load() > 0 }
	began := time.Now()
	going := func() bool { // on a busy machine it takes longer until all of it has happened
		took := time.Since(began)
		return took < 4*time.Second || took < 2*time.Minute && !happened()
	}
	var wg sync.WaitGroup
	for _, user := range users {
		wg.Go(func() {
			side := config.New
			for ; going(); side = side.Other() {
				o, err := g.manager().Request(t.Context(), user, side, "test", true)
				if err == nil {
					o, err = g.manager().Wait(t.Context(), o.ID)
				}
				if err != nil || o.Status != op.Done {
					t.Errorf("flip: %+v, %v", o, err)
				}
				flips.Add(1)
				time.Sleep(time.Duration(rand.IntN(250)) * time.Millisecond)
			}
		})
		for range 3 {
			wg.Go(func() {
				for going() {
					_, err := g.syncing.Sync(t.Context(), "run", url.Values{"user": {user}}, func(any) {
						if fenced(user) {
							t.Errorf("a pass works while %s is fenced", user)
						}
					})
					switch {
					case err == nil:
						passes.Add(1)
					case exitCode(err) == exitRefused && strings.Contains(err.Error(), "is being moved right now"):
						refused.Add(1)
						time.Sleep(time.Millisecond)
					case exitCode(err) == exitPartly && errors.Is(err, errFlip):
						ended.Add(1)
					case exitCode(err) == exitRefused && strings.Contains(err.Error(), "under way"):
						time.Sleep(time.Millisecond)
					default:
						t.Errorf("pass: %d %v", exitCode(err), err)
					}
				}
			})
		}
		wg.Go(func() {
			for going() {
				g.syncing.mu.Lock()
				if u := g.syncing.passes[user]; u != nil && !u.flip && fenced(user) {
					t.Errorf("%s is fenced while a pass is under way", user)
				}
				g.syncing.mu.Unlock()
				time.Sleep(50 * time.Microsecond)
			}
		})
	}
	wg.Wait()
	t.Logf("%d flips, %d passes, %d refused, %d ended by a flip", flips.Load(), passes.Load(), refused.Load(), ended.Load())
	if !happened() {
		t.Error("the race did not happen")
	}
	for _, user := range users {
		if _, err := g.syncing.Sync(t.Context(), "run", url.Values{"user": {user}}, func(any) {}); err != nil {
			t.Error(err)
		}
		for side := range m.hosts {
			if n := inboxSubjects(t, m.hosts[side].IMAP, user); len(n) != 40 || len(slices.Compact(n)) != 40 {
				t.Errorf("%d messages of %s on side %d: %v", len(n), user, side, n)
			}
		}
	}
	list, err := g.store.Operations(t.Context(), op.Filter{Open: true})
	if err != nil || len(list) != 0 {
		t.Errorf("open: %+v, %v", list, err)
	}
}
