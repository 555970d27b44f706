package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// LoadRoutes reads the routes file that c names.
func LoadRoutes(c *Config) (*RouteFile, error) {
	b, err := os.ReadFile(c.Routes.File)
	if err != nil {
		return nil, fmt.Errorf("routes file: %w", err)
	}
	return ParseRoutes(c.Routes.File, b, c)
}

// ParseRoutes reads a routes file (design.md, section 3): one user a line, "ADDRESS SIDE [OPTION=VALUE ...]",
// "default SIDE", patterns "*@DOMAIN SIDE ...", and comments behind "#". The error is Errors.
func ParseRoutes(file string, b []byte, c *Config) (*RouteFile, error) {
	sum := sha256.Sum256(b)
	p := routeParser{cfg: c, addresses: NewAddresses(c.Routes), first: map[string]int{}, f: &RouteFile{File: file,
		Serial: hex.EncodeToString(sum[:]), Users: make(map[string]*Route, bytes.Count(b, []byte("\n"))+1),
		Logins: map[string]string{}}}
	text := strings.TrimPrefix(string(b), "\ufeff")
	for line := 1; text != ""; line++ {
		var s string
		s, text, _ = strings.Cut(text, "\n")
		p.line = line
		p.parse(strings.TrimSuffix(s, "\r"))
	}
	p.checkLogins()
	return p.f, p.errs.orNil()
}

type routeParser struct {
	cfg       *Config
	addresses Addresses
	f         *RouteFile
	line      int
	def       int            // line of "default"
	first     map[string]int // pattern -> line
	logins    []string       // users with own login names
	errs      Errors
}

func (p *routeParser) bad(format string, args ...any) {
	p.errs = append(p.errs, Problem{p.f.File, p.line, fmt.Sprintf(format, args...)})
}

func (p *routeParser) parse(s string) {
	if strings.IndexByte(s, 0) >= 0 {
		p.bad("the line holds a NUL byte; is this a text file?")
		return
	}
	if i := strings.IndexByte(s, '#'); i >= 0 && (i == 0 || s[i-1] == ' ' || s[i-1] == '\t') {
		s = s[:i]
	}
	word, rest := nextWord(s)
	if word == "" {
		return
	}
	sideWord, rest := nextWord(rest)
	side, ok := ParseSide(sideWord)
	if !ok {
		if sideWord == "" {
			p.bad("%q has no side; write %q or %q behind it", word, "old", "new")
		} else {
			p.bad("unknown side %q%s", sideWord, didYouMean(sideWord, []string{"old", "new"}))
		}
		return
	}
	switch {
	case word == "default":
		p.setDefault(side, rest)
	case word[0] == '*':
		p.pattern(word, side, rest)
	default:
		p.user(word, side, rest)
	}
}

func nextWord(s string) (word, rest string) {
	s = strings.TrimLeft(s, " \t")
	if i := strings.IndexAny(s, " \t"); i >= 0 {
		return s[:i], s[i:]
	}
	return s, ""
}

// ParseSide reads "old" or "new".
func ParseSide(s string) (Side, bool) {
	switch s {
	case "old":
		return Old, true
	case "new":
		return New, true
	}
	return Old, false
}

func (p *routeParser) setDefault(side Side, rest string) {
	if w, _ := nextWord(rest); w != "" {
		p.bad("default takes a side and nothing else; %q is too much", w)
	}
	if p.def > 0 {
		p.bad("default stands in line %d already; keep one", p.def)
	}
	p.def, p.f.Default = p.line, side
}

func (p *routeParser) pattern(word string, side Side, rest string) {
	domain := "*"
	if word != "*" {
		d, ok := strings.CutPrefix(word, "*@")
		var err error
		if ok {
			var b []byte
			b, err = appendDomain(nil, d)
			domain = string(b)
		}
		if !ok || d == "" || err != nil || strings.ContainsAny(d, "*@") {
			p.bad("pattern %q is not understood; write *@DOMAIN or *", word)
			return
		}
	}
	if at := p.first[domain]; at > 0 {
		p.bad("pattern %q stands in line %d already; keep one", word, at)
		return
	}
	p.first[domain] = p.line
	r := Route{Address: word, Side: side, Line: p.line}
	p.options(&r, rest, true)
	p.f.Patterns = append(p.f.Patterns, Pattern{Domain: domain, Route: r})
}

func (p *routeParser) user(word string, side Side, rest string) {
	var buf [maxAddress]byte
	b, err := p.addresses.AppendCanonical(buf[:0], word)
	if err != nil {
		p.bad("%q: %v", word, err)
		return
	}
	if bytes.IndexByte(b, '@') < 0 {
		p.bad("%q has no domain; write %s@DOMAIN, or set routes.default_domain", word, word)
		return
	}
	if was := p.f.Users[string(b)]; was != nil {
		p.bad("%q is the same user as in line %d; keep one of the two lines", word, was.Line)
		return
	}
	r := &Route{Address: word, Side: side, Line: p.line}
	if string(b) != word {
		r.Address = string(b)
	}
	p.options(r, rest, false)
	p.f.Users[r.Address] = r
	if r.Login != [2]string{} {
		p.logins = append(p.logins, r.Address)
	}
}

