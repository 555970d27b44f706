package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
)

func sortStrings(s []string) { sort.Strings(s) }

// check looks at how the parts fit together, and at the files that are named.
func (l *loader) check() {
	c := l.c
	if len(c.Listen) == 0 && l.line("listen") == 0 {
		l.bad("", "nothing to listen on; write for example listen: [\"imaps://:993\"]")
	}
	for i, e := range c.Listen {
		for _, f := range c.Listen[:i] {
			if e.overlaps(f) {
				l.errs = append(l.errs, Problem{l.file, e.line, fmt.Sprintf("listen: %s overlaps with %s", e.URL, f.URL)})
			}
		}
		if e.Mode != Plain && len(c.TLS.Certificates) == 0 {
			l.errs = append(l.errs, Problem{l.file, e.line, fmt.Sprintf("listen: %s needs a certificate; write it under tls.certificates", e.URL)})
		}
		for _, side := range Sides {
			if !c.Backends[side].serves(e.Protocol) {
				l.errs = append(l.errs, Problem{l.file, e.line,
					fmt.Sprintf("listen: %s, but backends.%s has no host for %s", e.URL, side, e.Protocol)})
			}
		}
	}
	for i, k := range c.TLS.Certificates {
		if _, err := tls.LoadX509KeyPair(k.Cert, k.Key); err != nil {
			l.bad(fmt.Sprintf("tls.certificates[%d]", i), "%s with %s: %v", k.Cert, k.Key, err)
		}
	}
	for _, side := range Sides {
		l.checkBackend(side)
	}
	if _, err := os.Stat(c.Routes.File); err != nil {
		l.bad("routes.file", "%v; an empty file will do to begin with", err)
	}
	if c.Admin.Listen != "" {
		if host, _, err := net.SplitHostPort(c.Admin.Listen); err != nil || !loopback(host) {
			l.bad("admin.listen", "%q must be an address on loopback with a port, such as 127.0.0.1:9090", c.Admin.Listen)
		}
	}
	for key, d := range map[string]int64{"flip.deadline": int64(c.Flip.Deadline), "flip.hold": int64(c.Flip.Hold),
		"flip.parallel": int64(c.Flip.Parallel), "limits.command_time": int64(c.Limits.CommandTime),
		"limits.data_time": int64(c.Limits.DataTime), "limits.handshake": int64(c.Limits.Handshake),
		"limits.pre_auth_time": int64(c.Limits.PreAuthTime)} {
		if d == 0 {
			l.bad(key, "0 would make every login fail; write more")
		}
	}
	if c.Limits.LineLength < 512 {
		l.bad("limits.line_length", "%d is less than clients need; write 512 or more", c.Limits.LineLength)
	}
}

func (b *Backend) serves(p Protocol) bool {
	for _, h := range b.Hosts {
		if h.Endpoint(p).Host != "" {
			return true
		}
	}
	return false
}

// Endpoint is the host's service for a protocol; its Host is "" when there is none.
func (h Host) Endpoint(p Protocol) Endpoint {
	if p == Submission {
		return h.Submission
	}
	return h.IMAP
}

func (l *loader) checkBackend(side Side) {
	b := &l.c.Backends[side]
	p := "backends." + side.String()
	if len(b.Hosts) == 0 {
		l.bad(p, "the side has no host; write %s.imap: imaps://HOST:993", p)
	}
	if b.CA != "" {
		pem, err := os.ReadFile(b.CA)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			err = fmt.Errorf("%s holds no PEM certificate", b.CA)
		}
		if err != nil {
			l.bad(p+".tls.ca", "%v", err)
		}
	}
	for i, pin := range b.Pins {
		rest, ok := strings.CutPrefix(pin, "sha256/")
		sum, err := base64.StdEncoding.DecodeString(rest)
		if !ok || err != nil || len(sum) != 32 {
			l.bad(fmt.Sprintf("%s.tls.pins[%d]", p, i), "%q is no pin; write sha256/ and the base64 of the key's SHA-256", pin)
		}
	}
	if b.ConnectTimeout == 0 || b.LoginTimeout == 0 {
		l.bad(p, "connect_timeout and login_timeout must not be 0")
	}
}
