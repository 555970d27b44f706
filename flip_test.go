package mailgate

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

const ann = "ann@example.com"

// TestLoginAcrossFlip: a backend has accepted a login, and before it is a session the user is moved. The session
// must be one on the new side (I1). Nothing but the comparison of generations at Admit can see it.
func TestLoginAcrossFlip(t *testing.T) {
	b := newBench(t, nil)
	accepted, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.loggedIn = func(s config.Side) {
		if s == config.Old {
			once.Do(func() {
				close(accepted)
				<-goOn
			})
		}
	}
	c := b.connect()
	c.send(t, "a LOGIN "+ann+" secret\r\n")
	<-accepted
	if o := b.flip(ann, "new"); o.Status != op.Done {
		t.Errorf("the flip: %s, %s", o.Status, o.Reason)
	}
	close(goOn)
	if s := c.until(t, "a "); !strings.HasPrefix(s, "a OK") {
		t.Error(s)
	}
	c.send(t, "b NOOP\r\n")
	if s := c.until(t, "b "); s != "b OK on new" {
		t.Error(s)
	}
	b.onTheRightSide()
}

// TestTwoFlipsDuringLogin: back on the same side, but in another epoch: the backend connection of the first is not
// used, since a session belongs to the epoch that it began in (I1).
func TestTwoFlipsDuringLogin(t *testing.T) {
	b := newBench(t, nil)
	accepted, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.loggedIn = func(config.Side) {
		once.Do(func() {
			close(accepted)
			<-goOn
		})
	}
	c := b.connect()
	c.send(t, "a LOGIN "+ann+" secret\r\n")
	<-accepted
	b.flip(ann, "new")
	b.flip(ann, "old")
	close(goOn)
	c.until(t, "a OK")
	if list := b.router.Sessions(ann); len(list) != 1 || list[0].Epoch != 2 {
		t.Errorf("sessions: %v", list)
	}
	if n := b.log.count(happened{"old", ann, "login"}); n != 2 {
		t.Errorf("%d logins on old, want a second one", n)
	}
}

// TestFenceHoldsLogins: while a session of the user drains, new logins wait; when he has moved they go to the new side,
// without having asked the old one (field-notes 5.2: the route is resolved after the hold), and none has failed.
func TestFenceHoldsLogins(t *testing.T) {
	b := newBench(t, nil)
	busy := b.login(ann)
	busy.send(t, "b APPEND INBOX {5+}\r\nhal")
	asked := b.log.count(happened{"old", ann, "login"})
	ops := b.reload(ann + " new\n")
	b.reached(ann, op.Drain, 1)
	const n = 5
	var held []*imapLines
	for range n {
		c := b.connect()
		c.send(t, "a LOGIN "+ann+" secret\r\n")
		held = append(held, c)
	}
	b.eventually("five held logins", func() bool { _, h := b.router.Pending(ann); return h == n })
	busy.send(t, "lo\r\n")
	busy.until(t, "b OK on old")
	busy.until(t, "* BYE [UNAVAILABLE]")
	if o := b.wait(ops); o.Status != op.Done {
		t.Errorf("the flip: %s, %s", o.Status, o.Reason)
	}
	for _, c := range held {
		c.until(t, "a OK")
		c.send(t, "b NOOP\r\n")
		if s := c.until(t, "b "); s != "b OK on new" {
			t.Error(s)
		}
	}
	if now := b.log.count(happened{"old", ann, "login"}); now != asked {
		t.Errorf("%d held logins asked old", now-asked)
	}
	b.onTheRightSide()
}

// TestFenceCancelsLogins: a login that waits for the old backend's answer neither delays the flip nor is lost.
func TestFenceCancelsLogins(t *testing.T) {
	b := newBench(t, nil)
	never, asked := make(chan struct{}), make(chan struct{}, 1)
	defer close(never)
	b.old.onLogin = func(string) string {
		asked <- struct{}{}
		<-never
		return "close"
	}
	c := b.connect()
	c.send(t, "a LOGIN "+ann+" secret\r\n")
	<-asked
	if o := b.flip(ann, "new"); o.Status != op.Done {
		t.Errorf("the flip: %s, %s", o.Status, o.Reason)
	}
	if s := c.until(t, "a "); !strings.HasPrefix(s, "a OK") {
		t.Error(s)
	}
}

// TestReloadWhileFirstLoginIsRecorded: the row of a user who logs in for the first time is written behind the login; a
// reload that comes meanwhile wants it written too.
func TestReloadWhileFirstLoginIsRecorded(t *testing.T) {
	b := newBench(t, nil)
	writing := make(chan struct{}, 10)
	b.states.onAddRows = func() {
		writing <- struct{}{}
		time.Sleep(50 * time.Millisecond) // long enough for another writer, if one may come
	}
	c := b.login(ann)
	<-writing
	if o := b.flip(ann, "new"); o.Status != op.Done {
		t.Errorf("the flip: %s, %s", o.Status, o.Reason)
	}
	c.until(t, "* BYE")
	if n := b.manager.Owed(); n != 0 {
		t.Errorf("%d rows are owed", n)
	}
}

