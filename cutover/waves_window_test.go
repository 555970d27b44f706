package cutover

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// nightly lets the wave sales move between ten and eleven, of which b and c take longer to bring together than that.
func nightly(f *fleet) {
	night, err := config.ParseWindow("22:00-23:00")
	must(f.t, err)
	f.with(func(c *config.Config) {
		c.Waves = []config.Wave{{Name: "sales", Windows: config.Windows{night}, Soak: 100 * time.Hour}}
	})
	f.slower(func(user string) time.Duration {
		if user == "a@example.com" {
			return time.Minute
		}
		return 90 * time.Minute
	})
}

// TestWindowClosesAmid: whom the end of the window has left behind is moved in the next one, by the same operation, also by another process;
// meanwhile it waits, and those that have moved soak.
func TestWindowClosesAmid(t *testing.T) {
	for _, dies := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := openStore(t, tempDir(t))
			defer func() { must(t, s.Close()) }()
			f := newFleet(t, s, sales)
			defer func() { f.stop() }()
			nightly(f)
			o := f.move(MoveRequest{Wave: "sales", Target: config.New})
			time.Sleep(time.Second)
			o = must2(f.st.Operation(t.Context(), o.ID))
			opens := o.Deadline
			time.Sleep(time.Until(opens) + 2*time.Hour)
			f.want("an bo co xo yo")
			o = f.w.Live(t.Context(), must2(f.st.Operation(t.Context(), o.ID)))
			if o.Status != op.Waiting || !strings.HasPrefix(o.Reason, "1 of 3 users moved, then the window of wave sales closed") || o.Done != 1 ||
				!o.Deadline.Equal(opens.Add(24*time.Hour)) {
				t.Errorf("%+v", o)
			}
			if state, _ := f.w.State("sales", true, 3); state != WaveSoaking || !f.w.Row("sales").Flipped.Before(time.Now()) {
				t.Errorf("%s, %+v", state, f.w.Row("sales"))
			}
			f.refused(MoveRequest{Wave: "sales", Target: config.New}, "is to be moved to new already, by "+o.ID, "1 of 3 users moved")
			if dies {
				f.stop()
				f = newFleet(t, s, f.text, nightly)
			}
			f.slower(nil)
			time.Sleep(time.Until(o.Deadline) + time.Minute)
			o = f.ended(o)
			if o.Status != op.Done || o.Reason != "" || o.Done != 3 {
				t.Errorf("%+v", o)
			}
			f.want("an bn cn xo yo")
			if row := f.w.Row("sales"); row.Flipped.Before(o.Changed.Add(-time.Minute)) {
				t.Errorf("the soak has not begun anew: %+v, %+v", row, o)
			}
		})
	}
}

// TestBackBetweenWindows: whom an admin moves back alone while his wave waits for its next window stays there.
func TestBackBetweenWindows(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		nightly(f)
		o := f.move(MoveRequest{Wave: "sales", Target: config.New})
		time.Sleep(time.Second)
		o = must2(f.st.Operation(t.Context(), o.ID))
		time.Sleep(time.Until(o.Deadline) + 2*time.Hour)
		f.want("an bo co xo yo")
		must(t, f.edit(t.Context(), []string{"a@example.com"}, config.Old, "kim", "")) // as flip USER old does
		time.Sleep(2 * time.Hour)
		f.want("ao bo co xo yo")
		f.slower(nil)
		o = must2(f.st.Operation(t.Context(), o.ID))
		time.Sleep(time.Until(o.Deadline) + time.Minute)
		f.ended(o)
		f.want("ao bn cn xo yo")
	})
}

// TestStaysBetweenWindows: whom the end of a window has left behind, and whose line is changed back until the next, is left out of the move.
func TestStaysBetweenWindows(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		nightly(f)
		o := f.move(MoveRequest{Wave: "sales", Target: config.New})
		time.Sleep(time.Second)
		o = must2(f.st.Operation(t.Context(), o.ID))
		time.Sleep(time.Until(o.Deadline) + 2*time.Hour)
		f.want("an bo co xo yo")
		must(t, f.edit(t.Context(), []string{"b@example.com"}, config.Old, "kim", ""))
		f.slower(nil)
		o = must2(f.st.Operation(t.Context(), o.ID))
		time.Sleep(time.Until(o.Deadline) + time.Minute)
		o = f.ended(o)
		f.want("an bo cn xo yo")
		if o.Status != op.Done || o.Done != 2 || o.Reason != "1 left out: b@example.com (his line was changed to old between two windows)" {
			t.Errorf("%+v", o)
		}
		if r := f.file().Users["b@example.com"]; r.Side != config.Old {
			t.Errorf("his line was edited: %+v", r)
		}
	})
}

