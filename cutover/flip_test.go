package cutover

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

func TestFlipAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		stop := g.clients(g.r, alice)
		defer stop()
		o := g.wait(g.request(alice, config.New).ID)
		if o.Status != op.Done || o.Deadline.IsZero() {
			t.Errorf("%+v", o)
		}
		g.check(alice, config.New, 1)
		if pins, _ := g.m.store.Pins(t.Context()); len(pins) != 1 || pins[0].Side != config.New || pins[0].Reason != o.ID {
			t.Errorf("pins %+v", pins)
		}
		g.wait(g.request(alice, config.Old).ID)
		g.check(alice, config.Old, 2)
		if pins, _ := g.m.store.Pins(t.Context()); len(pins) != 0 { // the file agrees
			t.Errorf("pins %+v", pins)
		}
		if o := g.wait(g.request(alice, config.Old).ID); o.Status != op.Done || o.Reason != "already on old" {
			t.Errorf("%+v", o)
		}
		g.check(alice, config.Old, 2)
	})
}

// TestMovesOfTheTable: the generation rises with each write of a row, and each write is a move of the table.
func TestMovesOfTheTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		row := g.row(alice)
		var path []op.State
		g.st.swaps = func(from int64, next op.Row) {
			if from != row.Generation || next.Generation <= from {
				t.Errorf("generation %d, then %d from %d", row.Generation, next.Generation, from)
			}
			if err := router.Legal(router.State(row.State), router.State(next.State)); err != nil {
				t.Error(err)
			}
			if next.State != op.Settled && next.Op == "" {
				t.Errorf("nobody owns %+v", next)
			}
			if committed := next.Side != row.Side; committed != (next.State == op.Release) || committed != (next.Epoch == row.Epoch+1) {
				t.Errorf("%+v then %+v", row, next)
			}
			row = next
			path = append(path, next.State)
		}
		g.wait(g.request(alice, config.New).ID)
		if want := []op.State{op.Prep, op.Fence, op.Drain, op.Delta, op.Verify, op.Release, op.Settled}; !slices.Equal(path, want) {
			t.Errorf("%v", path)
		}
		path = nil
		stuck, err := login(t.Context(), g.r, alice, &ender{})
		must(t, err)
		g.wait(g.request(alice, config.Old).ID)
		stuck.Done()
		if want := []op.State{op.Prep, op.Fence, op.Drain, op.Settled}; !slices.Equal(path, want) {
			t.Errorf("%v", path)
		}
	})
}

// TestDeadline (I14): a session that does not end calls the flip off at the deadline, and lives on.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		s, err := login(t.Context(), g.r, alice, &ender{})
		must(t, err)
		start := time.Now()
		o := g.request(alice, config.New)
		held := make(chan time.Duration)
		go func() {
			synctest.Wait() // the fence stands
			n, err := login(t.Context(), g.r, alice, &ender{})
			if err != nil || n.Side != config.Old {
				t.Errorf("held login: %v", err)
			}
			n.Done()
			held <- time.Since(start)
		}()
		o = g.wait(o.ID)
		if o.Status != op.Failed || !strings.Contains(o.Reason, "deadline") || !strings.Contains(o.Reason, "1 sessions") {
			t.Errorf("%+v", o)
		}
		if d := <-held; d != 20*time.Second {
			t.Errorf("a login was held for %v", d)
		}
		s.Done()
		g.check(alice, config.Old, 0)
		if e := g.events(alice); !slices.Equal(e, []string{"flip requested", "flip aborted"}) {
			t.Errorf("history %v", e)
		}
		g.wait(g.request(alice, config.New).ID) // and again, behind the abort
		g.check(alice, config.New, 1)
	})
}

