package router

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"mailgate/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ender is a session that notes what it is asked, and ends when told to.
type ender struct {
	mu      sync.Mutex
	asked   []Pressure
	resumed int
	on      func(Pressure) // called for each End, may be nil
}

func (e *ender) End(p Pressure, _ string) {
	e.mu.Lock()
	e.asked = append(e.asked, p)
	on := e.on
	e.mu.Unlock()
	if on != nil {
		on(p)
	}
}

func (e *ender) Resume() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resumed++
}

func (e *ender) seen() (asked []Pressure, resumed int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Pressure(nil), e.asked...), e.resumed
}

const alice = "alice@example.com"

func allOld(string) config.Side { return config.Old }

var client = netip.MustParseAddrPort("192.0.2.1:40000")

func mailbox(a netip.AddrPort) Details {
	return Details{Protocol: config.IMAP, Mailbox: true, Client: a}
}

func submission() Details { return Details{Protocol: config.Submission, Client: client} }

func begin(t testing.TB, r *Router, user string) *Login {
	t.Helper()
	l, err := r.Begin(user)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func route(t testing.TB, l *Login) (Place, context.Context) {
	t.Helper()
	p, ctx, err := l.Route(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p, ctx
}

// session logs a user in.
func session(t testing.TB, r *Router, user string, d Details, e Ender) *Session {
	t.Helper()
	l := begin(t, r, user)
	defer l.End()
	p, _ := route(t, l)
	s, err := l.Admit(p, d, e)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fence(t testing.TB, r *Router, user string, generation int64) <-chan struct{} {
	t.Helper()
	c, err := r.Fence(user, generation, "moving")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func wantErr(t tester, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// tester is what *testing.T and *rapid.T have in common here.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
}
