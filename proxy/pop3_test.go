package proxy

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

// popRig is a rig whose listeners and backends speak POP3.
func popRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	tune := o.tune
	o.tune = func(c *config.Config) {
		c.Listen = nil
		for _, u := range []string{"pop3://127.0.0.1:0", "pop3+starttls://127.0.0.1:0", "pop3s://127.0.0.1:0"} {
			c.Listen = append(c.Listen, endpoint(t, u, true))
		}
		for s := range c.Backends {
			h := &c.Backends[s].Hosts[0]
			h.POP3 = endpoint(t, strings.Replace(h.IMAP.URL, "imap://", "pop3://", 1), false)
			h.IMAP = config.Endpoint{}
		}
		if tune != nil {
			tune(c)
		}
	}
	return newRig(t, o)
}

// popIn is the usual conversation of a POP3 backend up to the login.
const popIn = "S: +OK hi\nC: CAPA\nS: +OK\nS: UIDL\nS: USER\nS: SASL PLAIN\nS: .\nC: AUTH PLAIN ...\nS: +OK in on "

func popEnds(name, text string) func(*mailtest.Talk) {
	return func(k *mailtest.Talk) { k.Dialogue(popIn + name + "\n" + text) }
}

// popClientIn logs a client in, in clear.
func (r *rig) popClientIn() *mailtest.Talk {
	r.t.Helper()
	k := r.plain()
	k.Dialogue("S: +OK mail.example.com ready (mailgate/...\nC: USER " + user + "\nS: +OK ...\nC: PASS pw\nS: +OK in on ...")
	return k
}

// TestPOP3Session: commands go through as they are, also those sent behind the password at once, and answers come back to the letter.
func TestPOP3Session(t *testing.T) {
	t.Parallel()
	r := popRig(t, rigOptions{old: popEnds("old", "C: STAT\nC: RETR 1\nS: +OK 1 20\nS: +OK 20 octets\nS: From: x\nS:\nS: ..dot\nS: .\n"+
		"C: autX PLAIN\nS: -ERR what\nC: QUIT\nS: +OK bye")})
	k := r.secure()
	k.Expect("+OK ...")
	k.Send("USER u@example.com\r\nPASS p w \r\nSTAT\r\nRETR 1\r\n")
	k.Dialogue("S: +OK ...\nS: +OK in on old\nS: +OK 1 20\nS: +OK 20 octets\nS: From: x\nS:\nS: ..dot\nS: .\n" +
		"C: auth PLAIN\nS: -ERR what\nC: QUIT\nS: +OK bye\n!end")
	r.logged("session end", "protocol=pop3", "side=old", `reason="backend closed"`)
}