// TestRepeatedAborts: generations go on rising, and every login comes through afterwards.
func TestRepeatedAborts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		for range 4 {
			s, err := login(t.Context(), g.r, alice, &ender{})
			must(t, err)
			g.wait(g.request(alice, config.New).ID)
			s.Done()
			g.check(alice, config.Old, 0)
		}
		g.wait(g.request(alice, config.New).ID)
		g.check(alice, config.New, 1)
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		s, err := login(t.Context(), g.r, alice, &ender{})
		must(t, err)
		first, second, third := g.request(alice, config.New), g.request(alice, config.Old), g.request(alice, config.New)
		synctest.Wait()
		waiter := make(chan op.Operation)
		go func() { o, _ := g.m.Wait(t.Context(), second.ID); waiter <- o }()
		synctest.Wait()
		must(t, g.m.Cancel(t.Context(), second.ID, "me", "there")) // in the queue: at once
		if o := <-waiter; o.Status != op.Cancelled || o.Reason != "by me" {
			t.Errorf("%+v", o)
		}
		must(t, g.m.Cancel(t.Context(), first.ID, "me", "there")) // running
		if o := g.wait(first.ID); o.Status != op.Cancelled {
			t.Errorf("%+v", o)
		}
		s.Done()
		if o := g.wait(third.ID); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		g.check(alice, config.New, 1)
		g.called("cancelled", second.ID, "me", "there")
		g.called("flip aborted", first.ID, "me", "there") // not who had asked for the flip
		for _, id := range []string{first.ID, second.ID, third.ID} {
			if err := g.m.Cancel(t.Context(), id, "me", "there"); !errors.Is(err, ErrFinal) {
				t.Errorf("%s: %v", id, err)
			}
		}
		if err := g.m.Cancel(t.Context(), "op-99", "me", "there"); !errors.Is(err, op.ErrNotFound) {
			t.Error(err)
		}
	})
}

// TestCancelWithoutStore: a cancel that could not be recorded leaves the operation in the queue.
func TestCancelWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		s, err := login(t.Context(), g.r, alice, &ender{})
		must(t, err)
		first, second := g.request(alice, config.New), g.request(alice, config.Old)
		synctest.Wait()
		g.st.set(func(name string, _ int) fault {
			if name == "SaveOperation" {
				return before
			}
			return well
		})
		if err := g.m.Cancel(t.Context(), second.ID, "me", "there"); !errors.Is(err, op.ErrUnavailable) {
			t.Error(err)
		}
		g.st.set(nil)
		s.Done()
		g.wait(first.ID)
		if o := g.wait(second.ID); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		g.check(alice, config.Old, 2)
	})
}

// TestCancelCommitted: what is committed, or recorded as ended, cannot be cancelled.
func TestCancelCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		g.st.set(func(name string, n int) fault {
			if name == "Commit" {
				return hangOn
			}
			return well
		})
		o := g.request(alice, config.New)
		synctest.Wait()
		if err := g.m.Cancel(t.Context(), o.ID, "me", "there"); !errors.Is(err, ErrFinal) {
			t.Error(err)
		}
		g.st.set(nil)
		if o := g.wait(o.ID); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		g.check(alice, config.New, 1)
	})
}

