package admin

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"mailgate/cutover/gate"
)

// sendGates tells how gates stood when their waves were last judged, and the shares that they compare with. Waves that no line of the
// routes file names any more are left out.
func (l *live) sendGates(waves []string, send func(d *prometheus.Desc, v float64, labels ...string)) {
	for _, s := range l.src.Gates() {
		if !slices.Contains(waves, s.Wave) {
			continue
		}
		for _, r := range s.Results {
			for _, v := range gate.Verdicts() {
				n := 0.0
				if v == r.Verdict {
					n = 1
				}
				send(l.gate, n, s.Wave, string(r.Gate), string(v))
			}
		}
		for _, signal := range gate.BaselineSignals() {
			send(l.baseline, s.Baseline[signal], s.Wave, signal)
		}
	}
}
