package proxy

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// smtpFaults are what a backend may do instead of its reply, with what the client must hear at a command and at the end of
// a message. Where the backend says a refusal, that is it, to the letter.
var smtpFaults = []struct {
	name, dialogue string
	command, final string
	log            string // in the reason of the session's end; %s is the step
}{
	{"421", "S: 421 4.3.2 going down\n!silent", "421 4.3.2 going down", "421 4.3.2 going down", "backend said 421"},
	{"4xx", "S: 450 4.2.0 later\nC: QUIT\nS: 221 bye", "450 4.2.0 later", "450 4.2.0 later", ""},
	{"5xx", "S: 550 5.7.1 never\nC: QUIT\nS: 221 bye", "550 5.7.1 never", "550 5.7.1 never", ""},
	{"no text", "S: 550\nC: QUIT\nS: 221 bye", "550", "550", ""},
	{"close", "!close", "421 4.4.2", "451 4.4.2", "backend lost %s: EOF"},
	{"reset", "!reset", "421 4.4.2", "451 4.4.2", "backend lost %s: "},
	{"half a line", "S\" \"250 o\"\n!close", "421 4.4.2", "451 4.4.2", "backend lost %s: unexpected EOF"},
	{"half a reply", "S: 250-one\n!close", "421 4.4.2", "451 4.4.2", "backend lost %s: EOF"},
	{"silent", "!silent", "421 4.4.2", "451 4.4.2", "i/o timeout"},
	{"too slow", "!slow 60ms\nS: 250 2.0.0 ok\n!silent", "421 4.4.2", "451 4.4.2", "i/o timeout"},
	{"garbage", "!garbage 300\nS\" \"\\r\\n\"\n!silent", "421 4.4.2", "451 4.4.2", "backend lost %s: "},
	{"not a code", "S: OK done\n!silent", "421 4.4.2", "451 4.4.2", "backend lost %s: not an SMTP reply"},
	{"codes differ", "S: 250-one\nS: 251 two\n!silent", "421 4.4.2", "451 4.4.2", "not an SMTP reply"},
	{"bare CR", "S\" \"250 one\\r250 two\\r\\n\"\n!silent", "421 4.4.2", "451 4.4.2", "not an SMTP reply"},
	{"intermediate", "S: 354 more\n!silent", "421 4.4.2", "451 4.4.2", "reply out of step"},
	{"endless line", "!endless 3000000\n!silent", "421 4.4.2", "451 4.4.2", "line longer than 64 KiB"},
	{"endless lines", strings.Repeat("S: 250-"+strings.Repeat("x", 1500)+"\n", 201) + "!silent", "421 4.4.2", "451 4.4.2",
		"backend lost %s: "},
}

