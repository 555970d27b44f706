//go:build bench

package keepbench

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// table are the figures, and the gates that were missed.
type table struct {
	began  time.Time
	lines  []string
	missed int
}

// note tells how far it is, and stays in the table.
func (b *table) note(format string, args ...any) {
	line := "  " + fmt.Sprintf(format, args...)
	fmt.Printf("%4.0f s %s\n", time.Since(b.began).Seconds(), line)
	b.lines = append(b.lines, line)
}

// atMost is a gate.
func (b *table) atMost(what string, got, limit float64, unit string) {
	verdict := "ok"
	if got > limit {
		verdict = "FAIL"
		b.missed++
	}
	b.note("%-52s %8.2f %s (at most %g)  %s", what, got, unit, limit, verdict)
}

// spread shows how times are distributed.
func (b *table) spread(what string, list []time.Duration) {
	b.note("%-36s %5d  p50 %s  p95 %s  p99 %s  max %s", what, len(list), short(quantile(list, 0.5)), short(quantile(list, 0.95)),
		short(quantile(list, 0.99)), short(quantile(list, 1)))
}

// short is a time with three digits that count.
func short(d time.Duration) string {
	if d < 100*time.Millisecond {
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// quantile is the value that q of all do not exceed, 0 of none. It sorts the list.
func quantile(list []time.Duration, q float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[min(len(list)-1, int(q*float64(len(list))))]
}

// words lists figures by name.
func words(figures map[string]float64) string {
	var list []string
	for name, v := range figures {
		list = append(list, fmt.Sprintf("%.0f %s", v, name))
	}
	slices.Sort(list)
	return "passes: " + strings.Join(list, ", ")
}

// TestKeep is the benchmark; MAILGATE_BENCH has to name the binary. MAILGATE_BENCH_PARTS names parts; when it is empty all are made but steady.
func TestKeep(t *testing.T) {
	if os.Getenv("MAILGATE_BENCH") == "" {
		t.Fatal("MAILGATE_BENCH has to name the binary, as make bench-keep does")
	}
	b := &table{began: time.Now()}
	t.Cleanup(func() { b.print(t) }) // behind what the servers have to say where something went wrong
	l := lab.Start(t)
	admit(t, l, slices.Concat(block(active, workers), block(waiting, 4*patients), block(resting, kept), block(movers, large), block(wavers, waveUsers)))
	parts := os.Getenv("MAILGATE_BENCH_PARTS")
	for _, part := range []struct {
		name string
		run  func(*testing.T, *table, *lab.Lab)
	}{{"lag", lag}, {"ill", ill}, {"rest", rest}, {"steady", steady}, {"flip", flips}, {"wave", wave}} {
		if parts == "" && !slices.Contains([]string{"steady", "flip", "wave"}, part.name) || strings.Contains(parts, part.name) {
			b.note("%s:", part.name)
			part.run(t, b, l)
		}
	}
	if b.missed > 0 {
		t.Errorf("%d gates missed", b.missed)
	}
}

// print shows all at the end.
func (b *table) print(t *testing.T) {
	fmt.Printf("\nKeeping mailboxes equal, Dovecot (Maildir) to Dovecot (sdbox), in memory, %s\n%s\n", time.Since(b.began).Round(time.Second),
		strings.Join(b.lines, "\n"))
	switch {
	case b.missed > 0:
		fmt.Printf("%d gates missed\n", b.missed)
	case t.Failed():
		fmt.Println("not all could be measured")
	default:
		fmt.Println("all gates kept")
	}
}
