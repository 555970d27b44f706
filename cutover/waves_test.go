package cutover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
	"mailgate/router"
)

// fleet is a manager with waves, its routes file in memory, and gates that say what a test wants.
type fleet struct {
	*gateway
	w    *Waves
	conf atomic.Pointer[config.Config]

	mu     sync.Mutex
	text   string
	routes *config.RouteFile
	edits  int
	fail   error                  // of the next edit
	says   map[string]gate.Result // by wave
	kept   int
	slow   func(user string) time.Duration // how long the bringing together of a user takes
	silent string                          // whose mailbox cannot be reached
	thinks func()                          // what gates do before they answer
	moves  map[string]int                  // commits, by user
	delta  func()                          // what happens under the fence
}

// newFleet makes one on a store, and starts it, behind what is to be as it begins.
func newFleet(t *testing.T, s op.Store, text string, before ...func(f *fleet)) *fleet {
	t.Helper()
	f := &fleet{text: text, says: map[string]gate.Result{}, moves: map[string]int{}}
	conf := &config.Config{}
	conf.Flip, conf.Routes = settingsOf()
	conf.Flip.Prepare = 4
	f.conf.Store(conf)
	f.w = NewWaves(WavesOptions{Config: f.conf.Load, Routes: f.file, Edit: f.edit, Judge: f.judge,
		Changed: func() { f.kept++ }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	g := &gateway{t: t, st: &faulty{Store: s}}
	g.r = router.New(router.Options{Hold: conf.Flip.Hold}, func(user string) config.Side { return g.m.Side(user) },
		func(user string, p router.Place) { g.m.Seen(user, p) })
	g.m = New(Options{Store: g.st, Router: g.r, Nodes: []Node{&LocalNode{ID: "gw1", Router: g.r}}, Flip: conf.Flip, Routes: conf.Routes,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Gates: f.w, Members: f.w, Mail: f, Recorder: f})
	f.gateway = g
	f.w.Manage(g.m)
	f.parse(text)
	for _, set := range before {
		set(f)
	}
	must(t, f.w.Load(t.Context()))
	must(t, g.m.Start(t.Context()))
	_, err := g.m.Import(t.Context(), f.file(), "start", "")
	must(t, err)
	f.w.Start()
	return f
}

func (f *fleet) stop() {
	f.w.Stop()
	f.m.Stop()
}

func (f *fleet) parse(text string) {
	rf, err := config.ParseRoutes("routes", []byte(text), &config.Config{Routes: f.conf.Load().Routes})
	must(f.t, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text, f.routes = text, rf
}

func (f *fleet) file() *config.RouteFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.routes
}

// edit is what the gateway does, on a file in memory.
func (f *fleet) edit(ctx context.Context, users []string, side config.Side, by, from string) error {
	f.mu.Lock()
	before, lines := f.text, strings.SplitAfter(f.text, "\n")
	rf, err := f.routes, f.fail
	f.fail = nil
	f.edits++
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for _, u := range users {
		i := rf.Users[u].Line - 1
		lines[i] = strings.Replace(lines[i], " "+side.Other().String(), " "+side.String(), 1)
	}
	f.parse(strings.Join(lines, ""))
	im, err := f.m.Import(ctx, f.file(), by, from)
	if err == nil && im.Waiting != nil {
		err = errors.New("waits for approval")
	}
	if err != nil {
		f.parse(before)
	}
	return err
}

func (f *fleet) judge(_ context.Context, wave string, _ gate.Phase) ([]gate.Result, error) {
	f.mu.Lock()
	thinks := f.thinks
	f.mu.Unlock()
	if thinks != nil {
		thinks()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.says[wave]; ok {
		return []gate.Result{r}, nil
	}
	return []gate.Result{{Gate: config.GateLag, Mode: config.Enforce, Verdict: gate.Pass, Why: "1 s"}}, nil
}

// say has the enforced gate lag of a wave say something.
func (f *fleet) say(wave string, v gate.Verdict) {
	f.mu.Lock()
	f.says[wave] = gate.Result{Gate: config.GateLag, Mode: config.Enforce, Verdict: v, Why: "14 s behind", Holds: v != gate.Pass}
	f.mu.Unlock()
	f.w.Configure()
}

// with changes the configuration.
func (f *fleet) with(change func(*config.Config)) {
	c := *f.conf.Load()
	change(&c)
	f.conf.Store(&c)
	f.m.Configure(c.Flip, c.Routes)
}

// slower sets how long the bringing together of a user takes.
func (f *fleet) slower(slow func(user string) time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = slow
}

// silence has a user's mailbox be out of reach; "" is nobody's, "*" everybody's.
func (f *fleet) silence(user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = user
}

// fleet is Mail too.
func (f *fleet) Prepare(ctx context.Context, m Move, _ func(Progress)) error {
	f.mu.Lock()
	slow, silent := f.slow, f.silent
	f.mu.Unlock()
	if silent == m.User || silent == "*" {
		return errors.New("NEW is silent")
	}
	if slow == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(slow(m.User)):
		return nil
	}
}
func (f *fleet) Delta(context.Context, Move, func(Progress)) error {
	if f.delta != nil {
		f.delta()
	}
	return nil
}
func (f *fleet) Verify(context.Context, Move) (string, error)          { return "", nil }
func (f *fleet) Moved(Move)                                            {}
func (f *fleet) Transition(string, router.State, router.State, string) {}
func (f *fleet) StoreOK(time.Time)                                     {}
func (f *fleet) Flip(user string, _ config.Side, _ time.Duration, committed bool) {
	if committed {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.moves[user]++
	}
}

// ended waits for the end of a move.
func (f *fleet) ended(o op.Operation) op.Operation {
	f.t.Helper()
	o = f.wait(o.ID)
	for range 200 { // the end is recorded before it is forgotten
		if _, open := f.w.open(o.Wave); !open {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return f.w.Live(f.t.Context(), o)
}

func (f *fleet) move(r MoveRequest) op.Operation {
	f.t.Helper()
	r.By = "kim"
	o, err := f.w.Move(f.t.Context(), r)
	must(f.t, err)
	return o
}

// refused looks that a move is refused with these words, and that nothing is different.
func (f *fleet) refused(r MoveRequest, words ...string) {
	f.t.Helper()
	ops, err := f.st.Operations(f.t.Context(), op.Filter{})
	must(f.t, err)
	text, edits := f.text, f.edits
	_, err = f.w.Move(f.t.Context(), r)
	var no *Refusal
	if !errors.As(err, &no) {
		f.t.Fatalf("not refused: %v", err)
	}
	for _, word := range words {
		if !strings.Contains(no.Error(), word) {
			f.t.Errorf("%q lacks %q", no.Error(), word)
		}
	}
	again, err := f.st.Operations(f.t.Context(), op.Filter{})
	must(f.t, err)
	if len(again) != len(ops) || text != f.text || edits != f.edits {
		f.t.Errorf("something was changed: %d operations, then %d; %s", len(ops), len(again), f.text)
	}
}

const sales = `# sales goes first
a@example.com old wave=sales # the boss
b@example.com old wave=sales

c@example.com old wave=sales
x@example.com old wave=ops
y@example.com old
`

// inFleet runs a test in a bubble, with a store of its own.
func inFleet(t *testing.T, text string, f func(t *testing.T, f *fleet)) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer func() { must(t, s.Close()) }()
		fl := newFleet(t, s, text)
		defer func() { fl.stop() }()
		f(t, fl)
	})
}

func (f *fleet) sides() (out string) {
	for _, u := range slices.Sorted(func(yield func(string) bool) {
		for u := range f.file().Users {
			if !yield(u) {
				return
			}
		}
	}) {
		out += u[:1] + f.m.sideNow(u).String()[:1] + " "
	}
	return strings.TrimSpace(out)
}

func (f *fleet) want(sides string) {
	f.t.Helper()
	if got := f.sides(); got != sides {
		f.t.Errorf("sides %q, want %q", got, sides)
	}
}

// TestWaveThereAndBack: one operation whose parts are the flips; the file is edited once, with comments and order kept; the way back
// leaves pins and the file alone, and the wave may go again.
func TestWaveThereAndBack(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		o := f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		if o.Status != op.Done || o.Reason != "" || o.Done != 3 || o.Total != 3 {
			t.Errorf("%+v", o)
		}
		f.want("an bn cn xo yo")
		if want := strings.ReplaceAll(sales, "old wave=sales", "new wave=sales"); f.text != want || f.edits != 1 {
			t.Errorf("%d edits: %s", f.edits, f.text)
		}
		parts, err := f.st.Operations(t.Context(), op.Filter{Parent: o.ID})
		must(t, err)
		for _, c := range parts {
			if c.Wave != "sales" || c.By != "kim" || c.Status != op.Done || c.Kind != op.Flip {
				t.Errorf("%+v", c)
			}
		}
		if state, _ := f.w.State("sales", true, 3); len(parts) != 3 || state != WaveSoaking {
			t.Errorf("%d parts, %s", len(parts), state)
		}
		f.refused(MoveRequest{Wave: "pilot", Target: config.New}, "no wave")

		back := f.ended(f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true, Why: "outlook"}))
		if back.Status != op.Done || back.Reason != "" || back.Done != 3 {
			t.Errorf("%+v", back)
		}
		f.want("ao bo co xo yo")
		pins, err := f.st.Pins(t.Context())
		must(t, err)
		if state, _ := f.w.State("sales", true, 3); len(pins) != 3 || state != WaveRolledBack || f.edits != 1 {
			t.Errorf("%+v, %s, %d edits", pins, state, f.edits)
		}
		// Who was put on old alone stays; whom the wave's rollback left there goes again.
		must(t, f.st.DeletePin(t.Context(), "b@example.com", op.Event{What: "unpinned"}))
		f.wait(f.request("b@example.com", config.New).ID)
		f.wait(f.request("b@example.com", config.Old).ID)
		p, err := f.w.Plan(t.Context(), MoveRequest{Wave: "sales", Target: config.New})
		must(t, err)
		if fmt.Sprint(p.Users) != "[a@example.com c@example.com]" || len(p.Pinned) != 1 || p.Pinned[0].User != "b@example.com" {
			t.Errorf("%+v", p)
		}
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		f.want("an bo cn xo yo")
	})
}

