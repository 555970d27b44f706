package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// authorities are those whose signature lets a client's certificate say who he is. nil is none.
type authorities struct {
	pem  []byte
	pool *x509.CertPool
}

// readAuthorities reads a PEM file; "" gives nil.
func readAuthorities(file string) (*authorities, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("client_ca: %w", err)
	}
	a := &authorities{pem: pem, pool: x509.NewCertPool()}
	if !a.pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("client_ca: %s holds no PEM certificate", file)
	}
	return a, nil
}

// ask has a server ask clients for a certificate. It is no condition, whatever they show: who has none, or one that has expired, logs in
// with a password.
func (a *authorities) ask(c *tls.Config) {
	if a != nil {
		c.ClientAuth, c.ClientCAs = tls.RequestClientCert, a.pool
	}
}

func (a *authorities) same(b *authorities) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.pem, b.pem)
}

// Client is the certificate that a client has shown, if it says who he is: one of tls.client_ca has signed it, it is for clients, and valid
// now, also when the session was resumed. Else nil.
func (f *Certificates) Client(s tls.ConnectionState) *x509.Certificate {
	a := f.set.Load().clients
	if a == nil || len(s.PeerCertificates) == 0 {
		return nil
	}
	o := x509.VerifyOptions{Roots: a.pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	leaf := s.PeerCertificates[0]
	if _, err := leaf.Verify(o); err != nil {
		return nil
	}
	return leaf
}
