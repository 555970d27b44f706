package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"mailgate/admin"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
)

// Reload implements admin.Gateway: read, check whole, record what the routes file asks for, then swap.
func (g *gateway) Reload(ctx context.Context, by, from string) (admin.Reloaded, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	return g.reload(ctx, by, from)
}

func (g *gateway) reload(ctx context.Context, by, from string) (r admin.Reloaded, err error) {
	defer func() {
		why := ""
		if err != nil {
			why = err.Error()
		} else if r.Import.Waiting != nil {
			why = r.Import.Waiting.ID + " waits for approval: " + r.Import.Waiting.Reason
		}
		g.lastReload.Store(&why)
		g.again.Store(errors.Is(err, op.ErrUnavailable) || errors.Is(err, cutover.ErrAway) || g.member != nil && leadEnded(err))
		r.Follows = !g.leads()
	}()
	if g.leaving.lent.Load() {
		return r, errHanded
	}
	g.noteFiles()
	conf, err := g.p.load()
	if err != nil {
		return r, err
	}
	routes, err := config.LoadRoutes(conf)
	if err != nil {
		return r, err
	}
	key, err := learnKey(conf)
	if err != nil {
		return r, err
	}
	verifiers, err := newVerifiers(conf) // before anything is changed
	if err != nil {
		return r, err
	}
	before := g.conf.Load()
	r.Restart = config.NeedsRestart(before, conf)
	if _, err := backend.NewDialer(conf.Backends, g.log, nil); err != nil { // before anything is changed
		return r, err
	}
	if g.serving {
		if err := g.certs.Apply(conf.TLS); err != nil {
			return r, err
		}
	}
	g.manager().Configure(conf.Flip, conf.Routes)
	if r.Import, err = g.importRoutes(ctx, routes, by, from); err != nil {
		g.manager().Configure(before.Flip, before.Routes)
		if g.serving {
			err = errors.Join(err, g.certs.Apply(before.TLS))
		}
		return r, err
	}
	if r.Import.Waiting != nil {
		routes = g.routes.Load() // the file is not taken over; the rest is
	}
	if g.serving {
		g.conf.Store(conf) // first: a master login is proven of an address, and a new one is not believed before recall
		if err := g.dialer.Update(conf.Backends); err != nil {
			g.conf.Store(before)
			return r, err
		}
		g.verifiers.Adopt(verifiers)
		if err := g.syncing.accounts.recall(ctx, conf); err != nil {
			g.log.Warn("what was proven of master logins cannot be read; who needs one waits", "err", err)
		}
	}
	if g.syncing != nil {
		g.syncing.adopt(key, conf)
	}
	g.adopt(conf, routes)
	if g.acme != nil && by != fileChanged {
		g.acme.Again() // somebody may have mended what was in the way
	}
	g.metrics.Reloaded()
	return r, nil
}

// leadEnded tells whether something failed because another node leads by now: this one is to take the files as one that follows.
func leadEnded(err error) bool {
	return errors.Is(err, cutover.ErrStopping) || errors.Is(err, op.ErrInUse)
}

// adopt puts what was loaded in force. Sockets stay as they are until the next start.
func (g *gateway) adopt(conf *config.Config, routes *config.RouteFile) {
	g.conf.Store(conf)
	g.routes.Store(routes)
	g.router.Configure(routerOptions(conf))
	g.moves().Configure()
	g.hooks().Configure(conf.Hooks)
	if g.syncing != nil {
		g.syncing.throttle(conf)
	}
	if !g.serving {
		return
	}
	if g.acme != nil && conf.TLS.ACME.On() {
		g.acme.Configure(conf.TLS.ACME.Domains)
	}
	g.limiter.SetMax(conf.Login.FailDelay)
	g.proxy.Configure(conf, routes)
	g.syncing.keeping.configure()
}

func (g *gateway) importRoutes(ctx context.Context, routes *config.RouteFile, by, from string) (cutover.Imported, error) {
	if !g.leads() { // each node has a copy for hosts and login names; one says who is to be where
		return cutover.Imported{Serial: routes.Serial}, nil
	}
	serial := routes.Serial[:12]
	im, err := g.manager().Import(ctx, routes, "routes file "+serial+" ("+by+")", from)
	if err != nil {
		return im, err
	}
	if im.Waiting == nil {
		g.behind.Store(false)
	} else {
		g.log.Warn("the routes file waits for approval", "op", im.Waiting.ID, "reason", im.Waiting.Reason)
		if by == "start" && g.routes.Load() == routes {
			// At start there is no older file to serve with: login names come from the new one, sides from the store.
			g.log.Info("sides stay as they were until it is approved")
		}
	}
	return im, nil
}

