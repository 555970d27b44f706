package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"mailgate/mailtest"
)

// memoryGate puts a gate before two hosts in memory, each with the same users.
func memoryGate(t *testing.T, routes, extra string) *gate {
	t.Helper()
	var yaml []string
	users := map[string]string{"user1@example.com": "pass1", "user2@example.com": "pass2", "user3@example.com": "pass3",
		"alice@example.com": "a", "bob@example.com": "b"}
	for _, name := range []string{"old", "new"} {
		m, err := mailtest.StartMemory(name+".example.com", users)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		yaml = append(yaml, fmt.Sprintf("{imap: 'imap://%s', submission: 'submission://%s'}", m.IMAP, m.Submission))
	}
	return newGate(t, yaml[0], yaml[1], routes, extra)
}

// TestStoreTrouble: a full disk or a locked store stops flips, not mail, and flips go again when it is over.
func TestStoreTrouble(t *testing.T) {
	t.Parallel()
	t.Run("full disk", func(t *testing.T) {
		t.Parallel()
		disk := t.TempDir()
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatalf("a small disk to fill: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(disk, 0); err != nil {
				t.Error(err)
			}
		})
		filler := filepath.Join(disk, "filler")
		storeTrouble(t, filepath.Join(disk, "state", "mailgate.db"), false, func() {
			f, err := os.Create(filler)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for err == nil {
				_, err = f.Write(make([]byte, 512))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}, func() {
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("locked store", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "mailgate.db")
		var db *sql.DB
		storeTrouble(t, path, true, func() {
			var err error
			if db, err = sql.Open("sqlite", "file:"+path); err != nil { // the driver is the store's
				t.Fatal(err)
			}
			db.SetMaxOpenConns(1)
			if _, err := db.ExecContext(context.Background(), "BEGIN IMMEDIATE"); err != nil {
				t.Fatal(err)
			}
		}, func() {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	})
}

// TestOutOfDescriptors: strangers who hold all descriptors give way to a user, who is not told that his password is wrong.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	g := memoryGate(t, twoUsers, "")
	g.descriptors = 128
	g.start()
	defer g.stop()
	for range 300 {
		c, err := net.Dial("tcp", g.imapPlain)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := g.dial("user1@example.com", "pass1")
		if err == nil {
			c.Close()
			break
		}
		var no *imap.Error
		if errors.As(err, &no) && no.Code == imap.ResponseCodeAuthenticationFailed || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if !strings.Contains(g.log.String(), "too many open files") {
		t.Error("descriptors were not short")
	}
}

// storeTrouble goes through the trouble; slow means that each write takes its time to fail.
func storeTrouble(t *testing.T, path string, slow bool, begin, end func()) {
	health := port(t)
	g := memoryGate(t, twoUsers, fmt.Sprintf("store: {path: %s}\nadmin: {listen: '%s'}\n", path, health))
	g.start()
	defer g.stop()
	g.run(0, "flip", "user2@example.com", "old", "--yes")
	g.run(0, "flip", "user2@example.com", "new", "--yes")
	if ok, text := get(t, health, "/readyz"); !ok || strings.Contains(text, "warning") {
		t.Fatalf("readyz: %s", text)
	}
	c, err := g.dial("user1@example.com", "pass1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	begin()
	// What is left of the file's last block still takes some small writes.
	for n := 0; ; n++ {
		if _, text := get(t, health, "/readyz"); strings.Contains(text, "warning") {
			break
		}
		if n == 20 {
			t.Fatal("the store can be written")
		}
	}
	// Mail goes on: a session that is there, new logins of a user who has a row and of one who has none, submission.
	if err := appendTo(c, "in a session"); err != nil {
		t.Error(err)
	}
	for _, n := range []string{"1", "2", "3"} {
		appendMail(t, g, "user"+n+"@example.com", "pass"+n, "in trouble")
	}
	submit(t, g.smtp, "user3@example.com", "pass3")
	verbs := [][]string{{"flip", "user1@example.com", "new", "--yes"}, {"rollback", "user2@example.com", "--yes"}}
	if slow {
		verbs = verbs[:1]
	}
	for _, verb := range verbs {
		out := g.run(3, verb...)
		if !strings.Contains(out, "store cannot be written") || !strings.Contains(out, "nothing was changed") {
			t.Errorf("%s: %s", verb[0], out)
		}
	}
	if text, err := os.ReadFile(g.routes); err != nil || string(text) != twoUsers {
		t.Errorf("a refused flip has changed the routes file: %q %v", text, err)
	}
	g.write(g.routes, strings.Replace(twoUsers, "user1@example.com old", "user1@example.com new", 1))
	if slow {
		// the file's change is seen without a verb
	} else if out := g.run(3, "reload"); !strings.Contains(out, "store cannot be written") {
		t.Errorf("reload: %s", out)
	}
	if out := g.run(0, "status"); !strings.Contains(out, "cannot be written, so no user can be moved; mail goes on") ||
		!strings.Contains(out, "1 new users are not in the store yet") {
		t.Errorf("status: %s", out)
	}
	if ok, text := get(t, health, "/readyz"); !ok || !strings.Contains(text, "warning: the store cannot be written") {
		t.Errorf("readyz: %s", text)
	}
	if err := c.Noop().Wait(); err != nil {
		t.Errorf("the session did not outlive the trouble: %v", err)
	}

	end()
	// The file's line is taken over by itself; a verb works at once.
	g.waitSide("user1@example.com", "new")
	g.run(0, "rollback", "user2@example.com", "--yes")
	g.waitSide("user2@example.com", "old")
	if ok, text := get(t, health, "/readyz"); !ok || strings.Contains(text, "warning") {
		t.Errorf("readyz: %s", text)
	}
	for end := time.Now().Add(10 * time.Second); !strings.Contains(g.run(0, "status", "user3@example.com"), "logged in before"); {
		if time.Now().After(end) {
			t.Fatal("the row of a user seen in trouble is not there")
		}
	}
	g.kill() // what was said to be done is in the store
	g.start()
	g.waitSide("user1@example.com", "new")
	g.waitSide("user2@example.com", "old")
}

func get(t *testing.T, addr, path string) (ok bool, text string) {
	t.Helper()
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode == http.StatusOK, string(b)
}

// submit sends one message.
func submit(t *testing.T, addr, user, password string) {
	t.Helper()
	c := rawDial(t, addr, false)
	c.until(t, "220 ")
	c.send(t, "EHLO client.example.org\r\n")
	c.until(t, "250 ")
	c.send(t, "AUTH PLAIN "+plain(user, password)+"\r\n")
	c.until(t, "235 ")
	c.send(t, "MAIL FROM:<"+user+">\r\nRCPT TO:<user1@example.com>\r\nDATA\r\n")
	c.until(t, "354 ")
	c.send(t, "Subject: submitted\r\n\r\nx\r\n.\r\nQUIT\r\n")
	c.until(t, "250 ")
}
