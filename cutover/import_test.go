package cutover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

const bob = "bob@example.com"

// settle waits for all flips that were asked for.
func (g *gateway) settle() {
	g.t.Helper()
	must(g.t, g.m.Idle(g.t.Context()))
}

func (g *gateway) drift() string {
	g.t.Helper()
	list, err := g.m.Drift(g.t.Context())
	must(g.t, err)
	s := ""
	for _, d := range list {
		s += fmt.Sprintf("%s %s/%s pin=%v;", d.User, d.Actual, d.Desired, d.Pin != nil)
	}
	return s
}

func TestFirstImport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, "default new\n*@sales.example.com old\n"+alice+" old\n"+bob+" new\n")
		if n := len(g.m.Steps()); n != 0 {
			t.Error("the first import asks for flips")
		}
		g.check(alice, config.Old, 0)
		g.check(bob, config.New, 0)
		g.admits(g.r, "x@example.com", config.New)
		g.admits(g.r, "x@sales.example.com", config.Old)
	})
}

// TestEdges: a changed line is a request once; a deleted one moves nobody; a new one of an unknown user is a flip.
func TestEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n"+bob+" new\n")
		im := g.imports("# a comment\n" + bob + " new wave=pilot\n" + alice + " new\n")
		if im.Changed != 1 || len(im.Operations) != 1 || im.Operations[0].User != alice || im.Operations[0].By != "test" {
			t.Errorf("%+v", im)
		}
		g.settle()
		g.check(alice, config.New, 1)
		if im = g.imports("# a comment\n" + bob + " new wave=pilot\n" + alice + " new\n"); im.Changed != 0 || len(im.Operations) != 0 {
			t.Errorf("the same file again: %+v", im)
		}
		if im = g.imports(alice + " new\n"); im.Changed != 1 || len(im.Operations) != 0 {
			t.Errorf("a deleted line: %+v", im)
		}
		g.check(bob, config.New, 0)
		if im = g.imports(alice + " new\n" + bob + " old\ncarol@example.com new\ndave@example.com old\n"); len(im.Operations) != 2 || im.Placed != 2 {
			t.Errorf("a line that comes back elsewhere, and new ones: %+v", im)
		}
		g.settle()
		g.check(bob, config.Old, 1)
		g.check("carol@example.com", config.New, 1)
		g.check("dave@example.com", config.Old, 0)
	})
}

// TestPins: what was decided elsewhere is not undone by the file that says otherwise, however often it is deployed.
func TestPins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := alice + " new\n" + bob + " old\n"
		g := started(t, file)
		g.wait(g.request(alice, config.Old).ID)
		for range 3 {
			g.imports(file + "# deployed\n")
			g.imports(file)
		}
		g.settle()
		g.check(alice, config.Old, 1)
		if d := g.drift(); d != alice+" old/new pin=true;" {
			t.Errorf("drift %q", d)
		}
		im := g.imports(alice + " old\n" + bob + " old\n") // the file agrees
		if im.Unpinned != 1 || len(im.Operations) != 0 {
			t.Errorf("%+v", im)
		}
		if d := g.drift(); d != "" {
			t.Errorf("drift %q", d)
		}
		if _, err := g.m.Unpin(t.Context(), alice, "me", "", ""); !errors.Is(err, ErrNotPinned) {
			t.Error(err)
		}
		g.imports(file) // a changed line again: a request
		g.settle()
		g.check(alice, config.New, 2)
		g.wait(g.request(alice, config.Old).ID)
		o, err := g.m.Unpin(t.Context(), alice, "me", "", "")
		must(t, err)
		g.wait(o.ID)
		g.check(alice, config.New, 4)
		if d := g.drift(); d != "" {
			t.Errorf("drift %q", d)
		}
	})
}

// TestFailedFlipIsDrift: an import that was recorded and whose flip failed shows, and nothing moves by itself.
func TestFailedFlipIsDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		s, err := login(t.Context(), g.r, alice, &ender{})
		must(t, err)
		im := g.imports(alice + " new\n")
		synctest.Wait()
		if d := g.drift(); d != "" {
			t.Errorf("he is on his way, and yet drift %q", d)
		}
		if o := g.wait(im.Operations[0].ID); o.Status != op.Failed {
			t.Errorf("%+v", o)
		}
		s.Done()
		g.imports(alice + " new\n")
		g.settle()
		if d := g.drift(); d != alice+" old/new pin=false;" {
			t.Errorf("drift %q", d)
		}
		g.wait(g.request(alice, config.New).ID)
		g.check(alice, config.New, 1)
	})
}

