package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/imapwire"
	"mailgate/mailtest"
	"mailgate/op"
	"mailgate/store"
)

// inside starts serve within the test, and returns it when it serves. It ends with the test at the latest.
func (g *gate) inside() (x *gateway, end func()) { return g.insideAs(&program{file: g.file}) }

// insideAs is inside with flags.
func (g *gate) insideAs(p *program) (x *gateway, end func()) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g.log, g.done = &syncBuffer{}, make(chan struct{})
	p.err = g.log
	serves := make(chan *gateway, 1)
	done := g.done
	go func() {
		defer close(done)
		if err := p.serve(ctx, func(x *gateway) { serves <- x }); err != nil {
			fmt.Fprintln(p.err, "level=ERROR", err)
		}
	}()
	end = func() {
		cancel()
		<-done
	}
	g.t.Cleanup(end)
	select {
	case x = <-serves:
	case <-done:
		g.t.Fatalf("serve has ended:\n%s", g.log)
	}
	return x, end
}

// halfSoon is half, behind one that is being turned away still.
func (g *gate) halfSoon() half {
	g.t.Helper()
	var h *heir
	g.until("another process may take over", func() bool {
		var err error
		if h, err = (&program{file: g.file, err: &syncBuffer{}}).inherit(g.t.Context(), time.Hour); err != nil && !strings.Contains(err.Error(), "already") {
			g.t.Fatal(err)
		}
		return h != nil
	})
	return half{h, g.t, g}
}

func (g *gate) storePath() string { return filepath.Join(g.dir, "state", "mailgate.db") }

// TestTakeOverRefusedByPasses: a pass that does not end refuses a hand-over, as often as it is tried. What one process alone runs goes on,
// once, and so do flips; behind the end of the pass the hand-over is as ever.
func TestTakeOverRefusedByPasses(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	x, end := g.inside()
	x.leaving.patience = 100 * time.Millisecond
	session := g.mustDial("user0@example.com")
	_, leave, err := x.syncing.enter(t.Context(), "user3@example.com", false)
	if err != nil {
		t.Fatal(err)
	}
	leave = sync.OnceFunc(leave)
	defer leave() // or serve would not end
	part := x.leading.Load()
	for i := range 3 {
		h := g.halfSoon()
		if err := h.take(t.Context()); err == nil || !strings.Contains(err.Error(), "passes over mailboxes do not end") {
			t.Fatal(err)
		}
		if i != 1 { // the second comes back while this process goes back
			g.asBefore("user1@example.com", session)
		}
		h.close()
		if x.leading.Load() != part || part.ctx.Err() != nil {
			t.Fatal("what one process alone runs runs twice, or not at all")
		}
	}
	leave()

	// What one process alone runs was told to end, and does not in time: it begins again behind its end, and not before.
	slow := &leadingPart{ctx: part.ctx, stop: part.stop, ended: make(chan struct{})}
	x.leading.Store(slow)
	h := g.halfSoon()
	if err := h.take(t.Context()); err == nil || !strings.Contains(err.Error(), "one process alone does") {
		t.Fatal(err)
	}
	h.close()
	if <-part.ended; x.leading.Load() != slow || !x.leaving.lent.Load() {
		t.Error("it began again beside what ran still")
	}
	x.leaving.patience = giveTime // here all ends, however slow the machine is
	close(slow.ended)
	g.asBefore("user1@example.com", session)
	part = x.leading.Load()

	h = g.halfSoon()
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-part.ended:
	default:
		t.Error("what one process alone runs runs still, and the store is another one's")
	}
	h.close()
	g.asBefore("user1@example.com", session)
	if x.leading.Load() == part {
		t.Error("what one process alone runs did not begin again")
	}
	_, leave, err = x.syncing.enter(t.Context(), "user3@example.com", false)
	if err != nil {
		t.Fatal(err) // passes begin again
	}
	leave = sync.OnceFunc(leave)
	defer leave()

	// The process ends in the middle of a hand-over that waits.
	x.leaving.patience = time.Hour
	last := g.halfSoon()
	asked := make(chan error, 1)
	go func() { asked <- last.take(context.Background()) }()
	g.until("it is asked", x.leaving.lent.Load)
	go end()
	if err := <-asked; err == nil {
		t.Error("the store was given by a process that ends")
	}
	last.close()
	leave()
	end()
}

