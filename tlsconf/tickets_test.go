package tlsconf

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
)

func ticketKey(t testing.TB) string {
	t.Helper()
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// gatewayWith is the front of one gateway of several: certificate and files of keys are those of all of them.
func gatewayWith(t testing.TB, c config.TLS) *Certificates {
	t.Helper()
	f, err := NewCertificates(c, discard())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Gateways with one file of keys go on with each other's sessions, those without do not; a key that is not the first any more still
// decrypts, and one that is gone does not.
func TestTicketsAreShared(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ca := issue(t, nil, soon())
			c := config.TLS{Certificates: []config.Certificate{issue(t, ca, soon(), "m").put(t, dir, "a")}, TicketKeys: filepath.Join(dir, "tickets")}
			roots := x509.NewCertPool()
			roots.AddCert(ca.cert)
			client := func() *tls.Config {
				return &tls.Config{ServerName: "m", RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(4), MaxVersion: version}
			}
			resumed := func(client *tls.Config, f *Certificates) bool {
				t.Helper()
				s, err := shake(t, client, f.Config())
				if err != nil {
					t.Fatal(err)
				}
				return s.DidResume
			}
			first, second := ticketKey(t), ticketKey(t)
			replaceFile(t, c.TicketKeys, first+"\n")
			one, other := gatewayWith(t, c), gatewayWith(t, c)
			x := client()
			if a, b := resumed(x, one), resumed(x, other); a || !b {
				t.Errorf("resumed at first %v, at the other %v", a, b)
			}
			alone := c
			alone.TicketKeys = ""
			x = client()
			for range 2 {
				if resumed(x, gatewayWith(t, alone)) {
					t.Error("resumed without a file of keys")
				}
			}

			x = client()
			resumed(x, one)
			replaceFile(t, c.TicketKeys, second+"\n"+first+"\n")
			if err := other.Apply(c); err != nil {
				t.Fatal(err)
			}
			if !resumed(x, other) {
				t.Error("a ticket of the second key is not taken")
			}
			replaceFile(t, c.TicketKeys, second+"\n")
			if err := one.Apply(c); err != nil {
				t.Fatal(err)
			}
			if !resumed(x, one) { // what other gave is of the new key
				t.Error("the first key does not encrypt")
			}
			replaceFile(t, c.TicketKeys, ticketKey(t)+"\n")
			if err := one.Apply(c); err != nil {
				t.Fatal(err)
			}
			if resumed(x, one) {
				t.Error("a ticket of a key that is gone is taken")
			}
		})
	}
}

// Watch takes other keys over; a file that cannot be used changes nothing.
func TestWatchReadsTicketKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := issue(t, nil, soon())
	c := config.TLS{Certificates: []config.Certificate{issue(t, ca, soon(), "m").put(t, dir, "a")}, TicketKeys: filepath.Join(dir, "tickets")}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	key := ticketKey(t)
	replaceFile(t, c.TicketKeys, key)
	f := gatewayWith(t, c)
	watch := func(change func()) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer func() { cancel(); synctest.Wait() }()
			go f.Watch(ctx, time.Second)
			change()
			time.Sleep(1500 * time.Millisecond) // of the bubble
		})
	}
	x := &tls.Config{ServerName: "m", RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	resumed := func() bool {
		t.Helper()
		s, err := shake(t, x, f.Config())
		if err != nil {
			t.Fatal(err)
		}
		return s.DidResume
	}
	resumed()
	watch(func() { replaceFile(t, c.TicketKeys, "rubbish") })
	if !resumed() {
		t.Error("a broken file took the keys away")
	}
	watch(func() { replaceFile(t, c.TicketKeys, ticketKey(t)) })
	if resumed() {
		t.Error("other keys are not taken over")
	}
	if _, err := NewCertificates(config.TLS{TicketKeys: filepath.Join(dir, "none")}, discard()); err == nil || !strings.Contains(err.Error(), "tls.ticket_keys") {
		t.Errorf("a missing file: %v", err)
	}
}