// TestBackendFaults has a backend fail in each way at each step of a session. The client is always answered, with a
// code that is temporary unless the backend's own is not, and the log names the step.
func TestBackendFaults(t *testing.T) {
	steps := []struct {
		name, before, command, inLog string
	}{
		{"NOOP", "", "NOOP", "at NOOP"},
		{"RSET", "", "RSET", "at RSET"},
		{"EHLO", "", "EHLO again", "at RSET"},
		{"MAIL", "", "MAIL FROM:<a@example.com>", "at MAIL"},
		{"RCPT", "MAIL FROM:<a@example.com>\n", "RCPT TO:<b@example.com>", "at RCPT"},
		{"DATA", "MAIL FROM:<a@example.com>\nRCPT TO:<b@example.com>\n", "DATA", "at DATA"},
		{"end of data", "MAIL FROM:<a@example.com>\nRCPT TO:<b@example.com>\nDATA\n", "message\r\n.", "in DATA"},
		{"BDAT", "MAIL FROM:<a@example.com>\nRCPT TO:<b@example.com>\n", "BDAT 2\r\n\r\n", "at BDAT"},
		{"BDAT LAST", "MAIL FROM:<a@example.com>\nRCPT TO:<b@example.com>\n", "BDAT 2 LAST\r\n\r\n", "in BDAT"},
	}
	var next atomic.Pointer[string] // what the backend does; set before each session, read when its login is through
	serve := smtpBackend([]string{"CHUNKING"}, func(k *mailtest.Talk) { k.Dialogue(*next.Load()) })
	r := newSMTPRig(t, smtpRigOptions{mostWait: 400 * time.Millisecond, configure: func(c *config.Config) { c.Limits.SessionsPerUser = 0 }},
		serve, idleBackend("CHUNKING"))
	for _, s := range steps {
		for _, f := range smtpFaults {
			if s.name == "DATA" && f.name == "intermediate" {
				continue
			}
			script := ""
			for _, c := range strings.Split(strings.TrimSpace(s.before), "\n") {
				if c != "" {
					script += "C: " + c + "\nS: " + map[bool]string{true: "354 go", false: "250 ok"}[c == "DATA"] + "\n"
				}
			}
			for _, c := range strings.Split(s.command, "\r\n") {
				if s.name == "EHLO" {
					c = "RSET"
				}
				if s.name == "BDAT" || s.name == "BDAT LAST" {
					script += fmt.Sprintf("C\" %q\n", s.command)
					break
				}
				script += "C: " + c + "\n"
			}
			script += f.dialogue
			want := f.command
			if s.inLog[:2] == "in" {
				want = f.final
			}
			next.Store(&script)
			before := r.log.String()
			k := r.login()
			for _, c := range strings.Split(strings.TrimSpace(s.before), "\n") {
				if c != "" {
					k.Send(c + "\r\n")
					k.Expect(map[bool]string{true: "354 go", false: "250 ok"}[c == "DATA"])
				}
			}
			if s.name != "BDAT" && s.name != "BDAT LAST" {
				k.Send(s.command + "\r\n")
			} else {
				k.Send(s.command)
			}
			got := k.Line()
			if !strings.HasPrefix(got, want) {
				t.Errorf("%s at %s: %q, want %q", f.name, s.name, got, want)
			}
			k.Close()
			log := f.log
			if strings.Contains(log, "%s") {
				log = fmt.Sprintf(log, s.inLog)
			}
			awaitLog(t, r.log, len(before), "session end", log, s.name+", "+f.name)
		}
	}
}

// awaitLog waits for a line with first, which must hold then too.
func awaitLog(t *testing.T, l *smtpLog, from int, first, then, what string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		for line := range strings.Lines(l.String()[from:]) {
			if strings.Contains(line, first) {
				if !strings.Contains(line, then) {
					t.Errorf("%s: no %q in %s", what, then, line)
				}
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s: no %q in the log", what, first)
		}
	}
}

