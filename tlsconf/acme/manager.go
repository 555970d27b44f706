package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"mailgate/config"
	"mailgate/tlsconf"
)

// Recorder counts what becomes of requests: "obtained", "renewed" or "failed".
type Recorder interface{ ACME(result string) }

// Options are what a Manager works with. All but Recorder must be set.
type Options struct {
	Config       config.ACME
	Certificates *tlsconf.Certificates
	Log          *slog.Logger
	Recorder     Recorder // nil means none
}

// Status is how it stands with a name.
type Status struct {
	Name     string
	NotAfter time.Time // of the certificate in use; zero when there is none
	RenewAt  time.Time // when the next one is asked for
	Error    string    // why the last request failed, "" when it did not
	Tried    time.Time // when that was
	Next     time.Time // when it is tried again
}

// Manager has a certificate for each name, and renews it. It is safe for concurrent use.
type Manager struct {
	certs  *tlsconf.Certificates
	log    *slog.Logger
	rec    Recorder
	conf   config.ACME
	folder *folder
	issuer *issuer
	again  chan struct{} // names changed, or trouble is said to be mended

	mu    sync.Mutex
	names []string
	state map[string]*state
}

// state is what is known of a name.
type state struct {
	cert    *tls.Certificate // nil when there is none
	err     error
	failed  int // times in a row
	tried   time.Time
	next    time.Time // not before
	advised advice
}

// New makes a Manager and puts the certificates that were kept in use. It asks for none before Run.
func New(o Options) (*Manager, error) {
	m := &Manager{certs: o.Certificates, log: o.Log, rec: o.Recorder, conf: o.Config, folder: newFolder(o.Config.Storage),
		again: make(chan struct{}, 1), names: o.Config.Domains, state: map[string]*state{}}
	s, err := m.solver()
	if err != nil {
		return nil, err
	}
	if m.issuer, err = newIssuer(o.Config, m.folder, s); err != nil {
		return nil, err
	}
	m.load()
	return m, nil
}

func (m *Manager) solver() (acmez.Solver, error) {
	switch m.conf.Challenge {
	case config.TLSALPN01:
		return &alpnSolver{address: m.conf.TLSListen, certs: m.certs}, nil
	case config.DNS01:
		return newDNSSolver(m.conf.DNS, m.log)
	}
	return &httpSolver{address: m.conf.HTTPListen}, nil
}

// Configure takes other names; those that stay keep what they have.
func (m *Manager) Configure(names []string) {
	m.mu.Lock()
	same := slices.Equal(m.names, names)
	m.names = slices.Clone(names)
	m.mu.Unlock()
	if !same {
		m.load()
		m.wake()
	}
}

// Again tries at once what waits after a failure: somebody says that the trouble is mended.
func (m *Manager) Again() {
	m.mu.Lock()
	for _, s := range m.state {
		s.next = time.Time{}
	}
	m.mu.Unlock()
	m.wake()
}

func (m *Manager) wake() {
	select {
	case m.again <- struct{}{}:
	default: // it is awake anyway
	}
}

// Status tells how it stands with each name, in the order of the configuration.
func (m *Manager) Status() (out []Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range m.names {
		s := m.state[name]
		if s == nil {
			s = &state{}
		}
		x := Status{Name: name, Next: s.next}
		if s.cert != nil {
			x.NotAfter, x.RenewAt = s.cert.Leaf.NotAfter, s.due()
		}
		if s.err != nil {
			x.Error, x.Tried = Words(s.err), s.tried
		}
		out = append(out, x)
	}
	return out
}

// load reads what is kept, also what another gateway over the same folder has had, and puts it in use.
func (m *Manager) load() {
	m.mu.Lock()
	defer m.mu.Unlock()
	var certs []*tls.Certificate
	for name := range m.state {
		if !slices.Contains(m.names, name) {
			delete(m.state, name)
		}
	}
	for _, name := range m.names {
		s := m.state[name]
		if s == nil {
			s = &state{}
			m.state[name] = s
		}
		cert, err := m.folder.certificate(m.issuer.IssuerKey(), name)
		switch {
		case err == nil && (s.cert == nil || !cert.Leaf.Equal(s.cert.Leaf)):
			s.cert, s.err, s.failed, s.next, s.advised = cert, nil, 0, time.Time{}, advice{}
		case errors.Is(err, ErrUnusable):
			m.log.Error("a certificate that was kept cannot be used; another one is asked for", "name", name, "err", err)
			if err := m.folder.setAside(m.issuer.IssuerKey(), name); err != nil {
				m.log.Error("it cannot be set aside", "name", name, "err", err)
			}
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			m.log.Error("a certificate that was kept cannot be read; the one in use stays", "name", name, "err", err)
		}
		if s.cert != nil {
			certs = append(certs, s.cert)
		}
	}
	m.certs.SetManaged(certs)
}

// look is how often what is kept is read again.
const look = time.Minute

