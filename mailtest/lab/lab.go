package lab

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"
)

//go:embed templates/*
var templates embed.FS

// Users of the lab: name to password, the same on both sides, at example.com.
const (
	Users    = 20 // user1@example.com to user20@example.com, password pass1 to pass20
	mailUID  = 5000
	deadline = 20 * time.Second // for a server to answer
)

// Host is one side.
type Host struct {
	Name                   string
	IMAP, IMAPS            int
	Submission             int // STARTTLS offered, not required on loopback
	SASL                   int // Dovecot's auth service, for Postfix
	LMTP                   int
	Format, Sep, Prefix    string
	Dir, Certs, MailHome   string
	RelayPort, MailID      int
	WithSubmission, Master bool
}

// Lab is two hosts that run.
type Lab struct {
	Dir      string
	Old, New Host
	CA       string // PEM file

	servers []*server
}

// server is a process of the lab.
type server struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when it has ended
}

// attempts is how often Start begins anew: the ports are free when they are chosen, and may be gone when they are used.
const attempts = 3

// Start runs the servers until the test ends. Without them the test fails: make setup installs them. It takes some
// seconds, so what can be told apart by users shares a lab.
func Start(t testing.TB) *Lab {
	t.Helper()
	for _, bin := range []string{"dovecot", "/usr/sbin/postfix", "/usr/lib/dovecot/submission-login", "/usr/lib/dovecot/lmtp"} {
		if _, err := exec.LookPath(bin); err != nil {
			t.Fatalf("%s is not installed; run make setup", bin)
		}
	}
	if os.Getuid() != 0 {
		t.Fatal("the lab's Postfix needs root")
	}
	for n := 1; ; n++ {
		l := &Lab{}
		err := l.start()
		if err == nil {
			t.Cleanup(func() { l.end(t, t.Failed()) })
			return l
		}
		l.end(t, n == attempts)
		if n == attempts {
			t.Fatalf("the lab does not start: %v", err)
		}
		t.Logf("the lab starts anew: %v", err)
	}
}

