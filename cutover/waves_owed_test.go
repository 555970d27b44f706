package cutover

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
)

const cOf = "c@example.com"

// inTrouble moves the wave sales, has its gate fail, and has c's mailbox be out of reach for the way back.
func inTrouble(f *fleet) {
	f.with(func(c *config.Config) { c.Waves = []config.Wave{{Name: "sales", Soak: time.Hour, Rollback: true}} })
	f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
	f.silence(cOf)
	f.say("sales", gate.Fail)
}

// owed is what is left of the rollback of sales.
func owed(t *testing.T, f *fleet) *Owed {
	t.Helper()
	x, err := f.w.Owed(t.Context(), "sales")
	must(t, err)
	return x
}

// TestRollbackGoesOn: a gate's rollback that some could not follow is tried again until they are back, with longer and longer pauses,
// whatever the gate says by then, and then no more.
func TestRollbackGoesOn(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		time.Sleep(2 * soakLook)
		f.want("ao bo cn xo yo")
		x := owed(t, f)
		if x == nil || len(x.Users) != 1 || x.Users[0].User != cOf || !strings.Contains(x.Users[0].Why, "NEW is silent") || x.By != "gate lag" ||
			!strings.Contains(x.Why, "14 s behind") || x.Again.Before(time.Now().Add(-soakLook)) {
			t.Fatalf("%+v", x)
		}
		if row := f.w.Row("sales"); row.Gate != "" || row.RolledBy != "gate lag" {
			t.Errorf("%+v", row)
		}
		rolled := f.w.Row("sales").Rolled
		f.say("sales", gate.Pass)
		time.Sleep(time.Hour)
		f.want("ao bo cn xo yo")
		if x = owed(t, f); x == nil || x.Tries < 5 || x.Tries > 12 || time.Until(x.Again) > owedMost {
			t.Fatalf("%+v", x)
		}
		f.silence("")
		time.Sleep(owedMost + 2*soakLook)
		f.want("ao bo co xo yo")
		if x = owed(t, f); x != nil {
			t.Errorf("%+v", x)
		}
		ops, err := f.st.Operations(t.Context(), op.Filter{Kind: op.Wave})
		must(t, err)
		time.Sleep(time.Hour)
		again, err := f.st.Operations(t.Context(), op.Filter{Kind: op.Wave})
		must(t, err)
		if len(again) != len(ops) || len(payloadOf(ops[0]).Users) != 1 || !f.w.Row("sales").Rolled.Equal(rolled) {
			t.Errorf("%d operations, then %d: %+v", len(ops), len(again), ops[0])
		}
		pins, err := f.st.Pins(t.Context())
		must(t, err)
		for _, p := range pins {
			if p.By != "gate lag" {
				t.Errorf("%+v", p)
			}
		}
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New})) // a gate's pins are no person's
		f.want("an bn cn xo yo")
	})
}

// TestRollbackGoesOnNotFor: who is moved to NEW on purpose behind a gate's rollback stays there while it goes on, be he back already or not.
func TestRollbackGoesOnNotFor(t *testing.T) {
	for _, who := range []string{"b@example.com", cOf} {
		inFleet(t, sales, func(t *testing.T, f *fleet) {
			inTrouble(f)
			time.Sleep(2 * soakLook)
			f.silence("")
			f.say("sales", gate.Pass)
			if o := f.wait(f.request(who, config.New).ID); o.Status != op.Done {
				t.Fatalf("%+v", o)
			}
			if x := owed(t, f); (x == nil) != (who == cOf) {
				t.Errorf("%+v", x)
			}
			time.Sleep(time.Hour)
			f.want(map[string]string{"b@example.com": "ao bn co xo yo", cOf: "ao bo cn xo yo"}[who])
		})
	}
}