// TestTakeOverRefusedBehindAnother: a process that has taken over cannot hand over in time itself, and leads again. The one before comes to
// what it leads with then, and flips go on.
func TestTakeOverRefusedBehindAnother(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	g.start()
	stay := g.mustDial("user0@example.com")
	before := g.process()
	x, end := g.insideAs(&program{file: g.file, takesOver: true, outlast: time.Hour})
	defer end()
	defer before.ended()
	defer stay.Close()
	g.until("the one before knows", func() bool { return strings.Contains(g.log.String(), `msg="taken over"`) })
	first := x.host.Load()
	part := x.leading.Load()
	slow := &leadingPart{ctx: part.ctx, stop: part.stop, ended: make(chan struct{})}
	x.leading.Store(slow)
	x.leaving.patience = 100 * time.Millisecond
	h := g.halfSoon()
	if err := h.take(t.Context()); err == nil || !strings.Contains(err.Error(), "one process alone does") {
		t.Fatal(err)
	}
	h.close()
	<-part.ended
	close(slow.ended)
	g.until("it leads again", func() bool { return strings.Contains(g.log.String(), "leads again") })
	if x.host.Load() == first {
		t.Error("it leads with what had ended")
	}
	if o := g.move("user1@example.com", "new"); o.Status != op.Done {
		t.Errorf("%+v", o)
	}
	if s, err := sideByMail(stay); s != "old" || err != nil {
		t.Error(s, err)
	}
}

// TestTakeOverStoreInUse: while a process that took over and ended leaves the store to somebody else, the one before cannot lead again. It
// answers, another one can take over from it, and it leads as soon as it can. What its sessions did meanwhile it knows.
func TestTakeOverStoreInUse(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	x, end := g.inside()
	defer end()
	session := g.mustDial("user0@example.com")
	h := g.halfSoon()
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), g.storePath())
	if err != nil {
		t.Fatal(err)
	}
	h.close()
	g.until("it says that it cannot lead yet", func() bool { return strings.Contains(g.log.String(), "cannot lead yet") })
	if out := g.run(exitUnknown, "flip", "user1@example.com", "new", "--yes"); !strings.Contains(out, "handed over") {
		t.Error(out)
	}
	x.syncing.flipBegins("user4@example.com") // so that his deletes are noted
	x.syncing.flipBegins("user3@example.com")
	some := imapwire.Deletes{Mailbox: 5, Validity: 7, UIDs: imapwire.Spans{{First: 3, Last: 4}}, Most: 1} // which of the two is not known
	x.deleted("user4@example.com", config.Old, 7, some)

	second := g.halfSoon()
	if err := second.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a, b := h.other.Node, second.other.Node; a.Name != b.Name || a.Incarnation == b.Incarnation {
		t.Errorf("%+v and then %+v: whoever has heard of the first would take the second for it", a, b)
	}
	if list, err := alive(g.storePath() + ".nodes"); err != nil || len(list) != 1 || list[0].Incarnation != second.other.Node.Incarnation {
		t.Errorf("%+v %v", list, err)
	}
	second.close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	g.asBefore("user1@example.com", session)
	g.until("the delete is known", func() bool {
		proofs, err := x.store.Proofs(t.Context())
		return err == nil && len(proofs["user4@example.com"]) > 0
	})
	if len(x.leaving.notes.list) > 0 {
		t.Error("notes are left")
	}
	// What the session deletes from now on is one with that: both are gone, as with somebody who did it all by now.
	for _, user := range []string{"user4@example.com", "user3@example.com", "user3@example.com"} {
		x.deleted(user, config.Old, 7, some)
	}
	g.until("what one session deleted before and behind it is one", func() bool {
		proofs, err := x.store.Proofs(t.Context())
		return err == nil && len(proofs["user3@example.com"]) > 0 && bytes.Equal(proofs["user4@example.com"], proofs["user3@example.com"])
	})
}

