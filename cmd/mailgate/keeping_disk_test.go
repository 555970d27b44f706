package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
)

// TestKeptFullDisk: while the store's disk is full people log in and read, passes fail and say why in plain words, what they have done is
// not lost, and all is made up for by itself when there is room again, each message once.
func TestKeptFullDisk(t *testing.T) {
	users := []string{"alice@example.com", "bob@example.com"}
	m := newMemory(t, users...)
	disk := filepath.Join(m.dir, "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=3m"); err != nil {
		t.Fatalf("a small disk to fill: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	m.write("mailgate.yaml", strings.Replace(mustRead(t, m.dir+"/mailgate.yaml"), "path: state.db", "path: disk/state.db", 1))
	m.keeps("")
	for _, u := range users {
		m.deliver(0, u, 20)
	}
	g := m.serve()
	phase := func(p string) func() bool {
		return func() bool { return g.syncing.keeping.overview().Phases[p] == len(users) }
	}
	until(t, "converged", phase("converged"))
	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 512))
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	want := map[string][]string{}
	for round := range 6 {
		for _, u := range users {
			text := fmt.Appendf(nil, "From: x@example.com\r\nSubject: full %d of %s\r\n\r\n%s\r\n", round, u, strings.Repeat("x", 500))
			if err := m.hosts[0].Deliver(u, text); err != nil {
				t.Fatal(err)
			}
			g.syncing.keeping.k.Hint(u)
		}
		g.syncing.keeping.k.Again()
		if round == 0 {
			until(t, "passes fail", phase("failing"))
		}
		c, err := imapclient.DialInsecure(g.listeners[0].Address(), nil) // through the gateway
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Login(users[0], "a").Wait(); err != nil {
			t.Errorf("a login while the disk is full: %v", err)
		}
		if box, err := c.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != uint32(21+round) {
			t.Errorf("%+v, %v", box, err)
		}
		c.Close()
	}
	for _, u := range users {
		if s := g.syncing.Status(u); s.Phase != "failing" || !strings.Contains(s.Error, "full") || !strings.Contains(s.Do, "disk is full") {
			t.Errorf("%+v", s)
		}
		want[u] = inboxSubjects(t, m.hosts[0].IMAP, u)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	g.syncing.keeping.k.Again()
	until(t, "converged again", phase("converged"))
	for _, u := range users {
		until(t, "all is there", func() bool { return slices.Equal(inboxSubjects(t, m.hosts[1].IMAP, u), want[u]) })
		if got := inboxSubjects(t, m.hosts[0].IMAP, u); !slices.Equal(got, want[u]) {
			t.Errorf("OLD has %q", got)
		}
		if v, err := m.ask(g, "verify", u); err != nil {
			t.Errorf("%+v, %v", v, err)
		}
	}
}
