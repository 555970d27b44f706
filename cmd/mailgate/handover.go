package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/admin"
	"mailgate/config"
	"mailgate/cutover"
	"mailgate/imapwire"
	"mailgate/op"
	"mailgate/proxy"
	"mailgate/store"
)

// leaving is how this process hands over to a successor, and what it is from then on: a node without a store. See handOver.
type leaving struct {
	turn sync.Mutex     // held while a successor is spoken with
	wg   sync.WaitGroup // connections to the control socket that became something else

	lent   atomic.Bool // this process does not have the store, and does not lead
	served atomic.Bool // a successor serves

	mu     sync.Mutex
	back   context.CancelFunc // ends the attempts to lead again; nil when there are none
	backed chan struct{}      // closed when they have ended
	node   op.Node            // that this process is while lent
	alive  *os.File           // see sayAlive
	limit  time.Duration      // for the sessions
	member *cutover.Member
	tether *cutover.Tether
	end    func() // ends member and tether, and waits
	notes  chan cutover.Note
	owed   atomic.Int64  // notes that are not told yet
	serves chan struct{} // closed when the successor says that it serves
}

// successorServes is what it says. It may say it twice.
func (l *leaving) successorServes() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.serves:
	default:
		l.served.Store(true)
		close(l.serves)
	}
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
	case g.shared != nil || !g.serving:
		sayNo(w, admin.ExitRefused, errors.New("this gateway cannot hand over: its store is a database"))
		return
	case g.leaving.served.Load():
		sayNo(w, admin.ExitUnknown, errHanded)
		return
	case !g.leaving.turn.TryLock():
		sayNo(w, admin.ExitRefused, errors.New("another process is taking over already"))
		return
	}
	defer g.leaving.turn.Unlock()
	g.leaving.wg.Add(1)
	defer g.leaving.wg.Done()
	g.switchTo(w, g.handOver)
}

// fellow answers a process that has handed over, and has lost its connection.
func (g *gateway) fellow(w http.ResponseWriter) {
	host := g.host.Load()
	if host == nil || g.leaving.lent.Load() {
		sayNo(w, admin.ExitUnknown, errHanded)
		return
	}
	g.leaving.wg.Add(1)
	defer g.leaving.wg.Done()
	g.switchTo(w, func(_ context.Context, c *net.UnixConn) {
		if leads := g.leading.Load(); leads != nil {
			_ = host.Serve(leads.ctx, cutover.NewLink(c))
		}
	})
}

// handOver gives sockets and store to a successor. Until that has said that it serves this process can go on as before, and does if the
// successor ends: it listens all the time.
func (g *gateway) handOver(ctx context.Context, c *net.UnixConn) {
	l := &g.leaving
	_, pid, _ := peerOf(c)
	g.log.Info("another process wants to take over", "pid", pid)
	if err := offer(c, g.sockets()); err != nil {
		g.log.Error("the sockets are not handed over", "err", err)
		return
	}
	var w wanted
	if _, err := hear(c, &w); err != nil {
		g.log.Info("the other process did not take over", "pid", pid, "err", err)
		return
	}
	l.stopBack()
	if err := g.give(ctx, w.Limit); err != nil {
		g.log.Error("not handed over", "pid", pid, "err", err)
		_ = say(c, given{Error: err.Error()}, nil)
		g.goBack(ctx)
		return
	}
	link := cutover.NewLink(c)
	l.mu.Lock()
	l.serves = make(chan struct{})
	l.mu.Unlock()
	if err := say(c, given{Node: l.node}, nil); err != nil {
		g.log.Error("the other process has ended before it took the store", "pid", pid, "err", err)
		g.goBack(ctx)
		return
	}
	g.follow(ctx, link)
	serves := false
	select {
	case <-l.serves:
		serves = true
	case <-link.Over():
		select {
		case <-l.serves:
			serves = true
		default:
		}
	case <-ctx.Done():
	}
	switch {
	case serves:
		g.log.Info("handed over; sessions that run go on here", "pid", pid, "node", l.node.Name, "sessions", len(g.router.Sessions("")))
		g.stopServing()
	case ctx.Err() == nil:
		g.log.Error("the other process has ended before it served", "pid", pid)
		l.end()
		g.goBack(ctx)
	}
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

// give ends what this process does as the one that leads, and lets the store go. Flips that are under way are called off, or end; they
// begin anew with the successor.
func (g *gateway) give(ctx context.Context, limit time.Duration) error {
	l := &g.leaving
	l.limit = limit
	if l.lent.Load() { // a successor before had the store, and ended
		return nil
	}
	g.reloading.Lock()
	l.lent.Store(true)
	g.reloading.Unlock()
	g.managing.Load().end()
	g.syncing.stop()
	if !waits(giveTime, g.syncing.wg.Wait) {
		return errors.New("passes over mailboxes do not end; try again when less is under way (mailgate op list)")
	}
	g.endLeading()
	if host := g.host.Load(); host != nil { // who handed over before comes to the successor
		host.Part()
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveTime)
	defer cancel()
	if err := g.gates.Save(last); err != nil {
		g.log.Warn("what gates are judged by is not recorded", "err", err)
	}
	conf, tag := g.conf.Load(), newTag()
	n := op.Node{Name: fmt.Sprintf("%s/%d", nodeName(conf), os.Getpid()), Incarnation: tag + ".1"}
	f, err := sayAlive(aliveDir(conf), tag, n, nil)
	if err != nil {
		return err
	}
	l.node, l.alive = n, f
	return g.store.(*store.SQLite).Lend(last)
}

// waits tells whether f has returned in time. It goes on else.
func waits(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		f()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
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
		if n.Incarnation == l.node.Incarnation {
			return nil
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		f, err := sayAlive(aliveDir(conf), tag, n, l.alive)
		if err == nil {
			l.alive = f
		}
		return err
	}
	l.tether = cutover.NewTether(dial, joining)
	l.tether.Answering = l.allTold
	l.member = cutover.NewMember(cutover.MemberOptions{Registry: l.tether, Router: g.router, Newcomers: g.newcomers, Name: l.node.Name, Tag: tag,
		About: func() op.About {
			return op.About{Version: version, Place: nodePlace(conf), Serial: g.routes.Load().Serial, Sessions: len(g.router.Sessions(""))}
		},
		Wire: func(op.Node) cutover.Wire { return l.tether.Wire() }, Call: g.answer, Removed: func() {}, Log: g.log, Served: true})
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { l.tether.Run(run, first, l.served.Load) })
	wg.Go(func() { l.tell(run) })
	wg.Go(func() {
		for {
			try, enough := context.WithTimeout(run, sayTime)
			err := l.member.Join(try)
			enough()
			if err == nil {
				break
			}
			select {
			case <-run.Done():
				return
			case <-time.After(redialTime):
			}
		}
		if err := l.member.Run(run); err != nil {
			g.log.Error("this process ends: it cannot be a node", "err", err)
			g.router.CutAll("This server was taken out of service, please reconnect")
		}
	})
	l.end = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
}

