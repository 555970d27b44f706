package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailgate/config"
)

// Features are what a side's hosts all offer before login, as last seen.
type Features struct {
	IMAP       []string          // capabilities, upper case; nil while unknown
	POP3       []string          // as CAPA lists them, upper case, without what differs; nil while unknown
	Submission map[string]string // extensions; nil while unknown
	Sieve      *SieveCapabilities
}

// Features returns what is known of a side. The result must not be changed.
func (d *Dialer) Features(s config.Side) *Features { return d.feat[s].Load() }

// Seen is one look at a service of a host.
type Seen struct {
	Side         config.Side
	Host         string
	Endpoint     config.Endpoint
	Capabilities []string          // IMAP, POP3
	Extensions   map[string]string // submission
	Sieve        *SieveCapabilities
	XCLIENT      bool   // POP3: it takes it from this machine
	Gateway      string // which gateway greets there, "" where it is none
	TLS          *tls.ConnectionState
	Err          error
	Crowded      bool // Err says nothing of the host: it was sent away while connections of ours stand there
	Took         time.Duration
}

// Probe looks at one service: connects, begins TLS as configured, reads what is offered, and leaves.
func (d *Dialer) Probe(ctx context.Context, at config.Side, p config.Protocol, name, helo string) Seen {
	s := d.sides[at].Load()
	for _, h := range s.hosts {
		if h.Name == name {
			start := time.Now()
			seen := d.probeHost(ctx, at, s, h, p, helo)
			if seen.Crowded = !h.tells(p, forUser(netip.AddrPort{}), seen.Err); ctx.Err() == nil && !seen.Crowded {
				attempt{h: h.health, p: p}.mark(seen.Err)
			}
			seen.Side, seen.Host, seen.Endpoint, seen.Took = at, h.Name, h.Endpoint(p), time.Since(start)
			return seen
		}
	}
	return Seen{Side: at, Host: name, Err: ErrNoHost}
}

func (d *Dialer) probeHost(ctx context.Context, at config.Side, s *side, h *host, p config.Protocol, helo string) (seen Seen) {
	c, err := d.connectHost(ctx, at, s, h, p, 0, netip.AddrPort{}) // a look is not refused for the budget's sake
	if err != nil {
		seen.Err = err
		return seen
	}
	defer c.Close()
	bye := "QUIT\r\n"
	switch p {
	case config.IMAP:
		i := &imapConn{conn: c}
		seen.Err = i.open(ctx)
		seen.Capabilities = i.caps
		bye = i.nextTag() + " LOGOUT\r\n"
	case config.POP3:
		o := &popConn{conn: c}
		seen.Err = o.open(ctx)
		seen.Capabilities = o.caps
		_, listed := o.parameters("XCLIENT")
		seen.XCLIENT = listed || o.trusted
	case config.Sieve:
		v := &sieveConn{conn: c}
		if seen.Err = v.open(ctx); seen.Err == nil {
			seen.Sieve = &v.caps
		}
		bye = "LOGOUT\r\n"
	default:
		m := &smtpConn{conn: c, name: helo}
		done := c.within(ctx, s.LoginTimeout)
		seen.Err = m.open(ctx)
		seen.Extensions = m.ext
		done()
	}
	defer c.within(ctx, s.ConnectTimeout)()
	_ = c.send(bye)
	if t, ok := c.Conn.(*tls.Conn); ok {
		state := t.ConnectionState()
		seen.TLS = &state
	}
	seen.Gateway = c.peer
	if seen.Err == nil {
		_, _ = c.line() // let the server see an orderly end
	}
	return seen
}

// Names lists the hosts of a side that have a service.
func (d *Dialer) Names(at config.Side, p config.Protocol) []string {
	var out []string
	for _, h := range d.sides[at].Load().hosts {
		if h.Endpoint(p).Host != "" {
			out = append(out, h.Name)
		}
	}
	return out
}

// Refresh looks at all hosts once and keeps what each side's hosts have in common. What was known of a side that
// cannot be reached stays.
func (d *Dialer) Refresh(ctx context.Context, helo string) (all bool) {
	var wg sync.WaitGroup
	all = true
	var mu sync.Mutex
	for _, s := range config.Sides {
		for _, p := range config.Protocols() {
			wg.Go(func() {
				ok := d.refreshSide(ctx, s, p, helo, &mu)
				mu.Lock()
				all = all && ok
				mu.Unlock()
			})
		}
	}
	wg.Wait()
	return all
}

