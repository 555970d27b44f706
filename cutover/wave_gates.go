package cutover

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
)

// judgement is what the gates of a wave last said.
type judgement struct {
	at    time.Time
	phase gate.Phase
	list  []gate.Result
}

// told is what a gate says, and since when.
type told struct {
	verdict gate.Verdict
	at      time.Time
}

// judgedFresh is how long what gates have said is good for flips that follow each other: a wave's members begin moments apart.
const judgedFresh = 10 * time.Second

// Judged asks the gates of a wave, or gives what they said moments ago.
func (w *Waves) Judged(ctx context.Context, name string, phase gate.Phase) ([]gate.Result, error) {
	if w.o.Judge == nil {
		return nil, nil
	}
	w.mu.Lock()
	j, ok := w.judged[name]
	w.mu.Unlock()
	if ok && j.phase == phase && time.Since(j.at) < judgedFresh {
		return j.list, nil
	}
	return w.judge(ctx, name, phase)
}

// judge asks them.
func (w *Waves) judge(ctx context.Context, name string, phase gate.Phase) ([]gate.Result, error) {
	list, err := w.o.Judge(ctx, name, phase)
	if err != nil {
		return nil, fmt.Errorf("ask the gates of wave %s: %w", name, err)
	}
	if ctx.Err() != nil { // what they say then is that they were not asked to the end
		return nil, fmt.Errorf("ask the gates of wave %s: %w", name, context.Cause(ctx))
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judged[name] = judgement{now, phase, list}
	for _, r := range list {
		key := name + " " + string(r.Gate)
		if t, ok := w.since[key]; !ok || t.verdict != r.Verdict {
			w.since[key] = told{r.Verdict, now}
		}
	}
	return list, nil
}

// SaysSince is since when a gate has said what it says, as far as this process has asked it.
func (w *Waves) SaysSince(name string, g config.Gate) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since[name+" "+string(g)].at
}

// gatesPass is the *Refusal of the gates of a wave, nil when none holds.
func (w *Waves) gatesPass(ctx context.Context, name string, phase gate.Phase) error {
	list, err := w.Judged(ctx, name, phase)
	if err != nil {
		return &Refusal{Why: oneLine(err), Do: "ask again", Err: err}
	}
	return gateRefusal(name, list)
}

// gateRefusal names the gates that hold.
func gateRefusal(name string, list []gate.Result) error {
	why, do := "", ""
	for _, r := range list {
		if !r.Holds {
			continue
		}
		if why != "" {
			why += "; "
		}
		why += fmt.Sprintf("gate %s of wave %s: %s, %s", r.Gate, name, r.Verdict, r.Why)
		if do == "" {
			do = fmt.Sprintf("mend that, or let it pass by name: mailgate wave waive %s %s --reason TEXT --until 24h", name, r.Gate)
		}
	}
	if why == "" {
		return nil
	}
	return &Refusal{Why: why, Do: do}
}

// Begin implements Gates: what stands in the way of one flip, beside holds of the store. The way back waits for nothing but holds.
func (w *Waves) Begin(ctx context.Context, m Move, _ bool) error {
	if err := w.Commit(m); err != nil {
		return err
	}
	try, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	if err := w.calledOff(try, m.Op); err != nil {
		return err
	}
	if m.To == config.Old {
		return nil
	}
	if err := w.takenOut(try, m); err != nil || m.Wave == "" {
		return err
	}
	if open, until := w.window(m.Wave, time.Now()); !open {
		return &Refusal{Why: fmt.Sprintf("wave %s moves in its windows only; the next one opens %s", m.Wave, clock(until)),
			Do: "ask again then; mailgate flip " + m.Wave + " new waits for it by itself"}
	}
	if err := w.ordered(m.Wave); err != nil {
		return err
	}
	return w.gatesPass(ctx, m.Wave, gate.Start)
}

