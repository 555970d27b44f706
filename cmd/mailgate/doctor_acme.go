package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/tlsconf"
	"mailgate/tlsconf/acme"
)

// authorityTime bounds a look at the authority, or at the zone's servers.
const authorityTime = 20 * time.Second

// managed looks at what is had from an authority, whether the authority can be reached, and whether its challenge can be answered.
// It tells whether a certificate is for the name that clients use.
func (d *doctor) managed(ctx context.Context) (named bool) {
	a := d.conf.TLS.ACME
	said := map[string]admin.Managed{}
	var o admin.Overview
	running := admin.Client{Socket: d.conf.Control.Socket}.Call(ctx, http.MethodGet, "/status", url.Values{}, &o) == nil
	for _, m := range o.Certificates {
		said[m.Name] = m
	}
	for _, name := range a.Domains {
		what := "certificate " + name
		cert, err := acme.Stored(a, name)
		m, known := said[name]
		switch {
		case err == nil:
			named = named || cert.Leaf.VerifyHostname(d.conf.Hostname) == nil
			verdict, text := dates(cert.Leaf, time.Now())
			if m.Error != "" {
				verdict, text = fail, text+"; "+managedText(m)
			}
			d.note(verdict, what, "%s", text).with("for", tlsconf.Names(cert.Leaf))
		case known && m.Error != "":
			d.note(fail, what, "%s", managedText(m))
		case !errors.Is(err, fs.ErrNotExist):
			d.note(fail, what, "%v", err)
		case running:
			d.note(unknown, what, "none yet; serve is asking for it")
		default:
			d.note(unknown, what, "none yet; serve asks for it when it runs")
		}
	}
	d.authority(ctx)
	switch a.Challenge {
	case config.HTTP01:
		d.challengePort("challenge http-01", a.HTTPListen)
	case config.TLSALPN01:
		if a.TLSListen != "" {
			d.challengePort("challenge tls-alpn-01", a.TLSListen)
		}
	case config.DNS01:
		d.challengeZone(ctx)
	}
	return named
}

// authority looks whether it answers.
func (d *doctor) authority(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, authorityTime)
	defer cancel()
	switch terms, err := acme.Reach(ctx, d.conf.TLS.ACME); {
	case err != nil:
		d.note(fail, "certificate authority", "%s cannot be used: %s", d.conf.TLS.ACME.Directory, acme.Words(err))
	case terms != "":
		d.note(pass, "certificate authority", "%s answers; its terms are at %s", d.conf.TLS.ACME.Directory, terms)
	default:
		d.note(pass, "certificate authority", "%s answers", d.conf.TLS.ACME.Directory)
	}
}

// challengePort looks whether the address can be listened on, which serve does only while it is asked.
func (d *doctor) challengePort(name, address string) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		l.Close()
		d.note(pass, name, "%s is free; whether the authority gets there cannot be seen from here", address)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		d.note(unknown, name, "this user may not bind %s; run doctor as the user of serve, or give serve CAP_NET_BIND_SERVICE", address)
	case errors.Is(err, syscall.EADDRINUSE):
		d.note(fail, name, "another program listens on %s; end it, or have it pass /.well-known/acme-challenge/ on and write another address", address)
	default:
		d.note(fail, name, "%v", err)
	}
}

// challengeZone looks whether the zone's server takes our key.
func (d *doctor) challengeZone(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, authorityTime)
	defer cancel()
	dns := d.conf.TLS.ACME.DNS
	silent, err := acme.ProveDNS(ctx, d.conf.TLS.ACME)
	switch {
	case err != nil:
		d.note(fail, "challenge dns-01", "%v", err)
	case len(silent) > 0:
		d.note(fail, "challenge dns-01", "%s takes the key %s for %s, but servers of the zone do not answer: %s", dns.Server, dns.Key, dns.Zone, strings.Join(silent, ", "))
	default:
		d.note(pass, "challenge dns-01", "%s takes the key %s for %s", dns.Server, dns.Key, dns.Zone)
	}
}
