package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/acmetest"
)

const acmeName = "mail." + acmetest.ZoneName

// acmeGate is a gate whose tls section is another; hosts do not matter.
func acmeGate(t *testing.T, tlsSection, adminAddress string) *gate {
	t.Helper()
	const side = "{imap: 'imap://127.0.0.1:1', submission: 'submission://127.0.0.1:1'}"
	g := newGate(t, side, side, "alice@example.com old\n", "admin: {listen: '"+adminAddress+"'}\n")
	b, err := os.ReadFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	g.write(g.file, strings.NewReplacer("tls: {certificates: [{cert: cert.pem, key: key.pem}]}", tlsSection, "hostname: mail.example.com", "hostname: "+acmeName).Replace(string(b)))
	return g
}

// shown is the issuer of the certificate that a client is shown, or why there is none.
func (g *gate) shown(name string) string {
	c, err := tls.Dial("tcp", g.imaps, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Issuer.CommonName
}

// eventually waits until what a function gives holds a text.
func eventually(t *testing.T, get func() string, text string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got := get()
		if strings.Contains(got, text) {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("it does not come to %q; it is %s", text, got)
		}
	}
}

// oneLine undoes the wrapping of a table.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// page is the answer to a request: its code and its text.
func page(t *testing.T, address, path string) string {
	t.Helper()
	r, err := http.Get("http://" + address + path)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(r.StatusCode, " ", string(b))
}

// The program: it serves with the certificate of a file while the authority cannot be reached, and says so everywhere; a reload
// asks again; what was had serves, also behind kill -9 and without the authority; and with no certificate at all it starts.
func TestCertificatesByACME(t *testing.T) {
	t.Parallel()
	pebble, err := acmetest.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	zone, httpPort, admin := acmetest.NewZone(t), acmetest.FreePort(t), port(t)
	ca := acmetest.Start(t, pebble, acmetest.Options{HTTPPort: httpPort, DNS: zone.Server()})
	ca.Kill()
	section := fmt.Sprintf("acme: {domains: [%s], agree: true, directory: '%s', ca: '%s', http_listen: '127.0.0.1:%s'}", acmeName, ca.Directory, ca.CA, httpPort)
	g := acmeGate(t, "tls: {certificates: [{cert: cert.pem, key: key.pem}], "+section+"}", admin)
	status := func() string { return g.run(0, "status") }
	g.start()
	defer g.stop()
	own := g.shown(acmeName)
	eventually(t, status, "none yet; the request of")
	if s := status(); !strings.Contains(s, "certificate "+acmeName) || !strings.Contains(s, "connection refused; again at") {
		t.Errorf("status: %s", s)
	}
	if s := page(t, admin, "/readyz"); !strings.HasPrefix(s, "200 ready") || !strings.Contains(s, "warning: certificate "+acmeName) {
		t.Errorf("readyz: %s", s)
	}
	if s := oneLine(g.run(exitDifference, "doctor")); !strings.Contains(s, "cannot be used") || !strings.Contains(s, "none yet; the request of") ||
		!strings.Contains(s, "whether the authority gets there cannot be seen from here") {
		t.Errorf("doctor: %s", s)
	}
	if s := g.shown(acmeName); s != own || !strings.Contains(s, "mail") {
		t.Errorf("shown meanwhile: %q, before %q", s, own)
	}

	ca.Run()
	g.run(0, "reload")
	eventually(t, func() string { return g.shown(acmeName) }, "Pebble")
	if s := eventually(t, status, "renewed from"); strings.Contains(s, "failed") {
		t.Errorf("status: %s", s)
	}
	if s := g.shown("other.example.com"); s != own {
		t.Errorf("for another name: %s", s)
	}
	eventually(t, func() string { return page(t, admin, "/metrics") }, `mailgate_acme_requests_total{result="obtained"} 1`)
	if s := page(t, admin, "/metrics"); !strings.Contains(s, `mailgate_tls_certificate_not_after_timestamp_seconds{host="`+acmeName+`"`) {
		t.Errorf("metrics: %s", s)
	}
	if s := oneLine(g.run(exitDifference, "doctor")); !strings.Contains(s, "its terms are at") || !strings.Contains(s, "there is one for "+acmeName) {
		t.Errorf("doctor: %s", s) // the hosts fail
	}

	g.kill()
	ca.Kill()
	b, err := os.ReadFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	g.write(g.file, strings.Replace(string(b), "certificates: [{cert: cert.pem, key: key.pem}], ", "", 1))
	g.start()
	if s := g.shown(acmeName); !strings.Contains(s, "Pebble") {
		t.Errorf("behind kill -9: %s", s)
	}

	g.kill()
	if err := os.RemoveAll(filepath.Join(g.dir, "state", "acme")); err != nil {
		t.Fatal(err)
	}
	g.start()
	if s := g.shown(acmeName); !strings.Contains(s, "internal error") {
		t.Errorf("without a certificate: %s", s)
	}
	if s := page(t, admin, "/readyz"); !strings.HasPrefix(s, "503 there is no certificate yet") {
		t.Errorf("readyz: %s", s)
	}
	ca.Run()
	g.run(0, "reload")
	eventually(t, func() string { return g.shown(acmeName) }, "Pebble")
	eventually(t, func() string { return page(t, admin, "/readyz") }, "200 ready")
	if s := g.run(0, "config", "check"); strings.Contains(s, "careful") {
		t.Errorf("config check: %s", s)
	}
}

// A listener for old devices: it is said what that means, and only it takes TLS 1.0.
func TestListenerForOldDevices(t *testing.T) {
	t.Parallel()
	g := acmeGate(t, "tls: {certificates: [{cert: cert.pem, key: key.pem}], ticket_keys: tickets}", port(t))
	g.write(filepath.Join(g.dir, "tickets"), "c2l4dGVlbiBieXRlcyBhbmQgc2l4dGVlbiBtb3JlISE=\n")
	b, err := os.ReadFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	g.write(g.file, strings.NewReplacer(`"imaps://`+g.imaps+`"`, `"imaps://`+g.imaps+`?tls=1.0"`).Replace(string(b)))
	if s := g.run(0, "config", "check"); !strings.Contains(s, "careful: imaps://"+g.imaps+"?tls=1.0 takes TLS 1.0") || !strings.Contains(s, "careful: imaps://"+g.imaps+"?tls=1.0: no certificate has an RSA key") {
		t.Errorf("config check: %s", s)
	}
	g.start()
	defer g.stop()
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	for address, want := range map[string]bool{g.imaps: true, g.smtps: false} {
		c, err := tls.Dial("tcp", address, old)
		if err == nil {
			c.Close()
		}
		if (err == nil) != want {
			t.Errorf("TLS 1.0 at %s: %v", address, err)
		}
	}
	if s := g.log.String(); !strings.Contains(s, "which can be broken") {
		t.Error("serve says nothing")
	}
	if s := oneLine(g.run(exitDifference, "doctor")); !strings.Contains(s, "old devices") || !strings.Contains(s, "1 keys in") {
		t.Errorf("doctor: %s", s)
	}
}
