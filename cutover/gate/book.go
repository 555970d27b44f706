package gate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Member is a user whose wave is judged.
type Member struct {
	User  string
	Side  config.Side
	Since time.Time // of his last flip; zero when there was none
}

// Wave is one that is looked at now and then.
type Wave struct {
	config.Wave
	Members []Member
}

// Status is how the gates of a wave stood at the last look.
type Status struct {
	Wave     string             `json:"wave"`
	At       time.Time          `json:"at"`
	Phase    Phase              `json:"phase"`
	Results  []Result           `json:"results"`
	Baseline map[string]float64 `json:"baseline"` // share before the flip, by signal, see BaselineSignals
}

// BaselineSignals are the shares that are measured by what they were before.
func BaselineSignals() []string {
	return []string{"login_failures", "backend_errors", "refused_submissions"}
}

// Options are what a Book works with. Store, Log, Node and Listed must be set. What is asked must not block for long.
type Options struct {
	Store  Store
	Log    *slog.Logger
	Node   string                 // name of this node
	Listed func(user string) bool // whether the routes file has a line of him; must not block
	Now    func() time.Time       // nil means time.Now
	// Waves are those to look at now and then, with their members; nil means none.
	Waves func(ctx context.Context) []Wave
	// Lag is the age of the oldest change of a user that is not carried to the other side yet; an error says why it is not known. nil
	// means that nothing is known.
	Lag func(user string) (time.Duration, error)
	// Side is where the fronts send a user now; needed for Leaves only, and must not block.
	Side func(user string) config.Side
	// Verified is how both sides of a user were last compared; ok is false when they never were. nil means that this is not known.
	Verified func(ctx context.Context, user string) (c Compared, ok bool, err error)
	// Regressed are the users whom NEW refuses with a password that worked on OLD; nil means that nothing is known.
	Regressed func(ctx context.Context) (map[string]bool, error)
	// Gather asks the other nodes what they have counted, each time that gates are judged; nil means that there is one.
	Gather Gather
	// Ask runs commands; nil means RunCommand.
	Ask Asker
}

// Book counts what happens to users, remembers what it was before their flips, and judges waves by it. It is safe for concurrent use.
type Book struct {
	*Signals
	o       Options
	now     func() time.Time
	wake    chan struct{} // something waits to be written
	asked   answers
	writing sync.Mutex // one write of signals at a time: rows of the same day must come in order

	gathered gathering

	mu        sync.Mutex
	baselines map[string]Baseline
	unwritten map[string]Baseline
	rough     map[string]rough // recorded at the flip, without what other nodes have counted since they were last asked
	loaded    bool
	waivers   []Waiver  // as last read
	read      time.Time // when the store was last read
	last      map[string]Status
}

// Times of a Book.
const (
	week       = 7 * 24 * time.Hour
	gather     = time.Second      // from the first thing that waits to be written until it is
	again      = 10 * time.Second // until what the store did not take is tried again
	flushEvery = 5 * time.Minute  // for signals: what a crash forgets
	lookEvery  = 30 * time.Second
	lastWrite  = 3 * time.Second
)

// New makes a Book. Load reads what it knew, Run keeps it.
func New(o Options) *Book {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Ask == nil {
		o.Ask = RunCommand
	}
	return &Book{Signals: NewSignals(o.Listed, o.Now), o: o, now: o.Now, wake: make(chan struct{}, 1), asked: answers{kept: map[question]*answer{}},
		baselines: map[string]Baseline{}, unwritten: map[string]Baseline{}, rough: map[string]rough{}, last: map[string]Status{}}
}

// Load reads what was counted, recorded and waived before. Call it once, before users come.
func (b *Book) Load(ctx context.Context) error {
	now := b.now()
	if _, err := b.o.Store.ForgetSignals(ctx, now.Add(-horizon-24*time.Hour)); err != nil {
		return fmt.Errorf("signals: %w", err)
	}
	err := b.o.Store.Signals(ctx, now.Add(-horizon), func(r Row) error {
		b.restore(r, r.Node == b.o.Node)
		return nil
	})
	if err != nil {
		return fmt.Errorf("signals: %w", err)
	}
	if err := b.refresh(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loaded = true
	return nil
}

// Loaded tells whether Load is through: what is told to other nodes before would lack what was counted before.
func (b *Book) Loaded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.loaded
}

