package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/store"
)

// electEvery is how often a node tries to lead.
const electEvery = time.Second

// newTag names this process among all that ever were: its incarnations begin with it.
func newTag() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// nodeName names this process among gateways: one to a machine, unless they are told apart by the configuration.
func nodeName(c *config.Config) string {
	if c.Node != "" {
		return c.Node
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return c.Hostname
}

// place tells a process that comes again from one of the same name elsewhere: there is one behind a control socket.
func nodePlace(c *config.Config) string {
	name, _ := os.Hostname()
	return name + " " + c.Control.Socket
}

// newMember makes this process a node among those on the same database. It has not joined.
func (g *gateway) newMember(conf *config.Config, shared *store.Postgres, tag string, verb bool) *cutover.Member {
	return cutover.NewMember(cutover.MemberOptions{Registry: shared, Router: g.router, Newcomers: g.newcomers, Name: nodeName(conf), Tag: tag,
		About: func() op.About {
			a := op.About{Version: version, Place: nodePlace(conf), Serial: g.routes.Load().Serial, HandedOver: g.leaving.apart.Load()}
			if a.Sessions = len(g.router.Sessions("")); verb {
				a.Version += " (a verb)"
			}
			return a
		},
		Wire:    func(n op.Node) cutover.Wire { return shared.Wire(n) },
		Rename:  shared.Rename,
		Call:    g.answer,
		Removed: g.stepDown, Log: g.log,
		Moved: func(user string, to config.Side) { g.gates.ForgetHere(user, to) }})
}

// ruling is what moves users: with the right to write it works, without it only knows.
type ruling struct {
	manager *cutover.Manager
	hooks   *cutover.HookRunner
	moves   *cutover.Waves
}

func (r *ruling) end() {
	r.moves.Stop()
	r.manager.Stop()
	closeHooks(r.hooks)
}

func (g *gateway) newRuling(st op.Store, c cutover.Cluster, nodes ...cutover.Node) *ruling {
	conf, hooks, moves := g.conf.Load(), newHooks(g, st, g.metrics), g.newWaves()
	m := cutover.New(cutover.Options{Store: st, Router: g.router, Nodes: nodes, Cluster: c, Own: g.member == nil, Newcomers: g.newcomers, Flip: conf.Flip,
		Routes: conf.Routes, Log: g.log, Recorder: g.p.recorder(flips{g.metrics, g.gates}), Mail: newFlipMail(g), Gates: moves, Members: moves, Hooks: hooks,
		Quiesce: func(ctx context.Context, user string) (func(), error) {
			if g.syncing == nil { // a verb that moves, while nothing runs: the store is ours alone
				return func() {}, nil
			}
			return g.syncing.Quiesce(ctx, user)
		}})
	moves.Manage(m)
	return &ruling{m, hooks, moves}
}

// manager, hooks and moves are the present ones: others begin with each term, and some that only know lie between.
func (g *gateway) manager() *cutover.Manager  { return g.managing.Load().manager }
func (g *gateway) hooks() *cutover.HookRunner { return g.managing.Load().hooks }
func (g *gateway) moves() *cutover.Waves      { return g.managing.Load().moves }

// term is a time for which this process leads: it alone takes over the routes file, runs operations and makes passes.
type term struct {
	right  *store.Postgres // to write the state of users
	ruling *ruling         // that works in it
	ended  chan struct{}   // closed when it is over, see stepDown
	over   context.Context // ends when what runs in it is to end
	stop   context.CancelFunc

	endProofs func() // ends the writing of proofs, behind what is still to be written, and waits
}

// leads tells whether this process does. Where there is one process, it does always.
func (g *gateway) leads() bool {
	return g.member == nil && !g.leaving.lent.Load() || g.member != nil && g.term.Load() != nil
}

// elect begins a term if no other node leads; op.ErrInUse when one does.
func (g *gateway) elect(ctx context.Context) error {
	right, err := g.shared.Lead(ctx, g.member.Node())
	if err != nil {
		return err
	}
	t := &term{right: right, ended: make(chan struct{})}
	t.over, t.stop = context.WithCancel(context.Background())
	if t.endProofs, err = g.keepProofs(ctx, right); err != nil {
		return errors.Join(err, right.Close())
	}
	t.ruling = g.newRuling(right, g.member.Cluster(right.Term()))
	old := g.managing.Swap(t.ruling)
	old.end()
	g.term.Store(t)
	g.log.Info("this node leads", "node", g.member.Node().Name, "term", right.Term())
	return nil
}

// keepProofs takes over what people have asked to be deleted from who led before, and writes it down from now on.
func (g *gateway) keepProofs(ctx context.Context, right *store.Postgres) (end func(), err error) {
	if g.syncing == nil {
		return func() {}, nil
	}
	all, err := right.Proofs(ctx)
	if err != nil {
		return nil, fmt.Errorf("read proofs of deletes: %w", err)
	}
	g.syncing.proofs.Replace(all)
	g.telling.heard.forget()
	run, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.syncing.proofs.Run(run, savesProofs(right), g.log)
	}()
	return func() {
		stop()
		<-done
	}, nil
}

