package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

// TestSessionDialogues: what both ends say passes unchanged, and behind it the session stands at a boundary: it ends
// when asked, BYE last, and the backend gets LOGOUT.
func TestSessionDialogues(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                  "",
		"fetch, literal lookalike": "C: a FETCH 1 BODY[]\nS: * 1 FETCH (BODY[] {16}\nS\" \"a OK [X] {3}\\r\\nz\\r\\n)\\r\\n\"\nS: a OK done",
		"status text":              "C: a NOOP\nS: * OK {3}\nS: * NO odd {1000000}\nS: * BAD {2+}\nS: a OK {7}",
		"multiappend":              "C: a APPEND x {3}\nS: + go\nC\" \"abc {2}\\r\\n\"\nS: + go\nC\" \"de\\r\\n\"\nS: a OK [APPENDUID 1 1:2] done",
		"multiappend, LITERAL+":    "C\" \"a APPEND x {3+}\\r\\nabc {2+}\\r\\nde\\r\\n\"\nS: a OK",
		"catenate":                 "C: a APPEND x CATENATE (URL \"/y;UID=2\" TEXT {2}\nS: + go\nC\" \"ab URL \\\"/z\\\")\\r\\n\"\nS: a OK",
		"literal8, UTF8":           "C\" \"a APPEND x UTF8 (~{3+}\\r\\n\\x00\\xffa)\\r\\n\"\nS: a OK\nC: b FETCH 1 BINARY[]\nS\" \"* 1 FETCH (BINARY[] ~{4}\\r\\n\\x00\\r\\n))\\r\\n\"\nS: b OK",
		"refused early":            "C\" \"a APPEND nope {10+}\\r\\n\"\nS: a NO [TRYCREATE] no\nC\" \"0123456789\\r\\nb NOOP\\r\\n\"\nS: b OK",
		"refused, sync":            "C: a APPEND nope {10}\nS: a NO [TRYCREATE] no\nC: b NOOP\nS: b OK",
		"literal in a search":      "C: a SEARCH CHARSET UTF-8 SUBJECT {3}\nS: + go\nC\" \"\\xe2\\x82\\xac TEXT {1+}\\r\\nx\\r\\n\"\nS: * SEARCH\nS: a OK",
		"mailbox as a literal":     "C: a LIST \"\" *\nS: * LIST () \"/\" {5}\nS: a{9}b\nS: a OK",
		"quoted lookalikes":        "C: a SELECT \"{5}\"\nS: * FLAGS (x)\nS: a OK\nC: b SELECT \"x\\\"{5}\"\nS: b NO",
		"idle":                     "C: a IDLE\nS: + idling\nS: * 3 EXISTS\nC: DONE\nS: * 4 EXISTS\nS: a OK",
		"idle, DONE and more":      "C: a IDLE\nS: + idling\nC\" \"done\\r\\nb NOOP\\r\\n\"\nS: a OK\nS: b OK",
		"idle refused":             "C: a IDLE\nS: a BAD what\nC: b NOOP\nS: b OK",
		"notify":                   "C: a NOTIFY SET (SELECTED (MessageNew (FLAGS)))\nS: a OK\nS: * 5 EXISTS\nS: * 5 FETCH (FLAGS ())\nS: * STATUS x (MESSAGES 1)",
		"the same tag":             "C\" \"a NOOP\\r\\na NOOP\\r\\n\"\nS: a OK\nS: a OK",
		"answers out of order":     "C\" \"a FETCH 1 X\\r\\nb NOOP\\r\\n\"\nS: b OK\nS: * 1 FETCH (X)\nS: a OK",
		"unknown data":             "C: a XWHAT\nS: * XWHAT {2}\nS\" \"{} y\\r\\n\"\nS: *  odd\nS: a OK",
		"bare LF":                  "C\" \"a NOOP\\n\"\nS\" \"* OK\\na OK\\n\"",
		"no tag":                   "C: * NOOP\nS: * BAD no tag\nC: \nS: * BAD no command",
		"half a line":              "C: a NOOP\nS: a OK\nC\" \"b STORE 1\"",
		"ENABLE with capabilities": "C: a ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: a OK [CAPABILITY IMAP4rev1 IDLE] done",
		"long line":                "C: a SEARCH ALL\nS\" \"* SEARCH" + strings.Repeat(" 123456", 50000) + "\\r\\n\"\nS: a OK",
		"long command":             "C\" \"a UID FETCH " + strings.Repeat("123456,", 10000) + "1 FLAGS\\r\\n\"\nS: a OK",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.ReplaceAll(text, "$", "$$")
			half := name == "half a line" // a line of ours behind it would make another command of it
			r := newRig(t, rigOptions{old: func(k *mailtest.Talk) {
				backendIn(k, "old")
				k.Dialogue(text)
				if half {
					k.Dialogue("!end")
				} else {
					k.Dialogue("C: mailgate LOGOUT\nS: * BYE\nS: mailgate OK")
				}
			}})
			k := r.secure()
			k.Dialogue("S: * OK ...\nC: in LOGIN u@example.com pw\nS: in OK ...")
			k.Dialogue(text)
			s := r.router.Sessions(user)[0]
			r.until("the half line is passed on", func() bool { return !half || strings.Contains(r.old.Received()[0], "b STORE 1") })
			s.Press(router.AtBoundary, "Please reconnect")
			k.Dialogue("S: * BYE [UNAVAILABLE] Please reconnect")
			if _, err := k.Conn.Read(make([]byte, 1)); err != io.EOF { // close_notify, not just an end
				t.Error(err)
			}
			k.Close()
			r.logged("session end", "Please reconnect")
		})
	}
}

