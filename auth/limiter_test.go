package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailgate/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that only the test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func limiter() (*Limiter, *clock) {
	c := &clock{t: time.Unix(1e9, 0)}
	return NewLimiter(2*time.Second, c.now), c
}

var home, strange = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")

func before(t *testing.T, l *Limiter, a netip.Addr, user string) time.Duration {
	t.Helper()
	wait, release, err := l.Before(a, user)
	if err != nil {
		t.Fatal(err)
	}
	release()
	return wait
}

// Refusals: a few at once for those who mistype, then slower and slower, up to the longest delay.
func TestRefusalsSlowDown(t *testing.T) {
	l, c := limiter()
	var got []time.Duration
	for range 8 {
		got = append(got, l.Failed(home, "bob"))
	}
	if s := fmt.Sprint(got); s != "[0s 0s 0s 250ms 500ms 1s 2s 2s]" {
		t.Error(s)
	}
	if d := l.Failed(strange, "bob"); d == 0 {
		t.Error("the user's failures do not count elsewhere")
	}
	if d := l.Failed(home, "carol"); d == 0 {
		t.Error("the address's failures do not count for others")
	}
	if d := l.Failed(strange, "dora"); d != 0 {
		t.Errorf("an address with one failure waits %s", d)
	}
	c.t = c.t.Add(limiterWindow + time.Second)
	if d := l.Failed(home, "bob"); d != 0 {
		t.Errorf("failures are not forgotten: %s", d)
	}
	l.SetMax(0)
	for range 50 {
		if d := l.Failed(home, "bob"); d != 0 {
			t.Fatalf("delays are off, got %s", d)
		}
	}
}

// Thousands of wrong passwords for bob, from anywhere, do not make bob wait where he is known; elsewhere he waits, but
// never longer than the longest delay.
func TestNobodyLocksOutTheRealUser(t *testing.T) {
	l, _ := limiter()
	l.Succeeded(home, "bob")
	for i := range 8000 {
		l.Failed(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), "bob")
	}
	if d := before(t, l, home, "bob"); d != 0 {
		t.Errorf("bob waits %s at home", d)
	}
	if d := before(t, l, strange, "bob"); d <= 0 || d > 2*time.Second {
		t.Errorf("bob waits %s elsewhere", d)
	}
	if d := before(t, l, strange, "carol"); d != 0 {
		t.Errorf("carol waits %s", d)
	}
	// Neither does an address with many failures, such as an office with one broken client.
	for range 5000 {
		l.Failed(home, "scanner")
	}
	if d := before(t, l, home, "bob"); d != 0 {
		t.Errorf("bob waits %s in his office", d)
	}
	if d := before(t, l, home, "newcomer"); d != 2*time.Second {
		t.Errorf("a stranger waits %s", d)
	}
	l.Succeeded(strange, "bob")
	if d := before(t, l, netip.MustParseAddr("203.0.113.200"), "bob"); d != 2*time.Second {
		t.Errorf("the attacker's address is forgiven: %s", d)
	}
}

func TestStrangersWaitLongerAndLonger(t *testing.T) {
	l, _ := limiter()
	for n := 1; n <= 40; n++ {
		l.Failed(strange, "bob")
		want := min(stepDelay*time.Duration(max(0, n-freeFailures+1)), 2*time.Second)
		if got := before(t, l, strange, "carol"); got != want {
			t.Fatalf("after %d failures: %s, want %s", n, got, want)
		}
	}
}

