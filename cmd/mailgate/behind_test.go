package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/mailtest/lab"
)

// TestBehindBalancers: a real client that sends the header gets in, by IMAP over TLS and by POP3; OLD logs the address in it; who sends
// none, or comes from elsewhere, gets nothing. Doctor knows these listeners.
func TestBehindBalancers(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	g := newPopGate(t, l.Old, l.New, l.CA)
	imaps, pop3, other := port(t), port(t), port(t)
	text := strings.Replace(mustRead(t, g.file), "listen: [", fmt.Sprintf("proxy_networks: [127.0.0.1]\nlisten: [\"imaps+proxy://%s\", \"pop3+proxy://%s\", \"imap+proxy://[::1]:%s\", ",
		imaps, pop3, strings.Split(other, ":")[1]), 1)
	g.write(g.file, strings.ReplaceAll(text, "tls: {ca:", "client_address: true, tls: {ca:"))
	g.start()
	defer g.stop()
	emptyInbox(t, l.Old, 1)
	curl := func(args ...string) string {
		out, _ := exec.Command("curl", append([]string{"-sSk", "--max-time", "90", "-u", "user1@example.com:pass1"}, args...)...).CombinedOutput()
		return string(out)
	}
	if out := curl("--haproxy-protocol", "imaps://"+imaps+"/INBOX;MAILINDEX=1"); !strings.Contains(out, "seed 0") {
		t.Errorf("IMAP: %s", out)
	}
	if out := curl("--haproxy-protocol", "pop3://"+pop3+"/1"); !strings.Contains(out, "seed 0") {
		t.Errorf("POP3: %s", out)
	}
	if out := curl("pop3://" + pop3 + "/1"); strings.Contains(out, "seed 0") {
		t.Errorf("without a header: %s", out)
	}
	c := rawDial(t, pop3, false)
	c.send(t, "PROXY TCP4 192.0.2.7 10.0.0.1 4711 110\r\nUSER user1@example.com\r\nPASS pass1\r\n")
	for range 3 {
		c.until(t, "+OK")
	}
	if out := g.run(0, "sessions"); !strings.Contains(out, "192.0.2.7:4711") {
		t.Errorf("%s", out)
	}
	if b := mustRead(t, filepath.Join(filepath.Dir(l.Old.Dir), "old.log")); !strings.Contains(b, "rip=192.0.2.7") {
		t.Error("OLD has not heard of the client's address")
	}
	out, _ := g.command("doctor").CombinedOutput()
	words := strings.Join(strings.Fields(string(out)), " ")
	if strings.Contains(words, "what listens here is not it") || !strings.Contains(words, "it answers to balancers (proxy_networks) only") {
		t.Errorf("doctor: %s", out)
	}
}
