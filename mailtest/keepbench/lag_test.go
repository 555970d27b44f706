//go:build bench

package keepbench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// What people do, and how often.
const (
	workers   = 200
	inbox     = 20 // messages that each begins with
	workTime  = 90 * time.Second
	workPause = 10 * time.Second // the longest from a change to the next one; the shortest is half of it
	look      = 50 * time.Millisecond
	lagTime   = 15 * time.Second // what has not come by then has not come
	slowTime  = 3 * time.Second  // it is told when such were made: all at one time where something stood still
)

// kinds of change.
const (
	appended = "append"
	flagged  = "flag"
	moved    = "move"
	expunged = "expunge"
)

// change is one that somebody has made, and was told OK for at a time.
type change struct {
	kind, key string
	flag      bool // for flagged: what it is now
	at        time.Time
}

// shows tells whether INBOX, as NEW shows it, has a change.
func (c change) shows(box map[string]seen) bool {
	m, there := box[c.key]
	switch c.kind {
	case appended:
		return there
	case flagged:
		return there && m.flagged == c.flag
	}
	return !there
}

// worker is somebody with a session through the gateway, and a look at his INBOX on NEW.
type worker struct {
	n     int
	front *client
	back  *client
	rnd   *rand.Rand
	box   map[string]seen // INBOX on OLD
	next  int

	mu   sync.Mutex
	open []change // not seen on NEW yet
	lags map[string][]time.Duration
	slow []change // that took slowTime and more
	late []change // that did not come
}

// work makes changes until ctx ends. The pace does not depend on when they are seen.
func (w *worker) work(ctx context.Context, pause time.Duration) error {
	t := time.NewTimer(time.Duration(w.rnd.Int64N(int64(pause)))) // not all at once
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		t.Reset(pause/2 + time.Duration(w.rnd.Int64N(int64(pause/2))))
		c, err := w.act()
		if err != nil {
			return fmt.Errorf("%s: %w", user(w.n), err)
		}
		w.mu.Lock()
		w.open = append(w.open, c)
		w.mu.Unlock()
	}
}

// act makes a change. Of messages that are under way to NEW it takes none: what is seen there would not tell which change it is.
func (w *worker) act() (change, error) {
	busy := map[string]bool{}
	w.mu.Lock()
	for _, c := range w.open {
		busy[c.key] = true
	}
	w.mu.Unlock()
	var free []string
	for key := range w.box {
		if !busy[key] {
			free = append(free, key)
		}
	}
	c := change{kind: []string{appended, appended, flagged, flagged, moved, expunged}[w.rnd.IntN(6)]}
	if len(free) < 2 {
		c.kind = appended
	} else {
		c.key = free[w.rnd.IntN(len(free))]
	}
	m := w.box[c.key]
	var err error
	switch c.kind {
	case appended:
		w.next++
		c.key = fmt.Sprintf("w-%d", w.next)
		if err = w.front.append("INBOX", letter(c.key)); err == nil {
			c.at = time.Now()
			w.box, err = w.front.content() // its UID
		}
		return c, err
	case flagged:
		c.flag = !m.flagged
		sign := map[bool]string{true: "+", false: "-"}[c.flag]
		_, err = w.front.do(`UID STORE %s %sFLAGS.SILENT (\Flagged)`, m.uid, sign)
		m.flagged = c.flag
		w.box[c.key] = m
	case moved:
		_, err = w.front.do(`UID MOVE %s "INBOX.Archive"`, m.uid)
		delete(w.box, c.key)
	case expunged:
		if _, err = w.front.do(`UID STORE %s +FLAGS.SILENT (\Deleted)`, m.uid); err == nil {
			_, err = w.front.do("UID EXPUNGE %s", m.uid)
		}
		delete(w.box, c.key)
	}
	c.at = time.Now()
	return c, err
}

// watch looks at NEW as long as a change is on its way there, until ctx ends.
func (w *worker) watch(ctx context.Context) error {
	t := time.NewTicker(look)
	defer t.Stop()
	var box map[string]seen
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		w.mu.Lock()
		open := len(w.open)
		w.mu.Unlock()
		if open == 0 {
			continue
		}
		news, err := w.back.do("NOOP")
		if err == nil && (len(news) > 0 || box == nil) {
			box, err = w.back.content()
		}
		if err != nil {
			return fmt.Errorf("%s, on NEW: %w", user(w.n), err)
		}
		w.settle(box, time.Now())
	}
}

// settle takes out what is seen.
func (w *worker) settle(box map[string]seen, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []change
	for _, c := range w.open {
		switch {
		case c.shows(box):
			w.lags[c.kind] = append(w.lags[c.kind], now.Sub(c.at))
			if now.Sub(c.at) >= slowTime {
				w.slow = append(w.slow, c)
			}
		case now.Sub(c.at) > lagTime:
			w.late = append(w.late, c)
		default:
			left = append(left, c)
		}
	}
	w.open = left
}

// outstanding is how many changes are not seen yet.
func (w *worker) outstanding() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.open)
}

