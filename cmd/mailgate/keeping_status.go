package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailgate/admin"
	"mailgate/backend"
	"mailgate/op"
	"mailgate/syncer"
)

// counts are for metrics and the overview.
func (kp *keeping) counts() (map[string]int, time.Duration) {
	phases, oldest := kp.k.Counts()
	if oldest.IsZero() {
		return phases, 0
	}
	return phases, time.Since(oldest)
}

// overview tells of all users.
func (kp *keeping) overview() *admin.SyncOverview {
	kp.mu.Lock()
	users, unknown := len(kp.users), slices.Clone(kp.unknown)
	var all *admin.SyncPause
	if p, ok := kp.paused[syncer.Everybody]; ok {
		all = pauseOf(p)
	}
	waits, partly, scripts := 0, 0, 0
	for _, k := range kp.users {
		if k.report != nil {
			partly += min(len(k.report.Errors), 1)
			waits += len(k.report.Quarantine) + len(k.report.Held)
			if k.report.Sieve != nil {
				scripts += k.report.Sieve.Count(syncer.SieveRefused, syncer.SieveKept)
			}
		}
	}
	kp.mu.Unlock()
	o := &admin.SyncOverview{Users: users, Waves: kp.s.g.keptWaves(), UnknownWaves: unknown, Waiting: waits, Partly: partly, Scripts: scripts, Watched: len(kp.w.Watched()), Paused: all}
	phases, lag := kp.counts()
	o.Phases, o.LagSeconds = phases, lag.Seconds()
	return o
}

func pauseOf(p syncer.Pause) *admin.SyncPause {
	return &admin.SyncPause{By: p.By, At: p.At, Reason: p.Reason}
}

// statusTime bounds the first look of a process into the store, for status.
const statusTime = time.Second

// status tells how far a user is; nil when his wave has not started.
func (kp *keeping) status(user string) *admin.SyncStatus {
	st, ok := kp.k.State(user)
	look, cancel := context.WithTimeout(context.Background(), statusTime)
	left, behind := kp.s.behind.of(look, kp.s.g, user)
	cancel()
	kp.mu.Lock()
	defer kp.mu.Unlock()
	k := kp.users[user]
	if !ok || k == nil {
		return nil
	}
	now := time.Now()
	s := &admin.SyncStatus{Phase: st.Phase, Running: st.Now, Last: k.whole, Next: st.Next, Tries: st.Tries, Gaps: k.gaps, GapsAt: k.gapsAt}
	if behind {
		s.Behind = left.String()
	}
	if !st.Since.IsZero() {
		s.LagSeconds = now.Sub(st.Since).Seconds()
	}
	if open, until := kp.s.windowOpen(now); !open && st.Phase == "first copy" && !until.IsZero() {
		s.Opens = until
	}
	if st.Now {
		s.Progress = far(k.progress, now)
	}
	if p, ok := kp.pauseOf(user); ok {
		s.Paused = pauseOf(p)
	}
	if st.Err != nil {
		s.Error, s.Do = strings.ReplaceAll(st.Err.Error(), "\n", "; "), wayOut(user, st.Err)
	}
	if r := k.report; r != nil {
		s.Folders, s.Messages, s.TookSeconds = r.Folders, r.Pairs, r.Took.Seconds()
		s.Quarantine, s.Held = len(r.Quarantine), len(r.Held)
		for _, e := range r.Errors {
			s.Broken = append(s.Broken, admin.BrokenFolder{Folder: e.Folder, Error: e.Error})
		}
		if r.Sieve != nil {
			s.Sieve, s.SieveNotes = r.Sieve.Summary(), sieveNotes(r.Sieve)
		}
	}
	return s
}

// wayOut is what somebody can do about trouble that ends a user's passes.
func wayOut(user string, err error) string {
	var refused *syncer.RefusedError
	var side *syncer.SideError
	var be *backend.Error
	switch {
	case errors.As(err, &refused):
		return "see mailgate sync plan " + user + ", and write what it asks for into mailgate.yaml"
	case errors.Is(err, op.ErrUnavailable):
		return "see to the store: its disk is full, or another program has it locked; then it goes on by itself"
	case notLearned(err):
		return learnedWayOut(user, err)
	case errors.Is(err, syncer.ErrNoLogin):
		return "give mailgate a way to log in, as the message says, and reload"
	case errors.As(err, &be) && be.Kind == backend.AuthFailed:
		return "the login for syncing is refused: mend the secret; it is tried again within some minutes, or at once by mailgate sync run " + user
	case errors.Is(err, syncer.ErrFenced):
		return "another gateway is at these mailboxes, or was a moment ago; it is tried again by itself"
	case errors.As(err, &side), syncer.Silent(err), errors.Is(err, errStalled):
		return "nothing, when the host is only down for a while: it is tried again by itself"
	}
	return "it is tried again by itself; mailgate sync run " + user + " tries now and shows more"
}

// pause answers the verbs sync pause and sync resume.
func (s *syncing) pause(ctx context.Context, verb string, form url.Values) (any, error) {
	on := verb == "pause"
	user, known := syncer.Everybody, true
	if form.Get("all") == "" {
		var err error
		if user, _, known, err = s.g.Resolve(form.Get("user")); err != nil {
			return nil, exitError{exitUsage, err}
		}
		if user == syncer.Everybody {
			return nil, exitError{exitUsage, errors.New("everybody is --all")}
		}
	}
	if on && !known {
		return nil, exitError{exitRefused, fmt.Errorf("%s has no line in the routes file: is the address spelt right?", user)}
	}
	kp := s.keeping
	if kp == nil { // nothing runs: it is for the next start
		kp = newKeeping(s)
	}
	changed, err := kp.pause(ctx, user, form.Get("by"), form.Get("from"), form.Get("reason"), on)
	if err != nil {
		return nil, err
	}
	out := Paused{User: user, Paused: on, Changed: changed}
	kp.mu.Lock()
	defer kp.mu.Unlock()
	_, out.Kept = kp.users[user]
	if p, ok := kp.pauseOf(user); ok {
		out.Paused, out.By, out.Everybody = true, p.By, p.User == syncer.Everybody
	}
	return out, nil
}

// Paused answers sync pause and sync resume.
type Paused struct {
	User      string `json:"user"` // "*" for everybody
	Paused    bool   `json:"paused"`
	Everybody bool   `json:"everybody,omitempty"` // by a pause for everybody
	By        string `json:"by,omitempty"`
	Changed   bool   `json:"changed"`
	Kept      bool   `json:"kept"` // his wave has started
}

// started tells whether anybody's mailboxes are kept equal.
func (g *gateway) started() bool { return len(g.keptWaves()) > 0 }
