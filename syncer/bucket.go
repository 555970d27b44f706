package syncer

import (
	"context"
	"math"
	"sync"
	"time"
)

// bucket gives out so many tokens a second. It holds a second's worth at most. It is safe for concurrent use; those who wait are served
// in the order in which they came.
type bucket struct {
	turn chan struct{} // holds a token while somebody stands first

	mu      sync.Mutex
	rate    float64 // tokens a second; 0 means as many as are asked for
	level   float64 // may be below zero: more was taken at once than the bucket holds
	at      time.Time
	changed chan struct{} // closed when rate becomes another
}

func newBucket(rate int64) *bucket {
	return &bucket{turn: make(chan struct{}, 1), rate: float64(rate), level: float64(rate), at: time.Now(), changed: make(chan struct{})}
}

// set makes the rate another one; 0 ends it. Who waits notices at once.
func (b *bucket) set(rate int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if float64(rate) == b.rate {
		return
	}
	b.fill(time.Now())
	if b.rate == 0 {
		b.level = float64(rate)
	}
	b.rate = float64(rate)
	b.level = min(b.level, b.rate)
	close(b.changed)
	b.changed = make(chan struct{})
}

// fill adds what time has brought. The caller holds mu.
func (b *bucket) fill(now time.Time) {
	b.level = min(b.level+b.rate*now.Sub(b.at).Seconds(), b.rate)
	b.at = now
}

// take takes n tokens when they are there. More than the bucket holds are taken when it is full: those who come later wait so much
// longer. The error is the cause of ctx; nothing was taken then.
func (b *bucket) take(ctx context.Context, n int64) error {
	if n <= 0 || b.free() {
		return nil
	}
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		wait, changed := b.try(float64(n))
		if wait == 0 {
			return nil
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-changed:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
		t.Stop()
	}
}

// free tells whether there is no limit.
func (b *bucket) free() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rate == 0
}

// try takes n tokens, or tells how long it takes until they are there.
func (b *bucket) try(n float64) (wait time.Duration, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rate == 0 {
		return 0, nil
	}
	b.fill(time.Now())
	const grain = 1e-6 // of a token: sums of parts of seconds are not exact
	lacks := min(n, b.rate) - b.level
	if lacks <= grain {
		b.level -= n
		return 0, nil
	}
	seconds := lacks / b.rate
	if seconds > math.MaxInt32 {
		seconds = math.MaxInt32
	}
	return max(time.Duration(seconds*float64(time.Second)), time.Microsecond), b.changed
}

// meterSpan is what a present rate is the mean of.
const meterSpan = 10

// meter counts what goes through, for the last seconds. It is safe for concurrent use.
type meter struct {
	mu    sync.Mutex
	began time.Time
	last  int64                    // second since began of the newest cell
	cells [meterSpan + 1]meterCell // by second; the newest one is not over
}

type meterCell struct{ messages, bytes int64 }

// forward makes the present second the newest. The caller holds mu.
func (m *meter) forward(now time.Time) {
	if m.began.IsZero() {
		m.began = now
	}
	second := int64(now.Sub(m.began) / time.Second)
	for i := max(m.last+1, second-meterSpan); i <= second; i++ {
		m.cells[i%int64(len(m.cells))] = meterCell{}
	}
	m.last = max(m.last, second)
}

func (m *meter) add(messages, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forward(time.Now())
	c := &m.cells[m.last%int64(len(m.cells))]
	c.messages += messages
	c.bytes += bytes
}

// rate is the mean of the last ten seconds, or of those since the first message.
func (m *meter) rate() Rate {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.began.IsZero() {
		return Rate{}
	}
	now := time.Now()
	m.forward(now)
	var sum meterCell
	for _, c := range m.cells {
		sum.messages += c.messages
		sum.bytes += c.bytes
	}
	part := now.Sub(m.began) - time.Duration(m.last)*time.Second // of the newest second
	span := time.Duration(min(m.last, meterSpan))*time.Second + part
	span = max(span, time.Second)
	return Rate{Messages: int64(math.Round(float64(sum.messages) / span.Seconds())), Bytes: int64(math.Round(float64(sum.bytes) / span.Seconds()))}
}
