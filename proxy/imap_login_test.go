package proxy

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest"
)

// checking is a backend that knows passwords by name, and serves sessions: each command is answered OK with its name.
func checking(passwords map[string]string) func(*mailtest.Talk) {
	return func(k *mailtest.Talk) {
		k.Send("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER] ready\r\n")
		for {
			f := strings.Fields(k.Line())
			switch {
			case len(f) == 4 && f[1] == "AUTHENTICATE":
				b, _ := base64.StdEncoding.DecodeString(f[3])
				p := strings.Split(string(b), "\x00")
				if len(p) == 3 && p[0] == "" && passwords[p[1]] == p[2] && p[2] != "" {
					k.Send(f[0] + " OK [CAPABILITY IMAP4rev1 IDLE COMPRESS=DEFLATE] in\r\n")
				} else {
					k.Send(f[0] + " NO [AUTHENTICATIONFAILED] no\r\n")
				}
			case len(f) > 1 && f[1] == "LOGOUT":
				k.Send("* BYE bye\r\n" + f[0] + " OK out\r\n")
				return
			case len(f) > 1:
				k.Send(f[0] + " OK did " + f[1] + "\r\n")
			}
		}
	}
}

// TestLoginForms: every way in which clients write a name and a password reaches the backend as the same credentials.
func TestLoginForms(t *testing.T) {
	odd := "p\"\\ {5}"
	passwords := map[string]string{user: "pw", "ü@example.com": "pässword", "a\"b\\c@example.com": odd}
	r := newRig(t, rigOptions{old: checking(passwords), gone: true})
	plain := func(name, pw string) string {
		return base64.StdEncoding.EncodeToString([]byte("\x00" + name + "\x00" + pw))
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	args := func(name, pw string) map[string]string {
		quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace
		return map[string]string{
			"quoted":        fmt.Sprintf("C: a LOGIN \"%s\" \"%s\"", quote(name), quote(pw)),
			"sync sync":     fmt.Sprintf("C: a LOGIN {%d}\nS: + OK\nC: %s {%d}\nS: + OK\nC: %s", len(name), name, len(pw), pw),
			"non non":       fmt.Sprintf("C: a LOGIN {%d+}\nC: %s {%d+}\nC: %s", len(name), name, len(pw), pw),
			"sync non":      fmt.Sprintf("C: a LOGIN {%d}\nS: + OK\nC: %s {%d+}\nC: %s", len(name), name, len(pw), pw),
			"non sync":      fmt.Sprintf("C: a LOGIN {%d+}\nC: %s {%d}\nS: + OK\nC: %s", len(name), name, len(pw), pw),
			"quoted sync":   fmt.Sprintf("C: a LOGIN \"%s\" {%d}\nS: + OK\nC: %s", quote(name), len(pw), pw),
			"non quoted":    fmt.Sprintf("C: a LOGIN {%d+}\nC: %s \"%s\"", len(name), name, quote(pw)),
			"PLAIN IR":      "C: a AUTHENTICATE PLAIN " + plain(name, pw),
			"PLAIN":         "C: a AUTHENTICATE plain\nS: + \nC: " + plain(name, pw),
			"PLAIN authzid": "C: a AUTHENTICATE PLAIN " + b64(name+"\x00"+name+"\x00"+pw),
			"LOGIN":         "C: a AUTHENTICATE LOGIN\nS: + VXNlcm5hbWU6\nC: " + b64(name) + "\nS: + UGFzc3dvcmQ6\nC: " + b64(pw),
			"LOGIN IR":      "C: a AUTHENTICATE LOGIN " + b64(name) + "\nS: + UGFzc3dvcmQ6\nC: " + b64(pw),
			"behind a cancelled one": "C: a AUTHENTICATE PLAIN\nS: + \nC: *\nS: a BAD Authentication cancelled.\n" +
				"C: a AUTHENTICATE LOGIN\nS: + VXNlcm5hbWU6\nC: *\nS: a BAD Authentication cancelled.\nC: a AUTHENTICATE PLAIN " + plain(name, pw),
		}
	}
	for name, pw := range passwords {
		forms := args(name, pw)
		if name == user {
			forms["atoms"] = "C: a LOGIN " + name + " " + pw
		}
		for form, text := range forms {
			t.Run(name+" "+form, func(t *testing.T) {
				k := mailtest.Dial(t, r.addr[config.Plain], nil)
				k.Dialogue("S: * OK ...\n" + strings.ReplaceAll(text, "$", "$$"))
				k.Dialogue("S: a OK [CAPABILITY IMAP4rev1 IDLE] in\nC: b NOOP\nS: b OK did NOOP\n" +
					"C: c LOGOUT\nS: * BYE bye\nS: c OK out\n!end")
			})
		}
	}
}

// TestLoginRefused: what is not a login is refused as what it is, the connection lives on, and the right one gets in.
func TestLoginRefused(t *testing.T) {
	r := newRig(t, rigOptions{old: checking(map[string]string{user: "pw"}), gone: true,
		tune: func(c *config.Config) { c.Login.MaxFailures = 50 }})
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	k := r.plain()
	k.Dialogue("S: * OK ...")
	for _, text := range []string{
		"C: a LOGIN " + user + " wrong\nS: a NO [AUTHENTICATIONFAILED] Authentication failed.",
		"C: a AUTHENTICATE PLAIN =\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a AUTHENTICATE PLAIN " + b64("other\x00"+user+"\x00pw") + "\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a AUTHENTICATE PLAIN " + b64("\x00"+user) + "\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a AUTHENTICATE PLAIN " + b64("\x00"+user+"\x00p\r\nw") + "\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a AUTHENTICATE LOGIN =\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a AUTHENTICATE LOGIN\nS: + ...\nC: " + b64("u\nx") + "\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a LOGIN {17+}\nC\" \"u@example.com\\r\\nb {2+}\\r\\npw\\r\\n\"\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a LOGIN {3+}\nC\" \"u\\x00x {2+}\\r\\npw\\r\\n\"\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a LOGIN {2+}\nC\" \"\\xff\\xfe {2+}\\r\\npw\\r\\n\"\nS: a NO [AUTHENTICATIONFAILED] ...", // no UTF-8
		"C: a LOGIN \"\" pw\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a LOGIN " + user + " \"\"\nS: a NO [AUTHENTICATIONFAILED] ...",
		"C: a AUTHENTICATE CRAM-MD5\nS: a NO Unsupported authentication mechanism.",
		"C: a AUTHENTICATE GSSAPI =\nS: a NO Unsupported authentication mechanism.",
		"C: a AUTHENTICATE PLAIN ***\nS: a BAD ...",
		"C: a AUTHENTICATE PLAIN\nS: + \nC: ***\nS: a BAD ...",
		"C: a AUTHENTICATE\nS: a BAD ...",
		"C: a LOGIN " + user + "\nS: a BAD ...",
		"C: a STARTTLS\nS: a BAD ...",
		"C: a SELECT INBOX\nS: a BAD ...",
		"C: a LOGIN " + user + " {99999}\nS: a BAD [TOOBIG] ...",
		"C: a NOOP\nS: a OK ...",
	} {
		k.Dialogue(strings.ReplaceAll(text, "$", "$$"))
	}
	k.Dialogue("C: a LOGIN " + user + " pw\nS: a OK ...")
	if n := r.old.Said("\n"); strings.Contains(strings.Join(r.old.Received(), ""), "b {2") || n == 0 {
		t.Errorf("the backend got %q", r.old.Received())
	}
}

// TestTooManyFailures closes the connection, but tells the last one first.
func TestTooManyFailures(t *testing.T) {
	r := newRig(t, rigOptions{old: checking(nil), gone: true, tune: func(c *config.Config) { c.Login.MaxFailures = 2 }})
	k := r.plain()
	k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com x\nS: a NO [AUTHENTICATIONFAILED] ...\nC: a LOGIN u@example.com x\n" +
		"S: a NO [AUTHENTICATIONFAILED] ...\nS: * BYE ...\n!end")
	k = r.plain()
	k.Dialogue("S: * OK ...")
	for range maxMistakes - 1 {
		k.Dialogue("C: a NONSENSE\nS: a BAD ...")
	}
	k.Dialogue("C: a NONSENSE\nS: * BYE ...\n!end")
}