// TestSpoilt: what a splice cannot carry reaches the backend as a word that it refuses, and tags stay in step.
func TestSpoilt(t *testing.T) {
	r := newRig(t, rigOptions{old: ends("old", `
		C: a COMPRESX DEFLATE
		C: b UNAUTHENTICATX
		C: c STARTTLX
		C: d AUTHENTICATX PLAIN AGEAYg==
		C: e LOGIX u p
		C: f NOOP
		S: a BAD a
		S: b BAD b
		S: c BAD c
		S: d BAD d
		S: e BAD e
		S: f OK f
		C: g CAPABILITY
		!slow 1ms
		S: * CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE
		S: g OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE IDLE] g
		C: h LOGOUT
		S: * BYE
		S: h OK`)})
	k := r.in()
	k.Send("a COMPRESS DEFLATE\r\nb UNAUTHENTICATE\r\nc STARTTLS\r\nd AUTHENTICATE PLAIN AGEAYg==\r\ne LOGIN u p\r\nf NOOP\r\n")
	k.Dialogue("S: a BAD a\nS: b BAD b\nS: c BAD c\nS: d BAD d\nS: e BAD e\nS: f OK f\nC: g CAPABILITY\n" +
		"S: * CAPABILITY IMAP4rev1 IDLE\nS: g OK [CAPABILITY IMAP4rev1 IDLE] g\nC: h LOGOUT\nS: * BYE\nS: h OK\n!end")
}

