package main

import (
	"strings"
	"testing"
	"time"
)

// TestKeptStalls: a pass and a look that make no headway give up their turn, the user fails in plain words, others go on, and all is made up
// for when the host is well.
func TestKeptStalls(t *testing.T) {
	users := []string{"alice@example.com", "bob@example.com"}
	m := newMemory(t, users...)
	m.keeps(", passes: 1")
	g := m.serve()
	kp := g.syncing.keeping
	phase := func(user, p string) func() bool {
		return func() bool { s := g.syncing.Status(user); return s != nil && s.Phase == p && !s.Running }
	}
	for _, u := range users {
		until(t, "converged", phase(u, "converged"))
	}
	if _, err := m.ask(g, "pause", users[1]); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing under way", func() bool { return !g.syncing.Status(users[0]).Running })
	stall := func(d time.Duration) {
		kp.mu.Lock()
		defer kp.mu.Unlock()
		kp.stall = d
	}
	for round, hinted := range []bool{false, true} { // a look, and a pass
		stall(300 * time.Millisecond)
		m.relay.block()
		if hinted {
			m.deliver(0, users[0], 3)
			kp.k.Hint(users[0])
		}
		until(t, "failing", phase(users[0], "failing"))
		if s := g.syncing.Status(users[0]); !strings.Contains(s.Error, "made no headway") || !strings.Contains(s.Do, "only down for a while") {
			t.Errorf("%+v", s)
		}
		stall(time.Minute)
		m.relay.unblock()
		kp.k.Again()
		until(t, "converged again", func() bool {
			return phase(users[0], "converged")() && len(inboxSubjects(t, m.hosts[1].IMAP, users[0])) == 3*round
		})
	}
}
