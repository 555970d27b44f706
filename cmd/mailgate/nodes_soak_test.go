package main

import (
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"mailgate/admin"
)

// TestNodesSoak: three gateways, people at work through all, flips all the time, and something happens to a node now and then, by chance:
// killed, stopped, cut from the database, the one that leads like the others. MAILGATE_SOAK=1 runs it, for five minutes.
func TestNodesSoak(t *testing.T) {
	if os.Getenv("MAILGATE_SOAK") == "" {
		t.Skip("takes minutes: MAILGATE_SOAK=1")
	}
	f := newFleet(t, 3, 6)
	f.start()
	stop := f.clients()
	defer stop()
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	flips, refused := 0, 0
	for end := time.Now().Add(soakTime()); time.Now().Before(end); {
		victim := rnd.IntN(3)
		others := slices.DeleteFunc([]int{0, 1, 2}, func(i int) bool { return i == victim })
		var back func()
		switch rnd.IntN(4) {
		case 0:
			f.gates[victim].kill()
			back = f.gates[victim].start
		case 1:
			f.signal(victim, syscall.SIGSTOP)
			back = func() { f.signal(victim, syscall.SIGCONT) }
		case 2:
			f.hoses[victim].set(true)
			back = func() { f.hoses[victim].set(false) }
		default:
			back = func() {}
		}
		for range 3 {
			user := f.users[rnd.IntN(len(f.users))]
			to := map[string]string{"old": "new", "new": "old"}[f.look(user).side]
			by, began := f.gates[others[rnd.IntN(2)]], make(chan struct{})
			go func() {
				defer close(began)
				if _, err := f.move(by, user, to); err != nil {
					refused++
				} else {
					flips++
				}
			}()
			select {
			case <-began:
			case <-time.After(time.Duration(rnd.IntN(6000)) * time.Millisecond): // something else happens meanwhile
				back()
				back = func() {}
				<-began
			}
		}
		back()
		f.until("all are there", func() bool {
			var list []admin.NodeInfo
			if ask(f.gates[0], http.MethodGet, "/nodes", nil, &list) != nil || len(list) != 3 {
				return false
			}
			return !slices.ContainsFunc(list, func(n admin.NodeInfo) bool { return n.SilentSeconds > 0 })
		})
		for _, u := range f.users {
			f.settle(f.gates[rnd.IntN(3)], u)
		}
	}
	t.Logf("%d flips were answered, %d not, %d sessions", flips, refused, stop())
}

// soakTime is five minutes, or what MAILGATE_SOAK says, such as 1h.
func soakTime() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("MAILGATE_SOAK")); err == nil {
		return d
	}
	return 5 * time.Minute
}