// maxNotes bounds what waits to be told of sessions. More is forgotten: then a pass is later, and a delete is not known to be meant.
const maxNotes = 4096

// note keeps what a session has done for who has the store, where that is another process. It does not block.
func (l *leaving) note(n cutover.Note) (kept bool) {
	if !l.lent.Load() {
		return false
	}
	l.owed.Add(1)
	select {
	case l.notes <- n:
	default:
		l.owed.Add(-1)
	}
	return true
}

// tell tells it.
func (l *leaving) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-l.notes:
			for try := retryFirst; l.tether.Tell(ctx, n) != nil && ctx.Err() == nil; try = min(2*try, retryLast) {
				select {
				case <-ctx.Done():
				case <-time.After(try):
				}
			}
			l.owed.Add(-1)
		}
	}
}

// allTold waits until nothing is to be told any more.
func (l *leaving) allTold(ctx context.Context) {
	for l.owed.Load() > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

// Times of tell.
const (
	retryFirst = 50 * time.Millisecond
	retryLast  = time.Second
)

// changed, deleted and judged are told by the fronts: see proxy.Options. What they are told of belongs to who has the store, or leads.
func (g *gateway) changed(user string, p config.Protocol) {
	n := cutover.Note{User: user, Protocol: p}
	if !g.leaving.note(n) && !g.telling.note(n) {
		g.syncing.keeping.changed(user, p)
	}
}

func (g *gateway) deleted(user string, side config.Side, session uint64, d imapwire.Deletes) {
	n := cutover.Note{User: user, Side: side, Session: session&(1<<32-1) | uint64(g.origin)<<32, Deletes: &d} // not one of the other's
	if !g.leaving.note(n) && !g.telling.note(n) {
		g.syncing.keeping.deleted(user, side, n.Session, d)
	}
}

func (g *gateway) judged(user string, side config.Side, p config.Protocol, password config.Secret, refused error) {
	if !g.leaving.lent.Load() { // else the next login tells, with the other process
		g.syncing.judged(user, side, p, password, refused)
	}
}

// heard takes what a process that has handed over tells of its sessions.
func (g *gateway) heard(n cutover.Note) {
	switch kp := g.syncing.keeping; {
	case kp == nil:
	case n.Deletes != nil:
		kp.deleted(n.User, n.Side, n.Session, *n.Deletes)
	default:
		kp.changed(n.User, n.Protocol)
	}
}

// redialTime is between attempts to be registered.
const redialTime = 200 * time.Millisecond

// goBack has this process lead again, as soon as it can have the store: in a moment, unless a newer program has changed that. It listens
// meanwhile, and on the control socket too, so that another successor may come.
func (g *gateway) goBack(ctx context.Context) {
	l := &g.leaving
	back, cancel := context.WithCancel(ctx)
	l.back, l.backed = cancel, make(chan struct{})
	done := l.backed
	if err := g.openControl(); err != nil {
		g.log.Error("the control socket", "err", err)
	}
	l.wg.Go(func() {
		defer close(done)
		defer cancel()
		for told := false; ; told = true {
			err := g.leadAgain(back)
			if err == nil {
				g.log.Info("this process leads again")
				return
			}
			if !told && back.Err() == nil {
				g.log.Error("this process cannot lead yet; mail goes on, nobody can be moved", "err", err)
			}
			select {
			case <-back.Done():
				return
			case <-time.After(redialTime):
			}
		}
	})
}

// stopBack ends what goBack began.
func (l *leaving) stopBack() {
	if l.back != nil {
		l.back()
		<-l.backed
		l.back = nil
	}
}

// leadAgain takes the store back, if this process has let it go.
func (g *gateway) leadAgain(ctx context.Context) error {
	l := &g.leaving
	if err := g.store.(*store.SQLite).TakeBack(ctx); err != nil {
		return err
	}
	running, err := alive(aliveDir(g.conf.Load()))
	if err == nil {
		running = slices.DeleteFunc(running, func(n op.Node) bool { return n.Name == l.node.Name })
		err = g.ruleAlone(ctx, running, true)
	}
	if err == nil {
		err = g.moves().Load(ctx)
	}
	if err == nil {
		err = g.manager().Start(ctx)
	}
	if err == nil {
		err = g.hooks().Start(ctx)
	}
	if err != nil {
		g.managing.Load().end()
		return errors.Join(err, g.store.(*store.SQLite).Lend(context.WithoutCancel(ctx)))
	}
	l.mu.Lock()
	if l.alive != nil { // nil when it was not come so far
		l.alive.Close()
		l.alive = nil
	}
	l.mu.Unlock()
	g.moves().Start()
	g.syncing.reopen()
	g.startLeading()
	l.lent.Store(false)
	return nil
}

// leadingPart is what this process alone runs, while it leads.
type leadingPart struct {
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// startLeading begins it, within run's work.
func (g *gateway) startLeading() {
	p := &leadingPart{}
	p.ctx, p.stop = context.WithCancel(*g.working.Load())
	if g.acme != nil {
		p.wg.Go(func() { g.acme.Run(p.ctx) })
	}
	p.wg.Go(func() { g.watch(p.ctx) })
	p.wg.Go(func() { g.lead(p.ctx) })
	if g.member == nil { // else with the term: elect
		p.wg.Go(func() { g.syncing.proofs.Run(p.ctx, g.store.SaveProofs, g.log) })
	}
	p.wg.Go(func() { g.syncing.book.Run(p.ctx) })
	p.wg.Go(func() { g.limiter.Keep(p.ctx, g.store, g.log) })
	p.wg.Go(func() { g.syncing.ledger.Run(p.ctx) })
	p.wg.Go(func() { g.gates.Run(p.ctx) })
	if host := g.host.Load(); host != nil {
		p.wg.Go(func() { host.Run(p.ctx) })
	}
	g.leading.Store(p)
}

// endLeading ends it, and waits.
func (g *gateway) endLeading() {
	if p := g.leading.Swap(nil); p != nil {
		p.stop()
		p.wg.Wait()
	}
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
	if l.member.Joining() {
		return nil // the successor finds out that this process has ended
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	quiet, enough := context.WithTimeout(ctx, quietTime)
	l.tether.Quiet(quiet)
	enough()
	err := l.member.Leave(ctx)
	if l.alive != nil {
		l.alive.Close()
	}
	return err
}

// quietTime is how long a process that ends waits until what it was asked is answered: that ends with its last session, or in a moment.
const quietTime = time.Second

// ruleAlone makes what moves users where there is one store and one process that has it: others that had it before may run still.
func (g *gateway) ruleAlone(ctx context.Context, running []op.Node, served bool) error {
	conf := g.conf.Load()
	local := &cutover.LocalNode{ID: nodeName(conf), Router: g.router}
	if len(running) == 0 && !served {
		g.managing.Store(g.newRuling(g.store, nil, local))
		return nil
	}
	local.Flush = func(ctx context.Context) error { return g.manager().FlushOwed(ctx) }
	host := cutover.NewHost(cutover.HostOptions{Store: g.store, Local: local, Log: g.log, Told: g.heard,
		Alive: func(n op.Node) bool { return runs(aliveDir(conf), n) }})
	if err := host.Begin(ctx, running); err != nil {
		return err
	}
	g.host.Store(host)
	g.managing.Store(g.newRuling(g.store, host))
	return nil
}