// TestSlowPeers: 50 MB (20 over TLS) pass through in either direction while the receiver pauses; the gateway does not take in more
// than the sockets hold.
func TestSlowPeers(t *testing.T) {
	chunk := []byte(strings.Repeat("m", 64<<10))
	for mode, size := range map[config.TLSMode]int{config.Plain: 50 << 20, config.Implicit: 20 << 20} {
		blocked := func(t *testing.T, r *rig, count func() int64) {
			t.Helper()
			if heldUp(t, r, count) >= int64(size) {
				t.Error("all was taken in while nobody read")
			}
		}
		connect := func(t *testing.T, r *rig) *mailtest.Talk {
			k := mailtest.Dial(t, r.addr[mode], map[config.TLSMode]*tls.Config{config.Implicit: r.client}[mode])
			k.Dialogue("S: * OK ...\nC: in LOGIN u@example.com pw\nS: in OK ...")
			return k
		}
		t.Run("FETCH", func(t *testing.T) {
			var sent atomic.Int64
			r := newRig(t, rigOptions{old: func(k *mailtest.Talk) {
				backendIn(k, "old")
				k.Dialogue(fmt.Sprintf("C: a FETCH 1 BODY[]\nS: * 1 FETCH (BODY[] {%d}", size))
				for range size / (64 << 10) {
					if _, err := k.Conn.Write(chunk); err != nil {
						t.Error(err)
						return
					}
					sent.Add(64 << 10)
				}
				k.Dialogue("S: )\nS: a OK\nC: b LOGOUT\nS: * BYE")
			}})
			k := connect(t, r)
			peak := watchHeap(t)
			k.Dialogue("C: a FETCH 1 BODY[]\nS: * 1 FETCH ...")
			blocked(t, r, sent.Load)
			if p := peak(); p > 6<<20 {
				t.Errorf("heap grew by %d MB", p>>20)
			}
			for range size / (64 << 10) {
				if s := k.ReadN(64 << 10); s != string(chunk) {
					t.Fatal("bytes were changed")
				}
			}
			k.Dialogue("S: )\nS: a OK\nC: b LOGOUT\nS: * BYE\n!end")
		})
		t.Run("APPEND", func(t *testing.T) {
			var sent atomic.Int64
			read := make(chan struct{})
			r := newRig(t, rigOptions{old: func(k *mailtest.Talk) {
				backendIn(k, "old")
				k.Dialogue(fmt.Sprintf("C: a APPEND x {%d}\nS: + go", size))
				<-read
				for range size / (64 << 10) {
					if s := k.ReadN(64 << 10); s != string(chunk) {
						t.Error("bytes were changed")
					}
				}
				k.Dialogue("C:\nS: a OK\nC: b LOGOUT\nS: * BYE")
			}})
			k := connect(t, r)
			k.Dialogue(fmt.Sprintf("C: a APPEND x {%d}\nS: + go", size))
			peak := watchHeap(t)
			done := make(chan error, 1)
			go func() {
				for range size / (64 << 10) {
					if _, err := k.Conn.Write(chunk); err != nil {
						done <- err
						return
					}
					sent.Add(64 << 10)
				}
				done <- nil
			}()
			blocked(t, r, sent.Load)
			if p := peak(); p > 6<<20 {
				t.Errorf("heap grew by %d MB", p>>20)
			}
			close(read)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			k.Dialogue("C:\nS: a OK\nC: b LOGOUT\nS: * BYE\n!end")
		})
	}
}

