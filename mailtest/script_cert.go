package mailtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificate makes a self-signed certificate for localhost, 127.0.0.1 and ::1 in a folder, as cert.pem and key.pem,
// and a config for each end: the client's trusts nothing else.
func Certificate(tb TB, dir string) (cert, key string, server, client *tls.Config) {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("certificate: %v", err)
	}
	now := time.Now()
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 7), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err1 := x509.CreateCertificate(rand.Reader, leaf, leaf, &k.PublicKey, k)
	keyDER, err2 := x509.MarshalPKCS8PrivateKey(k)
	crtPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	pair, err3 := tls.X509KeyPair(crtPEM, keyPEM)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(err1, err2, err3, os.WriteFile(cert, crtPEM, 0o644), os.WriteFile(key, keyPEM, 0o600)); err != nil {
		tb.Fatalf("certificate: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(crtPEM)
	return cert, key, &tls.Config{Certificates: []tls.Certificate{pair}}, &tls.Config{RootCAs: roots, ServerName: "localhost"}
}
