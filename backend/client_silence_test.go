package backend

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// TestPatience: how long silence is put up with goes by what is asked, and of several commands the longest counts.
func TestPatience(t *testing.T) {
	c := &Client{}
	for _, x := range []struct {
		command Command
		want    time.Duration
	}{
		{Command{name: "NOOP"}, time.Minute},
		{Command{name: "SELECT"}, 2 * time.Minute},
		{Command{name: "UID FETCH"}, 2 * time.Minute},
		{Command{name: "UID STORE"}, 5 * time.Minute},
		{Command{name: "UID EXPUNGE"}, 5 * time.Minute},
		{Command{name: "APPEND", append: true}, 10 * time.Minute},
		{Command{name: "STATUS"}, 10 * time.Minute},
	} {
		c.outstanding = append(c.outstanding, &x.command)
		if got := c.patience(); got != x.want {
			t.Errorf("with %s: %s, want %s", x.command.name, got, x.want)
		}
	}
}

// TestWatchfulConnection: the system finds out within a minute that the machine behind one of the syncer's connections is gone.
func TestWatchfulConnection(t *testing.T) {
	s := startDoor(t, "")
	c, err := testDialer(t, config.Plain, "", s.Script).DialClient(t.Context(), config.Old, "", Account{Credentials: who(t).Credentials, LoginName: "u"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	socketHas(t, c.conn, map[string][3]int{"on": {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1}, "idle": {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 30},
		"interval": {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 10}, "count": {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
		"unacknowledged": {syscall.IPPROTO_TCP, tcpUserTimeout, 60000}})
}

// TestMuteHost: a host that lets in and then says nothing is left alone by the syncer after three silences in a row, for longer and longer,
// and tried by one connection then; people's logins go on. One answer about mail, and all is well again.
func TestMuteHost(t *testing.T) {
	var well atomic.Bool
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
		k.Dialogue(letIn + "C: $e NOOP\nS: $e OK\nC: $x LIST ...\n")
		if well.Load() {
			k.Dialogue("S: $x OK\n")
		}
		k.Silent()
	}).AllowGone()
	d := testDialer(t, config.Plain, "", s)
	ask := func() error {
		c, err := d.DialClient(t.Context(), config.Old, "", Account{Credentials: who(t).Credentials, LoginName: "u"})
		if err != nil {
			return err
		}
		defer c.Close()
		c.hurry(50 * time.Millisecond)
		c.Noop()
		return c.List(t.Context(), ListOptions{}, func(ListEntry) error { return nil })
	}
	for range 3 {
		var silent *SilenceError
		if err := ask(); !errors.As(err, &silent) || silent.Command != "LIST" || silent.Host != "a" || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%v", err)
		}
	}
	if err := ask(); !errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "has said nothing") {
		t.Errorf("the fourth: %v", err)
	}
	c, err := d.DialIMAP(t.Context(), config.Old, "", who(t))
	if err != nil {
		t.Fatalf("people are shut out: %v", err)
	}
	c.Close()
	h := d.sides[config.Old].Load().hosts[0].health
	h.mu.Lock()
	h.deaf[0].until = time.Now()
	h.mu.Unlock()
	well.Store(true)
	for range 3 {
		if err := ask(); err != nil {
			t.Errorf("well again: %v", err)
		}
	}
}

// TestMuteLogin: a host that greets and then says nothing to a login is such a host too.
func TestMuteLogin(t *testing.T) {
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
		k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] x\nC: $l AUTHENTICATE PLAIN ...\n")
		k.Silent()
	}).AllowGone()
	b := testBackends(config.Plain, "", s)
	b[config.Old].LoginTimeout = 50 * time.Millisecond
	d, err := NewDialer(b, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for range deafAfter + 1 {
		_, last = d.DialClient(t.Context(), config.Old, "", Account{Credentials: who(t).Credentials, LoginName: "u"})
	}
	if !errors.Is(last, ErrDown) {
		t.Errorf("the syncer goes on waiting there: %v", last)
	}
	for range deafAfter + 1 {
		if _, err := d.DialIMAP(t.Context(), config.Old, "", who(t)); err == nil || errors.Is(err, ErrDown) {
			t.Errorf("people: %v", err)
		}
	}
}

// TestMutePause: the pauses grow, and behind each of them one connection tries.
func TestMutePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{}
		listens := func() bool {
			_, ok := h.listens(config.IMAP, time.Now())
			return ok
		}
		for range 2 {
			h.muted(config.IMAP, os.ErrDeadlineExceeded)
			if !listens() {
				t.Error("it may be a mailbox's silence")
			}
		}
		for _, pause := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute} {
			h.muted(config.IMAP, os.ErrDeadlineExceeded)
			time.Sleep(pause - time.Second)
			if listens() {
				t.Errorf("asked again before %s are over", pause)
			}
			time.Sleep(time.Second)
			if !listens() || listens() {
				t.Errorf("behind %s it is not one that tries", pause)
			}
			time.Sleep(time.Minute) // who tried has ended without having asked a thing
			if !listens() {
				t.Error("nobody may try any more")
			}
		}
		h.heard(config.IMAP)
		for range 2 {
			if !listens() {
				t.Error("it has answered")
			}
		}
	})
}
