package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/mailtest/lab"
)

// doorGate is a gate with every door in clear and with STARTTLS, before hosts of any kind.
type doorGate struct {
	*popGate
	sieve, sieveSTLS string // "" where a host has no ManageSieve
}

// newDoorGate puts user1 on the first host, user2 on the second. Both submit at the lab's Postfix. ca is of all of them.
func newDoorGate(t *testing.T, l *lab.Lab, old, new account, ca string) *doorGate {
	t.Helper()
	side := func(h account) string {
		sieve := ""
		if h.Sieve != 0 {
			sieve = fmt.Sprintf("sieve: 'sieve+starttls://localhost:%d', ", h.Sieve)
		}
		return fmt.Sprintf("{imap: 'imap://127.0.0.1:%d', submission: 'submission+starttls://localhost:%d', pop3: 'pop3+starttls://localhost:%d', %stls: {ca: %s}}",
			h.IMAP, l.Old.Submission, h.POP3, sieve, ca)
	}
	g := &doorGate{popGate: &popGate{gate: newGate(t, side(old), side(new), twoUsers, "")}}
	g.plain, g.stls = g.listener("pop3"), g.listener("pop3+starttls")
	if old.Sieve != 0 && new.Sieve != 0 {
		g.sieve, g.sieveSTLS = g.listener("sieve"), g.listener("sieve+starttls")
	}
	return g
}

// TestEachDoor holds what is said directly to a Dovecot, a Cyrus and a Courier against what is said through the gateway: the dialogue files and
// the clients of POP3 and ManageSieve, and the readers of mail by IMAP on a Cyrus and a Courier.
func TestEachDoor(t *testing.T) {
	t.Parallel()
	l, cyrus, courier := lab.Start(t), lab.StartCyrus(t), lab.StartCourier(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	var all []byte
	for _, file := range []string{l.CA, cyrus.CA, courier.CA} {
		b, err := os.ReadFile(file)
		must(t, err)
		all = append(all, b...)
	}
	must(t, os.WriteFile(ca, all, 0o600))
	t.Run("pairs", func(t *testing.T) { // returns when both have ended
		for _, pair := range [][2]account{
			{{l.Old, 1, l.CA, l.Reset}, {cyrus.Host, 2, cyrus.CA, cyrus.Reset}},
			{{courier.Host, 1, courier.CA, courier.Reset}, {l.New, 2, l.CA, l.Reset}},
		} {
			t.Run(pair[0].Name+" and "+pair[1].Name, func(t *testing.T) {
				t.Parallel()
				g := newDoorGate(t, l, pair[0], pair[1], ca)
				g.start()
				defer g.stop()
				for _, who := range pair {
					t.Run(who.Name, func(t *testing.T) { g.openDoors(t, l, who) })
				}
			})
		}
	})
}

// openDoors runs all that is for a host.
func (g *doorGate) openDoors(t *testing.T, l *lab.Lab, who account) {
	emptyInbox(t, who.Host, who.n)
	for _, d := range dialogueFiles(t, "pop3") {
		t.Run("pop3 "+d.name, func(t *testing.T) {
			d.compare(t, who, [2]spoken{{lab.Addr(who.POP3), who.ca}, {g.at(d, g.plain, g.stls), filepath.Join(g.dir, "cert.pem")}}, func() { emptyInbox(t, who.Host, who.n) },
				func() string { return popInbox(t, who.Host, who.n, false) }, g.kick)
		})
	}
	g.popCourses(t, who)
	if g.sieve != "" {
		direct(t, who.Host, lab.User(who.n), lab.Password(who.n)).Close() // Cyrus lets nobody at his scripts who has no mailbox
		for _, d := range dialogueFiles(t, "sieve") {
			t.Run("sieve "+d.name, func(t *testing.T) {
				d.compare(t, who, [2]spoken{{lab.Addr(who.Sieve), who.ca}, {g.at(d, g.sieve, g.sieveSTLS), filepath.Join(g.dir, "cert.pem")}},
					func() { noScripts(t, who) }, func() string { return scriptsOf(t, who) }, g.kick)
			})
		}
	}
	if who.Name != "cyrus" && who.Name != "courier" {
		return // TestClients has them on Dovecots
	}
	who.Submission = l.Old.Submission
	for _, c := range clients {
		switch c.name {
		case "mutt", "neomutt", "offlineimap":
			t.Run(c.name, func(t *testing.T) { compare(t, who, g.gate, false, c.name, c.run) })
		}
	}
}

// kick asks serve to end a user's sessions, each between two commands.
func (g *doorGate) kick(user string) (k admin.Kicked) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	socket := filepath.Join(g.dir, "state", "control.sock")
	must(g.t, admin.Client{Socket: socket}.Call(ctx, http.MethodPost, "/kick", url.Values{"user": {user}}, &k))
	return k
}

// at is where a dialogue is held: one that begins TLS is of the listener that offers it.
func (g *doorGate) at(d *dialogueFile, clear, stls string) string {
	if !d.tls {
		return clear
	}
	_, port, _ := net.SplitHostPort(stls)
	return net.JoinHostPort("127.0.0.1", port)
}

// noScripts deletes a user's scripts.
func noScripts(t *testing.T, who account) {
	t.Helper()
	c := lab.DialSieve(t, who.Host, who.n)
	defer c.Close()
	c.Try(`SETACTIVE ""`)
	scripts, _ := c.All()
	for name := range scripts {
		c.Delete(name)
	}
}

// scriptsOf is every script of a user.
func scriptsOf(t *testing.T, who account) string {
	t.Helper()
	c := lab.DialSieve(t, who.Host, who.n)
	defer c.Close()
	scripts, active := c.All()
	return fmt.Sprintf("%q, active %q", scripts, active) // maps are printed in order
}
