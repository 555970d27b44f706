package main

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"mailgate/admin"
	"mailgate/op"
)

// takeOverFleet is a fleet whose gateways tell at the end what went wrong before a take-over, too.
func takeOverFleet(t *testing.T, many, users int) *fleet {
	f := newFleet(t, many, users)
	f.start()
	return f
}

// named are the nodes by name, sorted.
func (g *gate) named() (names []string) {
	g.t.Helper()
	for _, n := range g.nodes() {
		names = append(names, n.Name)
	}
	slices.Sort(names)
	return names
}

// becomes waits until the nodes are these.
func (g *gate) becomes(names ...string) {
	g.t.Helper()
	slices.Sort(names)
	g.until("the nodes are "+strings.Join(names, ", "), func() bool {
		var list []admin.NodeInfo
		if ask(g, http.MethodGet, "/nodes", nil, &list) != nil {
			return false
		}
		var now []string
		for _, n := range list {
			now = append(now, n.Name)
		}
		slices.Sort(now)
		return slices.Equal(now, names)
	})
}

// apart is the name of a process that has handed over.
func (p process) apart(node string) string { return fmt.Sprintf("%s/%d", node, p.pid) }

func mustEnd(t *testing.T, all ...*imapclient.Client) {
	t.Helper()
	for _, c := range all {
		select {
		case <-c.Closed():
		case <-time.After(5 * time.Second):
			t.Error("a session has outlived the flip")
		}
	}
}

// lands looks where a new session comes to.
func (g *gate) lands(user, side string) {
	g.t.Helper()
	c := g.mustDial(user)
	mustBe(g.t, c, side)
	c.Close()
}

func mustBe(t *testing.T, c *imapclient.Client, side string) {
	t.Helper()
	if s, err := sideByMail(c); s != side || err != nil {
		t.Errorf("on %s (%v), not %s", s, err, side)
	}
}

// TestTakeOverNodes: an upgrade of one gateway of two behind a database, of the one that leads and of the other. Nobody is refused, sessions go
// on, a flip by whichever node waits for what is left in the old process, and that ends with its last session.
func TestTakeOverNodes(t *testing.T) {
	t.Parallel()
	f := takeOverFleet(t, 2, 5)
	gw1, gw2 := f.gates[0], f.gates[1]
	appending := rawDial(t, gw1.imaps, true)
	appending.until(t, "* OK")
	appending.send(t, "a LOGIN user0@example.com secret\r\n")
	appending.until(t, "a OK")
	appending.send(t, "b APPEND INBOX {40}\r\n")
	appending.until(t, "+")
	appending.send(t, "Subject: half\r\n\r\n")
	stay, moved := gw1.mustDial(f.users[3]), gw1.mustDial(f.users[1])

	stop := gw1.knocking(f.users[2])
	time.Sleep(200 * time.Millisecond)
	old := gw1.takeOver() // it led
	time.Sleep(200 * time.Millisecond)
	n, longest, errs := stop()
	t.Logf("%d logins of 4 clients without pause, longest %s", n, longest)
	if len(errs) > 0 {
		t.Errorf("%d of %d logins went wrong, the first: %s", len(errs), n, errs[0])
	}
	name := old.apart("gw1")
	if got := gw2.named(); !slices.Equal(got, []string{"gw1", name, "gw2"}) {
		t.Fatal(got)
	}
	if leads := f.leader(gw2, ""); leads == name {
		t.Errorf("%s leads", leads)
	}
	mustBe(t, stay, "old")
	for what, out := range map[string]string{"sessions": gw2.run(0, "sessions"), "nodes": gw1.run(0, "nodes"), "status": gw1.run(0, "status")} {
		if !strings.Contains(out, name) || strings.Contains(out, "differs") {
			t.Errorf("%s: %s", what, out)
		}
	}

	// A flip of the other node waits for an APPEND in the old process.
	var o op.Operation
	if err := ask(gw2, http.MethodPost, "/flip", url.Values{"user": {f.users[0]}, "side": {"new"}}, &o); err != nil {
		t.Fatal(err)
	}
	gw2.until("the flip drains", func() bool {
		var u admin.UserStatus
		return ask(gw2, http.MethodGet, "/user", url.Values{"user": {f.users[0]}}, &u) == nil && u.State == op.Drain
	})
	time.Sleep(300 * time.Millisecond)
	if err := ask(gw2, http.MethodGet, "/op", url.Values{"id": {o.ID}}, &o); err != nil || o.Status.Final() {
		t.Errorf("%v %+v", err, o)
	}
	appending.send(t, strings.Repeat("x", 40-len("Subject: half\r\n\r\n"))+"\r\n")
	appending.until(t, "b OK")
	if f.settle(gw2, f.users[0]) != "new" {
		t.Error("he has not moved")
	}
	gw2.lands(f.users[0], "new")

	// One of the new process's node ends sessions in all three.
	here, there := gw1.dialLatest(f.users[1]), gw2.mustDial(f.users[1])
	f.mustMove(gw1, f.users[1], "new")
	mustEnd(t, moved, here, there)
	gw1.lands(f.users[1], "new")
	var kicked admin.Kicked
	if err := ask(gw2, http.MethodPost, "/kick", url.Values{"user": {f.users[3]}}, &kicked); err != nil || kicked.Asked != 1 {
		t.Errorf("%v %+v", err, kicked)
	}
	mustEnd(t, stay)
	old.ended()
	gw2.becomes("gw1", "gw2")

	// The node that does not lead, twice in a row.
	follows, leads := gw1, "gw2"
	if f.leader(gw1, "") == "gw1" {
		follows, leads = gw2, "gw1"
	}
	node := map[*gate]string{gw1: "gw1", gw2: "gw2"}[follows]
	first := follows.mustDial(f.users[4])
	one := follows.takeOver()
	second := follows.dialLatest(f.users[4])
	two := follows.takeOver()
	third := follows.dialLatest(f.users[4])
	if got := f.leader(follows, ""); got != leads {
		t.Errorf("%s leads, and %s had no reason to end", got, leads)
	}
	follows.becomes("gw1", "gw2", one.apart(node), two.apart(node))
	f.mustMove(gw1, f.users[4], "new")
	mustEnd(t, first, second, third)
	one.ended()
	two.ended()
	follows.becomes("gw1", "gw2")
	f.mustMove(gw2, f.users[4], "old")
}

