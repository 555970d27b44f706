package cutover

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Owed is what is left of a rollback by a gate: some of those whom it meant are on NEW still. It is tried again until they are back, also by
// another process. A person ends that by calling a try off, or by moving the wave to NEW again; and who is moved to NEW alone behind
// it stays there.
type Owed struct {
	Op      string     `json:"op"` // the last try
	By      string     `json:"by"` // the gate
	Why     string     `json:"why"`
	Tries   int        `json:"tries"`
	Users   []OwedUser `json:"users"`
	Again   time.Time  `json:"again"`             // when it is tried again, at the earliest
	Refused string     `json:"refused,omitempty"` // why it could not be asked for when it was due

	first string // the first try
}

// OwedUser is a member who is to go back still.
type OwedUser struct {
	User string `json:"user"`
	Why  string `json:"why"` // what became of his last flip
}

// owedMost is how long a rollback by a gate waits at most for its next try; it begins with the time between two looks.
const owedMost = 10 * time.Minute

// tries are those of a gate to take a wave back, since it was moved to NEW last: the newest, zero when there was none, and how many.
func (w *Waves) tries(ctx context.Context, name string) (last op.Operation, n int, err error) {
	list, err := w.m.store.Operations(ctx, op.Filter{Kind: op.Wave})
	if err != nil {
		return last, 0, fmt.Errorf("read the moves of wave %s: %w", name, err)
	}
	for _, o := range list { // the newest first
		if o.Wave != name || o.Reason == strayReason {
			continue
		}
		if o.Target == config.New { // what was before is over
			break
		}
		if payloadOf(o).Auto {
			if n++; last.ID == "" {
				last = o
			}
		}
	}
	return last, n, nil
}

// isCalledOff tells that a person has called a move off, and not another one that took its place for some of its users.
func (what payload) isCalledOff() bool { return what.Cancel != "" && !what.Instead }

// Owed is what a rollback by a gate has left to do in a wave, nil when that is nothing or it is under way.
func (w *Waves) Owed(ctx context.Context, name string) (*Owed, error) {
	row := w.Row(name)
	if !row.Rolled.After(row.Flipped) || !row.Completed.IsZero() || !slices.ContainsFunc(w.Members(name), w.onNew) {
		return nil, nil
	}
	last, n, err := w.tries(ctx, name)
	what := payloadOf(last)
	if err != nil || last.ID == "" || !last.Status.Final() || what.isCalledOff() {
		return nil, err
	}
	x := &Owed{Op: last.ID, Tries: n, first: cmp.Or(what.First, last.ID)}
	what.First = x.first
	first, err := w.m.store.Operation(ctx, x.first)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", x.first, err)
	}
	x.By, x.Why = first.By, payloadOf(first).Why
	users, err := w.stillOwed(ctx, what, what.Users)
	if err != nil || len(users) == 0 {
		return nil, err
	}
	children, err := w.m.store.Operations(ctx, op.Filter{Parent: last.ID})
	if err != nil {
		return nil, fmt.Errorf("read the flips of %s: %w", last.ID, err)
	}
	for _, u := range users {
		why := "his flip was not asked for"
		if i := slices.IndexFunc(children, func(c op.Operation) bool { return c.User == u && c.Reason != strayReason }); i >= 0 {
			why = children[i].Reason
		}
		x.Users = append(x.Users, OwedUser{u, why})
	}
	wait := w.o.Every
	for range min(x.Tries, 10) - 1 { // more doubles nothing: owedMost has been reached
		wait *= 2
	}
	x.Again = last.Changed.Add(min(wait, max(owedMost, w.o.Every)))
	w.mu.Lock()
	x.Refused = w.refused[name]
	w.mu.Unlock()
	return x, nil
}

// takenBack are those on NEW whom a request to move there means all the same: a gate's rollback had meant them, and is over by that.
func (w *Waves) takenBack(ctx context.Context, r MoveRequest, users []string) (map[string]bool, error) {
	if r.Target != config.New {
		return nil, nil
	}
	out, meant := map[string]bool{}, map[string]bool{}
	for _, u := range users {
		wave := w.Wave(u)
		is, known := meant[wave]
		if row := w.Row(wave); !known && wave != "" && row.Rolled.After(row.Flipped) && row.Completed.IsZero() {
			last, _, err := w.tries(ctx, wave)
			if err != nil {
				return nil, err
			}
			is = last.ID != ""
		}
		meant[wave] = is
		if is && w.onNew(u) {
			out[u] = true
		}
	}
	return out, nil
}

