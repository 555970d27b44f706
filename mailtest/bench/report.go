package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report writes what docs/benchmarks.md holds.
type report struct {
	results results
	bench   *bench
	began   time.Time
	loads   []string
}

// write gives Markdown; missed is how many gates were.
func (r *report) write(w io.Writer) (missed int, err error) {
	var b strings.Builder
	r.machine(&b)
	missed = r.gates(&b)
	for _, t := range tables() {
		r.table(&b, t)
	}
	_, err = io.WriteString(w, b.String())
	return missed, err
}

func (r *report) machine(b *strings.Builder) {
	fmt.Fprintf(b, "Measured %s, rounds: %d, in %s, %d idle sessions. %d processors (%s), Linux %s. %s, %s, %s.\n",
		r.began.UTC().Format("2006-01-02 15:04 MST"), r.bench.rounds, time.Since(r.began).Round(time.Second), r.bench.sessions,
		runtime.NumCPU(), processor(), output("uname", "-r"), runtime.Version(), output("nginx", "-v"), "Dovecot "+output("dovecot", "--version"))
	fmt.Fprintf(b, "Load average at the start of each round: %s.\n\n", strings.Join(r.loads, ", "))
}

// output is the first line that a command says, for the record only.
func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return name + " unknown"
	}
	line, _, _ := strings.Cut(strings.TrimPrefix(string(out), "nginx version: "), "\n")
	return line
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(text), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func (r *report) gates(b *strings.Builder) (missed int) {
	b.WriteString("| Gate | Front | Against | Seen | Rounds | Wanted | |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, g := range gates() {
		if r.bench.only != nil && !r.bench.only[g.kind] {
			continue
		}
		value, low, high, kept := g.check(r.results)
		against, sign, word := g.peer, "<=", "pass"
		if against == "" {
			against = "-"
		}
		if g.atLeast {
			sign = ">="
		}
		if !kept {
			word = "**fail**"
			missed++
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s to %s | %s %s | %s |\n", g.text, front(g.tls), against, number(value), number(low),
			number(high), sign, number(g.limit), word)
	}
	b.WriteString("\n")
	return missed
}

func front(tls bool) string {
	if tls {
		return "TLS"
	}
	return "plain"
}

// table is figures of all proxies for one subject.
type table struct {
	title   string
	columns []column
}

type column struct {
	title  string
	kind   kind
	tls    bool
	figure string
}

// both makes a column for each kind of front.
func both(title string, k kind, figure string) []column {
	return []column{{title + " plain", k, false, figure}, {title + " TLS", k, true, figure}}
}

func tables() []table {
	return []table{
		{"Idle sessions", slices.Concat(both("KiB PSS", idle, "pss_kib"), both("descriptors", idle, "fds"), both("pipes", idle, "pipes"),
			both("processes", idle, "processes"))},
		{"CPU seconds of the proxy", slices.Concat(both("1,000 logins", logins, "cpu_s"), both("1,000 submissions", submissions, "cpu_s"),
			both("GB relayed", fetch, "cpu_s"))},
		{"Rates, 64 clients (relayed: 2)", slices.Concat(both("logins/s", logins, "rate"), both("submissions/s", submissions, "rate"),
			both("relayed MB/s", fetch, "rate"))},
		{"One client alone, p50 in microseconds", slices.Concat(both("login", loginAlone, "p50_us"),
			both("submission", submitAlone, "p50_us"), both("NOOP", noop, "p50_us"), both("NOOP added", noop, "added_us"),
			[]column{{"SCRAM login plain", scramAlone, false, "p50_us"}})},
		{"POP3", slices.Concat([]column{{"idle, KiB PSS TLS", popIdle, true, "pss_kib"}}, both("CPU s, 1,000 logins", popLogins, "cpu_s"),
			both("logins/s", popLogins, "rate"), both("login alone, p50 us", popAlone, "p50_us"), both("STAT added us", popStat, "added_us"))},
		{"A storm of 2,000 clients over TLS", []column{{"failed", storm, true, "failed"}, {"p50 ms", storm, true, "p50_ms"},
			{"last ms", storm, true, "last_ms"}, {"out of order", storm, true, "displaced"}, {"CPU s", storm, true, "cpu_s"}}},
		{"One client alone, p99 in microseconds", slices.Concat(both("login", loginAlone, "p99_us"),
			both("submission", submitAlone, "p99_us"), both("NOOP", noop, "p99_us"))},
	}
}

// table writes medians over the rounds.
func (r *report) table(b *strings.Builder, t table) {
	if !slices.ContainsFunc(t.columns, func(c column) bool {
		return slices.ContainsFunc(peers, func(name string) bool { return len(r.results[key{c.kind, c.tls, name}]) > 0 })
	}) {
		return // nobody was measured
	}
	fmt.Fprintf(b, "%s:\n\n| |", t.title)
	for _, c := range t.columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(t.columns)) + "\n")
	for _, name := range append(slices.Clone(peers), direct) {
		line, any := "| "+name+" |", false
		for _, c := range t.columns {
			v := r.results.values(key{c.kind, c.tls, name}, c.figure)
			if len(v) == 0 || name == direct && c.figure == "added_us" {
				line += " - |"
				continue
			}
			any = true
			line += " " + number(median(v)) + " |"
		}
		if any {
			b.WriteString(line + "\n")
		}
	}
	b.WriteString("\n")
}

// number shows three digits that count.
func number(v float64) string {
	switch {
	case v > -0.005 && v < 0:
		return "0.00"
	case v < 0:
		return "-" + number(-v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
