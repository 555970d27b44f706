package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailgate/mailtest/lab"
)

const twoUsers = "# who is where\nuser1@example.com old\nuser2@example.com new\n"

// TestLabSessions goes through the gateway with many logins, clients and verbs, against real servers.
func TestLabSessions(t *testing.T) {
	t.Parallel()
	l := lab.Start(t)
	g := labGate(t, l, twoUsers, "")
	g.start()
	defer g.stop()

	t.Run("the route decides the side", func(t *testing.T) {
		for user, want := range map[string]string{"user1": "old", "user2": "new", "user3": "old"} {
			c, err := g.dial(user+"@example.com", "pass"+user[4:])
			if err != nil {
				t.Fatal(err)
			}
			if got, err := side(c); got != want {
				t.Errorf("%s is on %s (%v), want %s", user, got, err, want)
			}
			c.Close()
		}
	})
	t.Run("capabilities after login are the backend's", func(t *testing.T) {
		direct, proxied := rawDial(t, lab.Addr(l.Old.IMAP), false), rawDial(t, g.imaps, true)
		var caps [2]string
		for i, c := range []*lines{direct, proxied} {
			c.until(t, "* OK")
			c.send(t, "a1 LOGIN user1@example.com pass1\r\n")
			caps[i] = c.until(t, "a1 ")
			c.send(t, "a2 CAPABILITY\r\n")
			caps[i] += c.until(t, "* CAPABILITY")
		}
		if caps[0] = strings.ReplaceAll(caps[0], " LOGIN-REFERRALS", ""); caps[0] != caps[1] {
			t.Errorf("direct  %s\nproxied %s", caps[0], caps[1])
		}
	})
	t.Run("mechanisms, with and without initial response", func(t *testing.T) {
		plain := "AHVzZXIxQGV4YW1wbGUuY29tAHBhc3Mx" // \0user1@example.com\0pass1
		for _, dialogue := range [][]string{
			{"a AUTHENTICATE PLAIN " + plain + "\r\n", "a OK"},
			{"a AUTHENTICATE PLAIN\r\n", "+ ", plain + "\r\n", "a OK"},
			{"a AUTHENTICATE LOGIN\r\n", "+ VXNlcm5hbWU6", "dXNlcjFAZXhhbXBsZS5jb20=\r\n", "+ UGFzc3dvcmQ6", "cGFzczE=\r\n", "a OK"},
			{"a LOGIN {17}\r\n", "+ ", "user1@example.com {5}\r\n", "+ ", "pass1\r\n", "a OK"},
			{"a LOGIN {17+}\r\nuser1@example.com \"pass1\"\r\n", "a OK"},
			{"a AUTHENTICATE PLAIN\r\n", "+ ", "*\r\n", "a BAD", "b NOOP\r\n", "b OK"},
			{"a LOGIN user1@example.com wrong\r\n", "a NO [AUTHENTICATIONFAILED]"},
			{"a ID (\"name\" {4}\r\n", "+ ", "test)\r\n", "* ID (", "b NOOP\r\n", "b OK"},
			{"a SELECT INBOX\r\n", "a BAD"},
			{"a LOGIN user1@example.com pass1\r\nb SELECT INBOX\r\nc NOOP\r\n", "a OK", "b OK", "c OK"},
			{"a LOGIN {4294967295}\r\n", "a BAD [TOOBIG]", "b NOOP\r\n", "b OK"},
			{"a LOGIN {4294967295+}\r\n", "* BYE"},
			{"a LOGIN {9}\r\n", "+ ", "x\r\ny NOOP y\r\n", "a NO [AUTHENTICATIONFAILED]"},
		} {
			c := rawDial(t, g.imaps, true)
			c.until(t, "* OK")
			for _, s := range dialogue {
				if strings.HasSuffix(s, "\r\n") {
					c.send(t, s)
				} else {
					c.until(t, s)
				}
			}
		}
	})
	t.Run("STARTTLS drops what came in clear behind it", func(t *testing.T) {
		c := rawDial(t, g.imap, false)
		if s := c.until(t, "* OK"); !strings.Contains(s, "STARTTLS") || !strings.Contains(s, "LOGINDISABLED") {
			t.Error(s)
		}
		c.send(t, "a LOGIN user1@example.com pass1\r\n")
		c.until(t, "a NO [PRIVACYREQUIRED]")
		d, err := imapclient.DialStartTLS(g.imap, &imapclient.Options{TLSConfig: insecure()})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := d.Login("user1@example.com", "pass1").Wait(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("COMPRESS does not hide the boundaries", func(t *testing.T) {
		c := rawDial(t, g.imaps, true)
		c.until(t, "* OK")
		c.send(t, "a LOGIN user1@example.com pass1\r\n")
		c.until(t, "a OK")
		c.send(t, "b COMPRESS DEFLATE\r\nc NOOP\r\n")
		c.until(t, "b BAD")
		c.until(t, "c OK")
	})
	t.Run("curl and mbsync", func(t *testing.T) {
		out, err := exec.Command("curl", "-sk", "-u", "user2@example.com:pass2", "imaps://"+g.imaps+"/", "-X", "LIST \"\" *").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "INBOX") {
			t.Errorf("curl: %v %s", err, out)
		}
		appendMail(t, g, "user2@example.com", "pass2", "for mbsync")
		dir := t.TempDir()
		rc := filepath.Join(dir, "mbsyncrc")
		host, port, _ := strings.Cut(g.imaps, ":")
		text := fmt.Sprintf("IMAPStore r\nHost %s\nPort %s\nUser user2@example.com\nPass pass2\nSSLType IMAPS\nCertificateFile %s/cert.pem\n\n"+
			"MaildirStore l\nPath %s/\nInbox %s/INBOX\nSubFolders Verbatim\n\nChannel c\nFar :r:\nNear :l:\nPatterns *\nCreate Near\nSyncState *\n",
			host, port, g.dir, dir, dir)
		if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mbsync", "-c", rc, "-a").CombinedOutput(); err != nil {
			t.Errorf("mbsync: %v %s", err, out)
		}
		if got, _ := filepath.Glob(filepath.Join(dir, "INBOX", "*", "*")); len(got) != 1 {
			t.Errorf("mbsync fetched %d messages, want 1", len(got))
		}
	})
	t.Run("verbs", func(t *testing.T) {
		c, err := g.dial("user1@example.com", "pass1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if out := g.run(0, "sessions", "User1@EXAMPLE.com"); !strings.Contains(out, "user1@example.com") {
			t.Error(out)
		}
		if out := g.run(0, "status", "user1+tag@example.com"); !strings.Contains(out, "on old") || !strings.Contains(out, "routes file says so") {
			t.Error(out)
		}
		g.run(0, "kick", "user1@example.com")
		select {
		case <-c.Closed():
		case <-time.After(5 * time.Second):
			t.Error("the kicked session lives")
		}
		g.run(0, "config", "check")
		g.run(64, "kick")
		g.run(64, "nonsense")
		pw := filepath.Join(t.TempDir(), "pw")
		if err := os.WriteFile(pw, []byte("pass1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := g.run(exitUnknown, "doctor", "--user", "user1@example.com", "--password-file", pw); !strings.Contains(out, "imap: in") {
			t.Error(out)
		}
	})
	if s := g.log.String(); strings.Contains(s, "pass1") || strings.Contains(s, "AHVzZXIx") {
		t.Error("a secret is in the log")
	}
}

func appendMail(t *testing.T, g *gate, user, password, subject string) {
	t.Helper()
	c, err := g.dial(user, password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := appendTo(c, subject); err != nil {
		t.Fatal(err)
	}
}

func appendTo(c *imapclient.Client, subject string) error {
	return appendText(c, "From: a@example.com\r\nSubject: "+subject+"\r\n\r\nbody of "+subject+"\r\n")
}

// subjects lists the subjects of a user's INBOX on one host, with their number.
func subjects(t *testing.T, h lab.Host, user, password string) map[string]int {
	t.Helper()
	c, err := imapclient.DialInsecure(lab.Addr(h.IMAP), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(user, password).Wait(); err != nil {
		t.Fatal(err)
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil { // Dovecot: another session makes the account's folders at this moment
		box, err = c.Select("INBOX", nil).Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	if box.NumMessages == 0 {
		return out
	}
	var set imap.SeqSet
	set.AddRange(1, box.NumMessages)
	list, err := c.Fetch(set, &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		out[m.Envelope.Subject]++
	}
	return out
}
