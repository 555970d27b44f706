package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailgate/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// issued is a certificate with its key.
type issued struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate, signed by another or by itself. Names that are addresses become such.
func issue(t testing.TB, by *issued, until time.Time, names ...string) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: serial.String()}, NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: len(names) == 0}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else if n != "" {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	x := &issued{c, key}
	if by == nil {
		by = x
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	if x.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return x
}

func soon() time.Time { return time.Now().Add(time.Hour) }

func (x *issued) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.cert.Raw}))
}

func (x *issued) keyPEM(t testing.TB) string {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(x.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
}

// tls is the certificate as a server has it, with others sent along.
func (x *issued) tls(along ...*issued) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{x.cert.Raw}, PrivateKey: x.key}
	for _, a := range along {
		c.Certificate = append(c.Certificate, a.cert.Raw)
	}
	return c
}

// put writes certificate and key under a name, each in one step as a good renewal does.
func (x *issued) put(t testing.TB, dir, name string) config.Certificate {
	t.Helper()
	c := config.Certificate{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
	replaceFile(t, c.Cert, x.pem())
	replaceFile(t, c.Key, x.keyPEM(t))
	return c
}

func replaceFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// pair is a TCP connection, both ends.
func pair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	deadline := time.Now().Add(20 * time.Second)
	for _, x := range []net.Conn{c, s} {
		if err := x.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// shake performs a handshake and lets the server say one line, so that session tickets reach the client.
func shake(t testing.TB, client, server *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := pair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := tls.Server(b, server)
		if s.Handshake() == nil {
			_, _ = s.Write([]byte("hello"))
		}
		s.Close()
	}()
	c := tls.Client(a, client)
	err := c.Handshake()
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 5))
	}
	a.Close()
	<-done
	return c.ConnectionState(), err
}

func contains(t testing.TB, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q does not say %q", got, w)
		}
	}
}