// TestRollbackGoesOnNoMore: a person who calls a try off, or has the wave moved again, ends it.
func TestRollbackGoesOnNoMore(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		time.Sleep(2 * soakLook)
		f.silence("")
		f.slower(func(string) time.Duration { return time.Hour })
		time.Sleep(3 * soakLook) // the next try is under way
		o, ok := f.w.Open("sales")
		if !ok || o.Target != config.Old || owed(t, f) != nil {
			t.Fatalf("%+v", o)
		}
		if known, err := f.w.Cancel(t.Context(), o.ID, "lee", "there"); !known || err != nil {
			t.Fatal(known, err)
		}
		f.ended(o)
		f.slower(nil)
		time.Sleep(time.Hour)
		f.want("ao bo cn xo yo")
	})
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		time.Sleep(2 * soakLook)
		f.silence("")
		f.say("sales", gate.Pass)
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		time.Sleep(time.Hour)
		f.want("an bn cn xo yo")
	})
}

// TestRollbackHeld: a hold stops the next try too, and it is told why.
func TestRollbackHeld(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		time.Sleep(2 * soakLook)
		_, _, err := f.m.Hold(t.Context(), op.Hold{Scope: op.HoldWave("sales"), By: "lee"}, "")
		must(t, err)
		f.silence("")
		time.Sleep(time.Hour)
		f.want("ao bo cn xo yo")
		if x := owed(t, f); x == nil || !strings.Contains(x.Refused, "held by lee") {
			t.Errorf("%+v", x)
		}
		if _, err := f.m.Unhold(t.Context(), op.HoldWave("sales"), "lee", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * soakLook)
		f.want("ao bo co xo yo")
	})
}

// TestRollbackGoesOnNow: rollback --now in the place of a gate's rollback that waits for NEW leaves nothing undone that this one meant.
func TestRollbackGoesOnNow(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		f.slower(func(string) time.Duration { return time.Hour })
		time.Sleep(2 * soakLook)
		_, _, err := f.m.Hold(t.Context(), op.Hold{Scope: op.HoldUser(cOf), By: "lee"}, "")
		must(t, err)
		o := f.ended(f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true, Now: true}))
		f.want("ao bo cn xo yo")
		if x := owed(t, f); x == nil || x.Op != o.ID || len(x.Users) != 1 {
			t.Fatalf("%+v", x)
		}
		if _, err := f.m.Unhold(t.Context(), op.HoldUser(cOf), "lee", ""); err != nil {
			t.Fatal(err)
		}
		f.slower(nil)
		f.silence("") // NEW is there again
		time.Sleep(4 * soakLook)
		f.want("ao bo co xo yo")
		ops, err := f.st.Operations(t.Context(), op.Filter{Kind: op.Wave})
		must(t, err)
		if ops[0].Now || ops[0].By != "gate lag" { // whoever was in a hurry then is not any more, and mail of meanwhile is carried
			t.Errorf("%+v", ops[0])
		}
	})
}

// TestListNowAmidRollback: whom a list takes back at once a gate's rollback need not any more; the others it does.
func TestListNowAmidRollback(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		f.silence("")
		f.slower(func(string) time.Duration { return time.Hour })
		time.Sleep(2 * soakLook)
		f.ended(f.move(MoveRequest{Users: []string{"a@example.com"}, Target: config.Old, Rollback: true, Now: true}))
		f.want("ao bn cn xo yo")
		f.slower(nil)
		time.Sleep(time.Hour)
		f.want("ao bo co xo yo")
	})
}

// TestRollbackCalledOffForGood: a gate's rollback that a person calls off does not begin again, though nobody had gone back; the wave soaks again
// when it is moved again.
func TestRollbackCalledOffForGood(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		f.silence("")
		f.slower(func(string) time.Duration { return time.Hour })
		time.Sleep(2 * soakLook)
		o, ok := f.w.Open("sales")
		if !ok || o.Target != config.Old {
			t.Fatalf("%+v", o)
		}
		if known, err := f.w.Cancel(t.Context(), o.ID, "lee", "there"); !known || err != nil {
			t.Fatal(known, err)
		}
		f.ended(o)
		f.slower(nil)
		time.Sleep(time.Hour)
		f.want("an bn cn xo yo")
		ops, err := f.st.Operations(t.Context(), op.Filter{Kind: op.Wave})
		must(t, err)
		if ops[0].ID != o.ID {
			t.Errorf("%+v", ops[0])
		}
		f.say("sales", gate.Pass)
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		if row := f.w.Row("sales"); !row.Soaking() {
			t.Errorf("%+v", row)
		}
		time.Sleep(time.Hour)
		f.want("an bn cn xo yo")
	})
}

