package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// People is where LDAP has its users, uid=userN below it; LDAPAdmin may search and change all, with LDAPPassword.
const (
	People       = "ou=people,dc=example,dc=com"
	LDAPAdmin    = "cn=admin,dc=example,dc=com"
	LDAPPassword = "adminpass"
)

// LDAP is an OpenLDAP 2.5 that runs. It has the first ten users of Start, by mail, and "uid=none", who has no password.
type LDAP struct {
	Port, TLS int    // STARTTLS offered on Port
	CA        string // PEM file

	processes
}

// StartLDAP runs one until the test ends.
func StartLDAP(t testing.TB) *LDAP {
	t.Helper()
	opt := unpacked(t, "ldap")
	var l *LDAP
	begin(t, "OpenLDAP", func() (*processes, error) {
		l = &LDAP{}
		return &l.processes, l.start(opt)
	})
	return l
}

func (l *LDAP) start(opt string) error {
	if err := l.folder(); err != nil {
		return err
	}
	var err error
	if l.CA, err = certificates(filepath.Join(l.dir, "certs")); err != nil {
		return err
	}
	ports, err := l.ports.take(2)
	if err != nil {
		return err
	}
	l.Port, l.TLS = ports[0], ports[1]
	conf, data := filepath.Join(l.dir, "slapd.conf"), filepath.Join(l.dir, "people.ldif")
	err = errors.Join(makeDirs(l.dir, 0, "db"), os.WriteFile(data, []byte(people()), 0o600),
		render("slapd.conf", conf, map[string]any{"Opt": opt, "Dir": l.dir, "Admin": LDAPAdmin, "Password": LDAPPassword}))
	if err != nil {
		return err
	}
	slapd := filepath.Join(opt, "usr", "sbin", "slapd")
	env := append(os.Environ(), libraries(opt))
	add := exec.Command(slapd, "-T", "add", "-f", conf, "-l", data)
	add.Env = env
	if out, err := add.CombinedOutput(); err != nil {
		return fmt.Errorf("slapadd: %w: %s", err, out)
	}
	urls := fmt.Sprintf("ldap://%s ldaps://%s", Addr(l.Port), Addr(l.TLS))
	if err := l.run("slapd", func(c *exec.Cmd) { c.Env = env }, slapd, "-d", "0", "-f", conf, "-h", urls); err != nil {
		return err
	}
	end := time.Now().Add(deadline)
	return errors.Join(l.wait(l.Port, end), l.wait(l.TLS, end))
}

// people is the directory as LDIF.
func people() string {
	var b strings.Builder
	b.WriteString("dn: dc=example,dc=com\nobjectClass: domain\ndc: example\n\ndn: " + People + "\nobjectClass: organizationalUnit\nou: people\n\n")
	person := func(uid, mail, password string) {
		fmt.Fprintf(&b, "dn: uid=%s,%s\nobjectClass: inetOrgPerson\nuid: %s\ncn: %s\nsn: %s\nmail: %s\n%s\n", uid, People, uid, uid, uid, mail, password)
	}
	for n := 1; n <= 10; n++ {
		name, _, _ := strings.Cut(User(n), "@")
		person(name, User(n), "userPassword: "+Password(n)+"\n")
	}
	person("none", "none@example.com", "")
	return b.String()
}
