package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailgate/mailtest/lab"
)

// popGate is a gate that serves POP3 too.
type popGate struct {
	*gate
	plain, stls, tls string // its listeners
}

func newPopGate(t *testing.T, old, new lab.Host, ca string) *popGate {
	t.Helper()
	side := func(h lab.Host) string {
		return fmt.Sprintf("{imap: 'imap://127.0.0.1:%d', submission: 'submission://127.0.0.1:1', pop3: 'pop3+starttls://localhost:%d', tls: {ca: %s}}", h.IMAP, h.POP3, ca)
	}
	g := &popGate{gate: newGate(t, side(old), side(new), twoUsers, "flip: {deadline: 12s}\n")}
	g.plain, g.stls, g.tls = g.listener("pop3"), g.listener("pop3+starttls"), g.listener("pop3s")
	return g
}

// popAt is where a POP3 client works.
type popAt struct {
	*at
	addr string // in clear
	stls string // STLS here, "" where the course is in clear
}

// popClients run their course and return what they printed.
var popClients = []struct {
	name string
	run  func(*popAt) string
}{{"curl", popCurl}, {"fetchmail", fetchmail}, {"getmail", getmail}, {"mpop", mpop}, {"mutt", popMutt}, {"neomutt", popNeomutt}}

func popCurl(a *popAt) (out string) {
	do := func(path string, more ...string) {
		args := []string{"-sS", "--max-time", "90", "-u", a.user + ":" + a.password, "--url", "pop3://" + a.addr + path}
		out += a.command("", "curl", append(args, more...)...)
	}
	if a.stls != "" {
		do = func(path string, more ...string) {
			args := []string{"-sS", "--max-time", "90", "-u", a.user + ":" + a.password, "--url", "pop3://" + a.stls + path, "--ssl-reqd", "--cacert", a.ca}
			out += a.command("", "curl", append(args, more...)...)
		}
	}
	do("/")
	before := out
	do("/", "-X", "UIDL")
	out = before + regexp.MustCompile(`(?m)^(\d+) \S+\r?$`).ReplaceAllString(out[len(before):], "$1 UIDL")
	do("/2")
	do("/1", "-X", "TOP 1 2")
	do("/", "-I", "-X", "DELE 1")
	do("/99")
	do("/")
	return out
}

// pass is a client's host and port.
func (a *popAt) hostPort() (host, port string) {
	addr := a.addr
	if a.stls != "" {
		addr = a.stls
	}
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}

func fetchmail(a *popAt) (out string) {
	host, port := a.hostPort()
	secure := "sslproto ''"
	if a.stls != "" {
		secure = "sslproto 'TLS1.2+' sslcertck sslcertfile " + a.ca + " sslcommonname localhost"
		host = "localhost"
	}
	must(a.t, os.MkdirAll(filepath.Join(a.dir, "mail"), 0o755))
	for _, keep := range []string{"keep", "keep", "nokeep"} { // the second one must find nothing new, by UIDL
		rc := a.file("fetchmailrc", fmt.Sprintf("set idfile '%s/ids'\nset pidfile '%s/pid'\npoll %s service %s protocol pop3 uidl timeout 90\n user '%s' password '%s' %s %s mda \"sh -c 'cat >>%s/mail/all'\"\n",
			a.dir, a.dir, host, port, a.user, a.password, keep, secure, a.dir))
		out += a.command("", "fetchmail", "-f", rc, "--invisible", "--nosyslog", "-s")
	}
	return out
}

// patientGetmail is getmail, whose wait for the process that files a message cannot miss its end: as it comes, it waits a minute for one
// that has ended before the wait begins, and calls the message not delivered.
const patientGetmail = `import os, runpy, sys
from getmailcore.baseclasses import ForkingBase
ForkingBase._prepare_child = lambda self: None
ForkingBase._wait_for_child = lambda self, pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.argv[:2] = ["getmail"]
runpy.run_path("/usr/bin/getmail", run_name="__main__")
`

func getmail(a *popAt) (out string) {
	host, port := a.hostPort()
	md := filepath.Join(a.dir, "md")
	must(a.t, errors.Join(os.Chmod(filepath.Dir(a.dir), 0o755), os.Chmod(a.dir, 0o755)))
	for _, d := range []string{"", "cur", "new", "tmp"} {
		must(a.t, os.MkdirAll(filepath.Join(md, d), 0o700))
		must(a.t, os.Chown(filepath.Join(md, d), 65534, 65534)) // it delivers as root to nobody's mailbox
	}
	for _, options := range []string{"delete = false\nread_all = false", "delete = false\nread_all = false", "delete = true\nread_all = true"} {
		rc := a.file("getmailrc", fmt.Sprintf("[retriever]\ntype = SimplePOP3Retriever\nserver = %s\nport = %s\nusername = %s\npassword = %s\n[destination]\ntype = Maildir\npath = %s/\nuser = nobody\n[options]\n%s\nreceived = false\ndelivered_to = false\nverbose = 0\n",
			host, port, a.user, a.password, md, options))
		out += a.command("", "/usr/bin/python3", "-c", patientGetmail, "getmail", "--getmaildir", a.dir, "--rcfile", rc)
	}
	files, err := filepath.Glob(filepath.Join(md, "new", "*"))
	must(a.t, err)
	var all []string // their names are made of time and process
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(a.t, err)
		all = append(all, string(b))
	}
	slices.Sort(all)
	a.file("mail/all", strings.Join(all, "\n"))
	return out
}

