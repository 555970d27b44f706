package tlsconf

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/config"
)

// withRSA is a front whose certificate has an RSA key, as old devices need it.
func withRSA(t testing.TB) *Certificates {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: soon(), DNSNames: []string{"m"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	f := gatewayWith(t, config.TLS{MinVersion: "1.2"})
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	f.SetManaged([]*tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}})
	return f
}

// handshakes serves a tls.Config until the test ends and gives its address.
func handshakes(t testing.TB, c *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
				s := tls.Server(conn, c)
				if s.Handshake() == nil {
					_, _ = s.Write([]byte("* OK hello\r\n"))
					_ = s.CloseWrite()
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// A real client that knows no other version than an old one comes in at the listener that takes it, and at no other.
func TestOldDevices(t *testing.T) {
	t.Parallel()
	f := withRSA(t)
	address := map[string]string{"": handshakes(t, f.Config()), "1.0": handshakes(t, f.ConfigFor("1.0")), "1.1": handshakes(t, f.ConfigFor("1.1"))}
	for _, x := range []struct {
		args  string
		taken string // by which listeners
	}{
		{"-tls1 -cipher AES128-SHA@SECLEVEL=0", "1.0"},
		{"-tls1 -cipher ECDHE-RSA-AES256-SHA@SECLEVEL=0", "1.0"},
		{"-tls1_1 -cipher AES256-SHA@SECLEVEL=0", "1.0 1.1"},
		{"-tls1_1 -cipher ALL@SECLEVEL=0", "1.0 1.1"},
		{"-tls1_2 -cipher AES128-SHA@SECLEVEL=0", "1.0 1.1"}, // without forward secrecy: not for all
		{"-tls1_2", " 1.0 1.1"},
		{"-tls1_3", " 1.0 1.1"},
	} {
		for oldest, addr := range address {
			c := exec.Command("openssl", append([]string{"s_client", "-connect", addr, "-ign_eof"}, strings.Fields(x.args)...)...)
			out, _ := c.CombinedOutput()
			got := strings.Contains(string(out), "* OK hello")
			want := oldest != "" && strings.Contains(x.taken, oldest) || oldest == "" && strings.HasPrefix(x.taken, " ")
			if got != want {
				t.Errorf("%s at a listener that takes %q: %v, want %v\n%s", x.args, oldest, got, want, out)
			}
		}
	}
}

// The old versions stay with their listener behind a reload, and with tls.min_version 1.3 too.
func TestOldDevicesBehindAReload(t *testing.T) {
	t.Parallel()
	f := withRSA(t)
	if err := f.Apply(config.TLS{MinVersion: "1.3"}); err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: oldSuites()}
	if _, err := shake(t, client, f.ConfigFor("1.0")); err != nil {
		t.Errorf("TLS 1.0 where it is taken: %v", err)
	}
	for _, oldest := range []string{"", "1.1"} {
		if _, err := shake(t, client, f.ConfigFor(oldest)); err == nil {
			t.Errorf("TLS 1.0 at %q", oldest)
		}
	}
	client.MaxVersion = tls.VersionTLS12
	if _, err := shake(t, client, f.Config()); err == nil {
		t.Error("TLS 1.2 where 1.3 is needed")
	}
}
