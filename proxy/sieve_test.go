package proxy

import (
	"context"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

// sieveRig is a rig whose listeners and backends speak ManageSieve.
func sieveRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	o.tune = func(c *config.Config) {
		c.Listen = nil
		for _, u := range []string{"sieve://127.0.0.1:0", "sieve+starttls://127.0.0.1:0", "sieves://127.0.0.1:0"} {
			c.Listen = append(c.Listen, endpoint(t, u, true))
		}
		for s := range c.Backends {
			h := &c.Backends[s].Hosts[0]
			h.Sieve = endpoint(t, strings.Replace(h.IMAP.URL, "imap://", "sieve://", 1), false)
			h.IMAP = config.Endpoint{}
		}
	}
	return newRig(t, o)
}

const (
	sieveIn   = "S: \"IMPLEMENTATION\" \"x\"\nS: \"SIEVE\" \"fileinto\"\nS: \"SASL\" \"PLAIN\"\nS: OK \"hi\"\nC: AUTHENTICATE \"PLAIN\" ...\nS: OK \"in\"\n"
	sieveAuth = `C: AUTHENTICATE "PLAIN" "AHVAZXhhbXBsZS5jb20AcHc="` + "\nS: OK \"Logged in.\"\n"
)

func sieveEnds(text string) func(*mailtest.Talk) {
	return func(k *mailtest.Talk) { k.Dialogue(sieveIn + text); k.Silent() }
}

// TestSieveSession: scripts go through as they are, and what is sent behind the login at once.
func TestSieveSession(t *testing.T) {
	t.Parallel()
	r := sieveRig(t, rigOptions{gone: true, old: sieveEnds("C: LISTSCRIPTS\nS: \"a\" ACTIVE\nS: OK\nC: PUTSCRIPT \"b\" {9+}\nC\" \"OK\\r\\nx\\r\\ny\\r\\n\"\nC:\nS: OK (WARNINGS) {4}\nS\" \"NO\\r\\n\\r\\n\"\n" +
		"C: authenticatX \"PLAIN\"\nS: NO \"what\"\nC: LOGOUT\nS: OK\n!close")})
	k := r.secure()
	k.Dialogue("S: \"IMPLEMENTATION\" \"mailgate\"\nS: \"SIEVE\" \"\"\nS: \"SASL\" \"PLAIN\"\nS: OK \"mail.example.com ready (mailgate/...")
	k.Send("AUTHENTICATE \"PLAIN\" {24+}\r\nAHVAZXhhbXBsZS5jb20AcHc=\r\nLISTSCRIPTS\r\n")
	k.Dialogue("S: OK \"Logged in.\"\nS: \"a\" ACTIVE\nS: OK\nC: PUTSCRIPT \"b\" {9+}\nC\" \"OK\\r\\nx\\r\\ny\\r\\n\"\nC:\nS: OK (WARNINGS) {4}\nS\" \"NO\\r\\n\\r\\n\"\n" +
		"C: authenticate \"PLAIN\"\nS: NO \"what\"\nC: LOGOUT\nS: OK\n!end")
	r.logged("session end", "protocol=sieve", "side=old")
}

