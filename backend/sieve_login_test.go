package backend

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest"
)

// sieveDialer makes a Dialer whose OLD has one host with ManageSieve; its NEW has none.
func sieveDialer(t testing.TB, mode config.TLSMode, ca string, port int) *Dialer {
	t.Helper()
	b := config.Backend{ConnectTimeout: 2 * time.Second, LoginTimeout: 10 * time.Second, CA: ca, Hosts: []config.Host{{Name: "a",
		Sieve: config.Endpoint{Protocol: config.Sieve, Mode: mode, Host: "127.0.0.1", Port: port}}}}
	d, err := NewDialer([2]config.Backend{b, {Hosts: []config.Host{{Name: "n"}}}}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func sieveUser(t testing.TB, authzid string) Account {
	t.Helper()
	c, err := auth.Password("PLAIN", "u", "pw")
	if err != nil {
		t.Fatal(err)
	}
	return Account{Credentials: c, LoginName: "u", Authzid: authzid}
}

const (
	sieveHello = "S: \"IMPLEMENTATION\" \"Test\"\nS: \"SIEVE\" \"fileinto Vacation\"\nS: \"VERSION\" \"1.0\"\nS: \"SASL\" \"plain OAUTHBEARER XOAUTH2\"\nS: OK\n"
	sieveInner = "C: CAPABILITY\nS: \"SIEVE\" \"fileinto copy\"\nS: \"VERSION\" \"1.0\"\nS: OK \"done\"\n"
	sieveIn    = sieveHello + "C: AUTHENTICATE ...\nS: OK \"in\"\n" + sieveInner
)

// TestSieveLogin: what is sent, and what each refusal means.
func TestSieveLogin(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	long := strings.Repeat("t", 5000)
	bearer := "n,a=u,\x01auth=Bearer " + long + "\x01\x01"
	for name, x := range map[string]struct {
		dialogue string
		who      Account
		kind     Kind
		code     string
		failed   bool
	}{
		"password":       {sieveHello + `C: AUTHENTICATE "PLAIN" "` + b64("\x00u\x00pw") + "\"\nS: OK\n" + sieveInner, sieveUser(t, ""), 0, "", false},
		"for another":    {sieveHello + `C: AUTHENTICATE "PLAIN" "` + b64("z\x00u\x00pw") + "\"\nS: OK (SASL \"abc=\") {2}\nS: ok\n" + sieveInner, sieveUser(t, "z"), 0, "", false},
		"wrong":          {sieveHello + "C: AUTHENTICATE ...\nS: NO \"Authentication Error\"\n!end", sieveUser(t, ""), AuthFailed, "", true},
		"try later":      {sieveHello + "C: AUTHENTICATE ...\nS: NO (TRYLATER) \"full\"\n!end", sieveUser(t, ""), Temporary, "TRYLATER", true},
		"temporarily":    {sieveHello + "C: AUTHENTICATE ...\nS: NO \"Temporary authentication failure.\"\n!end", sieveUser(t, ""), Temporary, "", true},
		"bye":            {sieveHello + "C: AUTHENTICATE ...\nS: BYE (REFERRAL \"sieve://b\") \"go\"\n!end", sieveUser(t, ""), Temporary, "REFERRAL", true},
		"needs TLS":      {sieveHello + "C: AUTHENTICATE ...\nS: NO (ENCRYPT-NEEDED) \"no\"\n!end", sieveUser(t, ""), Refused, "ENCRYPT-NEEDED", true},
		"asks again":     {sieveHello + "C: AUTHENTICATE ...\nS: \"\"\nC: \"*\"\nS: NO \"cancelled\"\n!end", sieveUser(t, ""), AuthFailed, "", true},
		"asks for ever":  {sieveHello + "C: AUTHENTICATE ...\nS: \"\"\nC: \"*\"\nS: \"\"\nC: \"*\"\nS: \"\"\nC: \"*\"\nS: \"\"\n!end", sieveUser(t, ""), Temporary, "", true},
		"bye at once":    {"S: BYE (TRYLATER) \"too many\"\n!end", sieveUser(t, ""), Temporary, "TRYLATER", true},
		"IMAP":           {"S: * OK IMAP4rev1 ready\n!end", sieveUser(t, ""), Refused, "", true},
		"SMTP":           {"S: 220 mail ESMTP\n!end", sieveUser(t, ""), Refused, "", true},
		"no PLAIN":       {"S: \"SASL\" \"GSSAPI\"\nS: OK\n!end", sieveUser(t, ""), Refused, "", true},
		"a long token":   {sieveHello + "C: AUTHENTICATE \"OAUTHBEARER\" {" + strconv.Itoa(len(b64(bearer))) + "+}\nC: " + b64(bearer) + "\nS: OK\n" + sieveInner, oauthAccount("OAUTHBEARER", long), 0, "", false},
		"a token, no":    {sieveHello + "C: AUTHENTICATE \"OAUTHBEARER\" ...\nS: \"" + b64(`{"status":"401"}`) + "\"\nC: \"AQ==\"\nS: NO \"bad token\"\n!end", oauthAccount("OAUTHBEARER", "t"), AuthFailed, "", true},
		"XOAUTH2, no":    {sieveHello + "C: AUTHENTICATE \"XOAUTH2\" ...\nS: {4}\nS: AAAA\nC: \"\"\nS: NO \"bad token\"\n!end", oauthAccount("XOAUTH2", "t"), AuthFailed, "", true},
		"closes":         {sieveHello + "C: AUTHENTICATE ...\n!close", sieveUser(t, ""), Temporary, "", true},
		"no second list": {sieveHello + "C: AUTHENTICATE ...\nS: OK\nC: CAPABILITY\nS: NO \"what?\"\n!end", sieveUser(t, ""), Temporary, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(x.dialogue) })
			c, err := sieveDialer(t, config.Plain, "", s.Port()).DialSieve(t.Context(), config.Old, "", x.who)
			if !x.failed {
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if got := c.Capabilities(); len(got.Extensions) != 2 || got.Extensions[1] != "copy" {
					t.Errorf("capabilities behind the login: %+v", got)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Kind != x.kind || e.Code != x.code {
				t.Errorf("got %v, want kind %d code %q", err, x.kind, x.code)
			}
			if strings.Contains(err.Error(), b64("pw")) {
				t.Errorf("the password shows: %v", err)
			}
		})
	}
}

func oauthAccount(mechanism, token string) Account {
	return Account{LoginName: "u", Credentials: &auth.Credentials{Mechanism: mechanism, Username: "u", Token: config.Secret(token)}}
}

// TestSieveTLS: STARTTLS is required where it is configured; what was said in clear is forgotten, and the capabilities are taken again,
// also from servers that do not say them by themselves.
func TestSieveTLS(t *testing.T) {
	cert, _, server, _ := mailtest.Certificate(t, t.TempDir())
	clear := "S: \"IMPLEMENTATION\" \"x\"\nS: \"SASL\" \"\"\nS: \"STARTTLS\"\nS: OK\nC: STARTTLS\n"
	for name, x := range map[string]struct {
		mode   config.TLSMode
		serve  func(k *mailtest.Talk)
		failed Step
	}{
		"implicit": {config.Implicit, func(k *mailtest.Talk) { k.Dialogue(sieveIn) }, ""},
		"STARTTLS": {config.StartTLS, func(k *mailtest.Talk) { k.Dialogue(clear + "S: OK"); k.StartTLS(server); k.Dialogue(sieveIn) }, ""},
		"no capabilities unasked": {config.StartTLS, func(k *mailtest.Talk) {
			k.Dialogue(clear + "S: OK")
			k.StartTLS(server)
			k.Dialogue("C: CAPABILITY\n" + sieveIn)
		}, ""},
		"refused":  {config.StartTLS, func(k *mailtest.Talk) { k.Dialogue(clear + "S: NO \"not today\"\n!end") }, StepStartTLS},
		"injected": {config.StartTLS, func(k *mailtest.Talk) { k.Dialogue(clear + `S" "OK\r\nOK\r\n"` + "\n!end") }, StepStartTLS},
	} {
		t.Run(name, func(t *testing.T) {
			var conf *tls.Config
			if x.mode == config.Implicit {
				conf = server
			}
			s := mailtest.StartScript(t, conf, x.serve)
			d := sieveDialer(t, x.mode, cert, s.Port())
			c, err := d.DialSieve(t.Context(), config.Old, "", sieveUser(t, ""))
			if x.failed == "" {
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Step != x.failed {
				t.Errorf("got %v, want the step %s", err, x.failed)
			}
		})
	}
	_, err := sieveDialer(t, config.Plain, "", 1).DialSieve(t.Context(), config.New, "", sieveUser(t, ""))
	if !errors.Is(err, ErrNoHost) {
		t.Errorf("a side without ManageSieve: %v", err)
	}
}
