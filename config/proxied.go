package config

import (
	"fmt"
	"net/netip"
)

// network reads an address or a network in CIDR form. One with bits set behind its length is a slip of the pen, and so is everybody.
func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return n, fmt.Errorf("%q is no address or network; write for example 10.1.2.3 or 10.1.2.0/24", text)
	case n != n.Masked():
		return n, fmt.Errorf("%q has bits behind its length; write %s", text, n.Masked())
	case n.Bits() == 0:
		return n, fmt.Errorf("%q is everybody: anyone could say who he is; write the addresses of your balancers", text)
	}
	return n, nil
}
