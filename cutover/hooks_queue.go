package cutover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// maxHookJobs bounds what waits in memory. What does not fit is looked for in the store when there is room.
const maxHookJobs = 10000

// hookJob is what a hook is to be told.
type hookJob struct {
	hook  string
	event config.HookEvent
	move  Move
	why   string // of HookAbort
	at    time.Time
	tries int // that have failed
}

// id names it for good: at most one of a user's flips is under way, and each ends once.
func (j hookJob) id() string { return hookID(j.move.Op, string(j.event), j.hook) }

func hookID(op, event, hook string) string { return op + "/" + event + "/" + hook }

// laneKey is a hook and a user.
type laneKey struct{ hook, user string }

// lane is what one hook is to be told of one user, in order. HookRunner.mu guards it.
type lane struct {
	key   laneKey
	jobs  []*hookJob
	busy  bool          // somebody runs a job of it, or a hook of HookBefore
	rests bool          // until a timer wakes it: its first job has failed
	queue bool          // stands in ready
	free  chan struct{} // closed when it is not busy any more; nil when nobody waits
}

// lane finds one, or makes it; mu is held.
func (r *HookRunner) lane(k laneKey) *lane {
	l := r.lanes[k]
	if l == nil {
		l = &lane{key: k}
		r.lanes[k] = l
	}
	return l
}

// add lets a job wait, unless it does already; mu is held.
func (r *HookRunner) add(j hookJob) {
	switch {
	case r.known[j.id()]:
		return
	case r.closed || len(r.known) >= maxHookJobs:
		r.missed = true
		return
	}
	r.known[j.id()] = true
	l := r.lane(laneKey{j.hook, j.move.User})
	l.jobs = append(l.jobs, &j)
	r.wake(l)
}

// wake puts a lane among those that may run; mu is held.
func (r *HookRunner) wake(l *lane) {
	if !l.busy && !l.rests && !l.queue && len(l.jobs) > 0 {
		l.queue = true
		r.ready = append(r.ready, l)
	}
}

// dispatch starts what may run; mu is held.
func (r *HookRunner) dispatch() {
	for r.begun && !r.closed && r.running < r.o.Parallel && len(r.ready) > 0 {
		l := r.ready[0]
		r.ready = r.ready[1:]
		l.queue = false
		if l.busy || l.rests || len(l.jobs) == 0 {
			continue
		}
		l.busy = true
		r.running++
		r.wg.Go(func() {
			r.work(l)
			r.mu.Lock()
			r.running--
			r.mu.Unlock()
			r.give(l)
		})
	}
	if len(r.known) == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
	if r.missed && r.begun && !r.closed && len(r.known) < maxHookJobs/2 {
		r.missed = false
		r.wg.Go(r.lookAgain)
	}
}

// take waits until nobody is at a lane, and is at it then.
func (r *HookRunner) take(ctx context.Context, k laneKey) (*lane, error) {
	for {
		r.mu.Lock()
		l := r.lane(k)
		if !l.busy {
			l.busy = true
			r.mu.Unlock()
			return l, nil
		}
		if l.free == nil {
			l.free = make(chan struct{})
		}
		free := l.free
		r.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// give leaves a lane.
func (r *HookRunner) give(l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.busy = false
	if l.free != nil {
		close(l.free)
		l.free = nil
	}
	r.wake(l)
	r.tidy(l)
	r.dispatch()
}

// tidy forgets a lane in which nothing is; mu is held.
func (r *HookRunner) tidy(l *lane) {
	if len(l.jobs) == 0 && !l.busy && !l.rests && r.lanes[l.key] == l {
		delete(r.lanes, l.key)
	}
}

// first is the job of a lane that comes next, nil for none.
func (r *HookRunner) first(l *lane) *hookJob {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.jobs) == 0 {
		return nil
	}
	return l.jobs[0]
}

// work runs the first job of a lane once; the lane is ours.
func (r *HookRunner) work(l *lane) {
	j := r.first(l)
	if j == nil {
		return
	}
	res, h := r.attempt(r.ctx, j)
	switch {
	case r.ctx.Err() != nil && res.outcome != hookDone:
		return // ended by Close: it is still owed, and the next Start finds it
	case res.outcome == hookDone:
		r.done(r.ctx, l, j, res)
	case j.tries > h.Retries:
		r.giveUp(r.ctx, l, j, res)
	default:
		if j.tries == 1 {
			r.record(j, "hook failed", res)
		}
		again := r.rest(j.tries)
		r.o.Log.Warn("a hook has failed; it is tried again", "hook", j.hook, "event", string(j.event), "user", j.move.User, "op", j.move.Op,
			"tries", j.tries, "err", res.said, "again_in", again.Round(time.Millisecond).String())
		r.sleep(l, again)
	}
}

// attempt runs a job, and counts that.
func (r *HookRunner) attempt(ctx context.Context, j *hookJob) (result, config.Hook) {
	h, ok := r.named(j.hook)
	if !ok {
		j.tries = 1
		return result{outcome: hookFailed, said: "it is in the configuration no more"}, h // without retries
	}
	res := r.run(ctx, h, *j, j.tries+1)
	if res.outcome == hookDone && res.veto != "" { // nobody can say no any more
		res.warn, res.veto = "it says no, which comes too late: "+res.veto, ""
	}
	outcome := res.outcome
	if outcome != hookDone {
		j.tries++
	} else if res.warn != "" {
		outcome = hookWarned
	}
	r.o.Recorder.HookRun(string(j.event), outcome)
	return res, h
}

// done records that a hook was told, and forgets the job. While the store takes nothing, it is not forgotten, and is not run again
// either: the record is tried until Close.
func (r *HookRunner) done(ctx context.Context, l *lane, j *hookJob, res result) {
	what := "hook done"
	if res.warn != "" {
		what = "hook warned"
		r.o.Log.Warn("a hook warns", "hook", j.hook, "user", j.move.User, "op", j.move.Op, "says", res.warn)
	}
	r.finish(ctx, l, j, what, res)
}

// giveUp records that a hook is not tried again.
func (r *HookRunner) giveUp(ctx context.Context, l *lane, j *hookJob, res result) {
	r.o.Recorder.HookRun(string(j.event), hookGivenUp)
	r.o.Log.Error("a hook is given up; what it does has to be done by hand", "hook", j.hook, "event", string(j.event), "user", j.move.User,
		"op", j.move.Op, "tries", j.tries, "err", res.said)
	r.finish(ctx, l, j, "hook given up", res)
}

// finish records the end of a job, and takes it off its lane.
func (r *HookRunner) finish(ctx context.Context, l *lane, j *hookJob, what string, res result) {
	for wait := retryMin; !r.record(j, what, res); wait = min(2*wait, retryMax) {
		select {
		case <-r.ctx.Done():
			return // the next Start has it run again
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.jobs = l.jobs[1:]
	delete(r.known, j.id())
	if r.looks > 0 {
		r.ended[j.id()] = true
	}
}

// record writes a line of the history, and tells whether the store has it.
func (r *HookRunner) record(j *hookJob, what string, res result) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), tryTime)
	defer cancel()
	err := r.o.Store.AddEvents(ctx, hookEvent(j.move, what, j.hook, j.event, res))
	if err != nil {
		r.o.Log.Warn("the run of a hook is not in the history yet", "hook", j.hook, "user", j.move.User, "op", j.move.Op, "err", err)
	}
	return err == nil
}

