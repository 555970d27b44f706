package backend

import (
	"errors"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest"
)

func TestMasterAccount(t *testing.T) {
	for _, x := range []struct{ pattern, login, name, authzid string }{
		{"authzid", "bob", "boss", "bob"},
		{"authzid", "bob*x", "boss", "bob*x"},
		{"{login}*{master}", "bob@x.test", "bob@x.test*boss", ""},
		{"{master}/{login}@in", "bob", "boss/bob@in", ""},
		{"{login}*{master}", "bob*eve", "-", ""}, // a host could take another user out of it
		{"{login}*{master}", "bob*", "-", ""},
		{"{master}/{login}@in", "bob@in", "-", ""},
	} {
		who, err := MasterAccount(config.SyncLogin{MasterUser: "boss", MasterLogin: x.pattern}, x.login, "pw")
		if x.name == "-" {
			if !errors.Is(err, ErrMasterLogin) || who.LoginName != "" {
				t.Errorf("%s for %s: %q, %v", x.pattern, x.login, who.LoginName, err)
			}
			continue
		}
		if err != nil || who.LoginName != x.name || who.Authzid != x.authzid || who.Credentials.Password != "pw" {
			t.Errorf("%s for %s: %q %q, %v", x.pattern, x.login, who.LoginName, who.Authzid, err)
		}
	}
}

// TestOnlySomeHosts: a login that counts at some hosts only goes to no other, also when that one is the first in turn or is down.
func TestOnlySomeHosts(t *testing.T) {
	in := func(k *mailtest.Talk) {
		k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\nC: $l AUTHENTICATE PLAIN ...\nS: $l OK [CAPABILITY IMAP4rev1] in\n!silent")
	}
	never := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { t.Error("it was asked"); k.Silent() })
	proven := mailtest.StartScript(t, nil, in)
	d := testDialer(t, config.Plain, "", never, proven)
	w := who(t)
	w.Only = func(host string) bool { return host == "b" }
	for range 4 {
		c, err := d.DialIMAP(t.Context(), config.Old, "", w)
		if err != nil || c.Host != "b" {
			t.Fatalf("%v", err)
		}
		c.Close()
	}
	w.Only = func(string) bool { return false }
	_, err := d.DialIMAP(t.Context(), config.Old, "", w)
	var e *Error
	if !errors.Is(err, ErrUnproven) || !errors.As(err, &e) || e.Kind == AuthFailed {
		t.Errorf("no host is proven: %v", err)
	}
}

// TestVerify: a password is verified by a login, which ends at once; what a host says of itself is no answer to it.
func TestVerify(t *testing.T) {
	hello := "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\nC: $l AUTHENTICATE PLAIN ...\n"
	for dialogue, want := range map[string]string{
		hello + "S: $l OK [CAPABILITY IMAP4rev1] in\nC: mailgate LOGOUT\n!end": "ok",
		hello + "S: $l NO [AUTHENTICATIONFAILED] no\n!end":                     "refused",
		hello + "S: $l NO [UNAVAILABLE] later\n!end":                           "unknown",
		hello + "S: $l NO [LIMIT] too many\n!end":                              "unknown",
		"S: * BYE later\n!close":                                               "unknown",
	} {
		s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(dialogue) })
		err := testDialer(t, config.Plain, "", s).Verify(t.Context(), config.Old, "", who(t))
		var e *Error
		got := "unknown"
		if err == nil {
			got = "ok"
		} else if errors.As(err, &e) && e.Kind == AuthFailed {
			got = "refused"
		}
		if got != want {
			t.Errorf("%s: %v", strings.TrimPrefix(dialogue, hello), err)
		}
		s.Close()
	}
}

// TestMasterNeedsPlain: where a host cannot be told for whom, the master's secret is not shown at all.
func TestMasterNeedsPlain(t *testing.T) {
	s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
		k.Dialogue("S: * OK [CAPABILITY IMAP4rev1 AUTH=LOGIN] ready\n!end")
	})
	w := who(t)
	w.Authzid = "bob"
	_, err := testDialer(t, config.Plain, "", s).DialIMAP(t.Context(), config.Old, "", w)
	if !errors.Is(err, errNoPlain) {
		t.Errorf("IMAP: %v", err)
	}
	p := mailtest.StartScript(t, nil, func(k *mailtest.Talk) {
		k.Dialogue("S: +OK ready\nC: CAPA\nS: +OK\nS: SASL LOGIN\nS: USER\nS: .\nC: QUIT\n!end")
	})
	pw := popWho(t, "boss", "pw")
	pw.Authzid = "bob"
	if _, err := popDialer(t, "pop3://"+p.Addr, "", false).DialPOP3(t.Context(), config.Old, "", pw); !errors.Is(err, errNoPlain) {
		t.Errorf("POP3: %v", err)
	}
}
