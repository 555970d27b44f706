package main

import (
	"encoding/base64"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// TestSubmission goes through the gateway with messages, against Postfix (OLD) and Dovecot's submission (NEW).
func TestSubmission(t *testing.T) {
	l := lab.Start(t)
	g := labGate(t, l, twoUsers, "")
	g.start()
	defer g.stop()

	login := func(t *testing.T, addr string, secure bool, user, password string) (*lines, string) {
		c := rawDial(t, addr, secure)
		c.until(t, "220 ")
		c.send(t, "EHLO client.example.org\r\n")
		ehlo := ""
		for {
			s, err := c.read()
			if err != nil {
				t.Fatal(err)
			}
			if ehlo += s + "\n"; strings.HasPrefix(s, "250 ") {
				break
			}
		}
		c.send(t, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))+"\r\n")
		return c, ehlo + c.until(t, "2")
	}
	t.Run("EHLO is the intersection", func(t *testing.T) {
		_, ehlo := login(t, g.smtps, true, "user1@example.com", "pass1")
		for _, want := range []string{"250-PIPELINING", "SIZE ", "8BITMIME", "AUTH PLAIN LOGIN\n"} {
			if !strings.Contains(ehlo, want) {
				t.Errorf("no %q in\n%s", want, ehlo)
			}
		}
		if strings.Contains(ehlo, "XCLIENT") || strings.Contains(ehlo, "VRFY") {
			t.Error(ehlo)
		}
	})
	t.Run("what the backend says is what the client hears", func(t *testing.T) {
		queued := regexp.MustCompile(`\d+ bytes queued as \w+|queued as \w+`) // a relay's Received is longer by the name of its client
		for user, addr := range map[string]int{"1": l.Old.Submission, "2": l.New.Submission} {
			var said [2]string
			for i, at := range []string{lab.Addr(addr), g.smtps} {
				c, _ := login(t, at, i == 1, "user"+user+"@example.com", "pass"+user)
				for _, cmd := range []string{"MAIL FROM:<user1@example.com> SIZE=100", "RCPT TO:<user3@example.com>",
					"RCPT TO:<not an address", "RCPT TO:<user4@example.com>", "VRFY x", "NOOP", "RSET", "DATA", "MAIL FROM:<user1@example.com>",
					"RCPT TO:<user3@example.com>", "DATA"} {
					c.send(t, cmd+"\r\n")
					said[i] += cmd + ": " + c.until(t, "") + "\n"
				}
				c.send(t, "Subject: transcript\r\n\r\n..a dot\r\n.\r\n")
				said[i] += queued.ReplaceAllString(c.until(t, ""), "queued")
				c.send(t, "QUIT\r\n")
				said[i] += c.until(t, "221")
			}
			if said[0] != said[1] {
				t.Errorf("user%s\ndirect\n%s\nproxied\n%s", user, said[0], said[1])
			}
		}
	})
	t.Run("no smuggling", func(t *testing.T) {
		for _, end := range []string{"\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\r\n"} {
			c, _ := login(t, g.smtps, true, "user1@example.com", "pass1")
			c.send(t, "MAIL FROM:<user1@example.com>\r\nRCPT TO:<user5@example.com>\r\nDATA\r\n")
			c.until(t, "354")
			c.send(t, "Subject: smuggler\r\n\r\nx"+end+"MAIL FROM:<user1@example.com>\r\nRCPT TO:<user5@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\ny\r\n.\r\n")
			c.until(t, "550 5.6.0")
			c.until(t, "421")
		}
	})
	t.Run("wrong passwords and order", func(t *testing.T) {
		for _, dialogue := range [][]string{
			{"MAIL FROM:<a@b>\r\n", "530 "}, {"AUTH PLAIN AAAA\r\n", "503 "}, {"EHLO x\r\n", "250 ", "AUTH PLAIN AHgAeQ==\r\n", "535 5.7.8"},
			{"EHLO x\r\n", "250 ", "AUTH PLAIN\r\n", "334 ", "*\r\n", "501 "}, {"EHLO x\r\n", "250 ", "AUTH NTLM\r\n", "504 "},
			{"EHLO x\nMAIL\r\n", "500 "}, {"XCLIENT ADDR=1.2.3.4\r\n", "500 "}, {"BDAT 5\r\nQUIT\r\n", "530 "},
		} {
			c := rawDial(t, g.smtps, true)
			c.until(t, "220 ")
			for _, s := range dialogue {
				if strings.HasSuffix(s, "\n") {
					c.send(t, s)
				} else {
					c.until(t, s)
				}
			}
		}
	})
	t.Run("swaks", func(t *testing.T) {
		host, port, _ := strings.Cut(g.smtps, ":")
		out, err := exec.Command("swaks", "--server", host, "--port", port, "--tls-on-connect", "--auth", "PLAIN", "--auth-user",
			"user2@example.com", "--auth-password", "pass2", "--from", "user2@example.com", "--to", "user6@example.com",
			"--header", "Subject: by swaks").CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
	})
	t.Run("a flip waits for no transaction, and ends the session behind it", func(t *testing.T) {
		busy, _ := login(t, g.smtps, true, "user1@example.com", "pass1")
		idle, _ := login(t, g.smtps, true, "user1@example.com", "pass1")
		busy.send(t, "MAIL FROM:<user1@example.com>\r\nRCPT TO:<user7@example.com>\r\nDATA\r\n")
		busy.until(t, "354")
		g.run(0, "flip", "user1@example.com", "new", "--yes")
		idle.until(t, "421 4.3.2")
		busy.send(t, "Subject: across a flip\r\n\r\nx\r\n.\r\n")
		busy.until(t, "250 ")
		busy.until(t, "421 4.3.2")
		g.run(0, "rollback", "user1@example.com", "--yes")
		if out := g.run(0, "status", "user1@example.com"); !strings.Contains(out, "pinned to old") {
			t.Error(out)
		}
		g.run(0, "reload") // redeploying the same file undoes nothing
		if out := g.run(0, "status"); !strings.Contains(out, "drift") {
			t.Error(out)
		}
		g.run(0, "unpin", "user1@example.com")
		g.waitSide("user1@example.com", "new")
	})
	want := map[string]string{"user3": "transcript", "user6": "by swaks", "user7": "across a flip"}
	for end := time.Now().Add(15 * time.Second); len(want) > 0 && time.Now().Before(end); {
		for user, subject := range want {
			if subjects(t, l.Old, user+"@example.com", "pass"+user[4:])[subject] > 0 {
				delete(want, user)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("did not arrive: %v", want)
	}
	if got := subjects(t, l.Old, "user5@example.com", "pass5"); len(got) > 0 {
		t.Errorf("smuggled: %v", got)
	}
}
