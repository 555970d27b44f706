package proxy

import (
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/router"
)

// brokenBoundary is a tracker with a fault.
type brokenBoundary struct{ imapBoundary }

func (b *brokenBoundary) Client(p []byte, stop bool) int {
	if strings.Contains(string(p), "fault") {
		panic("injected")
	}
	return b.imapBoundary.Client(p, stop)
}

func (b *brokenBoundary) Server(p []byte) []byte {
	if strings.Contains(string(p), "fault") {
		panic("injected")
	}
	return b.imapBoundary.Server(p)
}

// TestPanicInSplice: a fault in one session ends that one, for both its ends and for a drain, and no other.
func TestPanicInSplice(t *testing.T) {
	for name, from := range map[string][2][]byte{"client's bytes": {[]byte("a fault\r\n"), nil}, "server's bytes": {nil, []byte("* fault\r\n")}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{gone: true, panics: true, old: ends("old", "C: d NOOP\nS: d OK fine")})
			other := r.in()
			l, err := newLink(r.Server, quiet(t), quiet(t), &brokenBoundary{})
			if err != nil {
				t.Fatal(err)
			}
			login, err := r.router.Begin("broken@example.com")
			if err != nil {
				t.Fatal(err)
			}
			place, _, err := login.Route(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			sess, err := login.Admit(place, router.Details{Protocol: config.IMAP, Mailbox: true}, l)
			if err != nil {
				t.Fatal(err)
			}
			l.start(sess, r.Server.log, from[0], from[1])
			r.logged("panic in a session", "injected")
			done, err := r.router.Fence("broken@example.com", 1, "Moving")
			if err != nil {
				t.Fatal(err)
			}
			drained(t, done)
			r.logged("session end", "broken@example.com", "reason=panic")
			other.Dialogue("C: d NOOP\nS: d OK fine")
			r.rec.mu.Lock()
			defer r.rec.mu.Unlock()
			if strings.Join(r.rec.violated, " ") != "panic" {
				t.Errorf("violations %q", r.rec.violated)
			}
		})
	}
}
