package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"mailgate/admin"
	"mailgate/op"
	"mailgate/syncer"
)

// underway is a pass, or a look at both sides, over one user's mailboxes. syncing.mu guards it.
type underway struct {
	ctx      context.Context // ended early by cancel
	cancel   context.CancelCauseFunc
	ended    chan struct{}
	aside    bool         // the keeper's: it gives way to what somebody asks for
	flip     bool         // a step of a flip
	writes   bool         // it is an operation, or is just becoming one
	op       op.Operation // without an ID for what is none
	progress syncer.Progress
}

// Causes why a pass ends early.
var (
	errClosing  = errors.New("mailgate is ending")
	errFlip     = errors.New("he is being moved")
	errGivesWay = errors.New("somebody asked for a look at these mailboxes")
)

// cancelled is the cause when somebody asked for the end.
type cancelled struct{ by, from string }

func (c cancelled) Error() string { return "cancelled by " + c.by }

// errMoving is what who asks for a pass during a flip is told.
func errMoving(user string) error {
	return exitError{exitRefused, fmt.Errorf("%s %w; try again in a moment", user, errMovingNow)}
}

var errMovingNow = errors.New("is being moved right now")

// endTime bounds the wait for the end of a pass that was told to end.
const endTime = 10 * time.Second

// enter notes a pass over a user, so that a flip and the end of the program can end it. It is refused while another one is
// under way, unless that was told to end: then its end is waited for. It is refused also from the moment a flip begins
// until that is over. A pass of the keeper (aside) gives way to all others.
func (s *syncing) enter(ctx context.Context, user string, aside bool) (*underway, func(), error) {
	late := time.NewTimer(endTime)
	defer late.Stop()
	for {
		s.mu.Lock()
		before := s.passes[user]
		switch {
		case s.closing:
			s.mu.Unlock()
			return nil, nil, exitError{exitRefused, fmt.Errorf("%w; nothing was begun", errClosing)}
		case s.moving[user] > 0 || s.awaited[user] > 0:
			s.mu.Unlock()
			return nil, nil, errMoving(user)
		case before == nil:
			u := &underway{ended: make(chan struct{}), aside: aside}
			u.ctx, u.cancel = context.WithCancelCause(ctx)
			s.passes[user] = u
			s.wg.Add(1)
			s.mu.Unlock()
			return u, func() { s.leave(user, u) }, nil
		}
		if before.aside && !aside {
			before.cancel(errGivesWay)
		}
		s.mu.Unlock()
		if before.ctx.Err() == nil {
			return nil, nil, exitError{exitRefused, fmt.Errorf("%s: %w", user, syncer.ErrBusy)}
		}
		select {
		case <-before.ended:
		case <-late.C:
			return nil, nil, exitError{exitRefused, fmt.Errorf("%s: %w, and does not end", user, syncer.ErrBusy)}
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

func (s *syncing) leave(user string, u *underway) {
	u.cancel(nil)
	s.mu.Lock()
	delete(s.passes, user)
	s.mu.Unlock()
	close(u.ended)
	s.wg.Done()
	if s.keeping != nil && !u.aside && !u.flip {
		s.keeping.k.Hint(user)
	}
}

// enterFlip is enter for a step of a flip. The keeper gives way, and what somebody asked for is waited for, which waits is told of; but
// behind the fence (fenced) flips keep everybody out: there it is let in, and ends whatever is under way still.
func (s *syncing) enterFlip(ctx context.Context, user string, fenced bool, waits func()) (*underway, func(), error) {
	s.mu.Lock()
	s.awaited[user]++ // or it would wait for ever where others come all the time
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.awaited[user]--; s.awaited[user] == 0 {
			delete(s.awaited, user)
		}
	}()
	for told := false; ; {
		s.mu.Lock()
		before := s.passes[user]
		switch {
		case s.closing:
			s.mu.Unlock()
			return nil, nil, exitError{exitRefused, fmt.Errorf("%w; nothing was begun", errClosing)}
		case s.moving[user] > 0 && !fenced:
			s.mu.Unlock()
			return nil, nil, errMoving(user)
		case before == nil:
			u := &underway{ended: make(chan struct{}), flip: true}
			u.ctx, u.cancel = context.WithCancelCause(ctx)
			s.passes[user] = u
			s.wg.Add(1)
			s.mu.Unlock()
			return u, func() { s.leave(user, u) }, nil
		case fenced:
			before.cancel(errFlip)
		case before.aside:
			before.cancel(errGivesWay)
		}
		s.mu.Unlock()
		if !before.aside && !fenced && !told {
			told = true
			waits()
		}
		select {
		case <-before.ended:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// flipBegins notes that a flip of a user is on its way; flips tells whether one was since the start.
func (s *syncing) flipBegins(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flipped == nil {
		s.flipped = map[string]bool{}
	}
	s.flipped[user] = true
}

func (s *syncing) flips(user string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flipped[user]
}

// endBackground ends the keeper's passes over a user, or over all.
func (s *syncing) endBackground(user string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, u := range s.passes {
		if u.aside && (name == user || user == syncer.Everybody) {
			u.cancel(why)
		}
	}
}

// Quiesce ends the pass over a user, if there is one, waits for its end, and lets none begin until resume is called: a flip
// begins.
func (s *syncing) Quiesce(ctx context.Context, user string) (resume func(), err error) {
	s.mu.Lock()
	s.moving[user]++
	u := s.passes[user]
	if u != nil {
		u.cancel(errFlip)
	}
	s.mu.Unlock()
	resume = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.moving[user]--; s.moving[user] == 0 {
			delete(s.moving, user)
		}
		if s.keeping != nil { // another side may decide now
			s.keeping.k.Hint(user)
		}
	})
	if u == nil {
		return resume, nil
	}
	select {
	case <-u.ended:
		return resume, nil
	case <-ctx.Done():
		resume()
		return nil, context.Cause(ctx)
	}
}

// ending is the context for the last write of a pass, which outlives what ended it.
func (s *syncing) ending() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.enough, endTime)
}

// close ends all passes and waits for them.
func (s *syncing) close() {
	s.stop()
	s.wg.Wait()
	s.cut()
}

// stop tells all passes to end, and lets none begin.
func (s *syncing) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for _, u := range s.passes {
		u.cancel(errClosing)
	}
	for v := range s.visitors {
		v.cancel(errClosing)
	}
}

