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
	"time"
	"unicode"
)

func sortStrings(s []string) { sort.Strings(s) }

// check looks at how the parts fit together, and at the files that are named.
func (l *loader) check() {
	c := l.c
	l.checkListeners()
	for i, k := range c.TLS.Certificates {
		if _, err := tls.LoadX509KeyPair(k.Cert, k.Key); err != nil {
			l.bad(fmt.Sprintf("tls.certificates[%d]", i), "%s with %s: %v", k.Cert, k.Key, err)
		}
	}
	if c.TLS.TicketKeys != "" {
		if _, err := TicketKeys(c.TLS.TicketKeys); err != nil {
			l.bad("tls.ticket_keys", "%v", err)
		}
	}
	l.checkACME()
	for _, side := range Sides {
		l.checkBackend(side)
	}
	l.checkRoutes()
	l.checkSync()
	l.checkLearn()
	l.checkAuthority()
	l.checkHooks()
	l.checkWaves()
	if n := len(c.Control.Socket); n > maxSocketPath {
		l.bad("control.socket", "the path has %d bytes, sockets take %d; write a shorter one", n, maxSocketPath)
	}
	if c.Admin.Listen != "" {
		if host, _, err := net.SplitHostPort(c.Admin.Listen); err != nil || !loopback(host) {
			l.bad("admin.listen", "%q must be an address on loopback with a port, such as 127.0.0.1:9090", c.Admin.Listen)
		}
	}
	if len(c.Node) > 100 || strings.ContainsFunc(c.Node, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		l.bad("node", "%q is no name; at most 100 bytes, without spaces", c.Node)
	}
	if strings.ContainsFunc(c.Hostname, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		l.bad("hostname", "%q is no host name; greetings and EHLO carry it", c.Hostname)
	}
	l.checkNumbers()
}

// maxSocketPath is what Linux has room for (unix(7)).
const maxSocketPath = 107

func (l *loader) checkListeners() {
	c := l.c
	if len(c.Listen) == 0 && !l.spoilt("listen") && len(l.strings("listen")) == 0 {
		l.bad("listen", "nothing to listen on; write for example listen: [\"imaps://:993\"]")
	}
	admin := adminEndpoint(c.Admin)
	for i, e := range c.Listen {
		for j, f := range c.Listen[:i] {
			if l.listen[i] != l.listen[j] && e.overlaps(f) {
				l.bad(l.listen[i], "%s overlaps with %s", e.URL, f.URL)
			}
		}
		if e.overlaps(admin) {
			l.bad(l.listen[i], "%s overlaps with admin.listen %s", e.URL, c.Admin.Listen)
		}
		if e.Mode != Plain && len(c.TLS.Certificates) == 0 && len(l.items("tls.certificates")) == 0 &&
			len(l.strings("tls.acme.domains")) == 0 && !l.spoilt("tls", "tls.certificates", "tls.acme", "tls.acme.domains") {
			l.bad(l.listen[i], "%s needs a certificate; write it under tls.certificates, or its name under tls.acme.domains", e.URL)
		}
		if e.Proxied && len(c.ProxyNetworks) == 0 && len(l.strings("proxy_networks")) == 0 {
			l.bad(l.listen[i], "%s takes clients from balancers only; write their addresses under proxy_networks", e.URL)
		}
		for _, side := range Sides {
			b := &c.Backends[side]
			if len(b.Hosts) > 0 && !b.serves(e.Protocol) {
				l.bad(l.listen[i], "%s, but backends.%s has no host for %s", e.URL, side, e.Protocol)
			}
			for _, h := range b.Hosts {
				if s := h.Endpoint(e.Protocol); loopback(s.Host) && s.Port == e.Port && !s.differs(e) {
					l.bad(l.listen[i], "%s is also %s of backends.%s: the gateway would connect to itself", e.URL, s.URL, side)
				}
			}
		}
	}
}

// adminEndpoint is the admin listener as an endpoint; its port is 0 when there is none.
func adminEndpoint(a Admin) Endpoint {
	var e Endpoint
	if host, port, err := net.SplitHostPort(a.Listen); err == nil {
		_ = e.hostPort(net.JoinHostPort(host, port)) // what is wrong with it is told elsewhere
	}
	return e
}

// differs tells whether a backend on loopback is another address than the listener's.
func (e Endpoint) differs(listener Endpoint) bool {
	for _, x := range e.expand() {
		if x.overlaps(listener) {
			return false
		}
	}
	return true
}

func (l *loader) checkRoutes() {
	r := l.c.Routes
	if f, err := os.Open(r.File); err != nil {
		l.bad("routes.file", "%v; an empty file will do to begin with", err)
	} else {
		if st, err := f.Stat(); err == nil && st.IsDir() {
			l.bad("routes.file", "%s is a folder; write the name of a file", r.File)
		}
		f.Close()
	}
	if r.DefaultDomain != "" {
		if d, err := hostName(strings.TrimSuffix(r.DefaultDomain, ".")); err != nil || d == "" {
			l.bad("routes.default_domain", "%q is no domain; write for example example.com", r.DefaultDomain)
		}
	}
	for _, c := range r.Subaddress {
		if c > unicode.MaxASCII || !unicode.IsPunct(c) && !unicode.IsSymbol(c) || strings.ContainsRune(`.@"\#`, c) {
			l.bad("routes.subaddress", "%q cannot part a user from his sub-address; write + or -, or %q for none", r.Subaddress, "")
			break
		}
	}
}

