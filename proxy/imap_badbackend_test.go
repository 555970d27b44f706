package proxy

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

const (
	greetPlain = "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\n"
	atLogin    = greetPlain + "C: $l AUTHENTICATE PLAIN ...\n"
)

// TestBadBackend: whatever a backend does before the login is through, the client hears of a temporary failure (or of
// a wrong password, where that is what was said), stays connected, and the log names the step. Promise 4.
func TestBadBackend(t *testing.T) {
	const temporary, wrong = "UNAVAILABLE", "AUTHENTICATIONFAILED"
	for name, tt := range map[string]struct {
		talk string
		step string
		code string
		log  string
		tls  bool // the gateway is to use STARTTLS
	}{
		"closes at once":                {talk: "!close", step: "banner"},
		"resets at once":                {talk: "!late 20ms\n!reset", step: "banner"},
		"silent before the banner":      {talk: "!silent", step: "banner", log: "timeout"},
		"slow banner":                   {talk: "!slow 40ms\n" + greetPlain, step: "banner", log: "timeout"},
		"BYE banner":                    {talk: "S: * BYE [UNAVAILABLE] full", step: "banner", log: "server said BYE"},
		"PREAUTH":                       {talk: "S: * PREAUTH welcome root", step: "banner", log: "does not greet with OK"},
		"NO banner":                     {talk: "S: * NO what", step: "banner", log: "does not greet with OK"},
		"banner without star":           {talk: "S: OK ready", step: "banner", log: "does not greet with OK"},
		"SMTP":                          {talk: "S: 220 mail ESMTP", step: "banner", log: "does not greet with OK"},
		"empty banner":                  {talk: "S:", step: "banner", log: "does not greet with OK"},
		"garbage":                       {talk: "!garbage 500000", step: "banner"},
		"endless banner":                {talk: "!endless 100000000", step: "banner", log: "64 KiB"},
		"half a banner":                 {talk: "S\" \"* OK\"\n!close", step: "banner"},
		"many lines":                    {talk: greetPlain + "C: $l ...\n" + strings.Repeat("S: * NOTE "+strings.Repeat("x", 1000)+"\n", 300), step: "login", log: "256 KiB"},
		"silent at CAPABILITY":          {talk: "S: * OK ready\nC: $c CAPABILITY\n!silent", step: "capability", log: "timeout"},
		"closes at CAPABILITY":          {talk: "S: * OK ready\nC: $c CAPABILITY\n!close", step: "capability"},
		"BAD to CAPABILITY":             {talk: "S: * OK ready\nC: $c CAPABILITY\nS: $c BAD what", step: "capability"},
		"CAPABILITY without list":       {talk: "S: * OK ready\nC: $c CAPABILITY\nS: $c OK done", step: "capability"},
		"endless CAPABILITY":            {talk: "S: * OK ready\nC: $c CAPABILITY\nS\" \"* CAPABILITY \"\n!endless 100000000", step: "capability", log: "64 KiB"},
		"no IMAP4rev1":                  {talk: "S: * OK ready\nC: $c CAPABILITY\nS: * CAPABILITY IMAP2\nS: $c OK", step: "capability", log: "IMAP4rev1"},
		"STARTTLS refused":              {talk: greetPlain + "C: $s STARTTLS\nS: $s NO", step: "starttls", tls: true},
		"silent at STARTTLS":            {talk: greetPlain + "C: $s STARTTLS\n!silent", step: "starttls", log: "timeout", tls: true},
		"bytes behind STARTTLS":         {talk: greetPlain + "C: $s STARTTLS\nS\" \"$s OK go\\r\\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\\r\\n\"", step: "starttls", log: "in clear behind", tls: true},
		"silent in the handshake":       {talk: greetPlain + "C: $s STARTTLS\nS: $s OK\n!silent", step: "tls", tls: true},
		"garbage in the handshake":      {talk: greetPlain + "C: $s STARTTLS\nS: $s OK\n!late 30ms\n!garbage 100", step: "tls", tls: true},
		"silent at login":               {talk: atLogin + "!silent", step: "login", log: "timeout"},
		"slow answer to login":          {talk: atLogin + "!slow 40ms\nS: $l OK in", step: "login", log: "timeout"},
		"closes at login":               {talk: atLogin + "!close", step: "login"},
		"resets at login":               {talk: atLogin + "!reset", step: "login"},
		"BYE at login":                  {talk: atLogin + "S: * BYE auth is gone", step: "login", log: "server said BYE"},
		"BAD at login":                  {talk: atLogin + "S: $l BAD no", step: "login"},
		"another tag":                   {talk: atLogin + "S: zz OK in", step: "login", log: "neither tagged nor untagged"},
		"no status":                     {talk: atLogin + "S: $l SURE", step: "login", log: "no status"},
		"no tagged answer":              {talk: atLogin + "S: * OK hello\n!silent", step: "login", log: "timeout"},
		"continues for ever":            {talk: atLogin + strings.Repeat("S: + \nC: *\n", 3) + "!silent", step: "login"},
		"NO [UNAVAILABLE]":              {talk: atLogin + "S: $l NO [UNAVAILABLE] x", step: "login"},
		"NO [LIMIT]":                    {talk: atLogin + "S: $l NO [LIMIT] x", step: "login"},
		"NO [INUSE]":                    {talk: atLogin + "S: $l NO [INUSE] x", step: "login"},
		"NO [CONTACTADMIN]":             {talk: atLogin + "S: $l NO [CONTACTADMIN] x", step: "login"},
		"NO [SERVERBUG]":                {talk: atLogin + "S: $l NO [SERVERBUG] x", step: "login"},
		"NO [PRIVACYREQUIRED]":          {talk: atLogin + "S: $l NO [PRIVACYREQUIRED] x", step: "login"},
		"NO [REFERRAL]":                 {talk: atLogin + "S: $l NO [REFERRAL imap://inner.example.com/] x", step: "login"},
		"NO that speaks of itself":      {talk: atLogin + "S: $l NO Temporary problem, please try again later", step: "login"},
		"NO of Cyrus SASL":              {talk: atLogin + "S: $l NO Login failed: generic failure", step: "login"},
		"NO [ALERT] about itself":       {talk: atLogin + "S: $l NO [ALERT] Too many connections, try again later", step: "login"},
		"NO [ALERT]":                    {talk: atLogin + "S: $l NO [ALERT] Invalid credentials (Failure)", step: "login", code: wrong},
		"NO without code":               {talk: atLogin + "S: $l NO Login failed.", step: "login", code: wrong},
		"NO [AUTHENTICATIONFAILED]":     {talk: atLogin + "S: $l no [authenticationfailed] x", step: "login", code: wrong},
		"NO [AUTHORIZATIONFAILED]":      {talk: atLogin + "S: $l NO [AUTHORIZATIONFAILED] x", step: "login", code: wrong},
		"NO [EXPIRED]":                  {talk: atLogin + "S: $l NO [EXPIRED] x", step: "login", code: wrong},
		"LOGINDISABLED":                 {talk: "S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] x", step: "login", log: "LOGINDISABLED"},
		"OK without capabilities, mute": {talk: atLogin + "S: $l OK in\nC: $c CAPABILITY\n!silent", step: "capability", log: "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := "" // the client tries again: then all is well
			r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) {
				if k.N == 1 {
					k.Dialogue(tt.talk)
					return
				}
				backendIn(k, good+"old")
				k.Dialogue("C: c NOOP\nS: c OK fine")
			}, tune: func(c *config.Config) {
				b := &c.Backends[config.Old]
				if strings.Contains(tt.talk, "!silent") || strings.Contains(tt.talk, "!slow") {
					b.ConnectTimeout, b.LoginTimeout = 250*time.Millisecond, 250*time.Millisecond
				}
				if tt.tls {
					b.Hosts[0].IMAP.Mode = config.StartTLS
				}
			}})
			if tt.code == "" {
				tt.code = temporary
			}
			k := r.plain()
			k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com secret99\nS: a NO [" + tt.code + "] ...")
			line := r.logged("level", "login ", "step="+tt.step, tt.log)
			if strings.Contains(line, "secret99") || (tt.code == wrong) != strings.Contains(line, "login refused") {
				t.Error(line)
			}
			if tt.tls {
				return // the second talk has no STARTTLS
			}
			k.Dialogue("C: b LOGIN u@example.com pw\nS: b OK [CAPABILITY ...] in on old\nC: c NOOP\nS: c OK fine")
		})
	}
}