// TestPOP3Before: what a client may do before login on each listener.
func TestPOP3Before(t *testing.T) {
	t.Parallel()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00u@example.com\x00pw"))
	for name, tt := range map[string]struct {
		mode config.TLSMode
		text string
		in   string // how OLD lets him in; "" means that it is not asked
	}{
		"capabilities": {text: "C: capa\nS: +OK ...\nS: RESP-CODES\nS: AUTH-RESP-CODE\nS: USER\nS: SASL PLAIN LOGIN\nS: IMPLEMENTATION mailgate\nS: .\nC: QUIT\nS: +OK Bye\n!end"},
		"in clear": {mode: config.StartTLS, text: "C: CAPA\nS: +OK ...\nS: RESP-CODES\nS: AUTH-RESP-CODE\nS: STLS\nS: IMPLEMENTATION mailgate\nS: .\n" +
			"C: USER u@example.com\nS: -ERR Plaintext...\nC: PASS x\nS: -ERR Plaintext...\nC: AUTH PLAIN " + plain + "\nS: -ERR Plaintext..."},
		"AUTH":                     {text: "C: AUTH plain " + plain + "\nS: +OK in on old", in: "C: QUIT\nS: +OK"},
		"AUTH without response":    {text: "C: AUTH PLAIN\nS: +...\nC: " + plain + "\nS: +OK in on old", in: "C: QUIT\nS: +OK"},
		"AUTH LOGIN":               {text: "C: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: dUBleGFtcGxlLmNvbQ==\nS: + UGFzc3dvcmQ6\nC: cHc=\nS: +OK in on old", in: "C: QUIT\nS: +OK"},
		"AUTH LOGIN with response": {text: "C: AUTH LOGIN dUBleGFtcGxlLmNvbQ==\nS: + UGFzc3dvcmQ6\nC: cHc=\nS: +OK in on old", in: "C: QUIT\nS: +OK"},
		"list of mechanisms":       {text: "C: AUTH\nS: +OK ...\nS: PLAIN\nS: LOGIN\nS: ."},
		"cancelled":                {text: "C: AUTH PLAIN\nS: +...\nC: *\nS: -ERR Authentication cancelled\nC: AUTH PLAIN ?\nS: -ERR ...base64"},
		"no such thing":            {text: "C: APOP a b\nS: -ERR APOP...\nC: AUTH CRAM-MD5\nS: -ERR Unsupported...\nC: UTF8\nS: -ERR UTF8...\nC: STLS\nS: -ERR STLS...\nC: STAT\nS: -ERR ...before login"},
		"out of order":             {text: "C: PASS x\nS: -ERR PASS...\nC: USER\nS: -ERR USER...\nC: USER x\nS: +OK ...\nC: PASS\nS: -ERR PASS..."},
		"as somebody else":         {text: "C: AUTH PLAIN eAB1AHA=\nS: -ERR [AUTH] ..."},
		"bare LF":                  {text: "C\" \"CAPA\\n\"\nS: -ERR Lines...\n!end"},
		"NUL":                      {text: "C\" \"USER a\\x00b\\r\\n\"\nS: -ERR Lines..."},
		"endless line":             {text: "!endless 20000\nS: -ERR Line too long\n!end"},
		"nonsense":                 {text: strings.Repeat("C: FOO\nS: -ERR Unknown...\n", maxMistakes-1) + "C: FOO\nS: -ERR Too many...\n!end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var old func(*mailtest.Talk)
			if tt.in != "" {
				old = popEnds("old", tt.in)
				tt.text += "\nC: QUIT\nS: +OK\n!end"
			}
			r := popRig(t, rigOptions{old: old})
			k := mailtest.Dial(t, r.addr[tt.mode], nil)
			k.Expect("+OK mail.example.com ready (mailgate/...")
			k.Dialogue(tt.text)
		})
	}
}

// TestPOP3STLS: what is said in clear before TLS does not count, and what is sent in clear behind STLS is not read.
func TestPOP3STLS(t *testing.T) {
	t.Parallel()
	r := popRig(t, rigOptions{})
	k := r.starttls()
	k.Expect("+OK ...")
	k.Send("STLS\r\nUSER evil\r\n")
	k.Expect("+OK Begin...")
	k.StartTLS(r.client)
	k.Dialogue("C: PASS x\nS: -ERR PASS...\nC: STLS\nS: -ERR TLS is already...\nC: CAPA\nS: +OK ...\nS~ .")
}

