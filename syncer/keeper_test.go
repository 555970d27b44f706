package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// keeperRig is a Keeper whose passes a test makes.
type keeperRig struct {
	*Keeper
	mu    sync.Mutex
	began map[string][]time.Duration // since the start
	now   map[string]bool
	most  int
	start time.Time
	pass  func(user string) (time.Duration, bool, error)
	stop  func()
}

func newKeeperRig(t *testing.T, o KeeperOptions, pass func(user string) (took time.Duration, changed bool, err error)) *keeperRig {
	r := &keeperRig{began: map[string][]time.Duration{}, now: map[string]bool{}, start: time.Now(), pass: pass}
	o.Pass = func(ctx context.Context, user string, _ bool) (bool, error) {
		r.mu.Lock()
		if r.now[user] {
			t.Errorf("two passes over %s at once", user)
		}
		r.now[user] = true
		r.most = max(r.most, len(r.now))
		r.began[user] = append(r.began[user], time.Since(r.start))
		r.mu.Unlock()
		took, changed, err := r.pass(user)
		select {
		case <-time.After(took):
		case <-ctx.Done():
			err = ctx.Err()
		}
		r.mu.Lock()
		delete(r.now, user)
		r.mu.Unlock()
		return changed, err
	}
	r.Keeper = NewKeeper(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
	}
	return r
}

// at are the times of passes over a user since from.
func (r *keeperRig) at(user string, from time.Duration) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []time.Duration
	for _, d := range r.began[user] {
		if d >= from {
			out = append(out, d)
		}
	}
	return out
}

// TestKeeperFirstCopies: long first copies take half of the turns, so that those who are through go on.
func TestKeeperFirstCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, KeeperOptions{Passes: 4}, func(user string) (time.Duration, bool, error) {
			if user == "quick" {
				return 100 * time.Millisecond, true, nil
			}
			return time.Hour, true, nil
		})
		users := []string{"quick"}
		for i := range 10 {
			users = append(users, fmt.Sprint("long", i))
		}
		r.Keep(users, nil)
		time.Sleep(10 * time.Minute)
		if n := len(r.at("quick", 0)); n < 80 {
			t.Errorf("%d passes over the quick one within 10 min", n)
		}
		if r.most > 3 {
			t.Errorf("%d passes at once, want two copies and the quick one", r.most)
		}
		if s, _ := r.State("long9"); s.Phase != "first copy" || s.Now {
			t.Errorf("%+v", s)
		}
		phases, _ := r.Counts()
		if phases["first copy"] != 10 || phases["converged"] != 1 {
			t.Errorf("%v", phases)
		}
		r.stop()
	})
}

// TestKeeperFailing: who fails is tried again later and later, takes nobody's turn, and a hint does not hurry it; when it works again
// all is as before.
func TestKeeperFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		broken := true
		r := newKeeperRig(t, KeeperOptions{Passes: 2}, func(user string) (time.Duration, bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if user == "ill" && broken {
				return time.Second, false, errors.New("no such host")
			}
			return time.Second, false, nil
		})
		r.Keep([]string{"ill", "well"}, nil)
		hints := time.NewTicker(time.Second)
		end := time.After(3 * time.Hour)
		for wait := true; wait; {
			select {
			case <-hints.C:
				r.Hint("ill")
			case <-end:
				wait = false
			}
		}
		hints.Stop()
		tries := r.at("ill", 0)
		if n := len(tries); n < 8 || n > 16 {
			t.Errorf("%d tries within 3 h: %v", n, tries)
		}
		if last := tries[len(tries)-1] - tries[len(tries)-2]; last < 30*time.Minute || last > 40*time.Minute {
			t.Errorf("the last pause was %s", last)
		}
		s, _ := r.State("ill")
		if s.Phase != "failing" || s.Tries != len(tries) || s.Err == nil || s.Since.IsZero() {
			t.Errorf("%+v", s)
		}
		if n := len(r.at("well", 0)); n < 30 {
			t.Errorf("%d passes over the other one", n)
		}
		mu.Lock()
		broken = false
		mu.Unlock()
		from := time.Since(r.start)
		r.Again()
		time.Sleep(5 * time.Second)
		if s, _ := r.State("ill"); s.Phase != "converged" || s.Tries != 0 || s.Err != nil || len(r.at("ill", from)) == 0 {
			t.Errorf("afterwards: %+v", s)
		}
		r.stop()
	})
}

