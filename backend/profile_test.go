package backend

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest"
)

// oddHost dials a scripted server that has one service.
func oddHost(t *testing.T, p config.Protocol, port int, change func(*config.Backend)) *Dialer {
	t.Helper()
	e := config.Endpoint{Protocol: p, Host: "127.0.0.1", Port: port}
	h := config.Host{Name: "odd"}
	*map[config.Protocol]*config.Endpoint{config.IMAP: &h.IMAP, config.POP3: &h.POP3, config.Submission: &h.Submission, config.Sieve: &h.Sieve}[p] = e
	b := config.Default().Backends[config.Old]
	b.Hosts, b.ConnectTimeout, b.LoginTimeout = []config.Host{h}, 30*time.Second, 30*time.Second
	if change != nil {
		change(&b)
	}
	d, err := NewDialer([2]config.Backend{b, b}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// in logs u with the password pw in; offers is what the session is said to have.
func (d *Dialer) in(t *testing.T, p config.Protocol, hops int) (offers []string, err error) {
	t.Helper()
	creds, err := auth.Password("PLAIN", "u", "pw")
	if err != nil {
		t.Fatal(err)
	}
	from := netip.MustParseAddrPort("192.0.2.7:4711")
	switch p {
	case config.IMAP:
		c, err := d.DialIMAP(t.Context(), config.Old, "", LoginIMAP{Credentials: creds, LoginName: "u", ClientAddr: from, Hops: hops,
			ClientID: []string{"name", "n", "X-Originating-IP", "6.6.6.6", "x-proxy-ttl", "200"}})
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.Capabilities, nil
	case config.POP3:
		c, err := d.DialPOP3(t.Context(), config.Old, "", LoginPOP3{Credentials: creds, LoginName: "u", ClientAddr: from, Hops: hops})
		if err != nil {
			return nil, err
		}
		defer c.Close()
	case config.Sieve:
		c, err := d.DialSieveSession(t.Context(), config.Old, "", Account{Credentials: creds, LoginName: "u", Hops: hops}, from)
		if err != nil {
			return nil, err
		}
		defer c.Close()
	default:
		c, err := d.DialSubmission(t.Context(), config.Old, "", LoginSubmission{Credentials: creds, LoginName: "u", ClientAddr: from, Hops: hops,
			Helo: "pc", GatewayName: "gate"})
		if err != nil {
			return nil, err
		}
		defer c.Close()
		for name := range c.Extensions {
			offers = append(offers, name)
		}
		slices.Sort(offers)
	}
	return offers, nil
}

// TestOddServers: what the gateway does right by itself, and what a setting tells it.
func TestOddServers(t *testing.T) {
	plain := base64.StdEncoding.EncodeToString([]byte("\x00u\x00pw"))
	auto := func(*config.Backend) {}
	set := func(auth string) func(*config.Backend) { return func(b *config.Backend) { b.Auth = auth } }
	late := func(b *config.Backend) { b.NoInitialResponse = true }
	trusts := func(b *config.Backend) { b.ClientAddress = true }
	const ehlo = "S: 220 hi\nC: EHLO gate\nS: 250-hi\n"
	const pop = "S: +OK hi\nC: CAPA\nS: +OK\n"
	for name, x := range map[string]struct {
		protocol config.Protocol
		change   func(*config.Backend)
		talk     string
		offers   string // IMAP and submission
	}{
		"IMAP: capabilities in several lines": {config.IMAP, auto, "S: * OK hi\nC: $c CAPABILITY\nS: * CAPABILITY IMAP4rev1 AUTH=PLAIN\nS: * CAPABILITY SASL-IR\nS: $c OK\n" +
			"C: $l AUTHENTICATE PLAIN " + plain + "\nS: * CAPABILITY IMAP4rev1 IDLE\nS: * CAPABILITY MOVE\nS: $l OK in", "IMAP4rev1 IDLE MOVE"},
		"IMAP: those from before the login come late": {config.IMAP, auto, "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nS: * CAPABILITY IMAP4rev1 AUTH=PLAIN\n" +
			"C: $l AUTHENTICATE ...\nS: $l OK in\nC: $c CAPABILITY\nS: * CAPABILITY IMAP4rev1 IDLE\nS: $c OK", "IMAP4rev1 IDLE"},
		"IMAP: those from before the login come before the server goes on": {config.IMAP, auto, "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\nC: $l AUTHENTICATE PLAIN\n" +
			"S: * CAPABILITY IMAP4rev1\nS: +\nC: " + plain + "\nS: $l OK in\nC: $c CAPABILITY\nS: * CAPABILITY IMAP4rev1 IDLE\nS: $c OK", "IMAP4rev1 IDLE"},
		"IMAP: in the tagged OK they count, whatever they are": {config.IMAP, auto, "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nC: $l AUTHENTICATE ...\n" +
			"S: * CAPABILITY X\nS: $l OK [CAPABILITY IMAP4rev1 AUTH=PLAIN IDLE] in", "IMAP4rev1 AUTH=PLAIN IDLE"},
		"IMAP: PLAIN is listed and not taken": {config.IMAP, set("login"), "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nC: $l LOGIN \"u\" \"pw\"\nS: $l OK [CAPABILITY IMAP4rev1] in", "IMAP4rev1"},
		"IMAP: the same without LOGIN": {config.IMAP, set("login"), "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=LOGIN LOGINDISABLED] hi\nC: $l AUTHENTICATE LOGIN\nS: + VXNlciBOYW1lAA==\n" +
			"C: dQ==\nS: + UGFzc3dvcmQA\nC: cHc=\nS: $l OK [CAPABILITY IMAP4rev1] in", "IMAP4rev1"},
		"IMAP: PLAIN is taken and not listed":   {config.IMAP, set("plain"), "S: * OK [CAPABILITY IMAP4rev1] hi\nC: $l AUTHENTICATE PLAIN\nS: +\nC: " + plain + "\nS: $l OK [CAPABILITY IMAP4rev1] in", "IMAP4rev1"},
		"IMAP: SASL-IR is listed and not taken": {config.IMAP, late, "S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\nC: $l AUTHENTICATE PLAIN\nS: +\nC: " + plain + "\nS: $l OK [CAPABILITY IMAP4rev1] in", "IMAP4rev1"},

		"SMTP: one EHLO only": {config.Submission, trusts, ehlo + "S: 250-DSN\nS: 250-AUTH PLAIN\nS: 250 XCLIENT ADDR TTL\nC: XCLIENT ADDR=192.0.2.7 TTL=6\nS: 220 hi\nC: EHLO gate\n" +
			"S: 503 5.5.1 Invalid command: Already identified\nC: AUTH PLAIN " + plain + "\nS: 235 in", "AUTH DSN XCLIENT"},
		"SMTP: no EHLO behind AUTH":             {config.Submission, auto, ehlo + "S: 250 AUTH PLAIN\nC: AUTH PLAIN " + plain + "\nS: 235 in\n!end", "AUTH"},
		"SMTP: PLAIN is listed and not taken":   {config.Submission, set("login"), ehlo + "S: 250 AUTH PLAIN LOGIN\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dQ==\nS: 334 UGFzc3dvcmQ6\nC: cHc=\nS: 235 in", "AUTH"},
		"SMTP: LOGIN alone":                     {config.Submission, auto, ehlo + "S: 250 AUTH=LOGIN\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dQ==\nS: 334 UGFzc3dvcmQ6\nC: cHc=\nS: 235 in", "AUTH"},
		"SMTP: PLAIN is taken and not listed":   {config.Submission, set("plain"), ehlo + "S: 250 AUTH LOGIN\nC: AUTH PLAIN " + plain + "\nS: 235 in", "AUTH"},
		"SMTP: the response is to be asked for": {config.Submission, late, ehlo + "S: 250 AUTH PLAIN\nC: AUTH PLAIN\nS: 334\nC: " + plain + "\nS: 235 in", "AUTH"},
		"SMTP: XCLIENT is offered and refused":  {config.Submission, trusts, ehlo + "S: 250-AUTH PLAIN\nS: 250 XCLIENT ADDR\nC: XCLIENT ...\nS: 550 no\nC: AUTH PLAIN " + plain + "\nS: 235 in", "AUTH XCLIENT"},

		"POP3: PLAIN is listed and not taken":   {config.POP3, set("login"), pop + "S: USER\nS: SASL PLAIN LOGIN\nS: .\nC: USER u\nS: +OK\nC: PASS pw\nS: +OK in", ""},
		"POP3: neither PLAIN nor USER":          {config.POP3, auto, pop + "S: SASL LOGIN\nS: .\nC: AUTH LOGIN\nS: + VXNlcm5hbWU6\nC: dQ==\nS: + UGFzc3dvcmQ6\nC: cHc=\nS: +OK in", ""},
		"POP3: the response is to be asked for": {config.POP3, late, pop + "S: SASL PLAIN\nS: .\nC: AUTH PLAIN\nS: +\nC: " + plain + "\nS: +OK in", ""},
		"POP3: XCLIENT is offered and refused":  {config.POP3, trusts, pop + "S: SASL PLAIN\nS: XCLIENT\nS: .\nC: XCLIENT ADDR=192.0.2.7 PORT=4711 TTL=6\nS: -ERR no\nC: AUTH PLAIN " + plain + "\nS: +OK in", ""},

		"sieve: the response is to be asked for": {config.Sieve, late, "S: \"SASL\" \"PLAIN\"\nS: OK\nC: AUTHENTICATE \"PLAIN\"\nS: \"\"\nC: \"" + plain + "\"\nS: OK", ""},
		"sieve: XCLIENT is offered and refused": {config.Sieve, trusts, "S: \"SASL\" \"PLAIN\"\nS: \"XCLIENT\"\nS: OK\nC: XCLIENT ADDR=192.0.2.7 PORT=4711 TTL=6\nS: NO \"no\"\n" +
			"C: AUTHENTICATE \"PLAIN\" \"" + plain + "\"\nS: OK", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
				k.Dialogue(x.talk)
				k.Silent()
			})
			offers, err := oddHost(t, x.protocol, s.Port(), x.change).in(t, x.protocol, 0)
			if err != nil || strings.Join(offers, " ") != x.offers {
				t.Errorf("%q, %v", offers, err)
			}
			if s.Count() != 1 {
				t.Errorf("%d connections", s.Count())
			}
		})
	}
}

