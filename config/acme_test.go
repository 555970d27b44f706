package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const withACME = `
hostname: mail.example.com
listen: [imaps://:443, "submissions://:1465?tls=1.0", "imap+starttls://127.0.0.1:1143?tls=1.1"]
tls:
  ticket_keys: tickets
  acme:
    domains: [Mail.Example.com., "*.example.com"]
    agree: true
    email: postmaster@example.com
    eab: {key_id: customer-7, key_file: eab}
    directory: https://ca.example.net/acme/dir
    ca: cert.pem
    storage: certs
    profile: shortlived
    key_type: rsa2048
    challenge: dns-01
    dns: {server: ns1.example.com, zone: Example.com., key: mailgate, algorithm: hmac-sha512, key_file: tsig, wait: 5m}
backends:
  old: {imap: "imaps://old.example.net", submission: "submissions://old.example.net"}
  new: {imap: "imaps://new.example.net", submission: "submissions://new.example.net"}
routes: {file: routes}
`

// loadACME loads a text beside which the files are that it names.
func loadACME(t *testing.T, text string) (*Config, error) {
	t.Helper()
	dir := t.TempDir()
	certificate(t, dir)
	write(t, dir, "routes", "")
	write(t, dir, "tsig", "c2l4dGVlbiBieXRlcw==\n")
	write(t, dir, "eab", "c2l4dGVlbiBieXRlcw==\n")
	write(t, dir, "tickets", ticket(t)+"\n")
	return Load(write(t, dir, "mailgate.yaml", text), nil)
}

func ticket(t *testing.T) string {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestACME(t *testing.T) {
	t.Parallel()
	c, err := loadACME(t, withACME)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(c.File)
	want := ACME{Domains: []string{"mail.example.com", "*.example.com"}, Email: "postmaster@example.com",
		EAB: ACMEEAB{KeyID: "customer-7", KeyFile: filepath.Join(dir, "eab")}, Agree: true,
		Directory: "https://ca.example.net/acme/dir", CA: filepath.Join(dir, "cert.pem"), Storage: filepath.Join(dir, "certs"), Profile: "shortlived",
		KeyType: "rsa2048", Challenge: DNS01, HTTPListen: ":80", DNS: ACMEDNS{Server: "ns1.example.com:53", Zone: "example.com", Key: "mailgate",
			Algorithm: "hmac-sha512", KeyFile: filepath.Join(dir, "tsig"), Wait: 5 * time.Minute}}
	if !reflect.DeepEqual(c.TLS.ACME, want) || !c.TLS.ACME.On() {
		t.Errorf("got %+v", c.TLS.ACME)
	}
	if a, b, d := c.Listen[0].OldTLS, c.Listen[1].OldTLS, c.Listen[2].OldTLS; a != "" || b != "1.0" || d != "1.1" || c.Listen[1].Port != 1465 {
		t.Errorf("old TLS: %q, %q, %q; %+v", a, b, d, c.Listen[1])
	}
	if key, err := TSIGKey(c.TLS.ACME.DNS.KeyFile); err != nil || key.Reveal() != "c2l4dGVlbiBieXRlcw==" {
		t.Errorf("key: %v", err)
	}
	if key, err := EABKey(c.TLS.ACME.EAB.KeyFile); err != nil || key.Reveal() != "c2l4dGVlbiBieXRlcw" {
		t.Errorf("key of the customer: %v", err)
	}
	var b strings.Builder
	if err := c.Show(&b); err != nil {
		t.Fatal(err)
	}
	again, err := Load(write(t, dir, "shown.yaml", b.String()), nil)
	if err != nil || !reflect.DeepEqual(again.TLS, c.TLS) {
		t.Errorf("config show: %v\n%s", err, b.String())
	}
}

// The names are taken over while serve runs, the rest is not.
func TestACMENeedsRestart(t *testing.T) {
	t.Parallel()
	a, b := Default(), Default()
	a.TLS.ACME.Domains, b.TLS.ACME.Domains = []string{"a.example.com"}, []string{"a.example.com", "b.example.com"}
	if r := NeedsRestart(&a, &b); len(r) > 0 {
		t.Errorf("another name: %v", r)
	}
	b.TLS.ACME.Challenge = TLSALPN01
	if r := NeedsRestart(&a, &b); !reflect.DeepEqual(r, []string{"tls.acme"}) {
		t.Errorf("another challenge: %v", r)
	}
	b = Default()
	if r := NeedsRestart(&a, &b); !reflect.DeepEqual(r, []string{"tls.acme"}) {
		t.Errorf("none any more: %v", r)
	}
	b.TLS.ACME.Challenge, a = TLSALPN01, Default()
	if r := NeedsRestart(&a, &b); len(r) > 0 {
		t.Errorf("neither is on: %v", r)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	c, err := loadACME(t, withACME)
	if err != nil {
		t.Fatal(err)
	}
	w := strings.Join(c.Warnings(), "\n")
	if !strings.Contains(w, "submissions://:1465?tls=1.0 takes TLS 1.0") || !strings.Contains(w, "imap+starttls://127.0.0.1:1143?tls=1.1 takes TLS 1.1") ||
		strings.Contains(w, "imaps://:443") || strings.Contains(w, "RSA") {
		t.Errorf("got %s", w)
	}
	c, err = loadACME(t, strings.Replace(withACME, "key_type: rsa2048", "key_type: p256", 1))
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "no certificate has an RSA key") {
		t.Errorf("without RSA: %s", w)
	}
	if c := Default(); len(c.Warnings()) > 0 {
		t.Errorf("without cause: %v", c.Warnings())
	}
}

func TestTicketKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := ticket(t), ticket(t)
	keys, err := TicketKeys(write(t, dir, "good", "# mine\n"+first+"\n\n  "+second+"  \n"))
	if err != nil || len(keys) != 2 || base64.StdEncoding.EncodeToString(keys[0][:]) != first || base64.StdEncoding.EncodeToString(keys[1][:]) != second {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for name, x := range map[string]struct{ text, says string }{
		"empty":  {"# nothing\n", "holds no key; make one by: openssl rand -base64 32"},
		"long":   {first + "\n" + base64.StdEncoding.EncodeToString(make([]byte, 48)), ":2: a key of 48 bytes, where 32 are needed"},
		"double": {first + "\n" + first, ":2: this key stands above already"},
		"binary": {"\x00\x01\x02", ":1: not base64"},
	} {
		_, err := TicketKeys(write(t, dir, name, x.text))
		if err == nil || !strings.Contains(err.Error(), x.says) || strings.Contains(err.Error(), first) {
			t.Errorf("%s: %v", name, err)
		}
	}
	open := write(t, dir, "open", first)
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := TicketKeys(open); !errors.Is(err, ErrOpenToOthers) {
		t.Errorf("a file that others can read: %v", err)
	}
	if _, err := TicketKeys(dir); err == nil {
		t.Error("a folder is taken")
	}
	if _, err := TSIGKey(write(t, dir, "tsig", `key "mailgate" { };`)); err == nil {
		t.Error("the whole output of tsig-keygen is taken")
	}
}