// TestFaults: whatever call of the store fails in a flip, in whatever way, the flip ends committed or as before, and
// no login is let in to a side that is not the row's.
func TestFaults(t *testing.T) {
	for _, stuck := range []bool{false, true} { // committed, and called off at the deadline
		n := 0
		synctest.Test(t, func(t *testing.T) { n = faultRun(t, stuck, nil) })
		if n < 8 {
			t.Fatalf("a flip makes %d calls", n)
		}
		for _, f := range []fault{before, after, hang, hangOn} {
			for at := range n {
				for _, length := range []int{1, 30} {
					if stuck && length > 1 {
						continue // what an outage does to the end of a flip, the others show
					}
					t.Run(fmt.Sprintf("stuck=%v/%v/%d-%d", stuck, f, at, at+length), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							faultRun(t, stuck, func(_ string, i int) fault {
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
}

// faultRun makes one flip, and returns the number of calls of the store.
func faultRun(t *testing.T, stuck bool, decide func(string, int) fault) int {
	g := started(t, alice+" old\n")
	stop := func() {}
	var s *router.Session
	if stuck {
		var err error
		s, err = login(t.Context(), g.r, alice, &ender{})
		must(t, err)
	} else {
		stop = g.clients(g.r, alice)
	}
	g.st.set(decide)
	o, err := g.m.Request(t.Context(), alice, config.New, "test", true)
	if err != nil {
		stop()
		time.Sleep(10 * time.Minute) // the sweeper looks for it; time is the bubble's
		g.st.set(nil)
		open, err := g.st.Store.Operations(t.Context(), op.Filter{Open: true})
		must(t, err)
		if len(open) > 0 {
			t.Errorf("a request that failed sleeps in the store: %+v", open)
		}
	} else {
		o = g.wait(o.ID)
	}
	if s != nil {
		s.Done()
	}
	n := g.st.count()
	stop()
	time.Sleep(10 * time.Minute) // what is still tried ends
	row := g.row(alice)
	want := config.Old
	if err == nil && o.Status == op.Done {
		want = config.New
	}
	if row.Side != want || row.State != op.Settled {
		t.Errorf("operation %+v, row %+v", o, row)
	}
	commits := 0
	for _, e := range g.events(alice) {
		if e == "flip committed" {
			commits++
		}
	}
	if int64(commits) != row.Epoch {
		t.Errorf("epoch %d, %d commits in the history", row.Epoch, commits)
	}
	g.check(alice, want, row.Epoch)
	return n
}

// TestCrashes: the process dies at any call of the store, before or after what it writes. The next one finishes the
// flip, and at no time is a user on two sides.
func TestCrashes(t *testing.T) {
	for at := range 16 {
		for _, f := range []fault{before, after} {
			t.Run(fmt.Sprintf("%v/%d", f, at), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { crashRun(t, f, at) })
			})
		}
	}
}

func crashRun(t *testing.T, f fault, at int) {
	dir := tempDir(t)
	s := openStore(t, dir)
	defer func() { s.Close() }()
	g := newGateway(t, s)
	must(t, g.m.Start(t.Context()))
	g.imports(alice + " old\n")
	stop := g.clients(g.r, alice)
	dead := make(chan struct{})
	g.st.set(func(_ string, n int) fault {
		if n < at {
			return well
		}
		if n == at {
			close(dead)
			return f
		}
		return before
	})
	o, err := g.m.Request(t.Context(), alice, config.New, "test", false)
	ended := make(chan struct{})
	go func() {
		if err == nil {
			g.m.Wait(t.Context(), o.ID)
		}
		close(ended)
	}()
	select {
	case <-dead:
	case <-ended: // it was through before
	}
	stop() // clients of a dead process see nothing any more
	g.m.Stop()
	must(t, s.Close())

	s = openStore(t, dir)
	h := newGateway(t, s)
	row, err2 := s.Row(t.Context(), alice)
	must(t, err2)
	must(t, h.m.Load(t.Context()))
	if p, _ := h.r.Lookup(alice); p.Side != row.Side { // what is committed counts, whatever the state
		t.Errorf("row %+v, router %+v", row, p)
	}
	must(t, h.m.Start(t.Context()))
	stop = h.clients(h.r, alice)
	open, err3 := s.Operations(t.Context(), op.Filter{})
	must(t, err3)
	for _, o := range open {
		if o.Kind == op.Flip {
			if o = h.wait(o.ID); o.Status != op.Done {
				t.Errorf("%+v", o)
			}
			h.check(alice, config.New, 1)
		}
	}
	if err == nil && len(open) == 0 {
		t.Error("the request is lost")
	}
	if err != nil && len(open) == 0 {
		h.check(alice, config.Old, 0)
	}
	stop()
	h.m.Stop()
}

// TestStopDuringFlip: a flip under way is called off when the gateway ends, and begins anew with the next.
func TestStopDuringFlip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer s.Close()
		g := newGateway(t, s)
		must(t, g.m.Start(t.Context()))
		g.imports(alice + " old\nbob@example.com old\n")
		stuck, err := login(t.Context(), g.r, alice, &ender{})
		must(t, err)
		o, later := g.request(alice, config.New), g.request(alice, config.Old)
		synctest.Wait()
		start := time.Now()
		g.m.Stop()
		if d := time.Since(start); d > 0 {
			t.Errorf("Stop took %v", d)
		}
		if _, err := g.m.Request(t.Context(), alice, config.New, "test", true); !errors.Is(err, ErrStopping) {
			t.Error(err)
		}
		if row := g.row(alice); row.State != op.Settled || row.Side != config.Old {
			t.Errorf("%+v", row)
		}
		stuck.Done()

		h := newGateway(t, s)
		must(t, h.m.Start(t.Context()))
		defer h.m.Stop()
		if o := h.wait(o.ID); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		h.wait(later.ID)
		h.check(alice, config.Old, 2) // in the order of the requests
	})
}

// TestStopDuringWrite: a stop, or a cancellation, that comes while the store is at a step of a flip ends it as one that comes between two.
func TestStopDuringWrite(t *testing.T) {
	for _, step := range []op.State{op.Drain, op.Delta, op.Verify} {
		for _, cancel := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := openStore(t, tempDir(t))
				defer s.Close()
				g := newGateway(t, s)
				must(t, g.m.Start(t.Context()))
				g.imports(alice + " old\n")
				g.st.set(func(name string, _ int) fault {
					if row, err := s.Row(context.Background(), alice); name == "Swap" && err == nil && row.State == ahead(step) {
						return hang
					}
					return well
				})
				o := g.request(alice, config.New)
				synctest.Wait()
				if cancel {
					must(t, g.m.Cancel(t.Context(), o.ID, "me", ""))
				}
				synctest.Wait()
				g.st.set(nil)
				if !cancel {
					g.m.Stop()
				}
				h := g
				if !cancel {
					h = newGateway(t, s)
					must(t, h.m.Start(t.Context()))
				}
				want := map[bool]op.Status{false: op.Done, true: op.Cancelled}[cancel]
				if o := h.wait(o.ID); o.Status != want {
					t.Errorf("at %s, cancelled %v: %s: %s", step, cancel, o.Status, o.Reason)
				}
				h.m.Stop()
			})
		}
	}
}

