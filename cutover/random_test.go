package cutover

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestRandom: requests, cancels, imports, faults of the store and restarts in any order. At no time is a session on a
// side that is not the row's; at the end, with the store well, every user is settled, no operation is open, and the
// history has as many commits as the epoch says.
func TestRandom(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomRun(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func randomRun(t *testing.T, rnd *rand.Rand) {
	users := []string{alice, bob, "carol@example.com"}
	side := func() config.Side { return config.Side(rnd.IntN(2)) }
	file := func() (text string) {
		for _, u := range users {
			text += u + " " + side().String() + "\n"
		}
		return text
	}
	dir := tempDir(t)
	s := openStore(t, dir)
	g := newGateway(t, s)
	stop := func() {}
	defer func() {
		stop()
		g.m.Stop()
		s.Close()
	}()
	must(t, g.m.Start(t.Context()))
	g.imports(file())
	stop = g.clients(g.r, users...)
	for range 60 {
		switch rnd.IntN(9) {
		case 0, 1, 2:
			_, _ = g.m.Request(t.Context(), users[rnd.IntN(len(users))], side(), "test", rnd.IntN(2) == 0)
		case 3:
			_, _ = g.m.Import(t.Context(), g.file(file()), "test", "")
		case 4:
			_ = g.m.Cancel(t.Context(), fmt.Sprintf("op-%d", 1+rnd.IntN(40)), "test", "")
		case 5:
			_, _ = g.m.Unpin(t.Context(), users[rnd.IntN(len(users))], "test", "", "")
		case 6: // bad weather
			kind, share := fault(rnd.IntN(3)), rnd.Float64() // no hang: waiting for a mutex stops the clock of the bubble
			dice := rand.New(rand.NewPCG(rnd.Uint64(), 2))   // decide is called with the wrapper's lock held
			g.st.set(func(string, int) fault {
				if dice.Float64() < share {
					return kind
				}
				return well
			})
		case 7:
			g.st.set(nil)
		case 8: // the process ends, in order or with a store that takes nothing any more
			if rnd.IntN(2) == 0 {
				g.st.set(func(string, int) fault { return before })
			}
			stop()
			g.m.Stop()
			must(t, s.Close())
			s = openStore(t, dir)
			g = newGateway(t, s)
			must(t, g.m.Start(t.Context()))
			stop = g.clients(g.r, users...)
		}
		time.Sleep(time.Duration(rnd.IntN(3)) * time.Second)
	}
	g.st.set(nil)
	time.Sleep(2 * time.Minute)
	stop()
	g.settle()
	time.Sleep(time.Minute)
	open, err := s.Operations(t.Context(), op.Filter{Open: true, Kind: op.Flip})
	must(t, err)
	if len(open) > 0 {
		t.Errorf("open at the end: %+v", open)
	}
	for _, u := range users {
		row := g.row(u)
		g.check(u, row.Side, row.Epoch)
		commits := int64(0)
		for _, e := range g.events(u) {
			if e == "flip committed" {
				commits++
			}
		}
		if commits != row.Epoch {
			t.Errorf("%s: %d commits, %+v", u, commits, row)
		}
	}
}
