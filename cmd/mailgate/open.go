package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"mailgate/admin"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/router"
	"mailgate/store"
)

// lockWait is how long serve waits for the store: a verb that works on it while nothing runs needs it for moments.
const lockWait = 10 * time.Second

// localWait is the same for a verb: another verb may be at work.
const localWait = 2 * time.Second

// as is what a process opens the store for.
type as int

const (
	asOnly     as = iota // nobody else is to write meanwhile
	asLook               // to look; where the database lets them, others may write
	asNode               // to serve, beside others where the database lets them
	asVerbNode           // the same for a verb that moves users while nothing runs here
)

// open reads configuration and routes, opens the store and makes what moves users: all that verbs need, and the first
// part of serve. Nothing is started.
func (p *program) open(ctx context.Context, newLog func(config.Log) *slog.Logger, wait time.Duration, what as) (*gateway, error) {
	conf, err := p.load()
	if err != nil {
		return nil, err
	}
	g := &gateway{p: p, log: newLog(conf.Log), newcomers: cutover.NewNewcomers()}
	g.conf.Store(conf)
	g.noteFiles()
	routes, err := config.LoadRoutes(conf)
	if err != nil {
		return nil, err
	}
	g.routes.Store(routes)
	tag := newTag()
	g.origin = uint32(os.Getpid())
	switch {
	case what == asLook && conf.Store.URL != "":
		if g.shared, err = store.OpenPostgres(ctx, conf.Store.URL.Reveal()); err != nil {
			return nil, err
		}
		g.store = g.shared
	case what != asOnly && conf.Store.URL != "":
		if err := g.alone(ctx, wait); err != nil {
			return nil, err
		}
		if g.shared, err = store.OpenPostgresNode(ctx, conf.Store.URL.Reveal(), tag); err != nil {
			return nil, err
		}
		g.store = g.shared
	default:
		if g.store, err = openStore(ctx, conf, wait); err != nil {
			return nil, err
		}
	}
	g.router = router.New(routerOptions(conf), g.newcomers.Side, g.newcomers.Seen)
	g.gates = g.newGates(conf)
	g.metrics = admin.NewMetrics(version, revision(), g.sources())
	if g.shared != nil && what != asLook {
		g.member = g.newMember(conf, g.shared, tag, what == asVerbNode)
		g.origin, g.telling = originOf(tag), newTelling(g)
		g.managing.Store(g.onlooker())
		return g, nil
	}
	if what != asLook || conf.Store.URL == "" {
		g.endInterrupted(ctx)
	}
	var running []op.Node
	if conf.Store.URL == "" {
		if running, err = alive(aliveDir(conf)); err != nil {
			return nil, errors.Join(err, g.store.Close())
		}
	}
	if err := g.ruleAlone(ctx, running, false); err != nil {
		return nil, errors.Join(err, g.store.Close())
	}
	return g, nil
}

