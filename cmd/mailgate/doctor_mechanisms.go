package main

import (
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/proxy"
)

// mechanisms tells how clients may log in, and why not in other ways.
func (d *doctor) mechanisms(p config.Protocol, seen [2]*backend.Seen) {
	if seen[config.Old] == nil || seen[config.New] == nil {
		return // which is told already
	}
	offered, withheld := d.offers(p)
	c := d.note(pass, fmt.Sprintf("%s logins", p), "SASL mechanisms for clients, under TLS: %s", strings.Join(offered, ", "))
	if len(withheld) > 0 {
		c.with("not offered", withheld)
	}
}

// offers are the mechanisms that clients are offered, and the others of the configuration with the reason.
func (d *doctor) offers(p config.Protocol) (offered, withheld []string) {
	listed := [2][]string{d.dialer.Features(config.Old).Mechanisms(p), d.dialer.Features(config.New).Mechanisms(p)}
	routes, _ := config.LoadRoutes(d.conf) // nil when it cannot be read: that has its complaint
	for _, o := range proxy.Offers(d.conf, routes, p, listed) {
		if o.Why == "" {
			offered = append(offered, o.Mechanism)
		} else {
			withheld = append(withheld, o.Mechanism+" ("+o.Why+")")
		}
	}
	return offered, withheld
}

// lostLogins names the ways to log in that OLD has and the gateway has not: a client that is set to one of them cannot log in behind the
// insertion.
func (d *doctor) lostLogins(seen map[config.Protocol][2]*backend.Seen) {
	for _, p := range d.protocols() {
		if seen[p][config.Old] == nil || seen[p][config.New] == nil {
			continue
		}
		offered, _ := d.offers(p)
		lost := slices.DeleteFunc(slices.Clone(d.dialer.Features(config.Old).Mechanisms(p)), func(m string) bool {
			return slices.Contains(offered, strings.TrimSuffix(m, "-PLUS")) || p == config.Sieve && m == "LOGIN"
		})
		if len(lost) > 0 {
			d.note(unknown, fmt.Sprintf("%s logins of OLD", p), "OLD offers what the gateway cannot; whether a client is set to it shows in OLD's log "+
				"(Dovecot: method=)").with("lost", lost)
		}
	}
}
