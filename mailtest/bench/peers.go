package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
)

//go:embed templates
var templates embed.FS

// The proxies, as tables call them.
const (
	mailgate = "mailgate"
	nginx    = "nginx"
	dovecot  = "dovecot"
	bare     = "relay"
	direct   = "direct" // none at all
)

const (
	nginxModules  = "/usr/lib/nginx/modules"
	dovecotLogins = "/usr/lib/dovecot"
)

// checkPeers tells what is missing, all at once.
func checkPeers(mailgateBinary string) error {
	var missing []string
	for _, f := range []string{"nginx", nginxModules + "/ngx_mail_module.so", "dovecot", dovecotLogins + "/imap-login",
		dovecotLogins + "/pop3-login", dovecotLogins + "/submission-login"} {
		if _, err := exec.LookPath(f); err == nil {
			continue
		}
		if _, err := os.Stat(f); err != nil {
			missing = append(missing, f)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the peers to compare with are not all here: %s is missing; run scripts/setup.sh bench",
			strings.Join(missing, ", "))
	}
	if os.Getuid() != 0 {
		return errors.New("nginx and Dovecot need root to start as the packages set them up; run the bench as root")
	}
	if _, err := os.Stat(mailgateBinary); err != nil {
		return fmt.Errorf("%w; run make build", err)
	}
	return nil
}

// peer is a proxy that runs.
type peer struct {
	name string
	at   frontAddrs
	main *process
}

// settings is what the templates are filled with.
type settings struct {
	Dir, Cert, Key, AuthHTTP, Admin, Modules string
	Front                                    frontAddrs
	Backend                                  backendAddrs
	Workers                                  int
	Files                                    uint64
	Password                                 string // of everybody at the host of startHost, in Dovecot's form
	Owner                                    int    // of the mail there
}

// startPeer starts a proxy in front of the backend, in a folder of its own.
func (b *bench) startPeer(ctx context.Context, name string) (*peer, error) {
	dir, err := os.MkdirTemp(b.dir, name[:1]) // short: Dovecot's sockets lie below, and a socket's path holds 107 bytes
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil { // Dovecot's and nginx's workers are other users
		return nil, err
	}
	ports, err := freePorts(7)
	if err != nil {
		return nil, err
	}
	s := settings{Dir: dir, Cert: b.cert, Key: b.key, AuthHTTP: b.back.AuthHTTP, Admin: ports[6], Modules: nginxModules,
		Front:   frontAddrs{ports[0], ports[1], ports[2], ports[3], ports[4], ports[5]},
		Backend: b.back, Workers: runtime.NumCPU(), Files: b.files}
	p := &peer{name: name, at: s.Front}
	log := filepath.Join(dir, name+".out")
	switch name {
	case nginx:
		err = s.render("nginx.conf")
		if err == nil {
			p.main, err = start(log, exec.Command("nginx", "-p", dir, "-e", dir+"/nginx.log", "-c", dir+"/nginx.conf"))
		}
	case dovecot:
		err = errors.Join(s.render("dovecot.conf"), os.Mkdir(dir+"/run", 0o755), os.Mkdir(dir+"/state", 0o755))
		if err == nil {
			p.main, err = start(log, exec.Command("dovecot", "-F", "-c", dir+"/dovecot.conf"))
		}
	case mailgate:
		err = errors.Join(s.render("mailgate.yaml"), writeRoutes(dir+"/routes"))
		if err == nil {
			p.main, err = start(log, exec.Command(b.mailgate, "serve", "-c", dir+"/mailgate.yaml"))
		}
	case bare:
		p.main, err = b.startHelper(log, &p.at, "relay", "-cert", b.cert, "-key", b.key, "-imap", b.back.IMAP,
			"-submission", b.back.Submission, "-pop3", b.back.POP3)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := p.main.await(ctx, name, func() error { return p.ready(s) }); err != nil {
		p.main.stop()
		return nil, err
	}
	return p, nil
}

// ready tells whether the proxy takes all kinds of clients.
func (p *peer) ready(s settings) error {
	if p.name == mailgate {
		r, err := http.Get("http://" + s.Admin + "/readyz")
		if err != nil {
			return err
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz: %s", r.Status)
		}
	}
	for _, encrypted := range []bool{false, true} {
		c, err := imapLogin(p.addr(logins, encrypted), encrypted, 0, 1024)
		if err != nil {
			return err
		}
		c.Close()
		if c, err = popLogin(p.addr(popLogins, encrypted), encrypted, 0, 1024); err != nil {
			return err
		}
		c.Close()
		if err := submit(p.addr(submissions, encrypted), encrypted, 0, string(message(200))); err != nil {
			return err
		}
	}
	return nil
}

// addr is the listener that a measurement speaks to.
func (p *peer) addr(k kind, encrypted bool) string {
	plain, secret := p.at.IMAP, p.at.IMAPS
	switch k {
	case submissions, submitAlone:
		plain, secret = p.at.Submission, p.at.Submissions
	case popIdle, popLogins, popAlone, popStat:
		plain, secret = p.at.POP3, p.at.POP3S
	}
	if encrypted {
		return secret
	}
	return plain
}

// startHelper runs this binary as another process, which says where it listens.
func (b *bench) startHelper(log string, addrs any, args ...string) (*process, error) {
	cmd := exec.Command(b.self, args...)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Stdout = w
	p, err := start(log, cmd)
	w.Close()
	if err != nil {
		return nil, err
	}
	if err := json.NewDecoder(r).Decode(addrs); err != nil {
		p.stop()
		return nil, fmt.Errorf("%s: %w; its log ends:\n%s", args[0], err, p.said())
	}
	return p, nil
}

func (s settings) render(name string) error {
	text, err := templates.ReadFile("templates/" + name)
	if err != nil {
		return err
	}
	t, err := template.New(name).Funcs(template.FuncMap{"port": portOf}).Parse(string(text))
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, s); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.Dir, name), out.Bytes(), 0o644)
}

// writeRoutes lists all users, half of them on each side.
func writeRoutes(file string) error {
	var out bytes.Buffer
	out.WriteString("default old\n")
	for i := range users {
		fmt.Fprintf(&out, "%s %s\n", userName(i), [...]string{"old", "new"}[i%2])
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

func portOf(addr string) (string, error) {
	_, port, err := net.SplitHostPort(addr)
	return port, err
}

// freePorts finds addresses on loopback that nobody listens on.
func freePorts(n int) (addrs []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}