// TestNothingIsPipelined: servers exist that hang on a second command in one packet. Up to the login each command waits for the answer to the
// one before, so that none of them needs a setting.
func TestNothingIsPipelined(t *testing.T) {
	for p, script := range map[config.Protocol][]string{
		config.IMAP:       {"* OK hi", "* CAPABILITY IMAP4rev1 ID AUTH=PLAIN\r\ng1 OK", "* ID NIL\r\ng2 OK", "+", "g3 OK in", "* CAPABILITY IMAP4rev1 IDLE\r\ng4 OK"},
		config.POP3:       {"+OK [XCLIENT] hi", "+OK\r\nSASL PLAIN\r\n.", "+OK", "+OK in"},
		config.Submission: {"220 hi", "250-hi\r\n250-XCLIENT ADDR\r\n250 AUTH PLAIN", "220 again", "250-hi\r\n250 AUTH PLAIN", "235 in"},
		config.Sieve:      {"\"SASL\" \"PLAIN\"\r\n\"XCLIENT\"\r\nOK", "OK", "OK"},
	} {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
				b := make([]byte, 4096)
				for i, answer := range script {
					if i > 0 {
						n, err := k.Conn.Read(b)
						if err != nil || strings.Count(string(b[:n]), "\n") != 1 {
							t.Errorf("got %q, %v", b[:n], err)
							return
						}
					}
					k.Send(answer + "\r\n")
				}
				k.Silent()
			})
			if _, err := oddHost(t, p, s.Port(), func(b *config.Backend) { b.ClientAddress = true }).in(t, p, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestIDIsBounded: RFC 2971, section 3.3 has 30 pairs, ours among them.
func TestIDIsBounded(t *testing.T) {
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
		k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 ID AUTH=PLAIN SASL-IR] hi")
		line := k.Line()
		if n := strings.Count(line, `"`); n != 4*30 || !strings.HasSuffix(line, `"x-proxy-ttl" "6")`) || strings.Contains(line, "key28") {
			t.Errorf("%d quotes in %s", n, line)
		}
		k.Dialogue("S: g1 OK\nC: $l AUTHENTICATE ...\nS: $l OK [CAPABILITY IMAP4rev1] in")
		k.Silent()
	})
	l := who(t)
	for i := range 30 {
		l.ClientID = append(l.ClientID, fmt.Sprintf("key%d", i+1), "v")
	}
	c, err := oddHost(t, config.IMAP, s.Port(), func(b *config.Backend) { b.ClientAddress = true }).DialIMAP(t.Context(), config.Old, "", l)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
