package proxy

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// swallow reads bytes without keeping them, up to n, or up to the end of a message when n is negative; it returns how
// many they were. Nothing may stand in the Talk's buffer.
func swallow(k *mailtest.Talk, n int64) (total int64) {
	b := make([]byte, 64<<10)
	var tail [5]byte
	for {
		want := int64(len(b))
		if n >= 0 {
			want = min(want, n-total)
		}
		m, err := k.Conn.Read(b[:want])
		total += int64(m)
		last := b[max(0, m-5):m]
		copy(tail[:], tail[len(last):])
		copy(tail[5-len(last):], last)
		if err != nil || total == n || n < 0 && string(tail[:]) == "\r\n.\r\n" {
			return total
		}
	}
}

// TestMemory sends large messages each way that there is. None is held.
func TestMemory(t *testing.T) {
	const size = 100 << 20
	line := strings.Repeat("x", 76) + "\r\n"
	block := []byte(strings.Repeat(line, 840)) // 65,520 bytes
	var got atomic.Int64
	serve := smtpBackend([]string{"CHUNKING"}, func(k *mailtest.Talk) {
		for {
			l := k.Line()
			switch name, args := verb(l); name {
			case "DATA":
				k.Send("354 go\r\n")
				got.Store(swallow(k, -1))
			case "BDAT":
				var n int64
				_, _ = fmt.Sscan(args, &n)
				got.Store(swallow(k, n))
			case "QUIT":
				k.Send("221 bye\r\n")
				return
			}
			k.Send("250 ok\r\n")
		}
	})
	for name, c := range map[string]struct {
		bare, begin, end string
		blocks           int
		more             int64
	}{
		"DATA":           {"refuse", "DATA\r\n", ".\r\n", size / len(block), 3},
		"BDAT":           {"refuse", "BDAT %d LAST\r\n", "", size / 4 / len(block), 0},
		"BDAT as DATA":   {"normalize", "BDAT %d LAST\r\n", "", size / 4 / len(block), 3},
		"DATA normalize": {"normalize", "DATA\r\n", ".\r\n", size / 4 / len(block), 3},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSMTPRig(t, smtpRigOptions{configure: func(conf *config.Config) { conf.Submit.BareNewlines = c.bare }}, serve, idleBackend())
			k := r.login()
			k.Send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n")
			k.Dialogue("S: 250 ok\nS: 250 ok")
			total := int64(c.blocks * len(block))
			if strings.HasPrefix(c.begin, "BDAT") {
				k.Send(fmt.Sprintf(c.begin, total))
			} else {
				k.Send(c.begin)
				k.Expect("354 go")
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			before, most := m.HeapAlloc, uint64(0)
			allocated := m.TotalAlloc
			for i := range c.blocks {
				if _, err := k.Write(block); err != nil {
					t.Fatal(err)
				}
				if i%64 == 0 {
					runtime.ReadMemStats(&m)
					most = max(most, m.HeapAlloc)
				}
			}
			k.Send(c.end)
			k.Expect("250 ok")
			runtime.ReadMemStats(&m)
			if most > before+8<<20 {
				t.Errorf("the heap grew by %d bytes", most-before)
			}
			if n := m.TotalAlloc - allocated; n > 8<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
			if got.Load() != total+c.more {
				t.Errorf("%d bytes arrived, want %d", got.Load(), total+c.more)
			}
			k.Send("QUIT\r\n")
			k.Expect("221 bye")
			k.Close()
		})
	}
}

// TestBackendTakesNoBytes: a backend that stops reading is given up when nothing moves for that long; the client's
// message is read to its end, and he is told to try again.
func TestBackendTakesNoBytes(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{mostWait: 100 * time.Millisecond}, smtpBackend(nil, func(k *mailtest.Talk) {
		k.Dialogue("C: MAIL FROM:<a@example.com>\nS: 250 ok\nC: DATA\nS: 354 go\n!deaf over")
	}), idleBackend())
	k := r.login()
	k.Dialogue("C: MAIL FROM:<a@example.com>\nS: 250 ok\nC: DATA\nS: 354 go")
	block := strings.Repeat(strings.Repeat("x", 76)+"\r\n", 840)
	for range 300 { // more than the buffers of loopback hold
		k.Send(block)
	}
	k.Dialogue("C: .\nS: 451 4.4.2 ...\nS: 421 4.4.2 ...\n!end")
	k.Close()
	r.old.Fire("over")
	r.end()
	if !strings.Contains(r.log.String(), "backend lost in DATA") {
		t.Error("the log does not name the step")
	}
}

