package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"mailgate/config"
	"mailgate/mailtest"
)

// ldapServer answers binds and searches (RFC 4511) for a few people.
type ldapServer struct {
	addr    string
	tls     *tls.Config
	people  map[string]string                                // DN -> password
	mails   map[string][]string                              // filter as text -> DNs
	bind    func(dn, password string) (code uint16, ok bool) // answers instead, when ok
	binds   atomic.Int32
	filters sync.Map // that were asked
	silent  bool     // takes connections and says nothing
}

// startLDAP serves until the test ends.
func startLDAP(t *testing.T, s *ldapServer, implicit bool) *ldapServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				if implicit {
					s.serve(tls.Server(c, s.tls))
				} else {
					s.serve(c)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

func (s *ldapServer) serve(c net.Conn) {
	answer := func(id int64, tag ber.Tag, code uint16) {
		p := ber.NewSequence("")
		p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
		r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
		r.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, int64(code), ""))
		r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
		r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "80090308: data 52e\r\n", ""))
		p.AppendChild(r)
		_, _ = c.Write(p.Bytes())
	}
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		if s.silent {
			continue
		}
		id, op := p.Children[0].Value.(int64), p.Children[1]
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			s.binds.Add(1)
			dn, password := op.Children[1].Value.(string), op.Children[2].Data.String()
			code := uint16(ldap.LDAPResultInvalidCredentials)
			if right, known := s.people[dn]; known && right == password || dn == "" && password == "" {
				code = ldap.LDAPResultSuccess
			}
			if s.bind != nil {
				if other, ok := s.bind(dn, password); ok {
					code = other
				}
			}
			answer(id, ldap.ApplicationBindResponse, code)
		case ldap.ApplicationSearchRequest:
			filter, err := ldap.DecompileFilter(op.Children[6])
			if err != nil {
				return
			}
			s.filters.Store(filter, true)
			for _, dn := range s.mails[filter] {
				p := ber.NewSequence("")
				p.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
				e := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "")
				e.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, dn, ""))
				e.AppendChild(ber.NewSequence(""))
				p.AppendChild(e)
				_, _ = c.Write(p.Bytes())
			}
			answer(id, ldap.ApplicationSearchResultDone, ldap.LDAPResultSuccess)
		case ldap.ApplicationExtendedRequest:
			answer(id, ldap.ApplicationExtendedResponse, ldap.LDAPResultSuccess)
			t := tls.Server(c, s.tls)
			if t.Handshake() != nil {
				return
			}
			c = t
		default:
			return
		}
	}
}

const people = "ou=people,dc=example,dc=com"

func newLDAP(t *testing.T) (s *ldapServer, ca string) {
	t.Helper()
	cert, key, _, _ := mailtest.Certificate(t, t.TempDir())
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &ldapServer{tls: &tls.Config{Certificates: []tls.Certificate{pair}}, people: map[string]string{
		"uid=alice," + people: "right", "uid=a\\,b," + people: "comma", "cn=search": "searching", "uid=twice," + people: "right"},
		mails: map[string][]string{"(mail=alice@example.com)": {"uid=alice," + people},
			"(mail=twice@example.com)": {"uid=twice," + people, "uid=alice," + people}}}, cert
}

