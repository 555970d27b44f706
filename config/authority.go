package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Authority names who says whether a user's password, or his token, is right. In a Route "" means the default.
type Authority string

const (
	ByRoute Authority = "route" // the side where the user is
	ByOld   Authority = "old"   // OLD, wherever he is
	ByNew   Authority = "new"   // NEW, wherever he is
	ByFile  Authority = "file"  // a file of hashes
	ByLDAP  Authority = "ldap"  // a directory that takes a bind as the user
	ByOAuth Authority = "oauth" // an authorization server that is asked about tokens (RFC 7662)
)

// Authorities are all of them, for loops.
func Authorities() []Authority { return []Authority{ByRoute, ByOld, ByNew, ByFile, ByLDAP, ByOAuth} }

func authorityNames() (out []string) {
	for _, a := range Authorities() {
		out = append(out, string(a))
	}
	return out
}

// Verifier is the side that verifies a user who is on side; false where it is neither.
func (a Authority) Verifier(side Side) (Side, bool) {
	switch a {
	case ByRoute, "":
		return side, true
	case ByOld:
		return Old, true
	case ByNew:
		return New, true
	}
	return side, false
}

// NeedsMaster tells whether a user on a side can only be logged in there by its master user, since another has verified him.
func (a Authority) NeedsMaster(side Side) bool {
	by, ok := a.Verifier(side)
	return !ok || by != side
}

// Verifiers is who verifies passwords, and how those are asked that are no side.
type Verifiers struct {
	Default Authority
	File    string // users and their hashes, as Dovecot and htpasswd write them
	LDAP    LDAP
	OAuth   OAuth
}

// LDAP is a directory. Either DN is a template of a user's name there, or he is searched for.
type LDAP struct {
	URL          string // ldaps://, ldap+starttls://, or ldap:// on loopback; "" means none
	CA           string // PEM file; "" means the system's roots
	DN           string // {address}, {local}, {domain}
	Base         string // where users are searched for
	Filter       string // {address}, {local}, {domain}
	BindDN       string // who searches; "" means anonymously
	BindPassword string // file with his password
	Timeout      time.Duration
}

// OAuth is token introspection.
type OAuth struct {
	URL          string // "" means none
	CA           string // PEM file; "" means the system's roots
	ClientID     string
	ClientSecret string        // file
	Claim        string        // which member of the answer names the user
	Cache        time.Duration // how long an answer counts; 0 means once
	Timeout      time.Duration
}

// maxTokenCache bounds authority.oauth.cache: a token that was revoked must not live on for long.
const maxTokenCache = time.Minute

// AuthorityOf is who verifies a user with that route.
func (c *Config) AuthorityOf(r Route) Authority {
	if r.Authority != "" {
		return r.Authority
	}
	return c.Authority.Default
}

// Delegated tells whether anybody is verified by another than the side where he is. routes may be nil.
func (c *Config) Delegated(routes *RouteFile) bool {
	other := func(a Authority) bool { return a != "" && a != ByRoute }
	if other(c.Authority.Default) || routes == nil {
		return other(c.Authority.Default)
	}
	for _, r := range routes.Users {
		if other(r.Authority) {
			return true
		}
	}
	return slices.ContainsFunc(routes.Patterns, func(p Pattern) bool { return other(p.Authority) })
}

// lacks says what an authority needs and the configuration does not have; "" when nothing.
func (c *Config) lacks(a Authority) string {
	v := c.Authority
	switch {
	case a == ByFile && v.File == "":
		return "authority file needs authority.file, a file with users and the hashes of their passwords"
	case a == ByLDAP && v.LDAP.URL == "":
		return "authority ldap needs authority.ldap.url; write for example ldaps://ldap.example.com"
	case a == ByOAuth && v.OAuth.URL == "":
		return "authority oauth needs authority.oauth.url, where tokens are introspected"
	}
	for _, side := range Sides {
		b := &c.Backends[side]
		if by, ok := a.Verifier(side); ok && by != side && len(c.Backends[by].Hosts) > 0 && !c.Backends[by].serves(IMAP) {
			return fmt.Sprintf("authority %s verifies passwords by IMAP, for which backends.%s has no host", a, by)
		}
		if a.NeedsMaster(side) && b.Sync.MasterUser == "" {
			return fmt.Sprintf("authority %s: users on %s are logged in there by its master user; write backends.%s.sync.master_user and master_password",
				a, side, side)
		}
	}
	return ""
}