// calledOff tells of a flip whose move was called off before a crash: it must not begin anew.
func (w *Waves) calledOff(ctx context.Context, id string) error {
	by := map[string]cancelled{}
	w.mu.Lock()
	for _, mv := range w.moves {
		if mv.what.Cancel != "" {
			by[mv.op.ID] = mv.what.cancelled()
		}
	}
	w.mu.Unlock()
	if len(by) == 0 || id == "" {
		return nil
	}
	o, err := w.m.store.Operation(ctx, id)
	if err != nil {
		return fmt.Errorf("read %s: %w", id, err)
	}
	if c, ok := by[o.Parent]; ok {
		return c
	}
	return nil
}

// takenOut is the *Refusal of a flip that a move of several asked for though its user was rolled back since that move: by name, while the
// move had not come to him.
func (w *Waves) takenOut(ctx context.Context, m Move) error {
	if m.Op == "" { // nothing was asked for yet
		return nil
	}
	o, err := w.m.store.Operation(ctx, m.Op)
	if err != nil {
		return fmt.Errorf("read %s: %w", m.Op, err)
	}
	if o.Parent == "" {
		return nil
	}
	flips, err := w.m.store.Operations(ctx, op.Filter{Kind: op.Flip, User: m.User})
	if err != nil {
		return fmt.Errorf("read the flips of %s: %w", m.User, err)
	}
	i := slices.IndexFunc(flips, func(c op.Operation) bool {
		return c.Target == config.Old && c.Pin && laterOp(c.ID, o.Parent) && laterOp(o.ID, c.ID)
	})
	if i < 0 {
		return nil
	}
	pins, err := w.m.store.Pins(ctx) // until it is taken away
	if err != nil {
		return fmt.Errorf("read pins: %w", err)
	}
	for _, c := range flips[i:] {
		if slices.ContainsFunc(pins, func(p op.Pin) bool { return p.User == m.User && p.Side == config.Old && p.Reason == c.ID }) && laterOp(c.ID, o.Parent) {
			return &Refusal{Why: fmt.Sprintf("%s rolled him back since (%s)", c.By, c.ID), Do: "to move him nevertheless: mailgate flip " + m.User + " new"}
		}
	}
	return nil
}

// Commit implements Gates: the flag file may have come meanwhile.
func (w *Waves) Commit(Move) error {
	if h, ok := FlagFile(w.o.Config().Flip.HoldFile); ok {
		return HeldBy(h)
	}
	return nil
}

// window tells whether a wave may move now, and until when that is so.
func (w *Waves) window(name string, now time.Time) (open bool, until time.Time) {
	return w.o.Config().Wave(name).Windows.Open(now)
}

// clock words a time that somebody waits for.
func clock(t time.Time) string {
	if t.IsZero() {
		return "at no time that is known"
	}
	return t.Local().Format("Mon 2006-01-02 15:04")
}

// ordered is the *Refusal of a wave that is not its turn yet.
func (w *Waves) ordered(name string) error {
	after := w.o.Config().Wave(name).After
	if after == "" {
		return nil
	}
	row := w.Row(after)
	why, do := "", "mailgate wave show "+after
	switch {
	case !row.Completed.IsZero():
		return nil
	case w.soaks(row) && row.Gate == "":
		return nil
	case w.soaks(row):
		why = fmt.Sprintf("wave %s is held: gate %s fails there since %s (%s)", after, row.Gate, row.GateAt.Local().Format(time.DateTime), row.GateWhy)
	case !row.Flipped.IsZero() || !row.Rolled.IsZero():
		why, do = "wave "+after+" was rolled back", "mailgate flip "+after+" new moves it again"
	default:
		why, do = "wave "+after+" has not moved", "mailgate flip "+after+" new"
	}
	return &Refusal{Why: fmt.Sprintf("wave %s moves after wave %s, and %s", name, after, why), Do: do}
}

// Allowed is the *Refusal of a move of a wave to NEW as things are, nil when it would begin or wait for its window.
func (w *Waves) Allowed(ctx context.Context, name string) error {
	return w.allowed(ctx, name, config.New)
}

