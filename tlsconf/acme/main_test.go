package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailgate/config"
	"mailgate/mailtest/acmetest"
	"mailgate/tlsconf"
)

// builtPebble makes the authority's program once.
var builtPebble = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "mailgate-pebble-")
	if err != nil {
		return "", err
	}
	return acmetest.Build(dir)
})

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if os.Getenv(childFolder) == "" {
			if binary, err := builtPebble(); err == nil {
				_ = os.RemoveAll(filepath.Dir(binary))
			}
		}
		os.Exit(code)
	}))
}

func pebble(t testing.TB) string {
	t.Helper()
	binary, err := builtPebble()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// rig is an authority, a zone, and a manager that asks it.
type rig struct {
	t    testing.TB
	zone *acmetest.Zone
	ca   *acmetest.Authority
	conf config.ACME

	certs *tlsconf.Certificates
	m     *Manager
	stop  func()

	mu     sync.Mutex
	text   bytes.Buffer
	counts map[string]int
}

// newRig has names of a zone to be asked for by a challenge.
func newRig(t testing.TB, challenge string, validity time.Duration, names ...string) *rig {
	t.Helper()
	zone := acmetest.NewZone(t)
	r := newRigAt(t, zone.Server(), challenge, validity, names...)
	r.zone = zone
	return r
}

// newRigAt is newRig with another server of the zone.
func newRigAt(t testing.TB, server, challenge string, validity time.Duration, names ...string) *rig {
	t.Helper()
	r := &rig{t: t, counts: map[string]int{}}
	httpPort, tlsPort := acmetest.FreePort(t), acmetest.FreePort(t)
	r.ca = acmetest.Start(t, pebble(t), acmetest.Options{HTTPPort: httpPort, TLSPort: tlsPort, Validity: validity, DNS: server})
	key := filepath.Join(t.TempDir(), "tsig")
	if err := os.WriteFile(key, []byte(acmetest.Key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.conf = config.ACME{Domains: names, Agree: true, Directory: r.ca.Directory, CA: r.ca.CA, Storage: filepath.Join(t.TempDir(), "acme"), KeyType: "p256",
		Challenge: challenge, HTTPListen: "127.0.0.1:" + httpPort, TLSListen: "127.0.0.1:" + tlsPort,
		DNS: config.ACMEDNS{Server: server, Zone: acmetest.ZoneName, Key: acmetest.KeyName, Algorithm: "hmac-sha256", KeyFile: key, Wait: time.Minute}}
	return r
}

func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// ACME implements Recorder.
func (r *rig) ACME(result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[result]++
}

func (r *rig) count(result string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[result]
}

// make makes the manager; it does not run yet.
func (r *rig) make() {
	r.t.Helper()
	port := "53"
	if r.zone != nil {
		port = r.zone.Port
	}
	r.makeAt(port)
}

// makeAt is make with the port of the zone's servers.
func (r *rig) makeAt(port string) {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(r, nil))
	certs, err := tlsconf.NewCertificates(config.TLS{}, log)
	if err != nil {
		r.t.Fatal(err)
	}
	r.certs = certs
	if r.m, err = New(Options{Config: r.conf, Certificates: certs, Log: log, Recorder: r}); err != nil {
		r.t.Fatal(err)
	}
	if s, ok := r.m.issuer.solver.(*dnsSolver); ok {
		s.port, s.look = port, 50*time.Millisecond
	}
}

// run makes the manager and runs it until the test ends, or until stop.
func (r *rig) run() {
	r.t.Helper()
	r.make()
	r.goOn()
}

func (r *rig) goOn() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m := r.m
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	r.t.Cleanup(r.stop)
}

// until waits for something to become true.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s does not happen\n%s", what, r.logged())
		}
	}
}

// leaf is what a client is shown for a name, nil when there is none.
func (r *rig) leaf(name string) *x509.Certificate {
	for _, c := range r.certs.Leaves() {
		if c.VerifyHostname(name) == nil {
			return c
		}
	}
	return nil
}

func (r *rig) has(names ...string) {
	r.t.Helper()
	for _, n := range names {
		r.until("a certificate for "+n, func() bool { return r.leaf(n) != nil })
	}
}

// status is how it stands with a name.
func (r *rig) status(name string) Status {
	r.t.Helper()
	for _, s := range r.m.Status() {
		if s.Name == name {
			return s
		}
	}
	r.t.Fatalf("no status of %s", name)
	return Status{}
}

// fails waits for the failure of a request and gives what it says.
func (r *rig) fails(name string, words ...string) Status {
	r.t.Helper()
	r.until("a failure", func() bool { return r.status(name).Error != "" })
	s := r.status(name)
	for _, w := range words {
		if !strings.Contains(s.Error, w) {
			r.t.Errorf("%q does not say %q", s.Error, w)
		}
		r.until("a line in the log that says "+w, func() bool { return strings.Contains(r.logged(), w) })
	}
	return s
}

// selfSigned is a certificate with its leaf.
func selfSigned(t testing.TB, from, until time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until, DNSNames: []string{one}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err == nil {
		c, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: c}
}
