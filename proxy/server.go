package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/auth"
	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/router"
	"mailgate/tlsconf"
)

// Options are what a Server works with. All but Recorder, Changed, Deleted, Judged, Seen, Crowded, Verify and Master must be set.
type Options struct {
	Config       *config.Config
	Routes       *config.RouteFile
	Router       *router.Router
	Dialer       *backend.Dialer
	Limiter      *auth.Limiter
	Certificates *tlsconf.Certificates
	Log          *slog.Logger
	Recorder     Recorder // nil means none
	// Open gives a listening socket for an address of the configuration; nil means OpenSocket. What it gives belongs to the Server.
	Open func(network, address string) (net.Listener, error)

	// Changed is told each time a user's mailboxes, or with ManageSieve his scripts, may have become other than before through the gateway, or so a server said
	// to his client: a command that does more than read was answered (once the client has the answer, or is gone), a change
	// was told though no command asked for it (IDLE, NOTIFY, NOOP), a session ended within a command whose answer nobody got,
	// or one ended in which a message was submitted (the server may keep a copy). Reading, keeping alive and IDLE without
	// news call nothing. Now and then it is called without a change. It is called by the sessions, from many goroutines at
	// once, as often as servers answer: it must not block, and whoever has more to do than a few microseconds puts it off.
	// nil means that nobody asks.
	Changed func(user string, p config.Protocol)

	// Judged is told each time the server of a side has let in somebody who stands in the routes file (refused is nil), or has refused his
	// credentials (what it said), behind that answer and before the client has it: it must not block, and is called from many goroutines
	// at once. password is "" where there was none: it is never told of tokens. nil means that logins are nobody's business.
	Judged func(user string, side config.Side, p config.Protocol, password config.Secret, refused error)
	// Seen is told what becomes of the logins, sessions and messages of somebody who stands in the routes file, and on which side; err is
	// the cause of what has failed, as far as there is one. What holds for Judged holds for it. nil means that nobody asks.
	Seen func(user string, side config.Side, p config.Protocol, what Happening, err error)

	// Deleted is told what a user's client asked to be deleted or moved away, and his server did, before Changed is told of it: proof
	// that a person meant it. session is the ID of one session, which no other has while the process lives. What holds for Changed holds
	// for it. nil means that nobody asks.
	Deleted func(user string, side config.Side, session uint64, d imapwire.Deletes)
	// Verify asks an authority that is no side whether a secret is the user's; its error is an *auth.RefusedError when it is not.
	// Master gives a side's master user as he acts for somebody with a login name there, at the hosts where that is proven for the
	// protocol. Both are called by many goroutines at once. nil means that there is none, and such logins fail.
	Verify func(ctx context.Context, by config.Authority, user string, c *auth.Credentials) error
	Master func(side config.Side, p config.Protocol, login string) (backend.Account, error)

	// Crowded is told that a host has refused a user's login, and tells whether to try again in a moment, since others of ours
	// there have given way. It must not block. nil means that nobody gives way.
	Crowded func(side config.Side, user string, err error) bool
}

// Server accepts clients and serves them to the end of their sessions. It is safe for concurrent use.
type Server struct {
	router   *router.Router
	dialer   *backend.Dialer
	limiter  *auth.Limiter
	certs    *tlsconf.Certificates
	log      *slog.Logger
	rec      Recorder
	changed  func(user string, p config.Protocol)
	judged   func(user string, side config.Side, p config.Protocol, password config.Secret, refused error) // may be nil
	seen     func(user string, side config.Side, p config.Protocol, what Happening, err error)             // the same
	deleted  func(*router.Session, imapwire.Deletes)
	crowded  func(side config.Side, user string, err error) bool
	verifier func(ctx context.Context, by config.Authority, user string, c *auth.Credentials) error
	master   func(side config.Side, p config.Protocol, login string) (backend.Account, error)
	socket   func(network, address string) (net.Listener, error)
	set      atomic.Pointer[settings]
	pre      preAuth
	buffers  bufferPool
	spread   spread

	handshakes *tlsconf.Handshakes

	asking    [2]atomic.Int64 // logins that wait for a side
	midway    [2]atomic.Int64 // of a side, in the middle of a relayed exchange
	verifying atomic.Int64    // logins that wait for an authority that is no side
	full      atomic.Int64    // when it was last logged that there is no room, in seconds

	stall, afterEOF time.Duration // of links; see there

	ctx       context.Context // ends when sessions must end now
	stop      context.CancelCauseFunc
	wg        sync.WaitGroup
	mu        sync.Mutex
	listeners []*listener
	closing   bool
}

