package main

import (
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func sample(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// resident is what the process has in memory, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize()
}

func TestCollectorPace(t *testing.T) {
	t.Setenv("GOGC", "") // put back at the end
	os.Unsetenv("GOGC")
	before := sample("/gc/gogc:percent")
	var stops []func()
	for { // memory that was in use before is cleared when it is handed out, and resident by that: such a ballast is held, and says nothing
		runtime.GC()
		had := resident(t)
		stops = append(stops, paceCollector())
		runtime.GC()
		if room := sample("/gc/heap/goal:bytes") - sample("/gc/heap/live:bytes"); room < 8<<20 {
			t.Errorf("garbage may gather up to %d bytes", room)
		}
		if p := sample("/gc/gogc:percent"); p != 50 {
			t.Errorf("GOGC is %d", p)
		}
		grown := resident(t) - had
		if grown <= 8<<20 {
			break
		}
		if len(stops) == 10 {
			t.Errorf("the ballast is resident: %d bytes more", grown)
			break
		}
	}
	for _, stop := range slices.Backward(stops) {
		stop()
	}
	stops = nil
	runtime.GC()
	if p := sample("/gc/gogc:percent"); p != before {
		t.Errorf("GOGC is %d after stop, was %d", p, before)
	}
	if live := sample("/gc/heap/live:bytes"); live > 16<<20 {
		t.Errorf("%d bytes live after stop", live)
	}
	t.Setenv("GOGC", "77")
	defer paceCollector()()
	if sample("/gc/gogc:percent") != before {
		t.Error("the operator's GOGC does not stand")
	}
}
