package config

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// ACME is how certificates are had from an authority (RFC 8555). Without Domains none are.
type ACME struct {
	Domains    []string // a certificate each; lower case, "*.example.com" with dns-01 only
	EAB        ACMEEAB
	Email      string // to whom the authority may write, "" for nobody
	Agree      bool   // to the authority's terms
	Directory  string // URL
	CA         string // PEM file of those who signed the authority's own certificate; "" means the system's roots
	Storage    string // folder of account, keys and certificates, mode 0700
	Profile    string // kind of certificate, by the authority's names; "" is its default
	KeyType    string // of new keys: "p256", "p384", "rsa2048" or "rsa4096"
	Challenge  string // HTTP01, TLSALPN01 or DNS01
	HTTPListen string // host:port on which http-01 is answered, while one is under way
	TLSListen  string // the same for tls-alpn-01; "" means on the gateway's listener on port 443
	DNS        ACMEDNS
}

// ACMEEAB is the customer's account that an authority may want to know of (RFC 8555, section 7.3.4); both or none.
type ACMEEAB struct {
	KeyID   string
	KeyFile string // file with the key, base64 as for URLs, mode 0600
}

// ACMEDNS is the server that takes the records of dns-01, by dynamic update (RFC 2136) signed with a key (RFC 8945).
type ACMEDNS struct {
	Server    string        // host:port
	Zone      string        // the zone that it changes, without the dot at its end
	Key       string        // name of the key
	Algorithm string        // "hmac-sha256" and the like
	KeyFile   string        // file with the key's base64, mode 0600
	Wait      time.Duration // for the record to be at all servers of the zone
}

// Challenges by which an authority sees that a name is ours: RFC 8555, sections 8.3 and 8.4; RFC 8737.
const (
	HTTP01    = "http-01"
	TLSALPN01 = "tls-alpn-01"
	DNS01     = "dns-01"
)

// On tells whether certificates are had by ACME.
func (a ACME) On() bool { return len(a.Domains) > 0 }

// asOpened is what cannot change while serve runs: the names can.
func (a ACME) asOpened() ACME {
	on := a.On()
	a.Domains = nil
	if !on {
		return ACME{}
	}
	return a
}

// acmeDomain is a name as certificates have it.
func acmeDomain(s string) (string, error) {
	rest, wild := strings.CutPrefix(s, "*.")
	name, err := hostName(strings.TrimSuffix(rest, "."))
	switch {
	case err != nil:
		return "", err
	case net.ParseIP(name) != nil:
		return "", fmt.Errorf("%q is an address; write a name", s)
	case !strings.Contains(name, "."):
		return "", fmt.Errorf("%q is no whole name; write for example mail.example.com", s)
	}
	if wild {
		name = "*." + name
	}
	return name, nil
}

// acmeDomains sets the list of names.
func (l *loader) acmeDomains() {
	a := &l.c.TLS.ACME
	for i, text := range l.strings("tls.acme.domains") {
		if text == "" {
			continue
		}
		key := fmt.Sprintf("tls.acme.domains[%d]", i)
		name, err := acmeDomain(text)
		switch {
		case err != nil:
			l.bad(key, "%v", err)
		case contains(a.Domains, name):
			l.bad(key, "%s stands in the list already; keep one", name)
		default:
			a.Domains, l.acme = append(a.Domains, name), append(l.acme, key)
		}
	}
}

