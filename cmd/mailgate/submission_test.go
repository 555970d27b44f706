package main

import (
	"encoding/base64"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// TestSubmission goes through the gateway with messages, against Postfix (OLD) and Dovecot's submission (NEW).
func TestSubmission(t *testing.T) {
	t.Parallel()
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
	queued := regexp.MustCompile(`\d+ bytes queued as \w+|queued as \w+`) // a relay's Received is longer by the name of its client
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
	t.Run("pipelined, in chunks, with every extension", func(t *testing.T) {
		for user, addr := range map[string]int{"1": l.Old.Submission, "2": l.New.Submission} {
			var said [2]string
			for i, at := range []string{lab.Addr(addr), g.smtps} {
				c, _ := login(t, at, i == 1, "user"+user+"@example.com", "pass"+user)
				for _, segment := range []struct {
					send    string
					replies int
				}{
					{"MAIL FROM:<user1@example.com> SIZE=99 BODY=8BITMIME\r\nRCPT TO:<user3@example.com>\r\nRCPT TO:<a@@b>\r\nDATA\r\n", 4},
					{"Subject: pipelined\r\n\r\n..\r\n.\r\nRSET\r\nNOOP\r\n", 3},
					{"RCPT TO:<user3@example.com>\r\nDATA\r\nMAIL FROM:<user1@example.com> FOO=BAR\r\nMAIL FROM:<>\r\nMAIL FROM:<>\r\nRSET\r\n", 6},
					{"MAIL FROM:<user1@example.com> SIZE=999999999999\r\nRSET\r\nHELP\r\nEXPN x\r\n", 4},
					{"MAIL FROM:<user1@example.com>\r\nRCPT TO:<user3@example.com>\r\nBDAT 20\r\nSubject: in chunks\r\n", 3},
					{"BDAT 7\r\n\r\n.\r\n.yBDAT 0 LAST\r\n", 2},
					{"MAIL FROM:<user1@example.com>\r\nRCPT TO:<user3@example.com>\r\nBDAT 3\r\na\r\nRSET\r\nQUIT\r\n", 5},
				} {
					c.send(t, segment.send)
					for range segment.replies {
						said[i] += c.reply(t)
					}
				}
			}
			for i := range said {
				said[i] = queued.ReplaceAllString(said[i], "queued")
			}
			if said[0] != said[1] {
				t.Errorf("user%s\ndirect\n%s\nproxied\n%s", user, said[0], said[1])
			}
		}
	})
	t.Run("no smuggling", func(t *testing.T) {
		for _, end := range smugglers {
			c, _ := login(t, g.smtps, true, "user1@example.com", "pass1")
			c.send(t, "MAIL FROM:<user1@example.com>\r\nRCPT TO:<user5@example.com>\r\nDATA\r\n")
			c.until(t, "354")
			c.send(t, "Subject: smuggler\r\n\r\nx"+end+smuggledMail)
			c.until(t, "550 5.6.0")
			c.until(t, "421")
			c, _ = login(t, g.smtps, true, "user1@example.com", "pass1")
			text := "Subject: smuggler\r\n\r\nx" + end + smuggledMail
			c.send(t, "MAIL FROM:<user1@example.com>\r\nRCPT TO:<user5@example.com>\r\n")
			c.send(t, fmt.Sprintf("BDAT 24\r\n%sBDAT %d LAST\r\n%s", text[:24], len(text)-24, text[24:]))
			c.until(t, "550 5.6.0")
			c.until(t, "421")
		}
	})
	t.Run("normalized, a smuggler is one message", func(t *testing.T) {
		n := labGate(t, l, twoUsers, "submission: {bare_newlines: normalize}\n")
		n.start()
		defer n.stop()
		for i, end := range smugglers {
			for _, chunks := range []bool{false, true} {
				c, _ := login(t, n.smtps, true, "user1@example.com", "pass1")
				text := fmt.Sprintf("Subject: smuggler %d %v\r\n\r\nx", i, chunks) + end + smuggledMail
				c.send(t, "MAIL FROM:<user1@example.com>\r\nRCPT TO:<user8@example.com>\r\n")
				if chunks { // they become DATA here
					c.send(t, fmt.Sprintf("BDAT 30\r\n%sBDAT %d LAST\r\n%s", text[:30], len(text)-30, text[30:]))
				} else {
					c.send(t, "DATA\r\n")
					c.until(t, "354")
					c.send(t, text)
				}
				c.until(t, "250 2.0.0 Ok: queued")
				c.send(t, "QUIT\r\n")
				c.until(t, "221")
			}
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
	t.Run("swaks and curl hear the same", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "message")
		g.write(file, "Subject: by curl\r\n\r\n.\r\nx\r\n")
		swaks := func(at string, more ...string) []string {
			host, port, _ := strings.Cut(at, ":")
			return append([]string{"swaks", "--server", host, "--port", port, "--auth", "PLAIN", "--header", "Subject: by swaks",
				"--auth-user", "user2@example.com", "--auth-password", "pass2", "--from", "user2@example.com",
				"--to", "user6@example.com,gone@@example.com", "--pipeline"}, more...)
		}
		curl := func(url string) []string {
			return []string{"curl", "-svk", "--user", "user2@example.com:pass2", "--mail-from", "user2@example.com",
				"--mail-rcpt", "user6@example.com", "--mail-rcpt", "gone@@example.com", "--mail-rcpt-allowfails", "-T", file, url}
		}
		for name, c := range map[string][2][]string{
			"swaks": {swaks(lab.Addr(l.New.Submission)), swaks(g.smtps, "--tls-on-connect")},
			"curl":  {curl("smtp://" + lab.Addr(l.New.Submission)), curl("smtps://" + g.smtps)},
		} {
			var said [2]string
			for i := range c {
				out, _ := exec.Command(c[i][0], c[i][1:]...).CombinedOutput()
				said[i] = queued.ReplaceAllString(repliesBehindLogin(string(out)), "queued")
			}
			if said[0] != said[1] || !strings.Contains(said[0], "queued") || !strings.Contains(said[0], "501") {
				t.Errorf("%s\ndirect\n%s\nproxied\n%s", name, said[0], said[1])
			}
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
	want := map[string][]string{"user3": {"transcript", "pipelined", "in chunks"}, "user6": {"by swaks", "by curl"}, "user7": {"across a flip"}}
	if strings.Contains(g.log.String(), "refuses XCLIENT") {
		t.Error("Postfix trusts us and did not take XCLIENT as it was said")
	}
	for i := range smugglers {
		want["user8"] = append(want["user8"], fmt.Sprintf("smuggler %d false", i), fmt.Sprintf("smuggler %d true", i))
	}
	for end := time.Now().Add(15 * time.Second); len(want) > 0 && time.Now().Before(end); {
		for user, all := range want {
			got := subjects(t, l.Old, user+"@example.com", "pass"+user[4:])
			if !slices.ContainsFunc(all, func(s string) bool { return got[s] == 0 }) {
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
	if got := subjects(t, l.Old, "user8@example.com", "pass8"); len(got) != 2*len(smugglers) {
		t.Errorf("%d messages of %d: %v", len(got), 2*len(smugglers), got)
	}
}

var serverLine = regexp.MustCompile(`(?m)^<[-~*]*\s+(\d\d\d[ -].*?)\r?$`)

// repliesBehindLogin takes the server's replies from what swaks or curl shows of a session.
func repliesBehindLogin(shown string) string {
	var out []string
	for _, m := range serverLine.FindAllStringSubmatch(shown, -1) {
		if out != nil || strings.HasPrefix(m[1], "235") {
			out = append(out, m[1])
		}
	}
	return strings.Join(out, "\n")
}

// smugglers are what ends a message for one server or another, and not for SMTP.
var smugglers = []string{"\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\n\n.\n\n", "\r\r\n.\r\r\n", "\r\x00\n.\r\x00\n"}

const smuggledMail = "MAIL FROM:<user1@example.com>\r\nRCPT TO:<user5@example.com>\r\nRCPT TO:<user8@example.com>\r\nDATA\r\n" +
	"Subject: smuggled\r\n\r\ny\r\n.\r\n"

// reply reads one reply.
func (l *lines) reply(t *testing.T) (all string) {
	t.Helper()
	for {
		s, err := l.read()
		if err != nil {
			t.Fatalf("waiting for a reply: %v; seen %q%q", err, all, s)
		}
		if all += s + "\n"; len(s) < 4 || s[3] != '-' {
			return all
		}
	}
}
