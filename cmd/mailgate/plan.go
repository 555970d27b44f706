package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"mailgate/admin"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/router"
	"mailgate/syncer"
)

// planStep is a state that a user comes by, in words.
type planStep struct {
	State router.State `json:"state"`
	What  string       `json:"what"`
	Most  string       `json:"at_most,omitempty"` // how long it may take
}

// movePlan is what is said before users are moved. What is not known is null.
type movePlan struct {
	User     string                `json:"user,omitempty"` // or how many
	Users    int                   `json:"users"`
	To       config.Side           `json:"to"`
	Now      bool                  `json:"now,omitempty"` // rollback --now
	Steps    []planStep            `json:"steps"`
	Carries  bool                  `json:"carries_mail"`
	Deadline float64               `json:"deadline_seconds"` // FENCE to RELEASE
	Hold     float64               `json:"hold_seconds"`     // how long a login waits
	Forecast *syncer.Forecast      `json:"forecast"`
	Sum      *syncer.ForecastSum   `json:"sum,omitempty"` // of several users
	Ready    *admin.Readiness      `json:"ready"`
	Behind   *syncer.LeftBehind    `json:"leaves_behind,omitempty"` // by --now
	Behinds  *syncer.LeftBehindSum `json:"leave_behind,omitempty"`  // the same of several users
	NoneYet  string                `json:"no_forecast,omitempty"`   // why there is no forecast
}

// planSteps are the states of a flip in their order, from the table of moves. none says why no mail is carried, "" where it is.
func planSteps(to config.Side, flip config.Flip, none string) (steps []planStep) {
	states := router.States()
	for i, from := range states {
		next := states[(i+1)%len(states)]
		for _, m := range router.Moves() {
			if m.From != from || m.To != next {
				continue
			}
			s := planStep{State: next, What: strings.ReplaceAll(m.What, "is the new side", "is "+to.String())}
			switch next {
			case router.Prep, router.Delta, router.Verify:
				if none != "" {
					s.What = "passed by: " + none
				}
			case router.Fence:
				s.Most = "a login waits at most " + flip.Hold.String()
			}
			steps = append(steps, s)
		}
	}
	return steps
}

