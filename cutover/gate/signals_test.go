package gate

import (
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"mailgate/config"
)

// clock is one that a test moves on.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func (c *clock) pass(d time.Duration) { c.t = c.t.Add(d) }

func anybody(string) bool { return true }

const alice = "alice@example.com"

// TestSignals: what is asked for since a time, at every width of buckets.
func TestSignals(t *testing.T) {
	c := &clock{noon}
	s := NewSignals(anybody, c.now)
	ok := func(from time.Duration) int64 { return s.Since(alice, config.Old, c.t.Add(-from)).LoginsOK }
	for range 14 * 24 { // one an hour, for two weeks
		s.Count(alice, config.Old, LoginOK)
		c.pass(time.Hour)
	}
	for range 12 { // and one each 5 minutes in the last hour
		s.Count(alice, config.Old, LoginOK)
		c.pass(5 * time.Minute)
	}
	for from, want := range map[time.Duration]int64{20 * time.Minute: 4, 55 * time.Minute: 11, 24 * time.Hour: 12 + 23} {
		if got := ok(from); got < want || got > want+1 { // a bucket more or less
			t.Errorf("%s: %d, want %d", from, got, want)
		}
	}
	if got := ok(week); got < 12+7*24-1 || got > 12+8*24 {
		t.Errorf("a week: %d", got)
	}
	if got := s.Since(alice, config.New, noon); got != (Counts{}) {
		t.Errorf("on the other side %+v", got)
	}
	if got := s.Recent(alice, config.Old).LoginsOK; got < 12 || got > 13 {
		t.Errorf("in the last hour %d", got)
	}
	for k := range kinds + 1 { // one more than there are
		s.Count(alice, config.New, k)
	}
	if got := s.Since(alice, config.New, c.t); got != (Counts{1, 1, 1, 2, 1, 1, 1}) {
		t.Errorf("%+v", got)
	}
	c.t = noon // set back: it must not go wrong
	s.Count(alice, config.New, LoginOK)
	if got := s.Since(alice, config.New, noon).LoginsOK; got != 2 {
		t.Errorf("%d logins", got)
	}
}

// TestForget: what was before a flip is not counted behind it, and the store hears of that.
func TestForget(t *testing.T) {
	c := &clock{noon}
	s := NewSignals(anybody, c.now)
	s.Count(alice, config.New, LoginRefused)
	s.Count(alice, config.Old, LoginOK)
	s.Merge("gw2", Snapshot{Series: []Series{{User: alice, Side: config.New, Days: []Bucket{{At: noon.Unix(), Counts: Counts{LoginsRefused: 3}}}}}})
	if got := s.Since(alice, config.New, noon.Add(-week)).LoginsRefused; got != 4 {
		t.Fatalf("%d", got)
	}
	if rows := s.rows("gw1"); len(rows) != 2 || len(s.rows("gw1")) != 0 {
		t.Errorf("%+v", rows)
	}
	s.Forget(alice, config.New)
	if got := s.Since(alice, config.New, noon.Add(-week)); got != (Counts{}) {
		t.Errorf("left %+v", got)
	}
	if got := s.Since(alice, config.Old, noon.Add(-week)).LoginsOK; got != 1 {
		t.Errorf("the other side has %d", got)
	}
	day := noon.Truncate(24 * time.Hour)
	rows := s.rows("gw1")
	if want := []Row{{"gw1", alice, config.New, day, Counts{}}}; !reflect.DeepEqual(rows, want) {
		t.Errorf("rows %+v", rows)
	}
	s.putBack(rows)
	if got := s.rows("gw1"); !reflect.DeepEqual(got, rows) {
		t.Errorf("put back, and got %+v", got)
	}
}

// hear is one gathering: told again while there is more.
func hear(to, from *Signals, node string) (pages int) {
	for {
		told := from.Snapshot(to.Heard(node))
		text, _ := json.Marshal(told)
		var read Snapshot
		_ = json.Unmarshal(text, &read)
		to.Merge(node, read)
		if pages++; !told.More {
			return pages
		}
	}
}

