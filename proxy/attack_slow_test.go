package proxy

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// drip sends text over and over, a byte at a time, until nobody takes it or the test is over. The attack is slowness.
func drip(t *testing.T, k *mailtest.Talk, text string) {
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(30 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if _, err := io.WriteString(k.Conn, text[i%len(text):i%len(text)+1]); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		k.Close()
		<-done
	})
}

// slowAttacks begin behind the greeting, or before the handshake, and go on until they are ended.
var slowAttacks = []struct {
	name  string
	mode  config.TLSMode
	steps [4]string // that begin it, by door; "-" where there is none
	drip  string    // what comes byte by byte from there on
}{
	{name: "no byte", mode: config.Plain},
	{name: "no handshake", mode: config.Implicit},
	{name: "a slow handshake", mode: config.Implicit, drip: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("x", 500)},
	{name: "no handshake behind STARTTLS", mode: config.StartTLS, steps: [4]string{"C: s STARTTLS\nS: s OK ...", "C: STLS\nS: +OK ...", "C: STARTTLS\nS: OK ...", "C: STARTTLS\nS: 220 ..."}},
	{name: "a slow line", mode: config.Plain, drip: "x"},
	{name: "a slow response", mode: config.Plain, drip: "A",
		steps: [4]string{"C: a AUTHENTICATE PLAIN\nS: + ", "C: AUTH PLAIN\nS: + ", "C: AUTHENTICATE \"PLAIN\"\nS: \"\"", helo + "C: AUTH PLAIN\nS: 334 "}},
	{name: "a slow literal", mode: config.Plain, drip: "x", steps: [4]string{"C: a LOGIN {1000}\nS: + ...", "-", "C: NOOP {1000+}", "-"}},
	{name: "never idle", mode: config.Plain, drip: "{noop}"},
}

// TestSlowAttacks: who takes his time before the login is told that it is up, however slowly he goes on, and somebody else is served.
func TestSlowAttacks(t *testing.T) {
	t.Parallel()
	var ends []func()
	for i, d := range doors {
		r := d.rig(t, rigOptions{tune: func(c *config.Config) {
			c.Limits.Handshake, c.Limits.CommandTime, c.Limits.PreAuthTime = 10*time.Second, 12*time.Second, 15*time.Second
		}})
		good := d.dial(r, config.Plain)
		good.Dialogue(d.fill("{login}"))
		for _, a := range slowAttacks {
			if a.steps[i] == "-" {
				continue
			}
			k := mailtest.Dial(t, r.addr[a.mode], nil)
			if a.mode != config.Implicit {
				k.Until(d.greeting)
			}
			k.Dialogue(a.steps[i])
			switch a.drip {
			case "":
			case "{noop}":
				drip(t, k, d.noop+"\r\n")
			default:
				drip(t, k, a.drip)
			}
			ends = append(ends, func() {
				lines := strings.Split(strings.TrimSuffix(k.ExpectEnd(), "\r\n"), "\r\n")
				last, gone := lines[len(lines)-1], strings.TrimSuffix(d.gone, "...")
				if a.mode == config.Plain && !strings.HasPrefix(last, gone) || a.mode != config.Plain && strings.Contains(last, gone) {
					t.Errorf("%s, %s: the last words are %q", d.name, a.name, last)
				}
				if a.drip != "{noop}" && len(lines) > 1 {
					t.Errorf("%s, %s: it was told %q", d.name, a.name, lines)
				}
			})
		}
		ends = append(ends, func() {
			good.Dialogue(d.fill("{behind}"))
			d.dial(r, config.Plain).Dialogue(d.fill("{login}\n{behind}"))
		})
	}
	for _, end := range ends {
		end()
	}
}

// TestInjectingBackend: what a server sends in clear behind the answer that begins TLS may be of somebody on the way. Nobody is logged in
// there, no password is sent, and the client hears of a failure that passes.
func TestInjectingBackend(t *testing.T) {
	for i, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			script := [4]string{
				"S: * OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] hi\nC: $s STARTTLS\nS\" \"$s OK go\\r\\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\\r\\n\"",
				"S: +OK hi\nC: STLS\nS\" \"+OK go\\r\\n+OK USER\\r\\n\"",
				"S: \"IMPLEMENTATION\" \"x\"\nS: \"SASL\" \"PLAIN\"\nS: \"STARTTLS\"\nS: OK\nC: STARTTLS\nS\" \"OK\\r\\n\\\"SASL\\\" \\\"PLAIN\\\"\\r\\nOK\\r\\n\"",
				"S: 220 hi\nC: EHLO ...\nS: 250-hi\nS: 250-STARTTLS\nS: 250 AUTH PLAIN\nC: STARTTLS\nS\" \"220 go\\r\\n250-hi\\r\\n250 AUTH PLAIN\\r\\n\"",
			}[i]
			later := [4]string{"in NO [UNAVAILABLE] ...", "-ERR [SYS/TEMP] ...", "NO (TRYLATER) ...", "454 4.7.0 ..."}[i]
			r := d.rig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) { k.Dialogue(script); k.Silent() }, tune: func(c *config.Config) {
				d.endpoint(&c.Backends[config.Old].Hosts[0]).Mode = config.StartTLS
			}})
			k := d.dial(r, config.Plain)
			steps := strings.Split(d.login, "\n")
			k.Dialogue(strings.Join(steps[:len(steps)-1], "\n") + "\nS: " + later + "\n" + d.fill("{noop}"))
			r.logged("login failed", "in clear behind")
			if said := strings.Join(r.old.Received(), ""); strings.Contains(said, "AHV") || strings.Contains(said, "PASS") || strings.Contains(said, "LOGIN") {
				t.Errorf("the backend was told %q", said)
			}
		})
	}
}
