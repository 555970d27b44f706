package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// What may gather before garbage is collected: half of what lives, since idle sessions are most of the memory, but not
// less than 16 MiB. A busy gateway with few sessions would else collect after every other login: Go's own floor is
// 2 MiB at this percentage, and a TLS handshake leaves 50 KiB.
const (
	garbagePercent = 50
	garbageFloor   = 8 << 20
)

// paceCollector keeps those two rules until stop is called, unless the operator has set GOGC. It looks anew after each
// collection.
func paceCollector() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := &pacer{samples: []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"},
		{Name: "/gc/scan/globals:bytes"}}}
	before := debug.SetGCPercent(collectorPercent(garbageFloor / 4))
	p.arm()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stopped = true
		debug.SetGCPercent(before)
	}
}

// pacer sets the collector's percentage from the runtime's goroutine for finalizers.
type pacer struct {
	mu      sync.Mutex
	samples []metrics.Sample
	percent int
	stopped bool
}

// arm has look called after the next collection: then the object is found dead.
func (p *pacer) arm() {
	sentinel := new(*pacer)
	*sentinel = p
	runtime.SetFinalizer(sentinel, func(**pacer) { p.look() })
}

func (p *pacer) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	metrics.Read(p.samples)
	var base uint64
	for _, s := range p.samples {
		if s.Value.Kind() == metrics.KindUint64 {
			base += s.Value.Uint64()
		}
	}
	p.set(collectorPercent(base))
	p.arm()
}

// set stops the world for a moment, so small changes are let pass.
func (p *pacer) set(percent int) {
	if d := percent - p.percent; d*8 > p.percent || -d*8 > p.percent || percent == garbagePercent && d != 0 {
		debug.SetGCPercent(percent)
		p.percent = percent
	}
}

// collectorPercent is GOGC for what the collector reckons with: the live heap, stacks and globals.
func collectorPercent(base uint64) int {
	return int(max(garbagePercent, min(garbageFloor*100/max(base, 1), 1000)))
}