// reloadLogged reloads for those who do not read the answer.
func (g *gateway) reloadLogged(ctx context.Context, by, from string) {
	again := g.again.Load()
	r, err := g.Reload(ctx, by, from)
	if again && (errors.Is(err, op.ErrUnavailable) || errors.Is(err, cutover.ErrAway)) {
		return // told already, and tried again until it works
	}
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			g.log.Error("reload refused; nothing was changed", "by", by, "err", line)
		}
		return
	}
	g.log.Info("reloaded", "by", by, "changed", r.Import.Changed, "flips", len(r.Import.Flips()),
		"needs_restart", strings.Join(r.Restart, " "))
}

// mayEdit refuses edits of a routes file that is not the one that was last taken over: all of it would be with the edit.
func (g *gateway) mayEdit() error {
	if !g.behind.Load() {
		return nil
	}
	return &cutover.Refusal{Why: "the routes file of this node, which leads, is not the one that was last taken over: an edit would have all of it taken over",
		Do: "bring it in line, or say that it is right (mailgate reload), and ask again"}
}

// SetSide implements admin.Gateway.
func (g *gateway) SetSide(ctx context.Context, user string, side config.Side, by, from string) (admin.Reloaded, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if err := g.mayEdit(); err != nil {
		return admin.Reloaded{}, err
	}
	c := g.conf.Load()
	before, err := os.ReadFile(c.Routes.File)
	if err != nil {
		return admin.Reloaded{}, fmt.Errorf("routes file: %w", err)
	}
	if _, _, err := config.EditRoute(c, user, side); err != nil {
		return admin.Reloaded{}, err
	}
	mine, err := os.ReadFile(c.Routes.File)
	if err != nil {
		return admin.Reloaded{}, fmt.Errorf("routes file: %w", err)
	}
	r, err := g.reload(ctx, by, from)
	if err != nil { // the file must not say what was refused: the next reload would move the user
		err = errors.Join(err, takeBack(c, before, mine))
	}
	return r, err
}

// takeBack undoes an edit of the routes file, unless somebody else has changed it since: his work must not be lost.
func takeBack(c *config.Config, before, mine []byte) error {
	if now, err := os.ReadFile(c.Routes.File); err != nil || !bytes.Equal(now, mine) {
		return errors.Join(errors.New("the routes file has changed meanwhile and stays so: the edit of the user's line is still in it"), err)
	}
	return config.RestoreRoutes(c, before)
}

// Approve implements admin.Gateway.
func (g *gateway) Approve(ctx context.Context, id, by, from string) (cutover.Imported, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	conf, err := g.p.load()
	if err != nil {
		return cutover.Imported{}, err
	}
	routes, err := config.LoadRoutes(conf)
	if err != nil {
		return cutover.Imported{}, err
	}
	im, err := g.manager().Approve(ctx, id, routes, by, from)
	if err != nil {
		return im, err
	}
	g.behind.Store(false)
	g.adopt(g.conf.Load(), routes)
	none := ""
	g.lastReload.Store(&none)
	return im, nil
}

// Resolve implements admin.Gateway.
func (g *gateway) Resolve(login string) (string, config.Route, bool, error) {
	conf, routes := g.conf.Load(), g.routes.Load()
	user, err := routes.Lookup(config.NewAddresses(conf.Routes), login)
	if err != nil {
		return "", config.Route{}, false, fmt.Errorf("%q: %w", login, err)
	}
	r := routes.For(user)
	for _, s := range config.Sides {
		r.Login[s] = conf.LoginName(s, r)
	}
	return user, r, routes.Users[user] != nil, nil
}

// notReady says why clients should not be sent here.
func (g *gateway) notReady() string {
	if !g.ready.Load() {
		return "starting or stopping"
	}
	if g.noCertificate() {
		return strings.Join(append([]string{"there is no certificate yet"}, g.certificateTrouble()...), "; ")
	}
	return ""
}
