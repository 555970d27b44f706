package lab

import (
	"bytes"
	"embed"
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
}

// Start runs the servers until the test ends. Without them the test fails: make setup installs them.
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
	dir, err := os.MkdirTemp("", "mg") // short: Dovecot's sockets lie below, and a socket's path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	l := &Lab{Dir: dir}
	certs := filepath.Join(dir, "certs")
	if l.CA, err = certificates(certs); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 9)
	l.Old = Host{Name: "old", IMAP: ports[0], IMAPS: ports[1], SASL: ports[2], LMTP: ports[3], Submission: ports[4],
		Format: "maildir:~/Maildir", Sep: ".", Prefix: "INBOX.", Certs: certs, MailID: mailUID}
	l.New = Host{Name: "new", IMAP: ports[5], IMAPS: ports[6], LMTP: ports[7], Submission: ports[8], Format: "sdbox:~/sdbox",
		Sep: "/", Certs: certs, MailID: mailUID, WithSubmission: true, RelayPort: ports[4]}
	for _, h := range []*Host{&l.Old, &l.New} {
		h.Dir = filepath.Join(dir, h.Name)
		l.dovecot(t, h)
	}
	l.postfix(t)
	for _, p := range ports {
		if p != 0 {
			wait(t, p, dir)
		}
	}
	return l
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

func (l *Lab) render(t testing.TB, name, to string, data any) {
	t.Helper()
	text, err := templates.ReadFile("templates/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := template.Must(template.New(name).Parse(string(text))).Execute(&b, data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (l *Lab) dovecot(t testing.TB, h *Host) {
	t.Helper()
	for _, d := range []string{"", "run", "state", "home"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(h.Dir, "home"), mailUID, mailUID); err != nil {
		t.Fatal(err)
	}
	var users strings.Builder
	for i := 1; i <= Users; i++ {
		fmt.Fprintf(&users, "user%d@example.com:{PLAIN}pass%d\n", i, i)
	}
	if err := os.WriteFile(filepath.Join(h.Dir, "users"), []byte(users.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(h.Dir, "dovecot.conf")
	l.render(t, "dovecot.conf", conf, h)
	start(t, l.Dir, h.Name, "dovecot", "-F", "-c", conf)
}

// postfix is OLD's submission, with OLD's Dovecot for SASL, delivering to OLD's Dovecot by LMTP.
func (l *Lab) postfix(t testing.TB) {
	t.Helper()
	dir := filepath.Join(l.Dir, "postfix")
	for _, d := range []string{"conf", "queue", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v %s", err, out)
	}
	l.render(t, "main.cf", filepath.Join(dir, "conf", "main.cf"), map[string]any{"Dir": dir, "Old": l.Old})
	l.render(t, "master.cf", filepath.Join(dir, "conf", "master.cf"), map[string]any{"Port": l.Old.Submission})
	start(t, l.Dir, "postfix", "postfix", "-c", filepath.Join(dir, "conf"), "start-fg")
}

// start runs a server until the test ends; then it and what it started are ended, by pid.
func start(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(args[0], args[1:]...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = c.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
		}
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // the process group that we made
		<-done
		log.Close()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s.log:\n%s", name, tail(b, 4000))
		}
	})
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	var open []net.Listener
	for range n {
		x, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, x)
		ports = append(ports, x.Addr().(*net.TCPAddr).Port)
	}
	for _, x := range open {
		x.Close()
	}
	return ports
}

func wait(t testing.TB, port int, dir string) {
	t.Helper()
	end := time.Now().Add(deadline)
	for time.Now().Before(end) {
		c, err := net.DialTimeout("tcp", Addr(port), time.Second)
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond) // a server that starts gives no other sign
	}
	t.Fatalf("nothing listens on port %d; see the logs in %s", port, dir)
}

// Addr is a port on loopback.
func Addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
