package main

import (
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/op"
)

// TestNodesFiles: a gateway that takes the lead while it serves takes no routes file over that is not the one that was taken over last, also
// when no other is left; it begins to lead before or behind a reload, never in the middle of one; and an approval says that its file is right.
func TestNodesFiles(t *testing.T) {
	t.Parallel()
	const alice, bob = "alice@example.com", "bob@example.com"
	dsn := lab.StartPostgres(t)
	node := func(name string) *memory {
		m := newMemory(t, alice, bob)
		text := strings.Replace(mustRead(t, m.dir+"/mailgate.yaml"), "store: {path: state.db}", "store: {url: '"+dsn+"'}\nnode: "+name, 1)
		m.write("mailgate.yaml", text)
		return m
	}
	m1, m2 := node("gw1"), node("gw2")
	const old, moved = alice + " old\n" + bob + " old\n", alice + " new\n" + bob + " old\n"
	m1.write("routes", old)
	m2.write("routes", old)
	g1, stop1 := m1.start()
	g2, stop2 := m2.start()
	defer stop2()
	if !g1.leads() || g2.leads() {
		t.Fatal("gw1 does not lead")
	}
	m1.write("routes", moved)
	if _, err := g1.Reload(t.Context(), "test", ""); err != nil {
		t.Fatal(err)
	}
	on := func(user string, side config.Side) bool {
		r, err := g2.store.Row(t.Context(), user)
		return err == nil && r.State == op.Settled && r.Side == side
	}
	until(t, "alice is moved", func() bool { return on(alice, config.New) })

	g2.reloading.Lock() // a reload that has found that gw2 does not lead, and is not through
	stop1()
	for waits := 0; waits < 20; time.Sleep(20 * time.Millisecond) {
		switch {
		case g2.term.Load() != nil:
			g2.reloading.Unlock()
			t.Fatal("it began to lead in the middle of a reload")
		case g2.terms.TryLock():
			g2.terms.Unlock()
			waits = 0
		default:
			waits++
		}
	}
	g2.reloading.Unlock()
	until(t, "gw2 leads", func() bool { return g2.leadsSurely() && g2.leads() })
	if open, err := g2.store.Operations(t.Context(), op.Filter{Open: true}); err != nil || len(open) > 0 || !on(alice, config.New) || !g2.behind.Load() {
		t.Errorf("its file is older, and yet %+v %v, behind %v", open, err, g2.behind.Load())
	}
	if err := g2.mayEdit(); err == nil {
		t.Error("an edit would move alice")
	}
	m2.write("routes", moved)
	if _, err := g2.Reload(t.Context(), "test", ""); err != nil || g2.behind.Load() || !on(alice, config.New) {
		t.Errorf("%v, behind %v", err, g2.behind.Load())
	}

	m2.write("routes", "")
	r, err := g2.Reload(t.Context(), "test", "")
	if err != nil || r.Import.Waiting == nil {
		t.Fatalf("%+v %v", r, err)
	}
	g2.behind.Store(true) // as if the lead had changed: the file is not the one that was taken over
	if _, err := g2.Approve(t.Context(), r.Import.Waiting.ID, "test", ""); err != nil || g2.mayEdit() != nil {
		t.Errorf("approved: %v, may edit: %v", err, g2.mayEdit())
	}
}