// idle waits behind stop until no pass is under way; false when ctx ends before. It waits for each by itself: passes may begin again
// while another caller waits still.
func (s *syncing) idle(ctx context.Context) bool {
	for {
		s.mu.Lock()
		var ended chan struct{}
		for _, u := range s.passes {
			ended = u.ended
			break
		}
		s.mu.Unlock()
		if ended == nil {
			return true
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return false
		}
	}
}

// reopen lets passes begin again behind stop.
func (s *syncing) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = false
}

// endAll tells all passes to end, whoever asked for them.
func (s *syncing) endAll(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.passes {
		u.cancel(why)
	}
}

// Cancel implements admin.Syncing.
func (s *syncing) Cancel(id, by, from string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.passes {
		if id != "" && u.op.ID == id {
			u.cancel(cancelled{by, from})
			return true
		}
	}
	return false
}

// Live implements admin.Syncing.
func (s *syncing) Live(o op.Operation) (op.Operation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.passes[o.User]
	if u == nil || !u.writes || u.op.ID != "" && u.op.ID != o.ID {
		return o, false
	}
	now := time.Now()
	o.Step = u.progress.Phase
	o.Reason = strings.TrimPrefix(far(u.progress, now)+", for "+now.Sub(o.Created).Round(time.Second).String(), ", ")
	if cause := context.Cause(u.ctx); cause != nil {
		o.Reason = "is ending: " + cause.Error()
	}
	return o, true
}

// Status implements admin.Syncing.
func (s *syncing) Status(user string) *admin.SyncStatus {
	if s.keeping == nil {
		return nil
	}
	return s.keeping.status(user)
}

