package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/tlsconf"
)

// Recorder measures backends; package admin implements it. Methods must not block.
type Recorder interface {
	// Connected observes the time to a connection with TLS, LoggedIn the time from there to the login.
	Connected(s config.Side, p config.Protocol, d time.Duration)
	LoggedIn(s config.Side, p config.Protocol, d time.Duration)
	// Up notes whether a host could be used at the last look.
	Up(s config.Side, p config.Protocol, host string, up bool)
}

// Dialer makes connections to both sides. It is safe for concurrent use.
type Dialer struct {
	log   *slog.Logger
	rec   Recorder
	id    string // of this run of the gateway: see Gateway
	sides [2]atomic.Pointer[side]
	feat  [2]atomic.Pointer[Features]

	changed chan struct{} // wakes Run: the configuration is another
}

// side is one backend as configured; a reload makes a new one.
type side struct {
	config.Backend
	hosts []*host
	next  atomic.Uint32
}

// host is one machine of a side, as configured.
type host struct {
	config.Host
	tls   [services]*tls.Config // by index
	turns [services]*turns      // by index: of users' logins
	*health
}

// Errors of a Dialer.
var (
	ErrNoHost = errors.New("the side has no host for this protocol")
	ErrBudget = errors.New("the host has as many connections as it may (max_connections)")
	ErrDown   = errors.New("the host failed several times in a row and is left alone for a moment")
)

// NewDialer makes a Dialer. rec may be nil.
func NewDialer(b [2]config.Backend, log *slog.Logger, rec Recorder) (*Dialer, error) {
	d := &Dialer{log: log, rec: rec, id: newID()}
	if rec == nil {
		d.rec = noRecorder{}
	}
	for _, s := range config.Sides {
		d.feat[s].Store(&Features{})
	}
	err := d.Update(b)
	d.changed = make(chan struct{}, 1) // from here on a change is one
	return d, err
}

// Update puts a new configuration in force for connections to come, or changes nothing and says why.
func (d *Dialer) Update(b [2]config.Backend) error {
	var next [2]*side
	for _, s := range config.Sides {
		next[s] = &side{Backend: b[s]}
		for _, h := range b[s].Hosts {
			old := d.known(s, h)
			x := &host{Host: h, health: &health{}}
			if old != nil {
				x.health = old.health
			}
			for _, p := range config.Protocols() {
				x.turns[index(p)] = turnsOf(old, p, b[s].MaxLogins)
				c, err := tlsconf.Client(b[s], h.Endpoint(p))
				if err != nil {
					return fmt.Errorf("backend %s: %w", s, err)
				}
				x.tls[index(p)] = c
			}
			next[s].hosts = append(next[s].hosts, x)
		}
	}
	for _, s := range config.Sides {
		d.sides[s].Store(next[s])
	}
	select {
	case d.changed <- struct{}{}:
	default: // Run is to look anyway
	}
	return nil
}

// known finds a machine that stays: a reload forgets neither its connections nor its failures. nil when it is new.
func (d *Dialer) known(s config.Side, h config.Host) *host {
	if old := d.sides[s].Load(); old != nil {
		for _, x := range old.hosts {
			if x.Host == h {
				return x
			}
		}
	}
	return nil
}

// services is the number of config.Protocols.
const services = 4

// index is a protocol's place in tables of a host.
func index(p config.Protocol) int { return slices.Index(config.Protocols(), p) }

// candidates are the hosts to try, the healthy ones first, in turn.
func (s *side) candidates(p config.Protocol, name string) []*host {
	var well, ill []*host
	now := time.Now()
	n := len(s.hosts)
	at := int(s.next.Add(1))
	for i := range n {
		h := s.hosts[(at+i)%n]
		if h.Endpoint(p).Host == "" || name != "" && h.Name != name {
			continue
		}
		if h.ill(p, now) {
			ill = append(ill, h)
		} else {
			well = append(well, h)
		}
	}
	return append(well, ill...)
}

// connectAnd tries the hosts of a side until one takes the connection, with TLS where that is implicit, and open is
// through. A user's login waits for its turn where all are busy, and for a host that was well a moment ago (turns.go).
func (d *Dialer) connectAnd(ctx context.Context, at config.Side, p config.Protocol, name string, who asker,
	open func(context.Context, *conn) error) (*conn, error) {
	if hopsLeft(who.hops) < 1 {
		return nil, &Error{Step: StepConnect, Kind: Refused, Host: at.String(), Err: ErrLoop}
	}
	s := d.sides[at].Load()
	list := s.candidates(p, name)
	if len(list) == 0 {
		return nil, &Error{Step: StepConnect, Kind: Refused, Host: at.String(), Err: ErrNoHost}
	}
	var last error
	var next *host // that is worth waiting for
	for _, h := range list {
		if who.only != nil && !who.only(h.Name) {
			if last == nil {
				last = &Error{Step: StepLogin, Kind: Refused, Host: h.Name, Err: ErrUnproven}
			}
			continue
		}
		t, err := h.turnFor(ctx, p, who)
		if errors.Is(err, ErrTurn) {
			if next == nil {
				next = h
			}
		} else if err == nil {
			var c *conn
			if c, err = d.ask(ctx, at, s, h, p, t, who, open); err == nil {
				return c, nil
			}
			t.end()
			if ctx.Err() != nil {
				return nil, err
			}
		}
		if last == nil || !errors.Is(err, ErrDown) && !errors.Is(err, ErrTurn) {
			last = err
		}
		if next == nil && !who.syncer && h.passing(p, who, err) {
			if _, _, ok := h.hopes(p, time.Now()); ok {
				next = h
			}
		}
	}
	if next == nil || s.LoginWait == 0 {
		return nil, last
	}
	return d.wait(ctx, at, s, next, p, who, open)
}

