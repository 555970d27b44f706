package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for _, x := range []struct {
		url      string
		listener bool
		want     Endpoint
		address  string
	}{
		{"imaps://:993", true, Endpoint{Protocol: IMAP, Mode: Implicit, Port: 993}, ":993"},
		{"imaps://", true, Endpoint{Protocol: IMAP, Mode: Implicit, Port: 993}, ":993"},
		{"imaps://[::]", true, Endpoint{Protocol: IMAP, Mode: Implicit, Host: "::", Port: 993}, "[::]:993"},
		{"imaps://[2001:db8::1]:1993", false, Endpoint{Protocol: IMAP, Mode: Implicit, Host: "2001:db8::1", Port: 1993}, "[2001:db8::1]:1993"},
		{"imap+starttls://fe80::1", true, Endpoint{}, ""},
		{"imap+starttls://[fe80::1%eth0]", true, Endpoint{Protocol: IMAP, Mode: StartTLS, Host: "fe80::1%eth0", Port: 143}, "[fe80::1%eth0]:143"},
		{"imap://localhost", false, Endpoint{Protocol: IMAP, Host: "localhost", Port: 143}, "localhost:143"},
		{"imap://[::1]:0", true, Endpoint{Protocol: IMAP, Host: "::1"}, "[::1]:0"},
		{"imap://127.8.9.1/", true, Endpoint{Protocol: IMAP, Host: "127.8.9.1", Port: 143}, "127.8.9.1:143"},
		{"submission+insecure://relay", false, Endpoint{Protocol: Submission, Host: "relay", Port: 587, Insecure: true}, "relay:587"},
		{"submission+starttls://Mail.Example.COM.", false, Endpoint{Protocol: Submission, Mode: StartTLS, Host: "mail.example.com", Port: 587}, "mail.example.com:587"},
		{"sieve://127.0.0.1", false, Endpoint{Protocol: Sieve, Host: "127.0.0.1", Port: 4190}, "127.0.0.1:4190"},
		{"sieve+starttls://mail.example", false, Endpoint{Protocol: Sieve, Mode: StartTLS, Host: "mail.example", Port: 4190}, "mail.example:4190"},
		{"sieves://mail.example:2000", false, Endpoint{Protocol: Sieve, Mode: Implicit, Host: "mail.example", Port: 2000}, "mail.example:2000"},
		{"sieve+insecure://mail.example", false, Endpoint{Protocol: Sieve, Host: "mail.example", Port: 4190, Insecure: true}, "mail.example:4190"},
		{"sieve://mail.example", false, Endpoint{}, ""},
		{"sieves+insecure://mail.example", false, Endpoint{}, ""},
		{"submissions://mäil.example:25", false, Endpoint{Protocol: Submission, Mode: Implicit, Host: "xn--mil-qla.example", Port: 25}, "xn--mil-qla.example:25"},
		{"imaps://", false, Endpoint{}, ""},
		{"imaps://host:0", false, Endpoint{}, ""},
		{"imap://host", false, Endpoint{}, ""},
		{"imap://:143", true, Endpoint{}, ""},
		{"imap://0.0.0.0", true, Endpoint{}, ""},
		{"submission+starttls+insecure://:587", true, Endpoint{}, ""},
		{"imaps:/host", false, Endpoint{}, ""},
		{"imaps://host:99999", false, Endpoint{}, ""},
		{"imaps://host:-1", false, Endpoint{}, ""},
		{"imaps://host:", false, Endpoint{Protocol: IMAP, Mode: Implicit, Host: "host", Port: 993}, "host:993"},
		{"imaps://a..b", false, Endpoint{}, ""},
		{"imaps://ho st", false, Endpoint{}, ""},
		{"imaps://host/INBOX", false, Endpoint{}, ""},
		{"imaps://host?x", false, Endpoint{}, ""},
		{"imaps://[::1", true, Endpoint{}, ""},
		{"imaps://[::1]x:993", true, Endpoint{}, ""},
		{"imaps://[host]:993", true, Endpoint{}, ""},
		{"IMAPS://host", false, Endpoint{}, ""},
		{"", false, Endpoint{}, ""},
	} {
		e, err := ParseEndpoint(x.url, x.listener)
		if x.address == "" {
			if err == nil {
				t.Errorf("%q is taken as %+v", x.url, e)
			}
			continue
		}
		x.want.URL = x.url
		if err != nil || e != x.want || e.Address() != x.address {
			t.Errorf("%q: got %+v, %s, %v", x.url, e, e.Address(), err)
		}
	}
}

