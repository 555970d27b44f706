package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/admin"
	"mailgate/config"
	wavegate "mailgate/cutover/gate"
	"mailgate/syncer"
)

// rehearsal is what a rehearsal of a wave found: everything but the move for its members, and the whole life for test users.
type rehearsal struct {
	Wave     string               `json:"wave"`
	Members  []rehearsed          `json:"members"`
	Gates    []wavegate.Result    `json:"gates"`
	Refused  string               `json:"refused,omitempty"` // why a move would be refused now
	Do       string               `json:"do,omitempty"`
	Shares   []admin.WaveShare    `json:"shares"`
	Unlooked []admin.WaveUnlooked `json:"shares_unknown,omitempty"` // members of whom that is not known
	Lives    []life               `json:"lives"`
	NotShown []string             `json:"not_shown"` // what this does not tell
	Took     time.Duration        `json:"took_ns"`
}

// rehearsed is a member for whom everything but the move was done.
type rehearsed struct {
	User     string           `json:"user"`
	Copied   int64            `json:"copied"` // messages, by the pass of the rehearsal
	Took     float64          `json:"pass_seconds"`
	Equal    bool             `json:"equal"`
	Verdict  string           `json:"verdict,omitempty"`
	Forecast *syncer.Forecast `json:"forecast,omitempty"`
	Error    string           `json:"error,omitempty"`
	Do       string           `json:"do,omitempty"`
}

// ok tells whether nothing stands in the way of the member.
func (r rehearsed) ok() bool {
	return r.Error == "" && r.Equal && (r.Forecast == nil || len(r.Forecast.InWay) == 0)
}

// rehearseJobs is how many members are looked at at once.
const rehearseJobs = 4

// rehearse answers wave rehearse: form has wave, and user as often as there are test users.
func (s *syncing) rehearse(ctx context.Context, form url.Values, progress func(any)) (any, error) {
	began, wave := time.Now(), form.Get("wave")
	members := s.g.routes.Load().Members(wave)
	if len(members) == 0 {
		return nil, exitError{exitUsage, fmt.Errorf("there is no wave %q with members (mailgate wave list)", wave)}
	}
	out := &rehearsal{Wave: wave, Members: make([]rehearsed, len(members)), Gates: []wavegate.Result{}, Shares: []admin.WaveShare{}, Lives: []life{}}
	var testers []string
	for _, login := range form["user"] {
		user, _, _, err := s.g.Resolve(login)
		if err != nil {
			return nil, exitError{exitUsage, err}
		}
		if s.g.routes.Load().Users[user] == nil {
			return nil, exitError{exitRefused, fmt.Errorf("%s has no line in the routes file: is the address spelt right?", user)}
		}
		testers = append(testers, user)
	}
	var mu sync.Mutex
	tell := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		progress(syncer.Progress{Phase: "rehearse", Folder: fmt.Sprintf(format, args...)})
	}
	queue := make(chan int, len(members))
	for i := range members {
		queue <- i
	}
	close(queue)
	var wg sync.WaitGroup
	for range min(rehearseJobs, len(members)) {
		wg.Go(func() {
			for i := range queue {
				out.Members[i] = s.rehearseMember(ctx, members[i], form.Get("by"), form.Get("from"))
				tell("%s: looked at", members[i])
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ending(ctx, true, context.Cause(ctx))
	}
	if err := s.rehearseWave(ctx, out); err != nil {
		return nil, err
	}
	for _, user := range testers {
		out.Lives = append(out.Lives, s.live(ctx, user, form.Get("by"), form.Get("from"), func(what string) { tell("%s: %s", user, what) }))
	}
	out.NotShown = notShown(out)
	out.Took = time.Since(began)
	return out, out.err()
}

// rehearseWave asks what concerns the wave as a whole.
func (s *syncing) rehearseWave(ctx context.Context, out *rehearsal) (err error) {
	if out.Gates, err = s.g.moves().Judged(ctx, out.Wave, wavegate.Start); err != nil {
		return err
	}
	if err := s.g.moves().Allowed(ctx, out.Wave); err != nil {
		why, do := refusalOf(err)
		out.Refused, out.Do = why, do
	}
	var shares []admin.WaveShare
	shares, out.Unlooked = s.g.shares(ctx, out.Wave)
	out.Shares = append(out.Shares, shares...)
	return nil
}

// rehearseMember makes a pass as PREP does, compares both sides, and tells what the move would be like.
func (s *syncing) rehearseMember(ctx context.Context, user, by, from string) (r rehearsed) {
	r.User = user
	fail := func(err error) rehearsed {
		r.Error, r.Do = strings.ReplaceAll(err.Error(), "\n", "; "), wayOut(user, err)
		return r
	}
	y := s.syncer()
	defer y.Close()
	u, leave, err := s.enter(ctx, user, false)
	if err != nil {
		return fail(err)
	}
	defer leave()
	if err := s.proveBoth(u.ctx, y, user, true); err != nil {
		return fail(err)
	}
	report, err := s.pass(u, y, user, syncer.RunOptions{}, by, from)
	if err != nil {
		return fail(err)
	}
	r.Copied, r.Took = report.Copied[0]+report.Copied[1], report.Took.Seconds()
	v, err := y.Verify(u.ctx, user, syncer.VerifyOptions{})
	if err != nil {
		return fail(err)
	}
	r.Equal, r.Verdict = v.Equal, v.Verdict()
	if r.Forecast, err = s.look(u.ctx, y, user, config.New, false); err != nil {
		return fail(err)
	}
	return r
}

// err is how the verb ends.
func (r *rehearsal) err() error {
	bad := 0
	for _, m := range r.Members {
		if !m.ok() {
			bad++
		}
	}
	failed := slices.ContainsFunc(r.Lives, func(l life) bool { return l.Error != "" })
	switch {
	case failed:
		return exitError{exitDifference, errors.New("a test user's life did not end as it should: see above")}
	case bad > 0:
		return exitError{exitDifference, fmt.Errorf("%d of %d members have something in the way: see above", bad, len(r.Members))}
	case r.Refused != "":
		return exitError{exitDifference, fmt.Errorf("the wave would be refused now: %s", r.Refused)}
	}
	return nil
}

// notShown is what the rehearsal did not do.
func notShown(r *rehearsal) []string {
	list := []string{"how the members' own mail programs take it: their sessions were left alone"}
	if len(r.Lives) == 0 {
		list = append(list, "the move itself, and the way back: name test users (--user TEST@...) for whom it is done for real")
	} else {
		list = append(list, "the move of the members themselves: it was done for the test users only")
	}
	for _, l := range r.Lives {
		if l.Flags != "" {
			list = append(list, "that flags come through a move and back: "+l.Flags)
		}
	}
	for _, m := range r.Members {
		if m.Forecast != nil && len(m.Forecast.Unknown) > 0 {
			list = append(list, "of "+m.User+": "+m.Forecast.Unknown[0].What+" ("+m.Forecast.Unknown[0].Why+")")
		}
	}
	return list
}