// TestCapabilities: what is advertised is accepted, at each point of a connection.
func TestCapabilities(t *testing.T) {
	r := newRig(t, rigOptions{old: checking(map[string]string{user: "pw"}), gone: true})
	k := r.starttls()
	k.Dialogue(`
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID STARTTLS LOGINDISABLED] mail.example.com ready (mailgate/...
		C: a LOGIN u@example.com pw
		S: a NO [PRIVACYREQUIRED] ...
		C: a AUTHENTICATE PLAIN AHUAcA==
		S: a NO [PRIVACYREQUIRED] ...
		C: a CAPABILITY
		S: * CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID STARTTLS LOGINDISABLED
		S: a OK ...
		C: b STARTTLS
		S: b OK ...`)
	k.StartTLS(r.client)
	k.Dialogue(`
		C: a CAPABILITY
		S: * CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=PLAIN AUTH=LOGIN
		S: a OK ...
		C: b STARTTLS
		S: b BAD TLS is already active.
		C: c LOGIN u@example.com pw
		# who asked with CAPABILITY may not read the tagged OK: he gets both
		S: * CAPABILITY IMAP4rev1 IDLE
		S: c OK [CAPABILITY IMAP4rev1 IDLE] in`)
	k = r.secure()
	k.Dialogue(`
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID AUTH=PLAIN AUTH=LOGIN] mail.example.com ready (mailgate/...
		C: c LOGIN u@example.com pw
		S: c OK [CAPABILITY IMAP4rev1 IDLE] in`)
}