// TestMoveInPlaceOfRollback: who is asked for by name, in a list or with his wave, is left out of the next tries of a gate's rollback, though he
// was on NEW still.
func TestMoveInPlaceOfRollback(t *testing.T) {
	for want, r := range map[string]MoveRequest{
		"an bo cn xo yo": {Users: []string{"a@example.com", cOf}, Target: config.New},
		"an bn cn xo yo": {Wave: "sales", Target: config.New},
	} {
		inFleet(t, sales, func(t *testing.T, f *fleet) {
			inTrouble(f)
			if r.Wave != "" {
				f.silence("*")
			}
			time.Sleep(2 * soakLook)
			f.say("sales", gate.Pass)
			if r.Wave == "" {
				f.silence("")
			}
			if p, err := f.w.Plan(t.Context(), r); err != nil || len(p.Users) < 2 {
				t.Errorf("%+v %v", p, err)
			}
			f.ended(f.move(r))
			f.silence("")
			time.Sleep(time.Hour)
			f.want(want)
		})
	}
}

// TestRollbackBesideTry: a rollback by a person that means more than the try of a gate's that is under way does not leave it at that.
func TestRollbackBesideTry(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		time.Sleep(2 * soakLook)
		f.silence("")
		f.say("sales", gate.Pass)
		if o := f.wait(f.request("b@example.com", config.New).ID); o.Status != op.Done {
			t.Fatalf("%+v", o)
		}
		f.slower(func(u string) time.Duration { return map[bool]time.Duration{true: time.Hour}[u == cOf] })
		time.Sleep(5 * soakLook)
		try, ok := f.w.Open("sales")
		if !ok {
			t.Fatal("no try is under way")
		}
		o := f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true})
		if o.ID == try.ID {
			t.Error("joined")
		}
		f.slower(nil)
		time.Sleep(2 * time.Hour)
		f.want("ao bo co xo yo")
	})
}

// TestRollbackBesideList: a wave that goes back calls off what a list would move of it, and of others nothing.
func TestRollbackBesideList(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		f.ended(f.move(MoveRequest{Users: []string{"a@example.com"}, Target: config.New}))
		f.slower(func(string) time.Duration { return time.Hour })
		list := f.move(MoveRequest{Users: []string{"b@example.com", cOf, "x@example.com"}, Target: config.New})
		time.Sleep(time.Second)
		f.slower(nil)
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}))
		time.Sleep(time.Minute)
		f.want("ao bo co xo yo")
		time.Sleep(time.Hour)
		f.ended(list)
		f.want("ao bo co xn yo")
	})
}

// TestCompleteEndsRollback: a wave that was completed, and is started again, is not taken back by what a gate had begun before.
func TestCompleteEndsRollback(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		inTrouble(f)
		f.silence("*")
		time.Sleep(2 * soakLook)
		f.say("sales", gate.Pass)
		if x := owed(t, f); x == nil || len(x.Users) != 3 {
			t.Fatalf("%+v", x)
		}
		if _, err := f.w.Complete(t.Context(), "sales", "kim", ""); err != nil {
			t.Fatal(err)
		}
		f.silence("")
		if _, err := f.w.Launch(t.Context(), "sales", "kim", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		f.want("an bn cn xo yo")
	})
}

// TestRollbackGoesOnAfterCrash: a process that dies at any write amid a gate's rollback, of which one user is out of reach, and the next one
// brings everybody back, but for whom an admin has moved to NEW meanwhile.
func TestRollbackGoesOnAfterCrash(t *testing.T) {
	for _, last := range []bool{false, true} {
		for at := 1; ; at++ {
			through := false
			synctest.Test(t, func(t *testing.T) { through = crashAmidRollback(t, at, last) })
			if through || t.Failed() {
				if at < 10 {
					t.Fatalf("only %d writes", at)
				}
				break
			}
		}
	}
}

