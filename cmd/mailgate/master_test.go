package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mailgate/backend"
	"mailgate/config"
)

// masterHost is a host whose master "boss" (password "bpw") acts for others: in gives how many messages there are in the mailbox that a
// protocol opens for a name, less than 0 when it lets nobody in.
type masterHost struct {
	in func(protocol, name string) int
}

// serve answers one protocol on a port of its own until the test ends.
func (h *masterHost) serve(t *testing.T, protocol string, talk func(r *bufio.Reader, say func(string, ...any))) (at string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				talk(bufio.NewReader(c), func(format string, args ...any) { fmt.Fprintf(c, format+"\r\n", args...) })
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return protocol + "://" + l.Addr().String()
}

// whom reads the initial response of PLAIN at the end of a line.
func whom(line string) string {
	f := strings.Fields(line)
	b, _ := base64.StdEncoding.DecodeString(f[len(f)-1])
	p := strings.Split(string(b), "\x00")
	if len(p) != 3 || p[1] != "boss" || p[2] != "bpw" {
		return ""
	}
	return p[0]
}

func (h *masterHost) imap(r *bufio.Reader, say func(string, ...any)) {
	n := 0
	say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready")
	for {
		line, err := r.ReadString('\n')
		f := strings.Fields(line)
		switch {
		case err != nil || len(f) < 2:
			return
		case f[1] == "AUTHENTICATE":
			if n = h.in("imap", whom(line)); n < 0 {
				say("%s NO [AUTHENTICATIONFAILED] no", f[0])
				continue
			}
			say("%s OK [CAPABILITY IMAP4rev1] in", f[0])
		case f[1] == "STATUS":
			say("* STATUS INBOX (MESSAGES %d)", n)
			say("%s OK done", f[0])
		default:
			say("%s OK done", f[0])
		}
	}
}

func (h *masterHost) pop3(r *bufio.Reader, say func(string, ...any)) {
	n := 0
	say("+OK ready")
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return
		case strings.HasPrefix(line, "CAPA"):
			say("+OK\r\nSASL PLAIN\r\nAUTH-RESP-CODE\r\n.")
		case strings.HasPrefix(line, "AUTH"):
			if n = h.in("pop3", whom(line)); n < 0 {
				say("-ERR [AUTH] no")
				continue
			}
			say("+OK in")
		case strings.HasPrefix(line, "STAT"):
			say("+OK %d %d", n, n*100)
		default:
			say("+OK bye")
		}
	}
}

func (h *masterHost) submission(r *bufio.Reader, say func(string, ...any)) {
	say("220 ready")
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return
		case strings.HasPrefix(line, "EHLO"):
			say("250-x\r\n250 AUTH PLAIN")
		case strings.HasPrefix(line, "AUTH"):
			if h.in("submission", whom(line)) < 0 {
				say("535 5.7.8 no")
				continue
			}
			say("235 2.7.0 in")
		default:
			say("221 bye")
		}
	}
}

// accountsAt is the syncer's logins at the host, which is OLD and NEW.
func accountsAt(t *testing.T, h *masterHost, routes string) (*accounts, *config.Config) {
	t.Helper()
	conf := config.Default()
	conf.Hostname = "mail.example.com"
	host := config.Host{Name: "h"}
	for at, url := range map[*config.Endpoint]string{&host.IMAP: h.serve(t, "imap", h.imap), &host.POP3: h.serve(t, "pop3", h.pop3),
		&host.Submission: h.serve(t, "submission", h.submission)} {
		e, err := config.ParseEndpoint(url, false)
		must(t, err)
		*at = e
	}
	secret := filepath.Join(t.TempDir(), "boss")
	must(t, os.WriteFile(secret, []byte("bpw\n"), 0o600))
	for _, side := range config.Sides {
		b := &conf.Backends[side]
		b.Hosts = []config.Host{host, {Name: "other", IMAP: host.IMAP}}
		b.Sync.MasterUser, b.Sync.MasterPassword = "boss", secret
	}
	f, err := config.ParseRoutes("routes", []byte(routes), &conf)
	must(t, err)
	dialer, err := backend.NewDialer(conf.Backends, slog.New(slog.DiscardHandler), nil)
	must(t, err)
	g := &gateway{}
	g.conf.Store(&conf)
	g.routes.Store(f)
	return &accounts{g: g, dialer: dialer}, &conf
}