// TestDeadBackend: nobody listens.
func TestDeadBackend(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.old.Close()
	k := r.plain()
	k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nS: a NO [UNAVAILABLE] ...\nC: b NOOP\nS: b OK ...")
	r.logged("login failed", "step=connect")
}

// TestOddBackends log in where the dialogue differs from the usual one.
func TestOddBackends(t *testing.T) {
	for name, tt := range map[string]struct {
		talk  string
		hello string // what the client gets
	}{
		"no SASL-IR":                   {"S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] x\nC: $l AUTHENTICATE PLAIN\nS: + \nC: AHVAZXhhbXBsZS5jb20AcHc=\nS: $l OK [CAPABILITY IMAP4rev1] in", "S: a OK [CAPABILITY IMAP4rev1] in"},
		"plus without space":           {"S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] x\nC: $l AUTHENTICATE PLAIN\nS: +\nC: AHVAZXhhbXBsZS5jb20AcHc=\nS: $l OK [CAPABILITY IMAP4rev1] in", "S: a OK [CAPABILITY IMAP4rev1] in"},
		"only AUTH=LOGIN":              {"S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=LOGIN] x\nC: $l AUTHENTICATE LOGIN\nS: +VXNlcm5hbWU6\nC: dUBleGFtcGxlLmNvbQ==\nS: + UGFzc3dvcmQ6\nC: cHc=\nS: $l OK [CAPABILITY IMAP4rev1] in", "S: a OK [CAPABILITY IMAP4rev1] in"},
		"only LOGIN":                   {"S: * OK [CAPABILITY IMAP4rev1] x\nC: $l LOGIN \"u@example.com\" \"pw\"\nS: $l OK [CAPABILITY IMAP4rev1] in", "S: a OK [CAPABILITY IMAP4rev1] in"},
		"capabilities before the OK":   {atLogin + "S: * CAPABILITY IMAP4rev1 IDLE\nS: $l OK in", "S: a OK [CAPABILITY IMAP4rev1 IDLE] in"},
		"capabilities must be asked":   {atLogin + "S: $l OK in\nC: $c CAPABILITY\nS: * CAPABILITY IMAP4rev1 SORT\nS: $c OK", "S: a OK [CAPABILITY IMAP4rev1 SORT] in"},
		"what cannot be offered":       {atLogin + "S: $l OK [CAPABILITY IMAP4rev1 COMPRESS=DEFLATE UNAUTHENTICATE LOGIN-REFERRALS MAILBOX-REFERRALS IDLE] in", "S: a OK [CAPABILITY IMAP4rev1 IDLE] in"},
		"a referral does not leak":     {atLogin + "S: * CAPABILITY IMAP4rev1\nS: $l OK [REFERRAL imap://inner.example.com/] in", "S: a OK [CAPABILITY IMAP4rev1] in"},
		"alerts are for the user":      {atLogin + "S: * OK [ALERT] quota is full\nS: * CAPABILITY IMAP4rev1\nS: $l OK [ALERT] move is on", "S: * OK [ALERT] move is on\nS: * OK [ALERT] quota is full\nS: a OK [CAPABILITY IMAP4rev1] move is on"},
		"control characters in the OK": {atLogin + "S: * CAPABILITY IMAP4rev1\nS\" \"$l OK in\\r* BYE evil\\x00\\r\\n\"", "S: a OK [CAPABILITY IMAP4rev1] in?* BYE evil?"},
		"literals in odd responses":    {atLogin + "S: * LIST () \"/\" {14}\nS\" \"$l OK not yet\\r\\n\"\nS: * CAPABILITY IMAP4rev1\nS: $l OK in", "S: a OK [CAPABILITY IMAP4rev1] in"},
		"bytes behind the OK":          {atLogin + "S\" \"$l OK [CAPABILITY IMAP4rev1] in\\r\\n* 3 EXISTS\\r\\n\"", "S: a OK [CAPABILITY IMAP4rev1] in\nS: * 3 EXISTS"},
		"bare LF":                      {"S\" \"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] x\\n\"\nC: $l AUTHENTICATE ...\nS\" \"$l OK [CAPABILITY IMAP4rev1] in\\n\"", "S: a OK [CAPABILITY IMAP4rev1] in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{old: func(k *mailtest.Talk) {
				k.Dialogue(tt.talk + "\nC: b NOOP\nS: b OK fine\nC: mailgate LOGOUT\nS: * BYE")
			}})
			k := r.plain()
			k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\n" + tt.hello + "\nC: b NOOP\nS: b OK fine")
			r.router.Sessions(user)[0].Press(1, "kicked")
			k.Dialogue("S: * BYE [UNAVAILABLE] kicked\n!end")
		})
	}
	t.Run("8-bit names go as literals", func(t *testing.T) {
		r := newRig(t, rigOptions{old: func(k *mailtest.Talk) {
			k.Dialogue("S: * OK [CAPABILITY IMAP4rev1] x\nC: $l LOGIN {14}\nS: + go\nC\" \"ü@example.com {2}\\r\\n\"\nS: + go\n" +
				"C\" \"ß\\r\\n\"\nS: $l OK [CAPABILITY IMAP4rev1] in\nC: b LOGOUT\nS: * BYE")
		}})
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: a LOGIN \"ü@example.com\" \"ß\"\nS: a OK ...\nC: b LOGOUT\nS: * BYE\n!end")
	})
}

