package cutover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// StepMoving is the step of a move of several whose members' flips are asked for. Before it nothing is different.
const StepMoving = "MOVING"

// MoveRequest asks for a move of several users: of a wave, or of a list.
type MoveRequest struct {
	Wave     string
	Users    []string // of a list; of a wave they stand in the routes file
	All      bool     // Users are everybody: nobody was picked out
	Target   config.Side
	Rollback bool // back to OLD whatever the routes file says: leaves pins, waits for nothing but holds
	Now      bool // see op.Operation
	By       string
	From     string
	Plan     string // what who asked was shown
	Why      string // for the history

	auto  bool     // nobody has asked: a gate takes a wave back, and goes on until all are back, see Owed
	first string   // the operation that it goes on with
	only  []string // those of the wave who are meant; nil means all

	called map[string]bool // whose flips to NEW were called off for this
}

// payload is what a move of several remembers beside its operation.
type payload struct {
	Users      []string `json:"users"`
	Rollback   bool     `json:"rollback,omitempty"`
	Cancel     string   `json:"cancel,omitempty"`      // who called it off
	CancelFrom string   `json:"cancel_from,omitempty"` // and where from
	Instead    bool     `json:"instead,omitempty"`     // for another move, of some of its users
	Done       *int64   `json:"done,omitempty"`        // how many were there at the end
	Anyway     []string `json:"anyway,omitempty"`      // those who are asked for although they are there: see takenBack
	Why        string   `json:"why,omitempty"`
	Auto       bool     `json:"auto,omitempty"`  // see MoveRequest
	First      string   `json:"first,omitempty"` // the same
	All        bool     `json:"all,omitempty"`   // the same
	Stay       []stay   `json:"stay,omitempty"`  // those that were left out when it was asked for

	Paused time.Time `json:"paused,omitzero"` // when the end of a window has last left somebody behind
	Moved  int       `json:"moved,omitempty"` // how many had moved by then
}

// stay is somebody who is left out of a move that would mean him.
type stay struct {
	User string `json:"user"`
	Why  string `json:"why"`
}

// cancelled is why a move that was called off ends.
func (what payload) cancelled() cancelled { return cancelled{what.Cancel, what.CancelFrom} }

// payloadOf is what the store has of a move.
func payloadOf(o op.Operation) (what payload) {
	_ = json.Unmarshal([]byte(o.Payload), &what)
	return what
}

// moving is a move that is under way.
type moving struct {
	op      op.Operation // Waves.mu guards it
	what    payload      // and this
	cancel  context.CancelCauseFunc
	ctx     context.Context
	writing sync.Mutex // one record at a time; before Waves.mu

	sealed chan struct{} // closed when no flip will be asked for any more
	ended  chan struct{}
	seal   func()
}

func newMoving(o op.Operation) *moving {
	mv := &moving{op: o, what: payloadOf(o), sealed: make(chan struct{}), ended: make(chan struct{})}
	mv.seal = sync.OnceFunc(func() { close(mv.sealed) })
	return mv
}

// MovePlan is what a move of several would do now.
type MovePlan struct {
	Wave   string      `json:"wave,omitempty"`
	Target config.Side `json:"target"`
	Users  []string    `json:"users"`            // who would be moved
	There  []string    `json:"there,omitempty"`  // who is there already
	Pinned []op.Pin    `json:"pinned,omitempty"` // who stays, since that was decided for him alone
	// Complete are those of a rollback whose waves are complete: they stay.
	Complete []string  `json:"complete,omitempty"`
	Held     []op.Hold `json:"held,omitempty"`  // holds of single users among them
	Waits    string    `json:"waits,omitempty"` // for which window
	Opens    time.Time `json:"opens,omitzero"`  // when that is
	// CallsOff are the moves that a rollback would call off.
	CallsOff []string `json:"calls_off,omitempty"`
	Why      string   `json:"refused,omitempty"`
	Do       string   `json:"do,omitempty"`

	anyway []string // of Users
}