// openStore waits while another process has the store, unless that is a serve that answers.
func openStore(ctx context.Context, conf *config.Config, wait time.Duration) (store.Store, error) {
	open := func() (store.Store, error) {
		if conf.Store.URL != "" {
			return store.OpenPostgresWriter(ctx, conf.Store.URL.Reveal())
		}
		return store.Open(ctx, conf.Store.Path)
	}
	for end := time.Now().Add(wait); ; {
		st, err := open()
		if err == nil {
			return st, nil
		}
		if errors.Is(err, os.ErrPermission) {
			return nil, exitError{exitRefused, fmt.Errorf("%w; run it as the user that mailgate serve runs as, or with sudo", err)}
		}
		if !errors.Is(err, op.ErrInUse) || time.Now().After(end) {
			return nil, err
		}
		if c, err := net.Dial("unix", conf.Control.Socket); err == nil {
			c.Close()
			return nil, fmt.Errorf("mailgate serve runs already: it answers at %s", conf.Control.Socket)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// start brings the state in order and takes over the routes file, or joins those of whom another does.
func (g *gateway) start(ctx context.Context) error {
	g.terms.Lock() // who asks over the wire waits
	defer g.terms.Unlock()
	if g.member != nil {
		if err := g.member.Join(ctx); err != nil {
			return err
		}
		g.removeEnded(ctx)
		switch err := g.electSoon(ctx); {
		case errors.Is(err, op.ErrInUse):
			g.log.Info("another node leads", "node", g.member.Node().Name, "leader", g.member.Leader().Name)
			return g.look(ctx)
		case err != nil:
			return err
		}
		g.endInterrupted(ctx)
	}
	return g.begin(ctx)
}

// begin is the start of what one process alone runs: the state is brought in order, and the routes file is taken over.
func (g *gateway) begin(ctx context.Context) error {
	if err := g.moves().Load(ctx); err != nil { // before flips go on, and before the file: they may be parts of a move
		return err
	}
	if err := g.manager().Start(ctx); err != nil {
		return err
	}
	if err := g.hooks().Start(ctx); err != nil {
		return err
	}
	return g.takeRoutes(ctx)
}

// look reads what the store knows, and nothing else.
func (g *gateway) look(ctx context.Context) error {
	if err := g.manager().Load(ctx); err != nil {
		return err
	}
	return g.moves().Load(ctx)
}

// electSoon is elect that waits while a verb has the right: it needs it for moments. Another node has it for long.
func (g *gateway) electSoon(ctx context.Context) error {
	for end := time.Now().Add(lockWait); ; {
		err := g.elect(ctx)
		if !errors.Is(err, op.ErrInUse) || time.Now().After(end) {
			return err
		}
		if others, oerr := g.others(ctx); oerr != nil || len(others) > 0 {
			return errors.Join(err, oerr)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// leaveTime bounds the end of a node's registration.
const leaveTime = 5 * time.Second

// close ends what open and start began.
func (g *gateway) close() error {
	g.stepDown()
	if g.stopVerb != nil {
		g.stopVerb()
	}
	g.managing.Load().end()
	if g.lock != nil {
		defer g.lock.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), localWait)
	defer cancel()
	var err error
	if g.leaving.lent.Load() {
		err = g.leaving.leave()
	} else {
		err = g.gates.Save(ctx)
	}
	if g.member != nil {
		err = errors.Join(err, g.leave())
	}
	return errors.Join(err, g.store.Close())
}

// leave is the end of this process as a node.
func (g *gateway) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	err := g.member.Leave(ctx)
	if err != nil {
		g.log.Warn("this node stays registered: flips wait until it comes again or is removed (mailgate nodes remove)", "err", err)
		return err
	}
	g.leaving.unsay()
	return nil
}

// api is what verbs ask.
func (g *gateway) api() *admin.API {
	a := &admin.API{Gateway: g, Waves: g.moves(), Waivers: g.gates, Shares: g.shares, Kept: g.keptWaves, Compared: g.verified, Router: g.router, Manager: g.manager(), Store: g.store, Logins: g.store, Ready: g.readiness, Behind: g.leftBehind}
	if g.syncing != nil {
		a.Syncing = g.syncing
	}
	a.Fellows = g
	return a
}

// inUse says what it may mean that somebody has the store and nobody answers.
func (p *program) inUse(conf *config.Config, err error) error {
	return fmt.Errorf("nobody answers at %s, and yet the store is in use: mailgate serve is starting or ending, "+
		"or another verb is at work; try again: %w", conf.Control.Socket, err)
}

// openLocal opens the store for a verb, because nothing runs: to look only, or also (asVerbNode) to work off what is asked for.
func (p *program) openLocal(ctx context.Context, what as) (*gateway, error) {
	conf, err := p.load()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(conf.Store.Path); err != nil && what != asVerbNode && conf.Store.URL == "" {
		return nil, exitError{exitUnknown, fmt.Errorf("mailgate serve does not run, and there is no store to look at: %w", err)}
	}
	onlyErrors := func(config.Log) *slog.Logger {
		return slog.New(slog.NewTextHandler(p.err, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	g, err := p.open(ctx, onlyErrors, localWait, what)
	switch {
	case errors.Is(err, op.ErrInUse):
		return nil, exitError{exitUnknown, p.inUse(conf, err)}
	case err != nil:
		return nil, err
	case what != asVerbNode:
		err = g.look(ctx)
	default:
		err = g.work(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

// openSyncing makes what brings mailboxes together, in a verb.
func (g *gateway) openSyncing(conf *config.Config) error {
	d, err := backend.NewDialer(conf.Backends, g.log, nil)
	if err != nil {
		return err
	}
	g.dialer, g.syncing = d, newSyncing(g, d)
	return g.syncing.learn(conf)
}

// work begins to work off what is asked for, in a verb.
func (g *gateway) work(ctx context.Context) error {
	if g.syncing == nil { // flips bring mailboxes together
		if err := g.openSyncing(g.conf.Load()); err != nil {
			return err
		}
	}
	if g.member != nil {
		if err := g.startVerb(ctx); err != nil {
			return err
		}
	}
	if err := g.moves().Load(ctx); err != nil {
		return err
	}
	if err := g.manager().Start(ctx); err != nil {
		return err
	}
	if err := g.hooks().Start(ctx); err != nil {
		return err
	}
	if err := g.gates.Load(ctx); err != nil {
		return err
	}
	if !g.manager().Imported() {
		if _, err := g.importRoutes(ctx, g.routes.Load(), by(), admin.From(ctx, os.Getenv("SSH_CONNECTION"))); err != nil {
			return err
		}
	}
	g.moves().Start()
	return nil
}

// closeLocal ends what openLocal began, when what was asked for is done, or at once when that went wrong.
func (p *program) closeLocal(ctx context.Context, wait bool) error {
	if p.local == nil {
		return nil
	}
	var idle error
	if wait {
		if idle = p.local.moves().Idle(ctx); idle == nil {
			idle = p.local.manager().Idle(ctx)
		}
		if idle == nil {
			idle = p.local.hooks().Idle(ctx)
		}
	}
	err := p.local.close()
	if p.pace != nil {
		p.pace()
		p.pace = nil
	}
	if idle != nil {
		return fmt.Errorf("what is not done yet goes on when mailgate serve runs: %w", errors.Join(idle, err))
	}
	return err
}

// sources are what metrics are read from.
func (g *gateway) sources() admin.Sources {
	return admin.Sources{Router: g.router, Wave: g.wave, Waves: g.waves,
		Steps: func() map[string]op.State { return g.manager().Steps() },
		Operations: func() map[op.Kind]map[op.Status]int {
			n := g.manager().Counts()
			n[op.Wave] = g.moves().Counts()
			if g.syncing != nil {
				n[op.Sync] = map[op.Status]int{op.Running: g.syncing.running()}
			}
			return n
		},
		Sync: func() (map[string]int, time.Duration) {
			if g.syncing == nil || g.syncing.keeping == nil {
				return nil, 0
			}
			return g.syncing.keeping.counts()
		},
		Connections: func() (out []admin.Connection) {
			for _, c := range g.proxy.Connections() {
				out = append(out, admin.Connection{Protocol: c.Protocol, Listener: c.URL, Mode: c.Mode, N: c.N})
			}
			return out
		},
		Gates: g.gates.Last, NotAfter: g.expiries}
}

// wave is that of a user's line or pattern.
func (g *gateway) wave(user string) string {
	routes := g.routes.Load()
	if r := routes.Users[user]; r != nil {
		return r.Wave
	}
	r, _ := routes.Match(user)
	return r.Wave
}

// waves are those that the routes file names.
func (g *gateway) waves() (out []string) {
	routes := g.routes.Load()
	seen := map[string]bool{"": true}
	add := func(w string) {
		if !seen[w] {
			seen[w] = true
			out = append(out, w)
		}
	}
	for _, r := range routes.Users {
		add(r.Wave)
	}
	for _, r := range routes.Patterns {
		add(r.Wave)
	}
	return out
}

// expiries are the ends of the certificates, for each listener that speaks TLS.
func (g *gateway) expiries() (out []admin.Expiry) {
	seen := map[string]bool{}
	for i, a := range g.proxy.Addrs() {
		_, port, err := net.SplitHostPort(a.String())
		if err != nil || g.listeners[i].Mode == config.Plain {
			continue
		}
		for _, leaf := range g.certs.Leaves() {
			host := leaf.Subject.CommonName
			if len(leaf.DNSNames) > 0 {
				host = leaf.DNSNames[0]
			}
			if key := host + " " + port; !seen[key] { // one series each: the first is the one presented
				seen[key] = true
				out = append(out, admin.Expiry{Host: host, Port: port, At: leaf.NotAfter})
			}
		}
	}
	return out
}