// TestBigLineFromABackend: a line of a gigabyte costs no memory, before or after the login.
func TestBigLineFromABackend(t *testing.T) {
	const big = 1 << 30
	t.Run("before", func(t *testing.T) {
		var took int64
		r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) { took = k.Endless(big) }})
		peak := watchHeap(t)
		r.plain().Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nS: a NO [UNAVAILABLE] ...")
		r.old.Close()
		if p := peak(); p > 8<<20 || took > 16<<20 {
			t.Errorf("heap grew by %d MB, %d MB were read", p>>20, took>>20)
		}
	})
	t.Run("after", func(t *testing.T) {
		const size = 200 << 20 // as far as the tracker is concerned, as good as a gigabyte
		r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) {
			backendIn(k, "old")
			k.Line()
			k.Send("* SEARCH ")
			k.Endless(size)
			k.Send("\r\na OK\r\n")
			k.Silent()
		}})
		k := r.in()
		peak := watchHeap(t)
		k.Send("a SEARCH ALL\r\n")
		var b [64 << 10]byte
		n, tail := 0, ""
		for !strings.HasSuffix(tail, "a OK\r\n") {
			m, err := k.Conn.Read(b[:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
			tail += string(b[max(0, m-6):m])
			tail = tail[max(0, len(tail)-6):]
		}
		if p := peak(); p > 8<<20 || n != size+len("* SEARCH \r\na OK\r\n") {
			t.Errorf("heap grew by %d MB, %d bytes came", p>>20, n)
		}
	})
}