// TestWaveRefused: holds, the order, gates and a move that is under way stop a wave at the request, and nothing is different.
func TestWaveRefused(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		ctx := t.Context()
		move := MoveRequest{Wave: "sales", Target: config.New}
		for _, scope := range []string{op.HoldAll, op.HoldWave("sales")} {
			if _, changed, err := f.m.Hold(ctx, op.Hold{Scope: scope, By: "lee", Reason: "fair"}, ""); err != nil || !changed {
				t.Fatal(changed, err)
			}
			f.refused(move, "held by lee", "(fair)", "mailgate unhold")
			f.refused(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}, "held by lee", "mailgate unhold")
			if changed, err := f.m.Unhold(ctx, scope, "lee", ""); err != nil || !changed {
				t.Fatal(changed, err)
			}
		}
		file := tempDir(t) + "/hold"
		f.with(func(c *config.Config) { c.Flip.HoldFile = file })
		must(t, os.WriteFile(file, []byte("backup runs\nmore\n"), 0o600))
		f.refused(move, "backup runs", "remove the file")
		f.refused(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}, "backup runs")
		must(t, os.Remove(file))

		for _, v := range []gate.Verdict{gate.Fail, gate.Unknown} {
			f.say("sales", v)
			f.refused(move, "gate lag", string(v), "14 s behind", "mailgate wave waive sales lag")
		}
		f.say("sales", gate.Pass)
		f.with(func(c *config.Config) {
			c.Waves = []config.Wave{{Name: "ops", Listed: true, Soak: time.Hour}, {Name: "sales", After: "ops", Listed: true}}
		})
		f.refused(move, "wave sales moves after wave ops, and wave ops has not moved")
		f.ended(f.move(MoveRequest{Wave: "ops", Target: config.New}))
		f.say("ops", gate.Fail)
		time.Sleep(2 * soakLook)
		f.refused(move, "wave ops is held: gate lag")
		f.say("ops", gate.Pass)
		time.Sleep(2 * soakLook)
		f.slower(func(string) time.Duration { return time.Minute })
		o := f.move(move)
		synctest.Wait()
		f.refused(move, o.ID)
		f.ended(o)
		f.want("an bn cn xn yo")
	})
}