// TestTakeOverLinkLost: the two processes lose their connection before the one before knows that its successor serves. Nobody leads beside
// the successor; they meet again, and what the sessions of the old one did at their end is told.
func TestTakeOverLinkLost(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	x, _ := g.inside()
	session := g.mustDial("user0@example.com")
	h := g.halfSoon()
	if err := h.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := &program{file: g.file, err: &syncBuffer{}}
	n, err := p.open(ctx, func(c config.Log) *slog.Logger { return newLog(p.err, c) }, lockWait, asNode)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var told []string
	running, err := alive(g.storePath() + ".nodes")
	if err != nil || len(running) != 1 {
		t.Fatal(running, err)
	}
	host := cutover.NewHost(cutover.HostOptions{Store: n.store, Local: &cutover.LocalNode{ID: "gw", Router: n.router}, Log: n.log,
		Alive: func(o op.Node) bool { return runs(g.storePath()+".nodes", o) }, Told: func(note cutover.Note) {
			mu.Lock()
			defer mu.Unlock()
			if told = append(told, note.User); len(told) == 1 {
				time.Sleep(200 * time.Millisecond) // the session ends meanwhile
			}
		}})
	if err := host.Begin(ctx, running); err != nil {
		t.Fatal(err)
	}
	n.host.Store(host)
	n.working.Store(&ctx)
	n.leading.Store(&leadingPart{ctx: ctx})
	if err := n.openControl(); err != nil {
		t.Fatal(err)
	}
	h.close() // no word went over it
	n.leaving.taking.Store(true)
	n.tellOld(ctx, h.heir)
	if n.leaving.taking.Load() {
		t.Error("nobody could take over from it")
	}
	g.until("it is told", x.leaving.served.Load)
	if strings.Contains(g.log.String(), "leads again") {
		t.Error("two have led")
	}
	x.changed("user3@example.com", config.IMAP)
	x.changed("user4@example.com", config.IMAP)
	session.Close()
	select {
	case <-g.done:
	case <-time.After(20 * time.Second):
		t.Fatal("the old process does not end")
	}
	mu.Lock()
	if got := strings.Join(told, " "); !strings.Contains(got, "user3@example.com") || !strings.Contains(got, "user4@example.com") {
		t.Errorf("told: %s", got)
	}
	mu.Unlock()
	if list, err := host.Others(ctx); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
	n.closeControl()
	cancel()
	n.leaving.close()
	if err := n.close(); err != nil {
		t.Error(err)
	}
}

// TestTakeOverLeavesNothing: a process that goes back has nothing left of the node that it was. Not parallel: it looks at all goroutines.
func TestTakeOverLeavesNothing(t *testing.T) {
	g := takeOverGate(t, "")
	x, end := g.inside()
	defer end()
	serving := func() int {
		all := make([]byte, 8<<20)
		return strings.Count(string(all[:runtime.Stack(all, true)]), "cutover.tetherWire.Serve(")
	}
	for range 2 {
		before := x.leading.Load()
		h := g.halfSoon()
		if err := h.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		var hosts sync.WaitGroup
		host := cutover.NewHost(cutover.HostOptions{Store: &joinsAll{}, Local: &cutover.LocalNode{ID: "gw"}})
		hosts.Go(func() { _ = host.Serve(t.Context(), h.link) })
		g.until("it listens", func() bool { return serving() > 0 })
		h.close()
		hosts.Wait()
		g.until("it leads again", func() bool { return x.leading.Load() != before && !x.leaving.lent.Load() })
	}
	g.until("nothing is left", func() bool { return serving() == 0 })
}

// joinsAll is the store of a successor, as far as a process before it asks in its first moment.
type joinsAll struct {
	op.Store
	mu    sync.Mutex
	nodes []op.Node
}

func (s *joinsAll) AddNode(_ context.Context, n op.Node) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
	return nil
}

func (s *joinsAll) Nodes(context.Context) ([]op.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.nodes), nil
}

func (s *joinsAll) Rules(context.Context) (op.Rules, error)        { return op.Rules{}, nil }
func (s *joinsAll) Rows(context.Context, func(op.Row) error) error { return nil }

