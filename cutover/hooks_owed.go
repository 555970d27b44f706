package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// owedFor is how old a flip may be of which hooks are told that have not heard of it, because mailgate died meanwhile.
const owedFor = 7 * 24 * time.Hour

// hooksPromised is the line of the history that says, ahead of a flip, which hooks are to be told how it ends.
const hooksPromised = "hooks to be told"

// promise records which hooks are to be told how the flip ends: whatever becomes of this process, the next one can see who has not been.
func (r *HookRunner) promise(ctx context.Context, m Move) error {
	var who []string
	for _, h := range r.list() {
		for _, e := range []config.HookEvent{config.HookAfter, config.HookAbort} {
			if h.Tells(e, m.Wave) {
				who = append(who, string(e)+" "+h.Name)
			}
		}
	}
	if len(who) == 0 {
		return nil
	}
	detail := strings.Join(who, ", ") + "; epoch " + strconv.FormatInt(m.Epoch, 10)
	if m.Wave != "" {
		detail += "; wave " + m.Wave
	}
	e := op.Event{At: time.Now(), Op: m.Op, User: m.User, What: hooksPromised, Before: m.From.String(), After: m.To.String(), By: m.By, Detail: detail}
	if err := r.o.Store.AddEvents(ctx, e); err != nil {
		return fmt.Errorf("record which hooks are to be told: %w", err)
	}
	return nil
}

// Start begins the runs of After and Aborted, those first that an earlier process has left behind: of flips that have ended and of
// which a hook has not heard. It comes behind Manager.Start, which brings to an end what a crash has left half way. What a killed process
// was doing is told again: a hook is told at least once.
func (r *HookRunner) Start(ctx context.Context) error {
	open, err := r.owed(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun = true
	r.missed = r.missed || err != nil || open
	if err != nil && !errors.Is(err, op.ErrUnavailable) {
		return err
	}
	r.dispatch()
	return nil
}

// lookTime is how long to wait for flips of an earlier process that have not ended yet, before another look.
const lookTime = 30 * time.Second

// lookAgain looks for what did not fit, could not be read, or had not ended, until there is nothing of the kind.
func (r *HookRunner) lookAgain() {
	for wait := retryMin; ; wait = min(2*wait, retryMax) {
		ctx, cancel := context.WithTimeout(r.ctx, tryTime)
		open, err := r.owed(ctx)
		cancel()
		if open {
			wait = r.look
		}
		if err == nil && !open {
			break
		}
		if err != nil {
			r.o.Log.Warn("which hooks are still to be told cannot be read yet", "err", err)
		}
		r.mu.Lock()
		r.dispatch()
		r.mu.Unlock()
		select {
		case <-r.ending:
			return
		case <-time.After(wait):
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dispatch()
}

// owed lets wait what the store says is still to be told, and tells whether flips of earlier processes have not ended: those that a crash
// has left half way, while the store took nothing.
func (r *HookRunner) owed(ctx context.Context) (open bool, err error) {
	r.mu.Lock()
	r.looks++ // what ends from here on may be owed still in what is read
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.looks--; r.looks == 0 {
			clear(r.ended)
		}
	}()
	events, err := r.o.Store.History(ctx, op.HistoryFilter{Since: time.Now().Add(-owedFor),
		What: []string{hooksPromised, "hook done", "hook warned", "hook given up"}})
	if err != nil {
		return false, fmt.Errorf("read which hooks are to be told: %w", err)
	}
	r.mu.Lock()
	if r.earlier == 0 && len(events) > 0 {
		r.earlier = events[0].ID
	}
	earlier := r.earlier
	r.mu.Unlock()
	slices.Reverse(events) // oldest first: a lane keeps the order
	heard := map[string]map[string]bool{}
	last := map[string]int64{}
	for _, e := range events {
		if e.What == hooksPromised { // an operation that begins anew promises again
			heard[e.Op], last[e.Op] = map[string]bool{}, e.ID
		} else if event, hook, ok := toldOf(e.Detail); ok && heard[e.Op] != nil {
			heard[e.Op][hookID(e.Op, event, hook)] = true
		}
	}
	for _, e := range events {
		if e.What != hooksPromised || last[e.Op] != e.ID {
			continue
		}
		jobs := owedOf(e, heard[e.Op])
		if len(jobs) == 0 {
			continue
		}
		o, err := r.o.Store.Operation(ctx, e.Op)
		switch {
		case errors.Is(err, op.ErrNotFound):
			continue
		case err != nil:
			return false, fmt.Errorf("read operation: %w", err)
		case !o.Status.Final(): // its hooks are told when it ends, if by us
			open = open || e.ID <= earlier
			continue
		}
		r.mu.Lock()
		for _, j := range jobs {
			if (o.Status == op.Done) != (j.event == config.HookAfter) {
				continue
			}
			j.move.By, j.move.Now, j.at = o.By, o.Now, o.Changed
			if j.event == config.HookAbort {
				j.why = o.Reason
			}
			if !r.ended[j.id()] {
				r.add(j)
			}
		}
		r.mu.Unlock()
	}
	return open, nil
}

// owedOf are the jobs of a promise of which the hooks have not heard.
func owedOf(e op.Event, heard map[string]bool) (jobs []hookJob) {
	who, rest, _ := strings.Cut(e.Detail, "; ")
	m := Move{Op: e.Op, User: e.User, By: e.By}
	if e.Before == config.New.String() {
		m.From = config.New
	}
	m.To = m.From.Other()
	epoch, wave, _ := strings.Cut(rest, "; wave ")
	m.Wave = wave
	m.Epoch, _ = strconv.ParseInt(strings.TrimPrefix(epoch, "epoch "), 10, 64)
	for part := range strings.SplitSeq(who, ", ") {
		event, hook, ok := strings.Cut(part, " ")
		j := hookJob{hook: hook, event: config.HookEvent(event), move: m}
		if ok && !heard[j.id()] {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// toldOf reads whom a line of the history about a run is about, see hookEvent.
func toldOf(detail string) (event, hook string, ok bool) {
	event, rest, ok := strings.Cut(detail, " ")
	hook, _, there := strings.Cut(rest, ",")
	return event, hook, ok && there
}
