package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/mailtest"
	"mailgate/op"
)

// takeOverGate is a gateway with a store of its own before an OLD and a NEW in memory: everybody has one message on OLD, two on NEW.
func takeOverGate(t *testing.T, extra string) *gate {
	t.Helper()
	passwords := map[string]string{}
	for i := range 5 {
		passwords[fmt.Sprintf("user%d@example.com", i)] = "secret"
		passwords[fmt.Sprintf("stranger%d@example.com", i)] = "secret"
	}
	var yaml []string
	for i, name := range []string{"old", "new"} {
		m, err := mailtest.StartMemory(name+".example.com", passwords)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		for u := range passwords {
			for range i + 1 {
				if err := m.Deliver(u, []byte("Subject: "+name+"\r\n\r\nx\r\n")); err != nil {
					t.Fatal(err)
				}
			}
		}
		yaml = append(yaml, fmt.Sprintf("{imap: 'imap://%s', submission: 'submission://%s'}", m.IMAP, m.Submission))
	}
	routes := "default old\n"
	for i := range 5 {
		routes += fmt.Sprintf("user%d@example.com old\n", i)
	}
	g := newGate(t, yaml[0], yaml[1], routes, "node: gw\nflip: {deadline: 4s, hold: 8s}\nshutdown: 2s\n"+extra)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of serve:\n%s", told(g.log))
		}
	})
	return g
}

// told is what a log tells beside logins.
func told(b *syncBuffer) string {
	var out []string
	for line := range strings.Lines(b.String()) {
		if !strings.Contains(line, "session end") && !strings.Contains(line, "msg=login") {
			out = append(out, line)
		}
	}
	return strings.Join(out[max(0, len(out)-60):], "")
}

// process is a serve that another one has taken the place of, or will.
type process struct {
	*gate
	log *syncBuffer
	pid int
	end chan struct{}
}

func (g *gate) process() process { return process{g, g.log, g.cmd.Process.Pid, g.done} }

// takeOver starts a serve --take-over and returns the process before it. It waits until the new one is alone at the control socket.
func (g *gate) takeOver(args ...string) process {
	g.t.Helper()
	before := g.process()
	g.log = &syncBuffer{}
	g.cmd = g.command(append([]string{"serve", "--take-over"}, args...)...)
	g.cmd.Stderr = g.log
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.done = make(chan struct{})
	cmd, done := g.cmd, g.done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	defer func() {
		if g.t.Failed() {
			g.t.Logf("log of the process before:\n%s", told(before.log))
		}
	}()
	g.until("it has taken over", func() bool {
		select {
		case <-done:
			g.t.Fatalf("serve --take-over has ended:\n%s\nthe one before:\n%s", g.log, before.log)
		default:
		}
		return strings.Contains(g.log.String(), `"taken over"`) || strings.Contains(g.log.String(), "msg=\"taken over\"")
	})
	return before
}

func (g *gate) until(what string, f func() bool) {
	g.t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatalf("not so in 20 s: %s", what)
		}
	}
}

// ended waits for the end of a process, in order.
func (p process) ended() {
	p.t.Helper()
	select {
	case <-p.end:
	case <-time.After(20 * time.Second):
		s := p.log.String()
		p.t.Fatalf("the old process does not end:\n%s", s[max(0, len(s)-4000):])
	}
	if s := p.log.String(); strings.Contains(s, "panic") || strings.Contains(s, "DATA RACE") || strings.Contains(s, "level=ERROR") {
		p.t.Errorf("log of the old process:\n%s", s)
	}
}

// sideByMail is the side that a session is on, by the number of messages.
func sideByMail(c *imapclient.Client) (string, error) {
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		return "", err
	}
	return map[uint32]string{1: "old", 2: "new"}[box.NumMessages], nil
}

