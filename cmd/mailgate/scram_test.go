package main

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/mailtest/lab"
)

// scramHost is a server of SCRAM, or the gateway before it: the address of each protocol that it has, in clear.
type scramHost map[config.Protocol]string

// scramIn logs in by SCRAM and asks for something; what the server answers at the end, and whether it has proved itself.
func scramIn(t *testing.T, p config.Protocol, addr, mechanism, gs2, user, password string) (answer string, verified bool) {
	t.Helper()
	c := rawDial(t, addr, false)
	defer c.Close() // Cyrus lets nobody else at a user's scripts before that
	x := mailtest.NewScramClient(mechanism, gs2, user, password)
	b64 := base64.StdEncoding.EncodeToString
	first := b64([]byte(x.First()))
	quote, more, end, next := "", "+ ", "", "" // around responses; before challenges and the answer; a command for behind the login
	switch p {
	case config.IMAP:
		c.until(t, "* OK")
		c.send(t, "s AUTHENTICATE "+mechanism+" "+first+"\r\n")
		end, next = "s ", "z STATUS INBOX (MESSAGES)\r\n"
	case config.POP3:
		c.until(t, "+OK")
		c.send(t, "AUTH "+mechanism+" "+first+"\r\n")
		next = "STAT\r\n"
	case config.Sieve:
		c.until(t, "OK")
		c.send(t, `AUTHENTICATE "`+mechanism+`" "`+first+"\"\r\n")
		quote, more, next = `"`, `"`, "LISTSCRIPTS\r\n"
	default:
		c.until(t, "220")
		c.send(t, "EHLO client.example.org\r\n")
		c.until(t, "250 ")
		c.send(t, "AUTH "+mechanism+" "+first+"\r\n")
		more, next = "334 ", "MAIL FROM:<"+user+">\r\n"
	}
	for {
		line := c.until(t, "")
		if p == config.Sieve && strings.HasPrefix(line, "{") {
			line = `"` + c.until(t, "") + `"`
		}
		if challenge, ok := strings.CutPrefix(line, more); ok {
			b, err := base64.StdEncoding.DecodeString(strings.Trim(challenge, `"`))
			must(t, err)
			response, err := x.Next(string(b))
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			c.send(t, quote+b64([]byte(response))+quote+"\r\n")
			continue
		}
		if !strings.HasPrefix(line, end) {
			continue // untagged
		}
		if m := regexp.MustCompile(`^OK \(SASL "([^"]*)"\)`).FindStringSubmatch(line); m != nil {
			b, err := base64.StdEncoding.DecodeString(m[1])
			must(t, err)
			must(t, x.Verify(string(b)))
		}
		if x.Verified() {
			c.send(t, next)
			c.until(t, map[config.Protocol]string{config.IMAP: "z OK", config.POP3: "+OK", config.Sieve: "OK", config.Submission: "250"}[p])
		}
		return line, x.Verified()
	}
}

// plainListeners adds listeners in clear to a gate for all protocols, and gives them.
func (g *gate) plainListeners() scramHost {
	g.t.Helper()
	out := scramHost{config.IMAP: g.imapPlain, config.Submission: g.smtp, config.POP3: port(g.t), config.Sieve: port(g.t)}
	text, err := os.ReadFile(g.file)
	must(g.t, err)
	g.write(g.file, strings.Replace(string(text), "listen: [", fmt.Sprintf("listen: [\"pop3://%s\", \"sieve://%s\", ", out[config.POP3], out[config.Sieve]), 1))
	return out
}