// refresh reads what other nodes may have recorded.
func (b *Book) refresh(ctx context.Context) error {
	bases, err := b.o.Store.Baselines(ctx)
	if err != nil {
		return fmt.Errorf("baselines: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read = b.now()
	for _, x := range bases {
		if x.At.After(b.baselines[x.User].At) {
			b.baselines[x.User] = x
		}
	}
	return nil
}

// Moved notes that a flip was committed: what the user met on the side that he left is recorded as his baseline, if that is OLD, and the
// counting on the other side begins anew. It does not block; Run writes, and asks the other nodes first. Call it on the node that has made the flip, and ForgetHere on others.
func (b *Book) Moved(user string, to config.Side, at time.Time) {
	b.mu.Lock()
	delete(b.rough, user)
	if to == config.New && b.o.Gather != nil {
		b.rough[user] = rough{at, b.baselines[user]}
	}
	b.mu.Unlock()
	if to == config.New {
		b.record(b.before(user, at, b.now()))
	}
	b.Forget(user, to)
}

// before is what a user met on OLD up to a time at which he left it. Where he had gone back there for a stay that is too short to tell as much, what he
// met in the stay before counts too: a wave that was rolled back and moves again the next day has the same measure.
func (b *Book) before(user string, at, until time.Time) Baseline {
	b.mu.Lock()
	earlier := b.baselines[user]
	b.mu.Unlock()
	return b.behind(earlier, user, at, until)
}

// behind is before by what was recorded at the move before, zero when there was none.
func (b *Book) behind(earlier Baseline, user string, at, until time.Time) Baseline {
	x := Baseline{User: user, At: at, Week: b.Since(user, config.Old, until.Add(-week)), Day: b.Since(user, config.Old, until.Add(-24*time.Hour))}
	fewer := x.Week.Logins().Samples < earlier.Week.Logins().Samples || x.Week.Mail().Samples < earlier.Week.Mail().Samples
	if fewer && earlier.At.Before(at) && at.Sub(earlier.At) < keptFor {
		x.Week = x.Week.Add(earlier.Week)
	}
	return x
}

// keptFor is how old a baseline may be that counts for another move.
const keptFor = 4 * week

// Leaves is Moved to the other side. Call it when the commit is recorded and the user still fenced: none of his sessions runs, and those that
// wait go on behind it.
func (b *Book) Leaves(user string) { b.Moved(user, b.o.Side(user).Other(), b.now()) }

func (b *Book) record(x Baseline) {
	b.mu.Lock()
	b.baselines[x.User], b.unwritten[x.User] = x, x
	b.mu.Unlock()
	b.rouse()
}

func (b *Book) rouse() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// Run writes what is to be kept and looks at the waves, until ctx ends; what is left is written then.
func (b *Book) Run(ctx context.Context) {
	flush, look := time.NewTicker(flushEvery), time.NewTicker(lookEvery)
	defer flush.Stop()
	defer look.Stop()
	var later <-chan time.Time
	failed := false
	report := func(err error) {
		if err != nil && !failed && ctx.Err() == nil {
			b.o.Log.Warn("what gates are judged by is not recorded yet; it is tried again", "err", err)
		}
		failed = err != nil
	}
	b.look(ctx)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			if err := b.Save(last); err != nil {
				b.o.Log.Warn("what gates are judged by is not recorded", "err", err)
			}
			cancel()
			return
		case <-b.wake:
			if later == nil {
				later = time.After(gather)
			}
		case <-later:
			later = nil
			if at := b.unripe(); !at.IsZero() {
				not, asked := b.gatherAll(ctx, at)
				b.refine(ctx, not, asked)
			}
			if report(b.write(ctx)); failed {
				later = time.After(again)
			}
		case <-flush.C:
			b.prune()
			report(b.Flush(ctx))
		case <-look.C:
			b.look(ctx)
		}
	}
}

// Flush writes the signals of days that have changed.
func (b *Book) Flush(ctx context.Context) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	rows := b.rows(b.o.Node)
	if len(rows) == 0 {
		return nil
	}
	if err := b.o.Store.SaveSignals(ctx, rows); err != nil {
		b.putBack(rows)
		return fmt.Errorf("signals: %w", err)
	}
	return nil
}

// write writes baselines.
func (b *Book) write(ctx context.Context) error {
	b.mu.Lock()
	waits := b.unwritten
	b.unwritten = map[string]Baseline{}
	b.mu.Unlock()
	if len(waits) == 0 {
		return nil
	}
	list := slices.SortedFunc(maps.Values(waits), func(x, y Baseline) int { return cmp.Compare(x.User, y.User) })
	err := b.o.Store.SaveBaselines(ctx, list)
	if err == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for user, x := range waits {
		if _, newer := b.unwritten[user]; !newer { // recorded meanwhile
			b.unwritten[user] = x
		}
	}
	return fmt.Errorf("baselines: %w", err)
}