// TestChangedBack: a file that is put back while the flip it asked for is under way ends where the file says.
func TestChangedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		s, err := login(t.Context(), g.r, alice, &ender{})
		must(t, err)
		g.imports(alice + " new\n")
		synctest.Wait()
		g.imports(alice + " old\n")
		s.Done()
		g.settle()
		if row := g.row(alice); row.Side != config.Old {
			t.Errorf("%+v", row)
		}
		if d := g.drift(); d != "" {
			t.Errorf("drift %q", d)
		}
	})
}

func manyLines(n int, side string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "u%d@example.com %s\n", i, side)
	}
	return b.String()
}

func TestApproval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, manyLines(20, "old"))
		most := g.file(manyLines(20, "new"))
		im := g.imports(manyLines(20, "new"))
		if im.Waiting == nil || im.Waiting.Status != op.Waiting || !strings.Contains(im.Waiting.Reason, "20 of 20") {
			t.Fatalf("%+v", im)
		}
		if again := g.imports(manyLines(20, "new")); again.Waiting == nil || again.Waiting.ID != im.Waiting.ID {
			t.Errorf("the same file again: %+v", again.Waiting)
		}
		if c := g.m.Counts()[op.Import][op.Waiting]; c != 1 {
			t.Errorf("%d wait", c)
		}
		empty := g.imports("# nothing\n")
		if empty.Waiting == nil || !strings.Contains(empty.Waiting.Reason, "lost all its 20") {
			t.Fatalf("%+v", empty)
		}
		for id, want := range map[string]error{im.Waiting.ID: ErrFinal, empty.Waiting.ID: ErrFileChanged, "op-99": op.ErrNotFound} {
			if _, err := g.m.Approve(t.Context(), id, most, "me", ""); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", id, err, want)
			}
		}
		// A harmless file takes the place of the one that waits.
		g.imports(manyLines(20, "old") + "#\n")
		if o := g.wait(empty.Waiting.ID); o.Status != op.Cancelled {
			t.Errorf("%+v", o)
		}
		im = g.imports(manyLines(20, "new"))
		must(t, g.m.Cancel(t.Context(), im.Waiting.ID, "me", "there"))
		if _, err := g.m.Approve(t.Context(), im.Waiting.ID, most, "me", ""); !errors.Is(err, ErrFinal) {
			t.Errorf("approved though cancelled: %v", err)
		}
		im = g.imports(manyLines(20, "new"))
		done, err := g.m.Approve(t.Context(), im.Waiting.ID, most, "me", "there")
		must(t, err)
		if len(done.Operations) != 20 || done.Waiting != nil {
			t.Errorf("%+v", done)
		}
		g.called("approved", im.Waiting.ID, "me", "there")
		if o := g.wait(im.Waiting.ID); o.Status != op.Done || !strings.Contains(o.Reason, "me") {
			t.Errorf("%+v", o)
		}
		g.settle()
		g.check("u7@example.com", config.New, 1)
		g.imports("u0@example.com old\nu1@example.com old\nu2@example.com old\n") // at most approve_min
		g.settle()
		g.check("u2@example.com", config.Old, 2)
		g.check("u7@example.com", config.New, 1)
	})
}

// TestDefault: the default and patterns concern names never seen, and survive a restart that has no file yet.
func TestDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer s.Close()
		g := newGateway(t, s)
		must(t, g.m.Start(t.Context()))
		g.imports(alice + " old\n")
		g.admits(g.r, "seen@example.com", config.Old)
		im := g.imports("default new\n*@sales.example.com old\n" + alice + " old\n")
		if len(im.Operations) != 1 || im.Operations[0].Kind != op.Default || im.Operations[0].Status != op.Done || len(im.Flips()) != 0 {
			t.Errorf("%+v", im)
		}
		g.check("seen@example.com", config.Old, 0)
		g.admits(g.r, "late@example.com", config.New)
		g.m.Stop()

		h := newGateway(t, s)
		must(t, h.m.Start(t.Context())) // the file waits for approval, or cannot be read: nothing is imported
		defer h.m.Stop()
		h.admits(h.r, "never@example.com", config.New)
		h.admits(h.r, "never@sales.example.com", config.Old)
		h.check("late@example.com", config.New, 0)
		h.check("seen@example.com", config.Old, 0)
	})
}

