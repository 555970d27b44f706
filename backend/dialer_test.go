package backend

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/tlsconf"
)

// testDialer makes a Dialer whose OLD has one host for each script, named a, b, ...
func testDialer(t testing.TB, mode config.TLSMode, ca string, scripts ...*mailtest.Script) *Dialer {
	t.Helper()
	d, err := NewDialer(testBackends(mode, ca, scripts...), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func testBackends(mode config.TLSMode, ca string, scripts ...*mailtest.Script) [2]config.Backend {
	b := config.Backend{ConnectTimeout: time.Second, LoginTimeout: time.Second, CA: ca}
	for i, s := range scripts {
		host, _, _ := strings.Cut(s.Addr, ":")
		b.Hosts = append(b.Hosts, config.Host{Name: string(rune('a' + i)),
			IMAP: config.Endpoint{Protocol: config.IMAP, Mode: mode, Host: host, Port: s.Port()}})
	}
	return [2]config.Backend{b, {}}
}

func who(t testing.TB) LoginIMAP {
	t.Helper()
	c, err := auth.Password("PLAIN", "u@example.com", "pw")
	if err != nil {
		t.Fatal(err)
	}
	return LoginIMAP{Credentials: c, LoginName: "u@example.com", ClientAddr: netip.MustParseAddrPort("192.0.2.1:1")}
}

const letIn = "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] x\nC: $l AUTHENTICATE PLAIN ...\nS: $l OK [CAPABILITY IMAP4rev1 IDLE] in\n"

// TestTLSTowardsBackends: implicit and STARTTLS, verified; nothing is opportunistic.
func TestTLSTowardsBackends(t *testing.T) {
	cert, _, server, _ := mailtest.Certificate(t, t.TempDir())
	strange, _, _, _ := mailtest.Certificate(t, t.TempDir())
	for name, tt := range map[string]struct {
		mode config.TLSMode
		ca   string
		step Step // "" means that it works
		kind Kind
	}{
		"implicit":                   {mode: config.Implicit, ca: cert},
		"STARTTLS":                   {mode: config.StartTLS, ca: cert},
		"implicit, signed by nobody": {mode: config.Implicit, ca: strange, step: StepTLS, kind: Refused},
		"STARTTLS, signed by nobody": {mode: config.StartTLS, ca: strange, step: StepTLS, kind: Refused},
		"in clear, but it is TLS":    {mode: config.Plain, step: StepBanner, kind: Temporary},
	} {
		t.Run(name, func(t *testing.T) {
			first := server
			if tt.mode == config.StartTLS {
				first = nil
			}
			s := mailtest.StartScript(silentTB{t}, first, func(k *mailtest.Talk) {
				if tt.mode == config.StartTLS {
					k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] x\nC: $s STARTTLS\nS: $s OK go")
					k.StartTLS(server)
					k.Dialogue("C: $c CAPABILITY\nS: * CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\nS: $c OK\nC: $l AUTHENTICATE ...\nS: $l OK [CAPABILITY IMAP4rev1 IDLE] in")
				} else {
					k.Dialogue(letIn)
				}
				k.Silent()
			}).AllowGone()
			c, err := testDialer(t, tt.mode, tt.ca, s).DialIMAP(t.Context(), config.Old, "", who(t))
			var e *Error
			if tt.step == "" && err != nil || tt.step != "" && (!errors.As(err, &e) || e.Step != tt.step || e.Kind != tt.kind) {
				t.Fatalf("%v; want step %q, kind %d", err, tt.step, tt.kind)
			}
			if err == nil {
				c.Close()
			}
		})
	}
}

// silentTB takes a script's errors for granted: a peer that refuses a handshake is one.
type silentTB struct{ testing.TB }

func (silentTB) Errorf(string, ...any) {}

// TestCancel: a context that ends, ends a login at once, whatever the backend does, and says nothing of its health.
func TestCancel(t *testing.T) {
	for name, text := range map[string]string{
		"before the banner": "!fire here\n!silent",
		"at login":          "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] x\nC: $l ...\n!fire here\n!silent",
	} {
		t.Run(name, func(t *testing.T) {
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(text) })
			d := testDialer(t, config.Plain, "", s)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				s.Await("here")
				cancel()
			}()
			start := time.Now()
			_, err := d.DialIMAP(ctx, config.Old, "", who(t))
			if err == nil || time.Since(start) > 800*time.Millisecond {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if h := d.Health(config.Old, config.IMAP); h[0].Error != "" {
				t.Errorf("health: %v", h)
			}
			s.Await("end 1") // the connection is closed
		})
	}
}

