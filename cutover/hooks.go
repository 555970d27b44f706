package cutover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// HookStore is what a HookRunner needs of op.Store.
type HookStore interface {
	Operation(ctx context.Context, id string) (op.Operation, error)
	History(ctx context.Context, f op.HistoryFilter) ([]op.Event, error)
	AddEvents(ctx context.Context, events ...op.Event) error
}

// HookRecorder counts runs of hooks; package admin implements it. It must not block.
type HookRecorder interface {
	// HookRun counts one run, by the event (config.HookEvent) and one of HookOutcomes.
	HookRun(event, outcome string)
}

// Outcomes of a run.
const (
	hookDone    = "done"
	hookWarned  = "warned" // done, with a warning
	hookVetoed  = "vetoed" // it said no, and was heard
	hookFailed  = "failed"
	hookLate    = "late"     // it took too long, and was ended
	hookGivenUp = "given_up" // it has failed, and is not tried again
)

// HookOutcomes are those that are counted.
func HookOutcomes() []string {
	return []string{hookDone, hookWarned, hookVetoed, hookFailed, hookLate, hookGivenUp}
}

// HookPlace is a user at a side, for hooks that ask its servers.
type HookPlace struct {
	Login string     `json:"login"` // his name there
	Hosts []HookHost `json:"hosts"` // those that his sessions may go to
}

// HookHost is one of them, with its services as URLs.
type HookHost struct {
	Name       string `json:"name"`
	IMAP       string `json:"imap,omitempty"`
	POP3       string `json:"pop3,omitempty"`
	Submission string `json:"submission,omitempty"`
	Sieve      string `json:"sieve,omitempty"`
}

// HookOptions are what a HookRunner works with. Store, Log and Places must be set.
type HookOptions struct {
	Store    HookStore
	Log      *slog.Logger
	Recorder HookRecorder
	Hooks    []config.Hook
	Places   func(user string) [2]HookPlace // where a user is known at each side, by side; must not block
	Parallel int                            // how many runs of after and abort at once, 0 means defaultHooks
}

// defaultHooks is how many hooks run at once behind the flips.
const defaultHooks = 8

// HookRunner tells the hooks of a configuration: it implements Hooks. Those of HookBefore run within the caller; the others
// behind it, each user's in order for each hook, and at least once: see Start. Its methods are safe for concurrent use.
type HookRunner struct {
	o      HookOptions
	kill   context.CancelCauseFunc // ends runs under way
	ctx    context.Context
	wg     sync.WaitGroup
	ending chan struct{}                 // closed by Close
	look   time.Duration                 // lookTime
	rest   func(tries int) time.Duration // hookBackOff

	mu      sync.Mutex
	hooks   []config.Hook
	lanes   map[laneKey]*lane
	ready   []*lane              // with a job that may run now; a lane stands here once at most
	known   map[string]bool      // ids of jobs that wait or run
	looks   int                  // of owed, under way
	ended   map[string]bool      // ids of jobs that have ended meanwhile
	running int                  // of o.Parallel
	closed  bool                 // nothing begins any more
	begun   bool                 // by Start
	earlier int64                // the newest promise of earlier processes
	missed  bool                 // jobs were not taken in: they are looked for in the store
	idle    chan struct{}        // closed when nothing waits or runs; nil when nobody asks
	timers  map[*time.Timer]bool // of lanes that rest
}

// NewHookRunner makes a HookRunner. Start begins the work behind the flips.
func NewHookRunner(o HookOptions) *HookRunner {
	if o.Parallel == 0 {
		o.Parallel = defaultHooks
	}
	if o.Recorder == nil {
		o.Recorder = noHookRecorder{}
	}
	r := &HookRunner{o: o, ending: make(chan struct{}), rest: hookBackOff, look: lookTime, hooks: o.Hooks, lanes: map[laneKey]*lane{}, known: map[string]bool{}, ended: map[string]bool{}, timers: map[*time.Timer]bool{}}
	r.ctx, r.kill = context.WithCancelCause(context.Background())
	return r
}

// Configure puts other hooks in force, also for what waits: what waits for a hook that is gone is given up.
func (r *HookRunner) Configure(hooks []config.Hook) {
	r.mu.Lock()
	r.hooks = hooks
	r.mu.Unlock()
}

// list are the hooks in force.
func (r *HookRunner) list() []config.Hook {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hooks
}

// named is a hook in force.
func (r *HookRunner) named(name string) (config.Hook, bool) {
	for _, h := range r.list() {
		if h.Name == name {
			return h, true
		}
	}
	return config.Hook{}, false
}