// callable are the states in which a flip can be called off, from the table of moves.
func callable() string {
	var list []string
	for _, m := range router.Moves() {
		if m.To == router.Settled && m.From != router.Release {
			list = append(list, string(m.From))
		}
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}

// newPlan is that part of a plan which needs no look at anything.
func newPlan(conf *config.Config, to config.Side, now bool) *movePlan {
	none := noMail(conf)
	p := &movePlan{Users: 1, To: to, Now: now, Carries: none == "" && !now, Deadline: conf.Flip.Deadline.Seconds(), Hold: conf.Flip.Hold.Seconds()}
	if now {
		none = "--now asks nothing of " + to.Other().String()
	}
	p.Steps = planSteps(to, conf.Flip, none)
	return p
}

// write writes the plan for people: steps, times, what it means for mail and clients.
func (p *movePlan) write(w io.Writer) error {
	who, verb := p.User, "moves"
	if p.Users != 1 {
		who, verb = syncer.Thousands(int64(p.Users))+" users", "move"
	}
	fmt.Fprintf(w, "%s %s to %s:\n", who, verb, p.To)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for i, s := range p.Steps {
		what := s.What
		if s.Most != "" {
			what += " (" + s.Most + ")"
		}
		fmt.Fprintf(t, "  %d. %s\t%s\n", i+1, s.State, what)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "FENCE to RELEASE takes at most %s, or it is called off. In %s that can be: then nothing is different.\n",
		time.Duration(p.Deadline*float64(time.Second)), callable())
	if !p.Carries && !p.Now {
		fmt.Fprintf(w, "Bring both mailboxes together first: what is only in the mailbox on %s is not on %s.\n", p.To.Other(), p.To)
	}
	var err error
	switch {
	case p.Now:
		if p.Behind != nil {
			err = p.Behind.WriteText(w, time.Now())
		} else if p.Behinds != nil && p.Behinds.Users > 0 {
			err = p.Behinds.WriteText(w, time.Now())
		}
	case p.Sum != nil:
		err = p.Sum.WriteText(w)
	case p.Forecast != nil:
		err = p.Forecast.WriteText(w)
	case p.NoneYet != "":
		fmt.Fprintln(w, p.NoneYet)
	}
	if r := p.Ready; r != nil && r.To == p.To && !p.Now {
		fmt.Fprintf(w, "%s: %s\n", r.Title(), r.Text(time.Now()))
	}
	return err
}

// text is the plan for the history.
func (p *movePlan) text() string {
	var b strings.Builder
	_ = p.write(&b)
	return b.String()
}

// planFor makes the plan of one user's move. look tells to ask both hosts; else it is what is known already, which takes no time.
func (p *program) planFor(ctx context.Context, u *admin.UserStatus, user string, to config.Side, now, look bool) *movePlan {
	conf, _ := p.loadAnyway()
	plan := newPlan(conf, to, now)
	plan.User = user
	if u.User == "" { // nothing runs, and there is no store to look at
		plan.NoneYet = "nothing is known of his mailboxes: mailgate serve does not run"
		return plan
	}
	plan.User, plan.Ready = u.User, u.Ready
	switch {
	case now:
		var b syncer.LeftBehind
		if err := p.ask(ctx, "behind", url.Values{"user": {u.User}}, &b); err == nil {
			plan.Behind = &b
		}
	case plan.Carries && look:
		f, err := p.forecast(ctx, u.User, to, false)
		if plan.Forecast = f; err != nil {
			plan.NoneYet = "what the move means for his clients is not known: " + err.Error()
		}
	}
	return plan
}

// forecast asks what a move of a user would be like; quick asks no host.
func (p *program) forecast(ctx context.Context, user string, to config.Side, quick bool) (*syncer.Forecast, error) {
	var f syncer.Forecast
	if err := p.ask(ctx, "forecast", url.Values{"user": {user}, "side": {to.String()}, "quick": {fmt.Sprint(quick)}}, &f); err != nil {
		return nil, err
	}
	return &f, nil
}

// How long the hosts are asked about several users before somebody answers, and for a plan that is all that is wanted.
const (
	lookBefore = 10 * time.Second
	lookDry    = 2 * time.Minute
)

// forecasts sums up those of several users, one after the other. The hosts are asked for as long as look says; of the rest it is told what the
// store knows.
func (p *program) forecasts(ctx context.Context, users []string, to config.Side, look time.Duration) *syncer.ForecastSum {
	sum := &syncer.ForecastSum{To: to}
	end := time.Now().Add(look)
	for _, user := range users {
		f, err := p.forecast(ctx, user, to, !time.Now().Before(end))
		if err != nil {
			sum.Missing(user, err)
			continue
		}
		sum.Add(f)
	}
	return sum
}

// behinds tells what several users would leave behind by rollback --now. No host is asked.
func (p *program) behinds(ctx context.Context, users []string) *syncer.LeftBehindSum {
	sum := &syncer.LeftBehindSum{}
	for _, user := range users {
		var b syncer.LeftBehind
		if err := p.ask(ctx, "behind", url.Values{"user": {user}}, &b); err != nil {
			sum.Missing(user, err)
			continue
		}
		sum.Add(&b)
	}
	return sum
}

// ask is stream for a question, also where a verb has opened the store without what brings mailboxes together.
func (p *program) ask(ctx context.Context, verb string, form url.Values, out any) error {
	p.opening.Lock()
	g := p.local
	p.opening.Unlock()
	if g != nil && g.syncing == nil {
		conf := g.conf.Load()
		d, err := backend.NewDialer(conf.Backends, g.log, nil)
		if err != nil {
			return err
		}
		g.dialer, g.syncing = d, newSyncing(g, d)
		if err := g.syncing.learn(conf); err != nil {
			return err
		}
	}
	return p.stream(ctx, verb, form, func(syncer.Progress) {}, out)
}