// Plan tells what a move would do. That it would be refused is no error.
func (w *Waves) Plan(ctx context.Context, r MoveRequest) (MovePlan, error) {
	p, err := w.plan(ctx, r)
	if err != nil {
		return p, err
	}
	err = p.refuse(w.refusal(ctx, r))
	if p.Why != "" {
		p.CallsOff = nil
	}
	return p, err
}

// plan is Plan but for what stands in the way.
func (w *Waves) plan(ctx context.Context, r MoveRequest) (MovePlan, error) {
	p := MovePlan{Wave: r.Wave, Target: r.Target, Users: []string{}}
	users := slices.Clone(r.Users)
	if r.Wave != "" {
		var err error
		if users, err = w.members(r.Wave); err != nil {
			return p, err
		}
	}
	if r.only != nil {
		users = slices.DeleteFunc(slices.Clone(users), func(u string) bool { return !slices.Contains(r.only, u) })
	}
	pinned, err := w.pinned(ctx, r)
	if err != nil {
		return p, err
	}
	again, err := w.takenBack(ctx, r, users)
	if err != nil {
		return p, err
	}
	if r.Rollback {
		w.mu.Lock()
		for _, mv := range w.against(r) {
			if mv.what.Cancel == "" {
				p.CallsOff = append(p.CallsOff, mv.op.ID)
			}
		}
		w.mu.Unlock()
		slices.Sort(p.CallsOff)
	}
	slices.Sort(users)
	for _, u := range slices.Compact(users) {
		going, moving := w.m.headed(u)
		pin, stays := pinned[u]
		switch side := w.m.sideNow(u); {
		case r.Rollback && r.Wave == "" && w.Reversible(u) != nil:
			p.Complete = append(p.Complete, u)
		case side == r.Target && (!moving || going == r.Target) && (again[u] || w.pickedOut(r, u)):
			p.Users, p.anyway = append(p.Users, u), append(p.anyway, u)
		case side == r.Target && (!moving || going == r.Target):
			p.There = append(p.There, u)
		case stays:
			p.Pinned = append(p.Pinned, pin)
		default:
			p.Users = append(p.Users, u)
		}
	}
	holds, err := w.m.Holds(ctx)
	if err != nil {
		return p, err
	}
	for _, h := range holds {
		if slices.ContainsFunc(p.Users, func(u string) bool { return h.Scope == op.HoldUser(u) }) {
			p.Held = append(p.Held, h)
		}
	}
	if r.Wave != "" && r.Target == config.New && len(p.Users) > 0 {
		if open, until := w.window(r.Wave, time.Now()); !open {
			p.Waits, p.Opens = "it waits for its window, which opens "+clock(until), until
		}
	}
	return p, nil
}

// pickedOut tells whether a list that goes back means a user who is on OLD all the same: another move has not come to him, or was on its way
// with him. He gets a pin.
func (w *Waves) pickedOut(r MoveRequest, user string) bool {
	return r.Rollback && r.Wave == "" && !r.All && (r.called[user] || w.Means(user, r.Target.Other()))
}

// refuse notes a refusal in the plan; any other error comes back.
func (p *MovePlan) refuse(err error) error {
	var no *Refusal
	if errors.As(err, &no) {
		p.Why, p.Do = no.Why, no.Do
		return nil
	}
	return err
}

// refusal is what stands in the way of a request as a whole. Gates may take their time to answer.
func (w *Waves) refusal(ctx context.Context, r MoveRequest) error {
	if err := w.standing(r); err != nil {
		return err
	}
	return w.allowed(ctx, r.Wave, r.Target)
}

// standing is that part of it which is known at once: waves that are complete, and what is under way.
func (w *Waves) standing(r MoveRequest) error {
	if row := w.Row(r.Wave); r.Target == config.Old && r.Wave != "" && !row.Completed.IsZero() {
		return completeRefusal(row)
	}
	if r.Rollback && r.Wave == "" { // those of complete waves are left out
		var why error
		for _, u := range r.Users {
			if why = w.Reversible(u); why == nil {
				break
			}
		}
		if why != nil {
			return why
		}
	}
	if o, ok := w.open(r.Wave); ok && !r.Rollback {
		return underWay(o)
	}
	return nil
}

