package cutover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
)

// WavesOptions are what Waves works with. Judge and Changed may be nil.
type WavesOptions struct {
	Config func() *config.Config
	Routes func() *config.RouteFile
	// Edit changes the side in the lines of these users in one write, and takes the file over. On an error nothing was changed.
	Edit func(ctx context.Context, users []string, side config.Side, by, from string) error
	// Judge asks the gates of a wave.
	Judge func(ctx context.Context, wave string, phase gate.Phase) ([]gate.Result, error)
	// Changed is called when other waves are kept in sync than before.
	Changed func()
	Every   time.Duration // between two looks at soaking waves; 0 means a minute
	Log     *slog.Logger
}

// ErrNoWave means that there is no wave of that name.
var ErrNoWave = errors.New("no such wave")

// Waves moves groups of users, watches those that have moved, and remembers what became of them. Its methods are safe for
// concurrent use.
type Waves struct {
	o WavesOptions
	m *Manager

	ctx  context.Context
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	turn   chan struct{} // one change of which moves there are at a time, see enter; before saving
	saving sync.Mutex    // one change of what is remembered at a time; before mu

	mu      sync.Mutex
	rows    map[string]op.WaveRow
	moves   map[string]*moving // open ones, by operation
	working bool
	judged  map[string]judgement // by wave
	since   map[string]told      // by wave and gate: how long it has said so
	refused map[string]string    // by wave: why a gate's rollback could not be asked for

	again chan struct{} // settings have changed: who waits looks again
}

// soakLook is how often soaking waves are looked at.
const soakLook = time.Minute

// NewWaves makes it, so that a Manager can be given it as Gates and Members; Manage gives it the Manager. Load reads what is
// remembered; Start begins its work.
func NewWaves(o WavesOptions) *Waves {
	if o.Every == 0 {
		o.Every = soakLook
	}
	w := &Waves{o: o, rows: map[string]op.WaveRow{}, moves: map[string]*moving{}, judged: map[string]judgement{}, since: map[string]told{},
		refused: map[string]string{}, turn: make(chan struct{}, 1), again: make(chan struct{})}
	w.ctx, w.stop = context.WithCancelCause(context.Background())
	return w
}

// Manage gives it the Manager that flips its users. It comes before anything else.
func (w *Waves) Manage(m *Manager) { w.m = m }

// Load reads what is remembered of waves, and which of them were being moved. It comes before the Manager's Start, and so before the first
// import of a routes file: flips that go on may be parts of a move that was called off, and what the file asks for parts of one that was not.
func (w *Waves) Load(ctx context.Context) error {
	rows, err := w.m.store.Waves(ctx)
	if err != nil {
		return fmt.Errorf("read waves: %w", err)
	}
	open, err := w.m.store.Operations(ctx, op.Filter{Open: true, Kind: op.Wave})
	if err != nil {
		return fmt.Errorf("read operations: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows = map[string]op.WaveRow{}
	for _, r := range rows {
		w.rows[r.Name] = r
	}
	for _, o := range open {
		if w.moves[o.ID] != nil {
			continue
		}
		mv := newMoving(o)
		w.moves[o.ID] = mv
		if o.Step == StepMoving && !mv.what.Rollback {
			w.m.parts.claim(o, mv.what.Users)
		}
	}
	return nil
}

// Start goes on with the moves that a process before left open, and watches soaking waves until Stop.
func (w *Waves) Start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.working || w.ctx.Err() != nil {
		return
	}
	w.working = true
	for _, mv := range w.moves {
		w.begin(mv)
	}
	w.wg.Go(w.soak)
}

// Stop ends the work and waits. Moves that are under way go on at the next start. It comes before that of the manager.
func (w *Waves) Stop() {
	w.mu.Lock()
	w.working = false
	w.mu.Unlock()
	w.stop(ErrStopping)
	w.wg.Wait()
}

// Configure has whoever waits for a window look again.
func (w *Waves) Configure() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.again)
	w.again = make(chan struct{})
	clear(w.judged)
}

// Wave is that of a user, "" when he is in none. It implements Members.
func (w *Waves) Wave(user string) string {
	if r := w.o.Routes().Users[user]; r != nil {
		return r.Wave
	}
	return ""
}

// Means implements Members.
func (w *Waves) Means(user string, to config.Side) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, mv := range w.moves {
		if mv.op.Target == to && mv.what.Cancel == "" && slices.Contains(mv.what.Users, user) {
			return true
		}
	}
	return false
}

// Row is what is remembered of a wave.
func (w *Waves) Row(name string) op.WaveRow {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, ok := w.rows[name]; ok {
		return r
	}
	return op.WaveRow{Name: name}
}

