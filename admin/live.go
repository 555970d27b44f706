package admin

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"mailgate/config"
	"mailgate/router"
)

// live collects what is counted when asked: connections, sessions, users, operations, certificates.
type live struct {
	src                                                                         Sources
	connections, sessions, users, operations, expiry, sync, lag, gate, baseline *prometheus.Desc
}

func newLive(src Sources) *live {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &live{src: src,
		connections: d("mailgate_connections", "Open connections, logged in or not.", "protocol", "listener", "tls"),
		sessions:    d("mailgate_sessions", "Live sessions.", "protocol", "side", "wave"),
		users:       d("mailgate_users", "Users with a row: OLD and NEW are settled, the others are being moved.", "wave", "state"),
		operations:  d("mailgate_operations", "Operations that have not ended.", "kind", "state"),
		expiry: d("mailgate_tls_certificate_not_after_timestamp_seconds", "When the certificate of a listener ends.",
			"host", "port"),
		sync:     d("mailgate_sync_users", "Users whose mailboxes are kept equal.", "phase"),
		lag:      d("mailgate_sync_lag_seconds", "Age of the oldest change that is known of and not carried to the other side yet."),
		gate:     d("mailgate_gate_status", "1 for what a gate of a wave said when it was last judged, 0 for the other verdicts.", "wave", "gate", "verdict"),
		baseline: d("mailgate_wave_baseline_ratio", "Share of failures before the flip that gates compare with: of the same users, on OLD.", "wave", "signal")}
}

// Describe implements prometheus.Collector.
func (l *live) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.connections, l.sessions, l.users, l.operations, l.expiry, l.sync, l.lag, l.gate, l.baseline} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (l *live) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, c := range l.src.Connections() {
		send(l.connections, float64(c.N), string(c.Protocol), c.Listener, tlsWord(c.Mode))
	}
	waves := append([]string{""}, l.src.Waves()...)
	for k, n := range l.countSessions(waves) {
		send(l.sessions, float64(n), k[0], k[1], k[2])
	}
	for k, n := range l.countUsers(waves) {
		send(l.users, float64(n), k[0], k[1])
	}
	for kind, states := range l.src.Operations() {
		for state, n := range states {
			send(l.operations, float64(n), string(kind), string(state))
		}
	}
	l.sendGates(waves, send)
	phases, lag := l.src.Sync()
	for _, p := range []string{"first copy", "converged", "no login", "failing", "paused"} {
		send(l.sync, float64(phases[p]), p)
	}
	send(l.lag, lag.Seconds())
	for _, x := range l.src.NotAfter() {
		send(l.expiry, float64(x.At.Unix()), x.Host, x.Port)
	}
}

func (l *live) countSessions(waves []string) map[[3]string]int {
	n := map[[3]string]int{}
	for _, w := range waves {
		for _, s := range config.Sides {
			for _, p := range config.Protocols() {
				n[[3]string{string(p), s.String(), w}] = 0
			}
		}
	}
	for _, s := range l.src.Router.Sessions("") {
		n[[3]string{string(s.Protocol), s.Side.String(), l.src.Wave(s.User)}]++
	}
	return n
}

// userStates are where a user may be: on a side, or in a step of the machine.
func userStates() []string {
	out := []string{"OLD", "NEW"}
	for _, s := range router.States() {
		if s != router.Settled {
			out = append(out, string(s))
		}
	}
	return out
}

func (l *live) countUsers(waves []string) map[[2]string]int {
	n := map[[2]string]int{}
	for _, w := range waves {
		for _, state := range userStates() {
			n[[2]string{w, state}] = 0
		}
	}
	steps := l.src.Steps()
	l.src.Router.Users(func(user string, p router.Place, _ bool) {
		state := strings.ToUpper(p.Side.String())
		if step, ok := steps[user]; ok {
			state = string(step)
		}
		n[[2]string{l.src.Wave(user), state}]++
	})
	return n
}