// Save writes what Run would have written.
func (b *Book) Save(ctx context.Context) error { return errors.Join(b.write(ctx), b.Flush(ctx)) }

// look judges all waves, for metrics and whoever asks for the last answer.
func (b *Book) look(ctx context.Context) {
	if b.o.Waves == nil {
		return
	}
	seen := map[string]bool{}
	for _, w := range b.o.Waves(ctx) {
		if ctx.Err() != nil {
			return
		}
		seen[w.Name] = true
		b.mu.Lock()
		fresh := b.now().Sub(b.last[w.Name].At) < lookEvery-time.Second // somebody has asked, in a phase that he knows better
		b.mu.Unlock()
		if fresh {
			continue
		}
		b.Judge(ctx, PhaseOf(w.Members), w.Wave, w.Members)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.last, func(name string, _ Status) bool { return !seen[name] })
}

// PhaseOf is Soak where all have moved.
func PhaseOf(members []Member) Phase {
	if len(members) == 0 || slices.ContainsFunc(members, func(m Member) bool { return m.Side == config.Old }) {
		return Start
	}
	return Soak
}

// Last is how the gates of waves stood at the last look or question, by wave.
func (b *Book) Last() []Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Values(b.last), func(x, y Status) int { return cmp.Compare(x.Wave, y.Wave) })
}

// Judge judges the gates of a wave by what is known now; commands are asked, if that was not done a moment ago. What cannot be found out
// is unknown. It may take as long as the longest command may.
func (b *Book) Judge(ctx context.Context, phase Phase, w config.Wave, members []Member) []Result {
	e := b.Evidence(ctx, w, members)
	out := Judge(phase, w.Gates, e, b.currentWaivers(ctx), []string{op.HoldWave(w.Name)}, b.now())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last[w.Name] = Status{Wave: w.Name, At: b.now(), Phase: phase, Results: out, Baseline: map[string]float64{
		"login_failures": e.Before.Logins().Ratio(), "backend_errors": e.Before.Backend().Ratio(), "refused_submissions": e.Before.Mail().Ratio()}}
	return out
}

// JudgeUser judges the gates of a single user; his waivers count beside those of his wave.
func (b *Book) JudgeUser(ctx context.Context, phase Phase, w config.Wave, m Member) []Result {
	e := b.Evidence(ctx, w, []Member{m})
	return Judge(phase, w.Gates, e, b.currentWaivers(ctx), []string{op.HoldWave(w.Name), op.HoldUser(m.User)}, b.now())
}

// Evidence is what is known of some users of a wave.
func (b *Book) Evidence(ctx context.Context, w config.Wave, members []Member) Evidence {
	e := Evidence{Users: len(members)}
	var first time.Time
	for _, m := range members {
		if m.Side == config.New {
			e.Moved++
			if first.IsZero() || !m.Since.IsZero() && m.Since.Before(first) {
				first = m.Since
			}
		}
	}
	var asked time.Time
	e.Untold, asked = b.gatherAll(ctx, b.now().Add(-gatherFresh))
	b.refine(ctx, e.Untold, asked)
	b.catchUp(ctx, members)
	for _, m := range members {
		switch {
		case m.Side == config.New:
			e.After, e.Recent = e.After.Add(b.Since(m.User, config.New, m.Since)), e.Recent.Add(b.Recent(m.User, config.New))
			if base, ok := b.baseline(m, e.Untold == ""); ok {
				e.Before = e.Before.Add(base.Week)
			} else {
				e.Unrecorded = append(e.Unrecorded, m.User)
			}
		case e.Moved == 0:
			e.Before = e.Before.Add(b.Since(m.User, config.Old, b.now().Add(-week)))
		}
		if b.o.Verified == nil {
			e.VerifiedWhy = "comparisons are not recorded"
		} else if c, ok, err := b.o.Verified(ctx, m.User); err != nil {
			e.VerifiedWhy = "comparisons cannot be read: " + err.Error()
		} else if ok {
			e.Verified = append(e.Verified, c)
		} else {
			e.Unverified = append(e.Unverified, m.User)
		}
		e.Lags = append(e.Lags, b.lagOf(m.User))
	}
	e.Regressed, e.RegressedWhy = b.regressed(ctx, members)
	e.Bounces, e.BouncesWhy, e.Asked = b.ask(ctx, w, members, first)
	return e
}