// ahead is the state ahead of one.
func ahead(s op.State) op.State {
	return map[op.State]op.State{op.Drain: op.Fence, op.Delta: op.Drain, op.Verify: op.Delta}[s]
}

// TestUnknownCommitAtStop: what became of a commit is learned by the next start; until then the user is fenced.
func TestUnknownCommitAtStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer s.Close()
		g := newGateway(t, s)
		must(t, g.m.Start(t.Context()))
		g.imports(alice + " old\n")
		gone := false
		g.st.set(func(name string, _ int) fault {
			if gone {
				return before
			}
			if name == "Commit" {
				gone = true
				return after
			}
			return well
		})
		o := g.request(alice, config.New)
		time.Sleep(time.Minute)
		if _, err := login(t.Context(), g.r, alice, &ender{}); !errors.Is(err, router.ErrHeld) {
			t.Errorf("a login while the outcome is unknown: %v", err)
		}
		if why := g.m.Live(op.Operation{ID: o.ID, Kind: op.Flip, User: alice, Status: op.Running}).Reason; !strings.Contains(why, "store") {
			t.Errorf("reason %q", why)
		}
		g.m.Stop()
		h := newGateway(t, s)
		must(t, h.m.Start(t.Context()))
		defer h.m.Stop()
		if o := h.wait(o.ID); o.Status != op.Done || o.Reason != "" {
			t.Errorf("%+v", o)
		}
		if e := h.events(alice); e[len(e)-1] != "flip finished after an interruption" {
			t.Errorf("history %v", e)
		}
		h.check(alice, config.New, 1)
	})
}

func fenced(steps map[string]op.State) (n int) {
	for _, s := range steps {
		if s.Fenced() {
			n++
		}
	}
	return n
}

// TestParallel: flip.parallel is kept, also when it changes.
func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := ""
		for i := range 12 {
			text += fmt.Sprintf("u%d@example.com old\n", i)
		}
		g := started(t, text)
		var sessions []*router.Session
		var ids []string
		for i := range 12 {
			user := fmt.Sprintf("u%d@example.com", i)
			s, err := login(t.Context(), g.r, user, &ender{})
			must(t, err)
			sessions = append(sessions, s)
			ids = append(ids, g.request(user, config.New).ID)
		}
		synctest.Wait()
		if n := fenced(g.m.Steps()); n != 4 {
			t.Errorf("%d at once", n)
		}
		c := g.m.Counts()
		if c[op.Flip][op.Running] != 12 || c[op.Flip][op.Accepted] != 0 {
			t.Errorf("%v", c)
		}
		waiting := 0
		for _, id := range ids {
			o, err := g.m.store.Operation(t.Context(), id)
			must(t, err)
			if strings.Contains(g.m.Live(o).Reason, "flip.parallel") {
				waiting++
			}
		}
		if waiting != 8 {
			t.Errorf("%d say that they wait for their turn", waiting)
		}
		f, r := settingsOf()
		f.Parallel = 12
		g.m.Configure(f, r)
		synctest.Wait()
		if n := fenced(g.m.Steps()); n != 12 {
			t.Errorf("%d at once", n)
		}
		for _, s := range sessions {
			s.Done()
		}
		for i, id := range ids {
			g.wait(id)
			g.check(fmt.Sprintf("u%d@example.com", i), config.New, 1)
		}
		must(t, g.m.Idle(t.Context()))
	})
}

