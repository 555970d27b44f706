package lab

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed templates/*
var templates embed.FS

// Users of the lab: name to password, the same on both sides, at example.com.
const (
	Users    = 20          // user1@example.com to user20@example.com, password pass1 to pass20
	Accounts = 60          // there are so many on the hosts: those behind Users are for tests that need a crowd
	mailUID  = 5000        // a bare number: there is no such user
	deadline = time.Minute // for a server to answer
)

// MasterUser may open everybody's mailbox, on all hosts but Courier, which has no such login: by AUTHENTICATE PLAIN with the
// user as authorization identity, on Dovecot also as "user1@example.com*master".
const (
	MasterUser     = "master"
	MasterPassword = "masterpass"
)

// Host is one side.
type Host struct {
	Name                   string
	IMAP, IMAPS            int
	Proxied                int // IMAP that wants a PROXY header first: OLD's Dovecot only
	POP3, POP3S            int // STLS offered, not required; POP3S on Dovecot only
	Submission             int // STARTTLS offered, not required on loopback
	SASL                   int // Dovecot's auth service, for Postfix
	LMTP                   int
	Sieve                  int // ManageSieve; STARTTLS offered, not required. 0 on Courier, which has none
	Format, Sep, Prefix    string
	SieveSettings          string // of Dovecot's plugin, a line each
	Fsync                  string // Dovecot's mail_fsync, "" means never; $MAILGATE_LAB_FSYNC sets it
	Sharing                bool   // Dovecot's ACL and METADATA
	Mechanisms             string // of Dovecot, besides PLAIN and LOGIN
	Strict                 bool   // Dovecot's masters are let in only as somebody who exists
	Dir, Certs             string
	RelayPort, MailID      int  // MailID is the uid and gid that mail on the disk belongs to
	WithSubmission, Master bool // Master: MasterUser may log in
}

// SharedFormat is where the mail of others is.
func (h Host) SharedFormat() string { return strings.ReplaceAll(h.Format, "~", "%%h") }

// Home is the folder of user n, where Dovecot's and Courier's mail is.
func (h Host) Home(n int) string { return filepath.Join(h.Dir, "home", "user"+strconv.Itoa(n)) }

// User and Password are the login of user n.
func User(n int) string     { return fmt.Sprintf("user%d@example.com", n) }
func Password(n int) string { return fmt.Sprintf("pass%d", n) }

// Lab is two hosts that run.
type Lab struct {
	Dir      string
	Old, New Host
	CA       string // PEM file

	sharing, strict bool
	mailboxesOnly   bool
	mechanisms      string
	processes
}

// Option changes a Lab before it starts.
type Option func(*Lab)

// Sharing gives both Dovecots access rights (RFC 4314), mailboxes of others below "shared", and metadata (RFC 5464).
func Sharing() Option {
	return func(l *Lab) { l.sharing = true }
}

// StrictMasters has both Dovecots look a user up before the master is let in as him: then who does not exist is refused, also by SASL for
// submission. They do not slow down logins from an address of which others were refused, either: a proof is such a refusal.
func StrictMasters() Option {
	return func(l *Lab) { l.strict = true }
}

// MailboxesOnly leaves out Postfix: OLD has no Submission, and what NEW takes goes nowhere. Both start and end sooner.
func MailboxesOnly() Option {
	return func(l *Lab) { l.mailboxesOnly = true }
}

// Start runs the servers until the test ends. Without them the test fails: make setup installs them. It takes some
// seconds, so what can be told apart by users shares a lab.
func Start(t testing.TB, options ...Option) *Lab {
	t.Helper()
	for _, bin := range []string{"dovecot", "/usr/sbin/postfix", "/usr/lib/dovecot/submission-login", "/usr/lib/dovecot/lmtp",
		"/usr/lib/dovecot/managesieve-login", "/usr/lib/dovecot/pop3-login"} {
		if _, err := exec.LookPath(bin); err != nil {
			t.Fatalf("%s is not installed; run make setup", bin)
		}
	}
	if os.Getuid() != 0 {
		t.Fatal("the lab's Postfix needs root")
	}
	var l *Lab
	begin(t, "the lab", func() (*processes, error) {
		l = &Lab{}
		for _, o := range options {
			o(l)
		}
		return &l.processes, l.start()
	})
	return l
}

// start makes a folder, chooses ports, and starts all.
func (l *Lab) start() error {
	err := l.folder()
	if err != nil {
		return err
	}
	l.Dir = l.dir
	certs := filepath.Join(l.dir, "certs")
	if l.CA, err = certificates(certs); err != nil {
		return err
	}
	ports, err := l.ports.take(16)
	if err != nil {
		return err
	}
	l.Old = Host{Name: "old", IMAP: ports[0], IMAPS: ports[1], POP3: ports[11], POP3S: ports[12], Proxied: ports[15], SASL: ports[2], LMTP: ports[3], Submission: ports[4],
		Format: "maildir:~/Maildir", Sep: ".", Prefix: "INBOX.", Certs: certs, MailID: mailUID, Master: true, Sieve: ports[9],
		SieveSettings: "sieve_extensions = +editheader +vacation-seconds"} // NEW lacks these
	l.New = Host{Name: "new", IMAP: ports[5], IMAPS: ports[6], POP3: ports[13], POP3S: ports[14], LMTP: ports[7], Submission: ports[8], Format: "sdbox:~/sdbox",
		Sep: "/", Certs: certs, MailID: mailUID, Master: true, WithSubmission: true, RelayPort: ports[4],
		Sieve: ports[10], SieveSettings: "sieve_quota_max_scripts = 12"}
	for _, h := range []*Host{&l.Old, &l.New} {
		h.Fsync = os.Getenv("MAILGATE_LAB_FSYNC")
		h.Sharing, h.Strict, h.Mechanisms = l.sharing, l.strict, l.mechanisms
		h.Dir = filepath.Join(l.dir, h.Name)
		if err := l.dovecot(h); err != nil {
			return err
		}
	}
	if l.mailboxesOnly {
		l.Old.Submission = 0
		ports = slices.DeleteFunc(ports, func(p int) bool { return p == l.New.RelayPort })
	} else if err := l.postfix(); err != nil {
		return err
	}
	end := time.Now().Add(deadline)
	for _, p := range ports {
		if err := l.wait(p, end); err != nil {
			return err
		}
	}
	return nil
}

// endPostfix ends Postfix's master, which leads a session of its own: the script that started it dies without a word to it.
func (l *Lab) endPostfix(t testing.TB, showLogs bool) {
	if b, err := os.ReadFile(filepath.Join(l.dir, "postfix", "queue", "pid", "master.pid")); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid > 1 {
			_ = syscall.Kill(-pid, syscall.SIGTERM)
			l.ended = func() { _ = syscall.Kill(-pid, syscall.SIGKILL) }
		}
	}
	if b, err := os.ReadFile(filepath.Join(l.dir, "postfix", "mail.log")); err == nil && showLogs {
		t.Logf("mail.log:\n%s", tail(b, 4000))
	}
}

// Reset empties the account of user n on both sides. Nobody may be logged in to it.
func (l *Lab) Reset(t testing.TB, n int) {
	t.Helper()
	for _, h := range []Host{l.Old, l.New} {
		if err := os.RemoveAll(h.Home(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *Lab) dovecot(h *Host) error {
	for _, d := range []string{"", "run", "state", "home"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o755); err != nil {
			return err
		}
	}
	var users strings.Builder
	for i := 1; i <= Accounts; i++ {
		fmt.Fprintf(&users, "%s:{PLAIN}%s\n", User(i), Password(i))
	}
	conf := filepath.Join(h.Dir, "dovecot.conf")
	err := errors.Join(os.Chown(filepath.Join(h.Dir, "home"), mailUID, mailUID),
		os.WriteFile(filepath.Join(h.Dir, "users"), []byte(users.String()), 0o644),
		os.WriteFile(filepath.Join(h.Dir, "masters"), []byte(MasterUser+":{PLAIN}"+MasterPassword+"\n"), 0o644),
		render("dovecot.conf", conf, h))
	if err != nil {
		return err
	}
	return l.run(h.Name, nil, "dovecot", "-F", "-c", conf)
}

// postfix is OLD's submission, with OLD's Dovecot for SASL, delivering to OLD's Dovecot by LMTP.
func (l *Lab) postfix() error {
	l.ending = l.endPostfix
	dir := filepath.Join(l.Dir, "postfix")
	for _, d := range []string{"conf", "queue", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		return fmt.Errorf("chown: %w: %s", err, out)
	}
	err := errors.Join(render("main.cf", filepath.Join(dir, "conf", "main.cf"), map[string]any{"Dir": dir, "Old": l.Old}),
		render("master.cf", filepath.Join(dir, "conf", "master.cf"), map[string]any{"Port": l.Old.Submission}))
	if err != nil {
		return err
	}
	return l.run("postfix", nil, "postfix", "-c", filepath.Join(dir, "conf"), "start-fg")
}
