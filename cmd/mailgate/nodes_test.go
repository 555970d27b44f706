package main

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailgate/admin"
	"mailgate/op"
)

// TestNodes: three gateways on one database move people while these work through all three; one is stopped, cut off, killed and taken
// out, the one that leads too. Nobody works on the wrong side, and nobody is told that his password is wrong.
func TestNodes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, 3)
	f.start()
	gw1, gw2, gw3 := f.gates[0], f.gates[1], f.gates[2]
	if l := f.leader(gw2, ""); l != "gw1" {
		t.Fatalf("%s leads", l)
	}
	stop := f.clients()
	defer stop()
	anna, bert := f.users[0], f.users[1]

	began := time.Now()
	mark := func(what string) { t.Logf("%5.1f s  %s", time.Since(began).Seconds(), what) }
	for i := range 4 { // by way of each node
		to := []string{"new", "old"}[i%2]
		f.mustMove(f.gates[i%3], anna, to)
		f.mustMove(f.gates[(i+1)%3], bert, to)
	}
	mark("8 flips through three nodes")

	t.Run("verbs on each", func(t *testing.T) {
		for _, g := range f.gates {
			if out := g.run(0, "nodes"); strings.Count(out, "gw") != 3 || !strings.Contains(out, "(here)") {
				t.Error(out)
			}
			if out := g.run(0, "sessions", anna); !strings.Contains(out, "gw1") || !strings.Contains(out, "gw2") || !strings.Contains(out, "gw3") {
				t.Error(out)
			}
			if out := g.run(0, "status"); !strings.Contains(out, "gw1, gw2, gw3; gw1 leads") {
				t.Error(out)
			}
			if out := g.run(0, "kick", anna); !strings.Contains(out, " 0 left") || strings.HasPrefix(out, "0 sessions") {
				t.Error(out)
			}
		}
		if out := gw2.run(exitRefused, "sync", "run", anna, "--yes"); !strings.Contains(out, "gw1") {
			t.Error(out)
		}
		for _, what := range []string{"flip committed +new -> old", "sessions kicked"} { // gw1 was asked by gw2
			if out := gw1.run(0, "history", anna); !regexp.MustCompile(what + ` .* node gw2, control socket, pid \d+, uid `).MatchString(out) {
				t.Error(out)
			}
		}
		gw2.run(exitRefused, "nodes", "remove", "gw2", "--yes")
		gw2.run(exitDifference, "nodes", "remove", "gw9", "--yes")
	})

	// A node that stands still: the flip is called off at its deadline and says why; afterwards all is well.
	f.signal(2, syscall.SIGSTOP)
	o, err := f.move(gw2, anna, "new")
	if err != nil || o.Status != op.Failed || !strings.Contains(o.Reason, "gw3") {
		t.Errorf("%v %+v", err, o)
	}
	f.until("status says that gw3 is silent", func() bool {
		out := gw1.run(0, "status")
		return strings.Contains(out, "not heard of for") && strings.Contains(out, "nodes remove gw3")
	})
	f.signal(2, syscall.SIGCONT)
	f.settle(gw1, anna)
	mark("goes on")
	f.mustMove(gw3, anna, "new")
	mark("flip behind it")

	// One that is cut off from the database serves on, and flips wait for it.
	f.hoses[2].set(true)
	if o, err := f.move(gw1, anna, "old"); err != nil || o.Status != op.Failed || !strings.Contains(o.Reason, "gw3") {
		t.Errorf("%v %+v", err, o)
	}
	if c, err := gw3.dial(bert, "secret"); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	f.hoses[2].set(false)
	f.settle(gw1, anna)
	mark("back from the cut")
	f.mustMove(gw1, anna, "old")

	// The one that leads is killed in the middle of a flip: another takes its place; what it left is as before or done, once it is back
	// or taken out.
	moving := make(chan error)
	go func() { _, err := f.move(gw2, anna, "new"); moving <- err }()
	time.Sleep(30 * time.Millisecond)
	gw1.kill()
	leads := f.leader(gw2, "gw1")
	mark(leads + " leads")
	gw1.start()
	mark("gw1 is back")
	if err := <-moving; err != nil { // who asked was told that another leads, or waited on with that one
		t.Log(err)
	}
	f.settle(gw2, anna)
	f.mustMove(gw1, anna, map[string]string{"old": "new", "new": "old"}[f.look(anna).side])
	f.settle(gw3, anna)

	// The one that leads stands still, and is taken out; another leads, and moves people. When it goes on it ends what it has and comes
	// again.
	mark("moved behind it")
	var stopped int
	for i, name := range []string{"gw1", "gw2", "gw3"} {
		if name == leads {
			stopped = i
		}
	}
	other := f.gates[(stopped+1)%3]
	f.signal(stopped, syscall.SIGSTOP)
	if out := other.run(0, "nodes", "remove", leads, "--yes"); !strings.Contains(out, "Make sure first") {
		t.Error(out)
	}
	if now := f.leader(other, leads); now == leads {
		t.Error(now)
	}
	if out := other.run(0, "history", "--limit", "1000"); !regexp.MustCompile(`node removed +` + leads + ` -> .*control socket, pid \d+, uid `).MatchString(out) {
		t.Error(out)
	}
	mark("another leads")
	for _, u := range f.users[:2] {
		f.mustMove(other, u, map[string]string{"old": "new", "new": "old"}[f.look(u).side])
	}
	f.mu.Lock()
	for _, s := range f.truth { // for a moment it serves by what it knew
		s.moving = true
		s.turn++
	}
	f.mu.Unlock()
	f.signal(stopped, syscall.SIGCONT)
	f.until("it has joined again", func() bool {
		var list []admin.NodeInfo
		return ask(other, http.MethodGet, "/nodes", nil, &list) == nil && len(list) == 3
	})
	mark("it has joined again")
	for _, u := range f.users {
		f.settle(other, u)
	}
	for _, u := range f.users[:2] {
		f.mustMove(f.gates[stopped], u, map[string]string{"old": "new", "new": "old"}[f.look(u).side])
	}
	mark("done")
	t.Logf("%d sessions", stop())
}

