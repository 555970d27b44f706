package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"mailgate/mailtest/lab"
)

// loadUsers are the users of a load, user1 to this one.
const loadUsers = 4

// load is many clients of several users at work, through a gate and on real servers. What it is told is done it keeps,
// and looks afterwards that it is so.
type load struct {
	t    *testing.T
	l    *lab.Lab
	g    *gate
	stop chan struct{}
	wg   sync.WaitGroup

	route   [loadUsers + 1]atomic.Pointer[routeAt]
	appends atomic.Int64
	logins  atomic.Int64
	byes    atomic.Int64
	sent    atomic.Int64

	mu       sync.Mutex
	appended map[string]acked // by subject
	mailed   map[string]bool
}

// acked is an APPEND that was answered with OK: the user, the side where it must be, if that is certain, and the hash.
type acked struct {
	user int
	side string
	sum  string
}

// routeAt is where the test knows a user to be; side "" while a flip is on its way.
type routeAt struct{ side string }

func startLoad(t *testing.T, l *lab.Lab, g *gate, clients int) *load {
	w := &load{t: t, l: l, g: g, stop: make(chan struct{}), appended: map[string]acked{}, mailed: map[string]bool{}}
	for n := 1; n <= loadUsers; n++ {
		w.route[n].Store(&routeAt{side: "old"})
	}
	for i := range clients {
		n := 1 + i%loadUsers
		w.wg.Go(func() { w.client(i, n) })
	}
	for i := range 2 {
		w.wg.Go(func() { w.mailer(i, 1+i) })
	}
	return w
}

func loadUser(n int) (user, password string) {
	return fmt.Sprintf("user%d@example.com", n), fmt.Sprintf("pass%d", n)
}

// routesFile has all users of the load on one side.
func routesFile(side string) (s string) {
	for n := 1; n <= loadUsers; n++ {
		user, _ := loadUser(n)
		s += user + " " + side + "\n"
	}
	return s
}

func (w *load) going() bool {
	select {
	case <-w.stop:
		return false
	default:
		return true
	}
}

func (w *load) client(id, n int) {
	user, password := loadUser(n)
	for i := 0; w.going(); i++ {
		before := w.route[n].Load()
		c, err := w.g.dial(user, password)
		if err != nil {
			var no *imap.Error
			if errors.As(err, &no) && no.Code == imap.ResponseCodeAuthenticationFailed {
				w.t.Errorf("told that the password is wrong: %v", err)
			}
			time.Sleep(5 * time.Millisecond) // as a client would, who is not let in
			continue
		}
		w.logins.Add(1)
		w.session(c, n, fmt.Sprintf("m-%d-%d", id, i), before)
		c.Close()
	}
}

// session works until it is ended or has done some commands.
func (w *load) session(c *imapclient.Client, n int, name string, before *routeAt) {
	on, err := side(c)
	if err != nil {
		w.byes.Add(1)
		return
	}
	if after := w.route[n].Load(); before == after && after.side != "" && on != after.side {
		w.t.Errorf("user%d logged in on %s while he was on %s", n, on, after.side)
	}
	for i := range 1 + rand.IntN(6) {
		subject := fmt.Sprintf("%s-%d", name, i)
		text := message(subject)
		start := w.route[n].Load()
		if err := appendText(c, text); err != nil {
			w.byes.Add(1)
			return
		}
		w.appends.Add(1)
		a := acked{user: n, side: on, sum: sum(text)}
		if r := w.route[n].Load(); r == start && r.side != "" && on != r.side {
			w.t.Errorf("user%d: a command ran on %s, begun after the flip to %s was done", n, on, r.side)
		}
		w.mu.Lock()
		w.appended[subject] = a
		w.mu.Unlock()
		if rand.IntN(4) == 0 {
			if _, err := c.Select("INBOX", nil).Wait(); err != nil {
				w.byes.Add(1)
				return
			}
			if _, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 3}}, &imap.FetchOptions{Flags: true}).Collect(); err != nil {
				w.byes.Add(1)
				return
			}
		}
	}
}

// mailer submits messages to user20, whose mailbox stays on OLD.
func (w *load) mailer(id, n int) {
	user, password := loadUser(n)
	for i := 0; w.going(); i++ {
		subject := fmt.Sprintf("s-%d-%d", id, i)
		ok, err := trySubmit(w.g.smtp, user, password, "user20@example.com", subject)
		if err != nil && strings.HasPrefix(err.Error(), "535") {
			w.t.Errorf("told that the password is wrong: %v", err)
		}
		if !ok {
			time.Sleep(5 * time.Millisecond)
		}
		if ok {
			w.sent.Add(1)
			w.mu.Lock()
			w.mailed[subject] = true
			w.mu.Unlock()
		}
	}
}