// settings is what a reload changes; sessions keep the one they began with.
type settings struct {
	cfg       *config.Config
	routes    *config.RouteFile
	addresses config.Addresses
}

// listener is one listening socket.
type listener struct {
	net.Listener
	config.Endpoint
	protocol protocol
	open     atomic.Int64 // connections
}

// protocol is what differs between the protocols before login and at its own pace after it.
type protocol interface {
	// serve speaks with a client from the greeting to the end of pre-auth; what follows a login may run on in
	// goroutines of the server's WaitGroup. It need not close the connection, unless it handed it on.
	serve(ctx context.Context, c *client)
	// refuse is what a client reads who is turned away at once.
	refuse(text string) string
}

// ErrShutdown is the cause with which sessions end when the server does.
var ErrShutdown = errors.New("the gateway is shutting down")

// NewServer makes a Server that does not listen yet.
func NewServer(o Options) *Server {
	s := &Server{router: o.Router, dialer: o.Dialer, limiter: o.Limiter, certs: o.Certificates, log: o.Log,
		rec: o.Recorder, changed: o.Changed, judged: o.Judged, seen: o.Seen, crowded: o.Crowded, stall: stallTime, afterEOF: afterEOF,
		handshakes: tlsconf.NewHandshakes()}
	if s.rec == nil {
		s.rec = noRecorder{}
	}
	if s.changed == nil {
		s.changed = func(string, config.Protocol) {}
	}
	s.deleted = func(*router.Session, imapwire.Deletes) {}
	if o.Deleted != nil {
		s.deleted = func(x *router.Session, d imapwire.Deletes) { o.Deleted(x.User, x.Side, x.ID, d) }
	}
	if s.crowded == nil {
		s.crowded = func(config.Side, string, error) bool { return false }
	}
	if s.verifier = o.Verify; s.verifier == nil {
		s.verifier = func(context.Context, config.Authority, string, *auth.Credentials) error { return errNoAuthority }
	}
	if s.master = o.Master; s.master == nil {
		s.master = func(config.Side, config.Protocol, string) (backend.Account, error) {
			return backend.Account{}, errNoAuthority
		}
	}
	if s.socket = o.Open; s.socket == nil {
		s.socket = OpenSocket
	}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.pre.init()
	s.Configure(o.Config, o.Routes)
	return s
}

// Configure puts a loaded configuration in force for connections to come. Listeners do not change.
func (s *Server) Configure(c *config.Config, routes *config.RouteFile) {
	s.set.Store(&settings{cfg: c, routes: routes, addresses: config.NewAddresses(c.Routes)})
}

// Listen opens all listeners of the configuration, or none.
func (s *Server) Listen() error {
	var all []*listener
	for _, e := range s.set.Load().cfg.Listen {
		l, err := s.open(e)
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return err
		}
		all = append(all, l)
	}
	s.mu.Lock()
	s.listeners = append(s.listeners, all...)
	s.mu.Unlock()
	return nil
}

func (s *Server) open(e config.Endpoint) (*listener, error) {
	var p protocol
	switch e.Protocol {
	case config.IMAP:
		p = &imapFront{}
	case config.POP3:
		p = &popFront{}
	case config.Sieve:
		p = &sieveFront{}
	case config.Submission:
		p = &submissionFront{}
	default:
		return nil, fmt.Errorf("listen %s: no such protocol", e.URL)
	}
	l, err := s.socket(e.Network(), e.Address())
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", e.URL, err)
	}
	return &listener{Listener: l, Endpoint: e, protocol: p}, nil
}

// OpenSocket opens a listening socket.
func OpenSocket(network, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: tlsconf.KeepAlive()}
	return lc.Listen(context.Background(), network, address)
}

// Socket is a listening socket, under the address of the configuration that it was opened for.
type Socket struct {
	Network, Address string
	net.Listener
}

// Sockets are those of the Server, for another process that is to have them too. They belong to the Server.
func (s *Server) Sockets() (all []Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		all = append(all, Socket{l.Network(), l.Address(), l.Listener})
	}
	return all
}

