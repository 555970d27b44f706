package acmetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// Options say how an authority is.
type Options struct {
	HTTPPort, TLSPort string            // where it asks; "" when it does not
	Validity          time.Duration     // of certificates, 90 days when 0
	Customers         map[string]string // who may have certificates, and their keys in base64 as for URLs; nil means everybody
	DNS               string            // host:port of the server where it looks names up
}

// Blocked is a name that the authority refuses. It has no more labels than other names: Pebble counts on that.
const Blocked = "blocked.test"

// Authority is a Pebble that runs.
type Authority struct {
	Directory string // URL
	CA        string // PEM file of who signed its own certificate

	address string
	manage  string // host:port of Pebble's own interface for tests
	binary  string
	config  string
	dns     string
	t       testing.TB
	process *exec.Cmd
}

// Build makes Pebble, in a folder, and gives its path: once for all tests of a package.
func Build(dir string) (string, error) {
	_, here, _, _ := runtime.Caller(0)
	out := filepath.Join(dir, "pebble")
	c := exec.Command("go", "build", "-o", out, "github.com/letsencrypt/pebble/v2/cmd/pebble")
	c.Dir = filepath.Join(filepath.Dir(here), "pebble")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build of pebble: %w\n%s", err, text)
	}
	return out, nil
}

// FreePort is a port on loopback that is the test's until it ends.
func FreePort(t testing.TB) string {
	t.Helper()
	return strconv.Itoa(lab.Ports(t, 1)[0])
}

// Start runs an authority until the test ends.
func Start(t testing.TB, binary string, o Options) *Authority {
	t.Helper()
	dir := t.TempDir()
	a := &Authority{manage: "127.0.0.1:" + FreePort(t), CA: filepath.Join(dir, "ca.pem"), address: "127.0.0.1:" + FreePort(t), binary: binary, config: filepath.Join(dir, "pebble.json"), dns: o.DNS, t: t}
	a.Directory = "https://" + a.address + "/dir"
	own(t, dir)
	port := func(s string) int {
		n, _ := strconv.Atoi(s)
		return n
	}
	validity := o.Validity
	if validity == 0 {
		validity = 90 * 24 * time.Hour
	}
	profile := map[string]any{"description": "of tests", "validityPeriod": int(validity.Seconds())}
	b, err := json.Marshal(map[string]any{"pebble": map[string]any{"listenAddress": a.address, "managementListenAddress": a.manage, "certificate": filepath.Join(dir, "own.pem"),
		"privateKey": filepath.Join(dir, "own.key"), "httpPort": port(o.HTTPPort), "tlsPort": port(o.TLSPort), "domainBlocklist": []string{Blocked}, "externalAccountBindingRequired": o.Customers != nil,
		"externalAccountMACKeys": o.Customers,
		"keyAlgorithm":           "ecdsa", "profiles": map[string]any{"default": profile, "other": profile}}})
	if err == nil {
		err = os.WriteFile(a.config, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.Run()
	t.Cleanup(a.Kill)
	return a
}

// Run starts it, as a new one that knows nobody when it was killed.
func (a *Authority) Run() {
	a.t.Helper()
	c := exec.Command(a.binary, "-strict", "-config", a.config, "-dnsserver", a.dns)
	c.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	c.Stdout, c.Stderr = io.Discard, io.Discard
	if err := c.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.process = c
	client := a.client()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		r, err := client.Get(a.Directory)
		if err == nil {
			r.Body.Close()
			return
		}
		if time.Now().After(end) {
			a.t.Fatalf("pebble does not answer: %v", err)
		}
	}
}

// client speaks with it over a connection for each request.
func (a *Authority) client() *http.Client {
	a.t.Helper()
	roots := x509.NewCertPool()
	b, err := os.ReadFile(a.CA)
	if err != nil || !roots.AppendCertsFromPEM(b) {
		a.t.Fatal(err)
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

// Advise makes it say of a certificate between which times it should be renewed (RFC 9773).
func (a *Authority) Advise(c *x509.Certificate, from, until time.Time) {
	a.t.Helper()
	window, err := json.Marshal(map[string]any{"suggestedWindow": map[string]time.Time{"start": from, "end": until}})
	if err != nil {
		a.t.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})), "ARIResponse": string(window)})
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := a.client().Post("https://"+a.manage+"/set-renewal-info/", "application/json", bytes.NewReader(b))
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		a.t.Fatalf("renewal info: %s", r.Status)
	}
}

// Kill ends it.
func (a *Authority) Kill() {
	if a.process == nil {
		return
	}
	_ = a.process.Process.Kill()
	_ = a.process.Wait()
	a.process = nil
}

// own makes the certificate of the authority's own TLS, and who signed it.
func own(t testing.TB, dir string) {
	t.Helper()
	issue := func(c, by *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c.NotBefore, c.NotAfter, c.BasicConstraintsValid = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour), true
		if by == nil {
			by, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
		if err == nil {
			c, err = x509.ParseCertificate(der)
		}
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca, caKey := issue(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: strings.ToLower(t.Name())}, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf, key := issue(&x509.Certificate{SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write("ca.pem", "CERTIFICATE", ca.Raw)
	write("own.pem", "CERTIFICATE", leaf.Raw)
	write("own.key", "PRIVATE KEY", der)
}
