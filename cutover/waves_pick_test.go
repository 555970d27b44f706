package cutover

import (
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestRollbackAheadOfWave: whom an admin rolls back, alone or in a list, while his wave has not come to him yet stays on OLD with a pin; the
// others are moved.
func TestRollbackAheadOfWave(t *testing.T) {
	for _, list := range []bool{false, true} {
		inFleet(t, sales, func(t *testing.T, f *fleet) {
			nightly(f)
			f.slower(nil)
			o := f.move(MoveRequest{Wave: "sales", Target: config.New})
			time.Sleep(time.Second)
			opens := must2(f.st.Operation(t.Context(), o.ID)).Deadline // it waits for its window
			if list {
				if back := f.ended(f.move(MoveRequest{Users: []string{"b@example.com", "x@example.com"}, Target: config.Old, Rollback: true})); back.Status != op.Done {
					t.Errorf("%+v", back)
				}
			} else {
				f.wait(must2(f.m.Request(t.Context(), "b@example.com", config.Old, "kim", true)).ID)
			}
			pins := must2(f.st.Pins(t.Context()))
			if len(pins) != 1 || pins[0].User != "b@example.com" || pins[0].Side != config.Old || pins[0].By != "kim" {
				t.Errorf("%+v", pins)
			}
			must2(f.m.Import(t.Context(), f.file(), "kim", "")) // his line says OLD, as his pin does, until the wave comes to it
			time.Sleep(time.Until(opens) + time.Minute)
			o = f.ended(o)
			if pins := must2(f.st.Pins(t.Context())); len(pins) != 1 {
				t.Errorf("%+v", pins)
			}
			f.want("an bo cn xo yo")
			if o.Status != op.Done || !strings.Contains(o.Reason, "2 of 3 users moved; 1 did not: b@example.com: kim rolled him back since (op-") {
				t.Errorf("%+v", o)
			}
			f.ended(f.move(MoveRequest{Users: []string{"b@example.com"}, Target: config.New})) // asked for by name
			f.want("an bn cn xo yo")
		})
	}
}

// TestListOutOfWave: a list that goes back while the wave of some of it is on its way takes those out of the wave; the others of the wave go on.
// A list of the whole wave calls it off.
func TestListOutOfWave(t *testing.T) {
	for _, whole := range []bool{false, true} {
		inFleet(t, sales, func(t *testing.T, f *fleet) {
			f.slower(func(user string) time.Duration {
				return map[bool]time.Duration{true: 0, false: time.Hour}[user == "a@example.com"]
			})
			there := f.move(MoveRequest{Wave: "sales", Target: config.New})
			time.Sleep(time.Minute)
			f.want("an bo co xo yo")
			users := []string{"a@example.com", "b@example.com"}
			if whole {
				users = append(users, cOf)
			}
			f.slower(nil)
			back := f.ended(f.move(MoveRequest{Users: users, Target: config.Old, Rollback: true}))
			f.want("ao bo co xo yo")
			time.Sleep(2 * time.Hour)
			there = f.ended(there)
			if back.Status != op.Done || back.Reason != "" || back.Done != int64(len(users)) {
				t.Errorf("%+v", back)
			}
			if pins := must2(f.st.Pins(t.Context())); len(pins) != len(users) {
				t.Errorf("%+v", pins)
			}
			if whole {
				f.want("ao bo co xo yo")
				if there.Status != op.Cancelled {
					t.Errorf("%+v", there)
				}
				return
			}
			f.want("ao bo cn xo yo")
			if there.Status != op.Done || there.Done != 1 || !strings.Contains(there.Reason, "1 of 3 users moved; 2 did not") {
				t.Errorf("%+v", there)
			}
		})
	}
}

// TestRollbackOfWaveThatWaits: a wave that waits for its window is called off by its rollback, though nobody has moved: the plan says so. So is
// one whose member is in the routes file no more, when all go back.
func TestRollbackOfWaveThatWaits(t *testing.T) {
	for _, all := range []bool{false, true} {
		inFleet(t, sales, func(t *testing.T, f *fleet) {
			nightly(f)
			f.slower(nil)
			there := f.move(MoveRequest{Wave: "sales", Target: config.New})
			time.Sleep(time.Second)
			r := MoveRequest{Wave: "sales", Target: config.Old, Rollback: true}
			if all {
				f.parse(strings.ReplaceAll(f.text, "c@example.com old wave=sales\n", ""))
				must2(f.m.Import(t.Context(), f.file(), "kim", ""))
				r.Wave, r.Users, r.All = "", f.w.Everybody(), true
			}
			if p := must2(f.w.Plan(t.Context(), r)); len(p.Users) != 0 || len(p.CallsOff) != 1 || p.CallsOff[0] != there.ID {
				t.Errorf("%+v", p)
			}
			if back := f.ended(f.move(r)); back.Status != op.Done {
				t.Errorf("%+v", back)
			}
			if there = f.ended(there); there.Status != op.Cancelled {
				t.Errorf("%+v", there)
			}
			if row := f.w.Row("sales"); !row.Rolled.IsZero() { // it had never moved
				t.Errorf("%+v", row)
			}
			time.Sleep(48 * time.Hour)
			f.want(map[bool]string{false: "ao bo co xo yo", true: "ao bo xo yo"}[all])
		})
	}
}

// TestPinOutlivesMove: who was taken out of a wave that waited stays pinned when that wave is called off, whatever is reloaded: the next move of
// the wave leaves him out, and the one behind it. The pin ends when his line comes to say what it says.
func TestPinOutlivesMove(t *testing.T) {
	inFleet(t, sales, func(t *testing.T, f *fleet) {
		nightly(f)
		f.slower(nil)
		first := f.move(MoveRequest{Wave: "sales", Target: config.New})
		time.Sleep(time.Second)
		f.wait(must2(f.m.Request(t.Context(), "b@example.com", config.Old, "kim", true)).ID)
		if known, err := f.w.Cancel(t.Context(), first.ID, "lee", "there"); !known || err != nil {
			t.Fatal(known, err)
		}
		f.ended(first)
		must2(f.m.Import(t.Context(), f.file(), "kim", ""))
		for range 2 {
			r := MoveRequest{Wave: "sales", Target: config.New}
			if p := must2(f.w.Plan(t.Context(), r)); len(p.Pinned) != 1 || p.Pinned[0].User != "b@example.com" {
				t.Errorf("%+v", p)
			}
			o := f.move(r)
			time.Sleep(24 * time.Hour)
			f.ended(o)
			f.want("an bo cn xo yo")
			must2(f.m.Import(t.Context(), f.file(), "kim", ""))
		}
		for _, side := range []config.Side{config.New, config.Old} { // to OLD it is a change only when it said otherwise
			must(t, f.edit(t.Context(), []string{"b@example.com"}, side, "kim", ""))
		}
		if pins := must2(f.st.Pins(t.Context())); len(pins) != 0 {
			t.Errorf("%+v", pins)
		}
		f.want("an bo cn xo yo")
	})
}
