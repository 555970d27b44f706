package syncer_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// budgetWorld is an account with mail in six folders, and a syncer that would like three connections to each side.
func budgetWorld(t *testing.T, b *syncer.Budget, seed uint64) *faultyWorld {
	return budgetWorldOf(t, faulty.Dovecot(), b, seed)
}

func budgetWorldOf(t *testing.T, p faulty.Product, b *syncer.Budget, seed uint64) *faultyWorld {
	t.Helper()
	w := newFaultyWorld(t, p, p, seed, func(o *syncer.Options) { o.Budget, o.Connections, o.Keep = b, 3, time.Minute })
	for i := range 5 {
		w.hosts[config.Old].Account.Create(w.name(config.Old, fmt.Sprint("Folder", i)))
	}
	for i := range 60 {
		path := "INBOX"
		if i%6 > 0 {
			path = fmt.Sprint("Folder", i%6-1)
		}
		w.deliver(config.Old, path)
	}
	return w
}

// crowds are the ways in which hosts refuse.
func crowds(most int) map[string]faulty.Crowd {
	return map[string]faulty.Crowd{
		"without a word":  {Most: most},
		"bye":             {Most: most, Greeting: "* BYE Too many connections from your address"},
		"bye, code":       {Most: most, Greeting: "* BYE [UNAVAILABLE] no"},
		"at login":        {Most: most, Login: "NO Too many open connections (2 of 2 for user)"},
		"at login, code":  {Most: most, Login: "NO [LIMIT] no"},
		"at login, code2": {Most: most, Login: "NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded"},
	}
}

// TestBudgetOfHost: hosts allow one or two connections, and nobody has said so. The pass finds out, does with those, and does not ask again
// and again.
func TestBudgetOfHost(t *testing.T) {
	t.Parallel()
	for most := 1; most <= 2; most++ {
		for name, crowd := range crowds(most) {
			t.Run(fmt.Sprint(name, " ", most), func(t *testing.T) {
				t.Parallel()
				b := syncer.NewBudget(syncer.BudgetOptions{})
				w := budgetWorld(t, b, 3)
				for _, h := range w.hosts {
					c := crowd
					h.Crowd(&c)
					h.Fail(&faulty.Faults{Rate: 1, Kinds: []faulty.Kind{faulty.Slow}, Wait: 4 * time.Millisecond}) // or two do all before a third begins
				}
				rep, err := w.Run(t.Context(), "user", syncer.RunOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if rep.Copied[config.New] != int64(len(w.want)) {
					t.Errorf("copied %d of %d", rep.Copied[config.New], len(w.want))
				}
				w.check(t, name, true)
				refused := 0
				for _, h := range w.hosts {
					refused += h.Crowded().Refused
				}
				if refused == 0 || refused > 4 { // two workers may ask at the same time
					t.Errorf("%d connections were refused", refused)
				}
				if !slices.ContainsFunc(b.Use(), func(u syncer.PlaceUse) bool { return u.Learned == most }) {
					t.Errorf("learned %+v", b.Use())
				}
				if _, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err != nil { // with the connections that were kept
					t.Error(err)
				}
				w.Close()
				for _, u := range b.Use() {
					if u.Open != 0 || u.Waiting != 0 {
						t.Errorf("at the end: %+v", u)
					}
				}
			})
		}
	}
}

// TestBudgetPoorHost: a host that allows one connection and does not tell UIDs: what was appended is looked for with the one that there is.
func TestBudgetPoorHost(t *testing.T) {
	b := syncer.NewBudget(syncer.BudgetOptions{})
	w := budgetWorldOf(t, faulty.Plain(), b, 3)
	for _, h := range w.hosts {
		h.Crowd(&faulty.Crowd{Most: 1})
	}
	rep, err := w.Run(t.Context(), "user", syncer.RunOptions{})
	if err != nil || len(rep.Errors) > 0 {
		t.Fatal(err, rep.Errors)
	}
	w.settle(t, "one connection")
	w.check(t, "one connection", false)
}

// TestBudgetShared lets five accounts begin at once with fewer connections than they would like: all come to their end, and the caps hold.
func TestBudgetShared(t *testing.T) {
	t.Parallel()
	for _, caps := range [][2]int{{1, 1}, {2, 1}, {1, 2}, {3, 3}, {4, 2}} {
		t.Run(fmt.Sprint(caps), func(t *testing.T) {
			t.Parallel()
			b := syncer.NewBudget(syncer.BudgetOptions{})
			b.Set(caps)
			var wg sync.WaitGroup
			for i := range 5 {
				w := budgetWorld(t, b, uint64(i))
				for _, h := range w.hosts {
					h.Crowd(&faulty.Crowd{Most: 1000})
				}
				wg.Go(func() {
					for range 2 {
						if _, err := w.Run(t.Context(), "user", syncer.RunOptions{}); err != nil {
							t.Error(err)
						}
					}
					w.check(t, fmt.Sprint(caps, " ", i), true)
					for side, h := range w.hosts {
						if c := h.Crowded(); c.Peak > caps[side] {
							t.Errorf("%d connections to %s, and the cap is %d", c.Peak, config.Side(side), caps[side])
						}
					}
				})
			}
			stop := make(chan struct{})
			var look sync.WaitGroup
			look.Go(func() {
				for {
					for _, u := range b.Use() {
						if u.Open > caps[u.Side] {
							t.Errorf("%+v, and the caps are %v", u, caps)
							return
						}
					}
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
				}
			})
			wg.Wait()
			close(stop)
			look.Wait()
		})
	}
}

// TestBudgetFaults lets hosts that allow few connections fail in all ways besides: what was broken is made anew within what there is.
func TestBudgetFaults(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds(t, 12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := syncer.NewBudget(syncer.BudgetOptions{})
			if seed%3 == 0 {
				b.Set([2]int{1, 1})
			}
			w := budgetWorld(t, b, seed)
			for side, h := range w.hosts {
				h.Crowd(&faulty.Crowd{Most: 1 + int(seed)%2, Login: "NO [LIMIT] no"})
				h.Fail(&faulty.Faults{Seed: seed*100 + uint64(side), Rate: 0.05, Kinds: []faulty.Kind{faulty.Cut, faulty.Lost, faulty.Inside, faulty.Bye, faulty.Slow}, Wait: 15 * time.Millisecond})
			}
			for range 3 {
				_, _ = w.pass(t)
			}
			w.settle(t, fmt.Sprint("seed ", seed))
			w.check(t, fmt.Sprint("seed ", seed), true)
		})
	}
}