// watchHeap measures how much the heap grows at most until the result is called.
func watchHeap(t testing.TB) (peak func() int64) {
	t.Helper()
	stop, result := make(chan struct{}), make(chan int64)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base := int64(m.HeapInuse)
	go func() {
		var most int64
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for {
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, int64(m.HeapInuse)-base)
			select {
			case <-stop:
				result <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-result
	}
}

// TestHosts: a side with several hosts uses the next when one cannot be used, remembers it, and never replaces the host
// that a user has of his own.
func TestHosts(t *testing.T) {
	for name, bad := range map[string]string{"refuses": "", "silent": "!silent", "BYE": "S: * BYE full", "closes": "!close"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			second := mailtest.StartScriptAt(t, "[::1]:0", nil, func(k *mailtest.Talk) { // IPv6
				backendIn(k, "second")
				k.Dialogue("C: b LOGOUT\nS: * BYE")
			})
			r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) { k.Dialogue(bad) }, routes: "own@example.com old old_host=old\n",
				tune: func(c *config.Config) {
					b := &c.Backends[config.Old]
					b.ConnectTimeout, b.LoginTimeout = 300*time.Millisecond, 300*time.Millisecond
					b.Hosts = append(b.Hosts, config.Host{Name: "second", IMAP: endpoint(t, "imap://"+second.Addr, false)})
				}})
			if bad == "" {
				r.old.Close()
			}
			for range 6 {
				r.plain().Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nS: a OK [CAPABILITY ...] in on second\nC: b LOGOUT\nS: * BYE\n!end")
			}
			if n := r.old.Count(); n > 2 {
				t.Errorf("the bad host was asked %d times in 6 logins", n)
			}
			r.plain().Dialogue("S: * OK ...\nC: a LOGIN own@example.com pw\nS: a NO [UNAVAILABLE] ...")
			if n := second.Count(); n != 6 {
				t.Errorf("the second host was asked %d times", n)
			}
		})
	}
}