// TestKeeperHints: what comes together is done together, soon; what comes during a pass is done behind it.
func TestKeeperHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, KeeperOptions{}, func(string) (time.Duration, bool, error) { return 2 * time.Second, false, nil })
		r.Keep([]string{"anna"}, nil)
		time.Sleep(2 * time.Hour) // all is quiet
		before := time.Since(r.start)
		if s, _ := r.State("anna"); s.Next.Sub(s.Last) < 4*time.Minute {
			t.Fatalf("it is not quiet: %+v", s)
		}
		for range 5 {
			r.Hint("anna")
		}
		time.Sleep(time.Second)
		if got := r.at("anna", before); !slices.Equal(got, []time.Duration{before + 500*time.Millisecond}) {
			t.Errorf("passes at %v, hints at %v", got, before)
		}
		if s, _ := r.State("anna"); !s.Now || s.Since.IsZero() { // not carried yet
			t.Errorf("under way: %+v", s)
		}
		r.Hint("anna") // during the pass, which ends at 2.5 s
		if _, oldest := r.Counts(); oldest.IsZero() {
			t.Error("no lag is told")
		}
		time.Sleep(2200 * time.Millisecond)
		if got := r.at("anna", before); len(got) != 2 || got[1] != before+3*time.Second {
			t.Errorf("passes at %v, hints at %v", got, before)
		}
		r.Hint("nobody")
		r.stop()
	})
}

// TestKeeperPauses: a pause keeps passes away; behind it one comes at once. Who is left out is forgotten, also amid a pass.
func TestKeeperPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, KeeperOptions{}, func(string) (time.Duration, bool, error) { return time.Second, true, nil })
		r.Keep([]string{"anna", "bert"}, map[string]bool{"anna": true})
		time.Sleep(time.Minute)
		r.Hint("anna")
		time.Sleep(time.Minute)
		if s, ok := r.State("anna"); !ok || s.Phase != "paused" || len(r.at("anna", 0)) > 0 {
			t.Errorf("%+v, passes at %v", s, r.at("anna", 0))
		}
		from := time.Since(r.start)
		r.Pause("anna", false)
		time.Sleep(100 * time.Millisecond)
		if len(r.at("anna", from)) != 1 {
			t.Errorf("passes at %v", r.at("anna", from))
		}
		r.Keep([]string{"bert"}, nil)
		time.Sleep(time.Hour)
		if _, ok := r.State("anna"); ok || len(r.at("anna", from)) != 1 {
			t.Errorf("kept after all: %v", r.at("anna", from))
		}
		r.stop()
	})
}

// TestKeeperBusy: a pass that somebody else is in the way of is neither good nor bad.
func TestKeeperBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		r := newKeeperRig(t, KeeperOptions{}, func(string) (time.Duration, bool, error) {
			if n++; n < 4 {
				return 0, false, fmt.Errorf("anna: %w", ErrBusy)
			}
			return 0, false, nil
		})
		r.Keep([]string{"anna"}, nil)
		time.Sleep(3 * time.Second)
		if s, _ := r.State("anna"); s.Phase != "converged" || s.Tries != 0 || n != 4 {
			t.Errorf("%d passes, %+v", n, s)
		}
		r.stop()
	})
}

// TestSuggested: a server that asks to be left alone is.
func TestSuggested(t *testing.T) {
	for _, c := range []struct {
		code, text string
		want       time.Duration
	}{
		{"", "Request is throttled. Suggested Backoff Time: 299961 milliseconds", 299961 * time.Millisecond},
		{"UNAVAILABLE", "later", time.Minute},
		{"LIMIT", "too much", time.Minute},
		{"", "no such mailbox", 0},
		{"", "Backoff Time: 999999999", time.Hour},
	} {
		err := fmt.Errorf("FETCH: %w", &backend.StatusError{Code: backend.Code{Name: c.code}, Text: c.text})
		if got := suggested(err); got != c.want {
			t.Errorf("[%s] %s: %s, want %s", c.code, c.text, got, c.want)
		}
	}
	for _, c := range []struct {
		code, reply string
		want        time.Duration
	}{
		{"LIMIT", "[LIMIT] too many", time.Minute},
		{"UNAVAILABLE", "* BYE [UNAVAILABLE] later", time.Minute},
		{"", "* BYE Request is throttled. Suggested Backoff Time: 60001 milliseconds", 60001 * time.Millisecond},
		{"AUTHENTICATIONFAILED", "[AUTHENTICATIONFAILED] no", 0},
		{"", "", 0},
	} {
		err := &SideError{config.Old, &backend.Error{Step: backend.StepLogin, Code: c.code, Reply: c.reply, Err: errors.New("answers NO")}}
		if got := suggested(err); got != c.want {
			t.Errorf("login: [%s] %s: %s, want %s", c.code, c.reply, got, c.want)
		}
	}
	if got := suggested(&SideError{Side: config.Old, Err: &backend.Error{Step: backend.StepLogin, Kind: backend.AuthFailed}}); got != 5*time.Minute {
		t.Errorf("a login that is refused: %s", got)
	}
	if got := suggested(&SideError{Side: config.Old, Err: &backend.Error{Step: backend.StepLogin, Kind: backend.Temporary}}); got != 0 {
		t.Errorf("a login that does not work now: %s", got)
	}
	if suggested(errors.New("EOF")) != 0 {
		t.Error("no server has said anything")
	}
}

