package auth

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"mailgate/config"
)

// directory verifies passwords by a bind as the user (RFC 4511, section 4.2), each over a connection of its own. It is safe for concurrent
// use.
type directory struct {
	conf     config.LDAP
	only     string // the one domain whose users are verified, "" for all: the template does not tell them apart
	address  string
	mode     config.TLSMode
	tls      *tls.Config // nil on a plain connection
	password config.Secret
}

func newDirectory(c config.LDAP, defaultDomain string) (*directory, error) {
	d := &directory{conf: c}
	if config.LocalOnly(cmp.Or(c.DN, c.Filter)) {
		if d.only = defaultDomain; d.only == "" {
			return nil, errors.New("dn and filter do not tell users of two domains apart, and there is no routes.default_domain")
		}
	}
	var err error
	if d.address, d.mode, err = config.ParseLDAP(c.URL); err != nil {
		return nil, err
	}
	if d.mode != config.Plain {
		if d.tls, err = trusting(c.CA); err != nil {
			return nil, err
		}
		d.tls.ServerName = hostOf(d.address)
	}
	if c.BindPassword != "" {
		if d.password, err = ReadSecretFile(c.BindPassword); err != nil {
			return nil, err
		}
	}
	if c.DN == "" {
		if _, err := ldap.CompileFilter(fill(c.Filter, "user@example.com", ldap.EscapeFilter)); err != nil {
			return nil, fmt.Errorf("filter: %w", err)
		}
	} else if _, err := ldap.ParseDN(fill(c.DN, "user@example.com", ldap.EscapeDN)); err != nil {
		return nil, fmt.Errorf("dn: %w", err)
	}
	return d, nil
}

// trusting makes a client's TLS that trusts the authorities of a file, or the system's.
func trusting(ca string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca == "" {
		return c, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", ca)
	}
	return c, nil
}

// fill puts a user into a template; what he is called must not be read as anything but a value.
func fill(template, user string, escape func(string) string) string {
	local, domain := user, ""
	if i := strings.LastIndexByte(user, '@'); i >= 0 {
		local, domain = user[:i], user[i+1:]
	}
	return strings.NewReplacer("{address}", escape(user), "{local}", escape(local), "{domain}", escape(domain)).Replace(template)
}

// connect dials, within the deadline of the whole.
func (d *directory) connect(ctx context.Context, until time.Time) (*ldap.Conn, error) {
	nd := net.Dialer{Deadline: until}
	raw, err := nd.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(until)
	if d.mode == config.Implicit {
		t := tls.Client(raw, d.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		raw = t
	}
	c := ldap.NewConn(raw, d.mode == config.Implicit)
	c.Start()
	if d.mode == config.StartTLS {
		if err := c.StartTLS(d.tls); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// verify binds as the user. An empty password would be an anonymous bind, which every directory takes (RFC 4513, section 5.1.2): it is
// refused before.
func (d *directory) verify(ctx context.Context, user string, password config.Secret) error {
	if password == "" {
		return &RefusedError{config.ByLDAP, "the password is empty"}
	}
	if d.only != "" && !strings.EqualFold(user[strings.LastIndexByte(user, '@')+1:], d.only) {
		return &RefusedError{config.ByLDAP, "the directory knows users of " + d.only + " only"}
	}
	until := time.Now().Add(d.conf.Timeout)
	c, err := d.connect(ctx, until)
	if err != nil {
		return fmt.Errorf("authority.ldap: %s: %w", d.address, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	name, known := fill(d.conf.DN, user, ldap.EscapeDN), true
	if d.conf.DN == "" {
		if name, known, err = d.find(c, user, until); err != nil {
			return fmt.Errorf("authority.ldap: %s: %w", d.address, err)
		}
	}
	err = c.Bind(name, password.Reveal())
	switch {
	case !known: // it was bound in vain, so that it takes as long
		return &RefusedError{config.ByLDAP, "the directory knows no such user"}
	case err == nil:
		return nil
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultConstraintViolation):
		// A locked or expired account is told by these too.
		return &RefusedError{config.ByLDAP, "the directory refuses the bind: " + said{err}.Error()}
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return fmt.Errorf("authority.ldap: %s: bind as the user: %w", d.address, said{err})
}

// find searches for the user. Of two that fit neither is taken.
func (d *directory) find(c *ldap.Conn, user string, until time.Time) (name string, known bool, err error) {
	if d.conf.BindDN != "" {
		if err := c.Bind(d.conf.BindDN, d.password.Reveal()); err != nil {
			return "", false, fmt.Errorf("bind as %s: %w", d.conf.BindDN, said{err})
		}
	}
	limit := max(1, int(time.Until(until)/time.Second))
	r, err := c.Search(ldap.NewSearchRequest(d.conf.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, limit, false,
		fill(d.conf.Filter, user, ldap.EscapeFilter), []string{"1.1"}, nil))
	switch {
	case err != nil:
		return "", false, fmt.Errorf("search below %s: %w", d.conf.Base, said{err})
	case len(r.Entries) > 1:
		return "", false, errors.New("the filter finds several entries for one user; it must find one")
	case len(r.Entries) == 1 && r.Entries[0].DN != "":
		return r.Entries[0].DN, true, nil
	}
	return d.conf.Base, false, nil
}

// said is what a directory says, without control characters, and cut.
type said struct{ err error }

// Error implements error.
func (s said) Error() string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s.err.Error())
	return strings.ToValidUTF8(text[:min(len(text), 200)], "?")
}

// Unwrap gives what was said, as it was.
func (s said) Unwrap() error { return s.err }