// TestBreaker: a side that fails again and again is not waited for, and the other side is as fast as ever.
func TestBreaker(t *testing.T) {
	r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) { k.Silent() }, new: func(k *mailtest.Talk) {
		backendIn(k, "new")
		k.Dialogue("C: b LOGOUT\nS: * BYE")
	}, routes: "n@example.com new\n", tune: func(c *config.Config) { c.Backends[config.Old].ConnectTimeout = 200 * time.Millisecond }})
	k := r.plain()
	k.Expect("* OK ...")
	for range 3 {
		k.Dialogue("C: a LOGIN u@example.com pw\nS: a NO [UNAVAILABLE] ...")
	}
	asked := r.old.Count()
	start := time.Now()
	for range 20 {
		k.Dialogue("C: a LOGIN u@example.com pw\nS: a NO [UNAVAILABLE] ...")
	}
	if d := time.Since(start); d > 2*time.Second || r.old.Count() > asked+1 {
		t.Errorf("20 refusals took %v, the host was asked %d times more", d, r.old.Count()-asked)
	}
	r.logged("login failed", "step=connect", "left alone for a moment", "timeout")
	r.plain().Dialogue("S: * OK ...\nC: a LOGIN n@example.com pw\nS: a OK [CAPABILITY ...] in on new\nC: b LOGOUT\nS: * BYE\n!end")
}

// TestSlowSideLeavesRoom: logins that wait for one side take half of the room before login at most.
func TestSlowSideLeavesRoom(t *testing.T) {
	r := newRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) { k.Dialogue(atLogin + "!silent") }, new: func(k *mailtest.Talk) {
		backendIn(k, "new")
		k.Dialogue("C: b LOGOUT\nS: * BYE")
	}, routes: "n@example.com new\n", tune: func(c *config.Config) { c.Limits.PreAuth = 8 }})
	for i := range 4 {
		k := r.plain()
		k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw")
		r.old.Await(fmt.Sprintf("accept %d", i+1))
	}
	r.plain().Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nS: a NO [UNAVAILABLE] ...")
	r.logged("login failed", errSideBusy.Error())
	r.plain().Dialogue("S: * OK ...\nC: a LOGIN n@example.com pw\nS: a OK [CAPABILITY ...] in on new\nC: b LOGOUT\nS: * BYE\n!end")
	if !errors.Is(verdict(errSideBusy), errSideBusy) {
		t.Error("the cause is lost")
	}
}

// TestMaxConnections: a host is not asked for more connections than it may have, and gets the next when one ends.
func TestMaxConnections(t *testing.T) {
	r := newRig(t, rigOptions{gone: true, old: ends("old", "C: ... LOGOUT\nS: * BYE"),
		tune: func(c *config.Config) { c.Backends[config.Old].MaxConnections = 1 }})
	k := r.in()
	other := r.plain()
	other.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nS: a NO [UNAVAILABLE] ...")
	r.logged("login failed", "max_connections")
	if err := r.dialer.Update(r.cfg.Backends); err != nil { // a reload forgets no connection
		t.Fatal(err)
	}
	other.Dialogue("C: a LOGIN u@example.com pw\nS: a NO [UNAVAILABLE] ...")
	k.Dialogue("C: b LOGOUT\nS: * BYE\n!end")
	r.logged("session end")
	other.Dialogue("C: a LOGIN u@example.com pw\nS: a OK ...")
}