// Run asks for what is missing or due until ctx ends, one name after the other. It waits for all that it has begun.
func (m *Manager) Run(ctx context.Context) {
	defer m.issuer.http.CloseIdleConnections()
	// certmagic looks after the certificates of a cache by itself; none is put there, so that all that happens happens here.
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{Logger: zap.NewNop(),
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil }})
	defer cache.Stop()
	magic = certmagic.New(cache, certmagic.Config{Storage: m.folder, Issuers: []certmagic.Issuer{m.issuer}, Logger: zap.NewNop(),
		KeySource:        certmagic.StandardKeyGenerator{KeyType: certmagic.KeyType(m.conf.KeyType)},
		ReusePrivateKeys: true, // a renewal that is cut off anywhere leaves key and certificate that belong together; and pins hold
		OCSP:             certmagic.OCSPConfig{DisableStapling: true}, DisableARI: true, DisableStorageCheck: true,
		RenewalWindowRatio: .75}) // wider than RenewAt, from which certmagic's own time differs by a second: when a renewal is still needed once the lock is ours; RenewAt says when it is due
	for {
		m.load()
		wait := m.round(ctx, magic)
		select {
		case <-ctx.Done():
			return
		case <-m.again:
		case <-time.After(wait):
		}
	}
}

// round asks for each name that is due, and gives how long to wait until the next one is.
func (m *Manager) round(ctx context.Context, magic *certmagic.Config) time.Duration {
	m.mu.Lock()
	names := m.names
	m.mu.Unlock()
	wait := look
	for _, name := range names {
		if at, ok := m.when(name); ok && !time.Now().Before(at) && ctx.Err() == nil {
			m.ask(ctx, magic, name)
		}
	}
	for _, name := range names { // behind what is due: an authority may take its time
		m.advise(ctx, name)
		if at, ok := m.when(name); ok {
			wait = max(0, min(wait, time.Until(at)))
		}
	}
	return wait
}

// due is when a certificate is to be renewed, at once when there is none.
func (s *state) due() time.Time {
	if s.cert == nil {
		return time.Time{}
	}
	at := RenewAt(s.cert)
	if early := s.advised.at; !early.IsZero() && early.Before(at) {
		return early
	}
	return at
}

// when is when a name is asked for next; ok is false when it is not one of ours any more.
func (m *Manager) when(name string) (at time.Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state[name]
	if s == nil {
		return at, false
	}
	if at = s.due(); at.Before(s.next) {
		at = s.next
	}
	return at, true
}

// ask asks for a certificate, once.
func (m *Manager) ask(ctx context.Context, magic *certmagic.Config, name string) {
	m.mu.Lock()
	s := m.state[name]
	var before *tls.Certificate
	if s != nil {
		before = s.cert
	}
	has := before != nil
	early := has && time.Now().Before(RenewAt(before))
	m.mu.Unlock()
	m.log.Info("asking for a certificate", "name", name, "directory", m.conf.Directory, "challenge", m.conf.Challenge, "renewal", has)
	limited, cancel := context.WithTimeout(ctx, issueTime+m.conf.DNS.Wait)
	defer cancel()
	err := m.folder.check()
	if err == nil {
		if has {
			err = magic.RenewCertSync(limited, name, early)
		} else {
			err = magic.ObtainCertSync(limited, name)
		}
		if broken := m.folder.takeBroken(); broken != nil {
			err = broken
		} else if inner := errors.Unwrap(err); inner != nil {
			err = inner // without the name, which certmagic puts before it
		}
	}
	if ctx.Err() != nil {
		return // we are told to end; that is no failure
	}
	if err == nil {
		m.load()
		err = m.took(name, before)
	}
	if err != nil {
		m.failed(name, err)
		return
	}
	result := "obtained"
	if has {
		result = "renewed"
	}
	m.record(result)
}

// leastWait is the least time between two certificates of a name, but for those that live for less than hours: an authority that gives such as
// are due at once, to a clock that is wrong, is not to be asked without end.
const leastWait = time.Hour

// took sees that what was had is in use, in place of what was before, which may be nil.
func (m *Manager) took(name string, before *tls.Certificate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state[name]
	if s == nil {
		return nil
	}
	if s.cert == nil || before != nil && s.cert.Leaf.Equal(before.Leaf) {
		return fmt.Errorf("%w: what was had is not there", ErrStorage)
	}
	m.log.Info("a certificate was had", "name", name, "until", s.cert.Leaf.NotAfter, "renewal", s.due())
	now := time.Now()
	s.next = now.Add(min(leastWait, s.cert.Leaf.NotAfter.Sub(s.cert.Leaf.NotBefore)/4))
	if !now.Before(s.due()) {
		m.log.Warn("a certificate is due as soon as it was had: is the clock of this machine right?", "name", name, "until", s.cert.Leaf.NotAfter)
	}
	return nil
}

func (m *Manager) record(result string) {
	if m.rec != nil {
		m.rec.ACME(result)
	}
}

// failed notes a failure, and when to try again.
func (m *Manager) failed(name string, err error) {
	_, said := errors.AsType[acme.Problem](err)
	m.mu.Lock()
	s := m.state[name]
	if s == nil {
		m.mu.Unlock()
		return
	}
	s.err, s.tried = err, time.Now()
	s.next = s.tried.Add(backOff(s.failed, said))
	s.failed++
	next := s.next
	m.mu.Unlock()
	m.record("failed")
	m.log.Error("no certificate was had", "name", name, "err", Words(err), "next", next)
}

// backOff is how long to wait after a number of failures. An authority that has said no is asked less than five times an hour, which is what
// the largest one allows; one that could not be reached, and trouble of our own, sooner.
func backOff(failures int, said bool) time.Duration {
	steps := []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour}
	if said {
		steps = []time.Duration{10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 6 * time.Hour}
	}
	d := steps[min(failures, len(steps)-1)]
	return d + rand.N(d/5) // so that gateways do not ask together
}
