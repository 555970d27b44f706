package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"mailgate/config"
	"mailgate/router"
)

// Metrics are the counters of one gateway, in a registry of their own. It is the Recorder of proxy, backend and
// cutover. No label ever holds a user or an address. Its methods are safe for concurrent use.
type Metrics struct {
	Registry *prometheus.Registry

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
	reload      prometheus.Gauge
	stored      prometheus.Gauge
}

// NewMetrics makes all metrics; known label sets begin at zero.
func NewMetrics(version string, r *router.Router) *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry()}
	quick := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	long := []float64{1, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600}
	m.connections = counter(m, "mailgate_connections_total", "Connections accepted.", "protocol", "listener", "tls")
	m.auth = counter(m, "mailgate_auth_attempts_total", "Login attempts.", "protocol", "side", "mechanism", "result")
	m.duration = histogram(m, "mailgate_session_duration_seconds", "Length of sessions.", long, "protocol", "side")
	m.relayed = counter(m, "mailgate_relayed_bytes_total", "Bytes relayed; up is towards the backend.", "protocol", "side", "direction")
	m.messages = counter(m, "mailgate_submission_messages_total", "Messages submitted, by the final reply.", "side", "code_class")
	m.violations = counter(m, "mailgate_invariant_violations_total", "What must not happen.", "invariant")
	m.connect = histogram(m, "mailgate_backend_connect_duration_seconds", "Time to connect, with TLS.", quick, "side", "protocol")
	m.login = histogram(m, "mailgate_backend_login_duration_seconds", "Time from the connection to the login.", quick, "side", "protocol")
	m.up = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mailgate_backend_up", Help: "Whether a host could be used at the last look."},
		[]string{"side", "protocol", "backend"})
	m.transitions = counter(m, "mailgate_state_transitions_total", "Steps of the flip machine.", "from", "to")
	m.flip = histogram(m, "mailgate_flip_duration_seconds", "FENCE to RELEASE.", quick, "target", "result")
	m.reload = prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailgate_config_last_reload_success_timestamp_seconds",
		Help: "When configuration and routes were last taken over."})
	m.stored = prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailgate_state_store_last_success_timestamp_seconds",
		Help: "When the store last took a write."})
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "mailgate_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	m.Registry.MustRegister(m.up, m.reload, m.stored, info, &live{router: r}, collectors.NewGoCollector(),
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
		for _, p := range []config.Protocol{config.IMAP, config.Submission} {
			for _, r := range []string{"ok", "backend_rejected", "backend_error", "rate_limited", "held", "malformed"} {
				m.auth.WithLabelValues(string(p), s.String(), "PLAIN", r)
			}
			m.relayed.WithLabelValues(string(p), s.String(), "up")
			m.relayed.WithLabelValues(string(p), s.String(), "down")
		}
		for _, c := range []string{"2xx", "4xx", "5xx"} {
			m.messages.WithLabelValues(s.String(), c)
		}
	}
	m.violations.WithLabelValues("panic")
	for _, x := range router.Moves() {
		m.transitions.WithLabelValues(string(x.From), string(x.To))
	}
}

// Connection implements proxy.Recorder.
func (m *Metrics) Connection(p config.Protocol, listener string, mode config.TLSMode) {
	m.connections.WithLabelValues(string(p), listener, [...]string{"none", "starttls", "implicit"}[mode]).Inc()
}

// Auth implements proxy.Recorder.
func (m *Metrics) Auth(p config.Protocol, s config.Side, mechanism, result string) {
	m.auth.WithLabelValues(string(p), s.String(), mechanism, result).Inc()
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

// Flip implements cutover.Recorder.
func (m *Metrics) Flip(target config.Side, took time.Duration, committed bool) {
	result := "aborted"
	if committed {
		result = "committed"
	}
	m.flip.WithLabelValues(target.String(), result).Observe(took.Seconds())
}

// Transition implements cutover.Recorder.
func (m *Metrics) Transition(from, to router.State) {
	m.transitions.WithLabelValues(string(from), string(to)).Inc()
}

// StoreOK implements cutover.Recorder.
func (m *Metrics) StoreOK(at time.Time) { m.stored.Set(float64(at.Unix())) }

// Reloaded notes a reload that was taken over.
func (m *Metrics) Reloaded() { m.reload.SetToCurrentTime() }

// live collects what is counted when asked: sessions and users.
type live struct{ router *router.Router }

// Describe implements prometheus.Collector.
func (l *live) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(l, ch) }

// Collect implements prometheus.Collector.
func (l *live) Collect(ch chan<- prometheus.Metric) {
	sessions := map[[2]string]int{}
	users := map[[2]string]int{}
	for _, s := range config.Sides {
		for _, p := range []config.Protocol{config.IMAP, config.Submission} {
			sessions[[2]string{string(p), s.String()}] = 0
		}
		users[[2]string{s.String(), "settled"}], users[[2]string{s.String(), "fenced"}] = 0, 0
	}
	for _, s := range l.router.Sessions("") {
		sessions[[2]string{string(s.Protocol), s.Side.String()}]++
	}
	l.router.Users(func(_ string, p router.Place, fenced bool) {
		state := "settled"
		if fenced {
			state = "fenced"
		}
		users[[2]string{p.Side.String(), state}]++
	})
	sd := prometheus.NewDesc("mailgate_sessions", "Live sessions.", []string{"protocol", "side"}, nil)
	for k, n := range sessions {
		ch <- prometheus.MustNewConstMetric(sd, prometheus.GaugeValue, float64(n), k[0], k[1])
	}
	ud := prometheus.NewDesc("mailgate_users", "Users with a row.", []string{"side", "state"}, nil)
	for k, n := range users {
		ch <- prometheus.MustNewConstMetric(ud, prometheus.GaugeValue, float64(n), k[0], k[1])
	}
}