func verifyLDAP(t *testing.T, c config.LDAP, user, password string) error {
	t.Helper()
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	conf := config.Default()
	conf.Authority.LDAP = c
	conf.Routes.DefaultDomain = "example.com"
	v, err := NewVerifiers(&conf)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	return v.Verify(t.Context(), config.ByLDAP, user, &Credentials{Mechanism: "PLAIN", Username: user, Password: config.Secret(password)})
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	s, ca := newLDAP(t)
	startLDAP(t, s, false)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("searching\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := config.LDAP{URL: "ldap://" + s.addr, Base: people, Filter: "(mail={address})"}
	bound := plain
	bound.BindDN, bound.BindPassword = "cn=search", secret
	stranger := plain
	stranger.BindDN, stranger.BindPassword = "cn=nobody", secret
	started := plain
	started.URL, started.CA = "ldap+starttls://"+s.addr, ca
	dn := config.LDAP{URL: plain.URL, DN: "uid={local}," + people}
	for _, x := range []struct {
		name           string
		conf           config.LDAP
		user, password string
		want           string // "ok", "refused", "unknown"
	}{
		{"searched", plain, "alice@example.com", "right", "ok"},
		{"wrong", plain, "alice@example.com", "wrong", "refused"},
		{"nobody", plain, "bob@example.com", "right", "refused"},
		{"wildcard", plain, "*", "right", "refused"},
		{"filter in the name", plain, "x)(mail=alice@example.com", "right", "refused"},
		{"two entries", plain, "twice@example.com", "right", "unknown"},
		{"search user", bound, "alice@example.com", "right", "ok"},
		{"search user is refused", stranger, "alice@example.com", "right", "unknown"},
		{"STARTTLS", started, "alice@example.com", "right", "ok"},
		{"STARTTLS, wrong", started, "alice@example.com", "wrong", "refused"},
		{"template", dn, "alice@example.com", "right", "ok"},
		{"template, wrong", dn, "alice@example.com", "wrong", "refused"},
		{"template, nobody", dn, "bob@example.com", "wrong", "refused"},
		{"the same name in another domain", dn, "alice@example.net", "right", "refused"},
		{"comma in the name", dn, "a,b@example.com", "comma", "ok"},
	} {
		err := verifyLDAP(t, x.conf, x.user, x.password)
		var refused *RefusedError
		got := "unknown"
		if err == nil {
			got = "ok"
		} else if errors.As(err, &refused) {
			got = "refused"
		}
		if got != x.want {
			t.Errorf("%s: %v, want %s", x.name, err, x.want)
		}
		if err != nil && (strings.Contains(err.Error(), x.password) && x.password != "wrong" || strings.ContainsAny(err.Error(), "\r\n")) {
			t.Errorf("%s: the error shows the password, or breaks the line: %q", x.name, err)
		}
	}
	if _, asked := s.filters.Load(`(mail=\2a)`); !asked {
		t.Error("the wildcard was not escaped")
	}
}

// An empty password is an anonymous bind, which this directory takes like most: it must not come so far.
func TestDirectoryEmptyPassword(t *testing.T) {
	t.Parallel()
	s, _ := newLDAP(t)
	s.bind = func(string, string) (uint16, bool) { return ldap.LDAPResultSuccess, true }
	startLDAP(t, s, false)
	var refused *RefusedError
	err := verifyLDAP(t, config.LDAP{URL: "ldap://" + s.addr, DN: "uid={local}," + people}, "alice@example.com", "")
	if !errors.As(err, &refused) || s.binds.Load() > 0 {
		t.Errorf("%v, %d binds", err, s.binds.Load())
	}
}

// Who does not exist is bound as well, so that the time tells nothing.
func TestDirectoryNobodyCostsAsMuch(t *testing.T) {
	t.Parallel()
	s, _ := newLDAP(t)
	startLDAP(t, s, false)
	c := config.LDAP{URL: "ldap://" + s.addr, Base: people, Filter: "(mail={address})"}
	_ = verifyLDAP(t, c, "alice@example.com", "wrong")
	known := s.binds.Load()
	_ = verifyLDAP(t, c, "bob@example.com", "wrong")
	if both := s.binds.Load(); known != 1 || both != 2 {
		t.Errorf("%d binds for a user, %d for nobody", known, both-known)
	}
}

// What is no answer to the password must not look like one.
func TestDirectoryTrouble(t *testing.T) {
	t.Parallel()
	s, ca := newLDAP(t)
	busy := true
	s.bind = func(string, string) (uint16, bool) { return ldap.LDAPResultBusy, busy }
	startLDAP(t, s, false)
	silent, _ := newLDAP(t)
	silent.silent = true
	startLDAP(t, silent, false)
	implicit, other := newLDAP(t)
	startLDAP(t, implicit, true)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	dn := "uid={local}," + people
	for name, c := range map[string]config.LDAP{
		"busy":                {URL: "ldap://" + s.addr, DN: dn},
		"nobody there":        {URL: "ldap://" + gone.Addr().String(), DN: dn},
		"silent":              {URL: "ldap://" + silent.addr, DN: dn, Timeout: 200 * time.Millisecond},
		"silent at STARTTLS":  {URL: "ldap+starttls://" + silent.addr, CA: ca, DN: dn, Timeout: 200 * time.Millisecond},
		"another's TLS":       {URL: "ldaps://" + implicit.addr, CA: ca, DN: dn},
		"no TLS":              {URL: "ldaps://" + s.addr, CA: ca, DN: dn},
		"STARTTLS, another's": {URL: "ldap+starttls://" + s.addr, CA: other, DN: dn},
	} {
		err := verifyLDAP(t, c, "alice@example.com", "right")
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verifyLDAP(t, config.LDAP{URL: "ldaps://" + implicit.addr, CA: other, DN: dn}, "alice@example.com", "right"); err != nil {
		t.Errorf("ldaps: %v", err)
	}
}

// A login that is given up lets go of the directory at once.
func TestDirectoryGivenUp(t *testing.T) {
	t.Parallel()
	s, _ := newLDAP(t)
	s.silent = true
	startLDAP(t, s, false)
	conf := config.Default()
	conf.Authority.LDAP = config.LDAP{URL: "ldap://" + s.addr, DN: "uid={local}," + people, Timeout: time.Hour}
	conf.Routes.DefaultDomain = "example.com"
	v, err := NewVerifiers(&conf)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	err = v.Verify(ctx, config.ByLDAP, "alice@example.com", &Credentials{Mechanism: "PLAIN", Password: "right"})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