// trySubmit sends one message; ok when it was acknowledged.
func trySubmit(addr, user, password, to, subject string) (ok bool, err error) {
	c, err := dialLine(addr)
	if err != nil {
		return false, err
	}
	defer c.Close()
	for _, turn := range []struct{ send, want string }{{"", "220 "}, {"EHLO client.example.org", "250 "},
		{"AUTH PLAIN " + plain(user, password), "235 "}, {"MAIL FROM:<" + user + ">", "250 "}, {"RCPT TO:<" + to + ">", "250 "},
		{"DATA", "354 "}, {"Subject: " + subject + "\r\n\r\nx\r\n.", "250 "}} {
		if turn.send != "" {
			if _, err := fmt.Fprintf(c, "%s\r\n", turn.send); err != nil {
				return false, err
			}
		}
		for {
			s, err := c.read()
			if err != nil {
				return false, err
			}
			if len(s) > 3 && s[3] == '-' {
				continue
			}
			if !strings.HasPrefix(s, turn.want) {
				return false, errors.New(s)
			}
			break
		}
	}
	return true, nil
}

// message is a message with a body of chance.
func message(subject string) string {
	b := make([]byte, 30+rand.IntN(3000))
	for i := range b {
		b[i] = byte('a' + rand.IntN(26))
	}
	return "From: a@example.com\r\nSubject: " + subject + "\r\n\r\n" + string(b) + "\r\n"
}

func sum(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:8])
}

func appendText(c *imapclient.Client, text string) error {
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

// flipAll asks for the flip of all users in one of the three ways and waits until it is done.
func (w *load) flipAll(how int, to string) {
	w.t.Helper()
	for n := 1; n <= loadUsers; n++ {
		w.route[n].Store(&routeAt{})
	}
	w.g.write(w.g.routes, routesFile(to))
	switch how % 3 {
	case 0:
		w.g.run(0, "reload")
	case 1:
		_ = w.g.cmd.Process.Signal(syscall.SIGHUP)
	} // else the file's change is seen
	w.settled(to)
}

// settled waits until all users are on a side, and notes it for the clients.
func (w *load) settled(side string) {
	w.t.Helper()
	for n := 1; n <= loadUsers; n++ {
		user, _ := loadUser(n)
		w.g.waitSide(user, side)
		w.route[n].Store(&routeAt{side: side})
	}
}

// progress waits for work of the clients.
func (w *load) progress(n int64) {
	w.t.Helper()
	start := w.appends.Load()
	for end := time.Now().Add(30 * time.Second); w.appends.Load() < start+n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("only %d appends in 30 s: no load", w.appends.Load()-start)
		}
	}
}

// end stops the clients.
func (w *load) end() {
	close(w.stop)
	w.wg.Wait()
}