func TestOverlaps(t *testing.T) {
	for _, x := range []struct {
		a, b string
		want bool
	}{
		{":1", ":1", true}, {":1", ":2", false}, {":0", ":0", false}, {":1", "127.0.0.1:1", true}, {":1", "[::1]:1", true},
		{"0.0.0.0:1", "[::]:1", false}, {"0.0.0.0:1", "127.0.0.1:1", true}, {"0.0.0.0:1", "[::1]:1", false},
		{"[::]:1", "[::1]:1", true}, {"[::]:1", "127.0.0.1:1", false}, {"127.0.0.1:1", "127.0.0.2:1", false},
		{"[::1]:1", "[0:0::1]:1", true}, {"[::ffff:127.0.0.1]:1", "127.0.0.1:1", true}, {":1", "[::]:1", true}, {":1", "0.0.0.0:1", true},
		{"mail.example.com:1", "MAIL.example.com:1", true}, {"mail.example.com:1", "mail.example.org:1", false},
	} {
		a, errA := ParseEndpoint("imap+insecure://"+x.a, true)
		b, errB := ParseEndpoint("imap+insecure://"+x.b, true)
		if errA != nil || errB != nil || a.overlaps(b) != x.want || b.overlaps(a) != x.want {
			t.Errorf("%s and %s: got %v, %v %v", x.a, x.b, a.overlaps(b), errA, errB)
		}
	}
}

// What is taken can be dialled or listened on, is never plain text off loopback unasked, and carries no password.
func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"imaps://:993", "imap://[::1]:143", "submission+insecure://x", "imap://localhost", "imaps://a@b", "imaps://[::1]]:1"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, listener bool) {
		e, err := ParseEndpoint(s, listener)
		if err != nil {
			if at := strings.LastIndexByte(s, '@'); at > 30 && strings.HasPrefix(s, "imaps://") && strings.Contains(err.Error(), s[8:at]) {
				t.Errorf("%q: the error shows what may be a password: %v", s, err)
			}
			return
		}
		if e.URL != s || e.Port < 0 || e.Port > 65535 || e.Protocol != IMAP && e.Protocol != Submission {
			t.Errorf("%q gives %+v", s, e)
		}
		if strings.ContainsAny(e.Host, " @/\r\n") || !listener && (e.Host == "" || e.Port == 0) {
			t.Errorf("%q gives %+v", s, e)
		}
		if e.Mode == Plain && !e.Insecure && !loopback(e.Host) {
			t.Errorf("%q would be plain text off loopback", s)
		}
	})
}

// A host's ManageSieve is found by its protocol, in the short form and in the list.
func TestSieveOfHosts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mailgate.yaml")
	text := `hostname: mail.example.com
listen: ["imap://127.0.0.1:1143"]
backends:
  old: {imap: "imaps://old.example.net", sieve: "sieve+starttls://old.example.net"}
  new: {hosts: [{name: a, imap: "imaps://a.example.net", sieve: "sieves://s.example.net:2000"}, {imap: "imaps://b.example.net"}]}
routes: {file: routes}
`
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(filepath.Join(filepath.Dir(file), "routes"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := c.Backends[Old].Hosts[0].Endpoint(Sieve); e.Address() != "old.example.net:4190" || e.Mode != StartTLS || e.Protocol != Sieve {
		t.Errorf("old: %+v", e)
	}
	if e := c.Backends[New].Hosts[0].Endpoint(Sieve); e.Address() != "s.example.net:2000" || e.Mode != Implicit {
		t.Errorf("new: %+v", e)
	}
	if c.Backends[New].Hosts[1].Endpoint(Sieve).Host != "" || !c.Backends[New].serves(Sieve) || c.Backends[New].Hosts[1].Name != "b.example.net" {
		t.Errorf("new: %+v", c.Backends[New].Hosts)
	}
}
