package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"mailgate/admin"
	"mailgate/mailtest/lab"
	"mailgate/op"
)

// TestMain makes the test binary the program itself when a test starts it as a child. More tests run at once than there are cores.
func TestMain(m *testing.M) {
	if step := os.Getenv("MAILGATE_TEST_CRASH"); step != "" {
		os.Exit(crashingServe(step))
	}
	if os.Getenv("MAILGATE_TEST_CHILD") != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	lab.SideBySide(6)
	os.Exit(m.Run())
}

// gate is a real mailgate process in front of a lab.
type gate struct {
	t                        *testing.T
	dir, file, routes        string
	imaps, imap, smtps, smtp string // addresses; imap wants STARTTLS, smtp is plain
	imapPlain, smtpTLS       string // plain; STARTTLS
	cmd                      *exec.Cmd
	log                      *syncBuffer
	done                     chan struct{}
	descriptors              int    // that serve may have; 0 means as many as here
	crash                    string // the step of a flip at which serve dies, see crashingServe; "" means never
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// port is an address that nobody else takes until the test ends, also while a gate is down.
func port(t *testing.T) string { return lab.Addr(lab.Ports(t, 1)[0]) }

// listener adds one more listener to a gate that has not been started, and gives its address.
func (g *gate) listener(scheme string) string {
	g.t.Helper()
	text, err := os.ReadFile(g.file)
	if err != nil {
		g.t.Fatal(err)
	}
	addr := port(g.t)
	g.write(g.file, strings.Replace(string(text), "listen: [", fmt.Sprintf("listen: [\"%s://%s\", ", scheme, addr), 1))
	return addr
}

// newGate writes configuration and routes for two hosts, given as YAML.
func newGate(t *testing.T, old, new, routes, extra string) *gate {
	t.Helper()
	dir := t.TempDir()
	g := &gate{t: t, dir: dir, file: filepath.Join(dir, "mailgate.yaml"), routes: filepath.Join(dir, "routes"),
		imaps: port(t), imap: port(t), smtps: port(t), smtp: port(t), imapPlain: port(t), smtpTLS: port(t)}
	if err := selfSigned(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	yaml := fmt.Sprintf(`hostname: mail.example.com
listen: ["imaps://%s", "imap+starttls://%s", "submissions://%s", "submission://%s", "imap://%s",
  "submission+starttls://%s"]
tls: {certificates: [{cert: cert.pem, key: key.pem}]}
backends:
  old: %s
  new: %s
routes: {file: routes, watch: 100ms}
log: {level: debug}
%s`, g.imaps, g.imap, g.smtps, g.smtp, g.imapPlain, g.smtpTLS, old, new, extra)
	g.write(g.file, yaml)
	g.write(g.routes, routes)
	return g
}

func (g *gate) write(file, text string) {
	g.t.Helper()
	tmp := file + ".tmp"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(tmp, file); err != nil {
		g.t.Fatal(err)
	}
}

// labGate puts a gate before a lab: STARTTLS to OLD's IMAP, TLS to NEW's.
func labGate(t *testing.T, l *lab.Lab, routes, extra string) *gate {
	old := fmt.Sprintf("{imap: 'imap+starttls://localhost:%d', submission: 'submission+starttls://localhost:%d', tls: {ca: %s}, client_address: true}",
		l.Old.IMAP, l.Old.Submission, l.CA)
	new := fmt.Sprintf("{imap: 'imaps://localhost:%d', submission: 'submission://127.0.0.1:%d', tls: {ca: %s}, client_address: true}",
		l.New.IMAPS, l.New.Submission, l.CA)
	return newGate(t, old, new, routes, extra)
}

func (g *gate) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		g.t.Fatal(err)
	}
	c := exec.Command(exe, append([]string{"-c", g.file}, args...)...)
	c.Env = append(os.Environ(), "MAILGATE_TEST_CHILD=1")
	return c
}

