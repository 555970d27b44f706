package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/admin"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/proxy"
)

// leaving is how this process hands over to a successor, and what it is from then on: a node without a store, or one of several with a name
// of its own. See handOver.
type leaving struct {
	turn     sync.Mutex     // held while a successor is spoken with
	wg       sync.WaitGroup // connections to the control socket that became something else
	patience time.Duration  // for the end of what this process alone does, see giveTime

	taking atomic.Bool // this process has taken over, and who was before it does not know yet that it serves
	lent   atomic.Bool // this process does not lead, and has let the store go, or is about to
	served atomic.Bool // a successor serves
	apart  atomic.Bool // this process has a name of its own among the nodes of a database, see giveName
	given  bool        // this process has let the store go, or its name; of who has turn, or goes back

	mu     sync.Mutex
	closed bool               // nothing becomes something else any more
	back   context.CancelFunc // ends the attempts to lead again; nil when there are none
	backed chan struct{}      // closed when they have ended
	node   op.Node            // that this process is while lent
	alive  *os.File           // see sayAlive
	said   string             // the incarnation in it
	file   string             // where it is, if it has to be taken away, see unsay
	limit  time.Duration      // for the sessions
	member *cutover.Member
	tether *cutover.Tether
	rest   func() // ends what member does by itself, and waits; it is asked still
	end    func() // ends member and tether, and waits
	notes  *notes
	serves chan struct{} // closed when the successor says that it serves; nil while there is none
}

// successorServes is what it says. It may say it twice. False when it comes too late: this process goes back already.
func (l *leaving) successorServes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.served.Load():
	case l.serves == nil:
		return false
	default:
		l.served.Store(true)
		l.notes.serves()
		close(l.serves)
	}
	return true
}

// expect begins to wait for what a successor says.
func (l *leaving) expect() (serves <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serves = make(chan struct{})
	return l.serves
}

// gaveUp ends that, and tells whether it has said that it serves.
func (l *leaving) gaveUp() (served bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serves = nil
	return l.served.Load()
}

// enter begins something that close waits for; false behind close.
func (l *leaving) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.wg.Add(1)
	}
	return !l.closed
}

// close waits for the end of all that became something else, and of attempts to lead again; they end with run's work.
func (l *leaving) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wg.Wait()
}

// errHanded is for who wants something of a process that does not lead any more.
var errHanded = errors.New("the gateway is being handed over to another process; ask again in a moment")

// refusedUpgrade words the answer to an upgrade that is none.
func refusedUpgrade(head []byte, rest net.Conn) (error, bool) {
	r := bufio.NewReader(&prefixed{head, rest})
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err, true
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return nil, false
	}
	defer res.Body.Close()
	var f admin.Failure
	if res.StatusCode == http.StatusNotFound || json.NewDecoder(res.Body).Decode(&f) != nil {
		return fmt.Errorf("it is of a version that cannot hand over (%s)", res.Status), true
	}
	return errors.New(f.Error), true
}

// prefixed reads what was read already, and then the rest.
type prefixed struct {
	head []byte
	net.Conn
}

// Read implements io.Reader.
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// switchTo makes a request to the control socket a connection for f, which it runs. Only the user that this process runs as may have one.
func (g *gateway) switchTo(w http.ResponseWriter, f func(ctx context.Context, c *net.UnixConn)) {
	ctx := g.working.Load()
	if ctx == nil {
		sayNo(w, admin.ExitUnknown, errHanded)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		sayNo(w, admin.ExitFailed, err)
		return
	}
	defer conn.Close()
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return
	}
	_ = u.SetDeadline(time.Time{})
	uid, pid, err := peerOf(u)
	if err == nil && uid != os.Geteuid() {
		err = fmt.Errorf("only the user that it runs as (uid %d) may do that, and this is uid %d", os.Geteuid(), uid)
	}
	if err != nil {
		text, _ := json.Marshal(admin.Failure{Error: err.Error(), Exit: admin.ExitRefused})
		fmt.Fprintf(u, "HTTP/1.1 422 Unprocessable Entity\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		g.log.Warn("not handed over", "uid", uid, "pid", pid, "err", err)
		return
	}
	if _, err := fmt.Fprint(u, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: mailgate\r\n\r\n"); err == nil {
		defer context.AfterFunc(*ctx, func() { u.Close() })()
		f(*ctx, u)
	}
}

