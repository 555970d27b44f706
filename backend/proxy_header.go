package backend

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// proxyHeader is what a connection to a host with proxy_protocol begins with, before TLS: the PROXY protocol, version 2, as HAProxy has
// defined it. Where the gateway comes for itself (a look, the syncer) it is LOCAL, which has the host take its own address.
func proxyHeader(client netip.AddrPort, host net.Addr) []byte {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20, 0, 0, 0)
	t, ok := host.(*net.TCPAddr)
	if !client.IsValid() || !ok {
		return b
	}
	from, to := client.Addr().WithZone("").Unmap(), t.AddrPort().Addr().WithZone("").Unmap()
	family := byte(0x11)
	if !from.Is4() || !to.Is4() { // both have to be of one family
		family = 0x21
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
	}
	b[12], b[13] = 0x21, family
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, client.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(t.Port))
	binary.BigEndian.PutUint16(b[14:], uint16(len(b)-16))
	return b
}