func crashAmidRollback(t *testing.T, at int, last bool) (through bool) {
	s := openStore(t, tempDir(t))
	defer func() { must(t, s.Close()) }()
	d := &dying{Store: s, left: 1 << 30, dead: make(chan struct{})}
	f := newFleet(t, d, sales)
	inTrouble(f)
	d.mu.Lock()
	d.left, d.last = at, last
	d.mu.Unlock()
	select {
	case <-d.dead:
	case <-time.After(10 * soakLook): // the second try has failed too
		through = true
	}
	f.stop()
	g := newFleet(t, s, f.text, func(g *fleet) {
		g.with(func(c *config.Config) { c.Waves = []config.Wave{{Name: "sales", Soak: time.Hour, Rollback: true}} })
		g.say("sales", gate.Fail)
		g.silence(cOf)
	})
	defer g.stop()
	time.Sleep(10 * soakLook)
	g.want("ao bo cn xo yo")
	g.silence("")
	g.say("sales", gate.Pass)
	if o := g.wait(g.request("a@example.com", config.New).ID); o.Status != op.Done {
		t.Errorf("write %d (%v): %+v", at, last, o)
	}
	time.Sleep(owedMost + 2*soakLook)
	if g.want("an bo co xo yo"); t.Failed() {
		t.Errorf("write %d (%v)", at, last)
	}
	return through
}

// TestListRollbackClearsGate: a wave whose members went back as a list, or one by one, is held by no gate any more, and has gone back.
func TestListRollbackClearsGate(t *testing.T) {
	for _, list := range []bool{true, false} {
		inFleet(t, sales, func(t *testing.T, f *fleet) {
			f.with(func(c *config.Config) { c.Waves = []config.Wave{{Name: "sales", Soak: time.Hour}} })
			f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
			f.say("sales", gate.Fail)
			time.Sleep(2 * soakLook)
			if row := f.w.Row("sales"); row.Gate != "lag" {
				t.Fatalf("%+v", row)
			}
			if list {
				o := f.move(MoveRequest{Users: []string{"a@example.com", "b@example.com", cOf}, Target: config.Old, Rollback: true})
				f.ended(o)
				synctest.Wait()
			} else {
				for _, u := range []string{"a@example.com", "b@example.com", cOf} {
					f.wait(f.request(u, config.Old).ID)
				}
				time.Sleep(2 * soakLook)
			}
			row := f.w.Row("sales")
			if state, since := f.w.State("sales", true, 3); row.Gate != "" || row.Soaking() || state != WaveRolledBack || since.IsZero() {
				t.Errorf("%+v, %s", row, state)
			}
			time.Sleep(10 * soakLook)
			f.want("ao bo co xo yo")
			if x := owed(t, f); x != nil {
				t.Errorf("%+v", x)
			}
		})
	}
}

// TestListPinsAreHeeded: whom a list has taken back stays when his wave moves, and is named; whom the rollback of everybody took goes again.
func TestListPinsAreHeeded(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		f.ended(f.move(MoveRequest{Users: []string{"b@example.com"}, Target: config.Old, Rollback: true}))
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}))
		p, err := f.w.Plan(t.Context(), MoveRequest{Wave: "sales", Target: config.New})
		must(t, err)
		if !slices.Equal(p.Users, []string{"a@example.com", cOf}) || len(p.Pinned) != 1 || p.Pinned[0].User != "b@example.com" || p.Pinned[0].By != "kim" {
			t.Errorf("%+v", p)
		}
		o := f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		f.want("an bo cn xo yo")
		if o.Status != op.Done || !strings.Contains(o.Reason, "1 left out: b@example.com (pinned on old by kim)") {
			t.Errorf("%+v", o)
		}
		must(t, f.st.DeletePin(t.Context(), "b@example.com", op.Event{What: "unpinned"}))
		f.ended(f.move(MoveRequest{Users: f.w.Everybody(), All: true, Target: config.Old, Rollback: true}))
		f.want("ao bo co xo yo")
		if o = f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New})); o.Reason != "" {
			t.Errorf("%+v", o)
		}
		f.want("an bn cn xo yo")
	})
}
