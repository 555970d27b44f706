package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// through is a client that works through the gateway, line by line.
type through struct {
	t    *testing.T
	conn *tls.Conn
	r    *bufio.Reader
	n    int
}

func (g *gate) through(t *testing.T, n int) *through {
	t.Helper()
	conn, err := tls.Dial("tcp", g.imaps, insecure())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	x := &through{t: t, conn: conn, r: bufio.NewReader(conn)}
	if _, err := x.r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	x.do("LOGIN %s %s", lab.User(n), lab.Password(n))
	return x
}

// send sends a line, behind a tag where there is none.
func (x *through) send(line string) {
	x.t.Helper()
	if _, err := fmt.Fprint(x.conn, line+"\r\n"); err != nil {
		x.t.Fatal(err)
	}
}

// until reads up to a line that begins so.
func (x *through) until(start string) (lines []string) {
	x.t.Helper()
	for {
		line, err := x.r.ReadString('\n')
		if err != nil {
			x.t.Fatalf("no %q: %v", start, err)
		}
		lines = append(lines, strings.TrimRight(line, "\r\n"))
		if strings.HasPrefix(line, start) {
			return lines
		}
	}
}

// do sends a command that has to succeed, and returns what was said to it.
func (x *through) do(format string, args ...any) []string {
	x.t.Helper()
	x.n++
	tag := fmt.Sprintf("x%d", x.n)
	x.send(tag + " " + fmt.Sprintf(format, args...))
	lines := x.until(tag + " ")
	if !strings.HasPrefix(lines[len(lines)-1], tag+" OK") {
		x.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), lines[len(lines)-1])
	}
	return lines
}

// emptying is one way in which people get rid of mail.
type emptying struct {
	name string
	do   func(x, y *through, box string) // y is a second session of the user, which has the mailbox open
	left int                             // of the messages
}

const discarded = 120 // messages in a mailbox that is emptied

var emptyings = []emptying{
	{"STORE and EXPUNGE", func(x, _ *through, _ string) {
		x.do(`UID STORE 1:* +FLAGS.SILENT (\Deleted)`)
		x.do("EXPUNGE")
	}, 0},
	{"by number, and CLOSE", func(x, _ *through, _ string) {
		x.do(`STORE 1:* +FLAGS (\Deleted)`)
		x.do("CLOSE")
	}, 0},
	{"UID MOVE", func(x, _ *through, box string) {
		x.do("UID MOVE 1:%d %s", discarded, strings.Replace(box, "Discarded", "Elsewhere", 1))
	}, 0},
	{"two sessions", func(x, y *through, _ string) {
		y.send("i IDLE")
		y.until("+")
		x.do(`UID STORE 1:100 +FLAGS.SILENT (\Deleted)`)
		x.do("UID EXPUNGE 1:*")
		y.send("DONE")
		y.until("i OK")
		y.do(`UID STORE 90:110 +FLAGS (\Deleted)`)
		y.do("EXPUNGE")
	}, discarded - 110},
	{"QRESYNC", func(x, _ *through, box string) {
		x.do("ENABLE QRESYNC")
		x.do("SELECT %s", box)
		x.do(`UID STORE 1:%d +FLAGS.SILENT (\Deleted)`, discarded)
		if lines := x.do("UID EXPUNGE 1:%d", discarded); !strings.Contains(strings.Join(lines, "\n"), "* VANISHED ") {
			x.t.Errorf("no VANISHED: %v", lines)
		}
	}, 0},
	{"some by number", func(x, _ *through, _ string) {
		x.do(`STORE 11:%d +FLAGS (\Deleted)`, discarded)
		x.do("EXPUNGE")
	}, 10},
}

// messages counts the messages of a mailbox; -1 means that there is none.
func messages(t *testing.T, h lab.Host, n int, box string) int {
	x := lab.Dial(t, h, n)
	defer x.Close()
	lines, status := x.Try("STATUS %s (MESSAGES)", box)
	if !strings.HasPrefix(status, "OK") {
		return -1
	}
	count := -1
	for _, line := range lines {
		if i := strings.Index(line, "(MESSAGES "); i >= 0 {
			_, _ = fmt.Sscanf(line[i:], "(MESSAGES %d", &count)
		}
	}
	return count
}

// TestKeptHeedsPeople: what people delete through the gateway is gone on the other side in seconds, however much it is and however they do
// it; what goes by other hands is held back, also when a session looks on, until a person says that it is meant.
func TestKeptHeedsPeople(t *testing.T) {
	t.Parallel()
	t.Run("Dovecot", func(t *testing.T) {
		t.Parallel()
		keptHeedsPeople(t, lab.Start(t, lab.MailboxesOnly()), "INBOX.")
	})
	t.Run("Cyrus", func(t *testing.T) {
		t.Parallel()
		l := lab.Start(t, lab.MailboxesOnly())
		keptHeedsPeople(t, &lab.Lab{Old: lab.StartCyrus(t).Host, New: l.New}, "")
	})
}

