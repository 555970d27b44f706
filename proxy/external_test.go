package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
)

// issuer signs certificates of clients.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key, file: filepath.Join(t.TempDir(), "clients.pem")}
	if i.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// issue signs one for a person.
func (i *issuer) issue(cn string, emails []string, change func(*x509.Certificate)) tls.Certificate {
	i.t.Helper()
	now := time.Now()
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, EmailAddresses: emails, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, i.cert, &i.key.PublicKey, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key}
}

// TestClientCertificates: who shows a certificate that counts may log in with it, as the one user of ours whom it speaks of, and is offered
// that; everybody else is asked for a password as ever.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ours, theirs := newIssuer(t), newIssuer(t)
	r := newRig(t, rigOptions{old: mastered(map[string]string{"nick": "pw"}), new: mastered(nil), gone: true,
		routes: user + " old old=nick\nnew@example.com new\n* old\n", tune: func(c *config.Config) {
			withMasters(c)
			c.TLS.ClientCA = ours.file
		}, server: func(s *Server) { s.master = bosses("bpw", anyHost) }})
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	server := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	for _, x := range []struct {
		name string
		cert tls.Certificate
		want string // as whom the session runs; "" when EXTERNAL is not offered
	}{
		{"address", ours.issue("Somebody", []string{user}, nil), user},
		{"address in other letters", ours.issue("", []string{"U@EXAMPLE.com"}, nil), user},
		{"on NEW", ours.issue("", []string{"new@example.com"}, nil), "new@example.com"},
		{"common name", ours.issue(user, nil, nil), user},
		{"a login name of one side", ours.issue("nick", nil, nil), ""},
		{"two addresses", ours.issue(user, []string{user, "new@example.com"}, nil), ""},
		{"a stranger", ours.issue(user, []string{"stranger@example.com"}, nil), ""},
		{"no address", ours.issue("Some Body", nil, nil), ""},
		{"nothing", ours.issue("", nil, nil), ""},
		{"expired", ours.issue("", []string{user}, expired), ""},
		{"a server's", ours.issue("", []string{user}, server), ""},
		{"another authority's", theirs.issue("", []string{user}, nil), ""},
		{"none", tls.Certificate{}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			conf := r.client.Clone()
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &x.cert, nil }
			k := mailtest.Dial(t, r.addr[config.Implicit], conf)
			if offered := strings.Contains(k.Line(), " AUTH=EXTERNAL"); offered != (x.want != "") {
				t.Errorf("EXTERNAL is offered: %v", offered)
			}
			if x.want == "" {
				k.Dialogue("C: a AUTHENTICATE EXTERNAL =\nS: a NO Unsupported authentication mechanism.\nC: b LOGIN " + user + " pw\nS: b OK ...\n" +
					"C: c NOOP\nS: c OK nick himself")
				return
			}
			as := strings.Replace(x.want, user, "nick", 1)
			other := base64.StdEncoding.EncodeToString([]byte("stranger@example.com"))
			same := base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(x.want)))
			k.Dialogue("C: a AUTHENTICATE EXTERNAL " + other + "\nS: a NO [AUTHENTICATIONFAILED] ...\n" +
				"C: b AUTHENTICATE EXTERNAL\nS: + \nC: " + same + "\nS: b OK ...\nC: c NOOP\nS: c OK " + as + " by boss\nC: d LOGOUT\nS: * BYE ...\nS: d OK ...\n!end")
			k = mailtest.Dial(t, r.addr[config.Implicit], conf)
			k.Dialogue("S: * OK ...\nC: a AUTHENTICATE EXTERNAL =\nS: a OK ...\nC: b NOOP\nS: b OK " + as + " by boss")
		})
	}
}

// A session that is resumed shows the certificate of the first one, and an authority that is no longer trusted ends that.
func TestClientCertificateResumed(t *testing.T) {
	t.Parallel()
	ours, others := newIssuer(t), newIssuer(t)
	cert := ours.issue("", []string{user}, nil)
	r := newRig(t, rigOptions{old: mastered(nil), gone: true, routes: user + " old\n", tune: func(c *config.Config) {
		withMasters(c)
		c.TLS.ClientCA = ours.file
	}, server: func(s *Server) { s.master = bosses("bpw", anyHost) }})
	conf := r.client.Clone()
	conf.Certificates = []tls.Certificate{cert}
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	connect := func() (greeting string, resumed bool) {
		c, err := tls.Dial("tcp", r.addr[config.Implicit], conf)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		b := make([]byte, 1024)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n]), c.ConnectionState().DidResume
	}
	connect()
	if greeting, resumed := connect(); !resumed || !strings.Contains(greeting, "AUTH=EXTERNAL") {
		t.Errorf("resumed: %v, %q", resumed, greeting)
	}
	tlsNow := r.cfg.TLS
	tlsNow.ClientCA = others.file
	if err := r.certs.Apply(tlsNow); err != nil {
		t.Fatal(err)
	}
	if greeting, _ := connect(); strings.Contains(greeting, "AUTH=EXTERNAL") {
		t.Errorf("another authority counts, and the greeting is %q", greeting)
	}
}