// Kept are the waves whose mailboxes are kept in sync because they were started by a verb, and Completed those whose sync has ended.
func (w *Waves) Kept() []string { return w.named(op.WaveRow.Kept) }

// Completed are the waves that are complete.
func (w *Waves) Completed() []string {
	return w.named(func(r op.WaveRow) bool { return !r.Completed.IsZero() })
}

func (w *Waves) named(is func(op.WaveRow) bool) (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, r := range w.rows {
		if is(r) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Names are all waves that there are: those of the files, and those that are remembered.
func (w *Waves) Names() []string {
	names := w.o.Routes().Waves(w.o.Config())
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(w.rows)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Everybody are the users of the routes file, sorted.
func (w *Waves) Everybody() []string { return slices.Sorted(maps.Keys(w.o.Routes().Users)) }

// Gates are the gates of a wave; of "" those that all have.
func (w *Waves) Gates(name string) []config.Gate { return w.o.Config().Wave(name).Gates.Names() }

// Settings are how a wave moves.
func (w *Waves) Settings(name string) config.Wave { return w.o.Config().Wave(name) }

// Members are the users of a wave, sorted.
func (w *Waves) Members(name string) []string { return w.o.Routes().Members(name) }

// Exists tells whether there is such a wave.
func (w *Waves) Exists(name string) bool { return slices.Contains(w.Names(), name) }

// members are a wave's users; a *Refusal where it has none.
func (w *Waves) members(name string) ([]string, error) {
	users := w.o.Routes().Members(name)
	if len(users) > 0 {
		return users, nil
	}
	if w.Exists(name) {
		return nil, &Refusal{Why: "wave " + name + " has no members", Do: "write wave=" + name + " behind the users that are to be in it in the routes file, and reload"}
	}
	return nil, &Refusal{Why: fmt.Sprintf("there is no wave %q", name), Do: "mailgate wave list shows those that there are", Err: ErrNoWave}
}

// update changes what is remembered of a wave. change returns false when there is nothing to change.
func (w *Waves) update(ctx context.Context, name string, change func(*op.WaveRow) (bool, error), events ...op.Event) (op.WaveRow, error) {
	w.saving.Lock()
	defer w.saving.Unlock()
	for {
		row := w.Row(name)
		changed, err := change(&row)
		if err != nil || !changed {
			return row, err
		}
		ctx, cancel := context.WithTimeout(ctx, tryTime)
		err = w.m.store.SaveWave(ctx, row, events...)
		cancel()
		if errors.Is(err, op.ErrConflict) { // an earlier write that answered an error
			list, rerr := w.m.store.Waves(ctx)
			if rerr != nil {
				return row, fmt.Errorf("read waves: %w", rerr)
			}
			w.mu.Lock()
			for _, r := range list {
				w.rows[r.Name] = r
			}
			w.mu.Unlock()
			continue
		}
		if err != nil {
			return row, fmt.Errorf("record wave %s: %w", name, err)
		}
		row.Generation++
		w.mu.Lock()
		w.rows[name] = row
		w.mu.Unlock()
		return row, nil
	}
}

// Launches tells whether Launch would start a wave, and changes nothing.
func (w *Waves) Launches(name string) (would bool, err error) {
	if _, err := w.members(name); err != nil {
		return false, err
	}
	return !w.Row(name).Kept(), nil
}

// Launch starts a wave: from now on its mailboxes are kept in sync, as if it stood in sync.waves. changed is false when they were.
func (w *Waves) Launch(ctx context.Context, name, by, from string) (changed bool, err error) {
	if would, err := w.Launches(name); !would {
		return false, err
	}
	now := time.Now()
	_, err = w.update(ctx, name, func(r *op.WaveRow) (bool, error) {
		if r.Kept() {
			return false, nil
		}
		changed = true
		r.Started, r.StartedBy, r.Completed, r.CompletedBy = now, by, time.Time{}, ""
		return true, nil
	}, op.Event{At: now, User: op.HoldWave(name), What: "wave started", By: by, From: from})
	if changed && err == nil {
		w.changed()
	}
	return changed && err == nil, err
}

func (w *Waves) changed() {
	if w.o.Changed != nil {
		w.o.Changed()
	}
}

// Completes tells whether Complete would end the wave, and changes nothing; a *Refusal says what is in the way.
func (w *Waves) Completes(ctx context.Context, name string) (would bool, err error) {
	users, err := w.members(name)
	if err != nil || !w.Row(name).Completed.IsZero() {
		return false, err
	}
	if err := w.completable(name, users); err != nil {
		return false, err
	}
	err = w.gatesPass(ctx, name, gate.Soak)
	return err == nil, err
}

// Complete ends the soak of a wave and its sync: rollback is not offered any more.
func (w *Waves) Complete(ctx context.Context, name, by, from string) (changed bool, err error) {
	if would, err := w.Completes(ctx, name); !would {
		return false, err
	}
	users, err := w.members(name)
	if err != nil {
		return false, err
	}
	leave, err := w.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	if err := w.completable(name, users); err != nil { // somebody may have asked for a move meanwhile
		return false, err
	}
	now := time.Now()
	_, err = w.update(ctx, name, func(r *op.WaveRow) (bool, error) {
		changed = r.Completed.IsZero()
		if r.Rolled.After(r.Flipped) { // nothing is left to go back: what a gate had begun is over
			r.Flipped, r.FlippedBy = now, by
		}
		r.Completed, r.CompletedBy, r.Gate, r.GateWhy, r.GateAt = now, by, "", "", time.Time{}
		return changed, nil
	}, op.Event{At: now, User: op.HoldWave(name), What: "wave completed", By: by, From: from})
	if err == nil && changed {
		w.changed()
	}
	return changed && err == nil, err
}

// completable is the *Refusal of the end of a wave that is being moved, or not wholly on NEW.
func (w *Waves) completable(name string, users []string) error {
	if o, ok := w.open(name); ok {
		return underWay(o)
	}
	var notThere []string
	for _, u := range users {
		if w.m.sideNow(u) != config.New {
			notThere = append(notThere, u)
		}
	}
	if len(notThere) > 0 {
		return &Refusal{Why: fmt.Sprintf("%d of %d members of wave %s are not on new: %s", len(notThere), len(users), name, someOf(notThere)),
			Do: "move them (mailgate flip " + name + " new; mailgate unpin USER where one is pinned), or give them another wave in the routes file"}
	}
	return nil
}

// someOf names a few of them.
func someOf(list []string) string {
	const few = 5
	text := ""
	for i, s := range list {
		if i == few {
			return fmt.Sprintf("%s and %d more", text, len(list)-few)
		}
		if i > 0 {
			text += ", "
		}
		text += s
	}
	return text
}

// States of a wave.
const (
	WavePlanned    = "planned"     // nothing was begun
	WaveCopying    = "copying"     // its mailboxes are kept in sync, and some have not had their first copy
	WaveReady      = "ready"       // all of them are in sync
	WaveMoving     = "moving"      // an operation moves its members
	WaveSoaking    = "soaking"     // its members have moved and are watched; it can go back
	WaveRolledBack = "rolled back" // its members went back to OLD
	WaveComplete   = "complete"    // it is over
)

// State is where a wave stands, and since when. copied tells how many of its members have had their first copy, and whether it is
// kept in sync at all.
func (w *Waves) State(name string, kept bool, copied int) (state string, since time.Time) {
	row := w.Row(name)
	if o, ok := w.open(name); ok && o.Step == StepMoving {
		return WaveMoving, o.Created
	}
	switch members := len(w.o.Routes().Members(name)); {
	case !row.Completed.IsZero():
		return WaveComplete, row.Completed
	case w.soaks(row):
		return WaveSoaking, row.Flipped
	case !row.Flipped.IsZero() || !row.Rolled.IsZero():
		return WaveRolledBack, row.Rolled
	case kept && members > 0 && copied >= members:
		return WaveReady, row.Started
	case kept:
		return WaveCopying, row.Started
	}
	return WavePlanned, time.Time{}
}

// soaks tells whether a wave has moved and is watched: some of its members are on NEW still.
func (w *Waves) soaks(row op.WaveRow) bool {
	return row.Soaking() && slices.ContainsFunc(w.o.Routes().Members(row.Name), func(u string) bool { return w.m.sideNow(u) == config.New })
}

// openMove is the move of a wave that is under way, the newest of them; nil when there is none.
func (w *Waves) openMove(name string) (last *moving) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, mv := range w.moves {
		if mv.op.Wave == name && name != "" && (last == nil || mv.op.Created.After(last.op.Created)) {
			last = mv
		}
	}
	return last
}

// open is its operation.
func (w *Waves) open(name string) (op.Operation, bool) {
	mv := w.openMove(name)
	if mv == nil {
		return op.Operation{}, false
	}
	o, _ := w.of(mv)
	return o, true
}

// Open is the move of a wave that is under way.
func (w *Waves) Open(name string) (op.Operation, bool) { return w.open(name) }
