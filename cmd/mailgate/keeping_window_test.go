package main

import (
	"fmt"
	"testing"
	"time"
)

// TestKeptWindowAtStart: where serve begins outside of the time for first copies, none is begun.
func TestKeptWindowAtStart(t *testing.T) {
	var users []string
	for i := range 12 {
		users = append(users, fmt.Sprintf("u%d@example.com", i))
	}
	m := newMemory(t, users...)
	m.keeps(fmt.Sprintf(", windows: [%q], passes: 12", notNow()))
	for _, u := range users {
		m.deliver(0, u, 3)
	}
	g := m.serve()
	time.Sleep(time.Second)
	for _, u := range users {
		if n := len(inboxSubjects(t, m.hosts[1].IMAP, u)); n > 0 {
			t.Errorf("%s: %d messages are copied", u, n)
		}
		if s := g.syncing.keeping.status(u); s == nil || s.Phase != "first copy" || s.Opens.IsZero() {
			t.Errorf("%s: %+v", u, s)
		}
	}
}
