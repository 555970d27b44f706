package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"mailgate/admin"
	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/cutover"
	wavegate "mailgate/cutover/gate"
	"mailgate/proxy"
	"mailgate/router"
	"mailgate/store"
	"mailgate/syncer"
	"mailgate/tlsconf"
	"mailgate/tlsconf/acme"
)

func (p *program) serveCommand() *cobra.Command {
	c := &cobra.Command{Use: "serve", Short: "Run the gateway", Args: none,
		RunE: func(c *cobra.Command, _ []string) error { return p.serve(c.Context(), nil) }}
	c.Flags().BoolVar(&p.takesOver, "take-over", false, "take the place of the process that serves, if there is one, without ending its sessions")
	c.Flags().DurationVar(&p.outlast, "old-sessions", 24*time.Hour, "with --take-over, how long the sessions of that process may go on")
	return c
}

// certificateLook is how often certificate files are looked at.
const certificateLook = 10 * time.Second

// paceCollector lets garbage gather up to half of what lives, since idle sessions are most of the memory, and up to 8 MiB
// in any case: the collector reckons with a ballast that nobody touches, so that it is never resident. Without it a
// gateway with few sessions would collect after every other login. An operator's GOGC stands.
func paceCollector() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	ballast := make([]byte, 16<<20)
	before := debug.SetGCPercent(50)
	return func() {
		debug.SetGCPercent(before)
		runtime.KeepAlive(ballast)
	}
}

// passMemory is what a verb that makes passes should need, whatever the mailbox: the collector works harder before it is more.
const passMemory = 32 << 20

// boundMemory tells the collector so. An operator's GOGC and GOMEMLIMIT stand.
func boundMemory() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	before := debug.SetMemoryLimit(passMemory)
	return func() { debug.SetMemoryLimit(before) }
}

// firstLook bounds the look at the backends before clients are served: a side that does not answer must not keep the
// other one's users out.
const firstLook = 2 * time.Second

// serve is the boot story: what is read, opened and started, in order, and ended in the opposite one. started (may be
// nil) is called when clients are served.
func (p *program) serve(ctx context.Context, started func(*gateway)) error {
	defer paceCollector()()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // one that comes during the start waits; it must not end the process
	defer signal.Stop(hangups)
	var old *heir
	if p.takesOver {
		var err error
		if old, err = p.inherit(ctx, p.outlast); err != nil {
			return err
		}
		defer old.close()
		if old != nil {
			if err := old.take(ctx); err != nil {
				return err
			}
		}
	}
	g, err := p.open(ctx, func(c config.Log) *slog.Logger { return newLog(p.err, c) }, lockWait, asNode)
	if err != nil {
		return err
	}
	defer g.close()
	if err := g.findOld(ctx, old); err != nil {
		return err
	}
	conf, log := g.conf.Load(), g.log
	files, err := filesLimit()
	if err != nil {
		return err
	}
	if err := checkFiles(files, conf, log); err != nil {
		return err
	}
	if err := g.openCertificates(conf); err != nil {
		return err
	}
	if g.dialer, err = backend.NewDialer(conf.Backends, log, g.metrics); err != nil {
		return err
	}
	g.limiter = auth.NewLimiter(conf.Login.FailDelay, nil)
	if g.verifiers, err = newVerifiers(conf); err != nil {
		return err
	}
	defer g.verifiers.Close()
	if err := g.limiter.Remember(ctx, g.store); err != nil {
		return err
	}
	g.syncing = newSyncing(g, g.dialer)
	if err := g.syncing.learn(conf); err != nil {
		return err
	}
	g.syncing.clock = syncer.NewClock()
	g.syncing.keeping = newKeeping(g.syncing) // before flips of the process before go on: they look at it
	if g.member == nil {
		proofs, err := g.store.Proofs(ctx)
		if err != nil {
			return err
		}
		g.syncing.proofs.Load(proofs) // before the first pass takes them
	}
	defer g.meetOld(ctx, old)()
	if err := g.start(ctx); err != nil {
		return err
	}
	if err := g.gates.Load(ctx); err != nil {
		return err
	}
	if err := g.syncing.keeping.load(ctx); err != nil {
		return err
	}
	unfinished, err := g.store.Unfinished(ctx)
	if err != nil {
		return err
	}
	g.syncing.keeping.k.First(unfinished)
	if err := g.syncing.accounts.recall(ctx, conf); err != nil {
		return err
	}
	g.leaving.notes, g.leaving.patience = newNotes(), giveTime
	g.proxy = proxy.NewServer(proxy.Options{Config: conf, Routes: g.routes.Load(), Router: g.router, Dialer: g.dialer,
		Limiter: g.limiter, Certificates: g.certs, Log: log, Recorder: g.metrics, Changed: g.changed,
		Judged: g.judged, Seen: g.seen, Deleted: g.deleted, Crowded: g.syncing.budget.GiveWay,
		Verify: g.verifiers.Verify, Master: g.syncing.accounts.asUser, Open: old.open})
	if err := g.proxy.Listen(); err != nil {
		return err
	}
	g.listeners, g.since, g.serving = conf.Listen, time.Now(), true
	return g.run(ctx, hangups, old, started)
}

