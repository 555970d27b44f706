package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/store"
	"mailgate/syncer"
)

// keeps makes the users of a memory kept.
func (m *memory) keeps(more string) {
	m.t.Helper()
	text := mustRead(m.t, m.dir+"/mailgate.yaml")
	m.write("mailgate.yaml", strings.Replace(text, "sync: {settle: 50ms}", "sync: {settle: 50ms, waves: [pilot], poll: 1s"+more+"}", 1))
}

// ask is a verb.
func (m *memory) ask(g *gateway, verb, user string) (any, error) {
	return g.syncing.Sync(m.t.Context(), verb, url.Values{"user": {user}, "by": {"test"}}, func(any) {})
}

func (m *memory) events(g *gateway, user string) (out []string) {
	m.t.Helper()
	list, err := g.store.History(m.t.Context(), op.HistoryFilter{User: user})
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range list {
		out = append(out, e.What)
	}
	return out
}

// TestKeptThroughFlips lets flips, passes that begin by themselves, verbs, pauses and reloads race. No verb is refused because of what
// began by itself, nobody is fenced while a pass is under way, and in the end nothing is lost or doubled.
func TestKeptThroughFlips(t *testing.T) {
	t.Parallel()
	users := []string{"alice@example.com", "bob@example.com", "carol@example.com"}
	m := newMemory(t, users...)
	m.keeps("")
	for _, u := range users {
		m.deliver(0, u, 30)
	}
	g := m.serve()
	var over atomic.Bool
	var others, flippers sync.WaitGroup
	flip := func(user string, times int) {
		side := config.New
		for range times {
			o, err := g.manager().Request(t.Context(), user, side, "test", true)
			if err == nil {
				o, err = g.manager().Wait(t.Context(), o.ID)
			}
			if err != nil || o.Status != op.Done {
				t.Errorf("flip: %+v, %v", o, err)
			}
			side = side.Other()
		}
	}
	flippers.Go(func() { flip(users[0], 200) })
	// Verbs over somebody who is not moved: nothing may be in their way.
	for user, verb := range map[string]string{users[1]: "verify", users[2]: "run"} {
		others.Go(func() {
			for n := 0; !over.Load(); n++ {
				if n%3 == 2 {
					g.syncing.keeping.k.Hint(user)
					time.Sleep(time.Duration(480+n%40) * time.Millisecond)
				}
				if _, err := m.ask(g, verb, user); err != nil {
					t.Errorf("%s: %v", verb, err)
				}
			}
		})
	}
	others.Go(func() { // reloads, some of which take everybody out of the wave
		text := mustRead(t, m.dir+"/mailgate.yaml")
		for n := 0; !over.Load(); n++ {
			now := text
			if n%2 == 0 {
				now = strings.Replace(text, "waves: [pilot]", "waves: []", 1)
			}
			m.write("mailgate.yaml", now)
			if _, err := g.Reload(t.Context(), "test", ""); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Duration(n%7*40) * time.Millisecond)
		}
		m.write("mailgate.yaml", text)
		if _, err := g.Reload(t.Context(), "test", ""); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		others.Go(func() {
			for !over.Load() {
				for _, verb := range []string{"pause", "resume"} {
					if _, err := m.ask(g, verb, users[0]); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	others.Go(func() { // who looks
		for !over.Load() {
			g.syncing.keeping.overview()
			g.syncing.Status(users[0])
			time.Sleep(time.Millisecond)
		}
	})
	flippers.Wait()
	over.Store(true)
	others.Wait()
	if _, err := m.ask(g, "resume", users[0]); err != nil {
		t.Error(err)
	}
	m.deliver(0, users[0], 1)
	for _, user := range users {
		until(t, "converged", func() bool {
			s := g.syncing.Status(user)
			return s != nil && s.Phase == "converged" && s.LagSeconds == 0 && !s.Running
		})
		if s := g.syncing.Status(user); s.Error != "" || len(s.Broken) > 0 {
			t.Errorf("%+v", s)
		}
		for side := range m.hosts {
			want := 30
			if user == users[0] {
				want++
			}
			until(t, fmt.Sprintf("%d messages of %s on side %d", want, user, side), func() bool { return len(inboxSubjects(t, m.hosts[side].IMAP, user)) == want })
		}
		for _, e := range m.events(g, user) {
			if e == "sync is failing" {
				t.Errorf("%s is said to fail", user)
			}
		}
	}
}

// TestKeptHistory: a restart is no first copy, and who fails and works by turns does not fill the history.
func TestKeptHistory(t *testing.T) {
	m := newMemory(t, "alice@example.com")
	m.keeps("")
	m.deliver(0, "alice@example.com", 1)
	for n := range 2 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			m := *m
			m.t = t
			g := m.serve()
			m.deliver(0, "alice@example.com", 1)
			until(t, "new mail", func() bool { return len(inboxSubjects(t, m.hosts[1].IMAP, "alice@example.com")) == n+2 })
			until(t, "a pass", func() bool { s := g.syncing.Status("alice@example.com"); return !s.Last.IsZero() })
			kp := g.syncing.keeping
			if n > 0 {
				for range 20 {
					kp.note("alice@example.com", nil, errors.New("no such host"))
					kp.note("alice@example.com", &syncer.Report{}, nil)
				}
				kp.mu.Lock()
				kp.users["alice@example.com"].toldAt = time.Now().Add(-2 * tellAgain)
				kp.mu.Unlock()
				for range 3 { // fails for good
					kp.note("alice@example.com", nil, errors.New("no such host"))
				}
			}
		})
	}
	g := m.serve()
	count := map[string]int{}
	for _, e := range m.events(g, "alice@example.com") {
		count[e]++
	}
	if count["first copy done"] != 1 || count["sync is failing"] != 2 || count["sync works again"] > 2 {
		t.Errorf("%v", count)
	}
}

// TestKeptPauseAtOnce: a pass that the keeper has chosen already does not begin when its user is paused, or kept no more, meanwhile.
func TestKeptPauseAtOnce(t *testing.T) {
	m := newMemory(t, "alice@example.com")
	m.keeps("")
	g := m.serve()
	if _, err := m.ask(g, "pause", "alice@example.com"); err != nil {
		t.Fatal(err)
	}
	if _, err := g.syncing.keeping.pass(t.Context(), "alice@example.com", true); !errors.Is(err, errPaused) || !errors.Is(err, syncer.ErrBusy) {
		t.Errorf("paused: %v", err)
	}
	if _, err := g.syncing.keeping.pass(t.Context(), "nobody@example.com", true); !errors.Is(err, errNotKept) || !errors.Is(err, syncer.ErrBusy) {
		t.Errorf("not kept: %v", err)
	}
}

// lateStore answers late what it has read.
type lateStore struct{ store.Store }

func (s lateStore) Pauses(ctx context.Context) ([]syncer.Pause, error) {
	list, err := s.Store.Pauses(ctx)
	time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond)
	return list, err
}

// TestKeptPauseRace: however pauses and resumes race, what is in force in the end is what the store says.
func TestKeptPauseRace(t *testing.T) {
	users := []string{"alice@example.com", "bob@example.com", "carol@example.com"}
	m := newMemory(t, users...)
	m.keeps("")
	log := &syncBuffer{}
	p := &program{in: strings.NewReader(""), out: log, err: log, file: filepath.Join(m.dir, "mailgate.yaml")}
	g, err := p.localSyncing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.closeLocal(context.Background(), false); err != nil {
			t.Error(err)
		}
	}()
	g.store = lateStore{g.store}
	kp := newKeeping(g.syncing)
	for range 20 {
		var wg sync.WaitGroup
		for n := range 12 {
			wg.Go(func() {
				if _, err := kp.pause(t.Context(), users[n%3], "test", "", "", n%2 == 0); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		list, err := g.store.Pauses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		paused := map[string]bool{}
		for _, p := range list {
			paused[p.User] = true
		}
		for _, user := range users {
			if s := kp.status(user); (s.Phase == "paused") != paused[user] || (s.Paused != nil) != paused[user] {
				t.Fatalf("%s: %+v, and the store says %v", user, s, paused[user])
			}
		}
	}
}
