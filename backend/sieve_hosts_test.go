package backend

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/mailtest/lab"
)

// TestSieveHosts: Pigeonhole and timsieved, over STARTTLS, with a user's password and for him by the master. What is written is what a
// reader that shares no code finds.
func TestSieveHosts(t *testing.T) {
	l, cy := lab.Start(t), lab.StartCyrus(t)
	for _, x := range []struct {
		host lab.Host
		ca   string
	}{{l.Old, l.CA}, {cy.Host, cy.CA}} {
		t.Run(x.host.Name, func(t *testing.T) {
			lab.Dial(t, x.host, 1).Close() // an account of Cyrus comes into being so
			b := config.Backend{ConnectTimeout: 10 * time.Second, LoginTimeout: 10 * time.Second, CA: x.ca, Hosts: []config.Host{{Name: "h",
				Sieve: config.Endpoint{Protocol: config.Sieve, Mode: config.StartTLS, Host: "127.0.0.1", Port: x.host.Sieve}}}}
			d, err := NewDialer([2]config.Backend{b, b}, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			open := func(authzid, login, password string) (*SieveClient, error) {
				cr, err := auth.Password("PLAIN", login, password)
				if err != nil {
					t.Fatal(err)
				}
				return d.DialSieve(t.Context(), config.Old, "", Account{Credentials: cr, LoginName: login, Authzid: authzid})
			}
			if c, err := open("", lab.User(1), "wrong"); err == nil {
				c.Close()
				t.Error("let in with a wrong password")
			}
			c, err := open("", lab.User(1), lab.Password(1))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			text := "require \"fileinto\";\r\n" + strings.Repeat("# {5}\r\n# \"\\\r\n", 70000) + "fileinto \"a\";\n"
			if _, err := c.Put(t.Context(), "regeln 1", text); err != nil {
				t.Fatal(err)
			}
			if err := c.Activate(t.Context(), "regeln 1"); err != nil {
				t.Fatal(err)
			}
			if err := c.Delete(t.Context(), "regeln 1"); SieveRefused(err) == nil || !SieveRefused(err).Has("ACTIVE") {
				t.Errorf("the active script is deleted: %v", err)
			}
			if _, err := c.Check(t.Context(), "require \"vnd.none\";\r\nkeep;\r\n"); SieveRefused(err) == nil || !strings.Contains(err.Error(), "vnd.none") {
				t.Errorf("an extension that there is not: %v", err)
			}
			if _, err := c.Check(t.Context(), "keep;"); err != nil {
				t.Error(err)
			}
			if lacks := c.Capabilities().Lacks([]string{"fileinto", "vnd.none"}); len(lacks) != 1 {
				t.Errorf("lacks %q", lacks)
			}
			r := lab.DialSieve(t, x.host, 1)
			defer r.Close()
			if all, active := r.All(); len(all) != 1 || all["regeln 1"] != text || active != "regeln 1" {
				t.Errorf("%d scripts, %d bytes, active %q", len(all), len(all["regeln 1"]), active)
			}
			m, err := open(lab.User(1), lab.MasterUser, lab.MasterPassword)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			list, err := m.List(t.Context())
			if err != nil || len(list) != 1 || !list[0].Active {
				t.Errorf("the master sees %v, %v", list, err)
			}
			if got, err := m.Get(t.Context(), "regeln 1"); err != nil || got != text {
				t.Errorf("the master reads %d bytes, %v", len(got), err)
			}
			if err := m.Logout(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
