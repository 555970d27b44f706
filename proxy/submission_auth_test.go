package proxy

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestAuth holds each way to log in against what the backend gets of it.
func TestAuth(t *testing.T) {
	token := strings.Repeat("t", 900) // longer than a command line may be (RFC 5321, section 4.5.3.1.4)
	all := "AUTH PLAIN LOGIN XOAUTH2 OAUTHBEARER"
	plainLine := "C: AUTH PLAIN " + smtpPlain + "\nS: 235 2.7.0 ok\n"
	oauth := func(name, tok string) string { return "user=" + name + "\x01auth=Bearer " + tok + "\x01\x01" }
	bearer := func(name, tok string) string { return "n,a=" + name + ",\x01auth=Bearer " + tok + "\x01\x01" }
	for name, c := range map[string]struct{ offers, client, backend string }{
		"PLAIN with initial response": {all, "C: AUTH PLAIN " + smtpPlain + "\nS: 235 2.7.0 ok\n", plainLine},
		"PLAIN without":               {all, "C: AUTH PLAIN\nS: 334 \nC: " + smtpPlain + "\nS: 235 2.7.0 ok\n", plainLine},
		"PLAIN with authzid": {all, "C: auth plain " + b64(smtpUser+"\x00"+smtpUser+"\x00"+smtpPassword) + "\nS: 235 2.7.0 ok\n",
			plainLine},
		"LOGIN": {all, "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: " + b64(smtpUser) + "\nS: 334 UGFzc3dvcmQ6\nC: " + b64(smtpPassword) +
			"\nS: 235 2.7.0 ok\n", plainLine},
		"LOGIN with initial user name": {all, "C: AUTH LOGIN " + b64(smtpUser) + "\nS: 334 UGFzc3dvcmQ6\nC: " + b64(smtpPassword) +
			"\nS: 235 2.7.0 ok\n", plainLine},
		"PLAIN to a backend of LOGIN": {"AUTH LOGIN", "C: AUTH PLAIN " + smtpPlain + "\nS: 235-2.7.0 ok\nS: 235 2.7.0 welcome\n",
			"C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: " + b64(smtpUser) + "\nS: 334 UGFzc3dvcmQ6\nC: " + b64(smtpPassword) +
				"\nS: 235-2.7.0 ok\nS: 235 2.7.0 welcome\n"},
		"a backend of the old AUTH=": {"AUTH=LOGIN PLAIN", "C: AUTH PLAIN " + smtpPlain + "\nS: 235 2.7.0 ok\n", plainLine},
		"XOAUTH2": {all, "C: AUTH XOAUTH2 " + b64(oauth(smtpUser, "tok")) + "\nS: 235 2.7.0 ok\n",
			"C: AUTH XOAUTH2 " + b64(oauth(smtpUser, "tok")) + "\nS: 235 2.7.0 ok\n"},
		"XOAUTH2, too long for one line": {all, "C: AUTH XOAUTH2\nS: 334 \nC: " + b64(oauth(smtpUser, token)) + "\nS: 235 2.7.0 ok\n",
			"C: AUTH XOAUTH2\nS: 334 \nC: " + b64(oauth(smtpUser, token)) + "\nS: 235 2.7.0 ok\n"},
		"OAUTHBEARER": {all, "C: AUTH OAUTHBEARER " + b64(bearer(smtpUser, token)) + "\nS: 235 2.7.0 ok\n",
			"C: AUTH OAUTHBEARER\nS: 334 \nC: " + b64(bearer(smtpUser, token)) + "\nS: 235 2.7.0 ok\n"},
		// RFC 7628, section 3.2.2: the client sees why, answers, and is refused.
		"OAUTHBEARER refused": {all, "C: AUTH OAUTHBEARER " + b64(bearer(smtpUser, "old")) + "\nS: 334 " + b64(`{"status":"invalid_token"}`) +
			"\nC: AQ==\nS: 535 5.7.8 Authentication failed.\nC: NOOP\nS: 250 2.0.0 OK\n",
			"C: AUTH OAUTHBEARER " + b64(bearer(smtpUser, "old")) + "\nS: 334 " + b64(`{"status":"invalid_token"}`) +
				"\nC: AQ==\nS: 535 5.7.8 expired\n"},
		"XOAUTH2 refused": {all, "C: AUTH XOAUTH2 " + b64(oauth(smtpUser, "old")) + "\nS: 334 " + b64(`{"status":"400"}`) +
			"\nC" + `" "\r\n"` + "\nS: 535 5.7.8 Authentication failed.\n",
			"C: AUTH XOAUTH2 " + b64(oauth(smtpUser, "old")) + "\nS: 334 " + b64(`{"status":"400"}`) + "\nC" + `" "\r\n"` +
				"\nS: 535 5.7.8 expired\n"},
		"535 of Postfix": {all, "C: AUTH PLAIN " + smtpPlain + "\nS: 535 5.7.8 ...\n",
			"C: AUTH PLAIN " + smtpPlain + "\nS: 535 5.7.8 Error: authentication failed: (reason unavailable)\n"},
		"535 of Cyrus SASL": {all, "C: AUTH PLAIN " + smtpPlain + "\nS: 454 4.7.0 ...\n",
			"C: AUTH PLAIN " + smtpPlain + "\nS: 535 5.7.8 Error: authentication failed: generic failure\n"},
		"XOAUTH2, broken backend": {all, "C: AUTH XOAUTH2 " + b64(oauth(smtpUser, "tok")) + "\nS: 454 4.7.0 ...\n",
			"C: AUTH XOAUTH2 " + b64(oauth(smtpUser, "tok")) + "\nS: 334 e30=\nC" + `" "\r\n"` + "\nS: 454 4.7.0 later\n"},
		"cancelled": {all, "C: AUTH PLAIN\nS: 334 \nC: *\nS: 501 5.7.0 Authentication cancelled\nC: AUTH LOGIN\nS: 334 ...\n" +
			"C: *\nS: 501 5.7.0 Authentication cancelled\nC: NOOP\nS: 250 2.0.0 OK\n", ""},
		"not base64": {all, "C: AUTH PLAIN %%\nS: 501 5.5.2 ...\nC: AUTH PLAIN\nS: 334 \nC: %%\nS: 501 5.5.2 ...\n" +
			"C: AUTH PLAIN a b c\nS: 501 5.5.2 ...\n", ""},
		"control characters": {all, "C: AUTH PLAIN " + b64("\x00u\r\nRSET\x00p") + "\nS: 535 5.7.8 ...\nC: AUTH PLAIN " +
			b64("\x00u\x00p\nq") + "\nS: 535 5.7.8 ...\nC: AUTH LOGIN " + b64("u\r\n") + "\nS: 535 5.7.8 ...\n", ""},
		"somebody else": {all, "C: AUTH PLAIN " + b64("boss\x00"+smtpUser+"\x00"+smtpPassword) + "\nS: 535 5.7.8 ...\n", ""},
		"empty":         {all, "C: AUTH PLAIN =\nS: 535 5.7.8 ...\nC: AUTH\nS: 504 5.5.4 ...\nC: AUTH NTLM\nS: 504 5.5.4 ...\n", ""},
		"OAuth that one side lacks": {"AUTH PLAIN", "C: AUTH XOAUTH2 " + b64(oauth(smtpUser, "tok")) + "\nS: 504 5.5.4 ...\n",
			""},
		"nothing before it": {all, "C: MAIL FROM:<a@example.com>\nS: 530 5.7.0 ...\nC: VRFY a\nS: 530 5.7.0 ...\nC: XCLIENT ADDR=1.2.3.4\n" +
			"S: 500 5.5.2 ...\nC: BDAT 5\nS: 530 5.7.0 ...\n!end\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			serve := func(k *mailtest.Talk) {
				k.Dialogue("S: 220 hi\nC: EHLO mail.example.com\nS: 250-hi\nS: 250 " + c.offers)
				if k.N == 1 {
					k.Dialogue("C: QUIT\nS: 221 bye")
					return
				}
				defer close(done)
				k.Dialogue(c.backend + "C: QUIT\nS: 221 bye\n")
			}
			r := newSMTPRig(t, smtpRigOptions{configure: func(c *config.Config) { c.Login.MaxFailures = 9 }}, serve,
				func(k *mailtest.Talk) {
					k.Dialogue("S: 220 hi\nC: EHLO mail.example.com\nS: 250-hi\nS: 250 " + c.offers + "\nC: QUIT\nS: 221 bye")
				})
			k := r.dial()
			k.Send("EHLO client.example.org\r\n")
			k.Until("250 ...")
			k.Dialogue(c.client)
			k.Close()
			if c.backend != "" {
				<-done
			} else if n := r.old.Count(); n != 1 {
				t.Errorf("the backend was asked %d times", n-1)
			}
			if s := r.log.String(); strings.Contains(s, smtpPassword) || strings.Contains(s, smtpPlain) || strings.Contains(s, "tok") {
				t.Error("a secret is in the log: " + s)
			}
		})
	}
}