// checkNumbers refuses what would make every login fail.
func (l *loader) checkNumbers() {
	c := l.c
	for _, n := range []struct {
		key   string
		value int64
	}{{"flip.deadline", int64(c.Flip.Deadline)}, {"flip.hold", int64(c.Flip.Hold)}, {"flip.parallel", int64(c.Flip.Parallel)},
		{"flip.prepare", int64(c.Flip.Prepare)},
		{"limits.handshake", int64(c.Limits.Handshake)}, {"limits.pre_auth_time", int64(c.Limits.PreAuthTime)},
		{"limits.command_time", int64(c.Limits.CommandTime)}, {"limits.data_time", int64(c.Limits.DataTime)},
		{"login.max_failures", int64(c.Login.MaxFailures)}} {
		if n.value == 0 {
			l.bad(n.key, "must not be 0: logins, flips or messages would all fail; write more")
		}
	}
	if c.Limits.LineLength < 512 {
		l.bad("limits.line_length", "%d is less than clients need; write 512 or more", c.Limits.LineLength)
	}
	if c.Limits.LiteralLength < 512 {
		l.bad("limits.literal_length", "%d is less than clients need; write 512 or more", c.Limits.LiteralLength)
	}
}

func (b *Backend) serves(p Protocol) bool {
	for _, h := range b.Hosts {
		if h.Endpoint(p).Protocol == p {
			return true
		}
	}
	return false
}

// Endpoint is the host's service for a protocol; its Host is "" when there is none.
func (h Host) Endpoint(p Protocol) Endpoint {
	switch p {
	case POP3:
		return h.POP3
	case Submission:
		return h.Submission
	case Sieve:
		return h.Sieve
	}
	return h.IMAP
}

// spoilt tells whether one of the keys is there but cannot be used, and has its complaint.
func (l *loader) spoilt(keys ...string) bool {
	for _, key := range keys {
		if l.lines[key] > 0 && l.from[key] == "" {
			return true
		}
	}
	return false
}

func (l *loader) checkBackend(side Side) {
	b := &l.c.Backends[side]
	p := "backends." + side.String()
	if len(b.Hosts) == 0 && len(l.items(p+".hosts")) == 0 && !l.spoilt("backends", p, p+".hosts", p+".imap", p+".pop3", p+".submission", p+".sieve") {
		l.bad(p, "the side has no host; write %s.imap: imaps://HOST:993", p)
	}
	l.checkCA(p+".tls.ca", b.CA)
	for i, pin := range b.Pins {
		if pin == "" {
			continue // has its complaint already
		}
		rest, ok := strings.CutPrefix(pin, "sha256/")
		sum, err := base64.StdEncoding.DecodeString(rest)
		if !ok || err != nil || len(sum) != 32 {
			l.bad(fmt.Sprintf("%s.tls.pins[%d]", p, i), "%q is no pin; write sha256/ and the base64 of the key's SHA-256", pin)
		}
	}
	if b.ConnectTimeout == 0 {
		l.bad(p+".connect_timeout", "must not be 0")
	}
	if b.LoginTimeout == 0 {
		l.bad(p+".login_timeout", "must not be 0")
	}
}

// checkCA looks at a file of authorities to trust.
func (l *loader) checkCA(key, file string) {
	if file == "" {
		return
	}
	pem, err := os.ReadFile(file)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s holds no PEM certificate", file)
	}
	if err != nil {
		l.bad(key, "%v", err)
	}
}

// checkSync looks at how the syncer is to log in.
func (l *loader) checkSync() {
	for _, side := range Sides {
		p, s := "backends."+side.String()+".sync", l.c.Backends[side].Sync
		ways := 0
		for _, set := range []bool{s.Secrets != "", s.MasterUser != "", len(s.TokenCommand) > 0, s.Learned} {
			if set {
				ways++
			}
		}
		if ways > 1 {
			l.bad(p, "says more than one way to log in: which counts cannot be told; keep one")
		}
		if s.MasterUser != "" && s.MasterPassword == "" {
			l.bad(p+".master_user", "needs master_password beside it, a file with the password in it")
		}
		if s.MasterUser == "" && s.MasterPassword != "" {
			l.bad(p+".master_password", "needs master_user beside it")
		}
		if s.MasterLogin != "authzid" && !strings.Contains(s.MasterLogin, "{login}") {
			l.bad(p+".master_login", "%q names no user; write authzid, or for example {login}*{master}", s.MasterLogin)
		}
	}
	for i, u := range l.c.Sync.Use {
		if !strings.HasPrefix(u.From, `\`) {
			l.bad(fmt.Sprintf("sync.use[%d]", i), `%q is no special use; write for example \Sent`, u.From)
		}
	}
	if c := l.c.Sync.Connections; c < 1 || c > 100 {
		l.bad("sync.connections", "%d is not from 1 to 100", c)
	}
	if n := l.c.Sync.Passes; n < 1 || n > 1000 {
		l.bad("sync.passes", "%d is not from 1 to 1000", n)
	}
	if n := l.c.Sync.Watch; n < 0 || n > 100000 {
		l.bad("sync.watch", "%d is not from 0 to 100000", n)
	}
	if d := l.c.Sync.Poll; d < time.Second || d > 24*time.Hour {
		l.bad("sync.poll", "%s is not from 1s to 24h", d)
	}
	if b := l.c.Sync.Batch; b < 1 || b > 10000 {
		l.bad("sync.batch", "%d is not from 1 to 10000", b)
	}
}
