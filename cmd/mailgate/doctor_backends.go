package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/proxy"
	"mailgate/syncer"
)

// backends probes every host of both sides; the first that answers on each side is returned.
func (d *doctor) backends(ctx context.Context, p config.Protocol) (first [2]*backend.Seen) {
	for _, side := range config.Sides {
		names := d.dialer.Names(side, p)
		if len(names) == 0 {
			d.note(unknown, fmt.Sprintf("%s %s", side, p), "the side has no host for it")
		}
		var all []backend.Seen
		for _, name := range names {
			s := d.dialer.Probe(ctx, side, p, name, d.conf.Hostname)
			title := fmt.Sprintf("%s %s %s", side, p, name)
			if s.Err != nil {
				d.note(fail, title, "%v", s.Err)
				continue
			}
			if slices.Contains(d.own, s.Gateway) {
				d.note(fail, title, "%s is this gateway itself: logins would go round in a circle", s.Endpoint.URL)
				continue
			}
			text := fmt.Sprintf("%s answers in %d ms", s.Endpoint.URL, s.Took.Milliseconds())
			verdict := pass
			if s.TLS != nil {
				v, until := dates(s.TLS.PeerCertificates[0], time.Now())
				text += fmt.Sprintf(", %s, its certificate is good %s", tls.VersionName(s.TLS.Version), until)
				if v == fail { // a pin takes it all the same
					text = fmt.Sprintf("%s answers in %d ms, taken by its pin; its certificate is %s", s.Endpoint.URL, s.Took.Milliseconds(), until)
				}
			} else {
				text += ", in plain text"
			}
			if s.Gateway != "" {
				text += "; it is a mailgate too: if it leads back to this one, logins go round in a circle"
				verdict = worse(verdict, unknown)
			}
			d.note(verdict, title, "%s", text)
			if all = append(all, s); first[side] == nil {
				first[side] = &s
			}
		}
		d.dialer.Keep(side, p, all) // the fronts go by it
	}
	return first
}