// run serves until ctx ends: then logins stop first, sessions end at their boundaries, and the rest follows.
func (g *gateway) run(ctx context.Context, hangups <-chan os.Signal, old *heir, started func(*gateway)) error {
	conf := g.conf.Load()
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	g.working.Store(&work)
	g.leaving.taking.Store(old != nil)
	if g.member == nil { // else with the term: lead
		g.moves().Start()
	}
	if err := g.openControl(); err != nil {
		return err
	}
	defer g.closeControl()
	defer func() { g.moves().Stop() }() // what they wait for is told
	var late *time.Timer                // when passes that were told to end are cut short
	defer func() {
		if late != nil {
			late.Stop()
		}
	}()
	defer g.syncing.close() // before the control socket: whoever waits is told
	g.closeAdmin = func() {}
	if conf.Admin.Listen != "" {
		l, err := old.open("tcp", conf.Admin.Listen)
		if err != nil {
			return fmt.Errorf("admin.listen: %w", err)
		}
		g.adminSocket = l
		g.closeAdmin = sync.OnceFunc(serveHTTP(l, admin.Health(g.metrics, g.notReady, g.store.Check, g.certificateTrouble), g.log))
		defer g.closeAdmin()
	}
	serving, cancelServing := context.WithCancel(ctx)
	defer cancelServing()
	g.stopServing = cancelServing
	var lost error // why this process cannot be a node; set before serving ends
	var wg sync.WaitGroup
	defer wg.Wait()
	defer g.endLeading(context.Background())
	defer g.leaving.close() // one of these may lead again
	defer g.telling.start(ctx)()
	defer cancel()
	look, done := context.WithTimeout(work, firstLook)
	g.dialer.Refresh(look, conf.Hostname) // so that the first client is offered what both sides have
	done()
	wg.Go(func() { g.dialer.Run(work, conf.Hostname) })
	wg.Go(func() { g.certs.Watch(work, certificateLook) })
	g.startLeading()
	if g.member != nil {
		wg.Go(func() { g.live(work, &lost, cancelServing) })
	}
	wg.Go(func() { g.hangups(work, hangups) })
	for i, a := range g.proxy.Addrs() {
		g.log.Info("listening", "listener", conf.Listen[i].URL, "address", a.String())
	}
	g.ready.Store(true)
	if started != nil {
		wg.Go(func() { started(g) })
	}
	if old != nil {
		wg.Go(func() { g.tellOld(work, old) })
	}
	g.proxy.Serve(serving)
	g.ready.Store(false)
	if g.leaving.served.Load() && ctx.Err() == nil {
		g.closeControl() // the path is the successor's
		g.closeAdmin()
		g.outlast(ctx)
	}
	g.log.Info("stopping", "sessions", len(g.router.Sessions("")))
	late = time.AfterFunc(g.conf.Load().Shutdown, g.syncing.cut)
	g.syncing.stop() // at once, beside the sessions
	last, enough := context.WithTimeout(context.WithoutCancel(ctx), g.conf.Load().Shutdown)
	defer enough()
	g.proxy.Shutdown(last)
	return lost
}

// newLog makes the log of serve.
func newLog(w io.Writer, c config.Log) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// maxPendingPerUser bounds the logins of one user that are under way.
const maxPendingPerUser = 200

func routerOptions(c *config.Config) router.Options {
	return router.Options{Hold: c.Flip.Hold, SessionsPerUser: c.Limits.SessionsPerUser,
		SessionsPerIP: c.Limits.SessionsPerIP, PendingPerUser: maxPendingPerUser}
}

// listenControl opens the control socket, mode 0600. A socket that a dead process left is replaced: the store's lock,
// which is ours by now, says that it is dead.
func listenControl(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control.socket: %w", err)
		}
	}
	// The file gets the mode that the socket has when it is bound. A umask would be that of all that this process makes meanwhile.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	return l, nil
}

