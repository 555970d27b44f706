package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
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
	sides [2]atomic.Pointer[side]
	feat  [2]atomic.Pointer[Features]
}

// side is one backend as configured; a reload makes a new one.
type side struct {
	config.Backend
	hosts []*host
	next  atomic.Uint32
}

// host is one machine of a side.
type host struct {
	config.Host
	tls [2]*tls.Config // by protocol: IMAP, submission

	mu    sync.Mutex
	open  int       // connections
	fails int       // in a row
	why   [2]string // of the last failure, by protocol; "" when it was well
	until time.Time // not asked again before, as long as another host is well
}

// Errors of a Dialer.
var (
	ErrNoHost = errors.New("the side has no host for this protocol")
	ErrBudget = errors.New("the host has as many connections as it may (max_connections)")
)

// NewDialer makes a Dialer. rec may be nil.
func NewDialer(b [2]config.Backend, log *slog.Logger, rec Recorder) (*Dialer, error) {
	d := &Dialer{log: log, rec: rec}
	if rec == nil {
		d.rec = noRecorder{}
	}
	for _, s := range config.Sides {
		d.feat[s].Store(&Features{})
	}
	return d, d.Update(b)
}

// Update puts a new configuration in force for connections to come, or changes nothing and says why.
func (d *Dialer) Update(b [2]config.Backend) error {
	var next [2]*side
	for _, s := range config.Sides {
		next[s] = &side{Backend: b[s]}
		for _, h := range b[s].Hosts {
			x := &host{Host: h}
			for i, e := range []config.Endpoint{h.IMAP, h.Submission} {
				c, err := tlsconf.Client(b[s], e)
				if err != nil {
					return fmt.Errorf("backend %s: %w", s, err)
				}
				x.tls[i] = c
			}
			next[s].hosts = append(next[s].hosts, x)
		}
	}
	for _, s := range config.Sides {
		d.sides[s].Store(next[s])
	}
	return nil
}

func index(p config.Protocol) int {
	if p == config.Submission {
		return 1
	}
	return 0
}

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
		h.mu.Lock()
		bad := now.Before(h.until)
		h.mu.Unlock()
		if bad {
			ill = append(ill, h)
		} else {
			well = append(well, h)
		}
	}
	return append(well, ill...)
}

// HostHealth is a host as last seen.
type HostHealth struct {
	Name  string
	Error string // "" when it was well
}

// Health tells how the hosts of a side were at the last look or login.
func (d *Dialer) Health(at config.Side, p config.Protocol) []HostHealth {
	var out []HostHealth
	for _, h := range d.sides[at].Load().hosts {
		if h.Endpoint(p).Host == "" {
			continue
		}
		h.mu.Lock()
		out = append(out, HostHealth{h.Name, h.why[index(p)]})
		h.mu.Unlock()
	}
	return out
}

// note keeps how a service was found.
func (h *host) note(p config.Protocol, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.why[index(p)] = ""
	if err != nil {
		h.why[index(p)] = err.Error()
	}
}

// mark notes how a connection went.
func (h *host) mark(ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ok {
		h.fails, h.until = 0, time.Time{}
		return
	}
	h.fails++
	h.until = time.Now().Add(min(time.Second<<min(h.fails-1, 5), 30*time.Second))
}

// reserve takes a place in the host's budget.
func (h *host) reserve(most int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if most > 0 && h.open >= most {
		return false
	}
	h.open++
	return true
}

func (h *host) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open--
}

// connect tries the hosts of a side until one takes the connection. With implicit TLS the handshake is part of it.
func (d *Dialer) connect(ctx context.Context, at config.Side, p config.Protocol, name string) (*conn, error) {
	s := d.sides[at].Load()
	list := s.candidates(p, name)
	if len(list) == 0 {
		return nil, &Error{Step: StepConnect, Kind: Refused, Host: at.String(), Err: ErrNoHost}
	}
	var last error
	for _, h := range list {
		c, err := d.connectHost(ctx, at, s, h, p)
		if err == nil {
			return c, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

func (d *Dialer) connectHost(ctx context.Context, at config.Side, s *side, h *host, p config.Protocol) (*conn, error) {
	e := h.Endpoint(p)
	if !h.reserve(s.MaxConnections) {
		return nil, &Error{Step: StepConnect, Host: h.Name, Err: ErrBudget}
	}
	start := time.Now()
	nd := net.Dialer{Timeout: s.ConnectTimeout}
	raw, err := nd.DialContext(ctx, "tcp", e.Address())
	if err != nil {
		h.release()
		if ctx.Err() == nil {
			h.mark(false)
			h.note(p, err)
			d.rec.Up(at, p, h.Name, false)
		}
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
	if e.Mode == config.Implicit {
		if err := c.handshake(ctx); err != nil {
			c.Close()
			h.mark(false)
			h.note(p, err)
			return nil, err
		}
	}
	h.mark(true)
	d.rec.Up(at, p, h.Name, true)
	d.rec.Connected(at, p, time.Since(start))
	return c, nil
}

type noRecorder struct{}

func (noRecorder) Connected(config.Side, config.Protocol, time.Duration) {}
func (noRecorder) LoggedIn(config.Side, config.Protocol, time.Duration)  {}
func (noRecorder) Up(config.Side, config.Protocol, string, bool)         {}