// savesProofs writes proofs as who leads. Who does no more leaves that to the next one, who has read what was written.
func savesProofs(right *store.Postgres) func(context.Context, map[string][]byte) error {
	return func(ctx context.Context, list map[string][]byte) error {
		select {
		case <-right.Lost():
			return nil
		default:
			return right.SaveProofs(ctx, list)
		}
	}
}

// stepDown ends the term, if there is one: what it began ends or is left to who leads next. It waits.
func (g *gateway) stepDown() {
	g.terms.Lock()
	defer g.terms.Unlock()
	g.endTerm()
}

// endTerm is stepDown; terms is held.
func (g *gateway) endTerm() {
	t := g.term.Load()
	if t == nil {
		return
	}
	t.stop()
	old := g.managing.Load()
	old.end() // before anybody is told that this node does not lead
	g.managing.Store(g.onlooker())
	g.term.Store(nil)
	t.endProofs() // behind that: what sessions delete from now on is told to who leads next, which cannot be before the right is given back
	try, cancel := context.WithTimeout(context.Background(), localWait)
	defer cancel()
	if err := g.look(try); err != nil { // the one that leads is asked, and knows
		g.log.Debug("what the store knows is not read", "err", err)
	}
	_ = t.right.Close()
	close(t.ended)
	g.log.Warn("this node leads no more", "node", g.member.Node().Name, "term", t.right.Term())
}

// onlooker is a manager that only knows, for a node that does not lead.
func (g *gateway) onlooker() *ruling { return g.newRuling(g.store, g.member.Cluster(0)) }

// lead tries to lead, and runs what one process alone runs while it does, until ctx ends.
func (g *gateway) lead(ctx context.Context) {
	if g.member == nil {
		g.syncing.keeping.run(ctx)
		return
	}
	for ctx.Err() == nil {
		if t := g.term.Load(); t != nil {
			g.serveTerm(ctx, t)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(electEvery):
		}
		if err := g.take(ctx); err != nil && !errors.Is(err, op.ErrInUse) && !errors.Is(err, op.ErrUnavailable) && ctx.Err() == nil {
			g.log.Error("this node cannot lead", "err", err)
		}
	}
}

// take begins a term of a process that serves already.
func (g *gateway) take(ctx context.Context) error {
	g.terms.Lock()
	defer g.terms.Unlock()
	if !g.member.Away().IsZero() || g.member.Joining() || g.leaving.lent.Load() {
		return nil // it would not last, or is another process's now
	}
	err := g.takeAlone(ctx)
	if err != nil {
		g.endTerm()
	}
	return err
}

// takeAlone is take while no reload is under way: one that found that another node leads takes nothing over, and what the term finds on its
// beginning must be what that has read.
func (g *gateway) takeAlone(ctx context.Context) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if err := g.elect(ctx); err != nil {
		return err
	}
	return g.begin(ctx)
}

// serveTerm runs until the term or ctx ends. A term that ends with ctx goes on for what is still to be recorded: close ends it.
func (g *gateway) serveTerm(ctx context.Context, t *term) {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.over, cancel)()
	t.ruling.moves.Start() // nothing where the term is over by now: what is present then only knows
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.syncing.keeping.run(work)
	}()
	select {
	case <-ctx.Done():
		<-done
		return
	case <-t.right.Lost():
		g.syncing.endAll(errLeadLost)
		g.stepDown()
	case <-t.over.Done():
		g.syncing.endAll(errLeadLost)
	}
	<-done
	<-t.ended
}

var errLeadLost = errors.New("another node leads now")

// takeRoutes takes over the routes file of a node that begins to lead. Each node has a copy of its own: one that is not what was last
// taken over may be older, and would move people back. Then it waits for somebody to say that it is right. Only who starts, and is alone, is
// like a gateway that is the only one.
func (g *gateway) takeRoutes(ctx context.Context) error {
	routes := g.routes.Load()
	others, err := g.others(ctx)
	if err != nil {
		return err
	}
	if g.manager().Imported() && (len(others) > 0 || g.serving) {
		serial := g.manager().Serial()
		if now, err := config.LoadRoutes(g.conf.Load()); err == nil { // it may have changed a moment ago
			routes = now
		}
		g.behind.Store(serial != routes.Serial)
		if serial != routes.Serial {
			g.log.Warn("the routes file of this node, which leads, is not the one that was last taken over; nothing of it is until mailgate reload",
				"serial", routes.Serial[:12], "taken_over", serial[:min(12, len(serial))])
		}
		return nil
	}
	_, err = g.importRoutes(ctx, routes, "start", "")
	if (errors.Is(err, op.ErrUnavailable) || errors.Is(err, cutover.ErrAway)) && g.manager().Imported() {
		why := err.Error()
		g.lastReload.Store(&why)
		g.again.Store(true)
		g.log.Error("the routes file is not taken over yet; users stay where they are", "err", err)
		return nil
	}
	return err
}

// others are the nodes registered beside this one, but for processes that had its name before: these are no other gateways.
func (g *gateway) others(ctx context.Context) ([]op.Node, error) {
	if g.member == nil {
		return nil, nil
	}
	nodes, err := g.shared.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	self := g.member.Node()
	out := nodes[:0]
	for _, n := range nodes {
		if n.Name != self.Name && !(n.About.HandedOver && n.About.Place == self.About.Place) {
			out = append(out, n)
		}
	}
	return out, nil
}