// Before implements Hooks: one hook after the other, as they stand in the file. What was still to be told of earlier flips to
// one of them is told first, so that no hook hears of a user's flips in another order than they were. It is recorded first who is to
// hear of the end, also of a flip that a hook says no to: another may have done something for it. With m.Now nobody is asked: whoever
// asks for that cannot wait.
func (r *HookRunner) Before(ctx context.Context, m Move) error {
	if err := r.promise(ctx, m); err != nil || m.Now {
		return err
	}
	for _, h := range r.list() {
		if !h.Tells(config.HookBefore, m.Wave) {
			continue
		}
		if err := r.before(ctx, h, m); err != nil {
			return err
		}
	}
	return nil
}

func (r *HookRunner) before(ctx context.Context, h config.Hook, m Move) error {
	l, err := r.take(ctx, laneKey{h.Name, m.User})
	if err != nil {
		return err
	}
	defer r.give(l)
	r.catchUp(ctx, l)
	res := r.run(ctx, h, hookJob{hook: h.Name, event: config.HookBefore, move: m, at: time.Now()}, 1)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	refusal := res.refusal(h)
	if refusal != nil && !h.Veto {
		res.warn, refusal = refusal.Why+", and is not heard", nil
	}
	switch {
	case refusal != nil && res.outcome == hookDone:
		res.outcome = hookVetoed
	case refusal == nil && res.warn != "" && res.outcome == hookDone:
		res.outcome = hookWarned
	}
	r.o.Recorder.HookRun(string(config.HookBefore), res.outcome)
	e := hookEvent(m, "hook "+heard(res.outcome), h.Name, config.HookBefore, res)
	if err := r.o.Store.AddEvents(ctx, e); err != nil { // it has no bearing on what was said
		r.o.Log.Warn("the run of a hook is not in the history", "hook", h.Name, "user", m.User, "op", m.Op, "err", err)
	}
	switch {
	case refusal != nil:
		return refusal
	case res.warn != "":
		r.o.Log.Warn("a hook warns", "hook", h.Name, "user", m.User, "op", m.Op, "says", res.warn)
	}
	return nil
}

// heard words an outcome for the history.
func heard(outcome string) string {
	if outcome == hookLate {
		return "failed"
	}
	return outcome
}

// After implements Hooks.
func (r *HookRunner) After(m Move) { r.tell(config.HookAfter, m, "", time.Now()) }

// Aborted implements Hooks.
func (r *HookRunner) Aborted(m Move, why string) { r.tell(config.HookAbort, m, why, time.Now()) }

// tell lets each hook wait that an event is for.
func (r *HookRunner) tell(e config.HookEvent, m Move, why string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hooks {
		if h.Tells(e, m.Wave) {
			r.add(hookJob{hook: h.Name, event: e, move: m, why: why, at: at})
		}
	}
	r.dispatch()
}

// result is how a run has ended.
type result struct {
	outcome string // hookDone, hookFailed or hookLate
	said    string // by a hook that has failed: its reason or its trouble, in one line, without secrets
	veto    string // what it said no for, "" when it did not
	warn    string
	took    time.Duration
}

// refusal is what a result means to a flip; nil when it may go on.
func (r result) refusal(h config.Hook) *Refusal {
	switch {
	case r.veto != "":
		return &Refusal{Why: fmt.Sprintf("hook %s says no: %s", h.Name, r.veto), Do: "see to that, then ask again"}
	case r.outcome == hookLate:
		return &Refusal{Why: fmt.Sprintf("hook %s has not answered within %s", h.Name, h.Timeout),
			Do: "mend it, or write veto: false for it, then ask again", Err: errHookLate}
	case r.outcome != hookDone:
		return &Refusal{Why: fmt.Sprintf("hook %s has failed: %s", h.Name, r.said), Do: "mend it, or write veto: false for it, then ask again"}
	}
	return nil
}

// errHookLate means that a hook took longer than it may.
var errHookLate = errors.New("it took longer than its timeout and was ended")

// hookEvent is a line of the history about a run. owedOf reads Detail again.
func hookEvent(m Move, what, hook string, e config.HookEvent, res result) op.Event {
	detail := fmt.Sprintf("%s %s, %.2f s", e, hook, res.took.Seconds())
	for _, text := range []string{res.warn, res.veto, res.said} {
		if text != "" {
			detail += ": " + text
			break
		}
	}
	return op.Event{At: time.Now(), Op: m.Op, User: m.User, What: what, Before: m.From.String(), After: m.To.String(), By: "hook " + hook, Detail: detail}
}

type noHookRecorder struct{}

func (noHookRecorder) HookRun(string, string) {}

var _ Hooks = (*HookRunner)(nil)
