package backend

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// door is a server that takes so many connections, and sends the others away as told.
type door struct {
	*mailtest.Script
	shut atomic.Bool
}

// startDoor greets and lets in while it is not shut; away is what it does then.
func startDoor(t *testing.T, away string) *door {
	d := &door{}
	d.Script = mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
		if d.shut.Load() {
			if away != "" {
				k.Dialogue(away)
			}
			return
		}
		k.Dialogue(letIn + "!silent\n")
	}).AllowGone()
	return d
}

func broken(d *Dialer) bool { return d.Health(config.Old, config.IMAP)[0].Error != "" }

// TestCrowdedIsNotDown: a host that sends us away while connections of ours stand there is crowded: its circuit stays closed, for users
// and for the syncer, and a look at it changes nothing. When none stands any more it counts for users, and for the syncer it does not.
func TestCrowdedIsNotDown(t *testing.T) {
	for name, away := range map[string]string{"BYE": "S: * BYE Maximum number of connections from user+IP exceeded\n", "closes": ""} {
		t.Run(name, func(t *testing.T) {
			s := startDoor(t, away)
			d := testDialer(t, config.Plain, "", s.Script)
			dial := func() error {
				c, err := d.DialIMAP(t.Context(), config.Old, "", who(t))
				if err == nil {
					c.Close()
				}
				return err
			}
			sync := func() error {
				c, err := d.DialClient(t.Context(), config.Old, "", Account{Credentials: who(t).Credentials, LoginName: "u"})
				if err == nil {
					_ = c.Close()
				}
				return err
			}
			stands, err := d.DialIMAP(t.Context(), config.Old, "", who(t))
			if err != nil {
				t.Fatal(err)
			}
			s.shut.Store(true)
			for range 2 * breakAfter {
				if err := errors.Join(dial(), sync()); err == nil || errors.Is(err, ErrDown) {
					t.Fatalf("while one stands: %v", err)
				}
				if seen := d.Probe(t.Context(), config.Old, config.IMAP, "a", "x"); seen.Err == nil || !seen.Crowded {
					t.Fatalf("a look: %+v", seen)
				}
			}
			if broken(d) {
				t.Error("crowded is taken for down")
			}
			stands.Close()
			for range 2 * breakAfter {
				if err := sync(); err == nil || errors.Is(err, ErrDown) {
					t.Fatalf("while none stands: %v", err)
				}
			}
			if broken(d) {
				t.Error("the syncer was sent away, and users are shut out")
			}
			for range breakAfter {
				if err := dial(); err == nil || errors.Is(err, ErrDown) {
					t.Fatal(err)
				}
			}
			if err := dial(); !errors.Is(err, ErrDown) {
				t.Errorf("a host that sends everybody away: %v", err)
			}
			if err := sync(); !errors.Is(err, ErrDown) {
				t.Errorf("the syncer asks a host that is down: %v", err)
			}
		})
	}
}

// TestDeadHostCountsForAll: a host that cannot be reached, or says nothing, shuts the circuit whoever finds out.
func TestDeadHostCountsForAll(t *testing.T) {
	dead := mailtest.StartScript(t, nil, nil)
	dead.Close()
	mute := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Silent() }).AllowGone()
	for name, host := range map[string]*mailtest.Script{"refuses": dead, "says nothing": mute} {
		t.Run(name, func(t *testing.T) {
			b := testBackends(config.Plain, "", host)
			b[config.Old].ConnectTimeout = 50 * time.Millisecond
			d, err := NewDialer(b, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			var last error
			for range breakAfter + 1 {
				_, last = d.DialClient(t.Context(), config.Old, "", Account{Credentials: who(t).Credentials, LoginName: "u"})
			}
			if !errors.Is(last, ErrDown) {
				t.Errorf("%v", last)
			}
		})
	}
}

// TestOddHostIsForUsersToFindOut: what the syncer alone does not get along with is no reason to shut users out.
func TestOddHostIsForUsersToFindOut(t *testing.T) {
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue("S: ? what is this\n") }).AllowGone()
	d := testDialer(t, config.Plain, "", s)
	for range 2 * breakAfter {
		if _, err := d.DialClient(t.Context(), config.Old, "", Account{Credentials: who(t).Credentials, LoginName: "u"}); errors.Is(err, ErrDown) {
			t.Fatal(err)
		}
	}
	if _, err := d.DialIMAP(t.Context(), config.Old, "", who(t)); err == nil || !broken(d) {
		t.Errorf("%v, and nothing is known", err)
	}
}

// TestBreakerOutlivesDefects: an attempt that ends in a defect does not keep others from trying for ever.
func TestBreakerOutlivesDefects(t *testing.T) {
	s := startDoor(t, "")
	d := testDialer(t, config.Plain, "", s.Script)
	h := d.sides[config.Old].Load().hosts[0]
	h.of[0] = service{fails: breakAfter, why: "of a test"}
	func() {
		defer func() { _ = recover() }()
		_, _ = d.connectAnd(t.Context(), config.Old, config.IMAP, "", forUser(netip.AddrPort{}), func(_ context.Context, c *conn) error {
			defer c.Close()
			panic("of a test")
		})
	}()
	c, err := d.DialIMAP(t.Context(), config.Old, "", who(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if h.serves(config.IMAP) {
		t.Error("a connection that was closed stands")
	}
}

// tardy is a context whose end has come and is not noticed yet.
type tardy struct{ context.Context }

func (tardy) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

// TestOwnEndIsNoVerdict: a connection that has no time left fails a moment ahead of the end of its context, and says nothing of the host.
func TestOwnEndIsNoVerdict(t *testing.T) {
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(letIn + "!silent") }).AllowGone()
	d := testDialer(t, config.Plain, "", s)
	for range breakAfter + 2 {
		var e *Error
		if _, err := d.DialIMAP(tardy{t.Context()}, config.Old, "", who(t)); !errors.As(err, &e) || errors.Is(err, ErrDown) {
			t.Fatalf("%v", err)
		}
	}
	c, err := d.DialIMAP(t.Context(), config.Old, "", who(t))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
