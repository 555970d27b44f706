package proxy

import (
	"fmt"
	"slices"
	"strings"

	"mailgate/config"
)

// commonCapabilities are capabilities of IMAP that matter after login and that clients look for before it; they are
// named when both sides name them before login.
func (s *Server) commonCapabilities() []string {
	old, new := s.dialer.Features(config.Old), s.dialer.Features(config.New)
	var out []string
	for _, name := range []string{"ENABLE", "IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "CHILDREN", "UNSELECT"} {
		if slices.Contains(old.IMAP, name) && slices.Contains(new.IMAP, name) {
			out = append(out, name)
		}
	}
	return out
}

// mechanisms are the SASL mechanisms that a client may use: passwords always, the others where both sides have them.
func (s *Server) mechanisms(set *settings, p config.Protocol) []string {
	var out []string
	for _, o := range Offers(set.cfg, set.routes, p, [2][]string{s.dialer.Features(config.Old).Mechanisms(p), s.dialer.Features(config.New).Mechanisms(p)}) {
		if o.Why == "" {
			out = append(out, o.Mechanism)
		}
	}
	return out
}

// Offer is what becomes of a mechanism of login.mechanisms.
type Offer struct {
	Mechanism string
	Why       string // it is not offered; "" when it is
}

// Offers are the mechanisms that clients of a protocol are offered, and the others of the configuration with the reason, given what the
// two sides list before login.
func Offers(c *config.Config, routes *config.RouteFile, p config.Protocol, listed [2][]string) []Offer {
	var out []Offer
	for _, m := range c.Login.Mechanisms {
		out = append(out, Offer{m, withheld(c, routes, p, listed, m)})
	}
	return out
}

// withheld is why a mechanism is not offered.
func withheld(c *config.Config, routes *config.RouteFile, p config.Protocol, listed [2][]string, m string) string {
	switch m {
	case "PLAIN":
		return ""
	case "LOGIN":
		if p == config.Sieve {
			return "ManageSieve has no use for it beside PLAIN"
		}
		return ""
	}
	if c.Authority.OAuth.URL != "" && (m == "XOAUTH2" || m == "OAUTHBEARER") {
		return "" // tokens are introspected here, whatever the sides have
	}
	if config.Relayed(m) && c.Delegated(routes) {
		return "some users are verified by another than their side (authority), who needs to see passwords"
	}
	var without []string
	for _, side := range config.Sides {
		if !slices.Contains(listed[side], m) {
			without = append(without, strings.ToUpper(side.String()))
		}
	}
	switch {
	case len(without) == 2:
		return "neither side lists it"
	case len(without) == 1:
		return without[0] + " does not list it"
	case !config.Relayed(m):
		return ""
	}
	for _, side := range config.Sides {
		if plus := m + "-PLUS"; slices.Contains(listed[side], plus) {
			return strings.ToUpper(side.String()) + " lists " + plus + ", which binds a login to its TLS connection: clients that know that cannot log in through a gateway"
		}
	}
	if !c.OneName() {
		return fmt.Sprintf("login names differ: backends.old.login is %q, backends.new.login is %q", c.Backends[config.Old].Login, c.Backends[config.New].Login)
	}
	return ""
}