func (d *Dialer) refreshSide(ctx context.Context, s config.Side, p config.Protocol, helo string, mu *sync.Mutex) bool {
	var seen []Seen
	crowded := 0
	names := d.Names(s, p)
	for _, name := range names {
		x := d.Probe(ctx, s, p, name, helo)
		if x.Crowded { // all is as it was; to ask again soon would crowd it more
			crowded++
			continue
		}
		d.rec.Up(s, p, name, x.Err == nil)
		if x.Err == nil {
			seen = append(seen, x)
			continue
		}
		var e *Error
		if errors.As(x.Err, &e) && ctx.Err() == nil {
			d.log.Warn("backend cannot be used", "side", s.String(), "protocol", p, "host", name, "step", e.Step, "err", x.Err)
		}
	}
	if len(seen) == 0 {
		return len(names) == crowded
	}
	mu.Lock()
	defer mu.Unlock()
	d.Keep(s, p, seen)
	return len(seen)+crowded == len(names)
}

// Keep makes of what was seen of a side's hosts, each without an error, what Features tells. It is called by one goroutine at a time.
func (d *Dialer) Keep(s config.Side, p config.Protocol, seen []Seen) {
	if len(seen) == 0 {
		return
	}
	f := *d.feat[s].Load()
	switch p {
	case config.IMAP:
		f.IMAP = commonCaps(seen)
	case config.POP3:
		f.POP3 = commonPop(seen)
	case config.Sieve:
		f.Sieve = commonSieve(seen)
	default:
		f.Submission = commonExt(seen)
	}
	d.feat[s].Store(&f)
}

func commonCaps(seen []Seen) []string {
	out := []string{}
	for _, c := range seen[0].Capabilities {
		c = strings.ToUpper(c)
		if !slices.ContainsFunc(seen, func(s Seen) bool {
			return !slices.ContainsFunc(s.Capabilities, func(x string) bool { return strings.EqualFold(x, c) })
		}) {
			out = append(out, c)
		}
	}
	return out
}

// commonPop are the capabilities that all have; of SASL the mechanisms that all have.
func commonPop(seen []Seen) []string {
	out := []string{}
	for _, line := range seen[0].Capabilities {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		keep, all := f[1:], true
		for _, s := range seen[1:] {
			other, ok := popCapability(s.Capabilities, f[0])
			all = all && ok && (f[0] == "SASL" || slices.Equal(keep, other))
			keep = slices.DeleteFunc(slices.Clone(keep), func(m string) bool { return !slices.Contains(other, m) })
		}
		if all {
			out = append(out, strings.Join(append([]string{f[0]}, keep...), " "))
		}
	}
	return out
}

// commonSieve is what all have.
func commonSieve(seen []Seen) *SieveCapabilities {
	out := *seen[0].Sieve
	for _, s := range seen[1:] {
		out = *out.Common(s.Sieve)
	}
	return &out
}

// Common is what two servers both have; it says nothing of what they are.
func (c *SieveCapabilities) Common(d *SieveCapabilities) *SieveCapabilities {
	both := func(a, b []string) []string {
		return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return !slices.Contains(b, x) })
	}
	out := &SieveCapabilities{Extensions: both(c.Extensions, d.Extensions), Mechanisms: both(c.Mechanisms, d.Mechanisms), Notify: both(c.Notify, d.Notify)}
	if c.Version != "" && d.Version != "" {
		out.Version = min(c.Version, d.Version)
	}
	return out
}

// POP3Has finds a capability of POP3 by its keyword, in upper case.
func (f *Features) POP3Has(name string) (parameters []string, ok bool) {
	return popCapability(f.POP3, name)
}

func commonExt(seen []Seen) map[string]string {
	out := maps.Clone(seen[0].Extensions)
	for _, s := range seen[1:] {
		for key, params := range out {
			other, ok := s.Extensions[key]
			switch {
			case !ok:
				delete(out, key)
			case key == "SIZE":
				out[key] = smaller(params, other)
			case key == "AUTH":
				both := slices.DeleteFunc(strings.Fields(params), func(m string) bool { return !slices.Contains(strings.Fields(other), m) })
				out[key] = strings.Join(both, " ")
			}
		}
	}
	return out
}

// smaller is the smaller of two SIZE limits; empty and 0 mean no limit (RFC 1870, section 3).
func smaller(a, b string) string {
	x, errA := strconv.ParseInt(a, 10, 64)
	y, errB := strconv.ParseInt(b, 10, 64)
	switch {
	case errA != nil || x == 0:
		return b
	case errB != nil || y == 0 || x < y:
		return a
	}
	return b
}

// Run keeps Features and health fresh until ctx ends: every minute or so, every few seconds while a host is ill, and
// when the configuration changes.
func (d *Dialer) Run(ctx context.Context, helo string) {
	for {
		wait := 60 * time.Second
		if !d.Refresh(ctx, helo) {
			wait = 5 * time.Second
		}
		wait += time.Duration(rand.Int64N(int64(wait / 5)))
		select {
		case <-ctx.Done():
			return
		case <-d.changed:
		case <-time.After(wait):
		}
	}
}