// TestOAuth: offered only where both sides have it; the backend's reason reaches the client before the tagged NO.
func TestOAuth(t *testing.T) {
	const reason = "eyJzdGF0dXMiOiI0MDEifQ==" // {"status":"401"}
	oauth := func(mechanism, last string) func(*mailtest.Talk) {
		return func(k *mailtest.Talk) {
			k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=PLAIN] ready")
			f := strings.Fields(k.Line())
			if f[1] == "CAPABILITY" || f[1] == "LOGOUT" { // the look before
				k.Dialogue("S: " + f[0] + " OK out")
				return
			}
			if f[2] != mechanism {
				t.Errorf("got %q", f)
			}
			k.Dialogue("S: + " + reason + "\nC: " + last + "\nS: " + f[0] + " NO [AUTHENTICATIONFAILED] no")
		}
	}
	for mechanism, tt := range map[string]struct{ message, empty string }{
		"XOAUTH2":     {"user=" + user + "\x01auth=Bearer token\x01\x01", ""},
		"OAUTHBEARER": {"n,a=" + user + ",\x01host=h\x01auth=Bearer token\x01\x01", "AQ=="},
	} {
		t.Run(mechanism, func(t *testing.T) {
			both := oauth(mechanism, tt.empty)
			r := newRig(t, rigOptions{old: both, new: both, gone: true})
			ir := base64.StdEncoding.EncodeToString([]byte(tt.message))
			k := r.secure()
			k.Dialogue("S: * OK ...\nC: a AUTHENTICATE " + mechanism + " " + ir + "\nS: a NO Unsupported ...")
			if !r.dialer.Refresh(t.Context(), "x") {
				t.Fatal("backends were not seen")
			}
			k.Dialogue("C: a CAPABILITY\nS: * CAPABILITY ... AUTH=XOAUTH2 AUTH=OAUTHBEARER\nS: a OK ...")
			k.Dialogue("C: a AUTHENTICATE " + mechanism + " " + ir + "\nS: + " + reason + "\nC: " + tt.empty +
				"\nS: a NO [AUTHENTICATIONFAILED] Authentication failed.")
			k.Dialogue("C: b AUTHENTICATE " + mechanism + "\nS: + \nC: " + ir + "\nS: + " + reason + "\nC: *" +
				"\nS: b NO [AUTHENTICATIONFAILED] Authentication failed.\nC: c NOOP\nS: c OK ...")
			if strings.Contains(r.log.String(), "token") {
				t.Error("the token is in the log")
			}
		})
	}
}

// TestPipelinedBehindLogin: the bytes behind LOGIN reach the backend in order, once, and only after its answer.
func TestPipelinedBehindLogin(t *testing.T) {
	rest := "b SELECT INBOX\r\nc APPEND x {5+}\r\nab\r\nc\r\nd NOOP\r\n"
	r := newRig(t, rigOptions{old: func(k *mailtest.Talk) {
		backendIn(k, "old")
		if got := k.ReadN(len(rest)); got != rest {
			t.Errorf("got %q", got)
		}
		k.Dialogue("S: b OK\nS: c OK\nS: d OK\nC: e LOGOUT\nS: * BYE\nS: e OK")
	}})
	for name, login := range map[string]string{
		"quoted": "a LOGIN u@example.com \"pw\"\r\n", "literal": "a LOGIN u@example.com {2+}\r\npw\r\n",
		"PLAIN": "a AUTHENTICATE PLAIN AHVAZXhhbXBsZS5jb20AcHc=\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			k := mailtest.Dial(t, r.addr[config.Implicit], r.client)
			k.Expect("* OK ...")
			k.Send(login + rest)
			k.Dialogue("S: a OK [CAPABILITY ...] in on old\nS: b OK\nS: c OK\nS: d OK\nC: e LOGOUT\nS: * BYE\nS: e OK\n!end")
		})
	}
}