// TestPOP3Refused: a client hears [AUTH] for a wrong password and for nothing else.
func TestPOP3Refused(t *testing.T) {
	t.Parallel()
	const pre = "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: USER u@example.com\nS: +OK\nC: PASS pw\n"
	for name, tt := range map[string]struct{ old, want, result string }{
		"wrong":         {pre + "S: -ERR [AUTH] secret reasons", "-ERR [AUTH] Authentication failed.", "backend_rejected"},
		"temporary":     {pre + "S: -ERR [SYS/TEMP] later", "-ERR [SYS/TEMP] The mail server...", "backend_error"},
		"locked":        {pre + "S: -ERR [IN-USE] by another", "-ERR [IN-USE] Your mailbox is in use...", "backend_error"},
		"too soon":      {pre + "S: -ERR [LOGIN-DELAY] wait", "-ERR [LOGIN-DELAY] You logged in...", "backend_error"},
		"gone":          {pre + "!close", "-ERR [SYS/TEMP] ...", "backend_error"},
		"misconfigured": {"S: +OK hi\nC: CAPA\nS: +OK\nS: STLS\nS: .", "-ERR [SYS/TEMP] ...", "backend_error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := popRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) { k.Dialogue(tt.old); k.Silent() }})
			k := r.plain()
			k.Dialogue("S: +OK ...\nC: USER u@example.com\nS: +OK ...\nC: PASS pw\nS: " + tt.want + "\nC: NOOP\nS: +OK ...")
			if s := r.rec.results(); s != "map["+tt.result+":1]" {
				t.Error(s)
			}
		})
	}
}

// TestPOP3Flip: sessions end between two commands and are let in on NEW; one in the middle of an answer ends behind it; one with
// messages marked as deleted holds the drain until its QUIT, and no mark is lost or made to count by us.
func TestPOP3Flip(t *testing.T) {
	t.Parallel()
	const bye = "-ERR [SYS/TEMP] Your mailbox is being moved, please reconnect"
	for name, tt := range map[string]struct{ old, client, after, waits string }{
		"idle":            {old: "C: QUIT", after: "S: " + bye + "\n!end"},
		"in STAT":         {old: "C: STAT\n!fire in\n!await go\nS: +OK 0 0\nC: QUIT", client: "C: STAT", after: "S: +OK 0 0\nS: " + bye + "\n!end", waits: "in"},
		"in RETR":         {old: "C: RETR 1\nS: +OK\nS: half\n!fire in\n!await go\nS: rest\nS: .\n!end", client: "C: RETR 1\nS: +OK\nS: half", after: "S: rest\nS: .\nS: " + bye + "\n!end", waits: "in"},
		"read, then idle": {old: "C: RETR 1\nS: +OK\nS: .\n!end", client: "C: RETR 1\nS: +OK\nS: .", after: "S: " + bye + "\n!end"}, // QUIT is the client's: a server may delete what was read
		"DELE":            {old: "C: DELE 1\nS: +OK\nC: RETR 2\nS: +OK\nS: .\nC: QUIT\nS: +OK bye", client: "C: DELE 1\nS: +OK", after: "C: RETR 2\nS: +OK\nS: .\nC: QUIT\nS: +OK bye\n!end"},
		"DELE, gone":      {old: "C: DELE 1\nS: +OK\n!end", client: "C: DELE 1\nS: +OK", after: "!close"},
		"RSET":            {old: "C: DELE 1\nS: +OK\nC: RSET\nS: +OK\nC: QUIT", client: "C: DELE 1\nS: +OK", after: "C: RSET\nS: +OK\nS: " + bye + "\n!end"},
		"half line":       {old: "C\" \"ST\"\n!end", client: "C\" \"ST\"", after: "S: " + bye + "\n!end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := popRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) { k.Dialogue(popIn + "old\n" + tt.old); k.Silent() },
				new: popEnds("new", "C: QUIT\nS: +OK")})
			k := r.popClientIn()
			if tt.client != "" {
				k.Dialogue(tt.client)
			}
			if tt.waits != "" {
				r.old.Await(tt.waits)
			}
			if name == "half line" {
				r.until("it is passed on", func() bool { s := r.router.Sessions(user); return len(s) == 1 })
				time.Sleep(50 * time.Millisecond)
			}
			done := r.fence(1)
			if strings.HasPrefix(name, "DELE") || name == "RSET" {
				select {
				case <-done:
					t.Fatal("ended with marks")
				case <-time.After(200 * time.Millisecond):
				}
				for _, s := range r.router.Sessions(user) {
					s.Press(router.CutReads, strings.TrimPrefix(bye, "-ERR [SYS/TEMP] ")) // half of the deadline is over
				}
				select {
				case <-done:
					t.Fatal("cut with marks")
				case <-time.After(100 * time.Millisecond):
				}
			}
			if tt.waits != "" {
				r.old.Fire("go")
			}
			k.Dialogue(tt.after)
			drained(t, done)
			r.release(config.New, 1, 2)
			k = r.popClientIn()
			k.Dialogue("C: QUIT\nS: +OK\n!end")
		})
	}
}