// start makes a folder, chooses ports, and starts all.
func (l *Lab) start() error {
	dir, err := os.MkdirTemp("", "mg") // short: Dovecot's sockets lie below, and a socket's path holds 107 bytes
	if err != nil {
		return err
	}
	l.Dir = dir
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	certs := filepath.Join(dir, "certs")
	if l.CA, err = certificates(certs); err != nil {
		return err
	}
	ports, err := freePorts(9)
	if err != nil {
		return err
	}
	l.Old = Host{Name: "old", IMAP: ports[0], IMAPS: ports[1], SASL: ports[2], LMTP: ports[3], Submission: ports[4],
		Format: "maildir:~/Maildir", Sep: ".", Prefix: "INBOX.", Certs: certs, MailID: mailUID}
	l.New = Host{Name: "new", IMAP: ports[5], IMAPS: ports[6], LMTP: ports[7], Submission: ports[8], Format: "sdbox:~/sdbox",
		Sep: "/", Certs: certs, MailID: mailUID, WithSubmission: true, RelayPort: ports[4]}
	for _, h := range []*Host{&l.Old, &l.New} {
		h.Dir = filepath.Join(dir, h.Name)
		if err := l.dovecot(h); err != nil {
			return err
		}
	}
	if err := l.postfix(); err != nil {
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

// end ends all servers and what they started, by pid, and removes the folder.
func (l *Lab) end(t testing.TB, showLogs bool) {
	for _, s := range l.servers {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
	}
	// Postfix's master leads a session of its own, and the script that started it dies without a word to it.
	if b, err := os.ReadFile(filepath.Join(l.Dir, "postfix", "queue", "pid", "master.pid")); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid > 1 {
			_ = syscall.Kill(-pid, syscall.SIGTERM)
			defer func() { _ = syscall.Kill(-pid, syscall.SIGKILL) }()
		}
	}
	patience := time.After(2 * time.Second)
	for _, s := range l.servers {
		select {
		case <-s.done:
		case <-patience:
		}
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // the process group that we made
		<-s.done
		s.log.Close()
		if showLogs {
			b, _ := os.ReadFile(s.log.Name())
			t.Logf("%s.log:\n%s", s.name, tail(b, 4000))
		}
	}
	if b, err := os.ReadFile(filepath.Join(l.Dir, "postfix", "mail.log")); err == nil && showLogs {
		t.Logf("mail.log:\n%s", tail(b, 4000))
	}
	if l.Dir != "" {
		os.RemoveAll(l.Dir)
	}
}

// Reset empties the account of user n on both sides. Nobody may be logged in to it.
func (l *Lab) Reset(t testing.TB, n int) {
	t.Helper()
	for _, h := range []Host{l.Old, l.New} {
		if err := os.RemoveAll(filepath.Join(h.Dir, "home", "user"+strconv.Itoa(n))); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *Lab) render(name, to string, data any) error {
	text, err := templates.ReadFile("templates/" + name)
	if err != nil {
		return err
	}
	tmpl, err := template.New(name).Parse(string(text))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, data); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

func (l *Lab) dovecot(h *Host) error {
	for _, d := range []string{"", "run", "state", "home"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o755); err != nil {
			return err
		}
	}
	var users strings.Builder
	for i := 1; i <= Users; i++ {
		fmt.Fprintf(&users, "user%d@example.com:{PLAIN}pass%d\n", i, i)
	}
	conf := filepath.Join(h.Dir, "dovecot.conf")
	err := errors.Join(os.Chown(filepath.Join(h.Dir, "home"), mailUID, mailUID),
		os.WriteFile(filepath.Join(h.Dir, "users"), []byte(users.String()), 0o644), l.render("dovecot.conf", conf, h))
	if err != nil {
		return err
	}
	return l.run(h.Name, "dovecot", "-F", "-c", conf)
}

// postfix is OLD's submission, with OLD's Dovecot for SASL, delivering to OLD's Dovecot by LMTP.
func (l *Lab) postfix() error {
	dir := filepath.Join(l.Dir, "postfix")
	for _, d := range []string{"conf", "queue", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		return fmt.Errorf("chown: %w: %s", err, out)
	}
	err := errors.Join(l.render("main.cf", filepath.Join(dir, "conf", "main.cf"), map[string]any{"Dir": dir, "Old": l.Old}),
		l.render("master.cf", filepath.Join(dir, "conf", "master.cf"), map[string]any{"Port": l.Old.Submission}))
	if err != nil {
		return err
	}
	return l.run("postfix", "postfix", "-c", filepath.Join(dir, "conf"), "start-fg")
}

// run starts a server.
func (l *Lab) run(name string, args ...string) error {
	log, err := os.Create(filepath.Join(l.Dir, name+".log"))
	if err != nil {
		return err
	}
	c := exec.Command(args[0], args[1:]...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		log.Close()
		return err
	}
	s := &server{name: name, cmd: c, log: log, done: make(chan struct{})}
	go func() { // ends with the process; end waits for it
		_ = c.Wait()
		close(s.done)
	}()
	l.servers = append(l.servers, s)
	return nil
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		x, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer x.Close() // all are held until all are chosen
		ports = append(ports, x.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// wait waits until something listens on a port; a server that has ended is an error at once.
func (l *Lab) wait(port int, end time.Time) error {
	for {
		c, err := net.DialTimeout("tcp", Addr(port), time.Second)
		if err == nil {
			return c.Close()
		}
		for _, s := range l.servers {
			select {
			case <-s.done:
				b, _ := os.ReadFile(s.log.Name())
				return fmt.Errorf("%s has ended: %s", s.name, tail(b, 500))
			default:
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("nothing listens on port %d", port)
		}
		time.Sleep(20 * time.Millisecond) // a server that starts gives no other sign
	}
}

// Addr is a port on loopback.
func Addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