// TestScram: clients of SCRAM get in through the gateway as they do directly, on Dovecot, Postfix and Cyrus, by all protocols that these
// have, and are refused likewise; a flip changes nothing for them.
func TestScram(t *testing.T) {
	t.Parallel()
	l, cyrus := lab.Start(t, lab.Mechanisms("scram-sha-256 scram-sha-1")), lab.StartCyrus(t)
	side := func(h lab.Host, submission int) string {
		return fmt.Sprintf("{imap: 'imap://127.0.0.1:%d', pop3: 'pop3://127.0.0.1:%d', sieve: 'sieve://127.0.0.1:%d', submission: 'submission://127.0.0.1:%d'}",
			h.IMAP, h.POP3, h.Sieve, submission)
	}
	of := func(h lab.Host) scramHost {
		out := scramHost{config.IMAP: lab.Addr(h.IMAP), config.POP3: lab.Addr(h.POP3), config.Sieve: lab.Addr(h.Sieve)}
		if h.Submission > 0 {
			out[config.Submission] = lab.Addr(h.Submission)
		}
		return out
	}
	mixed := newGate(t, side(l.Old, l.Old.Submission), side(cyrus.Host, l.New.Submission), twoUsers+"user4@example.com old new=user4\n", "")
	dovecots := newGate(t, side(l.Old, l.Old.Submission), side(l.New, l.New.Submission), twoUsers, "")
	doors := map[*gate]scramHost{}
	for _, g := range []*gate{mixed, dovecots} {
		doors[g] = g.plainListeners()
		g.start()
		defer g.stop()
	}
	direct(t, cyrus.Host, lab.User(1), lab.Password(1)).Close() // Cyrus' accounts come into being so
	direct(t, cyrus.Host, lab.User(2), lab.Password(2)).Close()
	for _, at := range []struct {
		g    *gate
		host lab.Host
		n    int // the user whom the gate takes there
	}{{mixed, l.Old, 1}, {mixed, cyrus.Host, 2}, {dovecots, l.New, 2}} {
		for p, addr := range of(at.host) {
			for _, m := range config.RelayedMechanisms() {
				t.Run(fmt.Sprintf("%s %s %s", at.host.Name, p, m), func(t *testing.T) {
					for _, gs2 := range []string{"n,,", "y,,"} {
						want, knows := scramIn(t, p, addr, m, gs2, lab.User(at.n), lab.Password(at.n))
						got, knows2 := scramIn(t, p, doors[at.g][p], m, gs2, lab.User(at.n), lab.Password(at.n))
						if !knows || !knows2 {
							t.Errorf("directly %q %v, through the gateway %q %v", want, knows, got, knows2)
						}
					}
					if m != "SCRAM-SHA-256" {
						return // the hosts take their time to refuse
					}
					want, _ := scramIn(t, p, addr, m, "n,,", lab.User(at.n), "wrong")
					got, knows := scramIn(t, p, doors[at.g][p], m, "n,,", lab.User(at.n), "wrong")
					refusal := map[config.Protocol]string{config.IMAP: "s NO [AUTHENTICATIONFAILED]", config.POP3: "-ERR [AUTH]", config.Sieve: `NO "Auth`, config.Submission: "535 5.7.8"}[p]
					if knows || !strings.HasPrefix(got, refusal) {
						t.Errorf("a wrong password: directly %q, through the gateway %q, want %q", want, got, refusal)
					}
				})
			}
		}
	}
	t.Run("names that differ", func(t *testing.T) {
		got, _ := scramIn(t, config.IMAP, doors[mixed][config.IMAP], "SCRAM-SHA-256", "n,,", lab.User(4), lab.Password(4))
		if !strings.HasPrefix(got, "s NO [CANNOT]") {
			t.Error(got)
		}
	})
	t.Run("real clients", func(t *testing.T) { scramClients(t, doors[dovecots], l.Old) })
	t.Run("flip", func(t *testing.T) {
		dovecots.run(0, "flip", lab.User(1), "new", "--yes")
		for p := range doors[dovecots] {
			if got, knows := scramIn(t, p, doors[dovecots][p], "SCRAM-SHA-256", "n,,", lab.User(1), lab.Password(1)); !knows {
				t.Errorf("%s: %s", p, got)
			}
		}
	})
	t.Run("doctor", func(t *testing.T) {
		b, _ := mixed.command("doctor").CombinedOutput()
		out := strings.Join(strings.Fields(string(b)), " ")
		for _, p := range config.Protocols() {
			if !strings.Contains(out, string(p)+" logins") {
				t.Errorf("nothing of %s", p)
			}
		}
		if !strings.Contains(out, "SASL mechanisms for clients, under TLS: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-1") ||
			!strings.Contains(out, "not offered: XOAUTH2 (neither side lists it), OAUTHBEARER (neither side lists it)") {
			t.Errorf("%s", b)
		}
	})
	t.Run("Cyrus under TLS", func(t *testing.T) { // it has channel binding then, always
		g := newGate(t, side(l.Old, l.Old.Submission), fmt.Sprintf("{imap: 'imap+starttls://localhost:%d', submission: 'submission://127.0.0.1:1', tls: {ca: %s}}", cyrus.IMAP, cyrus.CA), twoUsers, "")
		b, _ := g.command("doctor", "--before-insertion").CombinedOutput()
		if out := strings.Join(strings.Fields(string(b)), " "); !strings.Contains(out, "under TLS: PLAIN, LOGIN not offered: ") ||
			!strings.Contains(out, "(Dovecot: method=) lost: SCRAM-SHA-256, SCRAM-SHA-1") ||
			!strings.Contains(out, "SCRAM-SHA-256 (NEW lists SCRAM-SHA-256-PLUS, which binds") {
			t.Errorf("%s", b)
		}
	})
	for _, g := range []*gate{mixed, dovecots} {
		if s := g.log.String(); strings.Contains(s, ",r=") || strings.Contains(s, ",p=") || strings.Contains(s, "pass1") {
			t.Error("a message of an exchange is in the log")
		}
	}
}

