package tlsconf

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest"
)

// Clients are asked for a certificate from the reload on that says so, and not any more after one that does not; a file that holds none
// changes nothing.
func TestClientAuthoritiesReload(t *testing.T) {
	dir := t.TempDir()
	cert, key, _, _ := mailtest.Certificate(t, dir)
	c := config.TLS{Certificates: []config.Certificate{{Cert: cert, Key: key}}, MinVersion: "1.2"}
	f, err := NewCertificates(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	asks := func(want tls.ClientAuthType) {
		t.Helper()
		if got := f.Config(); got.ClientAuth != want || (got.ClientCAs != nil) != (want == tls.RequestClientCert) {
			t.Errorf("clients: %v, want %v", got.ClientAuth, want)
		}
	}
	asks(tls.NoClientCert)
	with := c
	with.ClientCA = cert
	if err := f.Apply(with); err != nil {
		t.Fatal(err)
	}
	asks(tls.RequestClientCert)
	first := f.Config()
	if err := f.Apply(with); err != nil || f.Config() != first {
		t.Errorf("the keys of session tickets are gone: %v", err)
	}
	bad := with
	bad.ClientCA = filepath.Join(dir, "bad")
	if err := os.WriteFile(bad.ClientCA, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Apply(bad); err == nil || !strings.Contains(err.Error(), bad.ClientCA) {
		t.Error(err)
	}
	asks(tls.RequestClientCert)
	if err := f.Apply(c); err != nil {
		t.Fatal(err)
	}
	asks(tls.NoClientCert)
}