// TestWaveWindow: outside of its window a wave waits, with a reason and until when, and nothing is different; its members are refused
// alone.
func TestWaveWindow(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		night, err := config.ParseWindow("22:00-23:00")
		must(t, err)
		f.with(func(c *config.Config) {
			c.Waves = []config.Wave{{Name: "sales", Windows: config.Windows{night}, Soak: time.Hour}}
		})
		if open, _ := f.w.window("sales", time.Now()); open {
			t.Fatal("the clock stands in the window")
		}
		o := f.move(MoveRequest{Wave: "sales", Target: config.New})
		synctest.Wait()
		time.Sleep(time.Second)
		o, err = f.st.Operation(t.Context(), o.ID)
		must(t, err)
		if o.Status != op.Waiting || !strings.Contains(o.Reason, "window of wave sales") || o.Deadline.IsZero() || f.text != sales {
			t.Errorf("%+v", o)
		}
		alone := f.wait(f.request("a@example.com", config.New).ID)
		if alone.Status != op.Failed || !strings.Contains(alone.Reason, "windows only") {
			t.Errorf("%+v", alone)
		}
		opens := o.Deadline
		time.Sleep(time.Until(opens))
		o = f.ended(o)
		if o.Status != op.Done || o.Done != 3 || time.Now().Before(opens) || time.Since(opens) > time.Minute {
			t.Errorf("%+v at %s", o, time.Now())
		}
		time.Sleep(2 * time.Hour) // the window is over
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}))
		f.want("ao bo co xo yo")
		// A wave that waits can be called off, and a hold ends it when its time comes.
		o = f.move(MoveRequest{Wave: "sales", Target: config.New})
		time.Sleep(time.Second)
		if known, err := f.w.Cancel(t.Context(), o.ID, "lee", "there"); !known || err != nil {
			t.Error(known, err)
		}
		if o = f.ended(o); o.Status != op.Cancelled || !strings.Contains(o.Reason, "lee") {
			t.Errorf("%+v", o)
		}
		o = f.move(MoveRequest{Wave: "sales", Target: config.New})
		_, _, err = f.m.Hold(t.Context(), op.Hold{Scope: op.HoldWave("sales"), By: "lee"}, "")
		must(t, err)
		time.Sleep(24 * time.Hour)
		if o = f.ended(o); o.Status != op.Failed || !strings.Contains(o.Reason, "held by lee") {
			t.Errorf("%+v", o)
		}
		f.want("ao bo co xo yo")
	})
}

