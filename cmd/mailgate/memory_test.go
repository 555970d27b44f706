package main

import (
	"os"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

func gcPercent() int {
	s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return int(s[0].Value.Uint64())
}

// collected runs the collector until the percentage is as wanted.
func collected(t *testing.T, what string, ok func(percent int) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(gcPercent()); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: GOGC is %d", what, gcPercent())
		}
		runtime.GC()
	}
}

func TestCollectorPace(t *testing.T) {
	t.Setenv("GOGC", "") // put back at the end
	os.Unsetenv("GOGC")
	before := gcPercent()
	stop := paceCollector()
	collected(t, "little lives", func(p int) bool { return p > garbagePercent })
	live := make([]byte, 3*garbageFloor)
	collected(t, "much lives", func(p int) bool { return p == garbagePercent })
	runtime.KeepAlive(live)
	collected(t, "little lives again", func(p int) bool { return p > garbagePercent })
	stop()
	if p := gcPercent(); p != before {
		t.Errorf("GOGC is %d after stop, was %d", p, before)
	}
	runtime.GC()
	runtime.GC()
	if p := gcPercent(); p != before {
		t.Errorf("GOGC is %d, changed after stop", p)
	}
}

func TestCollectorPercent(t *testing.T) {
	for _, c := range []struct {
		base uint64
		want int
	}{{0, 1000}, {garbageFloor / 4, 400}, {garbageFloor, 100}, {garbageFloor * 2, 50}, {1 << 40, 50}} {
		if got := collectorPercent(c.base); got != c.want {
			t.Errorf("%d bytes: %d, want %d", c.base, got, c.want)
		}
	}
	t.Setenv("GOGC", "77")
	before := gcPercent()
	defer paceCollector()()
	if gcPercent() != before {
		t.Error("the operator's GOGC does not stand")
	}
}
