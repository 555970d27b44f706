package auth

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
)

// TestDirectoryOpenLDAP asks a real OpenLDAP, by each way to it.
func TestDirectoryOpenLDAP(t *testing.T) {
	t.Parallel()
	l := lab.StartLDAP(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(lab.LDAPPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	search := config.LDAP{Base: lab.People, Filter: "(mail={address})"}
	admin := search
	admin.BindDN, admin.BindPassword = lab.LDAPAdmin, secret
	for name, c := range map[string]config.LDAP{"search": search, "search as admin": admin, "template": {DN: "uid={local}," + lab.People}} {
		for _, url := range []string{"ldap://" + lab.Addr(l.Port), "ldap+starttls://" + lab.Addr(l.Port), "ldaps://" + lab.Addr(l.TLS)} {
			c.URL, c.CA = url, l.CA
			for who, ok := range map[[2]string]bool{{lab.User(1), lab.Password(1)}: true, {lab.User(1), lab.Password(2)}: false, {"nobody@example.com", "x"}: false,
				{"none@example.com", "x"}: false, {"*", lab.Password(1)}: false} {
				err := verifyLDAP(t, c, who[0], who[1])
				var refused *RefusedError
				if (err == nil) != ok || err != nil && !errors.As(err, &refused) {
					t.Errorf("%s, %s: %s: %v", name, url, who[0], err)
				}
			}
		}
	}
	for name, c := range map[string]config.LDAP{"a filter that fits all": {Base: lab.People, Filter: "(|(mail={address})(objectClass=*))"},
		"a base that is not there": {Base: "dc=elsewhere", Filter: "(mail={address})"}} {
		c.URL = "ldap://" + lab.Addr(l.Port)
		var refused *RefusedError
		if err := verifyLDAP(t, c, lab.User(1), lab.Password(1)); err == nil || errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
