package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/proxy"
)

// insertion looks at what changes when the stable name leads to the gateway instead of to OLD.
func (d *doctor) insertion(ctx context.Context, seen map[config.Protocol][2]*backend.Seen) {
	d.stableName(ctx)
	d.backendNames()
	d.oldPorts(ctx)
	d.everybodyOnOld()
	if s := seen[config.Submission]; s[config.Old] != nil && s[config.New] != nil {
		d.lostAtOnce(s)
	}
	for _, side := range config.Sides {
		d.clientAddress(side, seen)
	}
}

// stableName tells where the name of clients leads now.
func (d *doctor) stableName(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := d.resolve(ctx, d.conf.Hostname)
	if err != nil {
		d.note(unknown, "stable name", "%s cannot be looked up: %v", d.conf.Hostname, err)
		return
	}
	mine, err := d.mine()
	if err != nil {
		d.note(unknown, "stable name", "the addresses of this machine cannot be read: %v", err)
		return
	}
	here := func(a string) bool {
		return slices.ContainsFunc(mine, func(m net.Addr) bool {
			n, ok := m.(*net.IPNet)
			return ok && n.IP.Equal(net.ParseIP(a))
		})
	}
	switch away := slices.DeleteFunc(slices.Clone(addrs), here); {
	case len(away) == 0:
		d.note(pass, "stable name", "%s leads to this machine", d.conf.Hostname).with("addresses", addrs)
	case len(away) < len(addrs):
		d.note(fail, "stable name", "%s leads to this machine and to others: some clients pass the gateway by", d.conf.Hostname).with("elsewhere", away)
	default:
		d.note(unknown, "stable name", "%s leads elsewhere: at the insertion move it to the gateway (lower its TTL a day before), "+
			"unless that is a balancer before this machine", d.conf.Hostname).with("addresses", addrs)
	}
}

// backendNames refuses a backend that is named by the name which will lead to the gateway itself.
func (d *doctor) backendNames() {
	for _, side := range config.Sides {
		var loops []string
		for _, h := range d.conf.Backends[side].Hosts {
			for _, e := range []config.Endpoint{h.IMAP, h.POP3, h.Submission, h.Sieve} {
				if e.Host != "" && strings.EqualFold(e.Host, strings.TrimSuffix(d.conf.Hostname, ".")) {
					loops = append(loops, e.URL)
				}
			}
		}
		name := "name of " + side.String()
		if len(loops) > 0 {
			d.note(fail, name, "%s will lead to the gateway itself; name the host by another name or its address, and set tls.server_name "+
				"if its certificate is for the stable name only", d.conf.Hostname).with("named so", loops)
			continue
		}
		d.note(pass, name, "does not depend on %s", d.conf.Hostname)
	}
}

// clientPorts are where clients look for mail.
func clientPorts() []struct {
	port int
	what string
} {
	return []struct {
		port int
		what string
	}{{143, "IMAP"}, {993, "IMAP over TLS"}, {587, "submission"}, {465, "submission over TLS"}, {110, "POP3"}, {995, "POP3 over TLS"},
		{4190, "ManageSieve"}, {25, "SMTP, from other servers or old clients"}}
}

// oldPorts looks for services of OLD that nobody would find behind the stable name any more.
func (d *doctor) oldPorts(ctx context.Context) {
	var hosts []string
	for _, h := range d.conf.Backends[config.Old].Hosts {
		for _, e := range []config.Endpoint{h.IMAP, h.POP3, h.Submission, h.Sieve} {
			if e.Host != "" && !slices.Contains(hosts, e.Host) {
				hosts = append(hosts, e.Host)
			}
		}
	}
	for _, host := range hosts {
		var missing, kept []string
		for _, p := range clientPorts() {
			if d.dial(ctx, config.Endpoint{Host: host, Port: p.port}.Address()) != nil {
				continue
			}
			text := fmt.Sprintf("%d (%s)", p.port, p.what)
			if slices.ContainsFunc(d.conf.Listen, func(e config.Endpoint) bool { return e.Port == p.port }) {
				kept = append(kept, text)
			} else {
				missing = append(missing, text)
			}
		}
		name := "ports of " + host
		if len(missing) > 0 {
			d.note(fail, name, "OLD answers on ports where the gateway will not: clients that use them find nobody; add listeners, "+
				"or let these ports lead to OLD as before").with("missing", missing).with("kept", kept)
			continue
		}
		d.note(pass, name, "the gateway listens on all ports of clients on which OLD answers").with("kept", kept)
	}
}

