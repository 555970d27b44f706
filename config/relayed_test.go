package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRelayName: a message of SCRAM can go to a side only under the name that it holds.
func TestRelayName(t *testing.T) {
	t.Parallel()
	address, local := "{address}", "{local}"
	for name, tt := range map[string]struct {
		old, new, line, typed, part string
		ok                          bool
	}{
		"the address":                {old: address, new: address, typed: "u@example.com", ok: true},
		"in capitals":                {old: address, new: address, typed: "U@Example.COM", ok: true},
		"capitals that count":        {old: address, new: address, typed: "u@Example.com", part: "exact"},
		"letters that Unicode folds": {old: address, new: address, line: "k@example.com old", typed: "\u212a@example.com"}, // the Kelvin sign
		"without the domain":         {old: address, new: address, typed: "u"},
		"a sub-address":              {old: address, new: address, typed: "u+x@example.com"},
		"local parts":                {old: local, new: local, typed: "u", ok: true},
		"the address, local parts":   {old: local, new: local, typed: "u@example.com"},
		"local on one side":          {old: local, new: address, typed: "u@example.com"},
		"local on the other":         {old: address, new: local, typed: "u"},
		"names of his own":           {old: address, new: address, line: "u@example.com old old=bob new=bob", typed: "bob", ok: true},
		"his address instead":        {old: address, new: address, line: "u@example.com old old=bob new=bob", typed: "u@example.com"},
		"another name on NEW":        {old: address, new: address, line: "u@example.com old new=bob", typed: "u@example.com"},
		"another name on OLD":        {old: address, new: address, line: "u@example.com old old=bob", typed: "bob"},
		"one name by his line":       {old: local, new: address, line: "u@example.com old old=u@example.com", typed: "u@example.com", ok: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := twoSides()
			c.Backends[Old].Login, c.Backends[New].Login, c.Routes.DefaultDomain = tt.old, tt.new, "example.com"
			if tt.part != "" {
				c.Routes.LocalPart = tt.part
			}
			f, err := ParseRoutes("routes", []byte(tt.line+"\n"), c)
			if err != nil {
				t.Fatal(err)
			}
			user, err := f.Lookup(NewAddresses(c.Routes), tt.typed)
			if err != nil {
				t.Fatal(err)
			}
			err = c.RelayName(f.For(user), tt.typed)
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, ErrNames) {
				t.Errorf("%q as %s: %v", tt.typed, user, err)
			}
			if got, want := c.OneName(), tt.old == tt.new; got != want {
				t.Errorf("one name: %v", got)
			}
		})
	}
}

// TestRelayedDefault: SCRAM is offered by itself, but not where passwords are learned, unless somebody writes it.
func TestRelayedDefault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("AGE-SECRET-KEY-1QQQQ\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "routes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for login, want := range map[string]string{
		"{}":                          "PLAIN LOGIN XOAUTH2 OAUTHBEARER SCRAM-SHA-256 SCRAM-SHA-1",
		"{learn: {key: " + key + "}}": "PLAIN LOGIN XOAUTH2 OAUTHBEARER",
		"{mechanisms: [plain, scram-sha-256], learn: {key: " + key + "}}": "PLAIN SCRAM-SHA-256",
		"{mechanisms: [PLAIN]}":        "PLAIN",
		"{learn: {hash: true}}":        "PLAIN LOGIN XOAUTH2 OAUTHBEARER",
		"{learn: {hook: [/bin/true]}}": "PLAIN LOGIN XOAUTH2 OAUTHBEARER",
	} {
		file := filepath.Join(dir, "mailgate.yaml")
		text := "hostname: mail.example.com\nlisten: ['imap://127.0.0.1:1143']\nlogin: " + login +
			"\nbackends: {old: {imap: 'imap://127.0.0.1:1'}, new: {imap: 'imap://127.0.0.1:2'}}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.Login.Mechanisms, " "); got != want {
			t.Errorf("%s: %s, want %s", login, got, want)
		}
	}
	if d := Default().Login.Mechanisms; !slices.Contains(d, "SCRAM-SHA-256") {
		t.Errorf("%q", d)
	}
}