// openControl opens the control socket, anew if it is open.
func (g *gateway) openControl() error {
	g.closeControl()
	l, err := listenControl(g.conf.Load().Control.Socket)
	if err != nil {
		return err
	}
	stop := serveHTTP(l, g.handler(), g.log)
	g.control.Lock()
	defer g.control.Unlock()
	g.control.stop = func() {
		if u, ok := l.(*net.UnixListener); ok && g.leaving.lent.Load() {
			u.SetUnlinkOnClose(false) // by now the path may be another process's
		}
		stop()
	}
	return nil
}

// closeControl closes it.
func (g *gateway) closeControl() {
	g.control.Lock()
	defer g.control.Unlock()
	if g.control.stop != nil {
		g.control.stop()
		g.control.stop = nil
	}
}

// serveHTTP serves until the result is called, which waits.
func serveHTTP(l net.Listener, h http.Handler, log *slog.Logger) (stop func()) {
	s := &http.Server{Handler: h, ConnContext: admin.WithPeer, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("http", "address", l.Addr().String(), "err", err)
		}
	})
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
		wg.Wait()
	}
}

// hangups reloads on SIGHUP.
func (g *gateway) hangups(ctx context.Context, ch <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ch:
			g.reloadLogged(ctx, "SIGHUP", "SIGHUP")
		}
	}
}

// noteFiles keeps how the two files look, before they are read.
func (g *gateway) noteFiles() {
	s := g.lookAtFiles()
	g.loaded.Store(&s)
}

func (g *gateway) lookAtFiles() string {
	s := ""
	for _, f := range []string{g.p.file, g.conf.Load().Routes.File} {
		st, err := os.Stat(f)
		if err != nil {
			s += err.Error()
			continue
		}
		s += fmt.Sprint(st.ModTime().UnixNano(), " ", st.Size(), " ", st.Sys().(*syscall.Stat_t).Ino, " ")
	}
	return s
}

// fileChanged is who asks for a reload when nobody does.
const fileChanged = "file changed"

// watch reloads when one of the two files has changed and stays as it is for one look, and again when the store could
// not take a reload.
func (g *gateway) watch(ctx context.Context) {
	before := *g.loaded.Load()
	for {
		every := g.conf.Load().Routes.Watch
		wait := every
		if wait == 0 || g.again.Load() {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		now := g.lookAtFiles()
		switch {
		case every > 0 && now == before && now != *g.loaded.Load():
			g.reloadLogged(ctx, fileChanged, "routes file")
		case g.again.Load():
			g.reloadLogged(ctx, "the store could not take it before", "")
		}
		before = now
	}
}

// gateway is the program: what open makes, for serve and for a verb when nothing runs, and what serves clients. It
// implements admin.Gateway.
type gateway struct {
	p       *program
	log     *slog.Logger
	store   store.Store
	router  *router.Router
	metrics *admin.Metrics
	gates   *wavegate.Book

	newcomers *cutover.Newcomers
	managing  atomic.Pointer[ruling] // see manager

	member   *cutover.Member // nil where there is one process: SQLite
	shared   *store.Postgres // nil without member
	telling  *telling        // nil without member
	origin   uint32          // names this process in the numbers of sessions, 31 bits
	term     atomic.Pointer[term]
	lock     *os.File    // beside the control socket; nil without member
	terms    sync.Mutex  // held while a term begins or ends
	stopVerb func()      // ends what startVerb began; nil in serve
	behind   atomic.Bool // this node leads, and its routes file is not the one that was last taken over

	serving   bool // by serve; else what follows is not there
	since     time.Time
	listeners []config.Endpoint // as opened
	certs     *tlsconf.Certificates
	acme      *acme.Manager // nil when certificates are in files only
	dialer    *backend.Dialer
	limiter   *auth.Limiter
	verifiers *auth.Verifiers
	proxy     *proxy.Server
	syncing   *syncing

	host        atomic.Pointer[cutover.Host] // what has handed over to this process and runs still; nil: nothing
	leaving     leaving
	leading     atomic.Pointer[leadingPart]     // nil while this process does not lead, and where it never began to serve
	working     atomic.Pointer[context.Context] // while serve runs
	stopServing func()                          // ends listening
	adminSocket net.Listener                    // nil: none
	closeAdmin  func()
	control     struct {
		sync.Mutex
		stop func() // ends the control socket; nil: it is not open
	}

	ready      atomic.Bool
	conf       atomic.Pointer[config.Config]
	routes     atomic.Pointer[config.RouteFile]
	lastReload atomic.Pointer[string] // why the files are not in force; "" or nil when they are
	loaded     atomic.Pointer[string] // how the files looked when they were last read
	again      atomic.Bool            // the store could not take the last reload: try again

	reloading sync.Mutex
}