// slowMail is through with PREP when it is told so.
type slowMail struct {
	noMail
	open chan struct{}
}

func (s *slowMail) Prepare(ctx context.Context, _ Move, _ func(Progress)) error {
	select {
	case <-s.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// noMail has nothing to carry.
type noMail struct{}

func (noMail) Prepare(context.Context, Move, func(Progress)) error { return nil }
func (noMail) Delta(context.Context, Move, func(Progress)) error   { return nil }
func (noMail) Verify(context.Context, Move) (string, error)        { return "", nil }
func (noMail) Moved(Move)                                          {}

// TestManyAtOnce: 20,000 flips asked for are entries in a list, not goroutines.
func TestManyAtOnce(t *testing.T) {
	const n = 20_000
	synctest.Test(t, func(t *testing.T) {
		g := started(t, alice+" old\n")
		mail := &slowMail{open: make(chan struct{})}
		g.m.mail = mail
		first := g.request(alice, config.New)
		f, r := settingsOf()
		f.Prepare = 1
		g.m.Configure(f, r)
		synctest.Wait()
		g.m.mu.Lock()
		for i := range n {
			user := fmt.Sprintf("u%d@example.com", i)
			g.m.enqueue(op.Operation{ID: fmt.Sprintf("op-%d", 1000+i), Kind: op.Flip, User: user, Target: config.New, Created: time.Now()})
		}
		g.m.dispatch()
		g.m.mu.Unlock()
		if c := g.m.Counts()[op.Flip][op.Accepted]; c != n {
			t.Errorf("%d wait", c)
		}
		if w := runtime.NumGoroutine(); w > 60 {
			t.Errorf("%d goroutines", w)
		}
		g.m.mu.Lock() // the others are not in the store; they are taken back
		g.m.tasks = map[string]*task{first.ID: g.m.tasks[first.ID]}
		g.m.queue = map[string][]*task{alice: g.m.queue[alice]}
		g.m.ready = nil
		g.m.mu.Unlock()
		close(mail.open)
		g.wait(first.ID)
	})
}

// TestSeen: rows of new users are written behind their logins, once, and none is lost when two writers meet.
func TestSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, "default new\n"+alice+" old\n")
		g.st.set(func(name string, _ int) fault {
			if name == "AddRows" {
				return before
			}
			return well
		})
		stranger, err := g.r.Begin("guess@example.com") // a login that is never admitted owes nothing
		must(t, err)
		_, _, err = stranger.Route(t.Context(), nil)
		must(t, err)
		stranger.End()
		for i := range 50 {
			g.admits(g.r, fmt.Sprintf("u%d@example.com", i%25), config.New)
		}
		synctest.Wait()
		if n := g.m.Owed(); n != 25 {
			t.Errorf("%d owed, want 25", n)
		}
		if _, err := g.m.Import(t.Context(), g.file("default old\n"+alice+" old\n"), "test", ""); !errors.Is(err, op.ErrUnavailable) {
			t.Errorf("the default was changed while rows are owed: %v", err)
		}
		g.admits(g.r, "late@example.com", config.New)
		g.st.set(nil)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				g.admits(g.r, fmt.Sprintf("v%d@example.com", i), config.New)
				_ = g.m.flushOwed(t.Context())
			})
		}
		wg.Wait()
		time.Sleep(time.Minute)
		if n := g.m.Owed(); n != 0 {
			t.Errorf("%d owed", n)
		}
		n := 0
		must(t, g.st.Store.Rows(t.Context(), func(r op.Row) error {
			if n++; r.User == alice == (r.Side == config.New) {
				t.Errorf("%+v", r)
			}
			return nil
		}))
		if n != 1+25+1+40 {
			t.Errorf("%d rows", n)
		}
	})
}

