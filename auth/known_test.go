package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a Memory in memory.
type memory struct {
	mu   sync.Mutex
	rows map[pair]time.Time
	down bool
}

var errDown = errors.New("down")

func (m *memory) KnownAddresses(_ context.Context, since time.Time, most int) (out []Known, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, at := range m.rows {
		if at.After(since) {
			out = append(out, Known{p.user, p.addr, at})
		}
	}
	slices.SortFunc(out, func(a, b Known) int { return a.Seen.Compare(b.Seen) })
	return out[max(0, len(out)-most):], nil
}

func (m *memory) KeepAddresses(_ context.Context, seen, gone []Known, before time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errDown
	}
	if m.rows == nil {
		m.rows = map[pair]time.Time{}
	}
	for _, k := range seen {
		m.rows[pair{k.Network, k.User}] = k.Seen
	}
	for _, k := range gone {
		delete(m.rows, pair{k.Network, k.User})
	}
	maps.DeleteFunc(m.rows, func(_ pair, at time.Time) bool { return !at.After(before) })
	return nil
}

func (m *memory) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.rows)
}

func addressOf(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// attack guesses bob's password from many addresses.
func attack(l *Limiter) {
	for i := range 5000 {
		l.Failed(addressOf(1<<20+i), "bob")
	}
}

// TestKnownOverRestart: guessers that are at work when the gateway starts do not slow down who has logged in before, for thirty days.
func TestKnownOverRestart(t *testing.T) {
	l, c := limiter()
	m := &memory{}
	l.Succeeded(home, "bob")
	if _, err := l.keepSome(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		after time.Duration
		known bool
	}{{0, true}, {knownTime - time.Hour, true}, {knownTime, false}} {
		next := NewLimiter(2*time.Second, func() time.Time { return c.now().Add(tt.after) })
		if err := next.Remember(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		attack(next)
		if wait := before(t, next, home, "bob"); (wait == 0) != tt.known {
			t.Errorf("after %s bob waits %s", tt.after, wait)
		}
		if before(t, next, strange, "bob") == 0 {
			t.Error("strangers do not wait")
		}
	}
	attack(l)
	c.t = c.t.Add(knownTime) // without a restart
	attack(l)
	if before(t, l, home, "bob") == 0 {
		t.Error("known without end")
	}
	l.Succeeded(home, "carol")
	if _, err := l.keepSome(t.Context(), m); err != nil || m.count() != 1 {
		t.Errorf("%d rows, %v", m.count(), err)
	}
}

// TestKnownOfOneUser: whoever knows one password, and logs in with it from everywhere, makes the gateway forget nobody else.
func TestKnownOfOneUser(t *testing.T) {
	l, _ := limiter()
	m := &memory{}
	l.Succeeded(home, "bob")
	const n = 5000
	for i := range n {
		l.Succeeded(addressOf(i), "mallory")
	}
	attack(l)
	if wait := before(t, l, home, "bob"); wait != 0 {
		t.Errorf("bob waits %s", wait)
	}
	for {
		more, err := l.keepSome(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
	}
	if rows := m.count(); rows != knownUser+1 || len(l.good.of["mallory"]) != knownUser || len(l.good.todo) != 0 {
		t.Errorf("%d rows, %d addresses of mallory, %d owed", rows, len(l.good.of["mallory"]), len(l.good.todo))
	}
	if !l.good.has(pair{addressOf(n - 1), "mallory"}, l.now()) || l.good.has(pair{addressOf(0), "mallory"}, l.now()) {
		t.Error("it is not the oldest that is forgotten")
	}
}

// TestKeep: it is written within seconds, once a day for who is there always, again when the store was down, and at the end.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimiter(time.Second, nil)
		m := &memory{down: true}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Keep(ctx, m, slog.New(slog.DiscardHandler))
		}()
		for i := range keepBatch + 10 {
			l.Succeeded(addressOf(i), "user"+fmt.Sprint(i))
		}
		time.Sleep(2 * keepEvery)
		synctest.Wait()
		if m.count() != 0 {
			t.Fatal("written to a store that is down")
		}
		m.mu.Lock()
		m.down = false
		m.mu.Unlock()
		time.Sleep(keepEvery)
		synctest.Wait()
		if m.count() != keepBatch+10 {
			t.Errorf("%d rows", m.count())
		}
		at := m.rows[pair{addressOf(1), "user1"}]
		l.Succeeded(addressOf(1), "user1")
		l.mu.Lock()
		if len(l.good.todo) != 0 {
			t.Error("every login is written")
		}
		l.mu.Unlock()
		time.Sleep(knownEvery)
		l.Succeeded(addressOf(1), "user1")
		l.Succeeded(addressOf(1<<20), "last")
		cancel()
		<-done
		if m.count() != keepBatch+11 || !m.rows[pair{addressOf(1), "user1"}].After(at) {
			t.Errorf("%d rows at the end", m.count())
		}
	})
}
