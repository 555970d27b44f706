package backend

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"log/slog"

	"mailgate/config"
	"mailgate/mailtest/lab"
)

// TestProxyHeader: the bytes for each kind of client.
func TestProxyHeader(t *testing.T) {
	t.Parallel()
	const sig = "\r\n\r\n\x00\r\nQUIT\n"
	four, six := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 143}, &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 143}
	mapped := strings.Repeat("\x00", 10) + "\xff\xff"
	for _, c := range []struct {
		client string
		host   net.Addr
		want   string
	}{
		{"", four, sig + "\x20\x00\x00\x00"},
		{"192.0.2.7:4711", four, sig + "\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x00\x8f"},
		{"192.0.2.7:4711", six, sig + "\x21\x21\x00\x24" + mapped + "\xc0\x00\x02\x07 \x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x12\x67\x00\x8f"},
		{"[fe80::1%eth0]:1", four, sig + "\x21\x21\x00\x24\xfe\x80" + strings.Repeat("\x00", 13) + "\x01" + mapped + "\x0a\x00\x00\x01\x00\x01\x00\x8f"},
	} {
		var client netip.AddrPort
		if c.client != "" {
			client = netip.MustParseAddrPort(c.client)
		}
		if got := string(proxyHeader(client, c.host)); got != c.want {
			t.Errorf("%s: %q, want %q", c.client, got, c.want)
		}
	}
}

// TestProxyProtocolHost: a real Dovecot that wants the header logs the client, and takes looks and the syncer's logins for the gateway's own.
func TestProxyProtocolHost(t *testing.T) {
	l := lab.Start(t)
	e, err := config.ParseEndpoint("imap://"+lab.Addr(l.Old.Proxied), false)
	if err != nil {
		t.Fatal(err)
	}
	b := config.Default().Backends[config.Old]
	b.Hosts, b.ProxyProtocol = []config.Host{{Name: "old", IMAP: e}}, true
	b.ConnectTimeout, b.LoginTimeout = 5*time.Second, 5*time.Second
	d, err := NewDialer([2]config.Backend{b, b}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	if seen := d.Probe(t.Context(), config.Old, config.IMAP, "old", "x"); seen.Err != nil {
		t.Fatal(seen.Err)
	}
	who := popWho(t, lab.User(4), lab.Password(4))
	for _, from := range []string{"192.0.2.99:4711", "[2001:db8::99]:4711"} {
		c, err := d.DialIMAP(t.Context(), config.Old, "", LoginIMAP{Credentials: who.Credentials, LoginName: who.LoginName, ClientAddr: netip.MustParseAddrPort(from)})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	c, err := d.DialClient(t.Context(), config.Old, "", Account{Credentials: who.Credentials, LoginName: who.LoginName})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	log, err := os.ReadFile(filepath.Join(filepath.Dir(l.Old.Dir), "old.log"))
	if err != nil || !strings.Contains(string(log), "rip=192.0.2.99") || !strings.Contains(string(log), "rip=2001:db8::99") {
		t.Errorf("%v: OLD has not heard of the client", err)
	}
}