// successor answers a process that wants to take over.
func (g *gateway) successor(w http.ResponseWriter) {
	switch {
	case g.leaving.served.Load():
		sayNo(w, admin.ExitUnknown, errHanded)
		return
	case g.leaving.taking.Load(): // else that one would believe that this process never served, and lead again
		sayNo(w, admin.ExitRefused, errors.New("it has taken over itself, and the process before it does not know that yet; ask again in a moment"))
		return
	case !g.ready.Load(): // what it is to end may not have begun, and begin behind that
		sayNo(w, admin.ExitRefused, errors.New("it is starting or ending; ask again in a moment"))
		return
	case g.member != nil && (g.member.Joining() || !g.member.Away().IsZero()):
		sayNo(w, admin.ExitRefused, errors.New("its database does not answer; ask again when it does"))
		return
	case !g.leaving.turn.TryLock():
		sayNo(w, admin.ExitRefused, errors.New("another process is taking over already"))
		return
	}
	defer g.leaving.turn.Unlock()
	if !g.leaving.enter() {
		sayNo(w, admin.ExitUnknown, errHanded)
		return
	}
	defer g.leaving.wg.Done()
	g.switchTo(w, g.handOver)
}

// fellow answers a process that has handed over, and has lost its connection.
func (g *gateway) fellow(w http.ResponseWriter) {
	host, leads := g.host.Load(), g.leading.Load()
	// leads is nil for a moment when this process has just begun.
	if host == nil || leads == nil || g.leaving.lent.Load() || !g.leaving.enter() {
		sayNo(w, admin.ExitUnknown, errHanded)
		return
	}
	defer g.leaving.wg.Done()
	g.switchTo(w, func(_ context.Context, c *net.UnixConn) { _ = host.Serve(leads.ctx, cutover.NewLink(c)) })
}

// handOver gives sockets and store, or name, to a successor. Until that has said that it serves this process can go on as before, and does if the
// successor ends: it listens all the time.
func (g *gateway) handOver(ctx context.Context, c *net.UnixConn) {
	l := &g.leaving
	_, pid, _ := peerOf(c)
	g.log.Info("another process wants to take over", "pid", pid)
	if err := offer(c, storeName(g.conf.Load()), g.sockets()); err != nil {
		g.log.Error("the sockets are not handed over", "err", err)
		return
	}
	var w wanted
	if _, err := hear(c, &w); err != nil {
		g.log.Info("the other process did not take over", "pid", pid, "err", err)
		return
	}
	l.stopBack()
	if l.served.Load() { // the one before was not dead
		_ = say(c, given{Error: errHanded.Error()}, nil)
		return
	}
	if err := g.give(ctx, w.Limit); err != nil {
		g.log.Error("not handed over", "pid", pid, "err", err)
		_ = say(c, given{Error: err.Error()}, nil)
		g.goBack(ctx)
		return
	}
	if err := say(c, given{Node: l.node}, nil); err != nil {
		g.log.Error("the other process has ended before it took the store", "pid", pid, "err", err)
		g.goBack(ctx)
		return
	}
	served := false
	if g.member != nil {
		served = g.stayNode(c)
	} else {
		served = g.stayBehind(ctx, cutover.NewLink(c))
	}
	if !served && ctx.Err() == nil {
		g.log.Error("the other process has ended before it served", "pid", pid)
		g.goBack(ctx)
	}
}

