package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// forecastTime bounds a forecast: who asks waits for it.
const forecastTime = time.Minute

// popWait is how long a forecast waits for a POP3 connection to a crowded host.
const popWait = 3 * time.Second

// forecast answers what a flip of a user would be like: form has user, side and, to ask no host, quick. Nothing is written to the mailboxes,
// so a pass of the user may be under way.
func (s *syncing) forecast(ctx context.Context, y *syncer.Syncer, form url.Values) (any, error) {
	user, _, _, err := s.g.Resolve(form.Get("user"))
	if err != nil {
		return nil, exitError{exitUsage, err}
	}
	to, ok := config.ParseSide(form.Get("side"))
	if !ok {
		return nil, exitError{exitUsage, errors.New("the side is old or new")}
	}
	ctx, leave, err := s.visit(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	quick, _ := strconv.ParseBool(form.Get("quick"))
	look, cancel := context.WithTimeoutCause(ctx, forecastTime, fmt.Errorf("it took longer than %s", forecastTime))
	defer cancel()
	f, err := s.look(look, y, user, to, quick)
	if err != nil && !quick && ctx.Err() == nil && look.Err() != nil { // the hosts are too slow: what the store knows
		why := err
		if f, err = s.look(ctx, y, user, to, true); err == nil {
			f.Unknown = append(f.Unknown, syncer.NotTold{What: "what the hosts hold now", Why: why.Error()})
		}
	}
	if err != nil {
		return nil, ending(ctx, false, err)
	}
	f.Open = s.open(user)
	return f, nil
}

// open counts a user's sessions by protocol.
func (s *syncing) open(user string) map[string]int {
	out := map[string]int{}
	for _, x := range s.g.router.Sessions(user) {
		out[string(x.Protocol)]++
	}
	return out
}

// look makes the forecast, with connections that are kept for passes where the user's mailboxes are kept equal.
func (s *syncing) look(ctx context.Context, y *syncer.Syncer, user string, to config.Side, quick bool) (*syncer.Forecast, error) {
	o := syncer.ForecastOptions{Quick: quick, UIDLs: s.accounts.uidls}
	if s.keeping != nil {
		o.Pace, _ = s.keeping.pace(user, time.Now())
	}
	conf, host := s.g.conf.Load(), s.g.routes.Load().For(user).Host
	for _, side := range config.Sides {
		o.NoPOP3[side] = !hasPOP3(conf, side, host[side])
	}
	var unproven error
	if !quick {
		if unproven = s.proveBoth(ctx, y, user, false); unproven != nil { // no mailbox is opened: it might be somebody else's
			if errors.Is(unproven, op.ErrUnavailable) {
				return nil, unproven
			}
			o.Quick = true
		}
	}
	if s.keeping != nil && s.keeping.keeps(user) {
		e := s.keeping.take()
		defer s.keeping.put(e)
		y = e.Syncer
	}
	f, err := y.Forecast(ctx, user, to, o)
	if err == nil && unproven != nil {
		f.Unknown = append(f.Unknown, syncer.NotTold{What: "what the hosts hold now", Why: unproven.Error()})
	}
	return f, err
}

// keeps tells whether a user's mailboxes are kept equal.
func (kp *keeping) keeps(user string) bool {
	kp.mu.Lock()
	defer kp.mu.Unlock()
	return kp.users[user] != nil
}

// hasPOP3 tells whether a side has POP3 for users of a host, "" for any host.
func hasPOP3(conf *config.Config, side config.Side, host string) bool {
	return slices.ContainsFunc(conf.Backends[side].Hosts, func(h config.Host) bool { return h.POP3.Host != "" && (host == "" || h.Name == host) })
}

// errNotPOP3 means that the master login is not proven at a side's POP3.
var errNotPOP3 = errors.New("the master login is not proven by POP3 there")

// uidls are the unique-ids of a user's messages at a side's POP3, by the login for syncing; backend.ErrNoHost where the side has none. A
// master login is used only where it was seen to open the mailbox of whom it asks for; that is tried here, where it is not known.
func (a *accounts) uidls(ctx context.Context, side config.Side, user string) ([]string, error) {
	conf := a.g.conf.Load()
	host := a.g.routes.Load().For(user).Host[side]
	if !hasPOP3(conf, side, host) {
		return nil, fmt.Errorf("%s: %w", side, backend.ErrNoHost)
	}
	only, err := a.provenPOP3(ctx, conf, side, host, user)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeoutCause(ctx, popWait, syncer.ErrCrowded)
	release, err := a.budget.Hold(wait, side, user) // beside the look's own connection: where there is room for one only, nobody waits long
	cancel()
	if err != nil {
		return nil, err
	}
	defer release()
	c, err := logIn(ctx, a, conf, side, user, host, config.POP3, func(ctx context.Context, side config.Side, host string, who backend.Account) (*backend.POP3Conn, error) {
		return a.dialer.DialPOP3(ctx, side, host, backend.LoginPOP3{Credentials: who.Credentials, LoginName: who.LoginName, Authzid: who.Authzid, Only: only})
	})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	end := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer end()
	_ = c.SetDeadline(time.Now().Add(forecastTime / 2))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return c.UIDLs()
}

// provenPOP3 are the hosts where a side's master login may be used by POP3; nil, for all of them, where there is no master.
func (a *accounts) provenPOP3(ctx context.Context, conf *config.Config, side config.Side, host, user string) (backend.Hosts, error) {
	if conf.Backends[side].Sync.MasterUser == "" {
		return nil, nil
	}
	y := syncer.New(syncer.Options{Store: a.g.store, Log: a.g.log})
	defer y.Close()
	who := append([]string{user}, slices.Sorted(maps.Keys(a.g.routes.Load().Users))...)
	var last error
	proven := false
	for _, h := range conf.Backends[side].Hosts {
		if h.POP3.Host == "" || host != "" && h.Name != host || !a.believed(proofOf(conf, side, h.Name)) {
			continue
		}
		if err := a.proveService(ctx, conf, y, side, h.Name, config.POP3, who); err != nil {
			last = err
		}
		proven = proven || a.believed(proofAt(conf, side, h.Name, config.POP3))
	}
	if !proven {
		return nil, fmt.Errorf("%w: %w", errNotPOP3, cmp.Or(last, errors.New("run mailgate probe backends first")))
	}
	return func(name string) bool { return a.believed(proofAt(conf, side, name, config.POP3)) }, nil
}
