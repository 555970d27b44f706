package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailgate/mailtest/lab"
)

// TestTokenCommand: the command is asked for each user, and what it says is a token; here the hosts offer no such login.
func TestTokenCommand(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := syncGate(t, l, "")
	script := filepath.Join(g.dir, "token")
	g.write(script, "#!/bin/sh\necho \"$MAILGATE_USER\" >>"+g.dir+"/asked\necho secret-token\n")
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	text := mustRead(t, g.file)
	g.write(g.file, strings.Replace(text, "sync: {secrets: secrets}}", "sync: {token_command: ["+script+"]}}", 1))
	code, _, errOut := g.verb("sync", "run", lab.User(1), "--yes")
	if code != exitUnknown || !strings.Contains(errOut, "does not offer") || strings.Contains(errOut, "secret-token") {
		t.Errorf("%d %s", code, errOut)
	}
	if got := mustRead(t, filepath.Join(g.dir, "asked")); !strings.HasPrefix(got, lab.User(1)) {
		t.Errorf("asked for %q", got)
	}
}

// TestTokenMechanisms: the second mechanism is tried only where the first one is not offered. A token that was refused is not
// shown to the server again in another form.
func TestTokenMechanisms(t *testing.T) {
	for name, test := range map[string]struct {
		offers, answer, want string
	}{
		"the first is let in":       {"AUTH=OAUTHBEARER AUTH=XOAUTH2", "OK in", "OAUTHBEARER"},
		"only the second":           {"AUTH=XOAUTH2", "OK in", "XOAUTH2"},
		"a refused token":           {"AUTH=OAUTHBEARER AUTH=XOAUTH2", "NO [AUTHENTICATIONFAILED] no", "OAUTHBEARER"},
		"refused without a code":    {"AUTH=OAUTHBEARER AUTH=XOAUTH2", "NO no", "OAUTHBEARER"},
		"refused for want of TLS":   {"AUTH=OAUTHBEARER AUTH=XOAUTH2", "NO [PRIVACYREQUIRED] TLS first", "OAUTHBEARER"},
		"the server is out of work": {"AUTH=OAUTHBEARER AUTH=XOAUTH2", "NO [UNAVAILABLE] later", "OAUTHBEARER"},
		"none":                      {"AUTH=PLAIN", "OK in", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newOAuthHost(t, test.offers, test.answer)
			m := newMemory(t, "alice@example.com")
			tokens(m, "#!/bin/sh\necho t0ken\n", h.l.Addr().String())
			code, errOut := m.run("sync", "plan", "alice@example.com")
			if code == exitOK || strings.Contains(errOut, "t0ken") {
				t.Errorf("%d %s", code, errOut)
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			tried := slices.Compact(h.tried)
			if got := strings.Join(tried, " "); got != test.want {
				t.Errorf("tried %q, want %q", got, test.want)
			}
			if strings.HasPrefix(test.answer, "NO") && len(h.tried) != 1 {
				t.Errorf("a refused token was shown %d times", len(h.tried))
			}
		})
	}
}

// TestTokenCommandFails: what the command says on standard error may be a secret, so nobody is shown it.
func TestTokenCommandFails(t *testing.T) {
	h := newOAuthHost(t, "AUTH=OAUTHBEARER", "OK in")
	for name, test := range map[string]struct {
		script, want string
		exit         int
	}{
		"exit status": {"#!/bin/sh\necho 'refresh_token=hunter2' >&2\necho hunter2\nexit 7\n", "exit status 7; to see what it says, run it by hand", exitUnknown},
		"two lines":   {"#!/bin/sh\necho hunter2\necho hunter2\n", "printed no token in one line", exitUnknown},
		"nothing":     {"#!/bin/sh\necho hunter2 >&2\n", "printed no token in one line", exitUnknown},
		"no program":  {"#!/nowhere/hunter2less\n", "no such file", exitRefused},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(t, "alice@example.com")
			tokens(m, test.script, h.l.Addr().String())
			code, errOut := m.run("sync", "plan", "alice@example.com")
			if code != test.exit || !strings.Contains(errOut, test.want) || !strings.Contains(errOut, "backends.old.sync.token_command") ||
				strings.Contains(errOut, "hunter2") {
				t.Errorf("%d %s", code, errOut)
			}
		})
	}
}

// tokens lets OLD, at an address, be logged in at with the tokens of a script.
func tokens(m *memory, script, addr string) {
	m.t.Helper()
	file := filepath.Join(m.dir, "token")
	m.write("token", script)
	if err := os.Chmod(file, 0o700); err != nil {
		m.t.Fatal(err)
	}
	before, rest, _ := strings.Cut(mustRead(m.t, filepath.Join(m.dir, "mailgate.yaml")), "  old: ")
	_, rest, _ = strings.Cut(rest, "\n")
	m.write("mailgate.yaml", before+fmt.Sprintf("  old: {imap: 'imap://%s', sync: {token_command: [%s]}}\n", addr, file)+rest)
}

// run runs a verb in this process.
func (m *memory) run(args ...string) (code int, errOut string) {
	m.t.Helper()
	var out, e bytes.Buffer
	code = run(context.Background(), append([]string{"-c", filepath.Join(m.dir, "mailgate.yaml")}, args...), strings.NewReader(""), &out, &e)
	return code, e.String()
}

// oauthHost speaks as much IMAP as a login needs.
type oauthHost struct {
	l              net.Listener
	offers, answer string
	mu             sync.Mutex
	tried          []string // mechanisms
}

func newOAuthHost(t *testing.T, offers, answer string) *oauthHost {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &oauthHost{l: l, offers: offers, answer: answer}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.talk(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return h
}

func (h *oauthHost) talk(c net.Conn) {
	defer c.Close()
	fmt.Fprintf(c, "* OK [CAPABILITY IMAP4rev1 SASL-IR %s] hello\r\n", h.offers)
	for lines := bufio.NewScanner(c); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) < 2:
			return
		case strings.EqualFold(f[1], "AUTHENTICATE"):
			h.mu.Lock()
			h.tried = append(h.tried, f[2])
			h.mu.Unlock()
			fmt.Fprintf(c, "%s %s\r\n", f[0], h.answer)
		case strings.EqualFold(f[1], "CAPABILITY"):
			fmt.Fprintf(c, "* CAPABILITY IMAP4rev1 SASL-IR %s\r\n%s OK done\r\n", h.offers, f[0])
		default:
			fmt.Fprintf(c, "%s BAD not here\r\n", f[0])
		}
	}
}