// TestSnapshots: what several nodes have counted adds up, through JSON, and once only when a node tells anew.
func TestSnapshots(t *testing.T) {
	c := &clock{noon}
	a, b, whole := NewSignals(anybody, c.now), NewSignals(anybody, c.now), NewSignals(anybody, c.now)
	for i := range 100 {
		for _, s := range []*Signals{a, whole} {
			s.Count(fmt.Sprint("u", i%3), config.Side(i%2), Kind(i%int(kinds)))
		}
		for _, s := range []*Signals{b, whole} {
			s.Count(fmt.Sprint("u", i%5), config.Side(i%2), Kind(i%4))
		}
		if i%7 == 0 {
			hear(a, b, "b")
		}
		c.pass(17 * time.Minute)
	}
	hear(a, b, "b")
	hear(a, b, "b")
	a.Merge("b", b.Snapshot(Mark{})) // as a whole
	for i := range 6 {
		for _, side := range config.Sides {
			for _, from := range []time.Duration{30 * time.Minute, 5 * time.Hour, week} {
				user := fmt.Sprint("u", i)
				got, want := a.Since(user, side, c.t.Add(-from)), whole.Since(user, side, c.t.Add(-from))
				if got != want || i < 3 && from == week && got == (Counts{}) {
					t.Errorf("%s %s %s: %+v, want %+v", user, side, from, got, want)
				}
			}
		}
	}
	if len(a.Snapshot(Mark{}).Series) != 6 {
		t.Error("what others have told is told as its own")
	}
}

// TestChanges: a node tells what has changed since it was asked, in pages; also that something was dropped. What does not follow on what is
// known, and what another process was asked from, does no harm.
func TestChanges(t *testing.T) {
	c := &clock{noon}
	a, b := NewSignals(anybody, c.now), NewSignals(anybody, c.now)
	const users = 2*pageSize + 10
	name := func(i int) string { return fmt.Sprint("u", i) }
	for i := range users {
		b.Count(name(i), config.New, LoginOK)
	}
	if n := hear(a, b, "b"); n != 3 {
		t.Errorf("%d pages", n)
	}
	sum := func() (n int64) {
		for i := range users {
			n += a.Since(name(i), config.New, noon.Add(-week)).LoginsOK
		}
		return n
	}
	if sum() != users {
		t.Errorf("%d", sum())
	}
	b.Count(name(7), config.New, LoginOK)
	b.ForgetHere(name(8), config.New)
	told := b.Snapshot(a.Heard("b"))
	if len(told.Series) != 2 || told.More {
		t.Errorf("%d series", len(told.Series))
	}
	a.Merge("b", told)
	a.Merge("b", told) // it does not follow any more
	if sum() != users || a.Since(name(8), config.New, noon.Add(-week)) != (Counts{}) {
		t.Errorf("%d", sum())
	}
	b = NewSignals(anybody, c.now) // it was begun anew
	b.Count(name(1), config.New, LoginOK)
	hear(a, b, "b")
	if sum() != 1 {
		t.Errorf("%d", sum())
	}
	b.ForgetHere(name(1), config.New) // and nobody asks for so long that this is not told any more
	c.pass(toldFor + time.Minute)
	if b.prune(); b.changes.Len() != 0 || len(b.changed) != 0 {
		t.Error("kept")
	}
	hear(a, b, "b")
	if sum() != 0 {
		t.Errorf("%d", sum())
	}
}

// TestStrangers: of nobody but listed users is anything kept, wherever it comes from, nor when he is listed no more.
func TestStrangers(t *testing.T) {
	c := &clock{noon}
	listed := map[string]bool{alice: true}
	s := NewSignals(func(user string) bool { return listed[user] }, c.now)
	for i := range 1000 {
		s.Count(fmt.Sprintf("guess%d@example.com", i), config.Old, LoginRefused)
	}
	s.Merge("gw2", Snapshot{Series: []Series{{User: "x"}, {User: alice, Days: []Bucket{{At: noon.Unix()}}}}})
	s.restore(Row{"gw3", "x", config.Old, noon, Counts{LoginsOK: 1}}, false)
	s.restore(Row{"gw1", "x", config.Old, noon, Counts{LoginsOK: 1}}, true)
	s.Count(alice, config.Old, LoginOK)
	if len(s.own.series) != 1 || len(s.others["gw2"].series) != 1 || len(s.others["gw3"].series) != 0 || len(s.dirty) != 1 {
		t.Errorf("%v %v %v", s.own, s.others, s.dirty)
	}
	listed[alice] = false
	s.prune()
	if len(s.own.series) != 0 || len(s.others["gw2"].series) != 0 || len(s.dirty) != 0 {
		t.Errorf("%v %v %v", s.own, s.others, s.dirty)
	}
}

