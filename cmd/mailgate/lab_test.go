package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailgate/mailtest/lab"
)

const twoUsers = "# who is where\nuser1@example.com old\nuser2@example.com new\n"

// TestLabSessions goes through the gateway with many logins, clients and verbs, against real servers.
func TestLabSessions(t *testing.T) {
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
	text := "From: a@example.com\r\nSubject: " + subject + "\r\n\r\nbody of " + subject + "\r\n"
	a := c.Append("INBOX", int64(len(text)), nil)
	if _, err := a.Write([]byte(text)); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return err
	}
	_, err := a.Wait()
	return err
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

// TestFlipUnderLoad flips a user to and fro while many clients of his append, fetch and idle. Nothing acknowledged may
// be missing or double (I10, I11), no session may be on the old side once the flip is done (I1, I2), nobody may be
// told that his password is wrong.
func TestFlipUnderLoad(t *testing.T) {
	l := lab.Start(t)
	g := labGate(t, l, twoUsers, "")
	g.start()
	defer g.stop()
	w := &load{t: t, g: g, user: "user1@example.com", password: "pass1", acked: map[string]bool{}}
	w.route.Store(&routeAt{side: "old"})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { w.client(i, stop) })
	}
	idler := rawDial(t, g.imaps, true)
	idler.until(t, "* OK")
	idler.send(t, "a LOGIN user1@example.com pass1\r\n")
	idler.until(t, "a OK")
	idler.send(t, "b SELECT INBOX\r\nc IDLE\r\n")
	idler.until(t, "+ ")
	for i := range 6 {
		to := []string{"new", "old"}[i%2]
		w.route.Store(&routeAt{moving: true})
		g.write(g.routes, strings.Replace(twoUsers, "user1@example.com old", "user1@example.com "+to, 1))
		g.run(0, "reload")
		g.waitSide("user1@example.com", to)
		w.route.Store(&routeAt{side: to, since: time.Now()})
		if i == 0 {
			if s := idler.until(t, "* BYE"); !strings.Contains(s, "[UNAVAILABLE]") {
				t.Error(s)
			}
		}
		time.Sleep(300 * time.Millisecond) // the clients work on the new side
	}
	close(stop)
	wg.Wait()
	if w.appends.Load() < 20 || w.logins.Load() < 20 {
		t.Errorf("only %d appends, %d logins: no load", w.appends.Load(), w.logins.Load())
	}
	both := subjects(t, l.Old, w.user, w.password)
	for s, n := range subjects(t, l.New, w.user, w.password) {
		both[s] += n
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.acked {
		if both[s] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", s, both[s])
		}
	}
	t.Logf("%d logins, %d appends, %d sessions ended by flips", w.logins.Load(), w.appends.Load(), w.byes.Load())
}

func (g *gate) waitSide(user, want string) {
	g.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		out := g.run(0, "status", user)
		if strings.Contains(out, "on "+want+" since") && strings.Contains(out, "SETTLED") {
			return
		}
		if time.Now().After(end) {
			g.t.Fatalf("%s is not on %s: %s\n%s", user, want, out, g.run(0, "op", "list", "--all"))
		}
	}
}

type routeAt struct {
	side   string
	since  time.Time
	moving bool
}

// load is clients of one user at work.
type load struct {
	t              *testing.T
	g              *gate
	user, password string
	route          atomic.Pointer[routeAt]
	mu             sync.Mutex
	acked          map[string]bool
	appends        atomic.Int64
	logins         atomic.Int64
	byes           atomic.Int64
}

func (w *load) client(id int, stop chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		before := w.route.Load()
		c, err := w.g.dial(w.user, w.password)
		if err != nil {
			var no *imap.Error
			if errors.As(err, &no) && no.Code == imap.ResponseCodeAuthenticationFailed {
				w.t.Errorf("told that the password is wrong: %v", err)
			}
			continue
		}
		w.logins.Add(1)
		w.work(c, id, n, before)
		c.Close()
	}
}

// work uses one session until it is ended or has done some commands.
func (w *load) work(c *imapclient.Client, id, n int, before *routeAt) {
	on, err := side(c)
	if err != nil {
		w.byes.Add(1)
		return
	}
	if after := w.route.Load(); before == after && !after.moving && on != after.side {
		w.t.Errorf("logged in on %s while the route was %s", on, after.side)
	}
	for i := range 1 + rand.IntN(6) {
		subject := fmt.Sprintf("m-%d-%d-%d", id, n, i)
		start := time.Now()
		if err := appendTo(c, subject); err != nil {
			w.byes.Add(1)
			return
		}
		w.appends.Add(1)
		w.mu.Lock()
		w.acked[subject] = true
		w.mu.Unlock()
		if r := w.route.Load(); !r.moving && start.After(r.since) && on != r.side && w.route.Load() == r {
			w.t.Errorf("a command ran on %s after the flip to %s was done", on, r.side)
		}
	}
}

// TestKillDuringFlips ends the process with kill -9 at random instants of flips. After a restart each user is on one
// side, settled, and can log in; the history tells it all.
func TestKillDuringFlips(t *testing.T) {
	l := lab.Start(t)
	g := labGate(t, l, twoUsers, "")
	g.start()
	defer func() { g.stop() }()
	for i := range 8 {
		c, err := g.dial("user1@example.com", "pass1")
		if err != nil {
			t.Fatal(err)
		}
		to := []string{"new", "old"}[i%2]
		cmd := g.command("flip", "user1@example.com", to, "--yes")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond) // somewhere in the flip
		g.kill()
		_ = cmd.Wait()
		c.Close()
		g.start()
		want := to
		if text, err := os.ReadFile(g.routes); err != nil || !strings.Contains(string(text), "user1@example.com "+to) {
			want = []string{"old", "new"}[i%2] // killed before the request was made
			if err != nil {
				t.Fatal(err)
			}
		}
		g.waitSide("user1@example.com", want)
		c, err = g.dial("user1@example.com", "pass1")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := side(c); got != want {
			t.Fatalf("round %d: on %s (%v), want %s", i, got, err, want)
		}
		c.Close()
		if want != to {
			g.run(0, "flip", "user1@example.com", to, "--yes")
		}
	}
}