// routeOptions are the words that may stand behind the side.
func routeOptions() []string { return []string{"wave", "old", "new", "old_host", "new_host"} }

func (p *routeParser) options(r *Route, rest string, pattern bool) {
	var seen [5]bool
	for {
		var word string
		if word, rest = nextWord(rest); word == "" {
			return
		}
		key, value, ok := strings.Cut(word, "=")
		at := -1
		for i, o := range routeOptions() {
			if o == key {
				at = i
			}
		}
		switch {
		case at < 0:
			p.bad("unknown option %q%s", key, didYouMean(key, routeOptions()))
			continue
		case !ok || value == "":
			p.bad("option %s needs a value; write %s=VALUE", key, key)
			continue
		case seen[at]:
			p.bad("option %s is given twice", key)
			continue
		case strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }):
			p.bad("option %s holds a control character", key)
			continue
		}
		seen[at] = true
		switch key {
		case "wave":
			r.Wave = value
		case "old":
			p.login(r, Old, value, pattern)
		case "new":
			p.login(r, New, value, pattern)
		case "old_host":
			p.host(r, Old, value)
		case "new_host":
			p.host(r, New, value)
		}
	}
}

// login reads "LOGIN" or, with two @ or more, "LOGIN@HOST".
func (p *routeParser) login(r *Route, side Side, value string, pattern bool) {
	if i := strings.LastIndexByte(value, '@'); i > 0 && strings.Count(value, "@") > 1 {
		p.host(r, side, value[i+1:])
		value = strings.TrimSuffix(value[:i], "@")
	}
	if pattern {
		if err := checkTemplate(value); err != nil {
			p.bad("%v", err)
		}
	}
	r.Login[side] = value
}

func (p *routeParser) host(r *Route, side Side, name string) {
	var names []string
	for _, h := range p.cfg.Backends[side].Hosts {
		if h.Name == name {
			if r.Host[side] != "" && r.Host[side] != name {
				p.bad("two hosts on the %s side: %q and %q", side, r.Host[side], name)
			}
			r.Host[side] = name
			return
		}
		names = append(names, h.Name)
	}
	p.bad("unknown host %q on the %s side%s", name, side, didYouMean(name, names))
}

// checkLogins makes login names resolve to their users, and refuses those that could be two.
func (p *routeParser) checkLogins() {
	for _, user := range p.logins {
		r := p.f.Users[user]
		p.line = r.Line
		for _, side := range Sides {
			login := r.Login[side]
			if login == "" {
				continue
			}
			key, err := p.addresses.Canonical(login)
			if err != nil {
				continue // a login name that no client could type as an address; it only goes to the backend
			}
			if key == user {
				continue
			}
			if other := p.f.Users[key]; other != nil {
				p.bad("login name %q is the address of the user in line %d", login, other.Line)
			} else if was, ok := p.f.Logins[key]; ok && was != user {
				p.bad("login name %q is also that of %s in line %d", login, was, p.f.Users[was].Line)
			} else {
				p.f.Logins[key] = user
			}
		}
	}
}

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
		return user, nil
	}
	return string(b), nil
}

// Match is the first pattern that fits a user.
func (f *RouteFile) Match(user string) (Route, bool) {
	domain := user[strings.LastIndexByte(user, '@')+1:]
	for _, p := range f.Patterns {
		if p.Domain == "*" || p.Domain == domain {
			return p.Route, true
		}
	}
	return Route{}, false
}

// For is a user's line, or the pattern's, or the default's, with the user's address.
func (f *RouteFile) For(user string) Route {
	if r := f.Users[user]; r != nil {
		return *r
	}
	r, ok := f.Match(user)
	if !ok {
		r.Side = f.Default
	}
	for _, side := range Sides {
		if r.Login[side] != "" {
			r.Login[side] = expand(r.Login[side], user)
		}
	}
	r.Address = user
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
	left := strings.NewReplacer("{address}", "", "{local}", "", "{domain}", "").Replace(t)
	if strings.ContainsAny(left, "{}") {
		return fmt.Errorf("login template %q is not understood; it may hold {address}, {local} and {domain}", t)
	}
	return nil
}

func expand(t, address string) string {
	if t == "{address}" || t == "" {
		return address
	}
	local, domain := address, ""
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		local, domain = address[:i], address[i+1:]
	}
	return strings.NewReplacer("{address}", address, "{local}", local, "{domain}", domain).Replace(t)
}
