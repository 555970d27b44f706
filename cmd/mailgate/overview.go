package main

import (
	"context"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// Overview implements admin.Gateway.
func (g *gateway) Overview(ctx context.Context) admin.Overview {
	conf := g.conf.Load()
	o := admin.Overview{Hostname: conf.Hostname, Version: version, Serving: g.serving, Since: g.since, Users: map[string]int{"old": 0, "new": 0},
		Owed: g.manager().Owed(), Store: "ok", Reload: "ok"}
	g.router.Users(func(_ string, p router.Place, fenced bool) {
		o.Users[p.Side.String()]++
		if fenced {
			o.Fenced++
		}
	})
	o.Sessions, o.Silent = g.api().CountSessions(ctx, "")
	if why := g.lastReload.Load(); why != nil && *why != "" {
		o.Reload = *why
	}
	check, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := g.store.Check(check); err != nil {
		o.Store = "cannot be written, so no user can be moved; mail goes on: " + err.Error()
	}
	for _, side := range config.Sides {
		if !g.serving {
			break // nobody has looked at the backends
		}
		for _, p := range config.Protocols() {
			for _, h := range g.dialer.Health(side, p) {
				o.Backends = append(o.Backends, admin.BackendHealth{Side: side, Host: h.Name, Protocol: p, Error: h.Error})
			}
		}
	}
	if err := g.refusedLogins(ctx, &o); err != nil {
		o.Store = err.Error()
	}
	var err error
	if o.Behind, o.BehindOf, err = g.behindAll(ctx); err != nil {
		o.Store = err.Error()
	}
	open, err := g.store.Operations(ctx, op.Filter{Open: true, Limit: 100})
	if err != nil {
		o.Store = err.Error()
	}
	if g.syncing != nil && g.syncing.keeping != nil && g.started() {
		o.Sync = g.syncing.keeping.overview()
		if o.Ready, err = g.readyCounts(ctx); err != nil {
			o.Store = err.Error()
		}
	}
	if g.member != nil || g.host.Load() != nil {
		if o.Nodes, err = g.Nodes(ctx); err != nil {
			o.Store = err.Error()
		}
	}
	o.Authorities = g.authorities()
	api := g.api()
	o.Open = []op.Operation{}
	for _, x := range open {
		o.Open = append(o.Open, api.Live(ctx, x))
	}
	if o.Holds, err = g.manager().Holds(ctx); err != nil {
		o.Store = err.Error()
	}
	o.Certificates = g.managed()
	if o.Drift, err = g.manager().Drift(ctx); err != nil {
		o.Store = err.Error()
	}
	return o
}
