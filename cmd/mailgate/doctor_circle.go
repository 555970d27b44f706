package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"mailgate/config"
)

// loops refuses a backend that is a listener of this very gateway, whatever name leads there. What cannot be looked up has other complaints.
func (d *doctor) loops(ctx context.Context) {
	mine := d.ownAddresses()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, side := range config.Sides {
		for _, p := range config.Protocols() {
			for _, h := range d.conf.Backends[side].Hosts {
				e := h.Endpoint(p)
				if e.Host == "" {
					continue
				}
				for _, a := range d.addresses(ctx, e.Host) {
					if l := d.listenerAt(a, e.Port, mine); l != "" {
						d.note(fail, fmt.Sprintf("%s %s %s", side, p, h.Name), "%s leads to %s, where the gateway itself listens (%s): logins would go round in a circle",
							e.URL, netip.AddrPortFrom(a, uint16(e.Port)), l)
						break
					}
				}
			}
		}
	}
}

// addresses are those of a host by its name.
func (d *doctor) addresses(ctx context.Context, host string) (out []netip.Addr) {
	list := []string{host}
	if _, err := netip.ParseAddr(host); err != nil {
		list, _ = d.resolve(ctx, host)
	}
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// ownAddresses are those of this machine.
func (d *doctor) ownAddresses() (out []netip.Addr) {
	list, _ := d.mine()
	for _, m := range list {
		if n, ok := m.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	return out
}

// listenerAt finds the listener that has an address of this machine.
func (d *doctor) listenerAt(a netip.Addr, port int, mine []netip.Addr) string {
	if !a.IsLoopback() && !slices.Contains(mine, a) {
		return ""
	}
	for _, l := range d.conf.Listen {
		at, err := netip.ParseAddr(l.Host)
		all := l.Host == "" || err == nil && at.IsUnspecified() && at.Unmap().Is4() == a.Is4()
		if l.Port == port && (all || l.Host == "localhost" && a.IsLoopback() || err == nil && at.Unmap() == a) {
			return l.URL
		}
	}
	return ""
}
