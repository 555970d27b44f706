//go:build bench

package keepbench

import (
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// People who do not work.
const (
	kept     = 2000             // for memory
	polled   = 1000             // for processor time
	restMail = 5                // messages in INBOX
	noneTime = 25 * time.Second // nobody is kept
	// After the first copies there are looks 5, 15 and 35 s later, for which connections are kept, 30 s beyond the last.
	restTime = 100 * time.Second
	// Looks at a user in whose mailboxes nothing changes come 5, 10, 20, 40, 80, 160 s, and then sync.poll after each other: ten minutes
	// until they are as rare as they get. lookTime has those at 75 and 155 s after the start, some five times as many.
	lookAfter = 50 * time.Second
	lookTime  = 120 * time.Second
)

// What the defaults come to: from a look at a user to the next sync.poll and up to an eighth, and wholeEvery the look is a whole pass.
const (
	pollEvery  = 300 * time.Second * 17 / 16
	wholeEvery = 900 * time.Second
)

// usage is what a gateway and the servers behind it have spent, and how often they looked.
type usage struct {
	at               time.Time
	serve, rest      time.Duration
	unchanged, whole float64
}

func usageOf(g *gateway) usage {
	u := usage{at: time.Now(), serve: cpuOf(g.pid()), rest: cpuOf(children()...)}
	u.rest -= u.serve
	p := g.passes()
	u.unchanged, u.whole = p["unchanged"], p["ok"]
	return u
}

// since is the difference.
func (u usage) since(v usage) (took time.Duration, d usage) {
	return u.at.Sub(v.at), usage{serve: u.serve - v.serve, rest: u.rest - v.rest, unchanged: u.unchanged - v.unchanged, whole: u.whole - v.whole}
}

func share(d, of time.Duration) float64 { return 100 * d.Seconds() / of.Seconds() }

func per(d time.Duration, n float64) time.Duration { return time.Duration(float64(d) / max(1, n)) }

// rest are two scenarios: what 2,000 kept users cost in memory, and 1,000 in processor time.
func rest(t *testing.T, b *table, l *lab.Lab) {
	numbers := block(resting, kept)
	for _, n := range numbers {
		furnish(t, l, n, restMail)
	}
	g := newGateway(t, l.Old.IMAP, l.New.IMAP, numbers)
	g.start() // no wave
	time.Sleep(noneTime / 5)
	before := usageOf(g)
	time.Sleep(noneTime)
	took, nobody := usageOf(g).since(before)
	rss, pss := memory(t, g.pid())
	b.note("nobody kept: RSS %.1f MiB, PSS %.1f MiB, %.2f %% of a core", rss/1024, pss/1024, share(nobody.serve, took))
	g.stop()

	g.start("work")
	before = usageOf(g)
	g.converged(kept, 8*time.Minute)
	took, d := usageOf(g).since(before)
	peak, _ := memory(t, g.pid())
	b.note("first copies of %d users, %d messages each: %s, CPU of serve %s a user; RSS then %.1f MiB; load %s", kept, restMail+2,
		took.Round(time.Second), short(per(d.serve, kept)), peak/1024, load())
	time.Sleep(restTime)
	rssKept, pssKept := memory(t, g.pid())
	b.note("%d kept, %s later: RSS %.1f MiB, PSS %.1f MiB", kept, restTime, rssKept/1024, pssKept/1024)
	b.atMost("memory at rest, a user, RSS", (rssKept-rss)/kept, 64, "KiB")
	b.note("%-52s %8.2f KiB", "... PSS", (pssKept-pss)/kept)
	g.stop()

	g.routes(numbers[:polled], numbers[polled:])
	g.start("work")
	before = usageOf(g)
	time.Sleep(lookAfter)
	first := usageOf(g)
	_, d = first.since(before)
	whole := per(d.serve, d.whole+d.unchanged) // looks are cheaper
	b.note("%d polled, after a start: %.0f whole passes and %.0f looks, CPU of serve %s each", polled, d.whole, d.unchanged, short(whole))
	time.Sleep(lookTime)
	took, d = usageOf(g).since(first)
	b.note("%s: %.0f looks and %.0f whole passes, CPU of serve %.2f %% of a core, of the Dovecots %.2f %%; load %s", took.Round(time.Second),
		d.unchanged, d.whole, share(d.serve, took), share(d.rest, took), load())
	idle := time.Duration(float64(nobody.serve) * float64(lookTime) / float64(noneTime))
	look := per(max(0, d.serve-idle), d.unchanged+d.whole)
	b.note("a look costs serve %s, the two Dovecots %s", short(look), short(per(d.rest, d.unchanged+d.whole)))
	// sync.poll by itself, and whole passes in place of some looks.
	rate := polled / pollEvery.Seconds()
	wholes := polled / (wholeEvery + pollEvery/2).Seconds()
	cost := share(nobody.serve, noneTime) + 100*((rate-wholes)*look.Seconds()+wholes*whole.Seconds())
	b.note("by default %.1f looks/s, of which %.1f are whole passes", rate, wholes)
	b.atMost("1,000 users polled by default, of a core", cost, 2, "%")
	g.stop()
}

// Looks are as rare as they get from 10 min 30 s after the start on. A whole pass takes the place of a look every 15 minutes: in a quarter
// of an hour everything happens as often as it does.
const (
	steadyAfter = 11 * time.Minute
	steadyTime  = 15 * time.Minute
)

// steady measures directly what rest adds up. It takes half an hour, and is made when it is asked for by name.
func steady(t *testing.T, b *table, l *lab.Lab) {
	numbers := block(resting, polled)
	for _, n := range numbers {
		furnish(t, l, n, restMail)
	}
	g := newGateway(t, l.Old.IMAP, l.New.IMAP, numbers)
	g.start("work")
	g.converged(polled, 8*time.Minute)
	b.note("%d users are through", polled)
	time.Sleep(steadyAfter)
	for left := steadyTime; left > 0; left -= steadyTime / 5 {
		before := usageOf(g)
		time.Sleep(steadyTime / 5)
		took, d := usageOf(g).since(before)
		b.note("%s: %.0f looks and %.0f whole passes, CPU of serve %.2f %% of a core, of the Dovecots %.2f %%; load %s", took.Round(time.Second),
			d.unchanged, d.whole, share(d.serve, took), share(d.rest, took), load())
	}
	g.stop()
}