// TestPOP3Held: a login waits for the release without a word, and is let in on the right side.
func TestPOP3Held(t *testing.T) {
	t.Parallel()
	r := popRig(t, rigOptions{new: popEnds("new", "C: STAT\nS: +OK 0 0\nC: QUIT\nS: +OK")})
	drained(t, r.fence(1))
	k := r.plain()
	k.Expect("+OK ...")
	k.Send("USER u@example.com\r\nPASS pw\r\nSTAT\r\n")
	k.Expect("+OK Send...")
	r.until("it is held", func() bool { _, held := r.router.Pending(user); return held == 1 })
	r.release(config.New, 1, 2)
	k.Dialogue("S: +OK in on new\nS: +OK 0 0\nC: QUIT\nS: +OK\n!end")
}

// TestPOP3Changed: QUIT tells that the mailbox is another where messages were deleted or read.
func TestPOP3Changed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text  string
		calls int
	}{
		"looked":           {"C: STAT\nS: +OK 1 1\nC: QUIT\nS: +OK", 0},
		"read":             {"C: RETR 1\nS: +OK\nS: .\nC: QUIT\nS: +OK", 1},
		"deleted":          {"C: DELE 1\nS: +OK\nC: QUIT\nS: +OK", 1},
		"left alone again": {"C: DELE 1\nS: +OK\nC: RSET\nS: +OK\nC: QUIT\nS: +OK", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &told{}
			r := popRig(t, rigOptions{old: popEnds("old", tt.text), changed: c.changed})
			k := r.popClientIn()
			k.Dialogue(tt.text + "\n!end")
			r.logged("session end")
			if n := c.of(t, user); n != tt.calls {
				t.Errorf("%d calls, want %d", n, tt.calls)
			}
		})
	}
}

// TestPOP3Offer: what both sides have is offered, and UTF8 is passed on.
func TestPOP3Offer(t *testing.T) {
	t.Parallel()
	side := func(caps, then string) func(*mailtest.Talk) {
		return func(k *mailtest.Talk) {
			k.Dialogue("S: +OK hi\nC: CAPA\nS: +OK\nS: " + strings.Join(strings.Split(caps, ","), "\nS: ") + "\nS: .")
			if k.N == 1 {
				k.Dialogue("C: QUIT\nS: +OK")
			} else {
				k.Dialogue(then)
			}
		}
	}
	r := popRig(t, rigOptions{tune: func(c *config.Config) { c.Login.Mechanisms = []string{"PLAIN", "XOAUTH2", "OAUTHBEARER"} },
		old: side("TOP,UIDL,UTF8,PIPELINING,SASL PLAIN XOAUTH2", "C: UTF8\nS: +OK\nC: AUTH PLAIN ...\nS: +OK in\nC: QUIT\nS: +OK"), new: side("UTF8,UIDL,TOP,SASL PLAIN OAUTHBEARER XOAUTH2", "")})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if !r.dialer.Refresh(ctx, "x") {
		t.Fatal("a side could not be seen")
	}
	k := r.plain()
	k.Dialogue("S: +OK ...\nC: CAPA\nS: +OK ...\nS: RESP-CODES\nS: AUTH-RESP-CODE\nS: TOP\nS: UIDL\nS: UTF8\nS: USER\nS: SASL PLAIN XOAUTH2\nS: IMPLEMENTATION mailgate\nS: .\n" +
		"C: UTF8\nS: +OK ...\nC: USER u@example.com\nS: +OK ...\nC: PASS pw\nS: +OK in\nC: QUIT\nS: +OK\n!end")
}