// TestTwoWritersOfRows: two who write what is owed at the same time take each row off the list once.
func TestTwoWritersOfRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer s.Close()
		g := newGateway(t, s) // not started: nobody else writes
		gate := make(chan struct{})
		g.st.adds = func() { <-gate }
		g.m.Seen(alice, router.Place{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { must(t, g.m.flushOwed(t.Context())) })
		}
		synctest.Wait()
		g.m.Seen("bob@example.com", router.Place{})
		close(gate)
		wg.Wait()
		must(t, g.m.flushOwed(t.Context()))
		g.row(alice)
		g.row("bob@example.com")
	})
}

// TestUnlisted: a name that nobody has seen can be moved by hand.
func TestUnlisted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, "default new\n")
		g.wait(g.request("x@example.com", config.Old).ID)
		g.check("x@example.com", config.Old, 1)
		g.wait(g.request("y@example.com", config.New).ID)
		g.check("y@example.com", config.New, 0)
	})
}

// TestStartWithoutWriting: a store that can be read and not written holds nobody up, and the start is finished when it
// can be.
func TestStartWithoutWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer s.Close()
		g := newGateway(t, s)
		must(t, g.m.Start(t.Context()))
		g.imports(alice + " old\n")
		g.st.set(func(name string, _ int) fault {
			if name == "Swap" && g.row(alice).State == op.Drain {
				return before
			}
			return well
		})
		o := g.request(alice, config.New)
		time.Sleep(5 * time.Second)
		g.st.set(func(string, int) fault { return before })
		g.m.Stop() // leaves a row in DRAIN
		if row := g.row(alice); row.State != op.Drain {
			t.Fatalf("%+v", row)
		}
		h := newGateway(t, s)
		h.st.set(func(name string, _ int) fault {
			if name == "Swap" || name == "AddNode" || name == "NewOperation" {
				return before
			}
			return well
		})
		must(t, h.m.Start(t.Context()))
		defer h.m.Stop()
		h.admits(h.r, alice, config.Old)
		if _, err := h.m.Request(t.Context(), alice, config.New, "test", true); !errors.Is(err, op.ErrUnavailable) {
			t.Error(err)
		}
		if _, err := h.m.Import(t.Context(), h.file(alice+" old\n"), "test", ""); !errors.Is(err, op.ErrUnavailable) {
			t.Error(err)
		}
		h.st.set(nil)
		if o := h.wait(o.ID); o.Status != op.Done {
			t.Errorf("%+v", o)
		}
		h.check(alice, config.New, 1)
	})
}

// TestCancelWithoutServe: a verb that opened the store itself ends an operation that a crash left half way.
func TestCancelWithoutServe(t *testing.T) {
	for _, state := range []op.State{op.Settled, op.Fence, op.Drain, op.Release} {
		s := openStore(t, tempDir(t))
		o, err := s.NewOperation(t.Context(), op.Operation{Kind: op.Flip, User: alice, Target: config.New, Status: op.Running})
		must(t, err)
		row := op.Row{User: alice, Generation: 5, State: state, Op: o.ID}
		if state == op.Settled {
			row.Op = ""
		}
		must(t, s.AddRows(t.Context(), []op.Row{row}))
		g := newGateway(t, s)
		must(t, g.m.Load(t.Context()))
		err = g.m.Cancel(t.Context(), o.ID, "me", "there")
		got, rerr := g.m.Wait(expired(t), o.ID)
		if state == op.Release {
			if !errors.Is(err, ErrFinal) || rerr == nil {
				t.Errorf("committed: %v %v", err, rerr)
			}
		} else if err != nil || got.Status != op.Cancelled || g.row(alice).State != op.Settled {
			t.Errorf("%s: %v %+v %+v", state, err, got, g.row(alice))
		}
		g.m.Stop()
		must(t, s.Close())
	}
}

func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
