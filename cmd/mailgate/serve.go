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
	"mailgate/op"
	"mailgate/proxy"
	"mailgate/router"
	"mailgate/store"
	"mailgate/tlsconf"
)

func (p *program) serveCommand() *cobra.Command {
	return &cobra.Command{Use: "serve", Short: "Run the gateway", Args: none,
		RunE: func(c *cobra.Command, _ []string) error { return p.serve(c.Context(), nil) }}
}

// certificateLook is how often certificate files are looked at.
const certificateLook = 10 * time.Second

// serve is the boot story: what is read, opened and started, in order, and ended in the opposite one. started (may be
// nil) is called when clients are served.
func (p *program) serve(ctx context.Context, started func(*gateway)) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // idle sessions are most of the memory: trade a little CPU for it
	}
	conf, err := p.load()
	if err != nil {
		return err
	}
	routes, err := config.LoadRoutes(conf)
	if err != nil {
		return err
	}
	log := newLog(p.err, conf.Log)
	st, err := store.Open(ctx, conf.Store.Path)
	if err != nil {
		return err
	}
	defer st.Close()
	certs, err := tlsconf.NewCertificates(conf.TLS, log)
	if err != nil {
		return err
	}
	g := &gateway{p: p, log: log, store: st, certs: certs, since: time.Now()}
	g.conf.Store(conf)
	g.routes.Store(routes)
	g.router = router.New(routerOptions(conf), func(user string) config.Side { return g.manager.Side(user) },
		func(user string, place router.Place) { g.manager.Seen(user, place) })
	g.metrics = admin.NewMetrics(version, g.router)
	if g.dialer, err = backend.NewDialer(conf.Backends, log, g.metrics); err != nil {
		return err
	}
	g.limiter = auth.NewLimiter(conf.Login.FailDelay, nil)
	node := &cutover.LocalNode{ID: nodeName(conf), Router: g.router}
	g.manager = cutover.New(cutover.Options{Store: st, Router: g.router, Nodes: []cutover.Node{node}, Flip: conf.Flip,
		Routes: conf.Routes, Log: log, Recorder: g.metrics})
	if err := g.manager.Start(ctx); err != nil {
		return err
	}
	defer g.manager.Stop()
	if _, err := g.importRoutes(ctx, routes, "start"); err != nil {
		return err
	}
	g.proxy = proxy.NewServer(proxy.Options{Config: conf, Routes: routes, Router: g.router, Dialer: g.dialer,
		Limiter: g.limiter, Certificates: certs, Log: log, Recorder: g.metrics})
	if err := g.proxy.Listen(); err != nil {
		return err
	}
	return g.run(ctx, started)
}

// run serves until ctx ends: then logins stop first, sessions end at their boundaries, and the rest follows.
func (g *gateway) run(ctx context.Context, started func(*gateway)) error {
	conf := g.conf.Load()
	control, err := listenControl(conf.Control.Socket)
	if err != nil {
		return err
	}
	api := &admin.API{Gateway: g, Router: g.router, Manager: g.manager, Store: g.store}
	stopControl := serveHTTP(control, api.Handler(), g.log)
	defer stopControl()
	if conf.Admin.Listen != "" {
		l, err := net.Listen("tcp", conf.Admin.Listen)
		if err != nil {
			return fmt.Errorf("admin.listen: %w", err)
		}
		defer serveHTTP(l, admin.Health(g.metrics, g.notReady, g.store.Check), g.log)()
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	g.dialer.Refresh(work, conf.Hostname) // so that the first client is offered what both sides have
	wg.Go(func() { g.dialer.Run(work, conf.Hostname) })
	wg.Go(func() { g.certs.Watch(work, certificateLook) })
	wg.Go(func() { g.watch(work) })
	wg.Go(func() { g.hangups(work) })
	for i, a := range g.proxy.Addrs() {
		g.log.Info("listening", "listener", conf.Listen[i].URL, "address", a.String())
	}
	g.ready.Store(true)
	if started != nil {
		wg.Go(func() { started(g) })
	}
	g.proxy.Serve(ctx)
	g.ready.Store(false)
	g.log.Info("stopping", "sessions", len(g.router.Sessions("")))
	last, done := context.WithTimeout(context.WithoutCancel(ctx), g.conf.Load().Shutdown)
	defer done()
	g.proxy.Shutdown(last)
	return nil
}

// newLog makes the log of serve.
func newLog(w io.Writer, c config.Log) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// nodeName names this process among gateways: one to a machine.
func nodeName(c *config.Config) string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return c.Hostname
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
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("control.socket: %w", err)
	}
	return l, nil
}

// serveHTTP serves until the result is called, which waits.
func serveHTTP(l net.Listener, h http.Handler, log *slog.Logger) (stop func()) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
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
func (g *gateway) hangups(ctx context.Context) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	defer signal.Stop(ch)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ch:
			_ = g.reloadLogged(ctx, "SIGHUP")
		}
	}
}

// storeRetry is how often a changed file is tried again that the store could not take: a full disk is no reason to
// forget what the file says.
const storeRetry = 3 * time.Second

// watch reloads when one of the two files has changed and stays as it is for one look.
func (g *gateway) watch(ctx context.Context) {
	state := func() string {
		s := ""
		for _, f := range []string{g.p.file, g.conf.Load().Routes.File} {
			st, err := os.Stat(f)
			if err != nil {
				s += err.Error()
				continue
			}
			s += fmt.Sprint(st.ModTime().UnixNano(), st.Size(), st.Sys().(*syscall.Stat_t).Ino)
		}
		return s
	}
	loaded := g.loadedState.Load()
	if loaded == nil {
		s := state()
		loaded = &s
	}
	current, before := *loaded, *loaded
	var again time.Time // when a file that the store could not take is tried again
	for {
		every := g.conf.Load().Routes.Watch
		wait := every
		if wait == 0 {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		now := state()
		due := !again.IsZero() && time.Now().After(again)
		if every > 0 && now == before && (now != current || due) {
			current, again = now, time.Time{}
			if errors.Is(g.reloadLogged(ctx, "file changed"), op.ErrUnavailable) {
				again = time.Now().Add(storeRetry)
			}
		}
		before = now
	}
}

// gateway is the running program. It implements admin.Gateway.
type gateway struct {
	p       *program
	log     *slog.Logger
	since   time.Time
	store   *store.SQLite
	certs   *tlsconf.Certificates
	router  *router.Router
	manager *cutover.Manager
	dialer  *backend.Dialer
	limiter *auth.Limiter
	proxy   *proxy.Server
	metrics *admin.Metrics

	ready       atomic.Bool
	conf        atomic.Pointer[config.Config]
	routes      atomic.Pointer[config.RouteFile]
	lastReload  atomic.Pointer[string] // why the files are not in force; nil when they are
	loadedState atomic.Pointer[string]

	reloading sync.Mutex
}