// Empty waits until no client is left, and tells whether that came before ctx ended. Call it after Serve has returned.
func (s *Server) Empty(ctx context.Context) bool {
	done := make(chan struct{})
	go func() { // ends with the last client, at Shutdown
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// Addrs gives the address of each listener, in the order of the configuration.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var a []net.Addr
	for _, l := range s.listeners {
		a = append(a, l.Addr())
	}
	return a
}

// Serve accepts clients until ctx ends, then stops listening. Sessions go on: see Shutdown.
func (s *Server) Serve(ctx context.Context) {
	var wg sync.WaitGroup
	s.mu.Lock()
	list := s.listeners
	s.mu.Unlock()
	for _, l := range list {
		wg.Go(func() { s.accept(ctx, l) })
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
	}
	wg.Wait()
}

func (s *Server) accept(ctx context.Context, l *listener) {
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			s.admit(l, c)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, most likely: the oldest strangers give way
			s.log.Warn("accept", "listener", l.URL, "err", err)
			s.pre.evictOldest()
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// admit begins the life of one client.
func (s *Server) admit(l *listener, conn net.Conn) {
	q, err := tlsconf.NewQuiet(conn)
	if err != nil {
		conn.Close()
		return
	}
	n := l.open.Add(1)
	q.OnClose(func() { l.open.Add(-1) })
	c := newClient(s, l, q)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		q.Close()
		return
	}
	s.wg.Add(1)
	s.mu.Unlock()
	s.rec.Connection(l.Protocol, l.URL, l.Mode)
	if l.Proxied {
		go s.admitBehind(c, n)
		return
	}
	s.take(c, n, func() { go s.preAuthSession(c) })
}

// take counts a client, the n-th of his listener, and begins with him, or turns him away. What it was given of s.wg goes with him.
func (s *Server) take(c *client, n int64, begin func()) {
	limits := c.set.cfg.Limits
	switch {
	case limits.PerListener > 0 && n > int64(limits.PerListener):
		s.turnAway(c, "limits.per_listener")
	case !s.pre.add(c, limits):
		s.turnAway(c, "limits.pre_auth")
	default:
		begin()
	}
}

// turnAway ends a connection for which there is no room. In clear it is told why: the text fits into the socket's
// buffer. A handshake would be work for strangers.
func (s *Server) turnAway(c *client, limit string) {
	defer s.wg.Done()
	defer c.raw.Close()
	if c.ln.Mode != config.Implicit {
		_ = c.write(c.ln.protocol.refuse("Too many connections, try again later"))
	}
	if now := time.Now().Unix(); s.full.Swap(now) != now { // once a second: a flood must not fill the log
		s.log.Warn("too many connections", "listener", c.ln.URL, "limit", limit, "client", c.addr)
	}
}

// preAuthSession serves one client until he has logged in or is gone.
func (s *Server) preAuthSession(c *client) {
	defer s.wg.Done()
	defer c.leave()
	defer s.recoverPanic(c)
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), ErrShutdown) {
			s.pre.evict(c)
		}
	})
	defer stop()
	if c.ln.Mode == config.Implicit {
		if c.startTLS() != nil {
			return
		}
	}
	c.ln.protocol.serve(ctx, c)
}

// recoverPanic keeps a fault in one session from ending all others. It is counted, and a test fails on it.
func (s *Server) recoverPanic(c *client) {
	if p := recover(); p != nil {
		s.panicked(c.addr, p)
	}
}

func (s *Server) panicked(client netip.AddrPort, p any) {
	s.rec.Violation("panic")
	s.log.Error("panic in a session", "client", client, "panic", p, "stack", string(debug.Stack()))
}

// Shutdown ends all: strangers at once, sessions at a boundary, and what is left when ctx ends is cut. Call it after
// Serve has returned.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.closing = true
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	s.stop(ErrShutdown)
	s.pressAll(router.AtBoundary)
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			s.pressAll(router.Cut)
			<-done
			return
		case <-time.After(100 * time.Millisecond): // sessions that were being admitted when we asked
			s.pressAll(router.AtBoundary)
		}
	}
}

func (s *Server) pressAll(p router.Pressure) {
	for _, x := range s.router.Sessions("") {
		x.Press(p, "The gateway is restarting, please reconnect")
	}
}
