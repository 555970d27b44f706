//go:build bench

package keepbench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cpuOf is the user and system time of processes, by their numbers, and of their children that have ended (proc(5), /proc/PID/stat,
// in ticks of 10 ms). Those that have ended meanwhile count nothing.
func cpuOf(pids ...int) (sum time.Duration) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		s := string(b)
		f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // f[0] is field 3
		for _, field := range f[11:15] {                         // utime, stime, cutime, cstime
			ticks, _ := strconv.ParseInt(field, 10, 64)
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}

// descend lists a process and all that have come from it.
func descend(pid int) []int {
	out := []int{pid}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		for _, f := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(f); err == nil {
				out = append(out, descend(child)...)
			}
		}
	}
	return out
}

// children are the processes that this one has started: the servers of the lab and the gateways.
func children() []int { return descend(os.Getpid())[1:] }

// memory is what a process holds, in KiB: resident, and its share of what others hold too.
func memory(t testing.TB, pid int) (rss, pss float64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch kib, _ := strconv.ParseFloat(f[1], 64); f[0] {
		case "Rss:":
			rss = kib
		case "Pss:":
			pss = kib
		}
	}
	return rss, pss
}

// load is how busy the machine is, for the record.
func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(b), " ")
	return one
}
