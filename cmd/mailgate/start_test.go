package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStartBeforeSilentSides: hosts that take connections and say nothing must not keep serve from serving, and a SIGHUP
// that comes during the start must not end it.
func TestStartBeforeSilentSides(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	side := fmt.Sprintf("{imap: 'imap://%[1]s', submission: 'submission://%[1]s'}", silent.Addr())
	g := newGate(t, side, side, "alice@example.com old\n", "")
	log := &syncBuffer{}
	cmd := g.command("serve")
	cmd.Stderr = log
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()
	c, err := silent.Accept() // the first look has begun
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	greeting := make([]byte, 4)
	client, err := net.Dial("tcp", g.imapPlain)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_ = client.SetDeadline(begun.Add(7 * time.Second))
	if _, err := client.Read(greeting); err != nil || string(greeting) != "* OK" {
		t.Fatalf("greeted with %q, %v\n%s", greeting, err, log)
	}
	for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), "by=SIGHUP"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the SIGHUP is lost\n%s", log)
		}
	}
}

// /dev/null is a character device, and nobody sits there.
func TestConfirmWithoutTerminal(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	g := newGate(t, "{imap: 'imap://127.0.0.1:1'}", "{imap: 'imap://127.0.0.1:1'}", "alice@example.com old\n", "")
	var out, errOut bytes.Buffer
	code := run(context.Background(), []string{"-c", g.file, "flip", "alice@example.com", "new"}, null, &out, &errOut)
	if code != exitUsage || !strings.Contains(errOut.String(), "add --yes") {
		t.Errorf("exit %d, %s", code, errOut.String())
	}
}