// TestTakeOverNodesEnds: a successor that ends before it serves, wherever it is, leaves the old process as it was: a node under its name, that
// leads or not, and moves people.
func TestTakeOverNodesEnds(t *testing.T) {
	t.Parallel()
	f := takeOverFleet(t, 2, 3)
	gw1, gw2 := f.gates[0], f.gates[1]
	session := gw1.mustDial(f.users[0])
	side := "old"
	asBefore := func() {
		t.Helper()
		gw2.becomes("gw1", "gw2")
		mustBe(t, session, "old")
		gw1.mustDial(f.users[2]).Close()
		side = map[string]string{"old": "new", "new": "old"}[side]
		gw1.until("verbs are answered", func() bool { return ask(gw1, http.MethodGet, "/status", nil, nil) == nil })
		c := gw1.mustDial(f.users[1])
		f.mustMove(gw1, f.users[1], side)
		mustEnd(t, c)
		gw1.lands(f.users[1], side)
	}
	h := gw1.halfSoon() // it has the sockets
	asBefore()
	h.close()

	h = gw1.halfSoon() // it was given the name
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	gw2.becomes(fmt.Sprintf("gw1/%d", gw1.cmd.Process.Pid), "gw2")
	if list, err := ended(gw1.saysAlive()); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
	c := gw1.mustDial(f.users[1])
	f.mustMove(gw2, f.users[1], "old") // once another node leads: meanwhile too, with the word of this process
	side = "old"
	mustEnd(t, c)
	if out := gw1.run(exitUnknown, "flip", f.users[2], "new", "--yes"); !strings.Contains(out, "handed over") {
		t.Error(out)
	}
	f.hoses[0].set(true) // and the database goes away before it ends
	h.close()
	time.Sleep(300 * time.Millisecond)
	mustBe(t, session, "old")
	f.hoses[0].set(false)
	asBefore()
	if files, _ := os.ReadDir(gw1.saysAlive()); len(files) != 0 {
		t.Errorf("%d files say that it has handed over", len(files))
	}

	for i := range 4 {
		c := gw1.command("serve", "--take-over")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(30+40*i) * time.Millisecond)
		_ = c.Process.Kill()
		_ = c.Wait()
		if strings.Contains(gw1.log.String(), "msg=\"handed over") {
			t.Logf("it served after %d ms", 30+40*i)
			old := gw1.process()
			gw1.start() // in its place; the old process is known
			gw2.becomes("gw1", "gw2", old.apart("gw1"))
			f.mustMove(gw1, f.users[0], "new")
			mustEnd(t, session)
			select { // its log has the errors of those that were killed
			case <-old.end:
			case <-time.After(20 * time.Second):
				t.Error("the old process does not end")
			}
			return
		}
		asBefore()
	}
}