// onNew tells whether a user is on NEW.
func (w *Waves) onNew(user string) bool { return w.m.sideNow(user) == config.New }

// stillOwed are those of the users whom a further try of a rollback means: those on NEW who are in the wave still, and whom nobody has asked
// to move to NEW since the first try. Of any other move it is all.
func (w *Waves) stillOwed(ctx context.Context, what payload, users []string) (out []string, err error) {
	if what.First == "" {
		return users, nil
	}
	first, err := w.m.store.Operation(ctx, what.First)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what.First, err)
	}
	for _, u := range users {
		if !w.onNew(u) || w.Wave(u) != first.Wave {
			continue
		}
		flips, err := w.m.store.Operations(ctx, op.Filter{Kind: op.Flip, User: u})
		if err != nil {
			return nil, fmt.Errorf("read the flips of %s: %w", u, err)
		}
		if !slices.ContainsFunc(flips, func(c op.Operation) bool {
			return c.Target == config.New && c.Reason != strayReason && laterOp(c.ID, first.ID)
		}) {
			out = append(out, u)
		}
	}
	return out, nil
}

// laterOp tells whether an operation was asked for behind another: their numbers rise.
func laterOp(id, than string) bool {
	return cmp.Or(cmp.Compare(len(id), len(than)), cmp.Compare(id, than)) > 0
}

// bringBack tries a rollback by a gate again that has left somebody on NEW, when that is due. false when nothing is left of one.
func (w *Waves) bringBack(ctx context.Context, name string) bool {
	x, err := w.Owed(ctx, name)
	if err != nil {
		if ctx.Err() == nil {
			w.o.Log.Warn("whether a rollback has left somebody behind cannot be told", "wave", name, "err", err)
		}
		return true
	}
	if x == nil {
		w.note(name, "")
		return false
	}
	if time.Now().Before(x.Again) {
		return true
	}
	r := MoveRequest{Wave: name, Target: config.Old, Rollback: true, By: x.By, From: "serve", Why: x.Why, auto: true, first: x.first}
	for _, u := range x.Users {
		r.only = append(r.only, u.User)
	}
	w.takeBack(ctx, r)
	return true
}

// takeBack asks for a rollback by a gate. What stands in its way, such as a hold, is kept for who looks; it is asked again at the next look.
func (w *Waves) takeBack(ctx context.Context, r MoveRequest) {
	o, err := w.Move(ctx, r)
	switch {
	case err == nil:
		w.note(r.Wave, "")
		w.o.Log.Warn("a gate rolls a wave back", "wave", r.Wave, "by", r.By, "op", o.ID)
	case ctx.Err() == nil && w.note(r.Wave, oneLine(err)):
		w.o.Log.Error("a wave that a gate fails cannot be rolled back", "wave", r.Wave, "by", r.By, "err", err)
	}
}

// note keeps why a rollback by a gate could not be asked for; news is false when that is known already.
func (w *Waves) note(wave, why string) (news bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if news = w.refused[wave] != why; why == "" {
		delete(w.refused, wave)
	} else {
		w.refused[wave] = why
	}
	return news
}

// Refused is why a gate's rollback of a wave could not be asked for when it was due, "" where it could.
func (w *Waves) Refused(wave string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refused[wave]
}

// wentBack ends the soak of a wave whose members went back one by one, or as a list: no gate holds it any more.
func (w *Waves) wentBack(ctx context.Context, name string) {
	row, users := w.Row(name), w.Members(name)
	back := row.Soaking() && len(users) > 0
	if _, moving := w.open(name); moving || !back && row.Gate == "" || slices.ContainsFunc(users, w.onNew) {
		return
	}
	if slices.ContainsFunc(users, func(u string) bool { _, moving := w.m.headed(u); return moving }) {
		return
	}
	now := time.Now()
	var events []op.Event
	if back {
		events = append(events, op.Event{At: now, User: op.HoldWave(name), What: "wave went back", Before: row.Gate, By: "serve", Detail: "none of its members is on new"})
	}
	w.save(ctx, name, func(r *op.WaveRow) {
		r.Gate, r.GateWhy, r.GateAt = "", "", time.Time{}
		if back {
			r.Rolled, r.RolledBy, r.RolledWhy = now, "its members, one by one", ""
		}
	}, events...)
}