// underWay says that a wave is being moved already.
func underWay(o op.Operation) *Refusal {
	why := fmt.Sprintf("wave %s is being moved to %s by %s", o.Wave, o.Target, o.ID)
	if o.Status == op.Waiting {
		why = fmt.Sprintf("wave %s is to be moved to %s already, by %s: %s", o.Wave, o.Target, o.ID, o.Reason)
	}
	return &Refusal{Why: why + " (asked for by " + o.By + ")", Do: "mailgate op wait " + o.ID + ", or mailgate op cancel " + o.ID}
}

// completeRefusal says why a wave that is complete does not go back.
func completeRefusal(row op.WaveRow) error {
	return &Refusal{Why: fmt.Sprintf("wave %s is complete since %s: its mailboxes on old are not kept in sync any more, so what came since would be missing there",
		row.Name, row.Completed.Local().Format(time.DateTime)),
		Do: "mailgate wave start " + row.Name + " brings them together again; when it is soaking with little lag, ask again"}
}

// Reversible is the *Refusal of a rollback of one user whose wave is complete, nil where nothing stands in the way.
func (w *Waves) Reversible(user string) error {
	if row := w.Row(w.Wave(user)); row.Name != "" && !row.Completed.IsZero() {
		return completeRefusal(row)
	}
	return nil
}

// pinned are the users of a request who stay where a person put them: alone, or in a list. What the rollback of a whole wave left is no such
// pin, nor that of everybody: nobody was picked out, and the wave may move again.
func (w *Waves) pinned(ctx context.Context, r MoveRequest) (map[string]op.Pin, error) {
	if r.Target == config.Old || r.Wave == "" {
		return nil, nil
	}
	return w.OwnPins(ctx, r.Wave)
}

// OwnPins are the pins of a wave's members that keep them on OLD when the wave moves, by user.
func (w *Waves) OwnPins(ctx context.Context, wave string) (map[string]op.Pin, error) {
	pins, err := w.m.store.Pins(ctx)
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	out, whole := map[string]op.Pin{}, map[string]bool{}
	for _, pin := range pins {
		if pin.Side == config.New || w.Wave(pin.User) != wave {
			continue
		}
		o, err := w.m.store.Operation(ctx, pin.Reason)
		if errors.Is(err, op.ErrUnavailable) {
			return nil, fmt.Errorf("read %s: %w", pin.Reason, err)
		}
		if _, known := whole[o.Parent]; !known && o.Parent != "" {
			parent, err := w.m.store.Operation(ctx, o.Parent)
			if errors.Is(err, op.ErrUnavailable) {
				return nil, fmt.Errorf("read %s: %w", o.Parent, err)
			}
			whole[o.Parent] = parent.Wave != "" || payloadOf(parent).All
		}
		if !whole[o.Parent] {
			out[pin.User] = pin
		}
	}
	return out, nil
}

