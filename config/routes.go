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

// bom is what some editors of Windows put first.
const bom = "\ufeff"

// ParseRoutes reads a routes file (design.md, section 3): one user a line, "ADDRESS SIDE [OPTION=VALUE ...]",
// "default SIDE", patterns "*@DOMAIN SIDE ...", and comments behind "#". The error is Errors.
func ParseRoutes(file string, b []byte, c *Config) (*RouteFile, error) {
	sum := sha256.Sum256(b)
	p := routeParser{cfg: c, addresses: NewAddresses(c.Routes), first: map[string]int{}, f: &RouteFile{File: file,
		Serial: hex.EncodeToString(sum[:]), Users: make(map[string]*Route, bytes.Count(b, []byte("\n"))+1)}}
	text := strings.TrimPrefix(string(b), bom)
	if i := strings.IndexByte(text, 0); i >= 0 {
		p.line = 1 + strings.Count(text[:i], "\n")
		p.bad("the line holds a NUL byte; is this a text file in UTF-8?")
		return p.f, p.errs.orNil()
	}
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
	if strings.IndexByte(s, '\r') >= 0 {
		p.bad("a carriage return stands within the line; lines end with LF or CRLF")
		return
	}
	s = cutComment(s)
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

// cutComment cuts what stands behind a # that begins a word.
func cutComment(s string) string {
	for i := 0; ; i++ {
		at := strings.IndexByte(s[i:], '#')
		if at < 0 {
			return s
		}
		if i += at; i == 0 || s[i-1] == ' ' || s[i-1] == '\t' {
			return s[:i]
		}
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
	if at := p.first["*"]; at > 0 {
		p.bad("pattern %q is never reached, since * in line %d fits everybody; write it above", word, at)
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
	switch at := lastAt(string(b)); {
	case at < 0:
		p.bad("%q has no domain; write %s@DOMAIN, or set routes.default_domain", word, word)
		return
	case b[0] != '"' && bytes.IndexByte(b[:at], '@') >= 0:
		p.bad("%q holds more than one @", word)
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
func routeOptions() []string {
	return []string{"wave", "old", "new", "old_host", "new_host", "authority"}
}

func (p *routeParser) options(r *Route, rest string, pattern bool) {
	var seen [6]bool
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
		case "authority":
			p.authority(r, value)
		}
	}
}

// authority takes who verifies the user's password.
func (p *routeParser) authority(r *Route, name string) {
	if !contains(authorityNames(), name) {
		p.bad("unknown authority %q%s", name, didYouMean(name, authorityNames()))
		return
	}
	r.Authority = Authority(name)
	if why := p.cfg.lacks(r.Authority); why != "" {
		p.bad("%s", why)
	}
}

// login reads "LOGIN" or, with two @ or more, "LOGIN@HOST"; "LOGIN@@HOST" is a login name without @. It may be a
// template.
func (p *routeParser) login(r *Route, side Side, value string, pattern bool) {
	rest := value
	if value[0] == '"' { // an @ within quotes belongs to the local part
		if i := strings.IndexByte(value[1:], '"'); i >= 0 {
			rest = value[i+2:]
		}
	}
	if i := strings.LastIndexByte(value, '@'); i > 0 && strings.Count(rest, "@") > 1 {
		p.host(r, side, value[i+1:])
		value = strings.TrimSuffix(value[:i], "@")
	}
	if value == "" {
		p.bad("option %s needs a login name before the host", side)
		return
	}
	if err := checkTemplate(value); err != nil {
		p.bad("%v", err)
		return
	}
	if !pattern {
		value = expand(value, r.Address)
	}
	r.Login[side] = value
}

// host takes a host's name or, where that names one host only, its host name.
func (p *routeParser) host(r *Route, side Side, name string) {
	var names, found []string
	for _, h := range p.cfg.Backends[side].Hosts {
		if strings.EqualFold(h.Name, name) {
			found = []string{h.Name}
			break
		}
		if strings.EqualFold(h.IMAP.Host, name) || strings.EqualFold(h.POP3.Host, name) || strings.EqualFold(h.Submission.Host, name) || strings.EqualFold(h.Sieve.Host, name) {
			found = append(found, h.Name)
		}
		names = append(names, h.Name)
	}
	switch {
	case len(found) == 0:
		p.bad("unknown host %q on the %s side%s", name, side, didYouMean(name, names))
	case len(found) > 1:
		p.bad("%q is several hosts on the %s side; write one of their names: %s", name, side, strings.Join(found, ", "))
	case r.Host[side] != "" && r.Host[side] != found[0]:
		p.bad("two hosts on the %s side: %q and %q", side, r.Host[side], found[0])
	default:
		r.Host[side] = found[0]
	}
}

// checkLogins makes login names resolve to their users, and refuses those that could be two. Users of the same login
// name on hosts of their own are two mailboxes: then the name alone says nothing (ErrAmbiguous).
func (p *routeParser) checkLogins() {
	first := make(map[string]string, len(p.logins)) // login name -> the user who has it, also of an ambiguous one
	p.f.Logins = first
	var ambiguous []string
	for _, user := range p.logins {
		r := p.f.Users[user]
		p.line = r.Line
		for _, side := range Sides {
			if r.Login[side] == "" {
				continue
			}
			key, err := p.addresses.Canonical(r.Login[side])
			if err != nil || key == user {
				continue // or: a name that no client could type; it only goes to the backend
			}
			if other := p.f.Users[key]; other != nil {
				p.bad("login name %q is the address of the user in line %d", r.Login[side], other.Line)
				continue
			}
			was, taken := first[key]
			switch other := p.f.Users[was]; {
			case !taken || was == user:
				first[key] = user
			case p.apart(key, side, r, other):
				ambiguous = append(ambiguous, key)
			default:
				p.bad("login name %q is also that of %s in line %d", r.Login[side], was, other.Line)
			}
		}
	}
	for _, key := range ambiguous {
		p.f.Logins[key] = ""
	}
}

// apart tells whether two users have a login name on one side only, each on a host of his own.
func (p *routeParser) apart(key string, side Side, a, b *Route) bool {
	if k, err := p.addresses.Canonical(b.Login[side.Other()]); err == nil && k == key {
		return false
	}
	return a.Host[side] != "" && b.Host[side] != "" && a.Host[side] != b.Host[side]
}
