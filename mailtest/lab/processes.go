package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"text/template"
	"time"
)

// processes are servers that live in a folder of their own. It is not safe for concurrent use.
type processes struct {
	dir     string
	ports   held
	servers []*server
	ending  func(t testing.TB, showLogs bool) // begins the end of what is no process of ours; may be nil
	ended   func()                            // behind the end of the servers; may be nil
}

// server is a process of the lab.
type server struct {
	name   string
	args   []string
	change func(*exec.Cmd) // may be nil
	cmd    *exec.Cmd
	log    *os.File
	done   chan struct{} // closed when it has ended
}

// attempts is how often servers begin anew: a port may be gone when it is used, to somebody who does not know that it is held.
const attempts = 3

// begin calls start until servers run, and ends them with the test. p is never nil.
func begin(t testing.TB, what string, start func() (p *processes, err error)) {
	t.Helper()
	for n := 1; ; n++ {
		p, err := start()
		if err == nil {
			t.Cleanup(func() { p.end(t, t.Failed()) })
			return
		}
		p.end(t, n == attempts)
		if n == attempts {
			t.Fatalf("%s does not start: %v", what, err)
		}
		t.Logf("%s starts anew: %v", what, err)
	}
}

// folder makes the folder. Its name is short: sockets lie below, and a socket's path holds 107 bytes.
func (p *processes) folder() error {
	dir, err := os.MkdirTemp("", "mg")
	if err != nil {
		return err
	}
	p.dir = dir
	return os.Chmod(dir, 0o711) // the servers' own users must come through
}

// run starts a server; change, if not nil, may alter the command.
func (p *processes) run(name string, change func(*exec.Cmd), args ...string) error {
	log, err := os.OpenFile(filepath.Join(p.dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	c := exec.Command(args[0], args[1:]...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if change != nil {
		change(c)
	}
	if err := c.Start(); err != nil {
		log.Close()
		return err
	}
	s := &server{name: name, args: args, change: change, cmd: c, log: log, done: make(chan struct{})}
	go func() { // ends with the process; end waits for it
		_ = c.Wait()
		close(s.done)
	}()
	p.servers = append(p.servers, s)
	return nil
}

// isolated gives a server its own mounts and process numbers: when the first process ends the kernel ends all others, and
// Wait returns behind them. Its standard input ends when we do, however that comes about: its script waits for that.
func isolated(c *exec.Cmd) {
	if _, err := c.StdinPipe(); err != nil {
		panic(err) // it is set already
	}
	c.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID
}

// end ends all servers and what they started, by pid and process group, and removes the folder.
func (p *processes) end(t testing.TB, showLogs bool) {
	if p.ending != nil {
		p.ending(t, showLogs)
	}
	for _, s := range p.servers {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
	}
	patience := time.After(2 * time.Second)
	for _, s := range p.servers {
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
			if dir := os.Getenv("MAILGATE_LOGS"); dir != "" { // whole, for who has to find out why
				_ = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.log", filepath.Base(t.Name()), s.name, s.cmd.Process.Pid)), b, 0o600)
			}
		}
	}
	if p.ended != nil {
		p.ended()
	}
	p.ports.release()
	if p.dir == "" {
		return
	}
	for range 50 { // what is about to die may still write there
		if err := os.RemoveAll(p.dir); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Logf("%s stays", p.dir)
}

// wait waits until something listens on a port; a server that has ended is an error at once.
func (p *processes) wait(port int, end time.Time) error {
	return p.until(end, func() error {
		c, err := net.DialTimeout("tcp", Addr(port), time.Second)
		if err != nil {
			return fmt.Errorf("nothing listens on port %d", port)
		}
		return c.Close()
	})
}

// until calls f until it returns nil; a server that has ended is an error at once.
func (p *processes) until(end time.Time, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		for _, s := range p.servers {
			select {
			case <-s.done:
				b, _ := os.ReadFile(s.log.Name())
				return fmt.Errorf("%s has ended: %s", s.name, tail(b, 500))
			default:
			}
		}
		if time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond) // a server that starts gives no other sign
	}
}

// render fills a template.
func render(name, to string, data any) error {
	text, err := templates.ReadFile("templates/" + name)
	if err != nil {
		return err
	}
	tmpl, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, data); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

// makeDirs makes folders below dir that belong to uid.
func makeDirs(dir string, uid int, names ...string) error {
	var errs []error
	for _, n := range names {
		d := filepath.Join(dir, n)
		errs = append(errs, os.MkdirAll(d, 0o755), os.Chown(d, uid, uid))
	}
	return errors.Join(errs...)
}

// unpacked is where a server's packages are, which cannot be installed beside Dovecot.
func unpacked(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("MAILGATE_LAB")
	if dir == "" {
		dir = "/var/lib/mailgate-lab"
	}
	dir = filepath.Join(dir, name)
	if _, err := os.Stat(filepath.Join(dir, ".done")); err != nil {
		t.Fatalf("%s is not there (%v); run make setup", name, err)
	}
	if os.Getuid() != 0 {
		t.Fatalf("the lab's %s needs root", name)
	}
	return dir
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// Addr is a port on loopback.
func Addr(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
