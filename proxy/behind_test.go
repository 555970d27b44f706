package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/router"
)

// v2 makes a header of version 2.
func v2(command, family byte, body []byte) string {
	b := append([]byte(proxySignature), 0x20|command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return string(append(b, body...))
}

func v2of(client netip.AddrPort, tlvs string) string {
	src, dst, family := client.Addr().AsSlice(), make([]byte, len(client.Addr().AsSlice())), byte(0x11)
	if client.Addr().Is6() {
		family = 0x21
	}
	body := binary.BigEndian.AppendUint16(append(append([]byte{}, src...), dst...), client.Port())
	return v2(1, family, append(binary.BigEndian.AppendUint16(body, 993), tlvs...))
}

// TestReadProxyHeader: both versions are read, and not a byte behind them; what is no header is an error.
func TestReadProxyHeader(t *testing.T) {
	t.Parallel()
	four, six := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("[2001:db8::7]:4711")
	for in, want := range map[string]netip.AddrPort{
		"PROXY TCP4 192.0.2.7 10.0.0.1 4711 993\r\n":      four,
		"PROXY TCP6 2001:db8::7 2001:db8::1 4711 993\r\n": six,
		"PROXY UNKNOWN\r\n":                               {},
		"PROXY UNKNOWN 192.0.2.7 10.0.0.1 4711 993\r\n":   {},
		v2of(four, ""):               four,
		v2of(six, "\x04\x00\x03abc"): six,
		v2of(netip.MustParseAddrPort("[::ffff:192.0.2.7]:4711"), ""): four,
		v2(0, 0, nil):              {},
		v2(1, 0x31, []byte("x")):   {}, // a unix socket
		v2(0, 0x11, []byte("tlv")): {},
	} {
		r := strings.NewReader(in + "REST")
		got, err := readProxyHeader(r)
		rest, _ := io.ReadAll(r)
		if err != nil || got != want || string(rest) != "REST" {
			t.Errorf("%q: %v, %v, rest %q; want %v", in, got, err, rest, want)
		}
	}
	for _, in := range []string{"", "PRO", "PROXY", "PROXY TCP4 1.2.3.4", "PROXY TCP4 2001:db8::7 ::1 1 2\r\n", "PROXY TCP4 192.0.2.7 10.0.0.1 99999 993\r\n", "PROXY TCP4 a b c d\r\n",
		"PROXY UDP4 192.0.2.7 10.0.0.1 4711 993\r\n", "PROXY " + strings.Repeat("x", 200), "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "a LOGIN u p\r\n", "\x16\x03\x01\x02\x00\x01\x00",
		proxySignature + "\x11\x11\x00\x00", v2(2, 0x11, make([]byte, 12)), v2(1, 0x11, make([]byte, 11)), v2(1, 0x21, make([]byte, 12)), proxySignature + "\x21\x11\xff\xff", v2of(four, "")[:20]} {
		if got, err := readProxyHeader(strings.NewReader(in)); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func FuzzReadProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 10.0.0.1 4711 993\r\n"))
	f.Add([]byte(v2of(netip.MustParseAddrPort("192.0.2.7:4711"), "x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		got, err := readProxyHeader(r)
		if err != nil && got.IsValid() {
			t.Errorf("%v and %v", got, err)
		}
		if read := len(b) - r.Len(); read > maxProxyV2+16 {
			t.Errorf("%d bytes", read)
		}
		if err != nil && !errors.Is(err, errProxyHeader) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}

// proxied tunes a rig: its listeners are behind balancers on these networks.
func proxied(t testing.TB, networks ...string) func(*config.Config) {
	return func(c *config.Config) {
		c.Listen = nil
		for _, u := range []string{"imap+proxy://127.0.0.1:0", "imap+starttls+proxy://127.0.0.1:0", "imaps+proxy://127.0.0.1:0"} {
			c.Listen = append(c.Listen, endpoint(t, u, true))
		}
		for _, n := range networks {
			c.ProxyNetworks = append(c.ProxyNetworks, netip.MustParsePrefix(n))
		}
	}
}

// TestBehindBalancer: the session, the log and the limits have the client's address, in clear and under TLS.
func TestBehindBalancer(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]string{"v1": "PROXY TCP4 192.0.2.7 10.0.0.1 4711 993\r\n", "v2": v2of(netip.MustParseAddrPort("192.0.2.7:4711"), "")} {
		for _, mode := range []config.TLSMode{config.Plain, config.Implicit} {
			r := newRig(t, rigOptions{tune: proxied(t, "127.0.0.0/8"), old: ends("old", "C: b LOGOUT\nS: * BYE")})
			k := mailtest.Dial(t, r.addr[mode], nil)
			k.Send(header)
			if mode == config.Implicit {
				k.StartTLS(r.client)
			}
			k.Dialogue("S: * OK ...\nC: a LOGIN u@example.com pw\nS: a OK ...")
			if s := r.router.Sessions(user); len(s) != 1 || s[0].Client != netip.MustParseAddrPort("192.0.2.7:4711") {
				t.Errorf("%s: %v", name, s)
			}
			k.Dialogue("C: b LOGOUT\nS: * BYE\n!end")
			r.logged("session end", "client=192.0.2.7:4711")
		}
	}
}

// TestBehindBalancerOnly: a balancer's own looks are its own; who is no balancer, or sends no header, is sent away without a word.
func TestBehindBalancerOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{tune: proxied(t, "127.0.0.1/32")})
	k := r.plain()
	k.Send("PROXY UNKNOWN\r\n")
	k.Dialogue("S: * OK ...\nC: a LOGOUT\nS: * BYE ...\nS: a OK ...\n!end")
	k = r.plain()
	k.Send("a CAPABILITY\r\n")
	k.ExpectEnd()
	r.logged("PROXY header", "no PROXY header")
	other := newRig(t, rigOptions{tune: proxied(t, "10.0.0.0/8")})
	k = other.plain()
	k.ExpectEnd()
	other.logged("PROXY header", "127.0.0.1 is in none of proxy_networks")
	silent := newRig(t, rigOptions{tune: func(c *config.Config) { proxied(t, "127.0.0.0/8")(c); c.Limits.Handshake = 100 * time.Millisecond }})
	k = silent.plain()
	k.ExpectEnd()
}

// TestBehindBalancerLimits: one client that comes through a balancer does not use up what is another's there.
func TestBehindBalancerLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{gone: true, tune: func(c *config.Config) { proxied(t, "127.0.0.0/8")(c); c.Limits.PreAuthPerIP = 1 },
		router: func(o *router.Options) {}})
	open := func(ip string) *mailtest.Talk {
		k := r.plain()
		k.Send("PROXY TCP4 " + ip + " 10.0.0.1 4711 993\r\n")
		return k
	}
	a := open("192.0.2.7")
	a.Expect("* OK ...")
	b := open("192.0.2.8")
	b.Expect("* OK ...")
	c := open("192.0.2.7") // the oldest of this address gives way, or he is turned away
	line := c.Line()
	if strings.HasPrefix(line, "* OK") {
		a.ExpectEnd()
	} else if !strings.HasPrefix(line, "* BYE") {
		t.Errorf("%s", line)
	}
	b.Dialogue("C: a NOOP\nS: a OK ...")
}
