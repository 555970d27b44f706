package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of a PROXY header: version 1 has 107 bytes at most; of version 2 the addresses and what balancers add fit into this.
const (
	maxProxyLine = 107
	maxProxyV2   = 4 << 10
)

// errProxyHeader means that a connection does not begin with a PROXY header.
var errProxyHeader = errors.New("no PROXY header")

// proxySignature is how version 2 begins.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// readProxyHeader reads a header of the PROXY protocol (version 1 or 2, as HAProxy has defined it), and not a byte more. client is not valid where
// the balancer speaks for itself (LOCAL, UNKNOWN): then its own address is the client's.
func readProxyHeader(r io.Reader) (client netip.AddrPort, err error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:6]); err != nil {
		return client, err
	}
	if string(head[:6]) == "PROXY " {
		return readProxyLine(r)
	}
	if string(head[:6]) != proxySignature[:6] {
		return client, fmt.Errorf("%w: it begins with %q", errProxyHeader, head[:6])
	}
	if _, err := io.ReadFull(r, head[6:]); err != nil {
		return client, err
	}
	n := int(binary.BigEndian.Uint16(head[14:]))
	if string(head[:12]) != proxySignature || head[12]>>4 != 2 || n > maxProxyV2 {
		return client, fmt.Errorf("%w: version 2 is broken", errProxyHeader)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return client, err
	}
	switch command, family := head[12]&15, head[13]; {
	case command == 0: // LOCAL: a look of the balancer's
		return client, nil
	case command != 1:
		return client, fmt.Errorf("%w: command %d", errProxyHeader, command)
	case family == 0x11 && n >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:])), nil
	case family == 0x21 && n >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])).Unmap(), binary.BigEndian.Uint16(body[32:])), nil
	case family == 0x11 || family == 0x21:
		return client, fmt.Errorf("%w: %d bytes are too few for its addresses", errProxyHeader, n)
	}
	return client, nil // another family: nothing that we could count by
}

// readProxyLine reads what follows "PROXY " in version 1: "TCP4 192.0.2.7 192.0.2.1 56324 993" and CRLF.
func readProxyLine(r io.Reader) (client netip.AddrPort, err error) {
	line := make([]byte, 0, maxProxyLine)
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == maxProxyLine-len("PROXY ") {
			return client, fmt.Errorf("%w: the line is too long", errProxyHeader)
		}
		line = line[:len(line)+1]
		if _, err := io.ReadFull(r, line[len(line)-1:]); err != nil {
			return client, err
		}
	}
	f := strings.Split(string(line[:len(line)-2]), " ")
	if f[0] == "UNKNOWN" {
		return client, nil
	}
	if len(f) != 5 || f[0] != "TCP4" && f[0] != "TCP6" {
		return client, fmt.Errorf("%w: %q", errProxyHeader, line)
	}
	addr, err := netip.ParseAddr(f[1])
	port, perr := strconv.ParseUint(f[3], 10, 16)
	if err != nil || perr != nil || addr.Is4() != (f[0] == "TCP4") || addr.Zone() != "" {
		return client, fmt.Errorf("%w: %q", errProxyHeader, line)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), nil
}

// admitBehind is admit for a client that comes through a balancer: who he is is known by the header only, and nothing is counted by his
// address before.
func (s *Server) admitBehind(c *client, n int64) {
	if err := s.behind(c); err != nil {
		s.log.Info("PROXY header", "listener", c.ln.URL, "client", c.addr, "err", err)
		c.raw.Close()
		s.wg.Done()
		return
	}
	s.take(c, n, func() { s.preAuthSession(c) })
}

// behind reads the header. Who is in none of the networks that may speak for others is nobody's client here.
func (s *Server) behind(c *client) error {
	from := c.addr.Addr()
	if !slices.ContainsFunc(c.set.cfg.ProxyNetworks, func(n netip.Prefix) bool { return n.Contains(from) }) {
		return fmt.Errorf("%s is in none of proxy_networks", from)
	}
	stop := context.AfterFunc(s.ctx, func() { _ = c.raw.SetReadDeadline(longAgo()) })
	defer stop()
	_ = c.raw.SetReadDeadline(time.Now().Add(c.set.cfg.Limits.Handshake))
	addr, err := readProxyHeader(c.raw)
	if err != nil {
		return err
	}
	if addr.IsValid() {
		c.addr = addr
	}
	return c.raw.SetReadDeadline(time.Time{})
}
