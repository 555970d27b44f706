package config

import (
	"strings"
	"testing"
)

// withMasters has a master user on both sides.
func withMasters() *Config {
	c := twoSides()
	for _, side := range Sides {
		c.Backends[side].Sync.MasterUser = "master"
	}
	return c
}

func TestAuthorityOfRoutes(t *testing.T) {
	c := withMasters()
	c.Authority.File = "passwords"
	f, err := ParseRoutes("routes", []byte("a@x.test old\nb@x.test new authority=old\nc@x.test old authority=file\nd@y.test new\ne@y.test new authority=route\n*@y.test old authority=new\n"), c)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Authority{"a@x.test": ByRoute, "b@x.test": ByOld, "c@x.test": ByFile, "d@y.test": ByNew, "e@y.test": ByRoute, "f@y.test": ByNew, "g@z.test": ByRoute}
	for user, by := range want {
		if got := c.AuthorityOf(f.For(user)); got != by {
			t.Errorf("%s is verified by %s, want %s", user, got, by)
		}
	}
	c.Authority.Default = ByFile
	if got := c.AuthorityOf(f.For("a@x.test")); got != ByFile {
		t.Errorf("the default does not count: %s", got)
	}
}

func TestAuthoritySides(t *testing.T) {
	for by, want := range map[Authority]string{"": "old new", ByRoute: "old new", ByOld: "old old!", ByNew: "new! new", ByFile: "-! -!", ByLDAP: "-! -!", ByOAuth: "-! -!"} {
		var got []string
		for _, side := range Sides {
			word := "-"
			if s, ok := by.Verifier(side); ok {
				word = s.String()
			}
			if by.NeedsMaster(side) {
				word += "!"
			}
			got = append(got, word)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %s, want %s", by, got, want)
		}
	}
}

// What an authority needs and has not is told where it is named.
func TestAuthorityLacks(t *testing.T) {
	for line, want := range map[string]string{
		"a@x.test new authority=old":  "backends.new.sync.master_user",
		"a@x.test new authority=new":  "backends.old.sync.master_user",
		"a@x.test new authority=file": "authority.file",
		"a@x.test new authority=ldap": "authority.ldap.url",
		"* new authority=oauth":       "authority.oauth.url",
		"a@x.test new authority=olt":  `did you mean "old"`,
		"a@x.test new authority=":     "needs a value",
	} {
		_, err := ParseRoutes("routes", []byte("\n"+line+"\n"), twoSides())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "routes:2: ") {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// A login name that two users may have is the user's own only where it can be told.
func TestDistinct(t *testing.T) {
	c := withMasters()
	c.Backends[Old].Login = "{local}"
	c.Routes.DefaultDomain = "Main.Test"
	both := "*@p.test old old_host=old1\n*@q.test old old_host=old1\n*@r.test old old_host=old2\n"
	if f, err := ParseRoutes("routes", []byte(both), c); err != nil || f.Distinct(c, Old, "a@p.test") || f.Distinct(c, Old, "a@q.test") || !f.Distinct(c, Old, "a@r.test") {
		t.Errorf("two domains on one host: %v", err)
	}
	f, err := ParseRoutes("routes", []byte("a@x.test old\nb@x.test old old=bee\nc@x.test old old_host="+c.Backends[Old].Hosts[0].Name+"\n*@z.test old old={local}.{domain}\n"), c)
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]bool{"a@x.test": false, "b@x.test": true, "c@x.test": true, "a@main.test": true, "a@z.test": true, "a": true, "x.test@x.test": false} {
		if got := f.Distinct(c, Old, user); got != want {
			t.Errorf("%s on OLD: %v", user, got)
		}
		if !f.Distinct(c, New, user) {
			t.Errorf("%s on NEW, by his address", user)
		}
	}
}

func TestParseLDAP(t *testing.T) {
	for url, want := range map[string]string{"ldaps://h.test": "h.test:636 2", "ldap+starttls://h.test": "h.test:389 1", "ldap://127.0.0.1": "127.0.0.1:389 0",
		"ldap://[::1]:1389/": "[::1]:1389 0", "ldaps://h.test:700": "h.test:700 2", "ldap://h.test": "", "ldaps://": "", "https://h.test": "", "ldaps://u@h.test": "",
		"ldaps://h.test/dc=x": "", "h.test": ""} {
		got := ""
		if at, mode, err := ParseLDAP(url); err == nil {
			got = at + " " + string('0'+rune(mode))
		}
		if got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
}
