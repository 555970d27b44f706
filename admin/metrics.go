package admin

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
	"mailgate/router"
)

// Sources are what is asked for when metrics are read. All must be set; they must not block.
type Sources struct {
	Router      *router.Router
	Wave        func(user string) string // "" for none
	Waves       func() []string          // those of the routes file
	Steps       func() map[string]op.State
	Operations  func() map[op.Kind]map[op.Status]int
	Connections func() []Connection
	Sync        func() (phases map[string]int, lag time.Duration) // users whose mailboxes are kept equal, by phase; the oldest change not carried yet
	NotAfter    func() []Expiry
	Gates       func() []gate.Status // as last judged
}

// Connection counts a listener's open connections.
type Connection struct {
	Protocol config.Protocol
	Listener string
	Mode     config.TLSMode
	N        int
}

// Expiry is the end of a certificate on a port.
type Expiry struct {
	Host, Port string
	At         time.Time
}

// Metrics are the counters of one gateway, in a registry of their own. It is the Recorder of proxy, backend and
// cutover. No label ever holds a user or an address; waves are those of the routes file. Its methods are safe for
// concurrent use.
type Metrics struct {
	Registry *prometheus.Registry

	src         Sources
	connections *prometheus.CounterVec
	auth        *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	relayed     *prometheus.CounterVec
	messages    *prometheus.CounterVec
	violations  *prometheus.CounterVec
	connect     *prometheus.HistogramVec
	login       *prometheus.HistogramVec
	up          *prometheus.GaugeVec
	transitions *prometheus.CounterVec
	flip        *prometheus.HistogramVec
	sync        syncMetrics
	learned     *prometheus.CounterVec
	logins      loginMetrics
	hooks       *prometheus.CounterVec
	sieves      *prometheus.CounterVec
	scripts     *prometheus.CounterVec
	acme        *prometheus.CounterVec
	reload      prometheus.Gauge
	stored      prometheus.Gauge
}

// NewMetrics makes all metrics; label sets that are known begin at zero.
func NewMetrics(version, revision string, src Sources) *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry(), src: src}
	quick := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	long := []float64{1, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600}
	m.connections = counter(m, "mailgate_connections_total", "Connections accepted.", "protocol", "listener", "tls")
	m.auth = counter(m, "mailgate_auth_attempts_total", "Login attempts.", "protocol", "side", "wave", "mechanism", "result")
	m.duration = histogram(m, "mailgate_session_duration_seconds", "Length of sessions.", long, "protocol", "side")
	m.relayed = counter(m, "mailgate_relayed_bytes_total", "Bytes relayed; up is towards the backend.", "protocol", "side", "direction")
	m.messages = counter(m, "mailgate_submission_messages_total", "Messages submitted, by the final reply.", "side", "code_class")
	m.violations = counter(m, "mailgate_invariant_violations_total", "What must not happen.", "invariant")
	m.connect = histogram(m, "mailgate_backend_connect_duration_seconds", "Time to connect, with TLS.", quick, "side", "protocol")
	m.login = histogram(m, "mailgate_backend_login_duration_seconds", "Time from the connection to the login.", quick, "side", "protocol")
	m.up = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailgate_backend_up", Help: "Whether a host could be used at the last look."},
		[]string{"side", "protocol", "backend"})
	m.transitions = counter(m, "mailgate_state_transitions_total", "Steps of the flip machine.", "wave", "from", "to", "actor")
	m.flip = histogram(m, "mailgate_flip_duration_seconds", "FENCE to RELEASE of flips that were committed.", quick, "wave", "kind")
	m.sync = newSyncMetrics(m, quick)
	m.learned = counter(m, "mailgate_learned_passwords_total", "Logins of which the password was to be learned, by what became of it.", "result")
	m.logins = newLoginMetrics(m)
	m.hooks = counter(m, "mailgate_hook_runs_total", "Runs of hooks of flips, by what they were told and how they ended.", "event", "outcome")
	m.sieves = counter(m, "mailgate_sync_sieve_passes_total", "Looks at users' Sieve scripts, by how they ended.", "result")
	m.scripts = counter(m, "mailgate_sync_sieve_scripts_total", "Sieve scripts carried, by what was done.", "side", "action")
	m.acme = counter(m, "mailgate_acme_requests_total", "Certificates asked for, by what became of it.", "result")
	m.reload = prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailgate_config_last_reload_success_timestamp_seconds",
		Help: "When configuration and routes were last taken over."})
	m.stored = prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailgate_state_store_last_success_timestamp_seconds",
		Help: "When the store last took a write."})
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailgate_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision}})
	info.Set(1)
	m.Registry.MustRegister(m.up, m.reload, m.stored, info, newLive(src), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.zero()
	return m
}

func counter(m *Metrics, name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.Registry.MustRegister(c)
	return c
}

func histogram(m *Metrics, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.Registry.MustRegister(h)
	return h
}

