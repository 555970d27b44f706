package syncer_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
)

// bothRecord is a message that people on both sides have in hand.
type bothRecord struct {
	letterRecord
	now  [2][]string // flags by side; letterRecord's are those that both had in common
	gone [2]bool
}

// merged are the flags that remain: each as OLD has changed it, and else as NEW has.
func (b *bothRecord) merged() (out []string) {
	for _, f := range faultyFlags {
		base, old, now := slices.Contains(b.flags, f), slices.Contains(b.now[config.Old], f), slices.Contains(b.now[config.New], f)
		if b.gone[config.New] {
			now = base
		}
		if old != base && old || old == base && now {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return out
}

// TestFaultsBothSides has people change and delete mail on both sides between passes that go wrong at random. In the end each flag is
// as OLD changed it, or else as NEW did; what OLD deleted is gone; what NEW deleted is back. MAILGATE_SEED=n repeats one seed.
func TestFaultsBothSides(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds(t, 60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 11))
			products := faultyProducts(4) // all keep keywords
			old, new := products[rnd.IntN(len(products))](), products[rnd.IntN(len(products))]()
			w := newFaultyWorld(t, old, new, seed)
			what := fmt.Sprintf("seed %d, %s to %s", seed, old.Name, new.Name)
			var list []*bothRecord
			w.hosts[config.Old].Account.Create(w.name(config.Old, "Work"))
			for round := range 3 {
				for range 8 {
					b := &bothRecord{letterRecord: letterRecord{path: []string{"INBOX", "Work"}[rnd.IntN(2)], flags: w.flags(true), number: w.n,
						date: time.Date(2026, 1, 1, 0, 0, w.n, 0, time.UTC).Unix(), body: fmt.Sprintf("Message-ID: <%d@example.com>\r\n\r\n%d\r\n", w.n, w.n)}}
					w.n++
					w.hosts[config.Old].Account.Append(w.name(config.Old, b.path), b.flags, time.Unix(b.date, 0), []byte(b.body))
					list = append(list, b)
				}
				w.settle(t, what)
				for _, b := range list {
					b.now = [2][]string{b.flags, b.flags}
				}
				for range 25 {
					w.workBoth(rnd, list)
				}
				for side, h := range w.hosts {
					h.Fail(&faulty.Faults{Seed: seed*100 + uint64(round*10+side), Rate: []float64{0.01, 0.05, 0.1}[rnd.IntN(3)], Kinds: faulty.All(), Wait: 10 * time.Millisecond})
				}
				for range 1 + rnd.IntN(3) {
					_, _ = w.pass(t)
				}
				w.settle(t, what)
				w.want = nil
				list = slices.DeleteFunc(list, func(b *bothRecord) bool { return b.gone[config.Old] })
				for _, b := range list {
					b.flags = b.merged()
					b.gone = [2]bool{}
					w.want = append(w.want, &b.letterRecord)
				}
				w.check(t, what, true)
			}
		})
	}
}

// workBoth is one thing that somebody does on either side.
func (w *faultyWorld) workBoth(rnd *rand.Rand, list []*bothRecord) {
	side := config.Sides[rnd.IntN(2)]
	b := list[rnd.IntN(len(list))]
	a, name := w.hosts[side].Account, w.name(side, b.path)
	n := slices.IndexFunc(a.Contents()[name], func(m faulty.Message) bool { return string(m.Body) == b.body })
	if n < 0 {
		return
	}
	if rnd.IntN(6) == 0 {
		a.Expunge(name, n)
		b.gone[side] = true
		w.did("%v expunged %v", side, b)
		return
	}
	add, remove := w.flags(false), w.flags(false)
	remove = slices.DeleteFunc(remove, func(f string) bool { return slices.Contains(add, f) })
	m, _ := a.Flag(name, n, add, remove)
	b.now[side] = m.Flags
	w.did("%v has changed %v to %v", side, b, m.Flags)
}