func (g *gate) saysAlive() string { return filepath.Join(g.dir, "state", "control.sock.nodes") }

// TestTakeOverNodesKilled: the only gateway on a database is upgraded, and then one process or the other is killed, or both. What the routes file
// says by then is taken over as at any start.
func TestTakeOverNodesKilled(t *testing.T) {
	t.Parallel()
	f := takeOverFleet(t, 1, 4)
	g := f.gates[0]
	g.mustDial(f.users[0])
	off := string(mustRead(t, g.file))
	g.write(g.file, strings.Replace(off, "watch: 100ms", "watch: 0s", 1))
	g.run(0, "reload")
	g.write(g.routes, strings.Replace(string(mustRead(t, g.routes)), f.users[3]+" old", f.users[3]+" new", 1))
	old := g.takeOver()
	if f.settle(g, f.users[3]) != "new" {
		t.Error("the routes file of the new process is not in force")
	}
	if err := syscall.Kill(old.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.becomes("gw1") // nobody has removed it
	f.mustMove(g, f.users[1], "new")

	// The new one is killed; the next one finds the old.
	stay := g.mustDial(f.users[0])
	old = g.takeOver()
	g.kill()
	mustBe(t, stay, "old")
	if out := g.run(0, "nodes"); !strings.Contains(out, old.apart("gw1")) {
		t.Error(out)
	}
	g.start()
	g.becomes("gw1", old.apart("gw1"))
	f.mustMove(g, f.users[0], "new")
	mustEnd(t, stay)
	old.ended()

	// Both; and another one that has a store of its own is none to take over from.
	g.mustDial(f.users[0])
	old = g.takeOver()
	c := g.command("--set", "store.url=", "serve", "--take-over")
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "the other process has its store in a database") {
		t.Errorf("%v: %s", err, out)
	}
	_ = syscall.Kill(old.pid, syscall.SIGKILL)
	g.kill()
	<-old.end
	g.start()
	g.becomes("gw1")
	f.mustMove(g, f.users[1], "old")
}

// TestTakeOverNodesRefused: what is in the way of giving the name up leaves a gateway behind a database as it was, however far it came.
func TestTakeOverNodesRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 2)
	g := f.gates[0]
	x, end := g.inside()
	defer end()
	session := g.mustDial(f.users[0])
	refused := func(why string) {
		t.Helper()
		h := g.halfSoon()
		defer h.close()
		if err := h.take(t.Context()); err == nil || !strings.Contains(err.Error(), why) {
			t.Fatal(err)
		}
	}
	side := "old"
	asBefore := func() {
		t.Helper()
		g.until("it goes on as before", func() bool { return !x.leaving.lent.Load() && x.leading.Load() != nil && x.lock != nil })
		f.leader(g, "")
		side = map[string]string{"old": "new", "new": "old"}[side]
		f.mustMove(g, f.users[1], side)
		mustBe(t, session, "old")
		if files, _ := os.ReadDir(g.saysAlive()); len(files) != 0 {
			t.Errorf("%d files say that it has handed over", len(files))
		}
	}
	x.leaving.patience = 100 * time.Millisecond
	_, leave, err := x.syncing.enter(t.Context(), f.users[0], false)
	if err != nil {
		t.Fatal(err)
	}
	leave = sync.OnceFunc(leave)
	defer leave() // or serve would not end
	part := x.leading.Load()
	refused("passes over mailboxes do not end")
	asBefore()
	if x.leading.Load() != part || part.ctx.Err() != nil {
		t.Error("what one process alone runs was ended")
	}
	leave()

	x.leaving.patience = giveTime
	n, err := x.shared.Join(t.Context(), op.Node{Name: nameApart(x.conf.Load()), Incarnation: "x.1", About: op.About{Place: "elsewhere"}})
	if err != nil {
		t.Fatal(err)
	}
	refused("is at elsewhere")
	if err := x.shared.Leave(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	asBefore()
	g.becomes("gw1")
	session.Close()
}