// The places for those who wait are bounded for each address, and free again when they are released, once.
func TestWaitingPlaces(t *testing.T) {
	l, _ := limiter()
	for range freeFailures + 1 {
		l.Failed(strange, "bob")
	}
	take := func(user string) (release func(), ok bool) {
		_, release, err := l.Before(strange, user)
		if err != nil && !errors.Is(err, ErrTooMany) {
			t.Fatal(err)
		}
		return release, err == nil
	}
	var releases []func()
	for _, user := range []string{"bob", "carol", "dora", "eve"} {
		for range maxWaitingUser {
			release, ok := take(user)
			if !ok {
				t.Fatalf("no place for %s", user)
			}
			releases = append(releases, release)
		}
		if _, ok := take(user); ok {
			t.Errorf("%s has more than his places", user)
		}
	}
	if _, ok := take("frank"); ok {
		t.Error("the address has more than its places")
	}
	if d := before(t, l, home, "bob"); d == 0 {
		t.Error("bob's failures do not count elsewhere")
	}
	releases[0]()
	releases[0]()
	again, ok := take("bob")
	if !ok {
		t.Error("no place though one was left")
	}
	if _, ok := take("bob"); ok {
		t.Error("released twice, two places free")
	}
	for _, release := range append(releases[1:], again) {
		release()
	}
	if len(l.waiting) != 0 {
		t.Errorf("%v wait", l.waiting)
	}
}

// An IPv6 host may have a whole /64; an IPv4 address is one however it is written.
func TestNetworks(t *testing.T) {
	for _, x := range []struct{ a, want string }{
		{"192.0.2.1", "192.0.2.1"}, {"::ffff:192.0.2.1", "192.0.2.1"}, {"2001:db8::1", "2001:db8::"},
		{"2001:db8:0:0:ffff::1", "2001:db8::"}, {"2001:db8:0:1::1", "2001:db8:0:1::"}, {"fe80::1%eth0", "fe80::"},
	} {
		if got := config.Network(netip.MustParseAddr(x.a)).String(); got != x.want {
			t.Errorf("%s: got %s, want %s", x.a, got, x.want)
		}
	}
	l, _ := limiter()
	for i := range freeFailures + 1 {
		l.Failed(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x:1", i+1)), fmt.Sprint("user", i))
	}
	if d := before(t, l, netip.MustParseAddr("2001:db8::ffff"), "new"); d == 0 {
		t.Error("the /64 is not one")
	}
	if d := before(t, l, netip.MustParseAddr("2001:db8:0:1::1"), "new"); d != 0 {
		t.Error("the next /64 waits")
	}
}

// Malformed credentials name nobody: they count for their address only.
func TestFailuresOfNobody(t *testing.T) {
	l, _ := limiter()
	for range 1000 {
		l.Failed(strange, "")
	}
	if d := l.Failed(home, ""); d != 0 {
		t.Errorf("waits %s", d)
	}
}

// Names and addresses without end do not fill the memory, and do not wash out the one who keeps failing.
func TestMemoryIsBounded(t *testing.T) {
	l, _ := limiter()
	for range freeFailures + 1 {
		l.Failed(strange, "x")
	}
	for i := range limiterEntries + 9000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		l.Failed(a, fmt.Sprint(i))
		l.Succeeded(a, fmt.Sprint(i))
		if i%1000 == 0 {
			l.Failed(strange, fmt.Sprint("again", i))
		}
	}
	if l.failed.l.Len() > limiterEntries || l.good.lru.l.Len() > limiterEntries || len(l.failed.m) != l.failed.l.Len() ||
		len(l.good.lru.m) != l.good.lru.l.Len() || len(l.good.of) != l.good.lru.l.Len() ||
		len(l.good.todo) > limiterEntries || len(l.waiting) != 0 {
		t.Errorf("%d failed, %d good, %d waiting", l.failed.l.Len(), l.good.lru.l.Len(), len(l.waiting))
	}
	if before(t, l, strange, "y") == 0 {
		t.Error("the address that keeps failing was forgotten")
	}
	if before(t, l, netip.AddrFrom4([4]byte{10, 0, 0, 1}), "1") != 0 {
		t.Error("the oldest is remembered")
	}
}

func TestLimiterConcurrently(t *testing.T) {
	l := NewLimiter(time.Millisecond, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				user := fmt.Sprint((i + j) % 7)
				if _, release, err := l.Before(strange, user); err == nil {
					release()
				}
				l.Failed(strange, user)
				l.Succeeded(home, user)
				l.SetMax(time.Duration(j))
			}
		})
	}
	wg.Wait()
	if len(l.waiting) != 0 {
		t.Errorf("%v wait", l.waiting)
	}
}