// TestSieveBefore: what a client may do before login.
func TestSieveBefore(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		mode config.TLSMode
		text string
		in   bool
	}{
		"capability":      {text: "C: capability\nS: \"IMPLEMENTATION\" \"mailgate\"\nS: \"SIEVE\" \"\"\nS: \"SASL\" \"PLAIN\"\nS: OK ...\nC: LOGOUT\nS: OK ...\n!end"},
		"noop":            {text: "C: NOOP\nS: OK ...\nC: NOOP \"a\\\"b\"\nS: OK (TAG \"a\\\"b\") ...\nC: NOOP {2+}\nC: hi\nS: OK (TAG \"hi\") ..."},
		"in clear":        {mode: config.StartTLS, text: "C: CAPABILITY\nS: \"IMPLEMENTATION\" \"mailgate\"\nS: \"SIEVE\" \"\"\nS: \"SASL\" \"\"\nS: \"STARTTLS\"\nS: OK ...\nC: AUTHENTICATE \"PLAIN\" \"eAB4AHg=\"\nS: NO (ENCRYPT-NEEDED) ..."},
		"in two steps":    {text: "C: AUTHENTICATE \"plain\"\nS: \"\"\nC: \"AHVAZXhhbXBsZS5jb20AcHc=\"\nS: OK ...", in: true},
		"as a literal":    {text: "C: AUTHENTICATE \"PLAIN\"\nS: \"\"\nC: {24+}\nC: AHVAZXhhbXBsZS5jb20AcHc=\nS: OK ...", in: true},
		"cancelled":       {text: "C: AUTHENTICATE \"PLAIN\"\nS: \"\"\nC: \"*\"\nS: NO ...cancelled.\""},
		"not base64":      {text: "C: AUTHENTICATE \"PLAIN\" \"?\"\nS: NO ...base64.\"\nC: AUTHENTICATE \"PLAIN\"\nS: \"\"\nC: \"?\"\nS: NO ...base64.\""},
		"unknown":         {text: "C: AUTHENTICATE \"LOGIN\"\nS: NO Unsupported...\nC: AUTHENTICATE PLAIN\nS: NO ...\nC: LISTSCRIPTS\nS: NO ...\nC: STARTTLS\nS: NO ...\nC: \"CAPABILITY\"\nS: NO ..."},
		"syntax":          {text: "C: NOOP \"\nS: NO ...\nC: a b c d e f g h i\nS: NO ...\nC\" \"NOOP \\\"\\\\\\r\\n\"\nS: NO ..."},
		"waits":           {text: "C: NOOP {2}\nS: BYE ...\n!end"},
		"endless literal": {text: "C: NOOP {999999999+}\nS: BYE ...\n!end"},
		"bare LF":         {text: "C\" \"NOOP\\n\"\nS: BYE ...\n!end"},
		"NUL":             {text: "C\" \"NOOP \\x00\\r\\n\"\nS: NO ..."},
		"endless line":    {text: "!endless 20000\nS: BYE ...\n!end"},
		"nonsense":        {text: strings.Repeat("C: FOO\nS: NO ...\n", maxMistakes-1) + "C: FOO\nS: BYE ...\n!end"},
		"somebody else":   {text: "C: AUTHENTICATE \"PLAIN\" \"eAB1AHA=\"\nS: NO \"Authentication failed.\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := rigOptions{}
			if tt.in {
				o.old, o.gone = sieveEnds("C: LOGOUT\nS: OK\n!close"), true
				tt.text += "\nC: LOGOUT\nS: OK\n!end"
			}
			tt.text = strings.NewReplacer("NO ...cancelled.\"", "NO \"Authentication cancelled.\"", "NO ...base64.\"", "NO ...", "NO Unsupported...", "NO \"Unsupported...").Replace(tt.text)
			k := mailtest.Dial(t, sieveRig(t, o).addr[tt.mode], nil)
			k.Until("OK ...")
			k.Dialogue(tt.text)
		})
	}
}

// TestSieveSTARTTLS: what is sent in clear behind STARTTLS is not read, and the capabilities come again.
func TestSieveSTARTTLS(t *testing.T) {
	t.Parallel()
	r := sieveRig(t, rigOptions{gone: true, old: sieveEnds("C: LOGOUT\nS: OK\n!close")})
	k := r.starttls()
	k.Until("OK ...")
	k.Send("STARTTLS\r\nNOOP \"evil\"\r\n")
	k.Expect("OK ...")
	k.StartTLS(r.client)
	k.Dialogue("S: \"IMPLEMENTATION\" \"mailgate\"\nS: \"SIEVE\" \"\"\nS: \"SASL\" \"PLAIN\"\nS: OK ...\n" + sieveAuth + "C: LOGOUT\nS: OK\n!end")
}

// TestSieveRefused: a temporary failure is none of the password.
func TestSieveRefused(t *testing.T) {
	t.Parallel()
	const pre = "S: \"SIEVE\" \"fileinto\"\nS: \"SASL\" \"PLAIN\"\nS: OK\nC: AUTHENTICATE ...\n"
	for name, tt := range map[string]struct{ old, want string }{
		"wrong":     {pre + "S: NO \"secret reasons\"", `NO "Authentication failed."`},
		"temporary": {pre + "S: NO (TRYLATER) \"later\"", `NO (TRYLATER) "The mail server...`},
		"gone":      {pre + "!close", `NO (TRYLATER) ...`},
		"bye":       {"S: BYE (TRYLATER) \"full\"", `NO (TRYLATER) ...`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := sieveRig(t, rigOptions{gone: true, old: func(k *mailtest.Talk) { k.Dialogue(tt.old); k.Silent() }})
			k := r.plain()
			k.Until("OK ...")
			k.Dialogue(`C: AUTHENTICATE "PLAIN" "AHVAZXhhbXBsZS5jb20AcHc="` + "\nS: " + tt.want + "\nC: NOOP\nS: OK ...")
		})
	}
}

