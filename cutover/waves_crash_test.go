package cutover

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// dying is a store of a process that is killed: from one write on nothing comes through, and that write may have been the last.
type dying struct {
	op.Store
	mu    sync.Mutex
	left  int  // writes until then
	last  bool // whether the last one is written
	calls int
	dead  chan struct{}
}

func (s *dying) write(f func() error) error {
	s.mu.Lock()
	s.calls++
	s.left--
	left := s.left
	if left == 0 {
		close(s.dead)
	}
	s.mu.Unlock()
	if left > 0 || left == 0 && s.last {
		if err := f(); left > 0 || err != nil {
			return err
		}
	}
	return errDisk
}

func (s *dying) AddRows(ctx context.Context, rows []op.Row) error {
	return s.write(func() error { return s.Store.AddRows(ctx, rows) })
}
func (s *dying) Swap(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, e ...op.Event) error {
	return s.write(func() error { return s.Store.Swap(ctx, from, next, o, pin, e...) })
}
func (s *dying) Commit(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, c op.Condition, e ...op.Event) error {
	return s.write(func() error { return s.Store.Commit(ctx, from, next, o, pin, c, e...) })
}
func (s *dying) NewOperation(ctx context.Context, o op.Operation, e ...op.Event) (out op.Operation, err error) {
	err = s.write(func() (err error) { out, err = s.Store.NewOperation(ctx, o, e...); return err })
	return out, err
}
func (s *dying) NewOperations(ctx context.Context, list []op.Operation, e []op.Event) (out []op.Operation, err error) {
	err = s.write(func() (err error) { out, err = s.Store.NewOperations(ctx, list, e); return err })
	return out, err
}
func (s *dying) SaveOperation(ctx context.Context, o op.Operation, e ...op.Event) error {
	return s.write(func() error { return s.Store.SaveOperation(ctx, o, e...) })
}
func (s *dying) Import(ctx context.Context, im op.ImportTx) (out []op.Operation, err error) {
	err = s.write(func() (err error) { out, err = s.Store.Import(ctx, im); return err })
	return out, err
}
func (s *dying) SaveWave(ctx context.Context, w op.WaveRow, e ...op.Event) error {
	return s.write(func() error { return s.Store.SaveWave(ctx, w, e...) })
}
func (s *dying) AddHold(ctx context.Context, h op.Hold, e ...op.Event) (changed bool, err error) {
	err = s.write(func() (err error) { changed, err = s.Store.AddHold(ctx, h, e...); return err })
	return changed, err
}

// lives counts what became of the users of a move, over all processes.
func lives(t *testing.T, s op.Store, id string, side config.Side, epoch int64) {
	t.Helper()
	children, err := s.Operations(context.Background(), op.Filter{Parent: id})
	must(t, err)
	done := map[string]int{}
	for _, c := range children {
		if !c.Status.Final() {
			t.Errorf("open: %+v", c)
		}
		if c.Status == op.Done {
			done[c.User]++
		}
	}
	for _, u := range []string{"a@example.com", "b@example.com", "c@example.com"} {
		row, err := s.Row(context.Background(), u)
		must(t, err)
		if row.Side != side || row.Epoch != epoch || row.State != op.Settled || done[u] != 1 {
			t.Errorf("%+v, moved by %d flips", row, done[u])
		}
	}
}

// TestWaveCrash: a process that dies at any write amid a wave, and the next one brings the wave to its end: no flip is lost or made
// twice, forth and back. Where the request itself was not answered, nothing is moved, or all are.
func TestWaveCrash(t *testing.T) {
	for _, back := range []bool{false, true} {
		for _, last := range []bool{false, true} {
			for at := 1; ; at++ {
				through := false
				synctest.Test(t, func(t *testing.T) { through = crashAt(t, at, last, back) })
				if through || t.Failed() {
					if at < 10 {
						t.Fatalf("only %d writes", at)
					}
					break
				}
			}
		}
	}
}

