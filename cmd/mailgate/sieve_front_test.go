package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// sieveConnect runs sieve-connect through its actions, and gives what it printed and returned.
func sieveConnect(a *at, addr, name string) (out string) {
	_, port, _ := net.SplitHostPort(addr)
	good := a.file("good.sieve", "require \"fileinto\";\r\nif header :contains \"subject\" \"x\" { fileinto \"Sent\"; }\r\n"+strings.Repeat("# a comment that makes it longer\r\n", 500))
	bad := a.file("bad.sieve", "require \"nothing-of-the-kind\";\r\n")
	do := func(args ...string) {
		out += a.command(a.password+"\n", "sieve-connect", append([]string{"--server", "localhost", "--port", port, "--user", a.user, "--authmech", "PLAIN", "--passwordfd", "0",
			"--tlscafile", a.ca, "--tlshostname", name}, args...)...)
	}
	do("--list")
	do("--upload", "--localsieve", good, "--remotesieve", "mine")
	do("--upload", "--localsieve", bad, "--remotesieve", "theirs")
	do("--activate", "--remotesieve", "mine")
	do("--list")
	do("--download", "--remotesieve", "mine", "--localsieve", filepath.Join(a.dir, "back"))
	b, _ := os.ReadFile(filepath.Join(a.dir, "back"))
	out += string(b)
	do("--delete", "--remotesieve", "mine")
	do("--deactivate")
	do("--delete", "--remotesieve", "mine")
	do("--list")
	return out
}

// TestSieveFront: a real client of ManageSieve sees the same directly and through the gateway, on a Dovecot and on a Cyrus; a flip ends a
// session with BYE, and the next one is on the other side.
func TestSieveFront(t *testing.T) {
	t.Parallel()
	l, cyrus := lab.Start(t), lab.StartCyrus(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	var both []byte
	for _, f := range []string{l.CA, cyrus.CA} {
		b, err := os.ReadFile(f)
		must(t, err)
		both = append(both, b...)
	}
	must(t, os.WriteFile(ca, both, 0o600))
	side := func(h lab.Host) string {
		return fmt.Sprintf("{imap: 'imap://127.0.0.1:%d', submission: 'submission://127.0.0.1:1', sieve: 'sieve+starttls://localhost:%d', client_address: true, tls: {ca: %s}}", h.IMAP, h.Sieve, ca)
	}
	g := newGate(t, side(l.Old), side(cyrus.Host), twoUsers, "")
	stls, clear := g.listener("sieve+starttls"), g.listener("sieve")
	g.start()
	defer g.stop()
	for n, h := range []lab.Host{l.Old, cyrus.Host} {
		t.Run(h.Name, func(t *testing.T) {
			var got [2]string
			for i := range 2 {
				a := &at{t: t, user: lab.User(n + 1), password: lab.Password(n + 1), dir: t.TempDir(), host: h, ca: []string{l.CA, cyrus.CA}[n]}
				addr, name := lab.Addr(h.Sieve), "localhost"
				if i == 1 {
					addr, a.ca = stls, filepath.Join(g.dir, "cert.pem")
				}
				c := direct(t, h, a.user, a.password) // the account comes into being
				c.Close()
				_, port, _ := net.SplitHostPort(addr)
				got[i] = normal(strings.NewReplacer(a.dir, "DIR", port, "PORT").Replace(sieveConnect(a, addr, name)))
			}
			if d := differ(got[0], got[1]); d != "" {
				t.Error(d)
			}
			if !strings.Contains(got[0], "a comment that makes it longer") || !strings.Contains(got[0], "ACTIVE") || strings.Count(got[0], "exit 0") < 5 {
				t.Errorf("it has done nothing:\n%.3000s", got[0])
			}
		})
	}
	t.Run("flip", func(t *testing.T) {
		direct(t, cyrus.Host, lab.User(1), lab.Password(1)).Close() // Cyrus lets nobody at his scripts who has no mailbox
		in := func() *lines {
			c := rawDial(t, clear, false)
			c.until(t, "OK")
			c.send(t, "AUTHENTICATE \"PLAIN\" \""+plain(lab.User(1), lab.Password(1))+"\"\r\n")
			c.until(t, "OK")
			return c
		}
		c := in()
		c.send(t, "PUTSCRIPT \"a\" {5+}\r\nkee")
		flip := g.command("flip", lab.User(1), "new", "--yes")
		out := &syncBuffer{}
		flip.Stdout, flip.Stderr = out, out
		must(t, flip.Start())
		time.Sleep(300 * time.Millisecond)
		c.send(t, "p;\r\n")
		c.until(t, "OK")
		c.until(t, "BYE (TRYLATER) ")
		if err := flip.Wait(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		c = in()
		c.send(t, "CAPABILITY\r\n")
		if s := c.until(t, "\"IMPLEMENTATION\""); !strings.Contains(s, "Cyrus") {
			t.Errorf("%s", s)
		}
	})
	t.Run("doctor", func(t *testing.T) {
		secret := filepath.Join(g.dir, "secret")
		g.write(secret, lab.Password(1)+"\n")
		b, _ := g.command("doctor", "--user", lab.User(1), "--password-file", secret).CombinedOutput()
		out := strings.Join(strings.Fields(string(b)), " ")
		for _, want := range []string{"sieve extensions", "only on OLD: ", "old sieve as " + lab.User(1), "new sieve as " + lab.User(1), "scripts: \"a\""} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q:\n%s", want, b)
			}
		}
		if strings.Contains(out, "what listens here is not it") {
			t.Errorf("%s", b)
		}
	})
}