func (b *Book) lagOf(user string) Lag {
	if b.o.Lag == nil {
		return Lag{User: user, Unknown: "mailboxes are not kept equal"}
	}
	age, err := b.o.Lag(user)
	if err != nil {
		return Lag{User: user, Unknown: err.Error()}
	}
	return Lag{User: user, Age: age}
}

func (b *Book) regressed(ctx context.Context, members []Member) (users []string, why string) {
	if b.o.Regressed == nil {
		return nil, "refused logins are not recorded"
	}
	all, err := b.o.Regressed(ctx)
	if err != nil {
		return nil, "refused logins cannot be read: " + err.Error()
	}
	for _, m := range members {
		if all[m.User] {
			users = append(users, m.User)
		}
	}
	return users, ""
}

// baseline is that of a user's present stay on NEW. Where it was not recorded, because the process died, or the flip was made before this
// was counted, what was counted on OLD until then stands: he has not been there since. It is recorded if all nodes have told what they know.
func (b *Book) baseline(m Member, all bool) (Baseline, bool) {
	b.mu.Lock()
	x, ok := b.baselines[m.User]
	b.mu.Unlock()
	if ok && !x.At.Before(m.Since) {
		return x, true
	}
	if m.Since.IsZero() {
		return Baseline{}, false
	}
	x = b.before(m.User, m.Since, m.Since)
	if x.Week == (Counts{}) {
		return Baseline{}, false
	}
	if all {
		b.record(x)
	}
	return x, true
}

// catchUp reads the store again where a member's baseline is missing, since another node may have recorded it; not too often.
func (b *Book) catchUp(ctx context.Context, members []Member) {
	b.mu.Lock()
	now := b.now()
	missing := slices.ContainsFunc(members, func(m Member) bool {
		x, ok := b.baselines[m.User]
		return m.Side == config.New && (!ok || x.At.Before(m.Since))
	})
	missing = missing && now.Sub(b.read) >= lookEvery
	b.mu.Unlock()
	if missing {
		_ = b.refresh(ctx) // without it, the gate says what is missing
	}
}

// currentWaivers are those of the store, or as last read where it cannot be read.
func (b *Book) currentWaivers(ctx context.Context) []Waiver {
	list, err := b.o.Store.Waivers(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.waivers = list
	}
	return b.waivers
}

// Waivers lists those that are in force, by scope and gate.
func (b *Book) Waivers(ctx context.Context) ([]Waiver, error) {
	list, err := b.o.Store.Waivers(ctx)
	return slices.DeleteFunc(list, func(w Waiver) bool { return !w.Until.After(b.now()) }), err
}

// ErrWaiver means that a waiver lacks something that it must have.
var ErrWaiver = errors.New("a waiver needs who gives it, a reason, and a time in the future at which it ends")

// Waive lets a gate of a wave (op.HoldWave) or a user (op.HoldUser) pass until a time. It stands in the history.
// from is where the request came from, for the history too.
func (b *Book) Waive(ctx context.Context, scope string, name config.Gate, by, from, reason string, until time.Time) error {
	now := b.now()
	if by == "" || strings.TrimSpace(reason) == "" || !until.After(now) || scope == op.HoldAll || !strings.Contains(scope, ":") || name == "" {
		return ErrWaiver
	}
	w := Waiver{Scope: scope, Gate: name, By: by, Reason: reason, At: now, Until: until}
	return b.o.Store.PutWaiver(ctx, w, w.event("gate waived", by, from, fmt.Sprintf("until %s: %s", until.UTC().Format(time.RFC3339), reason), now))
}

// Unwaive takes a waiver away; changed is false when there was none.
func (b *Book) Unwaive(ctx context.Context, scope string, name config.Gate, by, from string) (changed bool, err error) {
	w := Waiver{Scope: scope, Gate: name}
	return b.o.Store.DropWaiver(ctx, scope, name, w.event("gate no longer waived", by, from, "", b.now()))
}

// What names the scope for people.
func (w Waiver) What() string { return op.Hold{Scope: w.Scope}.What() }

func (w Waiver) event(what, by, from, detail string, at time.Time) op.Event {
	e := op.Event{At: at, User: w.Scope, What: what, By: by, From: from, Detail: strings.TrimSuffix(fmt.Sprintf("%s, %s %s", w.Gate, w.What(), detail), " ")}
	if user, ok := strings.CutPrefix(w.Scope, op.HoldUser("")); ok {
		e.User = user
	}
	return e
}
