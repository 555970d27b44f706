package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailgate/config"
	"mailgate/syncer"
	"mailgate/syncer/merge"
)

// syncMetrics are those of the passes that begin by themselves.
type syncMetrics struct {
	passes    *prometheus.CounterVec
	length    prometheus.Histogram
	carried   prometheus.Histogram
	changes   *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	conflicts *prometheus.CounterVec
	errors    *prometheus.CounterVec
}

func newSyncMetrics(m *Metrics, buckets []float64) syncMetrics {
	s := syncMetrics{
		passes: counter(m, "mailgate_sync_passes_total", "Passes over users' mailboxes, by how they ended.", "result"),
		length: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "mailgate_sync_pass_duration_seconds", Help: "Length of passes.", Buckets: buckets}),
		carried: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "mailgate_sync_carry_duration_seconds",
			Help: "Time from the first sign of a change to the end of the pass that carried it.", Buckets: buckets}),
		changes:   counter(m, "mailgate_sync_messages_total", "Messages that passes have changed on a side.", "side", "change"),
		bytes:     counter(m, "mailgate_sync_copied_bytes_total", "Bytes of messages copied to a side.", "side"),
		conflicts: counter(m, "mailgate_sync_conflicts_total", "Messages that both sides had changed, each in its own way.", "kind"),
		errors:    counter(m, "mailgate_sync_errors_total", "Trouble of passes, by class: with all of a user's mailboxes, or with one folder.", "class", "scope"),
	}
	m.Registry.MustRegister(s.length, s.carried)
	return s
}

// zero makes series exist before the first event.
func (s syncMetrics) zero() {
	for _, r := range []string{"ok", "partly", "failed", "interrupted", "unchanged"} {
		s.passes.WithLabelValues(r)
	}
	for _, side := range config.Sides {
		s.bytes.WithLabelValues(side.String())
		for _, what := range []string{"copied", "moved", "flags", "expunged"} {
			s.changes.WithLabelValues(side.String(), what)
		}
	}
	for _, kind := range merge.ConflictKinds() {
		s.conflicts.WithLabelValues(kind)
	}
	for _, c := range syncer.Classes() {
		s.errors.WithLabelValues(string(c), "user")
		s.errors.WithLabelValues(string(c), "folder")
	}
}

// Pass counts a pass over a user's mailboxes that began by itself. A pass that only looked took no time worth a note: 0.
func (m *Metrics) Pass(result string, took time.Duration) {
	m.sync.passes.WithLabelValues(result).Inc()
	if took > 0 {
		m.sync.length.Observe(took.Seconds())
	}
}

// Carried notes how long a change has waited that a pass has carried.
func (m *Metrics) Carried(waited time.Duration) { m.sync.carried.Observe(waited.Seconds()) }

// PassDid counts what a pass has done, and what it could not do: r is nil when err ended it before it did anything.
func (m *Metrics) PassDid(r *syncer.Report, err error) {
	if err != nil {
		m.sync.errors.WithLabelValues(string(syncer.ClassOf(err)), "user").Inc()
	}
	if r == nil {
		return
	}
	for _, e := range r.Errors {
		m.sync.errors.WithLabelValues(string(e.Class), "folder").Inc()
	}
	for kind, n := range r.Conflicts {
		m.sync.conflicts.WithLabelValues(kind).Add(float64(n))
	}
	for _, side := range config.Sides {
		m.sync.bytes.WithLabelValues(side.String()).Add(float64(r.Bytes[side]))
		for what, n := range map[string]int64{"copied": r.Copied[side], "moved": r.Moved[side], "flags": r.Flags[side], "expunged": r.Expunged[side]} {
			m.sync.changes.WithLabelValues(side.String(), what).Add(float64(n))
		}
	}
}