// TestSieveFlip: sessions end between two commands with BYE, a script that is being put is put first, and the next login is on NEW.
func TestSieveFlip(t *testing.T) {
	t.Parallel()
	const bye = `BYE (TRYLATER) "Your mailbox is being moved, please reconnect"`
	for name, tt := range map[string]struct{ old, client, after string }{
		"idle":   {"C: LOGOUT", "", "S: " + bye + "\n!end"},
		"put":    {"C: PUTSCRIPT \"a\" {5+}\nC\" \"12\"\n!fire in\nC\" \"345\\r\\n\"\nS: OK\nC: LOGOUT", "C: PUTSCRIPT \"a\" {5+}\nC\" \"12\"", "C\" \"345\\r\\n\"\nS: OK\nS: " + bye + "\n!end"},
		"answer": {"C: SETACTIVE \"a\"\n!fire in\n!await go\nS: OK\nC: LOGOUT", "C: SETACTIVE \"a\"", "S: OK\nS: " + bye + "\n!end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := sieveRig(t, rigOptions{gone: true, old: sieveEnds(tt.old), new: sieveEnds("C: LOGOUT\nS: OK\n!close")})
			k := r.plain()
			k.Until("OK ...")
			k.Dialogue(sieveAuth + tt.client)
			if tt.client != "" {
				r.old.Await("in")
			}
			done := r.fence(1)
			for _, s := range r.router.Sessions(user) {
				s.Press(router.CutReads, "Your mailbox is being moved, please reconnect")
			}
			if tt.client != "" {
				select {
				case <-done:
					t.Fatal("ended in the middle of a command")
				case <-time.After(100 * time.Millisecond):
				}
				r.old.Fire("go")
			}
			k.Dialogue(tt.after)
			drained(t, done)
			r.release(config.New, 1, 2)
			k = r.plain()
			k.Until("OK ...")
			k.Dialogue(sieveAuth + "C: LOGOUT\nS: OK\n!end")
		})
	}
}

// TestSieveOffer: of Sieve a client is offered what both sides have; a changed script is a sign for the syncer.
func TestSieveOffer(t *testing.T) {
	t.Parallel()
	side := func(extensions, then string) func(*mailtest.Talk) {
		return func(k *mailtest.Talk) {
			k.Dialogue("S: \"SIEVE\" \"" + extensions + "\"\nS: \"SASL\" \"PLAIN XOAUTH2\"\nS: \"VERSION\" \"1.0\"\nS: OK")
			if k.N == 1 {
				k.Dialogue("C: LOGOUT\nS: OK")
			} else {
				k.Dialogue(then)
			}
		}
	}
	c := &told{}
	r := sieveRig(t, rigOptions{gone: true, changed: c.changed, new: side("fileinto vacation", ""),
		old: side("vacation imap4flags fileinto", "C: AUTHENTICATE ...\nS: OK\nC: GETSCRIPT \"a\"\nS: {1}\nS: x\nS: OK\nC: SETACTIVE \"a\"\nS: OK\nC: LOGOUT\nS: OK\n!close")})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if !r.dialer.Refresh(ctx, "x") {
		t.Fatal("a side could not be seen")
	}
	k := r.plain()
	k.Dialogue("S: \"IMPLEMENTATION\" \"mailgate\"\nS: \"SIEVE\" \"vacation fileinto\"\nS: \"SASL\" \"PLAIN XOAUTH2\"\nS: \"VERSION\" \"1.0\"\nS: OK ...\n" + sieveAuth +
		"C: GETSCRIPT \"a\"\nS: {1}\nS: x\nS: OK\nC: SETACTIVE \"a\"\nS: OK\nC: LOGOUT\nS: OK\n!end")
	r.logged("session end")
	if n := c.of(t, user); n != 1 {
		t.Errorf("%d signs", n)
	}
}
