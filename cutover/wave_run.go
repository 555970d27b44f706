package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// begin starts the goroutine of a move; mu is held.
func (w *Waves) begin(mv *moving) {
	if mv.cancel != nil || w.ctx.Err() != nil {
		return
	}
	mv.ctx, mv.cancel = context.WithCancelCause(w.ctx)
	if mv.what.Cancel != "" {
		mv.cancel(mv.what.cancelled())
	}
	w.wg.Go(func() { w.run(mv) })
}

// run carries a move to its end, from wherever it was. What a crash cuts off is found again by the flips that the store has of it.
func (w *Waves) run(mv *moving) {
	defer mv.seal()
	o, _ := w.of(mv)
	err := w.carry(mv)
	w.m.parts.giveBack(o.ID)
	called := errors.Is(err, ErrCancelled)
	if w.ctx.Err() != nil && !called {
		return // the next start goes on with it
	}
	mv.seal()
	if called {
		w.cancelParts(mv)
	}
	if err := retry(w.ctx, func(ctx context.Context) error { return w.conclude(ctx, mv, err) }); err != nil {
		w.o.Log.Warn("the end of a move is not recorded; the next start does that", "op", o.ID, "err", err)
		return
	}
	if o, what := w.of(mv); o.Wave == "" && o.Target == config.Old {
		seen := map[string]bool{"": true}
		for _, u := range what.Users {
			if wave := w.Wave(u); !seen[wave] {
				seen[wave] = true
				w.wentBack(w.ctx, wave)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.moves, o.ID)
	close(mv.ended)
}

// carry brings the move to where all its flips have ended. The error is why it did not come so far. Whom the end of a window has left behind
// is asked for again in the next one.
func (w *Waves) carry(mv *moving) error {
	for {
		if mv.ctx.Err() != nil {
			return context.Cause(mv.ctx)
		}
		if err := w.beginMoving(mv); err != nil {
			return err
		}
		o, what := w.of(mv)
		if err := w.patient(mv, func(ctx context.Context) error { return w.rolled(ctx, o, what) }); err != nil {
			return err
		}
		if err := w.ask(mv, o, what); err != nil {
			return err
		}
		if err := w.await(mv, o.ID); err != nil {
			return err
		}
		rest, err := w.pause(mv)
		if err != nil || rest == 0 {
			return err
		}
	}
}

// beginMoving is what comes before the first flip, or the first of another window: what is waited for, and whoever has left the wave is left out.
func (w *Waves) beginMoving(mv *moving) error {
	o, what := w.of(mv)
	if o.Step == StepMoving {
		return nil
	}
	if err := w.waitForWindow(mv, o.Wave); err != nil {
		return err
	}
	if err := w.allowed(mv.ctx, o.Wave, o.Target); err != nil {
		return err
	}
	users, wished, err := w.stillMeant(mv, o, what)
	if err != nil {
		return err
	}
	return w.patient(mv, func(ctx context.Context) error {
		return w.keep(ctx, mv, func(o *op.Operation, what *payload) error {
			what.Users = users
			what.Stay = append(what.Stay, wished...)
			o.Status, o.Step, o.Reason, o.Deadline = op.Running, StepMoving, "", time.Time{}
			return nil
		})
	})
}

// stillMeant are those of a move who are meant when it begins, or goes on in another window. wished are left out: whom the end of a window had
// left behind, and whose lines say otherwise by now, though the move had edited them.
func (w *Waves) stillMeant(mv *moving, o op.Operation, what payload) (users []string, wished []stay, err error) {
	users = w.stillMembers(o.Wave, what.Users)
	if what.Paused.IsZero() {
		return users, nil, nil
	}
	children, err := w.children(mv, o.ID)
	if err != nil {
		return nil, nil, err
	}
	last := map[string]op.Operation{}
	for _, c := range children { // the oldest first
		if c.Reason != strayReason {
			last[c.User] = c
		}
	}
	routes := w.o.Routes()
	users = slices.DeleteFunc(slices.Clone(users), func(u string) bool {
		r := routes.Users[u]
		if !outside(last[u]) || r == nil || r.Side == o.Target {
			return false
		}
		wished = append(wished, stay{User: u, Why: "his line was changed to " + r.Side.String() + " between two windows"})
		return true
	})
	return users, wished, nil
}

// windowReason is in the reason of each flip that was refused outside of the windows of its wave.
const windowReason = "moves in its windows only"

// outside tells whether a flip came too late for the window of its wave.
func outside(c op.Operation) bool {
	return c.Status == op.Failed && c.Target == config.New && strings.Contains(c.Reason, windowReason)
}

// pause looks how many the end of the window has left behind. Where there are some the move waits for the next window, as it did before the
// first; those that have moved are watched meanwhile.
func (w *Waves) pause(mv *moving) (rest int, err error) {
	o, what := w.of(mv)
	if o.Wave == "" || o.Target != config.New {
		return 0, nil
	}
	children, err := w.children(mv, o.ID)
	if err != nil {
		return 0, err
	}
	slices.Reverse(children) // the newest first
	s := tally(what.Users, children, func(u string) bool { return w.m.sideNow(u) == o.Target })
	for _, c := range s.left {
		if outside(c) {
			rest++
		}
	}
	if rest == 0 {
		return 0, nil
	}
	w.m.parts.giveBack(o.ID)
	return rest, w.patient(mv, func(ctx context.Context) error {
		if err := w.flipped(ctx, o, what, s, time.Now()); err != nil {
			return err
		}
		return w.keep(ctx, mv, func(o *op.Operation, what *payload) error {
			what.Paused, what.Moved = time.Now(), len(s.moved)
			o.Status, o.Step, o.Reason = op.Waiting, "", "the window of wave "+o.Wave+" has closed"
			return nil
		})
	})
}

// rolled notes that a wave goes back, as soon as that is recorded as an operation. It may be called again.
func (w *Waves) rolled(ctx context.Context, o op.Operation, what payload) error {
	if o.Wave == "" || !what.Rollback || what.First != "" {
		return nil
	}
	_, err := w.update(ctx, o.Wave, func(row *op.WaveRow) (bool, error) {
		if !row.Rolled.Before(o.Created) || len(what.Users) == 0 && row.Flipped.IsZero() { // noted already; or it had never moved
			return false, nil
		}
		at := o.Created
		if !at.After(row.Flipped) { // a move that was called off has ended in this moment
			at = row.Flipped.Add(1)
		}
		row.Rolled, row.RolledBy, row.RolledWhy, row.Gate, row.GateWhy, row.GateAt = at, o.By, what.Why, "", "", time.Time{}
		return true, nil
	})
	return err
}

// stillMembers leaves out who has left the wave while it waited.
func (w *Waves) stillMembers(wave string, users []string) []string {
	if wave == "" {
		return users
	}
	members := w.o.Routes().Members(wave)
	return slices.DeleteFunc(slices.Clone(users), func(u string) bool {
		_, in := slices.BinarySearch(members, u)
		return !in
	})
}

// waitForWindow returns when the wave may move.
func (w *Waves) waitForWindow(mv *moving, wave string) error {
	const look = time.Minute // clocks are set, and machines sleep
	said := ""
	for {
		w.mu.Lock()
		again := w.again
		w.mu.Unlock()
		open, until := w.window(wave, time.Now())
		if open {
			return nil
		}
		why := "waits for the window of wave " + wave + ", which opens " + clock(until)
		if _, what := w.of(mv); !what.Paused.IsZero() {
			why = fmt.Sprintf("%d of %d users moved, then the window of wave %s closed; the others wait for the next one, which opens %s",
				what.Moved, len(what.Users), wave, clock(until))
		}
		if why != said {
			said = why
			if err := w.patient(mv, func(ctx context.Context) error {
				return w.keep(ctx, mv, func(o *op.Operation, _ *payload) error {
					o.Status, o.Reason, o.Deadline = op.Waiting, why, until
					return nil
				})
			}); err != nil {
				return err
			}
		}
		wait := look
		if d := time.Until(until); !until.IsZero() && d < wait {
			wait = d
		}
		t := time.NewTimer(wait)
		select {
		case <-mv.ctx.Done():
		case <-again:
		case <-t.C:
		}
		t.Stop()
		if mv.ctx.Err() != nil {
			return context.Cause(mv.ctx)
		}
	}
}

// patient calls f until the store takes it, or the move ends.
func (w *Waves) patient(mv *moving, f func(ctx context.Context) error) error {
	wait := retryMin
	for {
		err := f(mv.ctx)
		if mv.ctx.Err() != nil {
			return context.Cause(mv.ctx)
		}
		if err == nil || !errors.Is(err, op.ErrUnavailable) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-mv.ctx.Done():
		case <-t.C:
		}
		t.Stop()
		wait = min(2*wait, retryMax)
	}
}

// ask asks for the flip of each user who is not on the target and has none of this move. The lines of the routes file come first: what
// their edit asks for belongs to the move (see parts), so that file and requests agree also where a crash comes between.
func (w *Waves) ask(mv *moving, o op.Operation, what payload) error {
	if !what.Rollback {
		var has map[string]bool
		if err := w.patient(mv, func(ctx context.Context) (err error) {
			has, err = w.asked(ctx, o)
			return err
		}); err != nil {
			return err
		}
		lines := w.lines(o, what.Users, has)
		w.m.parts.claim(o, lines)
		if len(lines) > 0 {
			err := w.patient(mv, func(ctx context.Context) error { return w.o.Edit(ctx, lines, o.Target, o.By, o.From) })
			if err != nil {
				return err
			}
		}
	}
	err := w.patient(mv, func(ctx context.Context) error {
		has, err := w.asked(ctx, o)
		if err != nil {
			return err
		}
		users, err := w.stillOwed(ctx, what, what.Users)
		if err != nil {
			return err
		}
		var list []op.Operation
		for _, u := range users {
			if !has[u] && (what.Rollback || w.m.sideNow(u) != o.Target || slices.Contains(what.Anyway, u)) {
				list = append(list, part(o, u, w.Wave(u)))
			}
		}
		if len(list) == 0 {
			return nil
		}
		return w.m.requestParts(ctx, list)
	})
	if err == nil { // all are asked for: what a line asks for from now on is somebody's own wish
		w.m.parts.giveBack(o.ID)
	}
	return err
}

// asked are the users who have a flip of a move, but for one that came too late for a window.
func (w *Waves) asked(ctx context.Context, o op.Operation) (map[string]bool, error) {
	children, err := w.m.store.Operations(ctx, op.Filter{Parent: o.ID})
	if err != nil {
		return nil, fmt.Errorf("read the flips of %s: %w", o.ID, err)
	}
	has := map[string]bool{}
	for _, c := range children {
		if w.m.lost(c) {
			return nil, fmt.Errorf("%w: %s is being ended, since the store answered an error for it", op.ErrUnavailable, c.ID)
		}
		has[c.User] = has[c.User] || c.Reason != strayReason && !outside(c)
	}
	return has, nil
}

// lines are the users whose lines of the routes file must be edited: those that are moved, and those of the wave that are there already
// while their lines say otherwise. Who has had his flip has had his edit: what his line says since is somebody's wish.
func (w *Waves) lines(o op.Operation, users []string, has map[string]bool) (out []string) {
	routes := w.o.Routes()
	for _, u := range users {
		if r := routes.Users[u]; !has[u] && (o.Wave == "" || r != nil) {
			if r == nil || r.Side != o.Target {
				out = append(out, u)
			}
		}
	}
	if o.Wave != "" {
		for _, u := range routes.Members(o.Wave) {
			if !has[u] && routes.Users[u].Side != o.Target && w.m.sideNow(u) == o.Target && !slices.Contains(out, u) {
				out = append(out, u)
			}
		}
	}
	return out
}

// await returns when all flips of the move have ended.
func (w *Waves) await(mv *moving, id string) error {
	children, err := w.children(mv, id)
	if err != nil {
		return err
	}
	for _, c := range children {
		for !c.Status.Final() {
			c, err = w.m.Wait(mv.ctx, c.ID)
			switch {
			case mv.ctx.Err() != nil:
				return context.Cause(mv.ctx)
			case errors.Is(err, op.ErrNotFound), err == nil:
			default:
				t := time.NewTimer(retryMax)
				select {
				case <-mv.ctx.Done():
				case <-t.C:
				}
				t.Stop()
			}
		}
	}
	return nil
}

func (w *Waves) children(mv *moving, id string) (list []op.Operation, err error) {
	err = w.patient(mv, func(ctx context.Context) error {
		list, err = w.m.store.Operations(ctx, op.Filter{Parent: id})
		return err
	})
	slices.Reverse(list) // oldest first
	return list, err
}

// cancelParts calls off what is not committed, and waits for the ends.
func (w *Waves) cancelParts(mv *moving) {
	o, what := w.of(mv)
	_ = retry(w.ctx, func(ctx context.Context) error {
		list, err := w.m.store.Operations(ctx, op.Filter{Parent: o.ID, Open: true})
		if err != nil {
			return err
		}
		for _, c := range list { // the newest first: those that have not begun
			if err := w.m.Cancel(ctx, c.ID, what.Cancel, what.CancelFrom); err != nil && !errors.Is(err, ErrFinal) && !errors.Is(err, op.ErrNotFound) {
				return err
			}
		}
		for _, c := range list {
			if _, err := w.m.Wait(w.ctx, c.ID); err != nil && !errors.Is(err, op.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}

// tallied is what became of the users of a move.
type tallied struct {
	moved []string
	left  []op.Operation // flips that ended otherwise, the last of each user
	open  int
}

// tally counts; side tells where a user is, and nil looks at the flips only.
func tally(users []string, children []op.Operation, at func(user string) bool) (s tallied) {
	var back []op.Operation
	defer func() { s.left = append(s.left, back...) }() // behind those whose flips did not end well: their reasons matter more
	last := map[string]op.Operation{}
	for _, c := range children { // the newest first
		if _, seen := last[c.User]; !seen && c.Reason != strayReason {
			last[c.User] = c
		}
	}
	for _, u := range users {
		c, ok := last[u]
		switch {
		case ok && c.Status == op.Done && at != nil && !at(u): // somebody has moved him back since
			c.Reason = "is not there any more"
			back = append(back, c)
		case ok && c.Status == op.Done, !ok && at != nil && at(u):
			s.moved = append(s.moved, u)
		case ok && c.Status.Final():
			s.left = append(s.left, c)
		default:
			s.open++
		}
	}
	return s
}

// conclude records how a move ended. It may be called again.
func (w *Waves) conclude(ctx context.Context, mv *moving, cause error) error {
	o, what := w.of(mv)
	children, err := w.m.store.Operations(ctx, op.Filter{Parent: o.ID})
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(children, func(c op.Operation) bool { return !c.Status.Final() }); i >= 0 {
		return fmt.Errorf("%w: %s has not ended", errPart, children[i].ID)
	}
	s := tally(what.Users, children, func(u string) bool { return w.m.sideNow(u) == o.Target })
	now := time.Now()
	took := now.Sub(o.Created)
	status, reason := outcome(what.Users, s, cause)
	if text := staying(what.Stay); text != "" && status == op.Done {
		reason = strings.TrimPrefix(reason+"; "+text, "; ")
	}
	e := op.Event{At: now, Op: o.ID, User: subject(o.Wave), What: "move ended", After: o.Target.String(), By: o.By, From: o.From,
		Detail: fmt.Sprintf("%s: %d of %d users moved in %s", status, len(s.moved), len(what.Users), took.Round(time.Millisecond))}
	if reason != "" {
		e.Detail += "; " + reason
	}
	if c, ok := errors.AsType[cancelled](cause); ok {
		e.By, e.From = c.by, c.from
	}
	if err := w.flipped(ctx, o, what, s, now); err != nil {
		return err
	}
	w.o.Log.Info("a move of several has ended", "op", o.ID, "wave", o.Wave, "side", o.Target.String(), "status", string(status), "moved", len(s.moved),
		"users", len(what.Users), "reason", reason)
	done := int64(len(s.moved))
	return w.keep(ctx, mv, func(o *op.Operation, what *payload) error {
		what.Done = &done
		o.Status, o.Reason, o.Took, o.Deadline = status, reason, took, time.Time{}
		return nil
	}, e)
}

// flipped notes that a wave has moved, be it in part: from now on it soaks. It may be called again; a move that goes on in another window begins
// the soak anew.
func (w *Waves) flipped(ctx context.Context, o op.Operation, what payload, s tallied, now time.Time) error {
	if o.Wave == "" || o.Target != config.New || len(s.moved) == 0 {
		return nil
	}
	began := o.Created
	if what.Paused.After(began) {
		began = what.Paused.Add(1)
	}
	_, err := w.update(ctx, o.Wave, func(r *op.WaveRow) (bool, error) {
		if !r.Flipped.Before(began) || r.Rolled.After(o.Created) { // noted already, or a rollback was asked for meanwhile
			return false, nil
		}
		r.Flipped, r.FlippedBy, r.SoakUntil = now, o.By, now.Add(w.o.Config().Wave(o.Wave).Soak)
		r.Completed, r.CompletedBy, r.Gate, r.GateWhy, r.GateAt = time.Time{}, "", "", "", time.Time{}
		return true, nil
	})
	return err
}

// staying words who was left out of a move, "" where nobody was.
func staying(list []stay) string {
	if len(list) == 0 {
		return ""
	}
	var text []string
	for _, s := range list {
		text = append(text, s.User+" ("+s.Why+")")
	}
	return fmt.Sprintf("%d left out: %s", len(list), someOf(text))
}

// errPart means that a flip of a move has not ended.
var errPart = errors.New("a part has not ended")

// outcome is how a move ended: done, partly done (with a reason), or as before.
func outcome(users []string, s tallied, cause error) (op.Status, string) {
	left := fmt.Sprintf("%d of %d users moved", len(s.moved), len(users))
	if len(s.left) > 0 {
		why := ""
		if r := s.left[0].Reason; r != "" {
			why = ": " + s.left[0].User + ": " + r
		}
		left += fmt.Sprintf("; %d did not%s", len(s.left), why)
	}
	switch {
	case errors.Is(cause, ErrCancelled):
		if len(s.moved) > 0 {
			return op.Cancelled, oneLine(cause) + "; " + left + ", those that moved stay there"
		}
		return op.Cancelled, oneLine(cause)
	case cause != nil && len(s.moved) == 0:
		return op.Failed, oneLine(cause)
	case cause != nil:
		return op.Done, oneLine(cause) + "; " + left
	case len(users) == 0:
		return op.Done, ""
	case len(s.moved) == 0:
		return op.Failed, left
	case len(s.moved) < len(users):
		return op.Done, left
	}
	return op.Done, ""
}
