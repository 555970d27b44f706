package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/lab"
	"mailgate/op"
)

// TestFlipInTheMiddle flips users while a session of theirs is in the middle of something, against real servers: no half
// message, no command answered twice or not at all, and the flip waits, or is called off.
func TestFlipInTheMiddle(t *testing.T) {
	t.Parallel()
	l := lab.Start(t)
	routes := ""
	for n := 1; n <= 5; n++ {
		routes += fmt.Sprintf("user%d@example.com old\n", n)
	}
	g := labGate(t, l, routes, "flip: {deadline: 1m}\n")
	g.start()
	defer g.stop()
	big := bigMessage(50 << 20)

	t.Run("IDLE", func(t *testing.T) {
		c := g.session(t, 1)
		c.send(t, "b SELECT INBOX\r\nc IDLE\r\n")
		c.until(t, "+ ")
		g.run(0, "flip", "user1@example.com", "new", "--yes")
		bye(t, c)
	})
	t.Run("APPEND of 50 MB", func(t *testing.T) {
		c := g.session(t, 2)
		c.send(t, fmt.Sprintf("b APPEND INBOX {%d}\r\n", len(big)))
		c.until(t, "+ ")
		c.send(t, big[:len(big)/2])
		flip := g.flipping(t, 2)
		c.send(t, big[len(big)/2:]+"\r\nc NOOP\r\n") // the command behind it is not passed on any more
		c.until(t, "b OK")
		bye(t, c)
		flip(0)
		if got := inbox(t, l.Old, "user2@example.com", "pass2"); len(got["big"]) != 1 || got["big"][0] != sum(big) {
			t.Errorf("on OLD: %v", got)
		}
		if got := inbox(t, l.New, "user2@example.com", "pass2"); len(got) != 0 {
			t.Errorf("on NEW: %v", got)
		}
	})
	put := func(t *testing.T, n int) {
		user, password := loadUser(n)
		d := direct(t, l.Old, user, password)
		defer d.Close()
		if err := appendText(d, big); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("FETCH of 50 MB, slowly read", func(t *testing.T) {
		put(t, 3)
		c := g.session(t, 3)
		c.send(t, "b SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\n")
		size := literal(t, c.until(t, "* 1 FETCH"))
		h := sha256.New()
		n, err := c.copyN(h, size/4)
		if err != nil {
			t.Fatal(err)
		}
		flip := g.flipping(t, 3)
		if n, err = c.copyN(h, size-n); err != nil {
			t.Fatalf("cut %d bytes behind the pause: %v", n, err)
		}
		if want := sha256.Sum256([]byte(big)); string(h.Sum(nil)) != string(want[:]) {
			t.Error("the message came otherwise than it is")
		}
		c.until(t, "c OK")
		bye(t, c)
		flip(0)
	})
	g.write(g.file, strings.Replace(mustRead(t, g.file), "flip: {deadline: 1m}", "flip: {deadline: 8s}", 1)) // from here on it is waited for
	g.run(0, "reload")
	t.Run("FETCH that nobody reads", func(t *testing.T) {
		put(t, 4)
		c := g.session(t, 4)
		c.send(t, "b SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\n")
		c.until(t, "* 1 FETCH")
		g.flipping(t, 4)(0) // it is cut, at half the deadline: nothing acknowledged is lost by that
		g.waitSide("user4@example.com", "new")
	})
	t.Run("APPEND that does not end", func(t *testing.T) {
		c := g.session(t, 5)
		text := "Subject: late\r\n\r\nx\r\n"
		c.send(t, fmt.Sprintf("b APPEND INBOX {%d}\r\n", len(text)))
		c.until(t, "+ ")
		c.send(t, text[:5])
		if out := g.flipping(t, 5)(3); !strings.Contains(out, "deadline") || !strings.Contains(out, "nothing was changed") {
			t.Errorf("flip: %s", out)
		}
		if out := g.run(0, "history", "user5@example.com"); !strings.Contains(out, "flip aborted") {
			t.Errorf("history: %s", out)
		}
		g.waitSide("user5@example.com", "old")
		c.send(t, text[5:]+"\r\n")
		c.until(t, "b OK")
		c.send(t, "c NOOP\r\n") // the session lives on
		c.until(t, "c OK")
		g.run(0, "flip", "user5@example.com", "new", "--yes")
		bye(t, c)
		if got := inbox(t, l.Old, "user5@example.com", "pass5"); len(got["late"]) != 1 {
			t.Errorf("on OLD: %v", got)
		}
	})
}

// session logs in as userN and is past the answer.
func (g *gate) session(t *testing.T, n int) *lines {
	t.Helper()
	user, password := loadUser(n)
	c := rawDial(t, g.imaps, true)
	c.until(t, "* OK")
	c.send(t, "a LOGIN "+user+" "+password+"\r\n")
	c.until(t, "a OK")
	return c
}

// flipping begins a flip of userN to NEW and returns when it waits for sessions to end. The result waits for its end,
// which must have this exit code.
func (g *gate) flipping(t *testing.T, n int) (end func(exit int) string) {
	t.Helper()
	user, _ := loadUser(n)
	cmd := g.command("flip", user, "new", "--yes")
	out := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		u, err := g.user(user)
		if err != nil || time.Now().After(limit) {
			t.Fatalf("the flip does not wait: %s\n%+v %v", out, u, err)
		}
		if u.State == op.Drain {
			break
		}
	}
	return func(exit int) string {
		t.Helper()
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != exit {
			t.Errorf("flip: exit %d, want %d: %s", got, exit, out)
		}
		return out.String()
	}
}

// bye reads to the end, which must be the gateway's BYE and nothing behind it, and no answer to a command.
func bye(t *testing.T, c *lines) {
	t.Helper()
	said := false
	for {
		s, err := c.read()
		switch {
		case err != nil && !said:
			t.Fatalf("no BYE: %v %s", err, s)
		case err != nil:
			return
		case said || !strings.HasPrefix(s, "* "):
			t.Errorf("at the end: %s", s)
		case strings.HasPrefix(s, "* BYE [UNAVAILABLE]"):
			said = true
		}
	}
}

// copyN takes n bytes of what comes.
func (l *lines) copyN(w io.Writer, n int64) (int64, error) {
	have := min(int64(len(l.buf)), n)
	if _, err := w.Write(l.buf[:have]); err != nil {
		return 0, err
	}
	l.buf = l.buf[have:]
	_ = l.SetReadDeadline(time.Now().Add(30 * time.Second))
	got, err := io.CopyN(w, l, n-have)
	return have + got, err
}

func literal(t *testing.T, line string) int64 {
	t.Helper()
	m := regexp.MustCompile(`\{(\d+)\}$`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no literal: %s", line)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// bigMessage has lines of 76, in all about size bytes.
func bigMessage(size int) string {
	return "From: a@example.com\r\nSubject: big\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"0123456789ab\r\n", size/78)
}