// scramClients has mutt read and send, and mpop fetch, by SCRAM and nothing else: as directly, so through the gateway.
func scramClients(t *testing.T, doors scramHost, h lab.Host) {
	var got [2]string
	for i, hosts := range []scramHost{{config.IMAP: lab.Addr(h.IMAP), config.POP3: lab.Addr(h.POP3), config.Submission: lab.Addr(h.Submission)}, doors} {
		emptyInbox(t, h, 1)
		a := &at{t: t, user: lab.User(1), password: lab.Password(1), dir: t.TempDir(), host: h}
		clean := []string{a.dir, "DIR"}
		for p, addr := range hosts {
			_, port, _ := net.SplitHostPort(addr)
			clean = append(clean, addr, string(p), "port "+port, "port PORT", ":"+port, ":PORT")
		}
		got[i] = normal(strings.NewReplacer(clean...).Replace(scramCourse(a, hosts)))
	}
	if d := differ(got[0], got[1]); d != "" {
		t.Error(d)
	}
	if strings.Count(got[0], "Subject: seed 1") != 2 || strings.Count(got[0], "exit 0") != 3 || strings.Count(got[0], "exit ") != 4 {
		t.Errorf("the clients have not done their work: %.3000s", got[0])
	}
}

// scramCourse is what the clients do, and what comes of it.
func scramCourse(a *at, hosts scramHost) (out string) {
	a.t.Helper()
	local := filepath.Join(a.dir, "copy")
	rc := a.file("muttrc", fmt.Sprintf(`set imap_user="%s" imap_pass="%s" imap_authenticators="scram-sha-256"
set smtp_url="smtp://%s@%s/" smtp_pass="%s" smtp_authenticators="scram-sha-256"
set ssl_starttls=no ssl_force_tls=no folder="imap://%s/" spoolfile="imap://%s/INBOX" record="" postponed=""
set from="%s" realname="Tester" use_from=yes hostname=client.example.org
set confirmappend=no confirmcreate=no delete=yes quit=yes move=no mark_old=no wait_key=no mbox_type=mbox
set header_cache="" message_cachedir="" tmpdir="%s" history_file="" sleep_time=0 imap_idle=no timeout=600 mail_check=600
`, a.user, a.password, strings.Replace(a.user, "@", "%40", 1), hosts[config.Submission], a.password, hosts[config.IMAP], hosts[config.IMAP], a.user, a.dir))
	keys := "<first-entry><next-entry><copy-message>" + local + "<enter><quit>"
	screen := a.command("", "script", "-qec", fmt.Sprintf(`mutt -n -F %s -e 'push "%s"'`, rc, keys), "/dev/null")
	out += screen[strings.LastIndex(screen, "\nscript: exit"):]
	out += a.command("hello\n", "mutt", "-n", "-F", rc, "-s", "by mutt", "user5@example.com")
	host, port, _ := net.SplitHostPort(hosts[config.POP3])
	for _, password := range []string{a.password, "wrong"} {
		rc := a.file("mpoprc", fmt.Sprintf("account default\nhost %s\nport %s\nuser %s\npassword %s\nauth scram-sha-256\ntls off\nkeep on\nreceived_header off\ndelivery mbox %s/box\nuidls_file %s/uidls\n",
			host, port, a.user, password, a.dir, a.dir))
		out += a.command("", "mpop", "-C", rc, "-q")
	}
	for _, f := range []string{local, filepath.Join(a.dir, "box")} {
		b, err := os.ReadFile(f)
		must(a.t, err)
		out += regexp.MustCompile(`(?m)^From .*$`).ReplaceAllString(string(b), "From at some time")
	}
	return out
}
