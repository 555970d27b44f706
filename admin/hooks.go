package admin

import (
	"mailgate/config"
	"mailgate/cutover"
)

// zeroHooks makes series exist before the first event.
func (m *Metrics) zeroHooks() {
	for _, e := range config.HookEvents() {
		for _, o := range cutover.HookOutcomes() {
			m.hooks.WithLabelValues(string(e), o)
		}
	}
}

// HookRun implements cutover.HookRecorder.
func (m *Metrics) HookRun(event, outcome string) { m.hooks.WithLabelValues(event, outcome).Inc() }
