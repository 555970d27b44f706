package config

import (
	"errors"
	"fmt"
	"strings"
)

// ErrAmbiguous means that a login name is that of several users, on hosts of their own: they must type the address.
var ErrAmbiguous = errors.New("the login name is that of several users; the address is needed")

// Lookup resolves what a client typed to a user: his canonical address, also by a per-side login name or a
// sub-address. Names that the file does not list are users of their own. Listed users cost no allocation.
func (f *RouteFile) Lookup(a Addresses, login string) (string, error) {
	var buf [maxAddress]byte
	b, err := a.AppendCanonical(buf[:0], login)
	if err != nil {
		return "", err
	}
	if r := f.Users[string(b)]; r != nil {
		return r.Address, nil
	}
	if user, ok := f.Logins[string(b)]; ok {
		if user == "" {
			return "", ErrAmbiguous
		}
		return user, nil
	}
	return string(b), nil
}

// Match is the first pattern that fits a user.
func (f *RouteFile) Match(user string) (Route, bool) {
	domain := ""
	if at := lastAt(user); at >= 0 {
		domain = user[at+1:]
	}
	for _, p := range f.Patterns {
		if p.Domain == "*" || p.Domain == domain {
			return p.Route, true
		}
	}
	return Route{}, false
}

// For is where and how a user logs in: his line, and for what that leaves open (login names, hosts, authority) the first
// pattern that fits; without a line the pattern's side, or the default.
func (f *RouteFile) For(user string) Route {
	r, fits := f.Match(user)
	if !fits {
		r.Side = f.Default
	}
	for _, side := range Sides {
		if r.Login[side] != "" {
			r.Login[side] = expand(r.Login[side], user)
		}
	}
	r.Address = user
	own := f.Users[user]
	if own == nil {
		return r
	}
	r.Side, r.Wave, r.Line = own.Side, own.Wave, own.Line
	if own.Authority != "" {
		r.Authority = own.Authority
	}
	for _, side := range Sides {
		// A host of his own without a login name does not take the pattern's: it was written for other hosts.
		if own.Login[side] != "" || own.Host[side] != "" {
			r.Login[side], r.Host[side] = own.Login[side], own.Host[side]
		}
	}
	return r
}

// LoginName is the user's login name on a side.
func (c *Config) LoginName(side Side, r Route) string {
	if r.Login[side] != "" {
		return r.Login[side]
	}
	return expand(c.Backends[side].Login, r.Address)
}

// checkTemplate refuses unknown words in braces.
func checkTemplate(t string) error {
	if !strings.ContainsAny(t, "{}") {
		return nil
	}
	left := strings.NewReplacer("{address}", "", "{local}", "", "{domain}", "").Replace(t)
	if strings.ContainsAny(left, "{}") {
		return fmt.Errorf("login template %q is not understood; it may hold {address}, {local} and {domain}", t)
	}
	return nil
}

func expand(t, address string) string {
	switch {
	case t == "{address}" || t == "":
		return address
	case strings.IndexByte(t, '{') < 0:
		return t
	}
	local, domain := address, ""
	if i := lastAt(address); i >= 0 {
		local, domain = address[:i], address[i+1:]
	}
	return strings.NewReplacer("{address}", address, "{local}", local, "{domain}", domain).Replace(t)
}

// Distinct tells whether a user's login name on a side can be nobody else's there. A template without the domain makes one name of two
// users of the same name; then that is sure for users of routes.default_domain only, and for those who are bound to a host. It does not
// matter where the side itself verifies the user's secret.
func (f *RouteFile) Distinct(c *Config, side Side, user string) bool {
	if own := f.Users[user]; own != nil && own.Login[side] != "" {
		return true // checkLogins has compared it
	}
	at := lastAt(user)
	if at < 0 {
		return true
	}
	r := f.For(user)
	domain := user[at+1:]
	return strings.Contains(strings.Replace(c.LoginName(side, r), user[:at], "", 1), domain) || domain == NewAddresses(c.Routes).DefaultDomain() ||
		r.Host[side] != "" && !f.shared(c, side, r.Host[side], domain)
}

// shared tells whether another domain's users may come to a host by a pattern, under names without their domain.
func (f *RouteFile) shared(c *Config, side Side, host, domain string) bool {
	for _, p := range f.Patterns {
		template := p.Login[side]
		if template == "" {
			template = c.Backends[side].Login
		}
		if p.Domain != domain && (p.Host[side] == "" || p.Host[side] == host) && LocalOnly(template) {
			return true
		}
	}
	return false
}
