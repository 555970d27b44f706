package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/proxy"
	"mailgate/tlsconf"
)

// entered is what one user was offered behind his login, by protocol and side; nil where he was not let in or did not try.
type entered map[config.Protocol][2][]string

// doors shows every way in: how it is opened, what a client sees there, and what becomes other for him when he moves.
func (d *doctor) doors(seen map[config.Protocol][2]*backend.Seen, in entered) {
	routes, err := config.LoadRoutes(d.conf)
	if err != nil {
		routes = &config.RouteFile{} // has its complaint
	}
	srv := proxy.NewServer(proxy.Options{Config: d.conf, Routes: routes, Dialer: d.dialer, Log: slog.New(slog.DiscardHandler)})
	d.area = "doors"
	for _, e := range d.conf.Listen {
		d.door(e, srv.Door(e), seen[e.Protocol])
	}
	for _, p := range config.Protocols() {
		if !d.listens(p) {
			d.noDoor(p)
		}
	}
	d.area = "behind the doors"
	for _, p := range config.Protocols() {
		if d.listens(p) {
			d.behind(p, seen[p], in[p])
		}
	}
}

func (d *doctor) listens(p config.Protocol) bool {
	return slices.ContainsFunc(d.conf.Listen, func(e config.Endpoint) bool { return e.Protocol == p })
}

// door is one listener, up to the login.
func (d *doctor) door(e config.Endpoint, v proxy.Door, seen [2]*backend.Seen) {
	verdict, text := pass, protocolName(e.Protocol)+", "+d.opened(e)
	for _, side := range config.Sides {
		if seen[side] == nil {
			verdict = unknown
			text += fmt.Sprintf("; %s cannot be reached, so that what is offered may be other than shown", strings.ToUpper(side.String()))
		}
	}
	c := d.note(verdict, e.URL, "%s", text)
	if names := d.certificateFor(e); names != nil {
		c.with("certificate for", names)
	}
	greeting := v.Greeting
	if before, rest, ok := strings.Cut(greeting, " [CAPABILITY "); ok { // which is told below
		_, behind, _ := strings.Cut(rest, "]")
		greeting = before + " [CAPABILITY ...]" + behind
	}
	c.with("log in by", ways(e.Protocol, v.Mechanisms)).with("greeting", []string{greeting})
	if v.Clear != nil {
		c.with("offers before TLS", v.Clear)
	}
	c.with("offers before the login", v.Offers)
}

// behind is what a client sees from the login on, where he is and where he moves, whichever door of a protocol he came in by.
func (d *doctor) behind(p config.Protocol, seen [2]*backend.Seen, in [2][]string) {
	name := protocolName(p)
	if p == config.Submission {
		d.note(pass, name, "EHLO is answered with what both sides have, before and behind the login, so that moving changes nothing")
		return
	}
	var sides [2][]string
	source := "as the hosts say before the login; to see what they say behind it: mailgate doctor --user NAME --password-file FILE"
	for _, side := range config.Sides {
		switch {
		case in[config.Old] != nil && in[config.New] != nil:
			sides[side], source = in[side], "as the hosts say behind the login"
		case seen[side] != nil:
			sides[side] = promised(p, seen[side])
		default:
			d.note(unknown, name, "%s cannot be reached", strings.ToUpper(side.String()))
			return
		}
	}
	lost, gained := differences(p, sides)
	c := d.note(pass, name, "%s", source)
	if in[config.Old] != nil || in[config.New] != nil {
		c.with("offered on OLD", in[config.Old]).with("offered on NEW", in[config.New])
	}
	c.with("who moves to NEW loses", lost).with("who moves to NEW gains", gained)
}

// opened says how a connection comes to be safe, and from whom it comes.
func (d *doctor) opened(e config.Endpoint) string {
	text := map[config.TLSMode]string{config.Implicit: "TLS from the first byte, version %s or newer",
		config.StartTLS: "in clear until STARTTLS, then TLS version %s or newer; no login before", config.Plain: "in plain text"}[e.Mode]
	if e.Protocol == config.POP3 {
		text = strings.Replace(text, "STARTTLS", "STLS", 1)
	}
	if e.Mode != config.Plain {
		text = fmt.Sprintf(text, d.conf.TLS.MinVersion)
	}
	if e.Proxied {
		var from []string
		for _, n := range d.conf.ProxyNetworks {
			from = append(from, n.String())
		}
		text += "; each connection begins with a PROXY header, from " + strings.Join(from, " or ")
	}
	return text
}

// certificateFor names what the certificate is good for that a client of the stable name is shown, nil where there is none.
func (d *doctor) certificateFor(e config.Endpoint) (names []string) {
	if e.Mode == config.Plain {
		return nil
	}
	for _, k := range d.conf.TLS.Certificates {
		pair, err := tls.LoadX509KeyPair(k.Cert, k.Key)
		if err != nil {
			continue // has its complaint
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			continue
		}
		if leaf.VerifyHostname(d.conf.Hostname) == nil {
			return tlsconf.Names(leaf)
		}
		if names == nil {
			names = tlsconf.Names(leaf)
		}
	}
	return names
}

// ways are the ways to log in, as people who set up clients call them.
func ways(p config.Protocol, mechanisms []string) (out []string) {
	switch p {
	case config.IMAP:
		out = []string{"LOGIN command"}
	case config.POP3:
		out = []string{"USER and PASS"}
	}
	for _, m := range mechanisms {
		out = append(out, "SASL "+m)
	}
	return out
}

// promised is what a side lists before the login of what holds behind it.
func promised(p config.Protocol, s *backend.Seen) []string {
	switch p {
	case config.Sieve:
		return s.Sieve.Extensions
	case config.POP3:
		return s.Capabilities
	}
	return imapwire.OfferableStrings(s.Capabilities)
}

// noDoor is a protocol without a listener.
func (d *doctor) noDoor(p config.Protocol) {
	var has [2]bool
	for _, side := range config.Sides {
		has[side] = len(d.dialer.Names(side, p)) > 0
	}
	name, title := protocolName(p), fmt.Sprintf("no door for %s", p)
	switch {
	case p == config.Sieve && has[config.Old]:
		d.note(pass, title, "nothing listens for %s: scripts are kept equal, and people who edit them with a client find nobody", name)
	case has[config.Old] && !has[config.New]:
		d.note(fail, title, "OLD has %s and NEW has none, so nothing may listen for it: clients of %s find nobody here, and would find nobody on NEW. "+
			"Give NEW one, or move these clients to another protocol first", name, name)
	case has[config.Old]:
		d.note(unknown, title, "both sides have %s, and nothing listens for it: its clients find nobody here; add a listener unless that is meant", name)
	case has[config.New]:
		d.note(pass, title, "NEW has %s and OLD has none: nothing listens for it, and nobody misses it", name)
	}
}

func protocolName(p config.Protocol) string {
	return map[config.Protocol]string{config.IMAP: "IMAP", config.POP3: "POP3", config.Submission: "submission", config.Sieve: "ManageSieve"}[p]
}