func keptHeedsPeople(t *testing.T, l *lab.Lab, prefix string) {
	g := syncGate(t, l, "")
	g.write(g.file, strings.Replace(mustRead(t, g.file), "sync: {settle: 100ms, confirm: 0s", "sync: {waves: ['*'], poll: 2s, settle: 100ms, confirm: 2s", 1))
	users := len(emptyings) + 2 // the last two lose mail by other hands: one then deletes a folder, of the other somebody says that it is meant
	if users > lab.Users {
		t.Fatalf("%d users are not enough", lab.Users)
	}
	box := prefix + "Discarded"
	var wg sync.WaitGroup
	for n := 1; n <= users; n++ {
		wg.Go(func() {
			x := lab.Dial(t, l.Old, n)
			defer x.Close()
			x.Do("CREATE %s", box)
			x.Do("CREATE %sElsewhere", prefix)
			for i := range 20 {
				x.Append("INBOX", "", fmt.Sprintf("Subject: m %d\r\nMessage-ID: <%d.%d@example.com>\r\n\r\nhello\r\n", i, i, n))
			}
			x.Do("SELECT INBOX")
			for range discarded / 20 { // the same mail many times: a move cannot be told by what moved
				x.Do("COPY 1:* %s", box)
			}
		})
	}
	wg.Wait()
	g.start()
	whole := func(n int) {
		until(t, "the first copy", func() bool {
			s, err := g.user(lab.User(n))
			return err == nil && s.Sync != nil && s.Sync.Phase == "converged" && !s.Sync.Running && messages(t, l.New, n, "Discarded") == discarded
		})
	}
	for i, e := range emptyings {
		wg.Go(func() {
			n := i + 1
			whole(n)
			x, y := g.through(t, n), g.through(t, n)
			x.do("SELECT %s", box)
			y.do("SELECT %s", box)
			e.do(x, y, box)
			began := time.Now()
			until(t, e.name, func() bool { return messages(t, l.New, n, "Discarded") == e.left })
			t.Logf("%s: on NEW within %v", e.name, time.Since(began).Round(100*time.Millisecond))
			until(t, e.name+": nothing is held back", func() bool {
				s, err := g.user(lab.User(n))
				return err == nil && s.Sync.Held == 0 && !s.Sync.Running
			})
			y.do("NOOP")
		})
	}
	wg.Wait()

	n := users - 1
	whole(n)
	x := g.through(t, n)
	x.do("SELECT %s", box)
	x.send("i IDLE")
	x.until("+")
	wipe(t, l.Old, n, box)
	x.until("* 1 EXPUNGE") // the session sees it
	x.send("DONE")
	x.until("i OK")
	x.do("EXPUNGE") // and asks for nothing
	held := func(n int) int {
		s, err := g.user(lab.User(n))
		if err != nil {
			t.Fatal(err)
		}
		return s.Sync.Held
	}
	until(t, "what goes by other hands is held back", func() bool { return held(n) == 1 })
	time.Sleep(3 * time.Second) // a poll, and a pass
	if k := messages(t, l.New, n, "Discarded"); k != discarded || held(n) != 1 {
		t.Errorf("%d of %d messages are left on NEW", k, discarded)
	}
	x.do("CLOSE")
	x.do("DELETE %s", box) // now that is meant
	until(t, "a folder that a person has deleted", func() bool { return messages(t, l.New, n, "Discarded") == -1 && held(n) == 0 })

	n = users
	whole(n)
	wipe(t, l.Old, n, box)
	until(t, "it is held back", func() bool { return held(n) == 1 })
	until(t, "what somebody says is meant", func() bool {
		code, out, _ := g.verb("sync", "run", lab.User(n), "--yes", "--deletes")
		if code != 0 && (code != 4 || !strings.Contains(out, "--deletes after")) {
			t.Fatalf("exit %d:\n%s", code, out)
		}
		return code == 0 && messages(t, l.New, n, "Discarded") == 0
	})
}

// wipe takes all mail of a mailbox away: on disk where that can be done, or past the gateway.
func wipe(t *testing.T, h lab.Host, n int, box string) {
	t.Helper()
	if name, ok := strings.CutPrefix(box, "INBOX."); ok {
		list, err := filepath.Glob(filepath.Join(h.Home(n), "Maildir", "."+name, "*", "*"))
		if err != nil || len(list) < discarded {
			t.Fatalf("%d files, %v", len(list), err)
		}
		for _, f := range list {
			if dir := filepath.Base(filepath.Dir(f)); dir == "cur" || dir == "new" {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
		}
		return
	}
	c := lab.Dial(t, h, n)
	defer c.Close()
	c.Do("SELECT %s", box)
	c.Do(`UID STORE 1:* +FLAGS.SILENT (\Deleted)`)
	c.Do("EXPUNGE")
}