// TestLoginFaults has a backend fail before and at AUTH. Only its 535 is a wrong password.
func TestLoginFaults(t *testing.T) {
	ehlo := "S: 220 hi\nC: EHLO mail.example.com\n"
	auth := ehlo + "S: 250-hi\nS: 250 AUTH PLAIN\nC: AUTH PLAIN ...\n"
	for name, c := range map[string]struct{ dialogue, reply, log string }{
		"resets connections":    {"!reset", "454 4.7.0", "step="}, // connect or banner: the reset may come that early
		"closes connections":    {"!close", "454 4.7.0", "step=banner"},
		"no banner":             {"!silent", "454 4.7.0", "step=banner"},
		"banner of another":     {"S: * OK IMAP ready\n!silent", "454 4.7.0", "step=banner"},
		"banner 554":            {"S: 554 5.7.1 go away\n!silent", "454 4.7.0", "step=banner"},
		"banner 421":            {"S: 421 4.3.2 busy\n!close", "454 4.7.0", "step=banner"},
		"EHLO refused":          {ehlo + "S: 502 5.5.2 what?\n!silent", "454 4.7.0", "step=capability"},
		"EHLO closed":           {ehlo + "!close", "454 4.7.0", "step=capability"},
		"EHLO endless":          {ehlo + "!endless 1000000\n!silent", "454 4.7.0", "step=capability"},
		"no AUTH":               {ehlo + "S: 250-hi\nS: 250 PIPELINING\n!silent", "454 4.7.0", "step=login"},
		"no AUTH for passwords": {ehlo + "S: 250-hi\nS: 250 AUTH GSSAPI\n!silent", "454 4.7.0", "step=login"},
		"AUTH silent":           {auth + "!silent", "454 4.7.0", "step=login"},
		"AUTH closed":           {auth + "!close", "454 4.7.0", "step=login"},
		"AUTH 421":              {auth + "S: 421 4.3.2 bye\n!close", "454 4.7.0", "step=login"},
		"AUTH 432":              {auth + "S: 432 4.7.12 A password transition is needed\n!silent", "454 4.7.0", "step=login"},
		"AUTH 454":              {auth + "S: 454 4.7.0 Temporary authentication failure\n!silent", "454 4.7.0", "step=login"},
		"AUTH 500":              {auth + "S: 500 5.5.6 Line too long\n!silent", "454 4.7.0", "step=login"},
		"AUTH 504":              {auth + "S: 504 5.5.4 no such\n!silent", "454 4.7.0", "step=login"},
		"AUTH 530":              {auth + "S: 530 5.7.0 Must issue a STARTTLS command first\n!silent", "454 4.7.0", "step=login"},
		"AUTH 534":              {auth + "S: 534 5.7.9 Too weak\n!silent", "454 4.7.0", "step=login"},
		"AUTH 538":              {auth + "S: 538 5.7.11 Encryption required\n!silent", "454 4.7.0", "step=login"},
		"AUTH 535 4.x":          {auth + "S: 535 4.7.8 LDAP is down\n!silent", "454 4.7.0", "step=login"},
		"AUTH 535":              {auth + "S: 535-5.7.8 Who is\nS: 535 5.7.8 that?\n!silent", "535 5.7.8 Authentication failed.", "step=login"},
		"AUTH 535 no code":      {auth + "S: 535 Incorrect authentication data\n!silent", "535 5.7.8", "step=login"},
		"AUTH 334 and 535":      {auth + "S: 334 \nC: *\nS: 535 5.7.8 cancelled\n!silent", "454 4.7.0", "step=login"},
		"AUTH 334 for ever":     {auth + "S: 334 \nC: *\nS: 334 \n!silent", "454 4.7.0", "step=login"},
		"AUTH 250":              {auth + "S: 250 fine\n!silent", "454 4.7.0", "step=login"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSMTPRig(t, smtpRigOptions{noProbe: true, configure: func(c *config.Config) {
				c.Backends[0].LoginTimeout, c.Backends[0].ConnectTimeout = 200*time.Millisecond, 200*time.Millisecond
			}}, func(k *mailtest.Talk) { k.Dialogue(c.dialogue) }, idleBackend())
			k := r.dial()
			k.Send("EHLO client.example.org\r\n")
			k.Until("250 ...")
			k.Send("AUTH PLAIN " + smtpPlain + "\r\n")
			if got := k.Line(); !strings.HasPrefix(got, c.reply) {
				t.Errorf("%q, want %q", got, c.reply)
			}
			k.Send("NOOP\r\n") // the client may try again
			k.Expect("250 2.0.0 OK")
			k.Close()
			if name == "AUTH 535" {
				r.until("the backend is told QUIT", func() bool { return r.old.Said("QUIT\r\n") == 1 })
			}
			if s := r.log.String(); !strings.Contains(s, c.log) || strings.Contains(s, smtpPassword) || strings.Contains(s, smtpPlain) {
				t.Errorf("log: %s", s)
			}
		})
	}
}
