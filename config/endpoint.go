package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// scheme is a row of the one table of URL schemes.
type scheme struct {
	name     string
	protocol Protocol
	mode     TLSMode
	port     int
}

func schemes() []scheme {
	return []scheme{
		{"imap", IMAP, Plain, 143}, {"imap+starttls", IMAP, StartTLS, 143}, {"imaps", IMAP, Implicit, 993},
		{"pop3", POP3, Plain, 110}, {"pop3+starttls", POP3, StartTLS, 110}, {"pop3s", POP3, Implicit, 995},
		{"submission", Submission, Plain, 587}, {"submission+starttls", Submission, StartTLS, 587},
		{"submissions", Submission, Implicit, 465},
		{"sieve", Sieve, Plain, 4190}, {"sieve+starttls", Sieve, StartTLS, 4190}, {"sieves", Sieve, Implicit, 4190},
	}
}

// ParseEndpoint reads a URL such as imaps://:993. Plain text to or on an address off loopback needs "+insecure" in the
// scheme. listener allows an empty host and port 0.
func ParseEndpoint(s string, listener bool) (Endpoint, error) {
	name, rest, ok := strings.Cut(s, "://")
	if !ok {
		return Endpoint{}, fmt.Errorf("%q is no URL; write for example imaps://mail.example.com:993", s)
	}
	e := Endpoint{URL: s}
	bare := strings.TrimSuffix(name, "+proxy")
	e.Proxied = bare != name
	base := strings.TrimSuffix(bare, "+insecure")
	e.Insecure = base != bare
	var names []string
	found := false
	for _, c := range schemes() {
		names = append(names, c.name)
		if c.name == base {
			e.Protocol, e.Mode, e.Port, found = c.protocol, c.mode, c.port, true
		}
	}
	if !found {
		return Endpoint{}, fmt.Errorf("unknown scheme %q in %q%s", base, s, didYouMean(base, names))
	}
	if e.Proxied && !listener {
		return Endpoint{}, fmt.Errorf("%q: +proxy is for listeners; leave it out", s)
	}
	if e.Insecure && e.Mode != Plain {
		return Endpoint{}, fmt.Errorf("%q is encrypted, +insecure does not go with it; leave it out", s)
	}
	if strings.Contains(rest, "@") { // not quoted in the error: what stands before @ may be a password
		return Endpoint{}, fmt.Errorf("%s://...@...: only HOST:PORT may follow the scheme; leave out what stands before @", name)
	}
	rest, query, asked := strings.Cut(rest, "?")
	if asked {
		if err := e.oldTLS(query, listener); err != nil {
			return Endpoint{}, fmt.Errorf("%q: %w", s, err)
		}
	}
	if err := e.hostPort(strings.TrimSuffix(rest, "/")); err != nil {
		return Endpoint{}, fmt.Errorf("%q: %w", s, err)
	}
	if !listener && (e.Host == "" || e.Port == 0) {
		return Endpoint{}, fmt.Errorf("%q names no host; write %s://HOST:%d", s, name, e.Port)
	}
	if e.Mode == Plain && !e.Insecure && !loopback(e.Host) {
		return Endpoint{}, fmt.Errorf("%q is plain text off loopback, passwords would be readable; write %s+starttls or %ss, or %s+insecure if it must be",
			s, base, base, base)
	}
	return e, nil
}

// oldTLS reads what follows "?": tls=1.0 or tls=1.1.
func (e *Endpoint) oldTLS(query string, listener bool) error {
	version, ok := strings.CutPrefix(query, "tls=")
	switch {
	case !ok || version != "1.0" && version != "1.1":
		return fmt.Errorf("only tls=1.0 or tls=1.1 may follow the question mark")
	case !listener:
		return fmt.Errorf("?tls= is for listeners; leave it out")
	case e.Mode == Plain:
		return fmt.Errorf("?tls= does not go with plain text; leave it out")
	}
	e.OldTLS = version
	return nil
}

func (e *Endpoint) hostPort(s string) error {
	if strings.ContainsAny(s, "/?# ") {
		return fmt.Errorf("only HOST:PORT may follow the scheme")
	}
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return fmt.Errorf("%q is no HOST:PORT; IPv6 addresses stand in brackets", s)
		}
	}
	if strings.HasPrefix(s, "[") {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() {
			return fmt.Errorf("%q is no IPv6 address", host)
		}
	}
	var err error
	if e.Host, err = hostName(host); err != nil {
		return err
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return fmt.Errorf("port %q is not a number from 0 to 65535", port)
		}
		e.Port = int(n)
	}
	return nil
}

// hostName is a host's name as DNS has it, or its address.
func hostName(host string) (string, error) {
	if _, err := netip.ParseAddr(host); host == "" || err == nil {
		return host, nil
	}
	b, err := appendDomain(nil, host)
	if err == nil && strings.ContainsFunc(string(b), func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) {
		err = ErrAddress
	}
	if err != nil || strings.Contains("."+string(b)+".", "..") {
		return "", fmt.Errorf("%q is no host name", host)
	}
	return string(b), nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// expand gives the sockets that a listener stands for: localhost is both families, where the machine has both.
func (e Endpoint) expand() []Endpoint {
	if e.Host != "localhost" || e.Port == 0 {
		return []Endpoint{e}
	}
	e.Host = "127.0.0.1"
	out := []Endpoint{e}
	addrs, err := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, ok := a.(*net.IPNet); err == nil && ok && p.IP.Equal(net.IPv6loopback) {
			e.Host = "::1"
			return append(out, e)
		}
	}
	return out
}

// Network is what net.Listen takes beside Address: an address listens on its own family only, so that 0.0.0.0 and [::]
// are what they look like and may stand beside each other; without a host both families listen.
func (e Endpoint) Network() string {
	a, err := netip.ParseAddr(e.Host)
	switch {
	case err != nil:
		return "tcp"
	case a.Unmap().Is4():
		return "tcp4"
	}
	return "tcp6"
}

// overlaps tells whether two listeners want the same address.
func (e Endpoint) overlaps(f Endpoint) bool {
	if e.Port != f.Port || e.Port == 0 {
		return false
	}
	if e.Host == "" || f.Host == "" || e.Host == f.Host {
		return true
	}
	a, errA := netip.ParseAddr(e.Host)
	b, errB := netip.ParseAddr(f.Host)
	if errA != nil || errB != nil {
		return false // names: whether they are one address shows when they listen
	}
	a, b = a.Unmap(), b.Unmap()
	return a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}