// TestTakeOverStarting: nobody takes over from a process that has its control socket and does not serve yet: here a backend that says nothing
// keeps it from that for a while.
func TestTakeOverStarting(t *testing.T) {
	t.Parallel()
	for range 5 { // it starts within two seconds: a slow machine may not ask in time
		if askedWhileStarting(t) || t.Failed() {
			return
		}
	}
	t.Error("it was never asked while it started")
}

// askedWhileStarting is one start; false when it served before it was asked.
func askedWhileStarting(t *testing.T) bool {
	t.Helper()
	old, err := mailtest.StartMemory("old.example.com", map[string]string{"user0@example.com": "secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(old.Close)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	g := newGate(t, fmt.Sprintf("{imap: 'imap://%s', submission: 'submission://%s'}", old.IMAP, old.Submission),
		fmt.Sprintf("{imap: 'imap://%s', submission: 'submission://%s'}", silent.Addr(), old.Submission), "default old\nuser0@example.com old\n", "node: gw\nshutdown: 2s\n")
	ctx, cancel := context.WithCancel(context.Background())
	log, serves, done := &syncBuffer{}, make(chan struct{}), make(chan struct{})
	p := &program{file: g.file, err: log}
	go func() {
		defer close(done)
		if err := p.serve(ctx, func(*gateway) { close(serves) }); err != nil {
			fmt.Fprintln(log, "level=ERROR", err)
		}
	}()
	defer func() {
		cancel()
		<-done
		if t.Failed() {
			t.Log(log)
		}
	}()
	for {
		h, err := (&program{file: g.file, err: &syncBuffer{}}).inherit(t.Context(), time.Hour)
		select {
		case <-serves:
			if h.close(); err == nil || !strings.Contains(err.Error(), "starting") {
				return false
			}
		case <-done:
			t.Fatal("serve has ended")
		default:
		}
		if err != nil {
			if !strings.Contains(err.Error(), "starting") {
				t.Fatal(err)
			}
			break
		}
		if h != nil {
			h.close()
			t.Fatal("it hands over before it serves")
		}
		time.Sleep(time.Millisecond) // the socket is not open yet
	}
	select {
	case <-serves:
	case <-done:
		t.Fatal("serve has ended")
	}
	h := g.halfSoon()
	if err := h.take(t.Context()); err != nil {
		t.Error(err)
	}
	h.close()
	return true
}

// TestTakeOverTooEarly: a process that has taken over, and could not tell the one before yet, is not taken over: that one would believe that
// it never served, and lead again.
func TestTakeOverTooEarly(t *testing.T) {
	t.Parallel()
	g := takeOverGate(t, "")
	x, _ := g.inside()
	session := g.mustDial("user0@example.com")
	before := g.log
	c := g.command("serve", "--take-over")
	g.log = &syncBuffer{}
	c.Stderr = g.log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = c.Wait()
		close(ended)
	}()
	defer func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		<-ended
	}()
	g.until("the store is given", func() bool {
		x.leaving.mu.Lock()
		if x.leaving.serves != nil {
			return true // locked: it cannot be told
		}
		x.leaving.mu.Unlock()
		return false
	})
	var err error
	g.until("the new one serves", func() bool {
		var h *heir
		if h, err = (&program{file: g.file, err: &syncBuffer{}}).inherit(t.Context(), time.Hour); err == nil && h != nil {
			h.close()
		}
		return strings.Contains(g.log.String(), "listening")
	})
	if h, err := (&program{file: g.file, err: &syncBuffer{}}).inherit(t.Context(), time.Hour); err == nil || !strings.Contains(err.Error(), "does not know that yet") {
		t.Errorf("%v %v", h, err)
	}
	x.leaving.mu.Unlock()
	g.until("it is told", func() bool { return strings.Contains(g.log.String(), `msg="taken over"`) })
	h := g.halfSoon()
	h.close()
	if s, err := sideByMail(session); s != "old" || err != nil {
		t.Error(s, err)
	}
	session.Close()
	<-g.done
	if s := before.String(); strings.Contains(s, "leads again") || strings.Contains(s, "level=ERROR") {
		t.Errorf("log of the process before:\n%s", s)
	}
}