// stayBehind makes this process a node of a successor that has the store. It returns true when that serves, and false when it has ended
// before, or ctx has.
func (g *gateway) stayBehind(ctx context.Context, link *cutover.Link) (served bool) {
	l := &g.leaving
	serves := l.expect()
	g.follow(ctx, link)
	select {
	case <-serves:
	case <-link.Over():
	case <-ctx.Done():
	}
	if !l.gaveUp() {
		l.end()
		return false
	}
	g.log.Info("handed over; sessions that run go on here", "node", l.node.Name, "sessions", len(g.router.Sessions("")))
	g.stopServing()
	return true
}

// sockets are those that this process listens on for clients.
func (g *gateway) sockets() []proxy.Socket {
	all := g.proxy.Sockets()
	if g.adminSocket != nil {
		all = append(all, proxy.Socket{Network: "tcp", Address: g.conf.Load().Admin.Listen, Listener: g.adminSocket})
	}
	return all
}

// giveTime bounds the end of what this process alone does.
const giveTime = 30 * time.Second

// give ends what this process does as the one that leads, and lets the store go, or its name. Flips that are under way are called off, or end; they
// begin anew with the successor. It may be called again after an error, and behind a hand-over that came to nothing; goBack undoes it,
// however far it came.
func (g *gateway) give(ctx context.Context, limit time.Duration) error {
	l := &g.leaving
	l.limit = limit
	g.reloading.Lock()
	l.lent.Store(true)
	if g.member == nil { // else it tells who leads: telling
		l.notes.keep()
	}
	g.reloading.Unlock()
	if !l.given {
		if err := g.ceaseToLead(ctx); err != nil {
			return err
		}
	}
	if g.member != nil {
		return g.giveName(ctx)
	}
	conf, tag := g.conf.Load(), newTag() // another one each time: a successor before may have heard of the last one
	n := op.Node{Name: nameApart(conf), Incarnation: tag + ".1"}
	l.mu.Lock()
	f, err := sayAlive(aliveDir(conf), tag, n, l.alive)
	if err == nil {
		l.node, l.alive, l.said = n, f, n.Incarnation
	}
	l.mu.Unlock()
	if err != nil || l.given {
		return err
	}
	return g.lend(ctx)
}

// ceaseToLead ends all that works with the store.
func (g *gateway) ceaseToLead(ctx context.Context) error {
	if g.member != nil {
		g.stepDown() // for good: see take
	} else {
		g.managing.Load().end()
	}
	g.syncing.stop()
	last, cancel := context.WithTimeout(ctx, g.leaving.patience)
	defer cancel()
	if !g.syncing.idle(last) {
		return cmp.Or(ctx.Err(), errors.New("passes over mailboxes do not end; try again when less is under way (mailgate op list)"))
	}
	if host := g.host.Load(); host != nil { // who handed over before comes to the successor, or to the next Host of this process
		host.Part() // before the last write of proofs: what is told is written, or told again
	}
	if !g.endLeading(last) {
		return cmp.Or(ctx.Err(), errors.New("what one process alone does (passes, certificates, records) does not end; try again in a moment"))
	}
	save, enough := context.WithTimeout(context.WithoutCancel(ctx), giveTime)
	defer enough()
	if err := g.gates.Save(save); err != nil {
		g.log.Warn("what gates are judged by is not recorded", "err", err)
	}
	return nil
}

