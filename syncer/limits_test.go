package syncer

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBucketRate takes a long time's worth in odd portions: what comes through is what the rate says, however many ask.
func TestBucketRate(t *testing.T) {
	for _, c := range []struct {
		rate, most int64
		askers     int
	}{{10, 1, 1}, {10, 3, 4}, {1000, 1000, 3}, {7, 40, 2}, {1, 1, 5}, {5 << 20, 20 << 20, 4}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBucket(c.rate)
			began := time.Now()
			var wg sync.WaitGroup
			var mu sync.Mutex
			var sum int64
			want := 100 * c.rate
			for i := range c.askers {
				rnd := rand.New(rand.NewPCG(uint64(c.rate), uint64(i)))
				wg.Go(func() {
					for {
						n := 1 + rnd.Int64N(c.most)
						if err := b.take(t.Context(), n); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						sum += n
						full := sum >= want
						mu.Unlock()
						if full {
							return
						}
					}
				})
			}
			wg.Wait()
			took := time.Since(began).Seconds()
			// A bucket's content comes for nothing, and the last portions of all may go into debt.
			least, most := float64(sum-c.rate-int64(c.askers)*c.most)/float64(c.rate), float64(sum)/float64(c.rate)
			if took < least-0.01 || took > most+0.01 {
				t.Errorf("rate %d, portions up to %d: %d came in %.2f s, want %.2f to %.2f", c.rate, c.most, sum, took, least, most)
			}
		})
	}
}

// TestBucketChanges changes the rate under somebody who waits.
func TestBucketChanges(t *testing.T) {
	for _, c := range []struct {
		name string
		rate int64
		want time.Duration
	}{{"lifted", 0, time.Minute}, {"faster", 100, 71 * time.Second}, {"slower", 1, 1061 * time.Second}} { // 1000 of debt, and what the bucket holds
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBucket(10)
				if err := b.take(t.Context(), 1610); err != nil { // 1600 in debt
					t.Fatal(err)
				}
				began := time.Now()
				done := make(chan time.Duration)
				go func() {
					if err := b.take(t.Context(), 1000); err != nil {
						t.Error(err)
					}
					done <- time.Since(began)
				}()
				time.Sleep(time.Minute)
				b.set(c.rate)
				if got := <-done; (got - c.want).Abs() > 10*time.Millisecond {
					t.Errorf("waited %s, want %s", got, c.want)
				}
			})
		})
	}
}

// TestBucketCancel ends a wait: nothing is taken by it, and whoever stands behind gets his turn.
func TestBucketCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(10)
		if err := b.take(t.Context(), 20); err != nil {
			t.Fatal(err)
		}
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := b.take(ctx, 10); !errors.Is(err, why) {
					t.Errorf("a cancelled wait gives %v", err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		wg.Go(func() {
			if err := b.take(t.Context(), 10); err != nil {
				t.Error(err)
			}
			if d := time.Since(began); d < 1990*time.Millisecond || d > 2010*time.Millisecond {
				t.Errorf("the one behind waited %s, want 2s", d)
			}
		})
		time.Sleep(500 * time.Millisecond)
		cancel(why)
		wg.Wait()
	})
}

// TestLimitsUser: a user's own limit holds him and nobody else; all together are held by the side's.
func TestLimitsUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLimits(LimitSettings{User: Rate{Messages: 2}, Sides: [2]Rate{{}, {Messages: 10}}})
		run := func(user string, n int) time.Duration {
			leave := l.join(user)
			defer leave()
			began := time.Now()
			for range n {
				if err := l.wait(t.Context(), user, 1, 100); err != nil {
					t.Error(err)
				}
			}
			return time.Since(began)
		}
		if d := run("a", 22); d < 9900*time.Millisecond || d > 10100*time.Millisecond {
			t.Errorf("one user took %s, want 10s", d)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() { run(string(rune('a'+i)), 10) })
		}
		wg.Wait()
		if d := time.Since(began); d < 18*time.Second || d > 20*time.Second {
			t.Errorf("200 messages of twenty users took %s, want about 19s", d)
		}
		if len(l.users) != 0 {
			t.Errorf("%d users are still known", len(l.users))
		}
	})
}

func TestLimitsPart(t *testing.T) {
	sized := func(sizes ...int64) (out []item) {
		for _, s := range sizes {
			out = append(out, item{size: s})
		}
		return out
	}
	for _, c := range []struct {
		s     LimitSettings
		items []item
		n     int
		bytes int64
	}{
		{LimitSettings{User: Rate{Messages: 2}, Sides: [2]Rate{{Messages: 5}}}, sized(1, 1, 1), 2, 2},
		{LimitSettings{Sides: [2]Rate{{Messages: 5}, {Messages: 1}}}, sized(9, 1), 1, 9},
		{LimitSettings{Sides: [2]Rate{{Bytes: 100}, {Bytes: 1000}}}, sized(50, 50, 1), 2, 100},
		{LimitSettings{Sides: [2]Rate{{Bytes: 100}, {}}}, sized(5000, 1), 1, 5000},
		{LimitSettings{Sides: [2]Rate{{Bytes: 100}, {}}}, sized(1, 5000), 1, 1},
		{LimitSettings{User: Rate{Bytes: 3, Messages: 9}}, sized(1, 1), 2, 2},
	} {
		if n, bytes := NewLimits(c.s).part(c.items); n != c.n || bytes != c.bytes {
			t.Errorf("%+v of %d: %d messages of %d bytes, want %d of %d", c.s, len(c.items), n, bytes, c.n, c.bytes)
		}
	}
}

func TestLimitsNone(t *testing.T) {
	var none *Limits
	none.count(1)
	none.join("a")()
	if none.limited() || none.needSizes() {
		t.Error("none limits")
	}
	l := NewLimits(LimitSettings{})
	if l.limited() {
		t.Error("nothing limits")
	}
	l.Set(LimitSettings{User: Rate{Messages: 1}})
	if !l.limited() || l.needSizes() {
		t.Error("a limit of messages is one of messages")
	}
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		if m.rate() != (Rate{}) {
			t.Error("a rate of nothing")
		}
		steady := func(seconds, perSecond int) {
			for range seconds * perSecond {
				m.add(1, 1000)
				time.Sleep(time.Second / time.Duration(perSecond))
			}
		}
		check := func(want int64) {
			t.Helper()
			if got := m.rate(); got.Messages < want-want/10 || got.Messages > want+want/10 || got.Bytes < want*900 || got.Bytes > want*1100 {
				t.Errorf("rate %+v, want %d messages", got, want)
			}
		}
		steady(4, 20)
		check(20)
		steady(30, 50)
		check(50)
		time.Sleep(5 * time.Second)
		check(25)
		time.Sleep(time.Hour)
		check(0)
		steady(11, 10)
		check(10)
	})
}