// catchUp tells a hook what it has not heard yet of a user, ahead of another flip: each once, and what fails now is given up, since
// what comes next overtakes it. The lane is ours.
func (r *HookRunner) catchUp(ctx context.Context, l *lane) {
	for j := r.first(l); j != nil && ctx.Err() == nil; j = r.first(l) {
		res, _ := r.attempt(ctx, j)
		switch {
		case res.outcome == hookDone:
			r.done(ctx, l, j, res)
		case ctx.Err() != nil:
			return
		default:
			res.said = "overtaken by the next flip; " + res.said
			r.giveUp(ctx, l, j, res)
		}
		if r.first(l) == j {
			return // the store takes nothing, and there is no more time
		}
	}
}

// sleep wakes a lane again after a while.
func (r *HookRunner) sleep(l *lane, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	l.rests = true
	var t *time.Timer
	r.wg.Add(1)
	t = time.AfterFunc(d, func() {
		defer r.wg.Done()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.timers, t)
		l.rests = false
		r.wake(l)
		r.tidy(l)
		r.dispatch()
	})
	r.timers[t] = true
}

// Back-off of a hook that fails: it doubles from the first to the last.
const (
	firstHookRetry = time.Second
	lastHookRetry  = 5 * time.Minute
)

// hookBackOff is how long a hook rests that has failed so often, give or take a fifth.
func hookBackOff(tries int) time.Duration {
	d := lastHookRetry
	if tries < 9 {
		d = min(firstHookRetry<<(tries-1), lastHookRetry)
	}
	return d*4/5 + rand.N(d*2/5)
}

// errHooksClosed ends runs that take longer than Close waits.
var errHooksClosed = errors.New("mailgate is stopping")

// Idle waits until no hook waits or runs, or ctx ends: then it tells how many are left. They are told at the next start.
func (r *HookRunner) Idle(ctx context.Context) error {
	for {
		r.mu.Lock()
		n := len(r.known)
		if n == 0 {
			r.mu.Unlock()
			return nil
		}
		if r.idle == nil {
			r.idle = make(chan struct{})
		}
		idle := r.idle
		r.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("%d runs of hooks are left, which the next start sees to: %w", n, context.Cause(ctx))
		}
	}
}

// Close begins nothing more, waits for what runs until ctx ends, and ends it then. What has not run is told at the next start.
func (r *HookRunner) Close(ctx context.Context) {
	r.mu.Lock()
	if !r.closed {
		close(r.ending)
	}
	r.closed = true
	for t := range r.timers {
		if t.Stop() {
			r.wg.Done()
		}
		delete(r.timers, t)
	}
	r.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { r.kill(errHooksClosed) })
	r.wg.Wait()
	stop()
	r.kill(errHooksClosed)
}

var _ HookStore = op.Store(nil)
