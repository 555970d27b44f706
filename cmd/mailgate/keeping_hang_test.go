package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// silent is a host that takes connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// TestKeptSilence: a host that stops talking in the middle of passes holds up no verb, no flip, no reload, no look and no end for longer
// than it takes to let go of it.
func TestKeptSilence(t *testing.T) {
	users := []string{"alice@example.com", "bob@example.com"}
	m := newMemory(t, users...)
	m.keeps("")
	for _, u := range users {
		m.deliver(0, u, 30)
	}
	g := m.serve()
	for _, u := range users {
		until(t, "converged", func() bool { s := g.syncing.Status(u); return s != nil && s.Phase == "converged" && !s.Running })
	}
	m.relay.block()
	hang := func(user string) {
		t.Helper()
		g.syncing.keeping.k.Hint(user)
		under := func() bool {
			g.syncing.mu.Lock()
			defer g.syncing.mu.Unlock()
			return g.syncing.passes[user] != nil
		}
		until(t, "a pass", under)
		if time.Sleep(300 * time.Millisecond); !under() {
			t.Error("the pass does not hang")
		}
	}
	quick := func(what string, limit time.Duration, f func()) {
		t.Helper()
		began := time.Now()
		f()
		took := time.Since(began)
		t.Logf("%s took %s", what, took.Round(time.Millisecond))
		if took > limit {
			t.Errorf("%s took %s", what, took)
		}
	}
	hang(users[0])
	quick("a verb's entry", 7*time.Second, func() {
		_, leave, err := g.syncing.enter(t.Context(), users[0], false)
		if err != nil {
			t.Error(err)
			return
		}
		leave()
	})
	hang(users[1])
	quick("status", time.Second, func() { g.syncing.Status(users[1]); g.syncing.keeping.overview() })
	quick("a reload", 2*time.Second, func() {
		m.write("mailgate.yaml", mustRead(t, m.dir+"/mailgate.yaml")+"\n")
		if _, err := g.Reload(t.Context(), "test", ""); err != nil {
			t.Error(err)
		}
	})
	quick("a flip, which needs both hosts", 20*time.Second, func() {
		o, err := g.manager().Request(t.Context(), users[1], config.New, "test", true)
		if err == nil {
			o, err = g.manager().Wait(t.Context(), o.ID)
		}
		if err != nil || o.Status != op.Failed {
			t.Errorf("%+v, %v", o, err)
		}
	})
	m.relay.unblock()
	until(t, "passes again", func() bool {
		s := g.syncing.Status(users[1])
		return s.Phase == "converged" && !s.Running && s.LagSeconds == 0
	})
}

// TestKeptSilentNew: NEW takes connections and says nothing. Verbs tell that, and are not refused because of the passes that wait for it.
func TestKeptSilentNew(t *testing.T) {
	var users []string
	for n := range 20 {
		users = append(users, fmt.Sprintf("%c%d@example.com", 'a'+n, n))
	}
	m := newMemory(t, users...)
	m.keeps("")
	text := mustRead(t, m.dir+"/mailgate.yaml")
	dead := strings.Replace(text, m.hosts[1].IMAP, silent(t), 1)
	m.write("mailgate.yaml", strings.Replace(dead, "sync: {secrets: secrets}}\nroutes", "sync: {secrets: secrets}, connect_timeout: 1s}\nroutes", 1))
	m.deliver(0, users[0], 1)
	g := m.serve()
	until(t, "all fail", func() bool { return g.syncing.keeping.overview().Phases["failing"] == len(users) })
	for _, u := range users[:4] {
		if _, err := m.ask(g, "verify", u); exitCode(err) != exitUnknown {
			t.Errorf("%d %v", exitCode(err), err)
		}
	}
	if s := g.syncing.Status(users[0]); s.Tries == 0 || !strings.HasPrefix(s.Error, "new: ") || !strings.Contains(s.Do, "only down") {
		t.Errorf("%+v", s)
	}
	m.write("mailgate.yaml", text)
	if _, err := g.Reload(t.Context(), "test", ""); err != nil {
		t.Fatal(err)
	}
	until(t, "all are there", func() bool { return g.syncing.keeping.overview().Phases["converged"] == len(users) })
}
