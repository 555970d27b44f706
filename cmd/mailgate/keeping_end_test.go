package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// start runs mailgate serve in this process until stop, which waits for its end.
func (m *memory) start() (g *gateway, stop func()) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan *gateway, 1), make(chan error, 1)
	log := &syncBuffer{}
	p := &program{in: strings.NewReader(""), out: log, err: log, file: filepath.Join(m.dir, "mailgate.yaml")}
	go func() { done <- p.serve(ctx, func(g *gateway) { ready <- g }) }()
	select {
	case g = <-ready:
	case err := <-done:
		m.t.Fatal(err)
	}
	return g, func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Error(err)
		}
	}
}

// TestKeptEnds: serve ends in the time that it is given (shutdown: 1s here, and what the end itself needs), though passes are under way at
// hosts that say nothing any more, and the store cannot be written.
func TestKeptEnds(t *testing.T) {
	var users []string
	for n := range 6 {
		users = append(users, fmt.Sprintf("%c%d@example.com", 'a'+n, n))
	}
	m := newMemory(t, users...)
	far, err := newGatedRelay(m.hosts[1].IMAP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(far.close)
	text := strings.Replace(mustRead(t, m.dir+"/mailgate.yaml"), m.hosts[1].IMAP, far.addr(), 1)
	m.write("mailgate.yaml", text)
	m.keeps(", passes: 6")
	g, stop := m.start()
	until(t, "all are there", func() bool { return g.syncing.keeping.overview().Phases["converged"] == len(users) })
	m.relay.block()
	far.block()
	for _, u := range users {
		m.deliver(0, u, 3)
		g.syncing.keeping.k.Hint(u)
	}
	until(t, "passes", func() bool {
		g.syncing.mu.Lock()
		defer g.syncing.mu.Unlock()
		return len(g.syncing.passes) == len(users)
	})
	time.Sleep(300 * time.Millisecond)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(m.dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(context.Background(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop()
	took := time.Since(began)
	t.Logf("it took %s", took)
	if took > 5*time.Second {
		t.Errorf("the end took %s", took)
	}
}