func (g *gate) mustDial(user string) *imapclient.Client {
	g.t.Helper()
	c, err := g.dial(user, "secret")
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

// dialLatest is mustDial for a session with the process that has taken over: the one before accepts for a moment still.
func (g *gate) dialLatest(user string) (c *imapclient.Client) {
	g.t.Helper()
	g.until("the latest process accepts", func() bool {
		c = g.mustDial(user)
		var list []admin.SessionInfo
		if err := ask(g, http.MethodGet, "/sessions", url.Values{"user": {user}, "here": {"1"}}, &list); err != nil {
			g.t.Fatal(err)
		}
		if len(list) == 0 {
			c.Close()
		}
		return len(list) > 0
	})
	return c
}

func (g *gate) move(user, to string) op.Operation {
	g.t.Helper()
	var o op.Operation
	path := map[string]string{"new": "/flip", "old": "/rollback"}[to]
	err := ask(g, http.MethodPost, path, url.Values{"user": {user}, "side": {to}}, &o)
	if err == nil {
		err = ask(g, http.MethodPost, "/op/wait", url.Values{"id": {o.ID}, "timeout": {"20s"}}, &o)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return o
}

// knocking connects and logs in without pause from several clients, until stop: it returns how often, the longest a client had to wait, and
// what went wrong.
func (g *gate) knocking(user string) (stop func() (n int, longest time.Duration, errs []string)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var n int
	var longest time.Duration
	var errs []string
	var done atomic.Bool
	for range 4 {
		wg.Go(func() {
			for !done.Load() {
				began := time.Now()
				c, err := g.dial(user, "secret")
				if err == nil {
					_, err = sideByMail(c)
					c.Close()
				}
				mu.Lock()
				if n++; err != nil {
					errs = append(errs, err.Error())
				}
				longest = max(longest, time.Since(began))
				mu.Unlock()
			}
		})
	}
	return func() (int, time.Duration, []string) {
		done.Store(true)
		wg.Wait()
		return n, longest, errs
	}
}

func (g *gate) nodes() (out []admin.NodeInfo) {
	g.t.Helper()
	if err := ask(g, http.MethodGet, "/nodes", nil, &out); err != nil {
		g.t.Fatal(err)
	}
	return out
}

// TestTakeOver: an upgrade while people work. Nobody is refused, sessions go on, flips need both processes, and the old one ends with its
// last session.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	g.start()
	defer g.stop()
	stay, moved := g.mustDial("user0@example.com"), g.mustDial("user1@example.com")
	stop := g.knocking("user2@example.com")
	time.Sleep(300 * time.Millisecond)
	began := time.Now()
	old := g.takeOver()
	took := time.Since(began)
	time.Sleep(300 * time.Millisecond)
	n, longest, errs := stop()
	t.Logf("take-over in %s; %d logins of 4 clients without pause, longest %s", took, n, longest)
	if len(errs) > 0 {
		t.Errorf("%d of %d logins went wrong, the first: %s", len(errs), n, errs[0])
	}
	name := fmt.Sprintf("gw/%d", old.pid)
	if list := g.nodes(); len(list) != 2 || list[1].Name != name || list[0].Leads != true || list[1].Leads {
		t.Errorf("%+v", list)
	}
	if s, err := sideByMail(stay); s != "old" || err != nil {
		t.Fatal(s, err)
	}

	t.Run("verbs show both", func(t *testing.T) {
		if out := g.run(0, "sessions"); !strings.Contains(out, name) || !strings.Contains(out, "user0@example.com") {
			t.Error(out)
		}
		if out := g.run(0, "nodes"); !strings.Contains(out, name) {
			t.Error(out)
		}
		if out := g.run(0, "status"); !strings.Contains(out, name) || !strings.Contains(out, "gw leads") {
			t.Error(out)
		}
	})
	t.Run("a flip drains both", func(t *testing.T) {
		here := g.mustDial("user1@example.com")
		if o := g.move("user1@example.com", "new"); o.Status != op.Done {
			t.Fatalf("%+v", o)
		}
		for _, c := range []*imapclient.Client{here, moved} {
			select {
			case <-c.Closed():
			case <-time.After(5 * time.Second):
				t.Error("a session has outlived the flip")
			}
		}
		if s, err := sideByMail(g.mustDial("user1@example.com")); s != "new" || err != nil {
			t.Error(s, err)
		}
	})
	t.Run("kick ends sessions of both", func(t *testing.T) {
		if out := g.run(0, "kick", "user0@example.com"); !strings.HasPrefix(out, "1 ") {
			t.Error(out)
		}
	})
	old.ended()
	g.until("one node is left", func() bool { return len(g.nodes()) == 1 })
	if o := g.move("user1@example.com", "old"); o.Status != op.Done {
		t.Fatalf("%+v", o)
	}
}

// half is a successor that goes as far as a test wants, and then ends as one that was killed does: all it has is closed.
type half struct {
	*heir
	t *testing.T
	g *gate
}

func (g *gate) half() half {
	g.t.Helper()
	p := &program{file: g.file, err: &syncBuffer{}}
	h, err := p.inherit(g.t.Context(), time.Hour)
	if err != nil || h == nil {
		g.t.Fatal(h, err)
	}
	return half{h, g.t, g}
}

// asBefore looks that the process which serves leads, and moves people, as if nobody had wanted to take over.
func (g *gate) asBefore(user string, session *imapclient.Client) {
	g.t.Helper()
	g.until("it leads", func() bool {
		var list []admin.NodeInfo
		return ask(g, http.MethodGet, "/nodes", nil, &list) == nil && len(list) == 1 && list[0].Leads
	})
	g.mustDial("user2@example.com").Close()
	if _, err := sideByMail(session); err != nil {
		g.t.Errorf("a session has ended: %v", err)
	}
	for _, to := range []string{"new", "old"} {
		if o := g.move(user, to); o.Status != op.Done {
			g.t.Fatalf("%+v", o)
		}
		if s, err := sideByMail(g.mustDial(user)); s != to || err != nil {
			g.t.Errorf("on %s (%v), not %s", s, err, to)
		}
	}
	if files, _ := os.ReadDir(filepath.Join(g.dir, "state", "mailgate.db.nodes")); len(files) > 0 {
		g.until("the file that says that it has handed over is gone", func() bool {
			list, err := alive(filepath.Join(g.dir, "state", "mailgate.db.nodes"))
			return err == nil && len(list) == 0
		})
	}
}

// TestTakeOverEnds: a successor that ends at any step before it serves leaves the old process as it was.
func TestTakeOverEnds(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	g.start()
	defer g.stop()
	session := g.mustDial("user0@example.com")
	pid := g.cmd.Process.Pid

	t.Run("it has the sockets", func(t *testing.T) {
		h := g.half()
		if _, err := (&program{file: g.file, err: &syncBuffer{}}).inherit(t.Context(), time.Hour); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("two at once: %v", err)
		}
		g.asBefore("user1@example.com", session) // also while it is there
		h.close()
		g.asBefore("user1@example.com", session)
	})
	t.Run("it was given the store", func(t *testing.T) {
		h := g.half()
		if err := h.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.mustDial("stranger1@example.com").Close() // a row is owed by now
		if out := g.run(exitUnknown, "flip", "user1@example.com", "new", "--yes"); !strings.Contains(out, "handed over") {
			t.Error(out)
		}
		h.close()
		g.asBefore("user1@example.com", session)
		g.until("the row that was owed is written", func() bool {
			return strings.Contains(g.run(0, "status", "stranger1@example.com"), "on old")
		})
	})
	t.Run("it has opened the store, and begun a flip", func(t *testing.T) {
		h := g.half()
		if err := h.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		p := &program{file: g.file, err: &syncBuffer{}}
		n, err := p.open(t.Context(), func(c config.Log) *slog.Logger { return newLog(p.err, c) }, lockWait, asNode)
		if err != nil {
			t.Fatal(err)
		}
		stop := n.meetOld(t.Context(), h.heir)
		if err := n.manager().Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		o, err := n.manager().Request(t.Context(), "user1@example.com", config.New, "test", true)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
		h.close() // the link breaks first, wherever the flip is
		stop()
		n.managing.Load().end()
		if err := n.store.Close(); err != nil {
			t.Fatal(err)
		}
		g.until("the flip has ended", func() bool {
			var x op.Operation
			return ask(g, http.MethodGet, "/op", url.Values{"id": {o.ID}}, &x) == nil && x.Status.Final()
		})
		var u admin.UserStatus
		if u, err = g.user("user1@example.com"); err == nil && u.Side == config.New {
			g.move("user1@example.com", "old")
		}
		g.asBefore("user1@example.com", session)
	})
	t.Run("killed at any time", func(t *testing.T) {
		for i := range 8 {
			c := g.command("serve", "--take-over")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(20+15*i) * time.Millisecond)
			_ = c.Process.Kill()
			_ = c.Wait()
			// It may have got so far that it served: then there is nobody at the control socket.
			select {
			case <-g.done:
				t.Fatalf("the old process has ended: %s", told(g.log))
			default:
			}
			if strings.Contains(g.log.String(), "msg=\"handed over") {
				t.Logf("it served after %d ms", 20+15*i)
				before := g.process()
				g.start()
				g.until("both are known", func() bool { return len(g.nodes()) == 2 })
				if o := g.move("user1@example.com", "new"); o.Status != op.Done {
					t.Errorf("%+v", o)
				}
				session.Close()
				select { // its log has the errors of those that were killed
				case <-before.end:
				case <-time.After(20 * time.Second):
					t.Error("the old process does not end")
				}
				return
			}
			g.asBefore("user1@example.com", session)
		}
		if g.cmd.Process.Pid != pid {
			t.Error("another process serves")
		}
	})
}