// check looks that all that was acknowledged is there: once, whole, on the side where it was given.
func (w *load) check() {
	w.t.Helper()
	type copyOf struct{ side, sum string }
	there := map[string][]copyOf{}
	for n := 1; n <= loadUsers; n++ {
		user, password := loadUser(n)
		for _, h := range []lab.Host{w.l.Old, w.l.New} {
			for subject, sums := range inbox(w.t, h, user, password) {
				for _, s := range sums {
					there[subject] = append(there[subject], copyOf{h.Name, s})
				}
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for subject, a := range w.appended {
		switch got := there[subject]; {
		case len(got) != 1:
			w.t.Errorf("%s of user%d was acknowledged and is there %d times: %v", subject, a.user, len(got), got)
		case got[0].sum != a.sum:
			w.t.Errorf("%s of user%d is there otherwise than it was given", subject, a.user)
		case got[0].side != a.side:
			w.t.Errorf("%s of user%d was given to %s and is on %s", subject, a.user, a.side, got[0].side)
		}
	}
	missing := 0
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) { // delivery is Postfix's own business
		missing = 0
		got := inbox(w.t, w.l.Old, "user20@example.com", "pass20")
		for subject := range w.mailed {
			if n := len(got[subject]); n == 0 {
				missing++
			} else if n > 1 {
				w.t.Errorf("%s was delivered %d times", subject, n)
			}
		}
		if missing == 0 || time.Now().After(end) {
			break
		}
	}
	if missing > 0 {
		w.t.Errorf("%d of %d submitted messages did not arrive", missing, len(w.mailed))
	}
	w.t.Logf("%d logins, %d appends, %d messages, %d sessions ended by flips", w.logins.Load(), w.appends.Load(), w.sent.Load(),
		w.byes.Load())
}

// inbox is the hashes of a user's messages on one host, by subject.
func inbox(t *testing.T, h lab.Host, user, password string) map[string][]string {
	t.Helper()
	c := direct(t, h, user, password)
	defer c.Close()
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	if box.NumMessages == 0 {
		return out
	}
	msgs, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		text := string(m.BodySection[0].Bytes)
		_, rest, _ := strings.Cut("\r\n"+text, "\r\nSubject: ")
		subject, _, _ := strings.Cut(rest, "\r\n")
		out[subject] = append(out[subject], sum(text))
	}
	return out
}

// TestFlipUnderLoad flips users to and fro while many clients of theirs append, fetch and submit: by the verb, by SIGHUP
// and by the change of the file. Nothing acknowledged may be missing or double (I10, I11), nothing may be on the wrong
// side once a flip is done (I1, I2), nobody may be told that his password is wrong.
func TestFlipUnderLoad(t *testing.T) {
	t.Parallel()
	l := lab.Start(t)
	g := labGate(t, l, routesFile("old"), "")
	g.start()
	defer g.stop()
	w := startLoad(t, l, g, 12)
	for i := range 6 {
		w.progress(30)
		w.flipAll(i, []string{"new", "old"}[i%2])
	}
	w.progress(30)
	// Two flips in a row: the second is asked for while the first is on its way.
	for n := 1; n <= loadUsers; n++ {
		w.route[n].Store(&routeAt{})
	}
	for _, to := range []string{"new", "old", "new"} {
		g.write(g.routes, routesFile(to))
		g.run(0, "reload")
	}
	w.settled("new")
	w.progress(30)
	w.end()
	w.check()
	if w.byes.Load() < 5 {
		t.Errorf("flips ended only %d sessions", w.byes.Load())
	}
	if out := g.run(0, "history"); strings.Count(out, "flip committed") < 9*loadUsers || strings.Contains(out, "flip aborted") {
		t.Errorf("history: %s", out)
	}
}

// TestKillUnderLoad ends the process with kill -9 at random instants while clients work and users are being moved.
// After each restart every user is on one side and settled; in the end all that was acknowledged is there, once.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	l := lab.Start(t)
	g := labGate(t, l, routesFile("old"), "")
	g.start()
	defer func() { g.stop() }()
	w := startLoad(t, l, g, 12)
	at := "old"
	for i := range 6 {
		w.progress(15)
		for n := 1; n <= loadUsers; n++ {
			w.route[n].Store(&routeAt{})
		}
		to := []string{"new", "old"}[i%2]
		g.write(g.routes, routesFile(to))
		_ = g.cmd.Process.Signal(syscall.SIGHUP)
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond) // somewhere in the flips, or before, or behind
		g.kill()
		if out := g.run(0, "status"); !strings.Contains(out, "serve does not run") {
			t.Fatalf("killed, and it answers: %s", out)
		}
		g.start() // takes over the file, whatever was recorded before
		w.settled(to)
		at = to
	}
	w.progress(15)
	w.end()
	w.check()
	for n := 1; n <= loadUsers; n++ {
		user, password := loadUser(n)
		c, err := g.dial(user, password)
		if err != nil {
			t.Fatal(err)
		}
		if on, err := side(c); on != at {
			t.Errorf("%s is on %s (%v), want %s", user, on, err, at)
		}
		c.Close()
	}
}

// TestKillDuringFlips ends the process with kill -9 at random instants of flips asked for by the verb, which edits the
// routes file. After a restart each user is on one side, settled, and can log in.
func TestKillDuringFlips(t *testing.T) {
	t.Parallel()
	g := memoryGate(t, twoUsers, "")
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
		text, err := os.ReadFile(g.routes)
		if err != nil {
			t.Fatal(err)
		}
		want := to
		if !strings.Contains(string(text), "user1@example.com "+to) {
			want = []string{"old", "new"}[i%2] // killed before the request was made
		}
		g.waitSide("user1@example.com", want)
		if c, err = g.dial("user1@example.com", "pass1"); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if want != to {
			g.run(0, "flip", "user1@example.com", to, "--yes")
		}
	}
	if out := g.run(0, "config", "check"); !strings.Contains(out, "ok") {
		t.Error(out)
	}
	if left, err := filepath.Glob(g.routes + "?*"); err != nil || len(left) > 1 {
		t.Errorf("litter beside the routes file: %v %v", left, err)
	}
}