// TestWavePartly: a member who is held stays, and the wave says so; cancelled, those that have moved stay.
func TestWavePartly(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		_, _, err := f.m.Hold(t.Context(), op.Hold{Scope: op.HoldUser("b@example.com"), By: "lee"}, "")
		must(t, err)
		p, err := f.w.Plan(t.Context(), MoveRequest{Wave: "sales", Target: config.New})
		must(t, err)
		if len(p.Held) != 1 || len(p.Users) != 3 {
			t.Errorf("%+v", p)
		}
		o := f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		if o.Status != op.Done || o.Done != 2 || !strings.Contains(o.Reason, "2 of 3") || !strings.Contains(o.Reason, "b@example.com is held by lee") {
			t.Errorf("%+v", o)
		}
		f.want("an bo cn xo yo")
		if _, err := f.m.Unhold(t.Context(), op.HoldUser("b@example.com"), "lee", ""); err != nil {
			t.Fatal(err)
		}
		if o = f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New})); o.Reason != "" || o.Total != 1 { // the verb is repeated
			t.Errorf("%+v", o)
		}
		f.want("an bn cn xo yo")

		f.slower(func(user string) time.Duration {
			if user == "a@example.com" {
				return 0
			}
			return time.Hour
		})
		o = f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true})
		time.Sleep(time.Minute)
		if o := f.w.Live(t.Context(), must2(f.st.Operation(t.Context(), o.ID))); o.Done != 1 || o.Total != 3 || !strings.Contains(o.Reason, "1 of 3") {
			t.Errorf("%+v", o)
		}
		if known, err := f.w.Cancel(t.Context(), o.ID, "lee", "there"); !known || err != nil {
			t.Error(known, err)
		}
		if o = f.ended(o); o.Status != op.Cancelled || o.Done != 1 || !strings.Contains(o.Reason, "1 of 3") {
			t.Errorf("%+v", o)
		}
		f.called("move ended", o.ID, "lee", "there")
		for _, c := range must2(f.st.Operations(t.Context(), op.Filter{Parent: o.ID})) {
			if c.Status == op.Cancelled {
				f.called("flip aborted", c.ID, "lee", "there")
			}
		}
		f.want("ao bn cn xo yo")
	})
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestWaveRollbackMeanwhile: a rollback calls off the move that is under way, and who was moved already goes back.
func TestWaveRollbackMeanwhile(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		f.slower(func(user string) time.Duration {
			if user == "a@example.com" {
				return 0
			}
			return time.Hour
		})
		there := f.move(MoveRequest{Wave: "sales", Target: config.New})
		time.Sleep(time.Minute)
		f.want("an bo co xo yo")
		f.slower(nil)
		back := f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true})
		again := f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true})
		if back.ID != again.ID {
			t.Error("asked for twice, it is done twice")
		}
		back, there = f.ended(back), f.ended(there)
		if there.Status != op.Cancelled || back.Status != op.Done || back.Reason != "" {
			t.Errorf("%+v\n%+v", there, back)
		}
		f.want("ao bo co xo yo")
		if state, _ := f.w.State("sales", true, 3); state != WaveRolledBack || f.w.Row("sales").Soaking() {
			t.Errorf("%s, %+v", state, f.w.Row("sales"))
		}
	})
}