// EXTERNAL is not offered where the master login of the user's side is not proven, and without a certificate in clear.
func TestExternalNeedsProof(t *testing.T) {
	t.Parallel()
	ours := newIssuer(t)
	r := newRig(t, rigOptions{gone: true, routes: user + " old\n", tune: func(c *config.Config) {
		withMasters(c)
		c.TLS.ClientCA = ours.file
	}, server: func(s *Server) { s.master = bosses("bpw", func(host string) bool { return host == "new" }) }})
	conf := r.client.Clone()
	conf.Certificates = []tls.Certificate{ours.issue("", []string{user}, nil)}
	k := mailtest.Dial(t, r.addr[config.Implicit], conf)
	if line := k.Line(); strings.Contains(line, "EXTERNAL") {
		t.Error(line)
	}
	k.Dialogue("C: a AUTHENTICATE EXTERNAL =\nS: a NO Unsupported authentication mechanism.")
	k = r.plain()
	k.Dialogue("S: * OK ...\nC: a AUTHENTICATE EXTERNAL =\nS: a NO Unsupported authentication mechanism.")
}

// TestExternalOfEachProtocol: the other fronts offer it in their words, behind TLS from the first byte and behind STARTTLS.
func TestExternalOfEachProtocol(t *testing.T) {
	t.Parallel()
	ours := newIssuer(t)
	cert := ours.issue("", []string{user}, nil)
	plain := base64.StdEncoding.EncodeToString([]byte(user + "\x00boss\x00bpw"))
	for _, x := range []struct {
		p                              config.Protocol
		tls                            string // scheme with TLS from the first byte
		backend, start, offered, login string
	}{
		{config.POP3, "pop3s", "S: +OK ready\nC: CAPA\nS: +OK\nS: SASL PLAIN\nS: .\nC: AUTH PLAIN " + plain + "\nS: +OK in\nC: QUIT\nS: +OK bye",
			"S: +OK ...\nC: STLS\nS: +OK ...", "C: CAPA\nS~ SASL PLAIN LOGIN EXTERNAL\nS~ .", "C: AUTH EXTERNAL =\nS: +OK in\nC: QUIT\nS: +OK bye"},
		{config.Submission, "submissions", "S: 220 ready\nC: EHLO mail.example.com\nS: 250-x\nS: 250 AUTH PLAIN\nC: AUTH PLAIN " + plain + "\nS: 235 in\nC: QUIT\nS: 221 bye",
			"S: 220 ...\nC: EHLO me\nS~ 250 ...\nC: STARTTLS\nS: 220 ...", "C: EHLO me\nS~ 250 AUTH PLAIN LOGIN EXTERNAL", "C: AUTH EXTERNAL\nS: 334 \nC: \nS: 235 ...\nC: QUIT\nS: 221 ..."},
		{config.Sieve, "sieves", "S: \"SASL\" \"PLAIN\"\nS: \"SIEVE\" \"fileinto\"\nS: OK\nC: AUTHENTICATE \"PLAIN\" \"" + plain + "\"\nS: OK in\nC: LOGOUT\nS: OK bye",
			"S~ OK...\nC: STARTTLS\nS: OK ...", "S~ \"SASL\" \"PLAIN EXTERNAL\"\nS~ OK...", "C: AUTHENTICATE \"EXTERNAL\" \"\"\nS: OK ...\nC: LOGOUT\nS: OK bye"},
	} {
		t.Run(string(x.p), func(t *testing.T) {
			t.Parallel()
			script := mailtest.StartScript(t, nil, func(k *mailtest.Talk) { k.Dialogue(x.backend) })
			script.AllowGone()
			name := string(x.p)
			r := newRig(t, rigOptions{routes: user + " new\n", gone: true, tune: func(c *config.Config) {
				withMasters(c)
				c.Authority.OAuth.URL = ""
				c.TLS.ClientCA = ours.file
				for _, side := range config.Sides {
					h, e := &c.Backends[side].Hosts[0], endpoint(t, name+"://"+script.Addr, false)
					switch x.p {
					case config.POP3:
						h.POP3 = e
					case config.Sieve:
						h.Sieve = e
					default:
						h.Submission = e
					}
				}
				c.Listen = append(c.Listen, endpoint(t, x.tls+"://127.0.0.1:0", true), endpoint(t, name+"+starttls://127.0.0.1:0", true))
			}, server: func(s *Server) { s.master = bosses("bpw", anyHost) }})
			conf := r.client.Clone()
			conf.Certificates = []tls.Certificate{cert}
			addrs := r.Addrs()
			greeting := map[config.Protocol]string{config.POP3: "S: +OK ...\n", config.Submission: "S: 220 ...\n"}[x.p]
			mailtest.Dial(t, addrs[len(addrs)-2].String(), conf).Dialogue(greeting + x.offered + "\n" + x.login)
			k := mailtest.Dial(t, addrs[len(addrs)-1].String(), nil)
			k.Dialogue(x.start)
			k.StartTLS(conf)
			k.Dialogue(x.offered + "\n" + x.login)
		})
	}
}