// turnFor takes a turn that nobody waits for; the error is an *Error.
func (h *host) turnFor(ctx context.Context, p config.Protocol, who asker) (turn, error) {
	if who.syncer {
		if why, ok := h.listens(p, time.Now()); !ok {
			return turn{}, h.down(why)
		}
		return turn{func() {}}, nil
	}
	if t, ok := h.turns[index(p)].try(auth.IsKnown(ctx)); ok {
		return t, nil
	}
	return turn{}, &Error{Step: StepConnect, Host: h.Name, Err: ErrTurn}
}

func (h *host) down(why string) error {
	return &Error{Step: StepConnect, Host: h.Name, Err: fmt.Errorf("%w: %s", ErrDown, why)}
}

// ask asks one host, unless it is left alone, and notes what that tells of it. The turn goes with the connection; when there is none it
// is still the caller's.
func (d *Dialer) ask(ctx context.Context, at config.Side, s *side, h *host, p config.Protocol, t turn, who asker,
	open func(context.Context, *conn) error) (c *conn, err error) {
	a, why, ok := h.admits(p, time.Now())
	if !ok {
		return nil, h.down(why)
	}
	decided := false
	defer func() {
		if !decided { // also by a defect
			a.undecided()
		}
	}()
	c, err = d.connectHost(ctx, at, s, h, p, s.MaxConnections, who.client)
	if err == nil {
		if err = open(ctx, c); err != nil {
			c.Close()
		}
	}
	if !over(ctx) && h.tells(p, who, err) {
		decided = true
		a.mark(err)
		d.rec.Up(at, p, h.Name, err == nil)
	}
	if err != nil {
		return nil, err
	}
	end, settled := h.stand(p), t.shorten()
	c.settled = settled
	c.raw.OnClose(func() { // lives as long as the session: it must not hold c, which has buffers
		end()
		h.release()
		settled()
	})
	return c, nil
}

// over tells whether whoever asks has no time left: a connection that failed for that says nothing of the host. Its timeout may come a moment
// ahead of the end of ctx.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(end)
}

// loggedIn notes the answer to a login.
func (d *Dialer) loggedIn(at config.Side, c *conn, start time.Time) {
	c.settled()
	d.rec.LoggedIn(at, c.protocol, time.Since(start))
}

// connectHost makes a connection, with TLS where that is implicit; most is the host's budget, 0 for none.
func (d *Dialer) connectHost(ctx context.Context, at config.Side, s *side, h *host, p config.Protocol,
	most int, client netip.AddrPort) (*conn, error) {
	e := h.Endpoint(p)
	if !h.reserve(most) {
		return nil, &Error{Step: StepConnect, Host: h.Name, Err: ErrBudget}
	}
	start := time.Now()
	nd := net.Dialer{Timeout: s.ConnectTimeout, KeepAliveConfig: tlsconf.KeepAlive()}
	raw, err := nd.DialContext(ctx, "tcp", e.Address())
	if err != nil {
		h.release()
		return nil, &Error{Step: StepConnect, Host: h.Name, Err: err}
	}
	q, err := tlsconf.NewQuiet(raw)
	if err != nil {
		h.release()
		raw.Close()
		return nil, &Error{Step: StepConnect, Host: h.Name, Err: err}
	}
	q.OnClose(h.release)
	c := newConn(q, h, s.Backend, p)
	c.own = d.id
	if s.ProxyProtocol {
		if _, err := raw.Write(proxyHeader(client, raw.RemoteAddr())); err != nil {
			c.Close()
			return nil, &Error{Step: StepConnect, Host: h.Name, Err: err}
		}
	}
	if e.Mode == config.Implicit {
		if err := c.handshake(ctx); err != nil {
			c.Close()
			return nil, err
		}
	}
	d.rec.Connected(at, p, time.Since(start))
	return c, nil
}

type noRecorder struct{}

func (noRecorder) Connected(config.Side, config.Protocol, time.Duration) {}
func (noRecorder) LoggedIn(config.Side, config.Protocol, time.Duration)  {}
func (noRecorder) Up(config.Side, config.Protocol, string, bool)         {}
