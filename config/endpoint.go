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
		{"submission", Submission, Plain, 587}, {"submission+starttls", Submission, StartTLS, 587},
		{"submissions", Submission, Implicit, 465},
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
	base := strings.TrimSuffix(name, "+insecure")
	e.Insecure = base != name
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
	if e.Insecure && e.Mode != Plain {
		return Endpoint{}, fmt.Errorf("%q is encrypted, +insecure does not go with it; leave it out", s)
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

func (e *Endpoint) hostPort(s string) error {
	if strings.ContainsAny(s, "/?#@ ") {
		return fmt.Errorf("only HOST:PORT may follow the scheme")
	}
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return fmt.Errorf("%w; IPv6 addresses stand in brackets", err)
		}
	}
	e.Host = strings.Trim(host, "[]")
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return fmt.Errorf("port %q is not a number from 0 to 65535", port)
		}
		e.Port = int(n)
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// overlaps tells whether two listeners want the same address.
func (e Endpoint) overlaps(f Endpoint) bool {
	if e.Port != f.Port || e.Port == 0 {
		return false
	}
	return wild(e.Host) || wild(f.Host) || e.Host == f.Host
}

func wild(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