// start runs serve and waits until it is ready.
func (g *gate) start() {
	g.t.Helper()
	g.log = &syncBuffer{}
	g.cmd = g.command("serve")
	if g.crash != "" {
		g.cmd.Env = append(g.cmd.Env, "MAILGATE_TEST_CRASH="+g.crash)
	}
	if g.descriptors > 0 {
		sh := exec.Command("sh", append([]string{"-c", fmt.Sprintf("ulimit -n %d; exec \"$0\" \"$@\"", g.descriptors)}, g.cmd.Args...)...)
		sh.Env = g.cmd.Env
		g.cmd = sh
	}
	g.cmd.Stderr = g.log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.done = make(chan struct{})
	cmd, done := g.cmd, g.done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	end := time.Now().Add(30 * time.Second)
	for time.Now().Before(end) {
		if out, err := g.command("status").CombinedOutput(); err == nil && len(out) > 0 {
			if c, err := net.Dial("tcp", g.imap); err == nil {
				c.Close()
				return
			}
		}
		select {
		case <-done:
			g.t.Fatalf("serve ended: %s", g.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	g.t.Fatalf("serve is not ready: %s", g.log)
}

// kill ends serve at once, as a crash would.
func (g *gate) kill() {
	_ = g.cmd.Process.Signal(syscall.SIGKILL)
	<-g.done
}

// stop ends serve in order, and looks that it did.
func (g *gate) stop() {
	g.t.Helper()
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-g.done:
	case <-time.After(40 * time.Second):
		g.kill()
		g.t.Error("serve did not end within 40 s")
	}
	if strings.Contains(g.log.String(), "panic") || strings.Contains(g.log.String(), "DATA RACE") {
		g.t.Errorf("log: %s", g.log)
	}
	if g.t.Failed() {
		s := g.log.String()
		g.t.Logf("log of serve:\n%s", s[max(0, len(s)-6000):])
	}
}

// run runs a verb and returns its output; the exit code must be want.
func (g *gate) run(want int, args ...string) string {
	g.t.Helper()
	c := g.command(args...)
	out, _ := c.CombinedOutput()
	if got := c.ProcessState.ExitCode(); got != want {
		g.t.Fatalf("mailgate %s: exit %d, want %d: %s", strings.Join(args, " "), got, want, out)
	}
	return string(out)
}

// pool is the CAs of a PEM file.
func pool(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(file)
	p := x509.NewCertPool()
	if err != nil || !p.AppendCertsFromPEM(b) {
		t.Fatalf("%s: %v", file, err)
	}
	return p
}

// plain is the initial response of AUTH PLAIN.
func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// dial logs in through the gate.
func (g *gate) dial(user, password string) (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(g.imaps, &imapclient.Options{TLSConfig: insecure()})
	if err != nil {
		return nil, err
	}
	if err := c.Login(user, password).Wait(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// side tells where a session is: OLD's separator is ".", NEW's "/".
func side(c *imapclient.Client) (string, error) {
	list, err := c.List("", "", nil).Collect()
	if err != nil {
		return "", err
	}
	if len(list) == 1 && list[0].Delim == '.' {
		return "old", nil
	}
	return "new", nil
}

// lines is a raw line conversation.
type lines struct {
	net.Conn
	buf []byte
}

func rawDial(t *testing.T, addr string, secure bool) *lines {
	t.Helper()
	var c net.Conn
	var err error
	if secure {
		c, err = tls.Dial("tcp", addr, insecure())
	} else {
		c, err = net.Dial("tcp", addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &lines{Conn: c}
}

// dialLine is rawDial in clear, for those who go on when it fails.
func dialLine(addr string) (*lines, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &lines{Conn: c}, nil
}

// read reads one line.
func (l *lines) read() (string, error) {
	_ = l.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		if i := bytes.IndexByte(l.buf, '\n'); i >= 0 {
			s := string(l.buf[:i+1])
			l.buf = l.buf[i+1:]
			return strings.TrimRight(s, "\r\n"), nil
		}
		var b [4096]byte
		n, err := l.Read(b[:])
		l.buf = append(l.buf, b[:n]...)
		if err != nil && n == 0 {
			return string(l.buf), err
		}
	}
}

// until reads lines up to one with the prefix, which is returned.
func (l *lines) until(t *testing.T, prefix string) string {
	t.Helper()
	seen := ""
	for {
		s, err := l.read()
		if err != nil {
			t.Fatalf("waiting for %q: %v; seen:\n%s%s", prefix, err, seen, s)
		}
		if strings.HasPrefix(s, prefix) {
			return s
		}
		seen += s + "\n"
	}
}

func (l *lines) send(t *testing.T, s string) {
	t.Helper()
	if _, err := io.WriteString(l, s); err != nil {
		t.Fatal(err)
	}
}

// user asks serve about a user, as the verbs do but without starting a program for it.
func (g *gate) user(name string) (admin.UserStatus, error) {
	var u admin.UserStatus
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	socket := filepath.Join(g.dir, "state", "control.sock")
	err := admin.Client{Socket: socket}.Call(ctx, http.MethodGet, "/user", url.Values{"user": {name}}, &u)
	return u, err
}

// waitSide waits until a user is settled on a side and nothing is under way that would move him.
func (g *gate) waitSide(user, want string) {
	g.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		u, err := g.user(user)
		if err != nil {
			g.t.Fatal(err)
		}
		if u.Side.String() == want && u.State == op.Settled && len(u.Open) == 0 {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("%s is not on %s: %+v\n%s", user, want, u, g.run(0, "op", "list", "--all"))
		}
	}
}