// zero makes series exist before the first event, so that rates and alerts work from the start.
func (m *Metrics) zero() {
	for _, s := range config.Sides {
		for _, p := range config.Protocols() {
			for _, r := range []string{"ok", "backend_rejected", "backend_error", "rate_limited", "held", "malformed"} {
				m.auth.WithLabelValues(string(p), s.String(), "", "PLAIN", r)
			}
			m.relayed.WithLabelValues(string(p), s.String(), "up")
			m.relayed.WithLabelValues(string(p), s.String(), "down")
			m.duration.WithLabelValues(string(p), s.String())
			m.connect.WithLabelValues(s.String(), string(p))
			m.login.WithLabelValues(s.String(), string(p))
		}
		for _, c := range []string{"2xx", "4xx", "5xx"} {
			m.messages.WithLabelValues(s.String(), c)
		}
		m.flip.WithLabelValues("", flipKind(s))
	}
	m.violations.WithLabelValues("panic")
	m.sync.zero()
	m.logins.zero()
	m.zeroHooks()
	for _, r := range []string{"learned", "renewed", "kept", "dropped", "failed"} {
		m.learned.WithLabelValues(r)
	}
	for _, r := range []string{"ok", "partly", "without", "failed"} {
		m.sieves.WithLabelValues(r)
	}
	for _, r := range []string{"obtained", "renewed", "failed"} {
		m.acme.WithLabelValues(r)
	}
	for _, s := range config.Sides {
		for _, action := range []string{"written", "deleted", "activated"} {
			m.scripts.WithLabelValues(s.String(), action)
		}
	}
	for _, x := range router.Moves() {
		for _, who := range []string{"cli", "file", "serve"} {
			m.transitions.WithLabelValues("", string(x.From), string(x.To), who)
		}
	}
}

// Connection implements proxy.Recorder.
func (m *Metrics) Connection(p config.Protocol, listener string, mode config.TLSMode) {
	m.connections.WithLabelValues(string(p), listener, tlsWord(mode)).Inc()
}

func tlsWord(mode config.TLSMode) string { return [...]string{"none", "starttls", "implicit"}[mode] }

// Auth implements proxy.Recorder. What clients name as mechanism is theirs to choose, so only known ones are labels.
func (m *Metrics) Auth(p config.Protocol, s config.Side, user, mechanism, result string) {
	switch mechanism {
	case "PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256", "SCRAM-SHA-1":
	default:
		mechanism = "other"
	}
	m.auth.WithLabelValues(string(p), s.String(), m.wave(user), mechanism, result).Inc()
}

func (m *Metrics) wave(user string) string {
	if user == "" {
		return ""
	}
	return m.src.Wave(user)
}

// SessionEnd implements proxy.Recorder.
func (m *Metrics) SessionEnd(p config.Protocol, s config.Side, lived time.Duration, up, down int64) {
	m.duration.WithLabelValues(string(p), s.String()).Observe(lived.Seconds())
	m.relayed.WithLabelValues(string(p), s.String(), "up").Add(float64(up))
	m.relayed.WithLabelValues(string(p), s.String(), "down").Add(float64(down))
}

// Message implements proxy.Recorder.
func (m *Metrics) Message(s config.Side, class string) {
	m.messages.WithLabelValues(s.String(), class).Inc()
}

// Violation implements proxy.Recorder.
func (m *Metrics) Violation(invariant string) { m.violations.WithLabelValues(invariant).Inc() }

// Connected implements backend.Recorder.
func (m *Metrics) Connected(s config.Side, p config.Protocol, d time.Duration) {
	m.connect.WithLabelValues(s.String(), string(p)).Observe(d.Seconds())
}

// LoggedIn implements backend.Recorder.
func (m *Metrics) LoggedIn(s config.Side, p config.Protocol, d time.Duration) {
	m.login.WithLabelValues(s.String(), string(p)).Observe(d.Seconds())
}

// Up implements backend.Recorder.
func (m *Metrics) Up(s config.Side, p config.Protocol, host string, up bool) {
	v := 0.0
	if up {
		v = 1
	}
	m.up.WithLabelValues(s.String(), string(p), host).Set(v)
}

// flipKind is switch towards NEW, rollback towards OLD.
func flipKind(target config.Side) string {
	if target == config.Old {
		return "rollback"
	}
	return "switch"
}

// Flip implements cutover.Recorder. Those that were called off show as transitions from DRAIN to SETTLED.
func (m *Metrics) Flip(user string, target config.Side, took time.Duration, committed bool) {
	if committed {
		m.flip.WithLabelValues(m.wave(user), flipKind(target)).Observe(took.Seconds())
	}
}

// Transition implements cutover.Recorder.
func (m *Metrics) Transition(user string, from, to router.State, by string) {
	m.transitions.WithLabelValues(m.wave(user), string(from), string(to), actor(by)).Inc()
}

// actor is the kind of who asked (Operation.By): a person at the command line, the routes file, or the program itself.
func actor(by string) string {
	switch {
	case strings.HasPrefix(by, "cli"):
		return "cli"
	case strings.HasPrefix(by, "routes file"):
		return "file"
	}
	return "serve"
}

// StoreOK implements cutover.Recorder.
func (m *Metrics) StoreOK(at time.Time) { m.stored.Set(float64(at.Unix())) }

// Reloaded notes a reload that was taken over.
func (m *Metrics) Reloaded() { m.reload.SetToCurrentTime() }

// LearnedPassword implements learned.Recorder.
func (m *Metrics) LearnedPassword(result string) { m.learned.WithLabelValues(result).Inc() }

// ACME implements acme.Recorder.
func (m *Metrics) ACME(result string) { m.acme.WithLabelValues(result).Inc() }

// Sieve counts a look at a user's Sieve scripts: "ok", "partly", "without" (one side has no ManageSieve) or "failed".
func (m *Metrics) Sieve(result string) { m.sieves.WithLabelValues(result).Inc() }

// Scripts counts scripts that were "written", "deleted" or "activated" on a side.
func (m *Metrics) Scripts(s config.Side, action string, n int) {
	m.scripts.WithLabelValues(s.String(), action).Add(float64(n))
}