// follow makes this process a node of its successor.
func (g *gateway) follow(ctx context.Context, first *cutover.Link) {
	l := &g.leaving
	conf, tag := g.conf.Load(), l.node.Incarnation[:len(l.node.Incarnation)-2]
	dial := func(ctx context.Context) (*cutover.Link, error) {
		c, err := upgrade(ctx, conf.Control.Socket, fellowPath)
		if err != nil {
			return nil, err
		}
		return cutover.NewLink(c), nil
	}
	joining := func(n op.Node) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n.Incarnation == l.said {
			return nil
		}
		f, err := sayAlive(aliveDir(conf), tag, n, l.alive)
		if err == nil {
			l.alive, l.said = f, n.Incarnation
		}
		return err
	}
	l.tether = cutover.NewTether(dial, joining)
	l.tether.Answering = l.notes.allTold
	l.notes.anew()
	l.member = cutover.NewMember(cutover.MemberOptions{Registry: l.tether, Router: g.router, Newcomers: g.newcomers, Name: l.node.Name, Tag: tag,
		About: func() op.About {
			return op.About{Version: version, Place: nodePlace(conf), Serial: g.routes.Load().Serial, Sessions: len(g.router.Sessions(""))}
		},
		Wire: func(op.Node) cutover.Wire { return l.tether.Wire() }, Call: g.answer, Removed: func() {}, Log: g.log, Served: true})
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	living, rest := context.WithCancel(run)
	var wg, lives sync.WaitGroup
	wg.Go(func() { l.tether.Run(run, first, l.served.Load) })
	wg.Go(func() { l.notes.tell(run, l.tether.Tell) })
	lives.Go(func() {
		for {
			try, enough := context.WithTimeout(living, sayTime)
			err := l.member.Join(try)
			enough()
			if err == nil {
				break
			}
			select {
			case <-living.Done():
				return
			case <-time.After(redialTime):
			}
		}
		if err := l.member.Run(living); err != nil {
			g.log.Error("this process ends: it cannot be a node", "err", err)
			g.router.CutAll("This server was taken out of service, please reconnect")
		}
	})
	l.rest = func() {
		rest()
		lives.Wait()
	}
	l.end = sync.OnceFunc(func() {
		cancel()
		l.rest()
		l.member.Close()
		wg.Wait()
	})
}

// outlast waits for the end of the sessions that stay behind, until the limit or ctx ends.
func (g *gateway) outlast(ctx context.Context) {
	limit := g.leaving.limit
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch {
	case g.proxy.Empty(ctx):
		g.log.Info("the last session has ended")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		g.log.Warn("sessions end because they have gone on for so long after the hand-over", "sessions", len(g.router.Sessions("")), "limit", limit.String())
	}
}

// leave is the end of this process as a node of its successor.
func (l *leaving) leave() error {
	if l.member == nil {
		return nil
	}
	defer l.end()
	if !l.served.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	quiet, enough := context.WithTimeout(ctx, quietTime)
	l.tether.Quiet(quiet)
	enough()
	rest, enough := context.WithTimeout(ctx, restTime)
	l.notes.allTold(rest) // nobody may have asked since the last session ended
	enough()
	l.rest() // or it could register again behind this
	if l.member.Joining() {
		return nil // the successor finds out that this process has ended
	}
	err := l.member.Leave(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alive != nil {
		l.alive.Close()
	}
	return err
}

// quietTime is how long a process that ends waits until what it was asked is answered: that ends with its last session, or in a moment.
const quietTime = time.Second

// restTime is how long it waits until what its sessions have done is told.
const restTime = 3 * time.Second

// ruleAlone makes what moves users where there is one store and one process that has it: others that had it before may run still.
func (g *gateway) ruleAlone(ctx context.Context, running []op.Node, served bool) error {
	if len(running) == 0 && !served {
		g.managing.Store(g.rulingAlone())
		return nil
	}
	conf := g.conf.Load()
	local := &cutover.LocalNode{ID: nodeName(conf), Router: g.router, Flush: func(ctx context.Context) error { return g.manager().FlushOwed(ctx) }}
	host := cutover.NewHost(cutover.HostOptions{Store: g.store, Local: local, Log: g.log, Told: g.heard,
		Alive: func(n op.Node) bool { return runs(aliveDir(conf), n) }})
	if err := host.Begin(ctx, running); err != nil {
		return err
	}
	g.host.Store(host)
	g.managing.Store(g.rulingAlone())
	return nil
}

// rulingAlone is what moves users with the nodes that there are.
func (g *gateway) rulingAlone() *ruling {
	if host := g.host.Load(); host != nil {
		return g.newRuling(g.store, host)
	}
	return g.newRuling(g.store, nil, &cutover.LocalNode{ID: nodeName(g.conf.Load()), Router: g.router})
}