// TestHalfClose: a client who has sent his end still gets the answers, as long as they come.
func TestHalfClose(t *testing.T) {
	short := func(s *Server) { s.afterEOF = 250 * time.Millisecond }
	for _, mode := range []config.TLSMode{config.Plain, config.Implicit} {
		t.Run("answers", func(t *testing.T) {
			r := newRig(t, rigOptions{server: short, old: func(k *mailtest.Talk) {
				backendIn(k, "old")
				k.Dialogue("C: a FETCH 1 X\n!end")
				for range 5 { // longer in all than the limit for silence
					k.Dialogue("!late 100ms\nS: * 1 FETCH (X)")
				}
				k.Dialogue("S: a OK\nS: * BYE")
			}})
			k := mailtest.Dial(t, r.addr[mode], map[config.TLSMode]*tls.Config{config.Implicit: r.client}[mode])
			k.Dialogue("S: * OK ...\nC: in LOGIN u@example.com pw\nS: in OK ...\nC: a FETCH 1 X\n!eof\n" +
				strings.Repeat("S: * 1 FETCH (X)\n", 5) + "S: a OK\nS: * BYE\n!end")
		})
	}
	t.Run("silence", func(t *testing.T) {
		r := newRig(t, rigOptions{server: short, gone: true, old: ends("old", "C: a STORE 1 X\n!deaf never")})
		k := r.in()
		k.Dialogue("C: a STORE 1 X\n!eof")
		r.until("the end is known", func() bool { return strings.Contains(r.old.Received()[0], "STORE") })
		s := r.router.Sessions(user)
		s[0].Press(router.AtBoundary, "kick") // must not put off the end
		k.ExpectEnd()
		r.logged("session end", "client closed")
	})
	t.Run("by the backend", func(t *testing.T) {
		r := newRig(t, rigOptions{old: ends("old", "C: a STORE 1 X\n!eof\n!end")})
		k := r.in()
		k.Dialogue("C: a STORE 1 X\nS: * BYE [UNAVAILABLE] The mail server closed the connection, please reconnect\n!end")
		r.logged("session end", "backend closed")
	})
	t.Run("by the backend, in the middle of a response", func(t *testing.T) {
		r := newRig(t, rigOptions{old: ends("old", "C: a FETCH 1 X\nS\" \"* 1 FETCH (X {10}\\r\\nabc\"")})
		k := r.in()
		k.Dialogue("C: a FETCH 1 X\nS: * 1 FETCH (X {10}\nS\" \"abc\"\n!end") // no BYE into the literal
	})
	t.Run("by the backend, with its own BYE", func(t *testing.T) {
		r := newRig(t, rigOptions{old: ends("old", "S: * BYE Idle for too long")})
		r.in().Dialogue("S: * BYE Idle for too long\n!end")
	})
	t.Run("by the backend, while the client sends", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, old: ends("old", "C: a APPEND x {100000000+}\nS: * BYE full\n!close")}) // unread bytes: a reset
		for range 20 {
			k := r.in()
			k.Send("a APPEND x {100000000+}\r\n")
			go k.Endless(100000000)
			k.Dialogue("S: * BYE full")
			k.Close()
		}
	})
	t.Run("TLS without close_notify", func(t *testing.T) {
		r := newRig(t, rigOptions{old: ends("old", "C: a APPEND x {3+}\nC\" \"abc\\r\\n\"\n!end\n!fire eof\n!await go\nS: a OK")})
		k := r.secure()
		k.Dialogue("S: * OK ...\nC: in LOGIN u@example.com pw\nS: in OK ...\nC\" \"a APPEND x {3+}\\r\\nabc\\r\\n\"")
		k.Conn.(*tls.Conn).NetConn().Close()
		r.old.Await("eof")
		time.Sleep(30 * time.Millisecond) // nothing happens: the backend is given the time to carry out what it has
		if len(r.router.Sessions(user)) != 1 {
			t.Error("the backend was not waited for")
		}
		r.old.Fire("go")
		r.logged("session end", "client closed")
	})
}

// TestStall: a peer who takes nothing for long ends the session.
func TestStall(t *testing.T) {
	short := func(s *Server) { s.stall = 300 * time.Millisecond }
	t.Run("client", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, server: short, old: func(k *mailtest.Talk) {
			backendIn(k, "old")
			k.Line()
			k.Send("* 1 FETCH (BODY[] {1000000000}\r\n")
			k.Endless(1000000000)
		}})
		r.in().Send("a FETCH 1 BODY[]\r\n")
		r.logged("session end", "client does not read")
		r.old.Await("end 1")
	})
	t.Run("backend", func(t *testing.T) {
		r := newRig(t, rigOptions{gone: true, server: short, old: ends("old", "C: a APPEND x {1000000000+}\n!deaf never")})
		k := r.in()
		k.Send("a APPEND x {1000000000+}\r\n")
		if n := k.Endless(1000000000); n > 100<<20 {
			t.Errorf("%d bytes were taken", n)
		}
		r.logged("session end", "backend closed")
	})
	t.Run("an idle session lives on", func(t *testing.T) {
		r := newRig(t, rigOptions{server: short, old: ends("old", "C: a IDLE\nS: + idling\n!late 700ms\nS: * 1 EXISTS\nC: DONE\nS: a OK\nC: b LOGOUT\nS: * BYE")})
		r.in().Dialogue("C: a IDLE\nS: + idling\nS: * 1 EXISTS\nC: DONE\nS: a OK\nC: b LOGOUT\nS: * BYE\n!end")
	})
}
