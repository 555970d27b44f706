package main

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKeptStoreLocked: while the store cannot be written passes fail, say so, and are in nobody's way; then all is made up for.
func TestKeptStoreLocked(t *testing.T) {
	t.Parallel()
	const user = "alice@example.com"
	m := newMemory(t, user)
	m.keeps("")
	m.deliver(0, user, 3)
	g := m.serve()
	status := func() string { s := g.syncing.Status(user); return s.Phase }
	until(t, "converged", func() bool { return status() == "converged" })
	db, err := sql.Open("sqlite", "file:"+filepath.Join(m.dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(context.Background(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	m.deliver(0, user, 3)
	g.syncing.keeping.k.Hint(user)
	until(t, "a pass", func() bool { return g.syncing.Status(user).Running })
	for n := range 3 {
		time.Sleep(time.Duration(n) * 400 * time.Millisecond)
		began := time.Now()
		if _, err := m.ask(g, "plan", user); err != nil {
			t.Errorf("plan: %v", err)
		}
		t.Logf("plan took %s", time.Since(began))
	}
	until(t, "failing", func() bool { return status() == "failing" })
	if s := g.syncing.Status(user); !strings.Contains(s.Error, "locked") || !strings.Contains(s.Do, "see to the store") {
		t.Errorf("%+v", s)
	}
	if _, err := m.ask(g, "pause", user); err == nil {
		t.Error("paused, and not written anywhere")
	}
	if s := g.syncing.Status(user); s.Phase == "paused" {
		t.Errorf("%+v", s)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	g.syncing.keeping.k.Again()
	until(t, "converged again", func() bool { return status() == "converged" && len(inboxSubjects(t, m.hosts[1].IMAP, user)) == 6 })
}
