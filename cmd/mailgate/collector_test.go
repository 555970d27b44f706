package main

import (
	"os"
	"runtime"
	"runtime/metrics"
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
	runtime.GC()
	had := resident(t)
	stop := paceCollector()
	runtime.GC()
	if room := sample("/gc/heap/goal:bytes") - sample("/gc/heap/live:bytes"); room < 8<<20 {
		t.Errorf("garbage may gather up to %d bytes", room)
	}
	if p := sample("/gc/gogc:percent"); p != 50 {
		t.Errorf("GOGC is %d", p)
	}
	if grown := resident(t) - had; grown > 8<<20 {
		t.Errorf("the ballast is resident: %d bytes more", grown)
	}
	stop()
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
