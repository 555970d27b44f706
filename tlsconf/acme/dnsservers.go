package acme

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// nameserver is a server of a zone: its name, and host:port for each of its addresses.
type nameserver struct {
	name      string
	addresses []string
}

// servers are those that the zone's NS records name, as its primary server has them. Their addresses are asked of it first: it knows
// those within the zone.
func (s *dnsSolver) servers(ctx context.Context) ([]nameserver, error) {
	r, err := ask(ctx, s.conf.Server, dns.Fqdn(s.conf.Zone), dns.TypeNS)
	if err != nil {
		return nil, err
	}
	var out []nameserver
	for _, rr := range r.Answer {
		ns, ok := rr.(*dns.NS)
		if !ok {
			continue
		}
		n := nameserver{name: strings.TrimSuffix(dns.CanonicalName(ns.Ns), ".")}
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			if r, err := ask(ctx, s.conf.Server, ns.Ns, kind); err == nil {
				n.addresses = append(n.addresses, addresses(r, s.port)...)
			}
		}
		if len(n.addresses) == 0 {
			found, err := net.DefaultResolver.LookupHost(ctx, n.name)
			if err != nil {
				return nil, fmt.Errorf("the zone's server %s: %w", n.name, err)
			}
			for _, a := range found {
				n.addresses = append(n.addresses, net.JoinHostPort(a, s.port))
			}
		}
		out = append(out, n)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s names no server (NS) of the zone %s", s.conf.Server, s.conf.Zone)
	}
	return out, nil
}

func addresses(r *dns.Msg, port string) (out []string) {
	for _, rr := range r.Answer {
		switch a := rr.(type) {
		case *dns.A:
			out = append(out, net.JoinHostPort(a.A.String(), port))
		case *dns.AAAA:
			out = append(out, net.JoinHostPort(a.AAAA.String(), port))
		}
	}
	return out
}

// without gives the servers that have not got a record, and those that do not answer. One address of a server that answers will do.
func (s *dnsSolver) without(ctx context.Context, servers []nameserver, want *dns.TXT) (missing, silent []string) {
	for _, n := range servers {
		answered, has := false, false
		for _, address := range n.addresses {
			r, err := ask(ctx, address, want.Hdr.Name, dns.TypeTXT)
			if err != nil {
				continue
			}
			answered = true
			has = slices.ContainsFunc(r.Answer, func(rr dns.RR) bool {
				t, ok := rr.(*dns.TXT)
				return ok && strings.Join(t.Txt, "") == want.Txt[0]
			})
			if !has {
				break
			}
		}
		switch {
		case !answered:
			silent = append(silent, n.name+" (no answer)")
		case !has:
			missing = append(missing, n.name)
		}
	}
	return missing, silent
}

// ask asks a server, and again by TCP when the answer is cut off.
func ask(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), kind)
	m.RecursionDesired = false
	m.SetEdns0(1232, false)
	client := &dns.Client{Timeout: answerTime}
	r, _, err := client.ExchangeContext(ctx, m, server)
	if err == nil && r.Truncated {
		client.Net = "tcp"
		r, _, err = client.ExchangeContext(ctx, m, server)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("%s says %s", server, dns.RcodeToString[r.Rcode])
	}
	return r, nil
}

// silent gives the servers of the zone that do not answer.
func (s *dnsSolver) silent(ctx context.Context) (out []string, err error) {
	servers, err := s.servers(ctx)
	for _, n := range servers {
		if !slices.ContainsFunc(n.addresses, func(a string) bool {
			_, err := ask(ctx, a, s.conf.Zone, dns.TypeSOA)
			return err == nil
		}) {
			out = append(out, n.name)
		}
	}
	return out, err
}