// TestIdleSessions: a session that waits has at most two goroutines, and none is left behind.
func TestIdleSessions(t *testing.T) {
	const n = 50
	r := newSMTPRig(t, smtpRigOptions{idleGrace: time.Millisecond, backTLS: config.Implicit},
		smtpBackend(nil, obligingBackend), idleBackend())
	before := runtime.NumGoroutine()
	var all []*mailtest.Talk
	for range n {
		all = append(all, r.login())
	}
	r.until("the sessions are watched", func() bool { return runtime.NumGoroutine() >= before+3*n }) // with the backend's own
	for i := range 5 {
		for _, k := range all {
			k.Send("NOOP\r\n")
			k.Expect("250 ...")
		}
		if g := runtime.NumGoroutine(); g > before+3*n+10 {
			t.Errorf("%d goroutines after %d commands, %d before the sessions", g, i+1, before)
		}
	}
	for _, k := range all {
		k.Send("QUIT\r\n")
		k.Expect("221 ...")
		k.Close()
	}
	r.until("the sessions' goroutines end", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// TestBackendSTARTTLS: TLS towards a backend is what the configuration says, or nothing.
func TestBackendSTARTTLS(t *testing.T) {
	clear := "S: 220 hi\nC: EHLO ...\nS: 250-hi\nS: 250-AUTH PLAIN\nS: 250 "
	for name, c := range map[string]struct{ before, after, reply, log string }{
		"works": {clear + "STARTTLS\nC: STARTTLS\nS: 220 go", "C: EHLO ...\nS: 250-hi\nS: 250 AUTH PLAIN\nC: AUTH PLAIN ...\nS: 235 ok\n" +
			"C: QUIT\nS: 221 bye", "235 ok", ""},
		"not offered":     {clear + "STARTTLSX\n!silent", "", "454 4.7.0 ...", "step=starttls"},
		"refused":         {clear + "STARTTLS\nC: STARTTLS\nS: 454 4.7.0 no\n!silent", "", "454 4.7.0 ...", "step=starttls"},
		"bytes in clear":  {clear + "STARTTLS\nC: STARTTLS\nS\" \"220 go\\r\\n250 injected\\r\\n\"\n!silent", "", "454 4.7.0 ...", "step=starttls"},
		"no handshake":    {clear + "STARTTLS\nC: STARTTLS\nS: 220 go\n!close", "", "454 4.7.0 ...", "step=tls"},
		"no AUTH behind":  {clear + "STARTTLS\nC: STARTTLS\nS: 220 go", "C: EHLO ...\nS: 250-hi\nS: 250 DSN\n!silent", "454 4.7.0 ...", "step=login"},
		"EHLO only once":  {clear + "STARTTLS\nC: STARTTLS\nS: 220 go", "C: EHLO ...\nS: 503 5.5.1 no\n!silent", "454 4.7.0 ...", "step=capability"},
		"silent in hello": {clear + "STARTTLS\nC: STARTTLS\nS: 220 go\n!silent", "", "454 4.7.0 ...", "step=tls"},
	} {
		t.Run(name, func(t *testing.T) {
			var server atomic.Pointer[tls.Config]
			r := newSMTPRig(t, smtpRigOptions{noProbe: true, backTLS: config.StartTLS, configure: func(conf *config.Config) {
				conf.Backends[0].ConnectTimeout, conf.Backends[0].ServerName = 200*time.Millisecond, "localhost"
			}}, func(k *mailtest.Talk) {
				k.Dialogue(c.before)
				if c.after != "" {
					k.StartTLS(server.Load())
					k.Dialogue(c.after)
				}
			}, idleBackend())
			server.Store(r.server)
			k := r.dial()
			k.Dialogue("C: EHLO x\nS~ 250 ...\nC: AUTH PLAIN " + smtpPlain + "\nS: " + c.reply)
			k.Close()
			if !strings.Contains(r.log.String(), c.log) {
				t.Errorf("no %q in the log", c.log)
			}
			if c.after == "" && r.old.Said("AUTH") != 0 {
				t.Error("a password in clear")
			}
		})
	}
}