// TestAddressRules: which names are one user cannot change under the rows.
func TestAddressRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, "Alice@example.com new\n")
		f, r := settingsOf()
		r.LocalPart = "exact"
		g.m.Configure(f, r)
		if _, err := g.m.Import(t.Context(), g.file("Alice@example.com new\n"), "test", ""); !errors.Is(err, ErrAddressRules) {
			t.Error(err)
		}
	})
}

// TestImportFaults: whatever call of the store fails in an import, it is taken over whole, flips and all, or not at
// all; and the next reload mends it.
func TestImportFaults(t *testing.T) {
	n := 0
	synctest.Test(t, func(t *testing.T) { n = importRun(t, nil) })
	for _, f := range []fault{before, after, hang, hangOn} {
		for at := range n {
			for _, length := range []int{1, 30} {
				t.Run(fmt.Sprintf("%v/%d-%d", f, at, at+length), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						importRun(t, func(_ string, i int) fault {
							if i >= at && i < at+length {
								return f
							}
							return well
						})
					})
				})
			}
		}
	}
}

func importRun(t *testing.T, decide func(string, int) fault) int {
	g := started(t, alice+" old\n"+bob+" old\n")
	g.wait(g.request(bob, config.New).ID) // pinned
	file := "default new\n" + alice + " new\n" + bob + " old\ncarol@example.com new\n"
	g.st.set(decide)
	im, err := g.m.Import(t.Context(), g.file(file), "test", "")
	n := g.st.count()
	time.Sleep(5 * time.Minute)
	g.st.set(nil)
	serial, derr := g.st.Store.Desired(t.Context(), func(op.Desired) error { return nil })
	must(t, derr)
	if err == nil && (serial != im.Serial || len(im.Flips()) != 2) {
		t.Errorf("taken over, and the store has %q: %+v", serial, im)
	}
	g.settle()
	if err != nil && serial != im.Serial { // not at all
		g.check(alice, config.Old, 0)
		g.admits(g.r, "new@example.com", config.Old)
	}
	g.imports(file)
	g.settle()
	time.Sleep(time.Minute)
	for user, side := range map[string]config.Side{alice: config.New, bob: config.New, "carol@example.com": config.New} {
		if row := g.row(user); row.Side != side && g.drift() == "" {
			t.Errorf("%+v is neither where the file says nor drift", row)
		}
	}
	open, oerr := g.st.Store.Operations(t.Context(), op.Filter{Open: true})
	must(t, oerr)
	if len(open) > 0 {
		t.Errorf("sleeping in the store: %+v", open)
	}
	if p := g.m.newcomers.rules.Load(); p.Default != config.New {
		t.Errorf("%+v", p)
	}
	return n
}

// TestImportOfUnknownOutcome: an import that was written although the store answered an error is read back, and done.
func TestImportOfUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		g.st.set(func(name string, _ int) fault {
			if name == "Import" {
				return after
			}
			return well
		})
		if im := g.imports(alice + " new\n"); len(im.Flips()) != 1 {
			t.Errorf("%+v", im)
		}
		g.settle()
		g.check(alice, config.New, 1)
	})
}

// TestBigImport: many lines at once (100,000 take 3 s without the race detector), and logins are answered meanwhile.
func TestBigImport(t *testing.T) {
	const n = 3_000
	s := openStore(t, tempDir(t))
	defer s.Close()
	g := newGateway(t, s)
	f, r := settingsOf()
	r.ApproveShare = 1
	g.m.Configure(f, r)
	must(t, g.m.Start(t.Context()))
	old, next := g.file(manyLines(n, "old")), g.file(manyLines(n, "new"))
	start := time.Now()
	_, err := g.m.Import(t.Context(), old, "test", "")
	must(t, err)
	t.Logf("%d users placed in %v", n, time.Since(start))
	done, slowest := make(chan struct{}), time.Duration(0)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			start := time.Now()
			s, err := login(ctx, g.r, "u2999@example.com", &ender{})
			if err != nil {
				return
			}
			s.Done()
			slowest = max(slowest, time.Since(start))
			time.Sleep(time.Millisecond)
		}
	}()
	start = time.Now()
	im, err := g.m.Import(t.Context(), next, "test", "")
	must(t, err)
	took := time.Since(start)
	cancel()
	<-done
	t.Logf("%d flips asked for in %v, slowest login %v", len(im.Operations), took, slowest)
	if slowest > took/2+100*time.Millisecond {
		t.Errorf("a login took %v beside an import of %v", slowest, took)
	}
	g.m.Stop()
}