// TestIdleUsersAreDropped: whoever has not been seen for two weeks costs nothing.
func TestIdleUsersAreDropped(t *testing.T) {
	c := &clock{noon}
	s := NewSignals(anybody, c.now)
	s.Count(alice, config.Old, LoginOK)
	c.pass(13 * 24 * time.Hour)
	if s.prune(); len(s.own.series) != 1 {
		t.Error("dropped too early")
	}
	c.pass(3 * 24 * time.Hour)
	if s.prune(); len(s.own.series) != 0 {
		t.Error("kept")
	}
}

// TestMemory: users who are never idle for weeks cost no more than their buckets.
func TestMemory(t *testing.T) {
	const users = 500
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	names := make([]string, users)
	for i := range names {
		names[i] = fmt.Sprintf("user%d@example.com", i)
	}
	c := &clock{noon}
	before := heap()
	s := NewSignals(anybody, c.now)
	for range 30 * 24 {
		for _, u := range names {
			s.Count(u, config.New, LoginOK)
		}
		s.rows("gw1") // as they are written
		c.pass(time.Hour)
	}
	for range 30 {
		for _, u := range names {
			s.Count(u, config.New, SessionOver)
		}
		c.pass(5 * time.Minute)
	}
	s.rows("gw1")
	x := s.own.series[place{names[0], config.New}]
	for lv := range levels {
		if n, most := int64(len(x[lv])), levelOf(lv).keep; n > most || n < most-2 || int64(cap(x[lv])) > most {
			t.Errorf("level %d keeps %d buckets in %d places, at most %d", lv, n, cap(x[lv]), most)
		}
	}
	each := (heap() - before) / users
	t.Logf("%d bytes for each user", each)
	if each > 4096 {
		t.Errorf("%d bytes for each user", each)
	}
	runtime.KeepAlive(s)
}

// TestSignalsTogether is for the race detector, and counts.
func TestSignalsTogether(t *testing.T) {
	s := NewSignals(anybody, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 500 {
				s.Count(alice, config.Old, LoginOK)
				if i%50 == 0 {
					s.rows("x")
					s.Merge("gw2", s.Snapshot(Mark{}))
					s.prune()
				}
			}
		})
	}
	wg.Wait()
	s.Merge("gw2", Snapshot{})
	if got := s.Since(alice, config.Old, time.Now().Add(-week)).LoginsOK; got != 2000 {
		t.Errorf("%d", got)
	}
}

// TestRestored: days that the store had, of this node and of others, count as such: hours before the start are not known.
func TestRestored(t *testing.T) {
	c := &clock{noon}
	s := NewSignals(anybody, c.now)
	today := noon.Truncate(24 * time.Hour)
	s.restore(Row{"gw1", alice, config.New, today, Counts{LoginsOK: 10, Sessions: 5, Broken: 2}}, true)
	s.restore(Row{"gw1", alice, config.New, today.Add(-48 * time.Hour), Counts{LoginsOK: 100}}, true)
	s.restore(Row{"gw2", alice, config.New, today, Counts{LoginsOK: 1000}}, false)
	c.pass(time.Minute)
	s.Count(alice, config.New, LoginOK)
	for from, want := range map[time.Time]int64{noon.Add(time.Second): 1, noon: 1011, noon.Add(-time.Hour): 1011, noon.Add(-72 * time.Hour): 1111} {
		if got := s.Since(alice, config.New, from).LoginsOK; got != want {
			t.Errorf("since %s: %d, want %d", from, got, want)
		}
	}
	if got := s.Since(alice, config.New, today); got.Sessions != 5 || got.Broken != 2 {
		t.Errorf("%+v", got)
	}
	s.Count(alice, config.New, LoginOK)
	rows := s.rows("gw1")
	if i := slices.IndexFunc(rows, func(r Row) bool { return r.Day.Equal(today) }); i < 0 || rows[i].Counts.LoginsOK != 12 {
		t.Errorf("what is written lacks what was there: %+v", rows)
	}
}
