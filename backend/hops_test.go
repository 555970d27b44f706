package backend

import (
	"errors"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest"
)

// TestHops: who is told how often a login may still be passed on, and where it goes no further.
func TestHops(t *testing.T) {
	const imap, pop, smtp, sieve = "C: $l AUTHENTICATE ...\nS: $l OK [CAPABILITY IMAP4rev1] in", "C: AUTH PLAIN ...\nS: +OK in", "C: AUTH PLAIN ...\nS: 235 in", "C: AUTHENTICATE ...\nS: OK"
	const other = "(mailgate/0123456789ab)"
	for name, x := range map[string]struct {
		protocol config.Protocol
		trusts   bool
		hops     int
		talk     string
	}{
		"IMAP, a foreign server is told nothing": {config.IMAP, false, 5, "S: * OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN SASL-IR] hi\nC: $i ID (\"name\" \"n\")\nS: $i OK\n" + imap},
		"IMAP, one that trusts us": {config.IMAP, true, 0, "S: * OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN SASL-IR] hi\n" +
			"C: $i ID (\"name\" \"n\" \"x-originating-ip\" \"192.0.2.7\" \"x-originating-port\" \"4711\" \"x-proxy-ttl\" \"6\")\nS: $i OK\n" + imap},
		"IMAP, another gateway": {config.IMAP, false, 5, "S: * OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN SASL-IR] m ready " + other + "\n" +
			"C: $i ID (\"name\" \"n\" \"x-proxy-ttl\" \"4\")\nS: $i OK\n" + imap},
		"POP3, foreign":          {config.POP3, false, 5, "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\n" + pop},
		"POP3, another gateway":  {config.POP3, false, 5, "S: +OK hi " + other + "\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\nC: NOOP mailgate-hops=4\nS: +OK\n" + pop},
		"SMTP, foreign":          {config.Submission, false, 5, "S: 220 hi\nC: EHLO ...\nS: 250-hi\nS: 250 AUTH PLAIN\n" + smtp},
		"SMTP, another gateway":  {config.Submission, false, 2, "S: 220 hi " + other + "\nC: EHLO ...\nS: 250-hi\nS: 250 AUTH PLAIN\nC: NOOP mailgate-hops=1\nS: 250 ok\n" + smtp},
		"sieve, foreign":         {config.Sieve, false, 5, "S: \"SASL\" \"PLAIN\"\nS: OK \"hi\"\n" + sieve},
		"sieve, another gateway": {config.Sieve, false, 200, "S: \"SASL\" \"PLAIN\"\nS: OK \"hi " + other + "\"\nC: NOOP \"mailgate-hops=6\"\nS: OK (TAG \"mailgate-hops=6\") \"done\"\n" + sieve},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
				k.Dialogue(x.talk)
				k.Silent()
			})
			d := oddHost(t, x.protocol, s.Port(), func(b *config.Backend) { b.ClientAddress = x.trusts })
			if _, err := d.in(t, x.protocol, x.hops); err != nil {
				t.Error(err)
			}
			var e *Error
			if _, err := d.in(t, x.protocol, 1); !errors.Is(err, ErrLoop) || !errors.As(err, &e) || e.Kind != Refused || s.Count() != 1 {
				t.Errorf("no hop left: %v, %d connections", err, s.Count())
			}
		})
	}
	for word, want := range map[string]int{"mailgate-hops=3": 3, "mailgate-hops=0": 1, "mailgate-hops=250": 7, "mailgate-hops=-1": 0, "mailgate-hops=": 0, "mailgate-hops=999": 0, "tag": 0} {
		if n, ok := Hops(word); n != want || ok != (want > 0) {
			t.Errorf("%s: %d, %v", word, n, ok)
		}
	}
}

// TestGatewayIsNoBackend: whoever greets as this very gateway is sent nothing, by a login or a look; another one is a backend like others.
func TestGatewayIsNoBackend(t *testing.T) {
	for p, hello := range map[config.Protocol]string{config.IMAP: "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] m ready ", config.POP3: "+OK m ready ",
		config.Submission: "220 m ESMTP ready ", config.Sieve: "\"SASL\" \"PLAIN\"\r\nOK \"m ready "} {
		t.Run(string(p), func(t *testing.T) {
			mark := make(chan string, 2)
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
				k.Send(hello + <-mark + map[bool]string{true: "\""}[p == config.Sieve] + "\r\n")
				if said := k.ExpectEnd(); strings.Contains(said, "pw") || strings.Count(said, "\n") > 1 { // LOGOUT of a look
					t.Errorf("it was told %q", said)
				}
			})
			d := oddHost(t, p, s.Port(), nil)
			mark <- d.Gateway()
			mark <- d.Gateway()
			var e *Error
			if _, err := d.in(t, p, 0); !errors.Is(err, ErrLoop) || !errors.As(err, &e) || e.Kind != Refused {
				t.Errorf("login: %v", err)
			}
			if seen := d.Probe(t.Context(), config.Old, p, "odd", "gate"); !errors.Is(seen.Err, ErrLoop) {
				t.Errorf("look: %v", seen.Err)
			}
		})
	}
}
