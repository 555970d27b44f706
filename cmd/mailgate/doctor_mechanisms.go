package main

import (
	"fmt"
	"strings"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/proxy"
)

// mechanisms tells how clients may log in, and why not in other ways.
func (d *doctor) mechanisms(p config.Protocol) {
	seen := d.seen[p]
	if seen == nil || len(seen[config.Old]) == 0 || len(seen[config.New]) == 0 {
		return // which is told already
	}
	var offered, withheld []string
	listed := [2][]string{backend.CommonMechanisms(seen[config.Old]), backend.CommonMechanisms(seen[config.New])}
	for _, o := range proxy.Offers(d.conf, p, listed) {
		if o.Why == "" {
			offered = append(offered, o.Mechanism)
		} else {
			withheld = append(withheld, o.Mechanism+" ("+o.Why+")")
		}
	}
	c := d.note(pass, fmt.Sprintf("%s logins", p), "SASL mechanisms for clients, under TLS: %s", strings.Join(offered, ", "))
	if len(withheld) > 0 {
		c.with("not offered", withheld)
	}
}