// everybodyOnOld tells whether the insertion alone moves anybody: on an empty store a line places its user.
func (d *doctor) everybodyOnOld() {
	r, err := config.LoadRoutes(d.conf)
	if err != nil {
		d.note(unknown, "everybody on OLD", "the routes file cannot be used")
		return
	}
	var onNew []string
	if r.Default == config.New {
		onNew = append(onNew, "default")
	}
	for _, p := range r.Patterns {
		if p.Side == config.New {
			onNew = append(onNew, p.Address)
		}
	}
	users := 0
	for _, u := range r.Users {
		if u.Side == config.New {
			users++
		}
	}
	if users > 0 {
		onNew = append(onNew, fmt.Sprintf("%d users", users))
	}
	if len(onNew) > 0 {
		d.note(fail, "everybody on OLD", "the routes file sends people to NEW from the first login on; insert with all on OLD, move later").with("on NEW", onNew)
		return
	}
	d.note(pass, "everybody on OLD", "the insertion moves nobody")
}

// lostAtOnce tells what senders lose with the insertion, before anybody moves.
func (d *doctor) lostAtOnce(s [2]*backend.Seen) {
	old := s[config.Old].Extensions
	offer := proxy.Extensions([]map[string]string{old, s[config.New].Extensions}, d.conf.Submit.MaxSize, true)
	var lost []string
	for _, w := range words(old) {
		key, _, _ := strings.Cut(w, " ")
		if _, ok := offer[key]; !ok && key != "AUTH" && key != "STARTTLS" && key != "XCLIENT" && key != "HELP" {
			lost = append(lost, w)
		}
	}
	if len(lost) > 0 {
		d.note(pass, "extensions of OLD", "NEW lacks some, so that senders lose them with the insertion").with("lost", lost)
	} else {
		d.note(pass, "extensions of OLD", "senders keep all")
	}
	if a, b := old["SIZE"], offer["SIZE"]; a != b {
		d.note(pass, "size of messages", "OLD takes %s bytes, the gateway will take %s", orAny(a), orAny(b))
	}
}

func orAny(size string) string {
	if size == "" || size == "0" {
		return "any number of"
	}
	return size
}

// clientAddress looks at how a side learns who the client is: without that all logins come from one address, and its
// limits and bans hit everybody at once.
func (d *doctor) clientAddress(side config.Side, seen map[config.Protocol][2]*backend.Seen) {
	name := side.String() + " sees"
	upper := strings.ToUpper(side.String())
	if !d.conf.Backends[side].ClientAddress {
		d.note(unknown, name, "%s sees all logins from the address of this machine: raise its limits for it, or let it trust this machine and set "+
			"client_address; this cannot be seen from here", upper).with("look at", []string{"connections per user and address (mail_max_userip_connections)",
			"connections per client (smtpd_client_connection_count_limit, anvil)", "delays after wrong passwords (auth_failure_delay, auth penalty)",
			"bans (fail2ban, CrowdSec): except this address", "geo and address rules of accounts"})
		return
	}
	if s := seen[config.IMAP][side]; s != nil {
		if slices.ContainsFunc(s.Capabilities, func(c string) bool { return strings.EqualFold(c, "ID") }) {
			d.note(unknown, name+" by IMAP", "it takes ID; whether it believes the address shows in its log (Dovecot: login_trusted_networks)")
		} else {
			d.note(fail, name+" by IMAP", "it does not offer ID before login, so client_address has no effect")
		}
	}
	if s := seen[config.POP3][side]; s != nil {
		d.takesXCLIENT(name+" by POP3", s.XCLIENT)
	}
	if s := seen[config.Sieve][side]; s != nil {
		d.takesXCLIENT(name+" by ManageSieve", s.Sieve.XCLIENT)
	}
	if s := seen[config.Submission][side]; s != nil {
		params, ok := s.Extensions["XCLIENT"]
		switch {
		case !ok:
			d.note(fail, name+" by submission", "it does not offer XCLIENT to this machine, so client_address has no effect (Postfix: smtpd_authorized_xclient_hosts)")
		case !slices.Contains(strings.Fields(params), "ADDR"):
			d.note(fail, name+" by submission", "it offers XCLIENT without ADDR")
		default:
			d.note(pass, name+" by submission", "it offers XCLIENT to this machine")
		}
	}
}

// takesXCLIENT is about protocols of which Dovecot alone has XCLIENT.
func (d *doctor) takesXCLIENT(name string, ok bool) {
	if ok {
		d.note(pass, name, "it offers XCLIENT to this machine")
		return
	}
	d.note(fail, name, "it does not offer XCLIENT to this machine, so client_address has no effect (Dovecot: login_trusted_networks); "+
		"proxy_protocol is the other way")
}