// allowed is what stands in the way of moving a wave to NEW, nil when nothing does: holds, its order, its gates; windows are waited for.
func (w *Waves) allowed(ctx context.Context, name string, target config.Side) error {
	if err := w.m.HeldWave(ctx, name); err != nil {
		return err
	}
	if target == config.Old || name == "" {
		return nil
	}
	if err := w.ordered(name); err != nil {
		return err
	}
	return w.gatesPass(ctx, name, gate.Start)
}

// soak looks at waves that have moved, again and again.
func (w *Waves) soak() {
	for {
		t := time.NewTimer(w.o.Every)
		select {
		case <-w.ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		for _, name := range w.Names() {
			if w.ctx.Err() != nil {
				return
			}
			w.look(w.ctx, name)
		}
	}
}

// look notes a wave that was moved without the verb, and asks the gates of one that soaks.
func (w *Waves) look(ctx context.Context, name string) {
	row := w.Row(name)
	o, moving := w.open(name)
	switch {
	case moving && (o.Target == config.Old || !w.soaks(row)): // who is on NEW is watched also while stragglers are moved, or wait for a window
		return
	case !w.soaks(row):
		w.wentBack(ctx, name)
		if !w.bringBack(ctx, name) {
			w.notice(ctx, name)
		}
		return
	}
	list, err := w.judge(ctx, name, gate.Soak)
	if err != nil {
		if ctx.Err() == nil {
			w.o.Log.Warn("the gates of a wave cannot be asked", "wave", name, "err", err)
		}
		return
	}
	failed, why := "", ""
	for _, r := range list {
		if r.Holds && r.Verdict == gate.Fail {
			failed, why = string(r.Gate), r.Why
			break
		}
	}
	switch {
	case failed == row.Gate:
	case failed == "":
		w.save(ctx, name, func(r *op.WaveRow) { r.Gate, r.GateWhy, r.GateAt = "", "", time.Time{} },
			op.Event{User: op.HoldWave(name), What: "wave goes on", Before: row.Gate, By: "gate " + row.Gate})
	default:
		w.o.Log.Warn("a gate holds a wave", "wave", name, "gate", failed, "why", why)
		row = w.save(ctx, name, func(r *op.WaveRow) { r.Gate, r.GateWhy, r.GateAt = failed, why, time.Now() },
			op.Event{User: op.HoldWave(name), What: "wave held by a gate", After: failed, By: "gate " + failed, Detail: why})
	}
	if row.Gate == "" || !w.o.Config().Wave(name).Rollback {
		w.note(name, "")
		return
	}
	by := "gate " + row.Gate
	w.takeBack(ctx, MoveRequest{Wave: name, Target: config.Old, Rollback: true, By: by, From: "serve", Why: "rolled back by " + by + ": " + row.GateWhy, auto: true})
}

// save is update for those who cannot do anything about an error; it gives what is remembered then.
func (w *Waves) save(ctx context.Context, name string, change func(*op.WaveRow), events ...op.Event) op.WaveRow {
	row, err := w.update(ctx, name, func(r *op.WaveRow) (bool, error) { change(r); return true, nil }, events...)
	if err != nil {
		w.o.Log.Warn("a wave cannot be recorded", "wave", name, "err", err)
		return w.Row(name)
	}
	return row
}

// notice begins the soak of a wave whose members were moved one by one, or by an edit of the routes file.
func (w *Waves) notice(ctx context.Context, name string) {
	row := w.Row(name)
	users := w.o.Routes().Members(name)
	if len(users) == 0 || !row.Completed.IsZero() {
		return
	}
	for _, u := range users {
		if _, moving := w.m.headed(u); moving || w.m.sideNow(u) != config.New {
			return
		}
	}
	if row.Rolled.After(row.Flipped) { // a gate would take them back again, which a person has called off
		if last, _, err := w.tries(ctx, name); err != nil || payloadOf(last).isCalledOff() {
			return
		}
	}
	now := time.Now()
	w.save(ctx, name, func(r *op.WaveRow) {
		r.Flipped, r.FlippedBy, r.SoakUntil = now, "its members, one by one", now.Add(w.o.Config().Wave(name).Soak)
	}, op.Event{At: now, User: op.HoldWave(name), What: "wave soaks", By: "serve", Detail: "all its members are on new"})
}