// TestSoak: an enforced gate that fails holds the wave; with rollback it takes it back by itself, once, with pins that name it.
func TestSoak(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		f.with(func(c *config.Config) { c.Waves = []config.Wave{{Name: "sales", Soak: time.Hour}} })
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		f.say("sales", gate.Unknown)
		time.Sleep(2 * soakLook)
		if row := f.w.Row("sales"); row.Gate != "" { // what is not known is no failure
			t.Errorf("%+v", row)
		}
		f.say("sales", gate.Fail)
		time.Sleep(2 * soakLook)
		if row := f.w.Row("sales"); row.Gate != "lag" || row.GateWhy != "14 s behind" || row.GateAt.IsZero() {
			t.Errorf("%+v", row)
		}
		f.want("an bn cn xo yo")
		if _, err := f.w.Complete(t.Context(), "sales", "kim", ""); err == nil || !strings.Contains(err.Error(), "gate lag") {
			t.Error(err)
		}
		f.with(func(c *config.Config) { c.Waves = []config.Wave{{Name: "sales", Soak: time.Hour, Rollback: true}} })
		time.Sleep(2 * soakLook)
		f.want("ao bo co xo yo")
		pins, err := f.st.Pins(t.Context())
		must(t, err)
		for _, p := range pins {
			if p.By != "gate lag" {
				t.Errorf("%+v", p)
			}
		}
		f.say("sales", gate.Pass)
		time.Sleep(10 * soakLook)
		f.want("ao bo co xo yo") // never again by itself
		ops, err := f.st.Operations(t.Context(), op.Filter{Kind: op.Wave})
		must(t, err)
		if len(ops) != 2 || len(pins) != 3 {
			t.Errorf("%d operations, %d pins", len(ops), len(pins))
		}
	})
}