// TestTakeOverRefused: a configuration that is bad, a port that is taken, another user: the old process goes on, and has not even been asked
// for the store.
func TestTakeOverRefused(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	g.start()
	defer g.stop()
	session := g.mustDial("user0@example.com")
	good := string(mustRead(t, g.file))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for what, bad := range map[string]string{
		"unknown key":    good + "nonsense: 1\n",
		"no certificate": strings.Replace(good, "cert: cert.pem", "cert: none.pem", 1),
		"port taken":     strings.Replace(good, "listen: [", "listen: [\"imap://"+taken.Addr().String()+"\", ", 1),
	} {
		other := filepath.Join(g.dir, "other.yaml")
		g.write(other, bad)
		c := g.command("serve", "--take-over")
		c.Args[2] = other
		out, err := c.CombinedOutput()
		if err == nil {
			t.Errorf("%s: %s", what, out)
		}
		g.asBefore("user1@example.com", session)
	}
	if strings.Contains(g.log.String(), "leads again") {
		t.Error("it had let the store go")
	}
}

// TestTakeOverThenTrouble: behind a take-over one process or the other is killed or stands still, and a third one comes.
func TestTakeOverThenTrouble(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	g.start()
	defer g.stop()

	t.Run("the old one is killed", func(t *testing.T) {
		g.mustDial("user0@example.com")
		old := g.takeOver()
		if n := len(g.nodes()); n != 2 {
			t.Fatalf("%d nodes", n)
		}
		if err := syscall.Kill(old.pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if o := g.move("user1@example.com", "new"); o.Status != op.Done { // at once, and nobody was asked
			t.Fatalf("%+v", o)
		}
		g.until("it is no node any more", func() bool { return len(g.nodes()) == 1 })
	})
	t.Run("the old one is killed as soon as it has given the store", func(t *testing.T) {
		h := g.half()
		if err := h.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.kill()
		p := &program{file: g.file, err: &syncBuffer{}}
		ctx, stop := context.WithCancel(t.Context())
		n, err := p.open(ctx, func(c config.Log) *slog.Logger { return newLog(p.err, c) }, lockWait, asNode)
		if err != nil {
			t.Fatal(err)
		}
		n.meetOld(ctx, h.heir)()
		n.tellOld(ctx, h.heir) // returns: nobody is there
		stop()
		h.close()
		if err := n.close(); err != nil {
			t.Fatal(err)
		}
		g.start()
	})
	t.Run("the old one stands still", func(t *testing.T) {
		g.mustDial("user0@example.com")
		old := g.takeOver()
		if err := syscall.Kill(old.pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if o := g.move("user1@example.com", "old"); o.Status != op.Failed || !strings.Contains(o.Reason, fmt.Sprintf("gw/%d", old.pid)) {
			t.Errorf("%+v", o)
		}
		if err := syscall.Kill(old.pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		g.waitSide("user1@example.com", "new")
		if o := g.move("user1@example.com", "old"); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		_ = syscall.Kill(old.pid, syscall.SIGTERM)
		old.ended()
		g.until("it is no node any more", func() bool { return len(g.nodes()) == 1 })
	})
	t.Run("the new one is killed, and starts again as ever", func(t *testing.T) {
		stay := g.mustDial("user0@example.com")
		old := g.takeOver()
		g.kill()
		if s, err := sideByMail(stay); s != "old" || err != nil {
			t.Fatal(s, err)
		}
		if out := g.run(0, "nodes"); !strings.Contains(out, fmt.Sprintf("gw/%d", old.pid)) { // nothing runs that could say so
			t.Error(out)
		}
		g.start()
		g.until("both are known, and heard of", func() bool {
			list := g.nodes()
			return len(list) == 2 && !list[1].Seen.IsZero()
		})
		if o := g.move("user0@example.com", "new"); o.Status != op.Done {
			t.Fatalf("%+v", o)
		}
		old.ended() // the flip has ended its last session
	})
	t.Run("three in a row", func(t *testing.T) {
		first := g.mustDial("user0@example.com")
		one := g.takeOver()
		second := g.dialLatest("user0@example.com")
		two := g.takeOver()
		third := g.mustDial("user0@example.com")
		g.until("three nodes are heard of", func() bool {
			list := g.nodes()
			return len(list) == 3 && !list[1].Seen.IsZero() && !list[2].Seen.IsZero()
		})
		if out := g.run(0, "sessions", "user0@example.com"); strings.Count(out, "user0@example.com") != 3 {
			t.Error(out)
		}
		if o := g.move("user0@example.com", "old"); o.Status != op.Done {
			t.Fatalf("%+v", o)
		}
		for _, c := range []*imapclient.Client{first, second, third} {
			select {
			case <-c.Closed():
			case <-time.After(5 * time.Second):
				t.Error("a session has outlived the flip")
			}
		}
		one.ended()
		two.ended()
	})
}

// TestTakeOverWork: what is under way when another process takes over: a flip, an APPEND, a first login with the old process, changed rules;
// and the limit for sessions that stay.
func TestTakeOverWork(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	g.start()
	defer g.stop()
	appending := rawDial(t, g.imaps, true)
	appending.until(t, "* OK")
	appending.send(t, "a LOGIN user0@example.com secret\r\n")
	appending.until(t, "a OK")
	appending.send(t, "b APPEND INBOX {40}\r\n")
	appending.until(t, "+")
	appending.send(t, "Subject: half\r\n\r\n")
	late := rawDial(t, g.imaps, true) // connected, and logs in behind the hand-over
	late.until(t, "* OK")
	var o op.Operation // waits for the APPEND
	if err := ask(g, http.MethodPost, "/flip", url.Values{"user": {"user0@example.com"}, "side": {"new"}}, &o); err != nil {
		t.Fatal(err)
	}
	g.until("the flip is under way", func() bool {
		u, err := g.user("user0@example.com")
		return err == nil && u.State != op.Settled
	})
	old := g.takeOver("--old-sessions", "3s")
	late.send(t, "a LOGIN stranger2@example.com secret\r\n")
	late.until(t, "a OK")
	g.until("the new process knows whom the old one has let in", func() bool {
		u, err := g.user("stranger2@example.com")
		return err == nil && !u.Since.IsZero()
	})
	// The flip goes on, and waits for the APPEND in the old process, until that is whole.
	time.Sleep(200 * time.Millisecond)
	appending.send(t, strings.Repeat("x", 40-len("Subject: half\r\n\r\n"))+"\r\n")
	appending.until(t, "b OK")
	g.waitSide("user0@example.com", "new")
	c := g.mustDial("user0@example.com")
	if s, err := sideByMail(c); s != "new" || err != nil {
		t.Error(s, err)
	}
	began := time.Now()
	late.until(t, "* BYE") // at the limit
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("ended after %s", d)
	}
	old.ended()
	if s, err := sideByMail(c); s != "new" || err != nil {
		t.Error(s, err)
	}
}