// TestEhlo is what clients are offered, by what the two sides offer.
func TestEhlo(t *testing.T) {
	for name, c := range map[string]struct {
		front    config.TLSMode
		old, new string // extensions; "-" is a side that cannot be looked at
		max      int64
		want     string
	}{
		"intersection": {config.Plain, "PIPELINING SIZE=5000 8BITMIME SMTPUTF8 DSN CHUNKING VRFY ETRN", "SIZE=4000 8BITMIME DSN LIMITS=RCPTMAX=5",
			0, "PIPELINING, SIZE 4000, 8BITMIME, DSN, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"no limit on one side":  {config.Plain, "SIZE", "SIZE=0", 0, "PIPELINING, SIZE, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"one limit":             {config.Plain, "SIZE=7", "SIZE=0", 0, "PIPELINING, SIZE 7, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"our own limit":         {config.Plain, "SIZE=700", "SIZE=600", 500, "PIPELINING, SIZE 500, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"a side without SIZE":   {config.Plain, "SIZE=700", "DSN", 500, "PIPELINING, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"a side unknown":        {config.Plain, "SIZE=700 DSN", "-", 0, "PIPELINING, SIZE 700, DSN, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"both sides unknown":    {config.Plain, "-", "-", 0, "PIPELINING, AUTH PLAIN LOGIN"},
		"never under clear":     {config.Plain, "REQUIRETLS", "REQUIRETLS", 0, "PIPELINING, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"BINARYMIME needs more": {config.Plain, "BINARYMIME CHUNKING", "BINARYMIME", 0, "PIPELINING, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"SMTPUTF8 needs more":   {config.Plain, "SMTPUTF8 8BITMIME", "SMTPUTF8", 0, "PIPELINING, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"},
		"before STARTTLS":       {config.StartTLS, "DSN", "DSN", 0, "PIPELINING, DSN, ENHANCEDSTATUSCODES, STARTTLS"},
	} {
		t.Run(name, func(t *testing.T) {
			serve := func(ext string) func(*mailtest.Talk) {
				if ext == "-" {
					return func(k *mailtest.Talk) { k.Reset() }
				}
				var list []string
				for _, e := range strings.Fields(ext) {
					list = append(list, strings.Replace(e, "=", " ", 1))
				}
				return idleBackend(list...)
			}
			r := newSMTPRig(t, smtpRigOptions{frontTLS: c.front, noProbe: true, configure: func(conf *config.Config) { conf.Submit.MaxSize = c.max }},
				serve(c.old), serve(c.new))
			r.dialer.Refresh(t.Context(), "mail.example.com")
			k := r.dial()
			if got := ehloOf(k); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
			if c.front == config.StartTLS {
				k.Send("AUTH PLAIN " + smtpPlain + "\r\n")
				k.Expect("538 5.7.11 ...")
				k.Send("STARTTLS\r\nMAIL FROM:<injected@example.com>\r\n") // what is behind it in clear is dropped
				k.Expect("220 ...")
				k.StartTLS(r.trust)
				k.Send("AUTH PLAIN " + smtpPlain + "\r\n")
				k.Expect("503 5.5.1 EHLO first")
				if got := ehloOf(k); got != "PIPELINING, DSN, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN" {
					t.Error(got)
				}
				k.Send("STARTTLS\r\n")
				k.Expect("503 5.5.1 ...")
			}
			k.Send("HELO client.example.org\r\n")
			k.Expect("250 mail.example.com")
			k.Close()
		})
	}
}

func ehloOf(k *mailtest.Talk) string {
	k.Send("EHLO client.example.org\r\n")
	var out []string
	for _, l := range strings.Split(strings.TrimSpace(k.Until("250 ...")), "\n")[1:] {
		out = append(out, l[4:])
	}
	return strings.Join(out, ", ")
}

// TestEhloFollowsBackends: what a look at a backend finds is offered from then on, and a side that is lost keeps what
// was known of it.
func TestEhloFollowsBackends(t *testing.T) {
	looks := [][]string{{"DSN", "SIZE 100"}, {"SIZE 50", "8BITMIME"}, nil}
	serve := func(k *mailtest.Talk) {
		if ext := looks[min(k.N, len(looks))-1]; ext != nil {
			smtpLogin(k, ext)
		}
	}
	r := newSMTPRig(t, smtpRigOptions{}, serve, idleBackend("DSN", "SIZE 100", "8BITMIME"))
	k := r.dial()
	for _, want := range []string{"PIPELINING, SIZE 100, DSN, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN",
		"PIPELINING, SIZE 50, 8BITMIME, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN",
		"PIPELINING, SIZE 50, 8BITMIME, ENHANCEDSTATUSCODES, AUTH PLAIN LOGIN"} {
		if got := ehloOf(k); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		r.dialer.Refresh(t.Context(), "mail.example.com")
	}
	k.Close()
}

// TestXCLIENT is what a backend that trusts us hears of the client.
func TestXCLIENT(t *testing.T) {
	ehlo := "C: EHLO mail.example.com\nS: 250-hi\nS: 250-AUTH PLAIN\n"
	for name, c := range map[string]struct {
		trusted          bool
		helo, backend    string
		reply, log, nope string
	}{
		"all": {true, "pc+1=x", "S: 250 XCLIENT NAME ADDR PROTO HELO PORT\nC: XCLIENT ADDR=127.0.0.1 PORT=$port PROTO=ESMTP HELO=pc+2B1+3Dx\n" +
			"S: 220 hi again\n" + ehlo + "S: 250 8BITMIME\nC: AUTH PLAIN ...\nS: 235 ok\nC: QUIT\nS: 221 bye", "235 ok", "", ""},
		"only what is offered": {true, "pc", "S: 250 XCLIENT ADDR\nC: XCLIENT ADDR=127.0.0.1\nS: 220 hi again\n" + ehlo +
			"S: 250 8BITMIME\nC: AUTH PLAIN ...\nS: 235 ok\nC: QUIT\nS: 221 bye", "235 ok", "", ""},
		"nothing that we know": {true, "pc", "S: 250 XCLIENT NAME LOGIN\nC: AUTH PLAIN ...\nS: 235 ok\nC: QUIT\nS: 221 bye", "235 ok", "", ""},
		"not offered":          {true, "pc", "S: 250 DSN\nC: AUTH PLAIN ...\nS: 235 ok\nC: QUIT\nS: 221 bye", "235 ok", "", ""},
		"not trusted":          {false, "pc", "S: 250 XCLIENT ADDR\nC: AUTH PLAIN ...\nS: 235 ok\nC: QUIT\nS: 221 bye", "235 ok", "", ""},
		"refused": {true, "pc", "S: 250 XCLIENT ADDR\nC: XCLIENT ADDR=127.0.0.1\nS: 550 5.7.0 insufficient authorization\n" +
			"C: AUTH PLAIN ...\nS: 235 ok\nC: QUIT\nS: 221 bye", "235 ok", "refuses XCLIENT", ""},
		"closed": {true, "pc", "S: 250 XCLIENT ADDR\nC: XCLIENT ADDR=127.0.0.1\nS: 421 4.3.2 bye\n!close", "454 4.7.0 ...", "step=xclient", ""},
		"lost":   {true, "pc", "S: 250 XCLIENT ADDR\nC: XCLIENT ADDR=127.0.0.1\n!close", "454 4.7.0 ...", "step=xclient", ""},
		"EHLO refused behind it": {true, "pc", "S: 250 XCLIENT ADDR\nC: XCLIENT ADDR=127.0.0.1\nS: 220 hi\nC: EHLO ...\nS: 503 5.5.1 once\n" + // OpenSMTPD takes one only
			"C: AUTH PLAIN ...\nS: 235 ok\nC: QUIT\nS: 221 bye", "235 ok", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSMTPRig(t, smtpRigOptions{noProbe: true, configure: func(conf *config.Config) { conf.Backends[0].ClientAddress = c.trusted }},
				func(k *mailtest.Talk) { k.Dialogue("S: 220 hi\n" + ehlo + c.backend) }, idleBackend())
			k := r.dial()
			k.Send("EHLO " + c.helo + "\r\n")
			k.Until("250 ...")
			k.Send("AUTH PLAIN " + smtpPlain + "\r\n")
			k.Expect(c.reply)
			k.Close()
			if c.log != "" && !strings.Contains(r.log.String(), c.log) {
				t.Errorf("no %q in the log", c.log)
			}
			if name == "all" && r.old.Said(fmt.Sprintf("PORT=%d ", portOf(k))) != 1 {
				t.Error(r.old.Received())
			}
		})
	}
}

func portOf(k *mailtest.Talk) int {
	_, p, _ := strings.Cut(k.LocalAddr().String(), ":")
	var n int
	fmt.Sscan(p, &n)
	return n
}

// TestOneEHLO: some backends hang on a second EHLO, so it is said again only behind STARTTLS and XCLIENT.
func TestOneEHLO(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{}, smtpBackend([]string{"DSN"}, func(k *mailtest.Talk) { obliging(k, nil) }), idleBackend())
	k := r.login()
	k.Send("EHLO again\r\nQUIT\r\n")
	k.Until("221 ...")
	k.Close()
	if said := r.old.Received(); len(said) != 2 || strings.Count(said[1], "EHLO") != 1 {
		t.Error(said)
	}
}

// TestStrangersTime: before login there is a time for each line, and one in all.
func TestStrangersTime(t *testing.T) {
	r := newSMTPRig(t, smtpRigOptions{configure: func(c *config.Config) { c.Limits.CommandTime = 50 * time.Millisecond }},
		idleBackend(), idleBackend())
	k := r.dial()
	k.Expect("421 4.4.2 mail.example.com Timeout, closing connection")
	k.Dialogue("!end")
	k = r.dial()
	k.Send("EHLO x\nMAIL FROM:<a@example.com>\r\n")
	k.Dialogue("S: 500 5.5.2 ...\nS: 421 4.7.0 ...\n!end")
	k = r.dial()
	k.Send(strings.Repeat("x", 13000) + "\r\n")
	k.Dialogue("S: 500 5.5.6 Line too long\nS: 421 4.7.0 ...\n!end")
}