// TestNodesNewcomers: people whom nobody has seen are on one side at a time while the default changes, whichever node they come to.
func TestNodesNewcomers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, 1)
	f.start()
	gw1, gw2 := f.gates[0], f.gates[1]
	where := func(g *gate, user string) string {
		t.Helper()
		c, err := g.dial(user, "secret")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.Status("INBOX", nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		_ = s
		box, err := c.Select("INBOX", nil).Wait()
		if err != nil {
			t.Fatal(err)
		}
		return map[uint32]string{1: "old", 2: "new"}[box.NumMessages]
	}
	if s := where(gw2, "stranger1@example.com"); s != "old" {
		t.Errorf("on %s", s)
	}
	text := mustRead(t, gw1.routes)
	gw1.write(gw1.routes, strings.Replace(text, "default old", "default new", 1))
	f.until("the default has changed", func() bool {
		var h []op.Event
		return ask(gw2, http.MethodGet, "/history", url.Values{}, &h) == nil && strings.Contains(strings.Join(whats(h), "\n"), "default changed")
	})
	for _, g := range f.gates { // whom one node has let in, the others know
		if s := where(g, "stranger1@example.com"); s != "old" {
			t.Errorf("on %s", s)
		}
		if s := where(g, "stranger2@example.com"); s != "new" {
			t.Errorf("on %s", s)
		}
	}
	// While a node does not answer, the rules stay.
	f.signal(1, syscall.SIGSTOP)
	gw1.write(gw1.routes, text)
	f.until("it says what it waits for", func() bool { return strings.Contains(gw1.run(0, "status"), "not every node has answered") })
	f.signal(1, syscall.SIGCONT)
	f.until("the default is back", func() bool {
		var h []op.Event
		return ask(gw2, http.MethodGet, "/history", url.Values{}, &h) == nil && strings.Count(strings.Join(whats(h), "\n"), "default changed") == 2
	})
	if s := where(gw2, "stranger3@example.com"); s != "old" {
		t.Errorf("on %s", s)
	}

	// A verb that works while nothing runs here is a node for that time: the other one's word is needed too.
	gw1.stop()
	f.leader(gw2, "gw1")
	f.signal(1, syscall.SIGSTOP)
	if out := gw1.run(exitRefused, "flip", f.users[0], "new", "--yes"); !strings.Contains(out, "gw2 leads") {
		t.Error(out)
	}
	gw1.run(0, "nodes", "remove", "gw2", "--yes")
	gw1.run(0, "flip", f.users[0], "new", "--yes")
	f.signal(1, syscall.SIGCONT)
	f.until("it has joined again", func() bool { return strings.Contains(gw2.run(0, "nodes"), "gw2 (here)") })
	if s := where(gw2, f.users[0]); s != "new" {
		t.Errorf("on %s", s)
	}
	gw1.start()
}

func whats(h []op.Event) (out []string) {
	for _, e := range h {
		out = append(out, e.What)
	}
	return out
}
