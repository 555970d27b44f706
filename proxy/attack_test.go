package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// TestAttacks holds the same attacks against each front: the answer is the right one, the attacker is let go, nothing of him is left, and
// somebody else is served all the time.
func TestAttacks(t *testing.T) {
	for i, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			r := d.rig(t, rigOptions{})
			good := d.dial(r, config.Plain)
			good.Dialogue(d.fill("{login}"))
			try := func(name string, f func(t *testing.T)) {
				t.Run(name, func(t *testing.T) {
					f(t)
					good.Dialogue(d.fill("{behind}"))
				})
				r.until("nothing is left of: "+name, func() bool {
					r.pre.mu.Lock()
					defer r.pre.mu.Unlock()
					return r.pre.all.Len() == 0 && len(r.router.Sessions("")) == 1 && r.old.Open() == 1
				})
			}
			for _, a := range attacks {
				text := a.all
				if text == "" {
					text = a.at[i]
				}
				try(a.name, func(t *testing.T) {
					k := mailtest.Dial(t, r.addr[config.Plain], nil)
					k.Until(d.greeting)
					k.Dialogue(d.fill(text))
				})
			}
			for _, a := range longAttacks {
				try(a.name, func(t *testing.T) { a.run(t, &d, r) })
			}
			if said := strings.Join(r.old.Received(), ""); strings.Contains(said, "injected") || strings.Contains(said, "evil") {
				t.Errorf("a backend was told %q", said)
			}
			for line := range strings.Lines(r.log.String()) {
				if !strings.HasPrefix(line, "time=") {
					t.Errorf("an attacker has written into the log: %q", line)
				}
			}
			d.dial(r, config.Plain).Dialogue(d.fill("{login}\n{behind}"))
		})
	}
}

// longAttacks are those that no dialogue says.
var longAttacks = []struct {
	name string
	run  func(t *testing.T, d *door, r *rig)
}{
	{"ten thousand commands at once", pipelining},
	{"commands behind STARTTLS", injection},
	{"megabytes without a line end", withoutEnd},
	{"HTTP", web},
	{"a handshake where none is spoken", handshake},
	{"no handshake where one is due", unwrapped},
	{"a handshake that is reset", func(t *testing.T, d *door, r *rig) {
		mailtest.Dial(t, r.addr[config.Implicit], nil).Dialogue("C\" \"\\x16\\x03\\x01\\x02\"\n!reset")
	}},
	{"a hundred in the midst of a login, reset", func(t *testing.T, d *door, r *rig) {
		for range 100 {
			k := mailtest.Dial(t, r.addr[config.Plain], nil)
			k.Until(d.greeting)
			k.Send(strings.TrimPrefix(d.fill("{login}"), "C: ")[:8])
			k.Reset()
		}
	}},
	{"a hundred behind their login, reset", func(t *testing.T, d *door, r *rig) {
		for range 100 {
			k := mailtest.Dial(t, r.addr[config.Plain], nil)
			k.Until(d.greeting)
			k.Dialogue(d.fill("{login}") + "\n!reset")
		}
	}},
}