// TestWindowClosedAndBack: a wave of which a part waits for the next window goes back as a whole, and it does not wait any more.
func TestWindowClosedAndBack(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		nightly(f)
		there := f.move(MoveRequest{Wave: "sales", Target: config.New})
		time.Sleep(time.Second)
		time.Sleep(time.Until(must2(f.st.Operation(t.Context(), there.ID)).Deadline) + 2*time.Hour)
		f.want("an bo co xo yo")
		f.slower(nil)
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}))
		if there = f.ended(there); there.Status != op.Cancelled {
			t.Errorf("%+v", there)
		}
		time.Sleep(48 * time.Hour)
		f.want("ao bo co xo yo")
		if state, _ := f.w.State("sales", true, 3); state != WaveRolledBack {
			t.Error(state)
		}
	})
}

// unhurried takes a second to record an operation: whoever has been let through at the same time is there beside the other.
type unhurried struct{ op.Store }

func (s unhurried) NewOperation(ctx context.Context, o op.Operation, e ...op.Event) (op.Operation, error) {
	time.Sleep(time.Second)
	return s.Store.NewOperation(ctx, o, e...)
}

// TestMovesTakeTurns: of requests for one wave that come at once only one is carried out: flips are refused, a rollback joins a rollback, and
// a flip whose gates were asked while a rollback was asked for does not begin beside it.
func TestMovesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer func() { must(t, s.Close()) }()
		f := newFleet(t, unhurried{s}, sales)
		defer f.stop()
		f.slower(func(string) time.Duration { return time.Minute })
		atOnce := func(r MoveRequest) (made []op.Operation, refused []string) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for _, by := range []string{"kim", "lee", "mo"} {
				wg.Go(func() {
					r := r
					r.By = by
					o, err := f.w.Move(t.Context(), r)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						refused = append(refused, err.Error())
					} else {
						made = append(made, o)
					}
				})
			}
			wg.Wait()
			return made, refused
		}
		made, refused := atOnce(MoveRequest{Wave: "sales", Target: config.New})
		if len(made) != 1 || len(refused) != 2 || !strings.Contains(refused[0], "is being moved to new by "+made[0].ID+" (asked for by "+made[0].By) {
			t.Fatalf("%+v, %q", made, refused)
		}
		f.ended(made[0])
		f.want("an bn cn xo yo")
		made, refused = atOnce(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true})
		if len(refused) > 0 || len(made) != 3 || made[0].ID != made[1].ID || made[0].ID != made[2].ID {
			t.Fatalf("%+v, %q", made, refused)
		}
		f.ended(made[0])
		f.want("ao bo co xo yo")
	})
}

// lingering takes a second to answer when the end of a move has been written.
type lingering struct{ op.Store }

func (s lingering) SaveOperation(ctx context.Context, o op.Operation, e ...op.Event) error {
	err := s.Store.SaveOperation(ctx, o, e...)
	if o.Kind == op.Wave && o.Status.Final() {
		time.Sleep(time.Second)
	}
	return err
}

// TestMoveBehindMove: whoever has heard of the end of a move may ask for the next one at once, and is not told that the first is under way.
func TestMoveBehindMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, tempDir(t))
		defer func() { must(t, s.Close()) }()
		f := newFleet(t, lingering{s}, sales)
		defer f.stop()
		for range 3 {
			for _, side := range []config.Side{config.New, config.Old} {
				o := f.move(MoveRequest{Wave: "sales", Target: side, Rollback: side == config.Old})
				for end := time.Now().Add(time.Minute); !o.Status.Final() && time.Now().Before(end); time.Sleep(time.Millisecond) {
					o = f.w.Live(t.Context(), must2(s.Operation(t.Context(), o.ID)))
				}
				if o.Done != 3 || o.Status != op.Done {
					t.Fatalf("%+v", o)
				}
			}
		}
	})
}

// TestFlipBesideRollback: a rollback that is asked for while the gates of a flip are being asked comes first, and does not wait for them.
func TestFlipBesideRollback(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		f.wait(f.request("a@example.com", config.New).ID)
		f.slower(func(string) time.Duration { return 10 * time.Second })
		asked, answer := make(chan struct{}), make(chan struct{})
		f.mu.Lock()
		f.thinks = sync.OnceFunc(func() { close(asked); <-answer })
		f.mu.Unlock()
		f.w.Configure()
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err = f.w.Move(t.Context(), MoveRequest{Wave: "sales", Target: config.New, By: "lee"})
		}()
		<-asked
		began := time.Now()
		back := f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true})
		if d := time.Since(began); d > time.Second {
			t.Errorf("the rollback waited for %v", d)
		}
		close(answer)
		<-done
		if err == nil || !strings.Contains(err.Error(), "is being moved to old by "+back.ID) {
			t.Errorf("%v", err)
		}
		f.ended(back)
		time.Sleep(3 * time.Hour)
		f.want("ao bo co xo yo")
	})
}
