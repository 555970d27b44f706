package proxy

import (
	"crypto/tls"
	"io"
	"testing"

	"mailgate/config"
	"mailgate/tlsconf"
)

// An authority that looks whether a name is ours gets its answer on a client's listener, and nothing more: no greeting, no session.
func TestAuthorityLooks(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	pair, err := tls.LoadX509KeyPair(r.cfg.TLS.Certificates[0].Cert, r.cfg.TLS.Certificates[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	look := &tls.Config{ServerName: "mail.example.com", InsecureSkipVerify: true, NextProtos: []string{tlsconf.ChallengeProtocol}}
	if c, err := tls.Dial("tcp", r.addr[config.Implicit], look); err == nil {
		c.Close()
		t.Error("answered though no challenge is under way")
	}
	r.certs.Present("mail.example.com", &pair)
	c, err := tls.Dial("tcp", r.addr[config.Implicit], look)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s := c.ConnectionState(); !tlsconf.IsChallenge(s) {
		t.Errorf("agreed on %q", s.NegotiatedProtocol)
	}
	if b, err := io.ReadAll(c); len(b) > 0 {
		t.Errorf("it is told %q, %v", b, err)
	}
	r.logged("a certificate authority looks")
	r.secure().Dialogue("S: * OK ...") // clients come in meanwhile
}