// TestDrainComesBeforeCommit: the commit waits for the command that is under way.
func TestDrainComesBeforeCommit(t *testing.T) {
	b := newBench(t, nil)
	b.old.slow = make(chan struct{})
	c := b.login(ann)
	c.send(t, "b XSLOW\r\n")
	b.eventually("the command's arrival", func() bool { return b.old.begun.Load() == 1 })
	ops := b.reload(ann + " new\n")
	b.reached(ann, op.Drain, 1)
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if n, _ := b.states.writes(ann, op.Release); n > 0 { // a commit that does not wait takes some ms
			t.Fatal("committed with a command under way")
		}
	}
	b.old.slow <- struct{}{}
	c.until(t, "b OK on old")
	c.until(t, "* BYE [UNAVAILABLE]")
	if o := b.wait(ops); o.Status != op.Done {
		t.Errorf("the flip: %s, %s", o.Status, o.Reason)
	}
	b.onTheRightSide()
}

// TestSessionsEndAtBoundaries: what a client has asked for is answered whole, and once, before the session ends.
func TestSessionsEndAtBoundaries(t *testing.T) {
	trap := "b OK APPEND completed\r\nc LOGOUT\r\n* BYE\r\n{3}\r\n" // looks like commands and answers, and is a message
	tests := []struct {
		name, send, wait string // sent before the flip; read before it
		finish           func(b *bench, c *imapLines)
		want             string // all that is read from then on
	}{
		{"between two commands", "b NOOP\r\n", "b OK on old", nil, ""},
		{"FETCH half answered", "b FETCH 1 BODY[]\r\n", "* 1 FETCH", func(b *bench, _ *imapLines) { b.old.fetch <- struct{}{} },
			strings.Repeat("x", fetchSize) + ")\r\nb OK on old\r\n"},
		{"APPEND, synchronizing, in the literal", fmt.Sprintf("b APPEND INBOX {%d}\r\n", len(trap)), "+ ",
			func(b *bench, c *imapLines) { c.send(b.t, trap+"\r\n") }, "b OK on old\r\n"},
		{"APPEND, LITERAL+, behind what looks like its answer", fmt.Sprintf("b APPEND INBOX {%d+}\r\n%s", len(trap), trap[:23]), "",
			func(b *bench, c *imapLines) { c.send(b.t, trap[23:]+"\r\n") }, "b OK on old\r\n"},
		{"IDLE", "b IDLE\r\n", "+ idling", nil, ""},
		{"half a command line", "b NOOP\r\nc NO", "b OK on old", nil, ""},
		{"a slow command", "b XSLOW\r\n", "", func(b *bench, _ *imapLines) { b.old.slow <- struct{}{} }, "b OK on old\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.old.fetch, b.old.slow = make(chan struct{}), make(chan struct{})
			c := b.login(ann)
			c.send(t, tt.send)
			if tt.wait != "" {
				c.until(t, tt.wait)
			}
			if tt.finish != nil {
				b.eventually("the command's arrival", func() bool { return b.old.begun.Load() == 1 })
			}
			ops := b.reload(ann + " new\n")
			if tt.finish != nil {
				b.reached(ann, op.Drain, 1)
				tt.finish(b, c)
			}
			if o := b.wait(ops); o.Status != op.Done {
				t.Errorf("the flip: %s, %s", o.Status, o.Reason)
			}
			want := tt.want + "* BYE [UNAVAILABLE] Your mailbox is being moved, please reconnect\r\n"
			if got := c.rest(t); got != want {
				t.Errorf("read %.200q, want %.200q", got, want)
			}
			if strings.Contains(tt.name, "APPEND") && b.log.count(happened{"old", ann, "APPEND " + trap}) != 1 {
				t.Errorf("the message did not arrive whole, once: %v", b.log.list())
			}
			b.onTheRightSide()
		})
	}
}

// TestTemporaryIsNotWrongPassword: what a backend says to a login, and what the client is told.
func TestTemporaryIsNotWrongPassword(t *testing.T) {
	for said, want := range map[string]string{
		"TAG NO [AUTHENTICATIONFAILED] no": "a NO [AUTHENTICATIONFAILED]",
		"TAG NO [UNAVAILABLE] later":       "a NO [UNAVAILABLE]",
		"TAG NO [CONTACTADMIN] disk":       "a NO [UNAVAILABLE]",
		"TAG NO [LIMIT] too many":          "a NO [UNAVAILABLE]",
		"TAG NO [SERVERBUG] oops":          "a NO [UNAVAILABLE]",
		"TAG BAD what":                     "a NO [UNAVAILABLE]",
		"* BYE restarting":                 "a NO [UNAVAILABLE]",
		"garbage":                          "a NO [UNAVAILABLE]",
		"close":                            "a NO [UNAVAILABLE]",
	} {
		t.Run(said, func(t *testing.T) {
			b := newBench(t, nil)
			b.old.onLogin = func(string) string { return said }
			c := b.connect()
			c.send(t, "a LOGIN "+ann+" secret\r\n")
			if s := c.until(t, "a "); !strings.HasPrefix(s, want) {
				t.Errorf("client hears %s, want %s", s, want)
			}
		})
	}
}

