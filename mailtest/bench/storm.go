package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// storm is j.Sessions clients who come at once, each on its own, as behind a restart: connection, TLS, login, SELECT. They connect one
// behind the other, which takes a fraction of the time, and stay. Failures do not fail the measurement, they are counted: mailgate's gate
// is that there are none.
func (j *job) storm(t target) (figures, error) {
	cpu, err := cpuSeconds(t.PID)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var in []int // the clients, as they got in
	var took []time.Duration
	var first error
	var held []*client
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	var wg sync.WaitGroup
	began := time.Now()
	for i := range j.Sessions {
		raw, err := connect(t.Addr)
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			c, err := imapOver(raw, j.TLS, i, 512)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if first == nil {
					first = err
				}
				return
			}
			held = append(held, c)
			in, took = append(in, i), append(took, time.Since(began))
		})
	}
	wg.Wait()
	if len(in) == 0 {
		return nil, fmt.Errorf("nobody got in: %w", first)
	}
	after, err := cpuSeconds(t.PID)
	if err != nil {
		return nil, err
	}
	return figures{"failed": float64(j.Sessions - len(in)), "last_ms": quantile(took, 1) / 1e3, "p50_ms": quantile(took, .5) / 1e3,
		"displaced": displaced(in), "cpu_s": after - cpu}, nil
}

// displaced tells how far from their order clients got in: the share of all that 99 of 100 of them are before or behind their place at
// most. 0 is first come, first served; of a drawn order it is about 0.9.
func displaced(in []int) float64 {
	order := slices.Sorted(slices.Values(in))
	place := map[int]int{}
	for i, c := range order {
		place[c] = i
	}
	var d []int
	for i, c := range in {
		d = append(d, max(i-place[c], place[c]-i))
	}
	slices.Sort(d)
	return float64(d[min(len(d)*99/100, len(d)-1)]) / float64(len(in))
}
