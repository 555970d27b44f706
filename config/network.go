package config

import "net/netip"

// Network is the unit in which limits count addresses: an IPv4 address, an IPv6 /64, which one host may have whole.
func Network(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