// TestProbe: what a look at the hosts tells: the capabilities that all have, who is ill, and that a look is not counted.
func TestProbe(t *testing.T) {
	talk := func(caps string) func(*mailtest.Talk) {
		return func(k *mailtest.Talk) {
			k.Dialogue("S: * OK ready\nC: $c CAPABILITY\nS: * CAPABILITY " + caps + "\nS: $c OK\nC: $o LOGOUT\nS: * BYE")
		}
	}
	a := mailtest.StartScript(t, nil, talk("IMAP4rev1 IDLE MOVE Sort"))
	b := mailtest.StartScript(t, nil, talk("IMAP4rev1 SORT MOVE NAMESPACE"))
	dead := mailtest.StartScript(t, nil, nil)
	dead.Close()
	d := testDialer(t, config.Plain, "", a, b)
	if !d.Refresh(t.Context(), "x") {
		t.Error("not all were seen")
	}
	if got := d.Features(config.Old).IMAP; !slices.Equal(got, []string{"IMAP4REV1", "MOVE", "SORT"}) {
		t.Errorf("common: %v", got)
	}
	if err := d.Update(testBackends(config.Plain, "", a, dead)); err != nil {
		t.Fatal(err)
	}
	if d.Refresh(t.Context(), "x") {
		t.Error("a dead host was not noticed")
	}
	h := d.Health(config.Old, config.IMAP)
	if h[0].Error != "" || !strings.Contains(h[1].Error, "refused") {
		t.Errorf("health: %v", h)
	}
	if got := d.Features(config.Old).IMAP; !slices.Contains(got, "IDLE") {
		t.Errorf("of those that are well: %v", got)
	}
}

// TestBreakerTriesOne: behind an open circuit one login at a time tries; when it gets in all do. Those that were let through before the
// circuit opened, and end late, let no second one try.
func TestBreakerTriesOne(t *testing.T) {
	var h health
	now := time.Now()
	bad := errors.New("no")
	var early []attempt
	for range breakAfter + 2 {
		a, _, ok := h.admits(config.IMAP, now)
		if !ok {
			t.Fatal("refused too early")
		}
		early = append(early, a)
	}
	for _, a := range early[:breakAfter] {
		a.mark(bad)
	}
	if _, why, ok := h.admits(config.IMAP, now); ok || why != "no" {
		t.Errorf("%q, %v", why, ok)
	}
	if _, _, ok := h.admits(config.Submission, now); !ok {
		t.Error("the other service is refused too")
	}
	later := now.Add(time.Minute)
	lone, _, ok := h.admits(config.IMAP, later)
	if !ok {
		t.Error("nobody may try")
	}
	early[breakAfter].undecided()
	early[breakAfter+1].mark(bad)
	if _, _, ok := h.admits(config.IMAP, later.Add(time.Minute)); ok {
		t.Error("two may try")
	}
	lone.undecided()
	later = later.Add(time.Minute)
	if lone, _, ok = h.admits(config.IMAP, later); !ok {
		t.Error("an attempt that told nothing blocks the next")
	}
	lone.mark(nil)
	for range 2 {
		if _, _, ok := h.admits(config.IMAP, later); !ok {
			t.Error("it is well again")
		}
	}
}

// TestKeepAlive: dead peers are found by the kernel, within minutes and not by a probe every few seconds.
func TestKeepAlive(t *testing.T) {
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(letIn + "!silent") })
	c, err := testDialer(t, config.Plain, "", s).DialIMAP(t.Context(), config.Old, "", who(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.Conn.(*tlsconf.Quiet).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][3]int{"on": {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1}, "idle": {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 120},
		"interval": {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 30}, "count": {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 4}}
	if err := raw.Control(func(fd uintptr) {
		for name, w := range want {
			if got, err := syscall.GetsockoptInt(int(fd), w[0], w[1]); err != nil || got != w[2] {
				t.Errorf("%s: %d, %v; want %d", name, got, err, w[2])
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
}