// TestKeeperOrder: of those who wait for their first copy small ones come first, of one size who has the newest mail, and before them all who
// works now; those of whom nothing is known come last. Who comes back from a pause has his place again.
func TestKeeperOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		r := newKeeperRig(t, KeeperOptions{Passes: 1}, func(user string) (time.Duration, bool, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, user)
			return time.Minute, true, nil
		})
		ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
		extents := map[string]Extent{
			"big":       {100000, ago(time.Hour)},
			"big, idle": {900000, ago(1000 * time.Hour)},
			"bigger":    {1000000, ago(0)},
			"small":     {999, ago(100 * time.Hour)},
			"tiny":      {10, time.Time{}},
			"fresh":     {600, ago(99*time.Hour + 59*time.Minute)},
			"tomorrow":  {700, ago(-24 * time.Hour)},
			"at work":   {5000000, ago(time.Hour)},
		}
		users := []string{"a", "unknown", "unknown, at work"}
		for u := range extents {
			users = append(users, u)
		}
		r.Keep(users, nil)
		synctest.Wait()
		for u, e := range extents {
			r.Size(u, e)
		}
		r.Online(map[string]bool{"at work": true, "unknown, at work": true, "small": true})
		r.Online(map[string]bool{"at work": true, "unknown, at work": true, "nobody": true})
		r.Pause("fresh", true)
		r.Pause("fresh", false)
		if f := r.Fresh(); len(f) != len(users)-1 {
			t.Errorf("waiting: %v", f)
		}
		time.Sleep(30 * time.Minute)
		r.stop()
		mu.Lock()
		defer mu.Unlock()
		var first []string
		for _, u := range order {
			if !slices.Contains(first, u) {
				first = append(first, u)
			}
		}
		if want := []string{"a", "at work", "unknown, at work", "tomorrow", "fresh", "small", "tiny", "big", "big, idle", "bigger", "unknown"}; !slices.Equal(first, want) {
			t.Errorf("the order was %q, want %q", first, want)
		}
	})
}

// TestKeeperWindows: outside of their time no first copies begin, and who has had his goes on.
func TestKeeperWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, KeeperOptions{}, func(user string) (time.Duration, bool, error) { return time.Second, true, nil })
		r.Keep([]string{"anna"}, nil)
		time.Sleep(time.Minute)
		r.Copies(false)
		r.Keep([]string{"anna", "bert"}, nil)
		from := time.Since(r.start)
		time.Sleep(time.Hour)
		if len(r.at("bert", 0)) > 0 || len(r.at("anna", from)) < 100 || len(r.Copying()) > 0 {
			t.Errorf("bert %v, %d passes over anna", r.at("bert", 0), len(r.at("anna", from)))
		}
		r.Copies(true)
		time.Sleep(500 * time.Millisecond)
		if !slices.Equal(r.Copying(), []string{"bert"}) {
			t.Errorf("under way: %v", r.Copying())
		}
		r.stop()
	})
}

// TestKeeperUnfinished: at the start those go first of whom a pass that ended early has left something.
func TestKeeperUnfinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, KeeperOptions{Passes: 1}, func(user string) (time.Duration, bool, error) { return time.Second, false, nil })
		r.Keep([]string{"anna", "bert", "carl", "dora"}, nil)
		for _, user := range []string{"anna", "bert", "carl", "dora"} {
			r.Through(user)
		}
		r.First([]string{"dora", "carl", "nobody"})
		time.Sleep(4500 * time.Millisecond) // anna may have been under way
		if d, c, a := r.at("dora", 0), r.at("carl", 0), r.at("bert", 0); len(d) == 0 || len(c) == 0 || len(a) == 0 || d[0] > c[0] || c[0] > a[0] {
			t.Errorf("dora %v, carl %v, bert %v", d, c, a)
		}
		r.stop()
	})
}