// running is the number of passes under way.
func (s *syncing) running() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.passes {
		if u.op.ID != "" {
			n++
		}
	}
	return n
}

// record makes an operation of a pass, and gives what records its end.
func (s *syncing) record(u *underway, user, by, from string) (end func(*syncer.Report, error), err error) {
	o := op.Operation{Kind: op.Sync, User: user, Status: op.Running, By: by, From: from, Created: time.Now()}
	o.Changed = o.Created
	s.mu.Lock()
	u.writes = true
	s.mu.Unlock()
	if o, err = s.g.store.NewOperation(u.ctx, o); err != nil {
		return nil, fmt.Errorf("record the pass: %w", err)
	}
	s.mu.Lock()
	u.op, u.progress.Began = o, o.Created
	s.mu.Unlock()
	return func(r *syncer.Report, err error) {
		o.Changed, o.Took = time.Now(), time.Since(o.Created)
		e := op.Event{At: o.Changed, Op: o.ID, User: user, By: by, From: from, Detail: did(r)}
		cause := context.Cause(u.ctx)
		o.Status, o.Reason, e.What = passEnd(cause, r, err)
		if c, ok := errors.AsType[cancelled](cause); ok && o.Status == op.Cancelled {
			e.By, e.From = c.by, c.from
		}
		if o.Reason != "" {
			e.Detail = strings.TrimPrefix(e.Detail+"; "+o.Reason, "; ")
		}
		ctx, cancel := s.ending()
		defer cancel()
		if err := s.g.store.SaveOperation(ctx, o, e); err != nil {
			s.g.log.Warn("the end of a pass is not recorded", "user", user, "op", o.ID, "err", err)
		}
	}, nil
}

// passEnd words how a pass ended: for its operation, and for the history.
func passEnd(cause error, r *syncer.Report, err error) (status op.Status, reason, event string) {
	var by cancelled
	switch {
	case err == nil && r != nil:
		if n := len(r.Quarantine) + len(r.Errors) + len(r.Held); n > 0 {
			reason = fmt.Sprintf("%d set aside, %d held back, %d folders not done", len(r.Quarantine), len(r.Held), len(r.Errors))
		}
		return op.Done, reason, "sync pass"
	case errors.Is(cause, errClosing):
		return op.Interrupted, goesOn(cause), "sync pass ended early"
	case errors.As(cause, &by):
		return op.Cancelled, "by " + by.by, "sync pass ended early"
	case errors.Is(cause, errFlip):
		return op.Cancelled, goesOn(cause), "sync pass ended early"
	case cause != nil:
		return op.Cancelled, "interrupted by who asked for it", "sync pass ended early"
	}
	return op.Failed, strings.ReplaceAll(fmt.Sprint(err), "\n", "; "), "sync pass failed"
}

func goesOn(cause error) string {
	return cause.Error() + "; the next pass goes on where this one was"
}

// did is what a pass did, in a line.
func did(r *syncer.Report) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%d copied, %d flags, %d moved, %d expunged, %d in quarantine, %d held back", r.Copied[0]+r.Copied[1], r.Flags[0]+r.Flags[1],
		r.Moved[0]+r.Moved[1], r.Expunged[0]+r.Expunged[1], len(r.Quarantine), len(r.Held))
}

// endInterrupted ends the passes of a process that has died: the store is ours now, so nobody is at them. Where the store
// cannot be written they are shown as what they are all the same.
func (g *gateway) endInterrupted(ctx context.Context) {
	list, err := g.store.Operations(ctx, op.Filter{Open: true, Kind: op.Sync})
	for _, o := range list {
		o.Status, o.Reason, o.Changed = op.Interrupted, op.GoesOn, time.Now()
		if err == nil {
			err = g.store.SaveOperation(ctx, o, op.Event{At: o.Changed, Op: o.ID, User: o.User, What: "sync pass interrupted", By: o.By, From: o.From})
		}
	}
	if err != nil {
		g.log.Warn("passes that were interrupted are not recorded as such", "err", err)
	}
}