// checkAuthority looks at who verifies passwords.
func (l *loader) checkAuthority() {
	v := l.c.Authority
	if why := l.c.lacks(v.Default); why != "" {
		l.bad("authority.default", "%s", why)
	}
	l.checkLDAP(v.LDAP)
	l.checkCA("tls.client_ca", l.c.TLS.ClientCA)
	l.checkCA("authority.ldap.ca", v.LDAP.CA)
	l.checkCA("authority.oauth.ca", v.OAuth.CA)
	o := v.OAuth
	if o.URL != "" {
		if u, err := url.Parse(o.URL); err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
			l.bad("authority.oauth.url", "%s is not understood; write https://HOST/PATH (http:// on loopback only), and who asks there "+
				"into client_id and client_secret", scheme0(o.URL))
		}
		if o.Claim == "" {
			l.bad("authority.oauth.claim", "must name the member of the answer that says whose token it is, such as username or email")
		}
		if o.Timeout == 0 {
			l.bad("authority.oauth.timeout", "must not be 0")
		}
	}
	if (o.ClientID == "") != (o.ClientSecret == "") {
		l.bad("authority.oauth.client_id", "and client_secret, which names a file, stand together or not at all")
	}
	if o.Cache > maxTokenCache {
		l.bad("authority.oauth.cache", "%s is more than %s, for which a token that was revoked would live on; write %s or less", o.Cache, maxTokenCache, maxTokenCache)
	}
	if l.c.TLS.ClientCA != "" && l.c.Backends[Old].Sync.MasterUser == "" && l.c.Backends[New].Sync.MasterUser == "" {
		l.bad("tls.client_ca", "who shows a certificate is logged in by the master user of his side, and neither side has one; write backends.old.sync.master_user")
	}
}

// scheme0 is what of a URL may be shown where a secret may stand in it.
func scheme0(s string) string {
	if name, rest, ok := strings.Cut(s, "://"); ok && strings.Contains(rest, "@") {
		return fmt.Sprintf("%q", name+"://...@...")
	}
	return fmt.Sprintf("%q", s)
}

// LocalOnly tells whether a template is the same for users of the same name in two domains.
func LocalOnly(template string) bool {
	return !strings.Contains(template, "{address}") && !strings.Contains(template, "{domain}")
}

func (l *loader) checkLDAP(d LDAP) {
	if (d.BindDN == "") != (d.BindPassword == "") {
		l.bad("authority.ldap.bind_dn", "and bind_password, a file with the password in it, stand together or not at all")
	}
	for _, t := range []struct{ key, value string }{{"dn", d.DN}, {"filter", d.Filter}} {
		if t.value == "" {
			continue
		}
		if err := checkTemplate(t.value); err != nil {
			l.bad("authority.ldap."+t.key, "%v", err)
		} else if !strings.Contains(t.value, "{address}") && !strings.Contains(t.value, "{local}") {
			l.bad("authority.ldap."+t.key, "%q is the same for everybody; it must hold {address} or {local}", t.value)
		}
	}
	if d.URL == "" {
		return
	}
	if _, _, err := ParseLDAP(d.URL); err != nil {
		l.bad("authority.ldap.url", "%v", err)
	}
	if d.DN == "" && d.Base == "" {
		l.bad("authority.ldap.base", "where are users searched for? write for example ou=people,dc=example,dc=com; or dn: uid={local},ou=people,dc=example,dc=com")
	}
	t := d.DN
	if t == "" {
		t = d.Filter
	}
	if LocalOnly(t) && strings.Contains(t, "{local}") && l.c.Routes.DefaultDomain == "" {
		l.bad("authority.ldap", "%q does not tell users of two domains apart; write {address}, or set routes.default_domain: then users of that domain alone are verified", t)
	}
	if d.DN == "" && (!strings.HasPrefix(d.Filter, "(") || !strings.HasSuffix(d.Filter, ")")) {
		l.bad("authority.ldap.filter", "%q is no filter; write for example (mail={address})", d.Filter)
	}
	if d.Timeout == 0 {
		l.bad("authority.ldap.timeout", "must not be 0")
	}
}

// ParseLDAP reads the URL of a directory: its address with port, and how a connection comes to be encrypted.
func ParseLDAP(s string) (address string, mode TLSMode, err error) {
	name, rest, _ := strings.Cut(s, "://")
	port := "389"
	switch name {
	case "ldaps":
		mode, port = Implicit, "636"
	case "ldap+starttls":
		mode = StartTLS
	case "ldap":
		mode = Plain
	default:
		return "", 0, fmt.Errorf("%s is no URL of a directory; write ldaps://HOST or ldap+starttls://HOST", scheme0(s))
	}
	if strings.Contains(rest, "@") {
		return "", 0, fmt.Errorf("%s: only HOST:PORT may follow the scheme; the name to bind with is bind_dn", scheme0(s))
	}
	var e Endpoint
	if err := e.hostPort(strings.TrimSuffix(rest, "/")); err != nil {
		return "", 0, fmt.Errorf("%q: %w", s, err)
	}
	switch {
	case e.Host == "":
		return "", 0, fmt.Errorf("%q names no host; write %s://HOST", s, name)
	case mode == Plain && !loopback(e.Host):
		return "", 0, fmt.Errorf("%q is plain text off loopback, passwords would be readable; write ldaps:// or ldap+starttls://", s)
	case e.Port != 0:
		return e.Address(), mode, nil
	}
	return net.JoinHostPort(e.Host, port), mode, nil
}
