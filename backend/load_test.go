package backend

import (
	"errors"
	"log/slog"
	"testing"

	"mailgate/config"
	"mailgate/mailtest"
)

// TestByeCode: a host that sends us away says why by a response code (RFC 5530), before the login and in it.
func TestByeCode(t *testing.T) {
	for _, c := range []struct {
		name, script, code string
		step               Step
	}{
		{"greeting", "S: * BYE [UNAVAILABLE] Too many connections\n", "UNAVAILABLE", StepBanner},
		{"greeting without code", "S: * BYE Too many connections\n", "", StepBanner},
		{"login", "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] x\nC: $l AUTHENTICATE PLAIN ...\nS: * BYE [LIMIT] no more\n", "LIMIT", StepLogin},
		{"login, NO", "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] x\nC: $l AUTHENTICATE PLAIN ...\nS: $l NO [LIMIT] no more\n", "LIMIT", StepLogin},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(c.script) })
			_, err := testDialer(t, config.Plain, "", s).DialIMAP(t.Context(), config.Old, "", who(t))
			var e *Error
			if !errors.As(err, &e) || e.Step != c.step || e.Code != c.code || e.Kind != Temporary {
				t.Errorf("%+v", err)
			}
		})
	}
}

// TestLoad counts connections and caps of one host, and of all.
func TestLoad(t *testing.T) {
	talk := func(k *mailtest.Talk) { k.Dialogue(letIn + "!end\n") }
	conf := testBackends(config.Plain, "", mailtest.StartScript(t, nil, talk), mailtest.StartScript(t, nil, talk))
	conf[config.Old].MaxConnections = 7
	d, err := NewDialer(conf, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.DialIMAP(t.Context(), config.Old, "b", who(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name       string
		open, most int
	}{{"a", 0, 7}, {"b", 1, 7}, {"", 1, 14}, {"none", 0, 0}} {
		if open, most := d.Load(config.Old, x.name); open != x.open || most != x.most {
			t.Errorf("%q: %d of %d, want %d of %d", x.name, open, most, x.open, x.most)
		}
	}
	c.Close()
	if open, _ := d.Load(config.Old, ""); open != 0 {
		t.Errorf("%d open after the end", open)
	}
}