func mpop(a *popAt) (out string) {
	host, port := a.hostPort()
	secure := "tls off"
	if a.stls != "" {
		host, secure = "localhost", "tls on\ntls_starttls on\ntls_trust_file "+a.ca
	}
	must(a.t, os.MkdirAll(filepath.Join(a.dir, "mail"), 0o755))
	for _, keep := range []string{"keep on", "keep on", "keep off"} {
		rc := a.file("mpoprc", fmt.Sprintf("account default\nhost %s\nport %s\nuser %s\npassword %s\nauth plain\n%s\n%s\nreceived_header off\ndelivery mbox %s/mail/box\nuidls_file %s/uidls\n",
			host, port, a.user, a.password, secure, keep, a.dir, a.dir))
		out += a.command("", "mpop", "-C", rc, "-q")
	}
	return out
}

// popCourses runs each client directly against a host and through the gateway: what it prints and returns, its files and what is left in the
// mailbox must be the same.
func (g *popGate) popCourses(t *testing.T, who account) {
	for _, c := range popClients {
		for _, secure := range []bool{false, true} {
			switch c.name {
			case "getmail": // it has no STLS
				if secure {
					continue
				}
			case "mutt", "neomutt": // slow ones: each host sees one of the two
				if secure != (who.n == 1) {
					continue
				}
			}
			t.Run("pop3 "+c.name+map[bool]string{true: " STLS"}[secure], func(t *testing.T) {
				g.comparePop(t, who.Host, who.n, secure, who.ca, c.run)
			})
		}
	}
}

func (g *popGate) comparePop(t *testing.T, h lab.Host, n int, secure bool, ca string, run func(*popAt) string) {
	var got [2]outcome
	for i := range 2 {
		got[i] = g.popCourse(t, h, n, secure, ca, i == 1, run)
	}
	for _, part := range []struct{ what, direct, through string }{{"printed", got[0].printed, got[1].printed}, {"files", got[0].files, got[1].files}, {"mail left", got[0].mail, got[1].mail}} {
		if d := differ(part.direct, part.through); d != "" {
			t.Errorf("%s %s", part.what, d)
		}
	}
	if !strings.Contains(got[0].printed+got[0].files, "Subject: seed 1") {
		t.Errorf("the client has done nothing: %.500s\n%.500s", got[0].printed, got[0].files)
	}
}

// popCourse runs a client once.
func (g *popGate) popCourse(t *testing.T, h lab.Host, n int, secure bool, ca string, through bool, run func(*popAt) string) (got outcome) {
	t.Helper()
	emptyInbox(t, h, n)
	a := &popAt{at: &at{t: t, user: lab.User(n), password: lab.Password(n), dir: t.TempDir(), host: h, ca: ca}, addr: lab.Addr(h.POP3)}
	if secure {
		a.stls = fmt.Sprintf("localhost:%d", h.POP3)
	}
	if through {
		if a.addr = g.plain; secure {
			_, port, _ := net.SplitHostPort(g.stls)
			a.stls, a.ca = "localhost:"+port, filepath.Join(g.dir, "cert.pem")
		}
	}
	must(t, os.MkdirAll(filepath.Join(a.dir, "mail"), 0o755))
	host, port := a.hostPort()
	clean := strings.NewReplacer(a.dir, "DIR", net.JoinHostPort(host, port), "ADDR", ":"+port, ":PORT", "port "+port, "port PORT")
	got.printed = normal(clean.Replace(run(a)))
	got.files = regexp.MustCompile(`(?m)^From .*$`).ReplaceAllString(normal(clean.Replace(tree(t, filepath.Join(a.dir, "mail")))), "From at some time")
	got.mail = popInbox(t, h, n, false)
	return got
}

