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
	tls [services]*tls.Config // by index
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
			x := &host{Host: h, health: d.healthOf(s, h)}
			for _, p := range config.Protocols() {
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

// healthOf finds what is known of a machine that stays: a reload forgets neither its connections nor its failures.
func (d *Dialer) healthOf(s config.Side, h config.Host) *health {
	if old := d.sides[s].Load(); old != nil {
		for _, x := range old.hosts {
			if x.Host == h {
				return x.health
			}
		}
	}
	return &health{}
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
// through.
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
	for _, h := range list {
		if who.syncer {
			if why, ok := h.listens(p, time.Now()); !ok {
				if last == nil {
					last = &Error{Step: StepConnect, Host: h.Name, Err: fmt.Errorf("%w: %s", ErrDown, why)}
				}
				continue
			}
		}
		a, why, ok := h.admits(p, time.Now())
		if !ok {
			if last == nil {
				last = &Error{Step: StepConnect, Host: h.Name, Err: fmt.Errorf("%w: %s", ErrDown, why)}
			}
			continue
		}
		c, err := d.attempt(ctx, at, s, h, a, who, open)
		if err == nil {
			return c, nil
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// attempt asks one host, and notes what that tells of it.
func (d *Dialer) attempt(ctx context.Context, at config.Side, s *side, h *host, a attempt, who asker,
	open func(context.Context, *conn) error) (c *conn, err error) {
	decided := false
	defer func() {
		if !decided { // also by a defect
			a.undecided()
		}
	}()
	c, err = d.connectHost(ctx, at, s, h, a.p, s.MaxConnections, who.client)
	if err == nil {
		if err = open(ctx, c); err != nil {
			c.Close()
		}
	}
	if ctx.Err() == nil && h.tells(a.p, who, err) {
		decided = true
		a.mark(err)
		d.rec.Up(at, a.p, h.Name, err == nil)
	}
	if err != nil {
		return nil, err
	}
	end := h.stand(a.p)
	c.raw.OnClose(func() {
		end()
		h.release()
	})
	return c, nil
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