// TestMasterProofs: which hosts are believed that a master opens by POP3, and by submission acts as, whom he asks for.
func TestMasterProofs(t *testing.T) {
	t.Parallel()
	const alice, bob = "alice@example.com", "bob@example.com"
	counts := map[string]int{alice: 3, bob: 5}
	known := func(_, name string) int { // a good host
		if n, ok := counts[name]; ok {
			return n
		}
		return -1
	}
	everybody := func(_, name string) int { return counts[name] } // makes mailboxes of whoever comes
	both := []string{alice, bob}
	for _, x := range []struct {
		name             string
		in               func(protocol, name string) int
		who              []string
		routes           string
		pop3, submission bool
	}{
		{"knows who exists", known, both, "", true, true},
		{"knows nobody who does not exist", everybody, both, "", true, false},
		{"heeds no name", func(p, name string) int {
			if p == "imap" {
				return known(p, name)
			}
			return 7
		}, both, "", false, false},
		{"heeds no name, and the numbers are the same", func(p, name string) int {
			if p == "imap" {
				return known(p, name)
			}
			return 3
		}, both, "", false, false},
		{"only empty mailboxes, and everybody exists", func(string, string) int { return 0 }, both, "", false, false},
		{"only empty mailboxes", func(p, name string) int { return min(0, known(p, name)) }, both, "", true, true},
		{"another mailbox by POP3", func(p, name string) int {
			if n := known(p, name); p != "pop3" || n < 0 {
				return n
			}
			return 4
		}, both, "", false, true},
		{"the first user has no mail, and everybody exists", func(p, name string) int {
			if name == alice {
				return 0
			}
			return everybody(p, name)
		}, both, "", true, false},
		{"the master is refused", func(p, name string) int {
			if p == "imap" {
				return known(p, name)
			}
			return -1
		}, both, "", false, false},
		{"nobody may come there", known, both, alice + " old old_host=other\n" + bob + " old old_host=other\n", false, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			a, conf := accountsAt(t, &masterHost{x.in}, x.routes)
			if err := a.provePOP3(t.Context(), conf, config.Old, "h", x.who); (err == nil) != x.pop3 {
				t.Errorf("POP3: %v", err)
			}
			if err := a.proveSubmission(t.Context(), conf, config.Old, "h", x.who[0]); (err == nil) != x.submission {
				t.Errorf("submission: %v", err)
			}
		})
	}
}

// TestProofsAreOfOneHost: a proof holds for a service at its address, the master and how he asks; with any other, nothing is proven.
func TestProofsAreOfOneHost(t *testing.T) {
	t.Parallel()
	a, conf := accountsAt(t, &masterHost{func(string, string) int { return 0 }}, "")
	only := func(p config.Protocol) bool {
		t.Helper()
		who, err := a.asUser(config.Old, p, "alice@example.com")
		must(t, err)
		if who.Authzid != "alice@example.com" || who.Only("other") {
			t.Errorf("%+v, at a host of which nothing is known: %v", who, who.Only("other"))
		}
		return who.Only("h")
	}
	a.believe(proofAt(conf, config.Old, "h", config.POP3))
	if only(config.IMAP) || only(config.Submission) || !only(config.POP3) {
		t.Error("POP3 is proven, and nothing else")
	}
	for what, change := range map[string]func(b *config.Backend){
		"another master":      func(b *config.Backend) { b.Sync.MasterUser = "chief" },
		"another way to ask":  func(b *config.Backend) { b.Sync.MasterLogin = "{login}*{master}" },
		"another host's IMAP": func(b *config.Backend) { b.Hosts[0].IMAP.Port++ },
		"another port":        func(b *config.Backend) { b.Hosts[0].POP3.Port++ },
	} {
		next := *conf
		next.Backends[config.Old].Hosts = append([]config.Host(nil), conf.Backends[config.Old].Hosts...)
		change(&next.Backends[config.Old])
		a.g.conf.Store(&next)
		if who, err := a.asUser(config.Old, config.POP3, "bob"); err != nil || who.Only("h") {
			t.Errorf("%s: the proof is believed all the same, %v", what, err)
		}
		a.g.conf.Store(conf)
	}
	none := *conf
	none.Backends[config.Old].Sync.MasterUser = ""
	a.g.conf.Store(&none)
	if who, err := a.asUser(config.Old, config.IMAP, "bob"); err == nil || who.Credentials != nil {
		t.Errorf("a side without a master: %+v", who)
	}
}