// worse is the worse of two verdicts.
func worse(a, b string) string {
	order := []string{pass, unknown, fail}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

// compare puts what both sides offer before login beside each other, and what the gateway makes of it.
func (d *doctor) compare(p config.Protocol, seen [2]*backend.Seen) {
	name := fmt.Sprintf("%s before login", p)
	if seen[config.Old] == nil || seen[config.New] == nil {
		d.note(unknown, name, "a side could not be reached")
		return
	}
	switch p {
	case config.IMAP:
		d.beside(name, imapwire.OfferableStrings(seen[config.Old].Capabilities), imapwire.OfferableStrings(seen[config.New].Capabilities))
		return
	case config.Sieve:
		d.beside("sieve extensions", seen[config.Old].Sieve.Extensions, seen[config.New].Sieve.Extensions)
		return
	case config.POP3:
		d.beside(name, seen[config.Old].Capabilities, seen[config.New].Capabilities)
		return
	}
	sides := []map[string]string{seen[config.Old].Extensions, seen[config.New].Extensions}
	d.beside(name, words(sides[config.Old]), words(sides[config.New]))
	offer := proxy.Extensions(sides, d.conf.Submit.MaxSize, true)
	d.note(pass, "EHLO of the gateway", "what both sides have, under TLS; AUTH besides").with("offers", words(offer))
}

// words are extensions with their parameters, sorted.
func words(extensions map[string]string) (out []string) {
	for k, v := range extensions {
		out = append(out, strings.TrimSpace(k+" "+v))
	}
	slices.Sort(out)
	return out
}

// beside compares two lists.
func (d *doctor) beside(name string, old, new []string) {
	both, lost, gained := syncer.Compare(old, new)
	text := "the same on both sides"
	if len(lost)+len(gained) > 0 {
		text = fmt.Sprintf("%d on both; a client that moves to NEW loses %d and gains %d", len(both), len(lost), len(gained))
	}
	d.note(pass, name, "%s", text).with("on both", both).with("only on OLD", lost).with("only on NEW", gained)
}

// logins tries one user on both sides, as the gateway would, and compares what he is offered.
func (d *doctor) logins(ctx context.Context, login, password string) (entered, error) {
	creds, err := auth.Password("PLAIN", login, password)
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	r, err := config.LoadRoutes(d.conf)
	if err != nil {
		d.note(unknown, "login", "the routes file cannot be used")
		return nil, nil
	}
	user, err := r.Lookup(config.NewAddresses(d.conf.Routes), login)
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	route := r.For(user)
	var imap, submission, capa, sieve [2][]string
	var pop3 [2]string
	for _, side := range config.Sides {
		name := d.conf.LoginName(side, route)
		imap[side] = d.loginIMAP(ctx, side, route.Host[side], backend.LoginIMAP{Credentials: creds, LoginName: name, ClientAddr: netip.AddrPort{}})
		pop3[side], capa[side] = d.loginPOP3(ctx, side, route.Host[side], backend.LoginPOP3{Credentials: creds, LoginName: name})
		sieve[side] = d.loginSieve(ctx, side, route.Host[side], backend.Account{Credentials: creds, LoginName: name})
		submission[side] = d.loginSubmission(ctx, side, route.Host[side], backend.LoginSubmission{Credentials: creds, LoginName: name,
			Helo: d.conf.Hostname, GatewayName: d.conf.Hostname})
	}
	for _, x := range []struct {
		name string
		seen [2][]string
	}{{"imap after login", imap}, {"submission after login", submission}} {
		if x.seen[config.Old] != nil && x.seen[config.New] != nil {
			d.beside(x.name, x.seen[config.Old], x.seen[config.New])
		}
	}
	if pop3[config.Old] != "" && pop3[config.New] != "" {
		d.note(pass, "pop3 messages and UIDLs", "a client that leaves mail on the server knows it by UIDL: what has another one on NEW is downloaded again "+
			"behind the flip").with("OLD", []string{pop3[config.Old]}).with("NEW", []string{pop3[config.New]})
	}
	return entered{config.IMAP: imap, config.POP3: capa, config.Submission: submission, config.Sieve: sieve}, nil
}

func (d *doctor) loginIMAP(ctx context.Context, side config.Side, host string, l backend.LoginIMAP) []string {
	if len(d.dialer.Names(side, config.IMAP)) == 0 {
		return nil
	}
	title := fmt.Sprintf("%s imap as %s", side, l.LoginName)
	start := time.Now()
	c, err := d.dialer.DialIMAP(ctx, side, host, l)
	if err != nil {
		d.note(fail, title, "%v", err)
		return nil
	}
	defer c.Close()
	d.note(pass, title, "imap: in, in %d ms, on %s", time.Since(start).Milliseconds(), c.Host)
	return imapwire.OfferableStrings(c.Capabilities)
}

func (d *doctor) loginSieve(ctx context.Context, side config.Side, host string, a backend.Account) (offers []string) {
	if len(d.dialer.Names(side, config.Sieve)) == 0 {
		return nil
	}
	title := fmt.Sprintf("%s sieve as %s", side, a.LoginName)
	start := time.Now()
	c, err := d.dialer.DialSieve(ctx, side, host, a)
	if err != nil {
		d.note(fail, title, "%v", err)
		return nil
	}
	defer c.Close()
	list, err := c.List(ctx)
	if err != nil {
		d.note(fail, title, "sieve: in, but %v", err)
		return nil
	}
	var names []string
	for _, s := range list {
		names = append(names, fmt.Sprintf("%q", s.Name)+map[bool]string{true: " (active)"}[s.Active])
	}
	d.note(pass, title, "sieve: in, in %d ms, on %s", time.Since(start).Milliseconds(), c.Host()).with("scripts", names)
	_ = c.Logout(ctx)
	return c.Capabilities().Extensions
}

// loginPOP3 tells how many messages there are, and what their UIDLs look like: a client that keeps mail on the server knows it by them. offers
// is what CAPA lists behind the login.
func (d *doctor) loginPOP3(ctx context.Context, side config.Side, host string, l backend.LoginPOP3) (mail string, offers []string) {
	if len(d.dialer.Names(side, config.POP3)) == 0 {
		return "", nil
	}
	title := fmt.Sprintf("%s pop3 as %s", side, l.LoginName)
	start := time.Now()
	c, err := d.dialer.DialPOP3(ctx, side, host, l)
	if err != nil {
		d.note(fail, title, "%v", err)
		return "", nil
	}
	defer c.Close()
	took := time.Since(start).Milliseconds()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	n, first, offers, err := c.Sample()
	if err != nil {
		d.note(fail, title, "pop3: in, but %v", err)
		return "", nil
	}
	d.note(pass, title, "pop3: in, in %d ms, on %s", took, c.Host)
	mail = fmt.Sprintf("%d messages", n)
	if first != "" {
		mail += ", the first is " + first
	}
	return mail, offers
}

func (d *doctor) loginSubmission(ctx context.Context, side config.Side, host string, l backend.LoginSubmission) []string {
	if len(d.dialer.Names(side, config.Submission)) == 0 {
		return nil
	}
	title := fmt.Sprintf("%s submission as %s", side, l.LoginName)
	start := time.Now()
	c, err := d.dialer.DialSubmission(ctx, side, host, l)
	if err != nil {
		d.note(fail, title, "%v", err)
		return nil
	}
	defer c.Close()
	d.note(pass, title, "submission: in, in %d ms, on %s", time.Since(start).Milliseconds(), c.Host)
	return words(c.Extensions)
}
