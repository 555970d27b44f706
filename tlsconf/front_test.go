package tlsconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// names presents a server name and returns the serial of the certificate that came.
func presented(t *testing.T, f *Certificates, name string) string {
	t.Helper()
	s, err := shake(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}, f.Config())
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return s.PeerCertificates[0].SerialNumber.String()
}

func serial(x *issued) string { return x.cert.SerialNumber.String() }

func TestCertificateIsChosenByName(t *testing.T) {
	dir := t.TempDir()
	first := issue(t, nil, soon(), "mail.example.com", "smtp.example.com")
	second := issue(t, nil, soon(), "mail.example.org")
	wild := issue(t, nil, soon(), "*.example.net")
	f, err := NewCertificates(config.TLS{Certificates: []config.Certificate{first.put(t, dir, "a"), second.put(t, dir, "b"), wild.put(t, dir, "c")}}, discard())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*issued{"mail.example.com": first, "SMTP.Example.com": first, "mail.example.org": second,
		"mail.example.org.": second, "imap.example.net": wild, "a.b.example.net": first, "nowhere.example": first, "": first, "192.0.2.1": first} {
		if got := presented(t, f, name); got != serial(want) {
			t.Errorf("%q: got %s, want %s", name, got, serial(want))
		}
	}
	if l := f.Leaves(); len(l) != 3 || l[1].SerialNumber.String() != serial(second) {
		t.Errorf("%d leaves", len(l))
	}
}

func TestMinVersion(t *testing.T) {
	dir := t.TempDir()
	c := config.TLS{Certificates: []config.Certificate{issue(t, nil, soon(), "m").put(t, dir, "a")}, MinVersion: "1.2"}
	f, err := NewCertificates(c, discard())
	if err != nil {
		t.Fatal(err)
	}
	try := func(max uint16) error {
		_, err := shake(t, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: max}, f.Config())
		return err
	}
	if a, b, c := try(tls.VersionTLS11), try(tls.VersionTLS12), try(tls.VersionTLS13); a == nil || b != nil || c != nil {
		t.Errorf("1.1: %v, 1.2: %v, 1.3: %v", a, b, c)
	}
	c.MinVersion = "1.3" // a reload
	if err := f.Apply(c); err != nil {
		t.Fatal(err)
	}
	if try(tls.VersionTLS12) == nil || try(tls.VersionTLS13) != nil {
		t.Error("1.3 only is not what is taken behind the reload")
	}
}

func TestNoCertificate(t *testing.T) {
	f, err := NewCertificates(config.TLS{}, discard())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shake(t, &tls.Config{InsecureSkipVerify: true}, f.Config()); err == nil {
		t.Error("a handshake without a certificate")
	}
	if _, err := NewCertificates(config.TLS{Certificates: []config.Certificate{{Cert: "missing", Key: "missing"}}}, discard()); err == nil {
		t.Error("a missing certificate is taken")
	}
}

// A session goes on with its ticket although the certificate was renewed meanwhile.
func TestTicketsSurviveAReload(t *testing.T) {
	dir := t.TempDir()
	ca := issue(t, nil, soon())
	c := config.TLS{Certificates: []config.Certificate{issue(t, ca, soon(), "m").put(t, dir, "a")}}
	f, err := NewCertificates(c, discard())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	client := &tls.Config{ServerName: "m", RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for i, want := range []bool{false, true, true} {
		if i == 2 {
			issue(t, ca, soon(), "m").put(t, dir, "a")
			if err := f.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
		if s, err := shake(t, client, f.Config()); err != nil || s.DidResume != want {
			t.Errorf("handshake %d: resumed %v, %v", i, s.DidResume, err)
		}
	}
}

// Watch takes renewed files over; files that do not fit, or are gone, change nothing, are told once, and are looked at
// again when they change.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	old, renewed, third := issue(t, nil, soon(), "m"), issue(t, nil, soon(), "m"), issue(t, nil, soon(), "m")
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return text.Write(b)
		}), nil))
		logged := func(word string) int {
			mu.Lock()
			defer mu.Unlock()
			return strings.Count(text.String(), word)
		}
		files := old.put(t, dir, "a")
		f, err := NewCertificates(config.TLS{Certificates: []config.Certificate{files}}, log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer func() { cancel(); synctest.Wait() }()
		go f.Watch(ctx, time.Second)
		now := func(want *issued, errors, reads int) {
			t.Helper()
			time.Sleep(3500 * time.Millisecond) // of the bubble
			if got := f.Leaves()[0].SerialNumber.String(); got != serial(want) || logged("level=ERROR") != errors || logged("read again") != reads {
				t.Errorf("got %s, want %s; %s", got, serial(want), text.String())
			}
		}
		now(old, 0, 0)
		replaceFile(t, files.Cert, renewed.pem()) // the key is still the old one
		now(old, 1, 0)
		replaceFile(t, files.Key, renewed.keyPEM(t))
		now(renewed, 1, 1)
		replaceFile(t, files.Cert, "rubbish")
		now(renewed, 2, 1)
		if err := os.Remove(files.Key); err != nil {
			t.Fatal(err)
		}
		now(renewed, 3, 1)
		third.put(t, dir, "a")
		now(third, 3, 2)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// A file of the same size and time is another one when it was put in place of the first.
func TestStampSeesAnotherFile(t *testing.T) {
	dir := t.TempDir()
	x := issue(t, nil, soon(), "m")
	c := config.TLS{Certificates: []config.Certificate{x.put(t, dir, "a")}}
	st, err := os.Stat(c.Certificates[0].Cert)
	if err != nil {
		t.Fatal(err)
	}
	before := stamp(c)
	text := strings.ToLower(x.pem())
	keep, err := os.Open(c.Certificates[0].Cert) // so that its inode is not used again
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	replaceFile(t, c.Certificates[0].Cert, text)
	if err := os.Chtimes(c.Certificates[0].Cert, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	if stamp(c) == before {
		t.Error("not seen")
	}
}
