//go:build bench

package keepbench

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"mailgate/mailtest/lab"
)

// OLD's users while NEW is ill.
const (
	patients = 50 // users of each gateway
	illAfter = 10 * time.Second
	illTime  = 60 * time.Second
	illPause = 5 * time.Millisecond // from one login to the next
	illWork  = 500 * time.Millisecond
)

// ward is a gateway with a NEW in a state of its own.
type ward struct {
	state string
	g     *gateway
	new   *relay
	first int // number of its users
	times []time.Duration
}

// enter is one login: from the connection to the OK.
func (w *ward) enter(i int) error {
	began := time.Now()
	c, err := login(w.g.imap, w.first+i%patients)
	if err != nil {
		return err
	}
	w.times = append(w.times, time.Since(began))
	c.close()
	return nil
}

// stir puts mail into one mailbox after the other, so that there is something to carry to NEW, until ctx ends.
func (w *ward) stir(ctx context.Context) error {
	t := time.NewTicker(illWork)
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		c, err := login(w.g.imap, w.first+i%patients)
		if err != nil {
			return err
		}
		if err := c.append("INBOX", letter("new mail")); err != nil {
			return err
		}
		c.close()
	}
}

// ill is the scenario: what OLD's users feel of a NEW that is dead, silent or slow. There is a gateway for each, and they take turns login
// by login: what else the machine does falls on all alike.
func ill(t *testing.T, b *table, l *lab.Lab) {
	var wards []*ward
	for i, state := range []string{well, dead, silent, slow} {
		w := &ward{state: state, first: waiting + i*patients, new: newRelay(t, l.New.IMAP)}
		numbers := block(w.first, patients)
		for _, n := range numbers {
			furnish(t, l, n, inbox)
		}
		w.g = newGateway(t, l.Old.IMAP, w.new.port, numbers)
		w.g.start("work")
		wards = append(wards, w)
	}
	for _, w := range wards {
		w.g.converged(patients, time.Minute)
	}
	for _, w := range wards {
		w.new.turn(w.state)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	errs := make([]error, len(wards))
	var wg sync.WaitGroup
	for i, w := range wards {
		wg.Go(func() { errs[i] = w.stir(ctx) })
	}
	time.Sleep(illAfter) // until it is felt
	b.note("%d kept users for each state of NEW, one login after the other, by turns, for %s; load %s", patients, illTime, load())
	end := time.Now().Add(illTime)
	for i := 0; time.Now().Before(end); i++ {
		for k := range wards {
			if err := wards[(i+k)%len(wards)].enter(i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(illPause)
		}
	}
	stop()
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, w := range wards {
		b.spread("login on OLD, NEW "+w.state, w.times)
	}
	for _, w := range wards[1:] {
		added := func(q float64) float64 {
			return (quantile(w.times, q) - quantile(wards[0].times, q)).Seconds() * 1000
		}
		b.atMost("added to a login by NEW "+w.state+", p50", added(0.5), 1, "ms")
		b.note("%-52s %8.2f ms", "... p99", added(0.99))
	}
	for _, w := range wards {
		b.note("NEW %s: %s", w.state, words(w.g.passes()))
		w.g.stop()
	}
}