// TestFlipsUnderManyClients flips three users to and fro while many clients of theirs work. Some logins are kept back
// between the backend's OK and their admission until a commit has passed, so that the races that matter do happen.
func TestFlipsUnderManyClients(t *testing.T) {
	b := newBench(t, func(c *config.Config) { c.Flip.Deadline = patience / 2 })
	users := []string{"ann@example.com", "bob@example.com", "cid@example.com"}
	var logins atomic.Int64
	b.loggedIn = func(config.Side) {
		if logins.Add(1)%3 == 0 {
			b.states.moved(op.Settled, len(users), 40*time.Millisecond)
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var acked sync.Map
	var appends atomic.Int64
	end := sync.OnceFunc(func() {
		close(stop)
		wg.Wait()
	})
	defer end() // also when the test ends early: the clients must not outlive it
	for i := range 24 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, m := range b.work(users[i%3], fmt.Sprintf("m-%d-%d", i, n)) {
					appends.Add(1)
					if _, twice := acked.LoadOrStore(m, users[i%3]); twice {
						t.Errorf("%s was acknowledged twice", m)
					}
				}
			}
		})
	}
	file := func(side string) (s string) {
		for _, u := range users {
			s += u + " " + side + "\n"
		}
		return s
	}
	for i := range 12 {
		if t.Failed() {
			break // one fault is enough; what follows from it only takes time
		}
		ops := b.reload(file([]string{"new", "old"}[i%2]))
		if len(ops) != len(users) {
			t.Fatalf("%d flips", len(ops))
		}
		for _, o := range ops {
			if o := b.wait([]op.Operation{o}); o.Status != op.Done {
				t.Errorf("the flip of %s: %s, %s", o.User, o.Status, o.Reason)
			}
		}
		had := appends.Load()
		b.eventually("work behind the flip", func() bool { return t.Failed() || appends.Load() > had+20 })
	}
	end()
	b.onTheRightSide()
	there := map[string]int{}
	for _, e := range b.log.list() {
		if m, ok := strings.CutPrefix(e.what, "APPEND "); ok {
			there[e.user+" "+m]++
		}
	}
	acked.Range(func(m, user any) bool {
		key := user.(string) + " " + m.(string)
		if there[key] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", m, there[key])
		}
		delete(there, key)
		return true
	})
	if len(there) > 0 { // a client who has sent a message whole hears what became of it before he hears BYE
		t.Errorf("%d messages are there and were not acknowledged: %v", len(there), there)
	}
	t.Logf("%d logins, %d appends", logins.Load(), appends.Load())
}

// work is one session of a client: it returns the messages that were acknowledged.
func (b *bench) work(user, name string) (acked []string) {
	c, err := dialLines(b.addr)
	if err != nil {
		b.t.Error(err)
		return nil
	}
	defer c.Close()
	finish := func(tag, send string) bool {
		if _, err := io.WriteString(c, send); err != nil {
			return false
		}
		for {
			s, err := c.line()
			if err != nil || strings.HasPrefix(s, "* BYE") {
				return false
			}
			if strings.HasPrefix(s, "*") || strings.HasPrefix(s, "x") {
				continue // an untagged response, or the body of a FETCH
			}
			answer, ok := strings.CutPrefix(s, tag+" ")
			if !ok {
				b.t.Errorf("an answer to another command than %s: %s", tag, s)
			}
			if strings.Contains(answer, "AUTHENTICATIONFAILED") {
				b.t.Errorf("told that the password is wrong: %s", s)
			}
			return strings.HasPrefix(answer, "OK")
		}
	}
	ask := func(tag, rest string) bool { return finish(tag, tag+" "+rest+"\r\n") }
	if !ask("a", "LOGIN "+user+" secret") {
		return nil
	}
	for i := range 1 + rand.IntN(5) {
		m := fmt.Sprintf("%s-%d", name, i)
		ok := false
		if rand.IntN(3) == 0 { // a slow client: a flip meets him in the middle of a message
			if _, err := fmt.Fprintf(c, "b%d APPEND INBOX {%d+}\r\n%s", i, len(m), m[:2]); err != nil {
				return acked
			}
			b.states.moved(op.Release, 1, 20*time.Millisecond)
			ok = finish(fmt.Sprintf("b%d", i), m[2:]+"\r\n")
		} else {
			ok = ask(fmt.Sprintf("b%d", i), fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(m), m))
		}
		if !ok {
			return acked
		}
		acked = append(acked, m)
		if rand.IntN(4) == 0 && !ask(fmt.Sprintf("c%d", i), "FETCH 1 BODY[]") {
			return acked
		}
	}
	return acked
}