// checkACME looks at what an authority will ask for.
func (l *loader) checkACME() {
	a := l.c.TLS.ACME
	if !a.On() {
		if a.Agree && len(l.strings("tls.acme.domains")) == 0 && !l.spoilt("tls.acme.domains") {
			l.bad("tls.acme", "no certificate is asked for without domains; write for example domains: [mail.example.com]")
		}
		return
	}
	if !a.Agree {
		l.bad("tls.acme.agree", "the authority gives certificates to those only who agree to its terms; read them (its directory names the page) and write agree: true")
	}
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		l.bad("tls.acme.directory", "%q is no https:// URL; it is the address of the authority's directory", a.Directory)
	}
	if a.Email != "" && !strings.Contains(a.Email, "@") {
		l.bad("tls.acme.email", "%q is no mail address", a.Email)
	}
	switch {
	case (a.EAB.KeyID == "") != (a.EAB.KeyFile == ""):
		l.bad("tls.acme.eab", "needs both key_id and key_file, as the authority gives them to its customers")
	case a.EAB.KeyFile != "":
		if _, err := EABKey(a.EAB.KeyFile); err != nil {
			l.bad("tls.acme.eab.key_file", "%v", err)
		}
	}
	if a.CA != "" {
		pem, err := os.ReadFile(a.CA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s holds no PEM certificate", a.CA)
		}
		if err != nil {
			l.bad("tls.acme.ca", "%v", err)
		}
	}
	if st, err := os.Stat(a.Storage); err == nil && !st.IsDir() {
		l.bad("tls.acme.storage", "%s is a file; write the name of a folder", a.Storage)
	}
	switch a.Challenge {
	case HTTP01:
		l.checkOwnListener("tls.acme.http_listen", a.HTTPListen)
	case TLSALPN01:
		switch {
		case a.TLSListen != "":
			l.checkOwnListener("tls.acme.tls_listen", a.TLSListen)
		case !l.c.listensOn443():
			l.bad("tls.acme.challenge", "the authority asks on port 443, where no listener with TLS from the first byte is; write tls_listen: \":443\"")
		}
	case DNS01:
		l.checkACMEDNS()
	}
	for i, d := range a.Domains {
		if strings.HasPrefix(d, "*.") && a.Challenge != DNS01 {
			l.bad(l.acme[i], "%s: no authority gives such a certificate but for dns-01; write challenge: dns-01, or each name", d)
		}
	}
}

// listensOn443 tells whether a listener answers tls-alpn-01 by itself.
func (c *Config) listensOn443() bool {
	for _, e := range c.Listen {
		if e.Mode == Implicit && e.Port == 443 {
			return true
		}
	}
	return false
}

// checkOwnListener looks at an address that is listened on for challenges.
func (l *loader) checkOwnListener(key, address string) {
	host, port, err := net.SplitHostPort(address)
	var e Endpoint
	if err == nil {
		err = e.hostPort(net.JoinHostPort(host, port))
	}
	if err != nil || e.Port == 0 {
		l.bad(key, "%q is no address with a port; write for example \":80\"", address)
		return
	}
	for i, other := range l.c.Listen {
		if e.overlaps(other) {
			l.bad(key, "%q overlaps with %s", address, l.c.Listen[i].URL)
		}
	}
	if e.overlaps(adminEndpoint(l.c.Admin)) {
		l.bad(key, "%q overlaps with admin.listen %s", address, l.c.Admin.Listen)
	}
}

// checkACMEDNS looks at how records are changed.
func (l *loader) checkACMEDNS() {
	d := l.c.TLS.ACME.DNS
	for _, x := range []struct{ key, value, example string }{{"server", d.Server, "ns1.example.com"}, {"zone", d.Zone, "example.com"},
		{"key", d.Key, "mailgate"}, {"key_file", d.KeyFile, "acme.key"}} {
		if x.value == "" && !l.spoilt("tls.acme.dns."+x.key) {
			l.bad("tls.acme.dns", "dns-01 needs %s; write for example %s: %s", x.key, x.key, x.example)
		}
	}
	if d.KeyFile != "" {
		if _, err := TSIGKey(d.KeyFile); err != nil {
			l.bad("tls.acme.dns.key_file", "%v", err)
		}
	}
	if d.Wait < time.Second || d.Wait > time.Hour {
		l.bad("tls.acme.dns.wait", "%s is not from 1s to 1h", d.Wait)
	}
	for i, name := range l.c.TLS.ACME.Domains {
		if base := strings.TrimPrefix(name, "*."); d.Zone != "" && base != d.Zone && !strings.HasSuffix(base, "."+d.Zone) {
			l.bad(l.acme[i], "%s is not in the zone %s, which is the one that is changed", name, d.Zone)
		}
	}
}

// EABKey reads the key of a customer's account: base64 as for URLs, without padding, as authorities give it.
func EABKey(file string) (Secret, error) {
	b, err := ReadPrivate(file)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(strings.TrimSpace(string(b)), "=")
	if raw, err := base64.RawURLEncoding.DecodeString(text); err != nil || len(raw) == 0 {
		return "", fmt.Errorf("%s holds no key; write into it just the HMAC key that the authority shows", file)
	}
	return Secret(text), nil
}

// TSIGKey reads the key that changes of a zone are signed with: its base64 alone, as tsig-keygen writes it behind "secret".
func TSIGKey(file string) (Secret, error) {
	b, err := ReadPrivate(file)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return "", fmt.Errorf("%s holds no key; write into it just the base64 that tsig-keygen prints in quotes", file)
	}
	return Secret(text), nil
}
