package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// directDoor is what close-direct-door has OLD's Dovecot look into; %s is the folder.
const directDoor = `passdb {
  driver = passwd-file
  deny = yes
  args = username_format=%%u %s/%%{if;%%r;~;^127\\.0\\.0\\.(1|9)$;gateways;closed}
}
`

// TestLabHooks: the examples, with OLD's real Dovecot, in flips of the gateway.
func TestLabHooks(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	door := filepath.Join(l.Old.Dir, "door")
	if err := os.Mkdir(door, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gateways", "closed"} {
		if err := os.WriteFile(filepath.Join(door, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(l.Old.Dir, "dovecot.conf")
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(strings.Replace(string(b), "passdb {", fmt.Sprintf(directDoor, door)+"passdb {", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	doveadm := "/usr/bin/doveadm -c " + conf
	if out, err := exec.Command("doveadm", "-c", conf, "reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	examples, err := filepath.Abs("../../examples/hooks")
	if err != nil {
		t.Fatal(err)
	}

	var mu sync.Mutex
	var said []string
	chat := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		mu.Lock()
		defer mu.Unlock()
		said = append(said, q.URL.Path+" "+string(b))
	}))
	defer chat.Close()

	old := fmt.Sprintf("{imap: 'imap+starttls://localhost:%d', tls: {ca: %s}, client_address: true}", l.Old.IMAP, l.CA)
	to := fmt.Sprintf("{imap: 'imaps://localhost:%d', tls: {ca: %s}}", l.New.IMAPS, l.CA)
	g := newGate(t, old, to, "user1@example.com old wave=pilot\nuser2@example.com old\n", "")
	yaml, err := os.ReadFile(g.file)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`"(submission[^"]*|submissions[^"]*)",?\s*`).ReplaceAllString(string(yaml), "")
	hook := func(name, on string, command ...string) string {
		var quoted []string
		for _, w := range command {
			quoted = append(quoted, fmt.Sprintf("%q", w))
		}
		return fmt.Sprintf("  - {name: %s, on: [%s], command: [%s], waves: [pilot]}\n", name, on, strings.Join(quoted, ", "))
	}
	url := filepath.Join(g.dir, "chat-url")
	g.write(url, chat.URL+"/hidden\n")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sessions := "env MAILGATE_TEST_CHILD=1 " + exe + " -c " + g.file + " sessions"
	text += "hooks:\n" +
		hook("who", "before", "/usr/bin/env", "DOVEADM="+doveadm, "GATEWAYS=127.0.0.9", "SESSIONS="+sessions, examples+"/doveadm-who") +
		hook("door", "before, after, abort", "/usr/bin/env", "DOVEADM="+doveadm, "GATEWAYS=127.0.0.1 127.0.0.9", "DOOR="+door+"/closed", examples+"/close-direct-door") +
		hook("chat", "after, abort", "/usr/bin/env", "CHAT_URL_FILE="+url, "CHAT_KEY=content", examples+"/chat")
	g.write(g.file, text)
	g.start()
	defer g.stop()

	// direct is a client that goes to OLD past the gateway, from another address; nil when it is refused.
	direct := func(user string) *lines {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		c, err := d.Dial("tcp", lab.Addr(l.Old.IMAP))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		x := &lines{Conn: c}
		x.until(t, "* OK")
		x.send(t, "a LOGIN "+user+" pass1\r\n")
		switch s := x.until(t, "a "); {
		case strings.HasPrefix(s, "a OK"):
			return x
		case !strings.Contains(s, "AUTHENTICATIONFAILED"):
			t.Fatal(s)
		}
		return nil
	}
	// opened waits until the door is as it should be, since hooks run behind the flip.
	opened := func(want bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			if (direct("user1@example.com") != nil) == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the direct door: open is not %t\n%s\n%s", want, g.run(0, "history"), g.log)
			}
		}
	}

	through, err := g.dial("user1@example.com", "pass1") // does not count
	if err != nil {
		t.Fatal(err)
	}
	defer through.Close()
	x := direct("user1@example.com")
	if x == nil {
		t.Fatal("the direct door is not open at first")
	}
	out := g.run(exitRefused, "flip", "user1@example.com", "new", "--yes")
	if want := "hook who says no: user1@example.com is connected to OLD past the gateway, from 127.0.0.2: have that client"; !strings.Contains(oneLine(out), want) {
		t.Errorf("no %q in %s", want, out)
	}
	if out := g.run(0, "status", "user1@example.com"); !strings.Contains(out, "on old") {
		t.Error(out)
	}
	x.send(t, "b LOGOUT\r\n")
	x.until(t, "b OK")

	// user2 is in no wave: nobody asks
	y := direct("user1@example.com") // of whom the next flip is not
	g.run(0, "flip", "user2@example.com", "new", "--yes")

	// with a warning it goes on, and the client that is still there is put out
	g.write(g.file, strings.Replace(text, "/usr/bin/env\", \"DOVEADM", "/usr/bin/env\", \"DIRECT=warn\", \"DOVEADM", 1))
	g.run(0, "reload")
	g.run(0, "flip", "user1@example.com", "new", "--yes")
	opened(false)
	if c, err := g.dial("user1@example.com", "pass1"); err != nil {
		t.Error(err)
	} else if s, err := side(c); s != "new" {
		t.Error(s, err)
	}
	y.until(t, "* BYE")

	g.run(0, "rollback", "user1@example.com", "--yes")
	if c, err := g.dial("user1@example.com", "pass1"); err != nil { // at once: nobody may be told of a wrong password
		t.Error(err)
	} else if s, err := side(c); s != "old" {
		t.Error(s, err)
	}
	opened(true)

	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		mu.Lock()
		got := strings.Join(said, "\n")
		mu.Unlock()
		if strings.Count(got, "\n") == 2 {
			for _, want := range []string{`/hidden {"content": "user1@example.com stays on OLD: the move to NEW was called off: hook who says no: `,
				`/hidden {"content": "user1@example.com is on NEW now (was on OLD; op-`, `/hidden {"content": "user1@example.com is on OLD now (was on NEW; op-`} {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the chat has heard\n%s", got)
		}
	}
	history := g.run(0, "history")
	for _, want := range []string{"hook vetoed", "hook warned", "hook done"} {
		if !strings.Contains(history, want) {
			t.Errorf("no %q in\n%s", want, history)
		}
	}
	if s := g.log.String() + history; strings.Contains(s, "hidden") {
		t.Error("the chat's URL is shown")
	}
}