// Move asks for a move of several users. It is one operation, whose parts are the flips. A *Refusal changes nothing. Requests take turns, so
// that of two for one wave the second finds the first: a flip is refused then, a rollback calls a flip off, and joins a rollback.
func (w *Waves) Move(ctx context.Context, r MoveRequest) (op.Operation, error) {
	if err := w.m.isWorking(); err != nil {
		return op.Operation{}, err
	}
	if o, ok, err := w.joins(ctx, r); ok || err != nil {
		return o, err
	}
	if err := w.refusal(ctx, r); err != nil { // ahead of the turn: a rollback must not wait for the gates of a flip
		return op.Operation{}, err
	}
	leave, err := w.enter(ctx)
	if err != nil {
		return op.Operation{}, err
	}
	defer leave()
	if o, ok, err := w.joins(ctx, r); ok || err != nil {
		return o, err
	}
	if err := w.standing(r); err != nil {
		return op.Operation{}, err
	}
	if r.Rollback {
		other, meant, err := w.callOff(ctx, r)
		if err != nil {
			return op.Operation{}, err
		}
		called, err := w.callOffFlips(ctx, r)
		if err != nil {
			return op.Operation{}, err
		}
		if r.Wave == "" && !r.All {
			r.called = setOf(append(meant, called...))
		}
		if !r.auto && other != "" { // rollback --now in the place of a gate's
			r.auto, r.first = true, other
		}
	}
	p, err := w.plan(ctx, r)
	if err != nil {
		return op.Operation{}, err
	}
	o, e, err := w.newMove(r, p)
	if err != nil {
		return o, err
	}
	if o, err = w.record(ctx, o, e); err != nil {
		return o, err
	}
	mv := newMoving(o)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moves[o.ID] = mv
	if w.working {
		w.begin(mv)
	}
	return o, nil
}

// joins gives the rollback that is under way already and does all that is asked for.
func (w *Waves) joins(ctx context.Context, r MoveRequest) (o op.Operation, ok bool, err error) {
	if !r.Rollback || r.Wave == "" {
		return o, false, nil
	}
	mv := w.openMove(r.Wave)
	if mv == nil {
		return o, false, nil
	}
	o, what := w.of(mv)
	if o.Target != r.Target || r.Now && !o.Now || what.Cancel != "" {
		return o, false, nil
	}
	p, err := w.plan(ctx, r)
	return o, err == nil && !slices.ContainsFunc(p.Users, func(u string) bool { return !slices.Contains(what.Users, u) }), err
}