// crashAt tells whether the move came to its end before the crash.
func crashAt(t *testing.T, at int, last, back bool) (through bool) {
	s := openStore(t, tempDir(t))
	defer func() { must(t, s.Close()) }()
	d := &dying{Store: s, left: 1 << 30, dead: make(chan struct{})}
	f := newFleet(t, d, sales)
	side, epoch := config.New, int64(1)
	if back {
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		time.Sleep(time.Second)
		side, epoch = config.Old, 2
	}
	d.mu.Lock()
	d.left, d.last = at, last
	d.mu.Unlock()
	o, err := f.w.Move(t.Context(), MoveRequest{Wave: "sales", Target: side, Rollback: back, By: "kim"})
	asked := err == nil
	if asked {
		done := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(done)
			_, _ = f.m.Wait(ctx, o.ID)
		}()
		select {
		case <-d.dead:
		case <-done:
			through = true
		}
		cancel()
		<-done
	}
	f.stop()
	g := newFleet(t, s, f.text)
	defer g.stop()
	if asked {
		g.ended(o)
		lives(t, s, o.ID, side, epoch)
		if state, _ := g.w.State("sales", true, 3); back && state != WaveRolledBack || !back && state != WaveSoaking {
			t.Errorf("write %d (%v): %s", at, last, state)
		}
		return through
	}
	time.Sleep(time.Hour)
	open, err := s.Operations(t.Context(), op.Filter{Open: true})
	must(t, err)
	for _, u := range []string{"a@example.com", "b@example.com", "c@example.com"} {
		if first := g.m.sideNow("a@example.com"); g.m.sideNow(u) != first || len(open) > 0 {
			t.Errorf("write %d (%v): %s, open %+v", at, last, g.sides(), open)
		}
	}
	return through
}

// TestHoldsAndWaves: whatever the order in which holds come and go while waves move there and back, no flip is committed while a hold of its
// scope stands, and what is called off leaves nothing behind.
func TestHoldsAndWaves(t *testing.T) {
	const rounds = 40
	for seed := range uint64(rounds) {
		synctest.Test(t, func(t *testing.T) { holdsAndWaves(t, rand.New(rand.NewPCG(seed, 7))) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func holdsAndWaves(t *testing.T, rnd *rand.Rand) {
	s := openStore(t, tempDir(t))
	defer func() { must(t, s.Close()) }()
	f := newFleet(t, s, sales)
	defer f.stop()
	ctx := t.Context()
	times := map[string]time.Duration{}
	for _, u := range []string{"a@example.com", "b@example.com", "c@example.com", "x@example.com"} {
		times[u] = time.Duration(rnd.IntN(3000)) * time.Millisecond
	}
	f.slower(func(u string) time.Duration { return times[u] })
	scopes := []string{op.HoldAll, op.HoldWave("sales"), op.HoldWave("ops"), op.HoldUser("b@example.com")}
	for range 60 {
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
		scope := scopes[rnd.IntN(len(scopes))]
		wave := []string{"sales", "ops"}[rnd.IntN(2)]
		switch rnd.IntN(6) {
		case 0, 1:
			if _, _, err := f.m.Hold(ctx, op.Hold{Scope: scope, By: "lee"}, ""); err != nil {
				t.Fatal(err)
			}
		case 2, 3:
			if _, err := f.m.Unhold(ctx, scope, "lee", ""); err != nil {
				t.Fatal(err)
			}
		case 4:
			_, _ = f.w.Move(ctx, MoveRequest{Wave: wave, Target: config.New, By: "kim"})
		default:
			_, _ = f.w.Move(ctx, MoveRequest{Wave: wave, Target: config.Old, Rollback: true, By: "kim"})
		}
	}
	must(t, f.w.Idle(ctx))
	must(t, f.m.Idle(ctx))
	events, err := s.History(ctx, op.HistoryFilter{})
	must(t, err)
	held := map[string]bool{}
	commits := 0
	for i := len(events) - 1; i >= 0; i-- { // the oldest first: the order of the transactions
		e := events[i]
		switch e.What {
		case "held", "hold ended":
			scope := op.HoldAll
			switch {
			case len(e.User) > 5 && e.User[:5] == "wave:":
				scope = e.User
			case e.User != "":
				scope = op.HoldUser(e.User)
			}
			held[scope] = e.What == "held"
		case "flip committed":
			commits++
			for _, scope := range op.HoldScopes(e.User, f.w.Wave(e.User)) {
				if held[scope] {
					t.Errorf("%s was moved while %s was held", e.User, scope)
				}
			}
		}
	}
	if commits == 0 {
		t.Log("nobody was moved")
	}
	must(t, s.Rows(ctx, func(r op.Row) error {
		if r.State != op.Settled || r.Op != "" {
			t.Errorf("left behind: %+v", r)
		}
		return nil
	}))
}