// emptyInbox leaves three messages in a user's INBOX.
func emptyInbox(t *testing.T, h lab.Host, n int) {
	t.Helper()
	// Courier lists messages by the names of their files, which hold the microseconds of the append without leading zeros: all three go into
	// the part of one second where there are none.
	for {
		popInbox(t, h, n, true)
		c := direct(t, h, lab.User(n), lab.Password(n))
		if ms := time.Now().Nanosecond() / 1e6; ms < 100 {
			time.Sleep(time.Duration(100-ms) * time.Millisecond)
		} else if ms > 700 {
			time.Sleep(time.Duration(1100-ms) * time.Millisecond)
		}
		second := time.Now().Unix()
		for i := range 3 {
			put(t, c, "INBOX", fmt.Sprintf("From: sender%d@example.org\r\nTo: %s\r\nSubject: seed %d\r\nMessage-ID: <seed%d@example.org>\r\nDate: Mon, 1 Jun 2026 10:0%d:00 +0000\r\n\r\n.\r\n..\r\nbody %d\r\n%s",
				i, lab.User(n), i, i, i, i, strings.Repeat("line\r\n", i*300)), nil)
		}
		c.Close()
		if time.Now().Unix() == second {
			return
		}
	}
}

// TestPOP3Flip: a session with messages marked as deleted holds a flip until its QUIT, or until the deadline, and never loses what it has
// marked; then the user is on NEW.
func TestPOP3Flip(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := newPopGate(t, l.Old, l.New, l.CA)
	g.start()
	defer g.stop()
	emptyInbox(t, l.Old, 1)
	in := func() *lines {
		t.Helper()
		c := rawDial(t, g.plain, false)
		c.until(t, "+OK")
		c.send(t, "USER user1@example.com\r\nPASS pass1\r\n")
		c.until(t, "+OK")
		c.until(t, "+OK")
		return c
	}
	idle, marked := in(), in()
	marked.send(t, "DELE 1\r\n")
	marked.until(t, "+OK")
	flip := g.command("flip", "user1@example.com", "new", "--yes")
	out := &syncBuffer{}
	flip.Stdout, flip.Stderr = out, out
	must(t, flip.Start())
	idle.until(t, "-ERR [SYS/TEMP] ")
	time.Sleep(time.Second)
	marked.send(t, "RETR 2\r\n")
	marked.until(t, ".")
	marked.send(t, "QUIT\r\n")
	marked.until(t, "+OK")
	if err := flip.Wait(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if s := popInbox(t, l.Old, 1, false); strings.Contains(s, "seed 0") || !strings.Contains(s, "seed 1") {
		t.Errorf("left on OLD: %.300s", s)
	}
	c := in()
	c.send(t, "STAT\r\n")
	if s := c.until(t, "+OK"); s != "+OK 0 0" {
		t.Errorf("on NEW: %s", s)
	}
	if out := g.run(0, "sessions"); !strings.Contains(out, "pop3") {
		t.Errorf("%s", out)
	}

	t.Run("the deadline calls it off", func(t *testing.T) {
		emptyInbox(t, l.New, 1)
		c := in()
		c.send(t, "DELE 1\r\n")
		c.until(t, "+OK")
		if out := g.run(3, "flip", "user1@example.com", "old", "--yes"); !strings.Contains(out, "deadline") {
			t.Errorf("%s", out)
		}
		c.send(t, "QUIT\r\n")
		c.until(t, "+OK")
		if s := popInbox(t, l.New, 1, false); strings.Contains(s, "seed 0") {
			t.Errorf("left on NEW: %.300s", s)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		c, err := tls.Dial("tcp", g.tls, insecure())
		must(t, err)
		defer c.Close()
		l := &lines{Conn: c}
		l.until(t, "+OK")
		l.send(t, "AUTH PLAIN AHVzZXIxQGV4YW1wbGUuY29tAHBhc3Mx\r\nSTAT\r\n")
		l.until(t, "+OK")
		l.until(t, "+OK 2 ")
	})
	t.Run("doctor", func(t *testing.T) {
		secret := filepath.Join(g.dir, "secret")
		g.write(secret, "pass1\n")
		out, _ := g.command("doctor", "--user", "user1@example.com", "--password-file", secret).CombinedOutput()
		for _, want := range []string{"pop3 before login", "old pop3 as user1@example.com", "new pop3 as user1@example.com", "pop3 messages and UIDLs", "2 messages, the first is"} {
			if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
				t.Errorf("no %q:\n%s", want, out)
			}
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// popInbox fetches what is in a user's INBOX; with clear set it deletes all of it.
func popInbox(t *testing.T, h lab.Host, n int, clear bool) string {
	t.Helper()
	c := direct(t, h, lab.User(n), lab.Password(n))
	defer c.Close()
	sel, err := c.Select("INBOX", nil).Wait()
	must(t, err)
	if sel.NumMessages == 0 {
		return ""
	}
	var set imap.SeqSet
	set.AddRange(1, sel.NumMessages)
	list, err := c.Fetch(set, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	must(t, err)
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "%s\n", m.BodySection[0].Bytes)
	}
	if clear {
		must(t, c.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Silent: true, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close())
		must(t, c.Expunge().Close())
	}
	return b.String()
}
