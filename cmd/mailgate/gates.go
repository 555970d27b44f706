package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/admin"
	"mailgate/backend"
	"mailgate/config"
	wavegate "mailgate/cutover/gate"
	"mailgate/op"
	"mailgate/proxy"
	"mailgate/router"
)

// newGates makes the Book of what gates are judged by.
func (g *gateway) newGates(conf *config.Config) *wavegate.Book {
	var gather wavegate.Gather
	if g.shared != nil {
		gather = g.gatherSignals
	}
	return wavegate.New(wavegate.Options{Gather: gather, Store: g.store, Log: g.log, Node: nodeName(conf), Waves: g.movedWaves, Lag: g.lag, Verified: g.verified, Regressed: g.regressed,
		Side: func(user string) config.Side {
			place, _ := g.router.Lookup(user)
			return place.Side
		},
		Listed: func(user string) bool { return g.routes.Load().Users[user] != nil }})
}

// seen is told by the fronts what becomes of the logins, sessions and messages of somebody in the routes file.
func (g *gateway) seen(user string, side config.Side, _ config.Protocol, what proxy.Happening, err error) {
	kind := wavegate.SessionOver
	switch what {
	case proxy.LoggedIn:
		kind = wavegate.LoginOK
	case proxy.LoginRefused:
		if kind = wavegate.LoginRefused; errors.As(err, new(*backend.Error)) && !refusedPassword(err) { // too many connections, and the like
			kind = wavegate.LoginFailed
		}
	case proxy.LoginFailed:
		kind = wavegate.LoginFailed
	case proxy.SessionBroken:
		kind = wavegate.SessionBroken
	case proxy.MailTaken:
		kind = wavegate.MailOK
	case proxy.MailRefused:
		kind = wavegate.MailRefused
	}
	g.gates.Count(user, side, kind)
}

// flips is the Recorder of cutover: metrics, and what gates compare with.
type flips struct {
	*admin.Metrics
	gates *wavegate.Book
}

// Transition implements cutover.Recorder. At RELEASE the flip is committed, and no login has gone on yet.
func (f flips) Transition(user string, from, to router.State, by string) {
	if to == router.Release {
		f.gates.Leaves(user)
	}
	f.Metrics.Transition(user, from, to, by)
}

// arrivals are since when users of some waves are on NEW. Where the store cannot be read nobody's is known: gates then say so.
func (g *gateway) arrivals(ctx context.Context, of func(user string) bool) map[string]time.Time {
	since := map[string]time.Time{}
	_ = g.store.Rows(ctx, func(r op.Row) error {
		if r.Side == config.New && of(r.User) {
			since[r.User] = r.Since
		}
		return nil
	})
	return since
}

// members are the users of a wave as gates see them.
func (g *gateway) members(wave string, since map[string]time.Time) (list []wavegate.Member) {
	for _, user := range g.routes.Load().Members(wave) {
		place, _ := g.router.Lookup(user)
		list = append(list, wavegate.Member{User: user, Side: place.Side, Since: since[user]})
	}
	return list
}

// judge judges the gates of a wave now.
func (g *gateway) judge(ctx context.Context, wave string, phase wavegate.Phase) ([]wavegate.Result, error) {
	since := g.arrivals(ctx, func(user string) bool { return g.wave(user) == wave })
	return g.gates.Judge(ctx, phase, g.conf.Load().Wave(wave), g.members(wave, since)), nil
}

// movedWaves are those of which somebody is on NEW. Of several gateways the one that leads looks at them, and has their commands run.
func (g *gateway) movedWaves(ctx context.Context) (out []wavegate.Wave) {
	if !g.leads() {
		return nil
	}
	conf, routes := g.conf.Load(), g.routes.Load()
	since := g.arrivals(ctx, func(user string) bool { return g.wave(user) != "" })
	for _, name := range routes.Waves(conf) {
		w := wavegate.Wave{Wave: conf.Wave(name), Members: g.members(name, since)}
		if slices.ContainsFunc(w.Members, func(m wavegate.Member) bool { return m.Side == config.New }) {
			out = append(out, w)
		}
	}
	return out
}

// lag is the age of the oldest change of a user that is not carried yet.
func (g *gateway) lag(user string) (time.Duration, error) {
	if g.syncing == nil || g.syncing.keeping == nil {
		return 0, errors.New("mailgate serve does not run")
	}
	st, ok := g.syncing.keeping.k.State(user)
	switch {
	case !ok:
		return 0, errors.New("his wave is not started")
	case !st.Since.IsZero() && st.Phase != "first copy":
		return time.Since(st.Since), nil
	case st.Phase != "converged":
		return 0, fmt.Errorf("his sync is in the state %q", st.Phase)
	}
	return 0, nil
}

// regressed are the users whom NEW refuses with a password that worked on OLD.
func (g *gateway) regressed(ctx context.Context) (map[string]bool, error) {
	list, err := g.store.Refusals(ctx, "")
	users := map[string]bool{}
	for _, r := range list {
		if r.Side == config.New {
			users[r.User] = true
		}
	}
	return users, err
}