// TestComplete: a wave that has soaked ends, and does not go back until it is started again.
func TestComplete(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		ctx := t.Context()
		started, err := f.w.Launch(ctx, "sales", "kim", "")
		must(t, err)
		if again, err := f.w.Launch(ctx, "sales", "kim", ""); err != nil || again || !started || fmt.Sprint(f.w.Kept()) != "[sales]" || f.kept != 1 {
			t.Error(started, again, err, f.w.Kept(), f.kept)
		}
		if _, err := f.w.Complete(ctx, "sales", "kim", ""); err == nil || !strings.Contains(err.Error(), "3 of 3 members") {
			t.Error(err)
		}
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		if done, err := f.w.Complete(ctx, "sales", "kim", ""); !done || err != nil {
			t.Error(done, err)
		}
		if state, _ := f.w.State("sales", false, 3); state != WaveComplete || len(f.w.Kept()) > 0 || fmt.Sprint(f.w.Completed()) != "[sales]" {
			t.Error(state, f.w.Kept(), f.w.Completed())
		}
		f.refused(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}, "complete since", "mailgate wave start sales")
		if err := f.w.Reversible("a@example.com"); err == nil {
			t.Error("a member of a complete wave goes back alone")
		}
		_, err = f.w.Launch(ctx, "sales", "kim", "")
		must(t, err)
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}))
		f.want("ao bo co xo yo")
	})
}

// TestMovedOneByOne: a wave whose members were moved without the verb soaks too.
func TestMovedOneByOne(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		for _, u := range []string{"a@example.com", "b@example.com", "c@example.com"} {
			if state, _ := f.w.State("sales", false, 0); state != WavePlanned {
				t.Error(state)
			}
			f.wait(f.request(u, config.New).ID)
		}
		time.Sleep(2 * soakLook)
		if state, _ := f.w.State("sales", true, 3); state != WaveSoaking {
			t.Error(state)
		}
	})
}

// TestHeldUnderTheFence: a hold that is set while the user is fenced stops his flip in the commit, and so does the flag file.
func TestHeldUnderTheFence(t *testing.T) {
	for name, hold := range map[string]func(t *testing.T, f *fleet, file string){
		"store": func(t *testing.T, f *fleet, _ string) {
			_, _, err := f.m.Hold(t.Context(), op.Hold{Scope: op.HoldWave("sales"), By: "lee"}, "")
			must(t, err)
		},
		"file": func(t *testing.T, _ *fleet, file string) { must(t, os.WriteFile(file, nil, 0o600)) },
	} {
		t.Run(name, func(t *testing.T) {
			inFleet(t, sales, func(t *testing.T, f *fleet) {
				file := tempDir(t) + "/hold"
				f.with(func(c *config.Config) { c.Flip.HoldFile = file })
				f.delta = func() { hold(t, f, file) }
				o := f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
				if o.Status != op.Failed || !strings.Contains(o.Reason, "held by") {
					t.Errorf("%+v", o)
				}
				f.want("ao bo co xo yo")
				if len(f.moves) > 0 {
					t.Errorf("%v", f.moves)
				}
			})
		})
	}
}

// TestCalledOffAndKilled: that a move was called off is known to the next process too.
func TestCalledOffAndKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer func() { must(t, s.Close()) }()
		d := &dying{Store: s, left: 1 << 30, dead: make(chan struct{})}
		f := newFleet(t, d, sales)
		f.slower(func(string) time.Duration { return time.Hour })
		o := f.move(MoveRequest{Wave: "sales", Target: config.New})
		time.Sleep(time.Minute)
		d.mu.Lock()
		d.left, d.last = 1, true // that it is called off is the last that is written
		d.mu.Unlock()
		_, _ = f.w.Cancel(t.Context(), o.ID, "lee", "there")
		f.stop()
		g := newFleet(t, s, f.text)
		defer g.stop()
		if o = g.ended(o); o.Status != op.Cancelled || o.Done != 0 {
			t.Errorf("%+v", o)
		}
		g.called("move ended", o.ID, "lee", "there") // by whom and from where too
		g.want("ao bo co xo yo")
	})
}
