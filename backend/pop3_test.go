package backend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/mailtest/lab"
)

// popDialer dials one host at a URL.
func popDialer(t testing.TB, url, ca string, trusted bool) *Dialer {
	t.Helper()
	e, err := config.ParseEndpoint(url, false)
	if err != nil {
		t.Fatal(err)
	}
	b := config.Default().Backends[config.Old]
	b.Hosts = []config.Host{{Name: "pop", POP3: e}}
	b.CA, b.ServerName, b.ClientAddress = ca, "mail.example.com", trusted
	b.ConnectTimeout, b.LoginTimeout = 5*time.Second, 20*time.Second // Courier answers a wrong password after five
	d, err := NewDialer([2]config.Backend{b, b}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func popWho(t testing.TB, name, password string) LoginPOP3 {
	t.Helper()
	c, err := auth.Password("PLAIN", name, password)
	if err != nil {
		t.Fatal(err)
	}
	return LoginPOP3{Credentials: c, LoginName: name, ClientAddr: netip.MustParseAddrPort("192.0.2.7:4711")}
}

// TestPOP3Hosts logs in at real servers, by each way to TLS that they have; a wrong password is one.
func TestPOP3Hosts(t *testing.T) {
	l := lab.Start(t)
	cyrus, courier := lab.StartCyrus(t), lab.StartCourier(t)
	for name, at := range map[string]struct{ url, ca string }{
		"dovecot":          {"pop3://" + lab.Addr(l.Old.POP3), ""},
		"dovecot, STLS":    {"pop3+starttls://" + lab.Addr(l.Old.POP3), l.CA},
		"dovecot, TLS":     {"pop3s://" + lab.Addr(l.New.POP3S), l.CA},
		"cyrus":            {"pop3://" + lab.Addr(cyrus.POP3), ""},
		"cyrus, STLS":      {"pop3+starttls://" + lab.Addr(cyrus.POP3), cyrus.CA},
		"courier":          {"pop3://" + lab.Addr(courier.POP3), ""},
		"courier, STLS":    {"pop3+starttls://" + lab.Addr(courier.POP3), courier.CA},
		"dovecot, trusted": {"pop3://" + lab.Addr(l.New.POP3), ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := popDialer(t, at.url, at.ca, strings.HasSuffix(name, "trusted"))
			seen := d.Probe(t.Context(), config.Old, config.POP3, "pop", "x")
			if _, ok := popCapability(seen.Capabilities, "UIDL"); seen.Err != nil || !ok {
				t.Errorf("probe: %v, %q", seen.Err, seen.Capabilities)
			}
			c, err := d.DialPOP3(t.Context(), config.Old, "", popWho(t, lab.User(3), lab.Password(3)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.WriteString(c, "STAT\r\nQUIT\r\n"); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(c)
			if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK 0 0") {
				t.Errorf("STAT: %q, %v", line, err)
			}
			_, err = d.DialPOP3(t.Context(), config.Old, "", popWho(t, lab.User(3), "wrong"))
			var e *Error
			if !errors.As(err, &e) || e.Kind != AuthFailed || e.Step != StepLogin {
				t.Errorf("wrong password: %v", err)
			}
		})
	}
	t.Run("who the client is", func(t *testing.T) { trusting(t, l) })
}

// TestPOP3Login: what is said to servers of many kinds, and what their refusals mean.
func TestPOP3Login(t *testing.T) {
	t.Parallel()
	const plain = "AHUAcA=="
	long := strings.Repeat("x", 300)
	for name, tt := range map[string]struct {
		talk    string
		mech    string // OAuth
		secret  string
		trusted bool
		utf8    bool
		step    Step // "" means that it works
		kind    Kind
		code    string
	}{
		"PLAIN":           {talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL LOGIN PLAIN\nS: .\nC: AUTH PLAIN " + plain + "\nS: +OK in"},
		"USER":            {talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: USER u\nS: +OK\nC: PASS p\nS: +OK in"},
		"no CAPA":         {talk: "S: +OK hi\nC: CAPA\nS: -ERR what\nC: USER u\nS: +OK\nC: PASS p\nS: +OK in"},
		"long password":   {secret: long, talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\nC: AUTH PLAIN\nS: + \nC: AHUA...\nS: +OK in"},
		"trusted":         {trusted: true, talk: "S: +OK [XCLIENT] hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: XCLIENT ADDR=192.0.2.7 PORT=4711 TTL=6\nS: +OK\nC: USER u\nS: +OK\nC: PASS p\nS: +OK in"},
		"not trusted":     {talk: "S: +OK [XCLIENT] hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: USER u\nS: +OK\nC: PASS p\nS: +OK in"},
		"XCLIENT refused": {trusted: true, talk: "S: +OK [XCLIENT] hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: XCLIENT ...\nS: -ERR no\nC: USER u\nS: +OK\nC: PASS p\nS: +OK in"},
		"UTF8":            {utf8: true, talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: UTF8\nS: .\nC: UTF8\nS: +OK\nC: USER u\nS: +OK\nC: PASS p\nS: +OK in"},
		"XOAUTH2":         {mech: "XOAUTH2", talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL XOAUTH2\nS: .\nC: AUTH XOAUTH2 ...\nS: +OK in"},
		"token refused": {mech: "OAUTHBEARER", step: StepLogin, kind: AuthFailed, code: "AUTH",
			talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL OAUTHBEARER\nS: .\nC: AUTH OAUTHBEARER ...\nS: + eyJzdGF0dXMiOiI0MDEifQ==\nC: AQ==\nS: -ERR [AUTH] no"},
		"no OAuth":         {mech: "XOAUTH2", step: StepLogin, kind: Refused, talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: ."},
		"greets with -ERR": {step: StepBanner, kind: Temporary, code: "SYS/TEMP", talk: "S: -ERR [SYS/TEMP] full"},
		"is no POP3":       {step: StepBanner, kind: Refused, talk: "S: 220 mail ESMTP"},
		"no way in":        {step: StepLogin, kind: Refused, talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: STLS\nS: ."},
		"refused": {step: StepLogin, kind: AuthFailed, code: "AUTH",
			talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: USER u\nS: +OK\nC: PASS p\nS: -ERR [AUTH] no"},
		"refused at USER": {step: StepLogin, kind: AuthFailed, talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: USER u\nS: -ERR no such user"},
		"temporary":       {step: StepLogin, kind: Temporary, code: "SYS/TEMP", talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: USER u\nS: +OK\nC: PASS p\nS: -ERR [SYS/TEMP] later"},
		"locked":          {step: StepLogin, kind: Temporary, code: "IN-USE", talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: USER u\nS: +OK\nC: PASS p\nS: -ERR [IN-USE] twice"},
		"locked, no code": {step: StepLogin, kind: Temporary, talk: "S: +OK hi\nC: CAPA\nS: -ERR\nC: USER u\nS: +OK\nC: PASS p\nS: -ERR mailbox is locked"},
		"says AUTH elsewhere": {step: StepLogin, kind: Temporary,
			talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: AUTH-RESP-CODE\nS: .\nC: USER u\nS: +OK\nC: PASS p\nS: -ERR cannot open it"},
		"garbage": {step: StepLogin, kind: Temporary, talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: USER\nS: .\nC: USER u\nS: +OK\nC: PASS p\nS: what"},
		"asks on": {step: StepLogin, kind: Temporary,
			talk: "S: +OK hi\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\nC: AUTH PLAIN " + plain + "\nS: + \nC: *\nS: + \nC: *\nS: + \nC: *\nS: + "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
				k.Dialogue(tt.talk)
				k.Silent()
			}).AllowGone()
			who := popWho(t, "u", "p")
			if tt.secret != "" {
				who.Credentials.Password = config.Secret(tt.secret)
			}
			if tt.mech != "" {
				who.Credentials = &auth.Credentials{Mechanism: tt.mech, Username: "u", Token: "t"}
			}
			who.UTF8 = tt.utf8
			c, err := popDialer(t, "pop3://"+s.Addr, "", tt.trusted).DialPOP3(t.Context(), config.Old, "", who)
			var e *Error
			if tt.step == "" {
				if err != nil || c.OKText != "in" {
					t.Fatalf("%v", err)
				}
				c.Close()
			} else if !errors.As(err, &e) || e.Step != tt.step || e.Kind != tt.kind || e.Code != tt.code {
				t.Fatalf("%v: %+v", err, e)
			}
		})
	}
}

// TestPOP3Hostile: servers that flood, or never say anything, do not hold a login for ever.
func TestPOP3Hostile(t *testing.T) {
	t.Parallel()
	for name, talk := range map[string]func(k *mailtest.Talk){
		"endless line": func(k *mailtest.Talk) { k.Send(strings.Repeat("x", 100<<10)) },
		"endless CAPA": func(k *mailtest.Talk) {
			k.Dialogue("S: +OK hi\nC: CAPA\nS: +OK")
			for range 400 {
				k.Send("X" + strings.Repeat("y", 1000) + "\r\n")
			}
		},
		"STLS with a surprise": func(k *mailtest.Talk) {
			k.Dialogue("S: +OK hi\nC: STLS")
			k.Send("+OK go\r\n+OK\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mailtest.StartScript(silentTB{t}, nil, talk).AllowGone()
			scheme := "pop3"
			if strings.HasPrefix(name, "STLS") {
				scheme = "pop3+starttls"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			_, err := popDialer(t, fmt.Sprintf("%s://%s", scheme, s.Addr), "", false).DialPOP3(ctx, config.Old, "", popWho(t, "u", "p"))
			var e *Error
			if !errors.As(err, &e) || ctx.Err() != nil {
				t.Errorf("%v, %v", err, ctx.Err())
			}
		})
	}
}

// TestCommonPOP3: what all hosts of a side have.
func TestCommonPOP3(t *testing.T) {
	t.Parallel()
	got := commonPop([]Seen{{Capabilities: []string{"TOP", "SASL PLAIN LOGIN", "EXPIRE 7", "UTF8"}}, {Capabilities: []string{"UTF8", "SASL LOGIN X", "TOP", "EXPIRE 3"}}})
	if want := []string{"TOP", "SASL LOGIN", "UTF8"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