// pipelining sends without reading; each command is answered, in order, and then the login.
func pipelining(t *testing.T, d *door, r *rig) {
	const many = 10000
	k := mailtest.Dial(t, r.addr[config.Plain], nil)
	k.Until(d.greeting)
	sent := make(chan error)
	go func() {
		_, err := io.WriteString(k.Conn, strings.Repeat(d.noop+"\r\n", many))
		sent <- err
	}()
	for range many {
		k.Expect(d.ok)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	k.Dialogue(d.fill("{login}\n{behind}"))
}

// injection sends a command in clear behind the one that begins TLS, in one segment: it is never answered.
func injection(t *testing.T, d *door, r *rig) {
	k := mailtest.Dial(t, r.addr[config.StartTLS], nil)
	k.Until(d.greeting)
	k.Send(d.tls + "\r\n" + d.noop + " evil\r\n" + d.quit + "\r\n")
	k.Expect(d.tlsOK)
	k.StartTLS(r.client)
	if d.name == "sieve" { // its capabilities come unasked
		k.Until("OK ...")
	}
	k.Dialogue("C: " + d.noop + "\nS: " + d.ok + "\nC: " + d.quit)
	if d.name == "imap" {
		k.Expect("* BYE ...")
	}
	k.Dialogue("S: " + d.bye + "\n!end")
}

// withoutEnd sends a line that does not end, as long as somebody takes it.
func withoutEnd(t *testing.T, d *door, r *rig) {
	k := mailtest.Dial(t, r.addr[config.Plain], nil)
	k.Until(d.greeting)
	if n := k.Endless(256 << 20); n > 64<<20 {
		t.Errorf("%d MB were taken", n>>20)
	}
}

// web speaks HTTP: it is sent away after some mistakes, and nothing that comes back is an answer of HTTP.
func web(t *testing.T, d *door, r *rig) {
	k := mailtest.Dial(t, r.addr[config.Plain], nil)
	k.Until(d.greeting)
	k.Send("POST / HTTP/1.1\r\nHost: mail.example.com\r\n" + strings.Repeat("X-Header: "+d.noop+"\r\n", 20) + "\r\n" + d.noop + "\r\n")
	said := k.ExpectEnd()
	lines := strings.Split(strings.TrimSuffix(said, "\r\n"), "\r\n")
	if len(lines) > maxMistakes {
		t.Errorf("%d answers", len(lines))
	}
	gone, _, _ := strings.Cut(d.gone, "...")
	for i, line := range lines {
		if last := i == len(lines)-1; strings.HasPrefix(line, "HTTP/") || !last && !strings.Contains(line, d.mistake) || last && !strings.HasPrefix(line, gone) {
			t.Errorf("it was told %q", line)
		}
	}
}

// handshake begins TLS on a port of clear text: what it hears is a greeting, and what it says is no command.
func handshake(t *testing.T, d *door, r *rig) {
	c, err := net.Dial("tcp", r.addr[config.Plain])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if err := tls.Client(c, r.client).Handshake(); err == nil {
		t.Error("there was a handshake")
	}
}

// unwrapped speaks in clear on a port of TLS: it hears nothing that is of the protocol.
func unwrapped(t *testing.T, d *door, r *rig) {
	k := mailtest.Dial(t, r.addr[config.Implicit], nil)
	k.Send(d.noop + " evil\r\n" + strings.Repeat("x", 100) + "\r\n")
	word, _, _ := strings.Cut(d.greeting, " ")
	if said := k.ExpectEnd(); strings.Contains(said, word) || strings.Contains(said, "mail.example.com") {
		t.Errorf("it was told %q", said)
	}
}

// TestSilentCrowd: connections that say nothing are let go, the oldest first, and somebody else is served meanwhile.
func TestSilentCrowd(t *testing.T) {
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			r := d.rig(t, rigOptions{tune: func(c *config.Config) { c.Limits.PreAuth, c.Limits.PreAuthPerIP = 100, 50 }})
			var all []*mailtest.Talk
			for i := range 300 {
				mode := []config.TLSMode{config.Plain, config.StartTLS, config.Implicit}[i%3]
				all = append(all, mailtest.NewTalk(t, dialFrom(t, r.addr[mode], fmt.Sprintf("127.0.0.%d", 10+i%4/3)))) // most are of one address
				if i%100 == 99 {
					d.dial(r, config.Plain).Dialogue(d.fill("{login}\n{behind}"))
				}
			}
			r.until("the oldest gave way", func() bool {
				r.pre.mu.Lock()
				defer r.pre.mu.Unlock()
				most := 0
				for _, l := range r.pre.perIP {
					most = max(most, l.Len())
				}
				return r.pre.all.Len() <= 100 && most <= 50
			})
			for i, k := range all[:100] { // they hear a greeting at the most
				if i%4 < 3 {
					k.ExpectEnd()
				}
			}
		})
	}
}
