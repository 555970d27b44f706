package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/tlsconf"
)

// expirySoon is when a certificate's end is worth a word.
const expirySoon = 14 * 24 * time.Hour

// certificates looks at each chain: dates, names, order and completeness, and at who may read the key.
func (d *doctor) certificates(ctx context.Context) {
	named := false
	for _, k := range d.conf.TLS.Certificates {
		pair, err := tls.LoadX509KeyPair(k.Cert, k.Key)
		if err != nil {
			d.note(fail, "certificate", "%s: %v", k.Cert, err)
			continue
		}
		var chain []*x509.Certificate
		for _, der := range pair.Certificate {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				d.note(fail, "certificate", "%s: %v", k.Cert, err)
				break
			}
			chain = append(chain, c)
		}
		if len(chain) < len(pair.Certificate) {
			continue
		}
		named = named || chain[0].VerifyHostname(d.conf.Hostname) == nil
		verdict, text := dates(chain[0], time.Now())
		d.note(verdict, "certificate", "%s", text).with("for", tlsconf.Names(chain[0]))
		verdict, text = chainOf(chain)
		d.note(verdict, "certificate chain", "%s", text)
		if st, err := os.Stat(k.Key); err == nil && st.Mode().Perm()&0o004 != 0 {
			d.note(fail, "certificate key", "everybody on this machine can read %s; chmod o-r", k.Key)
		}
	}
	if d.conf.TLS.ACME.On() {
		named = d.managed(ctx) || named
	}
	if file := d.conf.TLS.TicketKeys; file != "" {
		if keys, err := config.TicketKeys(file); err != nil {
			d.note(fail, "session tickets", "%v", err)
		} else {
			d.note(pass, "session tickets", "%d keys in %s; gateways with the same file take each other's", len(keys), file)
		}
	}
	switch {
	case len(d.conf.TLS.Certificates) == 0 && !d.conf.TLS.ACME.On():
	case named:
		d.note(pass, "certificate name", "there is one for %s, the name that clients use", d.conf.Hostname)
	default:
		d.note(fail, "certificate name", "none is for %s, the name that clients use", d.conf.Hostname)
	}
}

// dates tells until when a certificate is good.
func dates(c *x509.Certificate, now time.Time) (verdict, text string) {
	until := c.NotAfter.Format(time.DateOnly)
	switch left := c.NotAfter.Sub(now); {
	case now.Before(c.NotBefore):
		return fail, "valid only from " + c.NotBefore.Format(time.DateOnly)
	case left < 0:
		return fail, "expired on " + until
	case left < expirySoon:
		return pass, fmt.Sprintf("until %s, only %d days; renew it", until, int(left.Hours()/24))
	default:
		return pass, fmt.Sprintf("until %s, %d days", until, int(left.Hours()/24))
	}
}

// chainOf tells whether clients can follow the chain that the file holds.
func chainOf(chain []*x509.Certificate) (verdict, text string) {
	leaf, pool := chain[0], x509.NewCertPool()
	for i, c := range chain[1:] {
		if chain[i].CheckSignatureFrom(c) != nil {
			return fail, fmt.Sprintf("certificate %d of the file did not sign the one before it; the order is: own, its signer, the signer's signer", i+2)
		}
		pool.AddCert(c)
	}
	var foreign x509.UnknownAuthorityError
	_, err := leaf.Verify(x509.VerifyOptions{Intermediates: pool})
	last := chain[len(chain)-1]
	switch {
	case err == nil:
		return pass, "complete; this machine trusts it, as clients will"
	case errors.As(err, &foreign) && bytes.Equal(last.RawIssuer, last.RawSubject) && len(chain) == 1:
		return unknown, "signed by itself: whether clients trust it cannot be seen from here"
	case errors.As(err, &foreign) && bytes.Equal(last.RawIssuer, last.RawSubject):
		return unknown, fmt.Sprintf("complete, but %q is no public authority: whether clients trust it cannot be seen from here", last.Subject)
	case errors.As(err, &foreign) && len(last.IssuingCertificateURL) > 0:
		return fail, fmt.Sprintf("the certificate of %q is missing in the file; it is at %s", last.Issuer, last.IssuingCertificateURL[0])
	case errors.As(err, &foreign):
		return unknown, fmt.Sprintf("the certificate of %q is not in the file, and this machine does not know it", last.Issuer)
	}
	return fail, err.Error()
}

// listeners looks whether each address can be bound, or serve holds it and answers there.
func (d *doctor) listeners(ctx context.Context) {
	running := false
	if c, err := net.Dial("unix", d.conf.Control.Socket); err == nil {
		running = true
		c.Close()
	}
	for _, text := range d.conf.OldDevices() {
		d.note(pass, "old devices", "%s", text)
	}
	for _, e := range d.conf.Listen {
		name := "port " + e.URL
		l, err := net.Listen(e.Network(), e.Address())
		switch {
		case err == nil && running && e.Port != 0:
			l.Close()
			d.note(fail, name, "serve runs, but does not listen here; new listeners take effect at its next start")
		case err == nil:
			l.Close()
			d.note(pass, name, "free, serve can listen here")
		case errors.Is(err, syscall.EADDRINUSE) && running:
			if err := d.answers(ctx, e); errors.Is(err, errBalancersOnly) {
				d.note(pass, name, "serve listens here; it answers to balancers (proxy_networks) only, and this machine is none")
			} else if err != nil {
				d.note(fail, name, "serve runs, but what listens here is not it: %v", err)
			} else {
				d.note(pass, name, "serve listens here and answers")
			}
		case errors.Is(err, syscall.EADDRINUSE):
			d.note(fail, name, "another program listens here, and serve does not run")
		case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
			d.note(unknown, name, "this user may not bind it; run doctor as the user of serve, or give serve CAP_NET_BIND_SERVICE")
		default:
			d.note(fail, name, "%v", err)
		}
	}
}

// errBalancersOnly means that a listener greets nobody who comes from this machine.
var errBalancersOnly = errors.New("it is for balancers")

// answers tells whether a listener greets as serve does.
func (d *doctor) answers(ctx context.Context, e config.Endpoint) error {
	host := e.Host
	if host == "" || host == "0.0.0.0" {
		host = "127.0.0.1"
	} else if host == "::" {
		host = "::1"
	}
	e.Host = host
	c, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", e.Address())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if e.Proxied {
		local, err := netip.ParseAddr(host)
		if err != nil || !slices.ContainsFunc(d.conf.ProxyNetworks, func(n netip.Prefix) bool { return n.Contains(local) }) {
			return errBalancersOnly
		}
		if _, err := io.WriteString(c, "PROXY UNKNOWN\r\n"); err != nil {
			return err
		}
	}
	if e.Mode == config.Implicit {
		t := tls.Client(c, &tls.Config{ServerName: d.conf.Hostname, InsecureSkipVerify: true}) // its own certificate was looked at
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
		c = t
	}
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	for n := 0; e.Protocol == config.Sieve && err == nil && strings.HasPrefix(line, `"`) && n < 20; n++ { // its capabilities come first
		line, err = r.ReadString('\n')
	}
	if err != nil {
		return err
	}
	greeting := map[config.Protocol]string{config.IMAP: "* OK ", config.POP3: "+OK ", config.Submission: "220 ", config.Sieve: "OK "}[e.Protocol]
	if !strings.HasPrefix(line, greeting) || !strings.Contains(line, d.conf.Hostname) {
		return fmt.Errorf("it greets with %.80q", strings.TrimSpace(line))
	}
	if id, ok := backend.GatewayID(line); ok {
		d.own = append(d.own, id)
	}
	return nil
}