// TestStartTLSDropsWhatCameInClear: a command slipped in before the handshake is not executed, nor answered.
func TestStartTLSDropsWhatCameInClear(t *testing.T) {
	r := newRig(t, rigOptions{})
	k := r.starttls()
	k.Expect("* OK ...")
	k.Send("a ID (\"name\" \"evil\")\r\nb STARTTLS\r\nc LOGIN u@example.com pw\r\n")
	k.Dialogue("S: * ID ...\nS: a OK ...\nS: b OK ...")
	k.StartTLS(r.client)
	k.Dialogue("C: d NOOP\nS: d OK ...\nC: e LOGOUT\nS: * BYE ...\nS: e OK ...\n!end")
}

// TestID: what the client says of itself reaches the backend, without what only a proxy may say.
func TestID(t *testing.T) {
	thirty := ""
	for i := range 30 {
		thirty += fmt.Sprintf(` "k%d" "v"`, i)
	}
	long := strings.Repeat("v", 1024)
	for name, tt := range map[string]struct {
		say     string // the client's ID
		want    string // the backend's
		trusted bool
	}{
		"quoted":             {say: `C: a ID ("name" "x\"y" "version" NIL)`, want: `("name" "x\"y" "version" NIL)`},
		"literals (Outlook)": {say: "C: a ID (\"name\" {4}\nS: + OK\nC: test {3+}\nC: os1 {2+}\nC: v2)", want: `("name" "test" "os1" "v2")`},
		"NIL":                {say: `C: a ID NIL`},
		"none":               {},
		"thirty pairs":       {say: "C: a ID (" + thirty[1:] + ")", want: "(" + thirty[1:] + ")"},
		"longest value":      {say: `C: a ID ("k" "` + long + `")`, want: `("k" "` + long + `")`},
		"too long value":     {say: `C: a ID ("k" "` + long + `v" "l" "m")`, want: `("l" "m")`},
		"what is a proxy's":  {say: `C: a ID ("x-originating-ip" "6.6.6.6" "X-Session-ID" "s" "name" "n")`, want: `("name" "n")`},
		"8-bit and control":  {say: "C: a ID (\"name\" \"ü\" \"v\" {3+}\nC\" \"a\\rb \\\"kü\\\" \\\"x\\\")\\r\\n\"", want: `("name" NIL "v" NIL)`},
		"trusted":            {say: `C: a ID ("name" "n")`, want: `("name" "n" "x-originating-ip" "127.0.0.1" "x-originating-port" "$port" "x-proxy-ttl" "6")`, trusted: true},
		"trusted, third hop": {say: `C: a ID ("X-Proxy-TTL" "4" "name" "n" "x-proxy-ttl" "9")`, want: `("name" "n" "x-originating-ip" "127.0.0.1" "x-originating-port" "$port" "x-proxy-ttl" "3")`, trusted: true},
		"trusted, none":      {want: `("x-originating-ip" "127.0.0.1" "x-originating-port" "$port" "x-proxy-ttl" "6")`, trusted: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{tune: func(c *config.Config) { c.Backends[config.Old].ClientAddress = tt.trusted },
				old: func(k *mailtest.Talk) {
					k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN ID] ready")
					if tt.want != "" {
						k.Dialogue("C: $i ID " + tt.want + "\nS: * ID NIL\nS: $i OK")
					}
					k.Dialogue("C: $l AUTHENTICATE PLAIN ...\nS: $l OK [CAPABILITY IMAP4rev1] in\nC: b LOGOUT\nS: * BYE\nS: b OK")
				}})
			k := r.plain()
			k.Expect("* OK ...")
			if tt.say != "" {
				k.Dialogue(tt.say + "\nS: * ID (\"name\" \"mailgate\")\nS: a OK ...")
			}
			k.Dialogue("C: a LOGIN u@example.com pw\nS: a OK ...\nC: b LOGOUT\nS: * BYE\nS: b OK\n!end")
		})
	}
	r := newRig(t, rigOptions{})
	r.plain().Dialogue("S: * OK ...\nC: a ID (" + thirty[1:] + " \"one\" \"more\")\nS: a BAD ...\nC: a ID (\"k\")\nS: a BAD ...")
}
