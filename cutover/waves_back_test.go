package cutover

import (
	"slices"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
)

// TestSoakBesideStragglers: members who are on NEW are watched while the rest of the wave is still on its way, and go back, and so does the rest.
func TestSoakBesideStragglers(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		f.with(func(c *config.Config) { c.Waves = []config.Wave{{Name: "sales", Soak: time.Hour, Rollback: true}} })
		_, _, err := f.m.Hold(t.Context(), op.Hold{Scope: op.HoldUser("c@example.com"), By: "lee"}, "")
		must(t, err)
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		f.want("an bn co xo yo")
		if _, err := f.m.Unhold(t.Context(), op.HoldUser("c@example.com"), "lee", ""); err != nil {
			t.Fatal(err)
		}
		f.slower(func(string) time.Duration { return 10 * time.Hour })
		rest := f.move(MoveRequest{Wave: "sales", Target: config.New})
		time.Sleep(2 * soakLook)
		f.slower(nil)
		f.say("sales", gate.Fail)
		time.Sleep(3 * soakLook)
		f.want("ao bo co xo yo")
		if o := f.ended(rest); o.Status != op.Cancelled {
			t.Errorf("%+v", o)
		}
	})
}

// TestNowDoesNotWait: rollback --now takes the place of a rollback that waits for NEW.
func TestNowDoesNotWait(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		f.ended(f.move(MoveRequest{Wave: "sales", Target: config.New}))
		f.slower(func(string) time.Duration { return 10 * time.Hour })
		slow := f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true})
		time.Sleep(time.Minute)
		f.want("an bn cn xo yo")
		began := time.Now()
		o := f.ended(f.move(MoveRequest{Wave: "sales", Target: config.Old, Rollback: true, Now: true}))
		if o.ID == slow.ID || !o.Now || o.Status != op.Done || time.Since(began) > time.Minute {
			t.Errorf("%+v after %v", o, time.Since(began))
		}
		f.want("ao bo co xo yo")
	})
}

// TestListWithCompleteWave: who is in a complete wave stays where he is, and does not keep others from going back.
func TestListWithCompleteWave(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		f.ended(f.move(MoveRequest{Users: f.w.Everybody(), Target: config.New}))
		f.want("an bn cn xn yn")
		if done, err := f.w.Complete(t.Context(), "sales", "kim", ""); !done || err != nil {
			t.Fatal(done, err)
		}
		all := MoveRequest{Users: f.w.Everybody(), Target: config.Old, Rollback: true}
		p, err := f.w.Plan(t.Context(), all)
		must(t, err)
		if !slices.Equal(p.Complete, []string{"a@example.com", "b@example.com", "c@example.com"}) || len(p.Users) != 2 || p.Why != "" {
			t.Errorf("%+v", p)
		}
		f.ended(f.move(all))
		f.want("an bn cn xo yo")
		f.refused(MoveRequest{Users: []string{"a@example.com"}, Target: config.Old, Rollback: true}, "complete")
	})
}