// enter waits for the turn to change which moves there are; leave ends it.
func (w *Waves) enter(ctx context.Context) (leave func(), err error) {
	select {
	case w.turn <- struct{}{}:
		return func() { <-w.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-w.ctx.Done():
		return nil, ErrStopping
	}
}

// newMove is the operation of a request, and the line of the history that tells of it.
func (w *Waves) newMove(r MoveRequest, p MovePlan) (o op.Operation, e op.Event, err error) {
	o = op.Operation{Kind: op.Wave, Wave: r.Wave, Target: r.Target, Status: op.Accepted, By: r.By, From: r.From, Plan: r.Plan, Pin: r.Rollback, Now: r.Now,
		Created: time.Now()}
	o.Changed = o.Created
	if r.Rollback || r.Wave == "" || r.Target == config.Old {
		o.Step = StepMoving // it waits for nothing
	}
	what := payload{Users: p.Users, Rollback: r.Rollback, Why: r.Why, All: r.All, Auto: r.auto, First: r.first, Anyway: p.anyway}
	for _, pin := range p.Pinned {
		what.Stay = append(what.Stay, stay{pin.User, "pinned on " + pin.Side.String() + " by " + pin.By})
	}
	for _, u := range p.Complete {
		what.Stay = append(what.Stay, stay{u, "wave " + w.Wave(u) + " is complete"})
	}
	text, err := json.Marshal(what)
	if err != nil {
		return o, e, err
	}
	o.Payload = string(text)
	e = op.Event{At: o.Created, User: subject(r.Wave), What: "move requested", After: r.Target.String(), By: r.By, From: r.From, Plan: r.Plan,
		Detail: strings.TrimSuffix(fmt.Sprintf("%d users; %s", len(p.Users), staying(what.Stay)), "; ")}
	if r.Rollback {
		e.What = "rollback requested"
		if r.Why != "" {
			e.Detail += "; " + r.Why
		}
	}
	return o, e, nil
}

// record writes a new operation. One that was written although the store answered an error must not be carried out by a later start:
// who asked is told that it failed.
func (w *Waves) record(ctx context.Context, o op.Operation, e op.Event) (op.Operation, error) {
	try, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	made, err := w.m.store.NewOperation(try, o, e)
	if err == nil {
		return made, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() == nil {
		w.wg.Go(func() {
			_ = retry(w.ctx, func(ctx context.Context) error { return w.sweep(ctx, o.Created) })
		})
	}
	return o, fmt.Errorf("record request: %w", err)
}

// sweep ends a move that was asked for at a time and that nobody has.
func (w *Waves) sweep(ctx context.Context, created time.Time) error {
	open, err := w.m.store.Operations(ctx, op.Filter{Open: true, Kind: op.Wave})
	if err != nil {
		return err
	}
	for _, o := range open {
		w.mu.Lock()
		ours := w.moves[o.ID] != nil
		w.mu.Unlock()
		if ours || !o.Created.Equal(created) {
			continue
		}
		o.Status, o.Reason, o.Changed = op.Failed, strayReason, time.Now()
		if err := w.m.store.SaveOperation(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// subject is whom a move's events are about.
func subject(wave string) string {
	if wave == "" {
		return ""
	}
	return op.HoldWave(wave)
}

// callOff ends what moves the same users, and no others, to the other side, or to this one by a way that needs NEW when they are to go back at once, and
// returns when it asks for no more flips: those that it has asked for are called off by themselves, or go back behind their commit. auto is a
// rollback by a gate among them, the first of its tries, and called are whom moves to the other side meant.
func (w *Waves) callOff(ctx context.Context, r MoveRequest) (auto string, called []string, err error) {
	w.mu.Lock()
	others := w.against(r)
	for _, mv := range others {
		if mv.op.Target == r.Target && mv.op.Wave == r.Wave && mv.what.Auto {
			auto = cmp.Or(mv.what.First, mv.op.ID)
		}
		if mv.op.Target != r.Target {
			called = append(called, mv.what.Users...)
		}
	}
	working := w.working
	w.mu.Unlock()
	for _, mv := range others {
		if err := w.cancelMove(ctx, mv, r.By, r.From, true); err != nil && !errors.Is(err, ErrFinal) {
			return "", nil, err
		}
		if !working {
			continue
		}
		select {
		case <-mv.sealed:
		case <-ctx.Done():
			return "", nil, context.Cause(ctx)
		case <-w.ctx.Done():
			return "", nil, ErrStopping
		}
	}
	return auto, called, nil
}

// against are the moves under way that a rollback calls off: those of the same wave, those that mean nobody who is not in the list, and any
// that means somebody where all go back; mu is held.
func (w *Waves) against(r MoveRequest) (out []*moving) {
	in := setOf(r.Users)
	for _, mv := range w.moves {
		if mv.op.Target == r.Target && (!r.Now || mv.op.Now) {
			continue
		}
		n := 0
		for _, u := range mv.what.Users {
			if in[u] {
				n++
			}
		}
		if r.Wave != "" && mv.op.Wave == r.Wave || n > 0 && (r.All || n == len(mv.what.Users)) {
			out = append(out, mv)
		}
	}
	return out
}

func setOf(list []string) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, s := range list {
		out[s] = true
	}
	return out
}

// callOffFlips ends flips to NEW of users who go back, whoever has asked for them, and those to OLD that need NEW where they are to go back at
// once. A move that means others too goes on for those. called are whose flips were ended.
func (w *Waves) callOffFlips(ctx context.Context, r MoveRequest) (called []string, err error) {
	open, err := w.m.store.Operations(ctx, op.Filter{Open: true, Kind: op.Flip})
	if err != nil {
		return nil, fmt.Errorf("read operations: %w", err)
	}
	in := setOf(r.Users)
	for _, o := range open {
		if o.Target == config.Old && (!r.Now || o.Now) || r.Wave != "" && w.Wave(o.User) != r.Wave || r.Wave == "" && !in[o.User] {
			continue
		}
		switch err := w.m.Cancel(ctx, o.ID, r.By, r.From); {
		case err == nil:
			called = append(called, o.User)
		case !errors.Is(err, ErrFinal) && !errors.Is(err, op.ErrNotFound):
			return nil, err
		}
	}
	return called, nil
}

// Cancel ends a move: flips that are not committed are called off, the others stay. known is false when it is no move that is under way.
func (w *Waves) Cancel(ctx context.Context, id, by, from string) (known bool, err error) {
	w.mu.Lock()
	mv := w.moves[id]
	w.mu.Unlock()
	if mv == nil {
		return false, nil
	}
	return true, w.cancelMove(ctx, mv, by, from, false)
}

func (w *Waves) cancelMove(ctx context.Context, mv *moving, by, from string, instead bool) error {
	err := w.keep(ctx, mv, func(o *op.Operation, what *payload) error { // recorded first: a crash must not make it go on
		if o.Status.Final() {
			return fmt.Errorf("%s is %s: %w", o.ID, o.Status, ErrFinal)
		}
		if what.Cancel == "" {
			what.Cancel, what.CancelFrom, what.Instead = by, from, instead
		}
		what.Instead = what.Instead && instead
		return nil
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if mv.cancel != nil {
		mv.cancel(mv.what.cancelled())
	}
	return nil
}

// keep changes how a move stands, and records it. change must not block.
func (w *Waves) keep(ctx context.Context, mv *moving, change func(*op.Operation, *payload) error, events ...op.Event) error {
	mv.writing.Lock()
	defer mv.writing.Unlock()
	o, what := w.of(mv)
	if err := change(&o, &what); err != nil {
		return err
	}
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	o.Payload, o.Changed = string(text), time.Now()
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	if err := w.m.store.SaveOperation(ctx, o, events...); err != nil {
		return fmt.Errorf("record %s: %w", o.ID, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	mv.op, mv.what = o, what
	return nil
}

// of is how a move stands.
func (w *Waves) of(mv *moving) (op.Operation, payload) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return mv.op, mv.what
}

// Counts are the open moves, by status.
func (w *Waves) Counts() map[op.Status]int {
	out := map[op.Status]int{op.Accepted: 0, op.Waiting: 0, op.Running: 0}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, mv := range w.moves {
		out[mv.op.Status]++
	}
	return out
}

// Idle waits until no move is under way; one that waits for its window, and what is not worked on at all, counts as none.
func (w *Waves) Idle(ctx context.Context) error {
	for {
		w.mu.Lock()
		var ended chan struct{}
		for _, mv := range w.moves {
			if w.working && mv.op.Status != op.Waiting { // that may be for days
				ended = mv.ended
			}
		}
		w.mu.Unlock()
		if ended == nil {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.ctx.Done():
			return ErrStopping
		}
	}
}

// Live adds to a move from the store how far it is, also to one that has ended. That it has ended is told when nothing is in the way of the next one
// any more: the record of that comes a moment earlier.
func (w *Waves) Live(ctx context.Context, o op.Operation) op.Operation {
	w.mu.Lock()
	mv := w.moves[o.ID]
	w.mu.Unlock()
	if mv != nil && o.Status.Final() {
		t := time.NewTimer(tryTime)
		select {
		case <-mv.ended:
		case <-t.C:
		case <-ctx.Done():
		case <-w.ctx.Done():
		}
		t.Stop()
	}
	what := payloadOf(o)
	o.Unit, o.Total = "users", int64(len(what.Users))
	children, err := w.m.store.Operations(ctx, op.Filter{Parent: o.ID})
	if err != nil {
		return o
	}
	s := tally(what.Users, children, nil)
	if o.Done = int64(len(s.moved)); what.Done != nil {
		o.Done = *what.Done
	}
	if !o.Status.Final() && o.Step == StepMoving && o.Reason == "" {
		o.Reason = fmt.Sprintf("%d of %d users moved", o.Done, o.Total)
		if len(s.left) > 0 {
			o.Reason += fmt.Sprintf(", %d did not", len(s.left))
		}
	}
	return o
}