// employ logs a user in on both ways. His INBOX is the same on both.
func employ(g *gateway, n int) (*worker, error) {
	w := &worker{n: n, rnd: rand.New(rand.NewPCG(uint64(n), 1)), lags: map[string][]time.Duration{}}
	var err error
	if w.front, err = login(g.imap, n); err != nil {
		return nil, err
	}
	if w.back, err = login(g.new, n); err != nil {
		return nil, err
	}
	if _, err = w.front.do("SELECT INBOX"); err == nil {
		_, err = w.back.do("SELECT INBOX")
	}
	if err == nil {
		w.box, err = w.front.content()
	}
	return w, err
}

// lag is the first scenario: what people do through the gateway, and when it is on NEW.
func lag(t *testing.T, b *table, l *lab.Lab) {
	numbers := block(active, workers)
	for _, n := range numbers {
		furnish(t, l, n, inbox)
	}
	g := newGateway(t, l.Old.IMAP, l.New.IMAP, numbers)
	g.start("work")
	g.converged(workers, 3*time.Minute)
	var list []*worker
	for _, n := range numbers {
		w, err := employ(g, n)
		if err != nil {
			t.Fatal(err)
		}
		defer w.front.conn.Close()
		defer w.back.conn.Close()
		list = append(list, w)
	}
	b.note("%d users work for %s, load %s", workers, workTime, load())
	before := g.passes()
	spent, all := cpuOf(g.pid()), cpuOf(children()...)
	began := time.Now()
	working, stop := context.WithTimeout(t.Context(), workTime)
	defer stop()
	watching, end := context.WithCancel(t.Context())
	defer end()
	errs := make([]error, 2*len(list))
	var people, eyes sync.WaitGroup
	for i, w := range list {
		people.Go(func() { errs[2*i] = w.work(working, workPause) })
		eyes.Go(func() { errs[2*i+1] = w.watch(watching) })
	}
	people.Wait()
	took := time.Since(began)
	spent, all = cpuOf(g.pid())-spent, cpuOf(children()...)-all
	after := g.passes()
	for last := time.Now().Add(lagTime + 5*time.Second); time.Now().Before(last); time.Sleep(look) {
		open := 0
		for _, w := range list {
			open += w.outstanding()
		}
		if open == 0 {
			break
		}
	}
	end()
	eyes.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var total []time.Duration
	var slow []change
	kinds := map[string][]time.Duration{}
	for _, w := range list {
		for kind, lags := range w.lags {
			kinds[kind] = append(kinds[kind], lags...)
			total = append(total, lags...)
		}
		slow = append(slow, w.slow...)
		for _, c := range w.late {
			t.Errorf("%s: a change (%s of %s) did not come within %s", user(w.n), c.kind, c.key, lagTime)
		}
	}
	b.note("%.1f changes/s, %.1f passes/s and %.1f looks/s; of a core serve took %.0f %%, the two Dovecots %.0f %%; load %s",
		float64(len(total))/took.Seconds(), (after["ok"]-before["ok"])/took.Seconds(), (after["unchanged"]-before["unchanged"])/took.Seconds(),
		100*spent.Seconds()/took.Seconds(), 100*(all-spent).Seconds()/took.Seconds(), load())
	for _, kind := range []string{appended, flagged, moved, expunged} {
		b.spread("lag, "+kind, kinds[kind])
	}
	b.spread("lag, all", total)
	if len(slow) > 0 {
		slices.SortFunc(slow, func(a, b change) int { return a.at.Compare(b.at) })
		at := func(q float64) float64 { return slow[int(q*float64(len(slow)-1))].at.Sub(began).Seconds() }
		b.note("%d changes took %s and more: made %.0f to %.0f s after the beginning, half of them between %.0f and %.0f s", len(slow), slowTime,
			at(0), at(1), at(0.25), at(0.75))
	}
	b.atMost("lag, p50", quantile(total, 0.50).Seconds(), 1, "s")
	b.atMost("lag, p99", quantile(total, 0.99).Seconds(), 5, "s")
	same(t, g, list)
	g.stop()
}

// same compares INBOX and Archive of everybody on both sides: lag means nothing where something else was carried.
func same(t *testing.T, g *gateway, list []*worker) {
	for _, w := range list {
		for _, box := range [][2]string{{"INBOX", "INBOX"}, {"INBOX.Archive", "Archive"}} {
			var says [2]map[string]seen
			for side, c := range []*client{w.front, w.back} {
				_, err := c.do("SELECT %q", box[side])
				if err == nil {
					says[side], err = c.content()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if diff := differ(says); diff != "" {
				t.Errorf("%s, %s: %s", user(w.n), box[0], diff)
			}
		}
	}
}

// differ names what is other on one side than on the other.
func differ(says [2]map[string]seen) string {
	var list []string
	for key, m := range says[0] {
		if n, ok := says[1][key]; !ok || n.flagged != m.flagged {
			list = append(list, key)
		}
	}
	for key := range says[1] {
		if _, ok := says[0][key]; !ok {
			list = append(list, key)
		}
	}
	return strings.Join(list, ", ")
}
