package syncer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/backend"
)

// TestKeeperComesBack: who leaves and comes back while a pass over him is under way gets no second one beside it (the rig sees to
// that), and goes on from what is known of him.
func TestKeeperComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, KeeperOptions{Passes: 4}, func(string) (time.Duration, bool, error) { return time.Minute, true, nil })
		r.Keep([]string{"anna"}, nil)
		time.Sleep(10 * time.Second)
		for range 3 {
			r.Keep(nil, nil)
			if _, ok := r.State("anna"); ok {
				t.Error("still kept")
			}
			r.Keep([]string{"anna"}, nil)
			time.Sleep(time.Second)
			if s, ok := r.State("anna"); !ok || !s.Now || len(r.at("anna", 0)) != 1 {
				t.Errorf("%+v, passes at %v", s, r.at("anna", 0))
			}
		}
		time.Sleep(48 * time.Second)
		if s, _ := r.State("anna"); s.Phase != "converged" || s.Passes != 1 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Minute)
		if n := len(r.at("anna", 0)); n != 2 {
			t.Errorf("%d passes", n)
		}
		r.Keep(nil, nil) // and who stays away is forgotten
		time.Sleep(2 * time.Minute)
		r.stop()
		if len(r.leave) != 0 || r.passes != 0 || r.copies != 0 || len(r.at("anna", 0)) != 2 {
			t.Errorf("%d have left, %d passes, %d copies, passes at %v", len(r.leave), r.passes, r.copies, r.at("anna", 0))
		}
	})
}

// TestKeeperThrough: after a restart those who had their first copy long ago do not wait for those who have not.
func TestKeeperThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newKeeperRig(t, KeeperOptions{Passes: 4}, func(user string) (time.Duration, bool, error) {
			if user[0] == 'n' {
				return time.Hour, true, nil
			}
			return time.Second, false, nil
		})
		users := []string{"new0", "old0", "new1"} // old0 is through while a pass is under way, that began as a first copy
		for i := range 20 {
			users = append(users, fmt.Sprint("new", i+2), fmt.Sprint("old", i+1))
		}
		r.Keep(users, nil)
		for i := range 21 {
			r.Through(fmt.Sprint("old", i))
			r.Size(fmt.Sprint("old", i), Extent{Messages: 100000}) // says nothing any more
			r.Size(fmt.Sprint("new", i), Extent{Messages: 10})
		}
		r.Through("nobody")
		time.Sleep(time.Minute)
		for i := range 21 {
			if s, _ := r.State(fmt.Sprint("old", i)); s.Phase != "converged" || s.Passes == 0 {
				t.Errorf("old%d: %+v", i, s)
			}
		}
		r.Keeper.mu.Lock()
		if r.copies != 2 {
			t.Errorf("%d first copies under way, want 2", r.copies)
		}
		r.Keeper.mu.Unlock()
		r.stop()
		if r.copies != 0 {
			t.Errorf("%d first copies under way in the end", r.copies)
		}
	})
}

// TestKeeperLag: what a pass is just carrying is not carried yet.
func TestKeeperLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took atomic.Int64
		took.Store(int64(time.Second))
		r := newKeeperRig(t, KeeperOptions{}, func(string) (time.Duration, bool, error) { return time.Duration(took.Load()), true, nil })
		r.Keep([]string{"anna"}, nil)
		time.Sleep(1500 * time.Millisecond)
		took.Store(int64(time.Hour))
		r.Hint("anna")
		hinted := time.Now()
		time.Sleep(10 * time.Minute)
		r.Hint("anna")
		if s, _ := r.State("anna"); !s.Now || !s.Since.Equal(hinted) {
			t.Errorf("%+v, want a lag since %s", s, hinted)
		}
		if _, oldest := r.Counts(); !oldest.Equal(hinted) {
			t.Errorf("the oldest is of %s, want %s", oldest, hinted)
		}
		took.Store(int64(time.Second))
		time.Sleep(time.Hour)
		if s, _ := r.State("anna"); !s.Since.IsZero() {
			t.Errorf("%+v", s)
		}
		r.stop()
	})
}

// TestKeeperInterrupted: what a pass had seen that was ended early is still to be done, without a look whether there is anything.
func TestKeeperInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var hinted []bool
		k := NewKeeper(KeeperOptions{Pass: func(_ context.Context, _ string, h bool) (bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if hinted = append(hinted, h); len(hinted) == 3 {
				return false, ErrBusy
			}
			return false, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.Run(ctx) })
		k.Keep([]string{"anna"}, nil)
		time.Sleep(2 * time.Minute)
		cancel()
		wg.Wait()
		if len(hinted) < 5 || !slices.Equal(hinted[:5], []bool{true, false, false, true, false}) {
			t.Errorf("%v", hinted)
		}
	})
}

// TestKeeperDefect: a defect in a pass ends that pass; its user is tried again, and the others go on.
func TestKeeperDefect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var most atomic.Int64
		k := NewKeeper(KeeperOptions{Log: slog.New(slog.NewTextHandler(&log, nil)), Pass: func(_ context.Context, user string, _ bool) (bool, error) {
			if user == "ill" && most.Add(1) == 1 {
				panic("of a test")
			}
			return false, nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { k.Run(ctx) })
		k.Keep([]string{"ill", "well"}, nil)
		time.Sleep(5 * time.Second)
		if s, _ := k.State("ill"); s.Phase != "failing" || s.Now || s.Err == nil {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Minute)
		for _, user := range []string{"ill", "well"} {
			if s, _ := k.State(user); s.Phase != "converged" {
				t.Errorf("%+v", s)
			}
		}
		cancel()
		wg.Wait()
		if !strings.Contains(log.String(), "a defect ended a pass") || !strings.Contains(log.String(), "user=ill") || k.passes != 0 || k.copies != 0 {
			t.Errorf("%s, %d passes, %d copies", log.String(), k.passes, k.copies)
		}
	})
}

// TestWatcherTells: a host that drops connections again and again does not fill the log.
func TestWatcherTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := NewWatcher(WatcherOptions{Hint: func(string) {}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		u := &watched{user: "anna", pause: w.o.Pause}
		for range 100 {
			w.stands(u, "IDLE")
			time.Sleep(20 * time.Second)
			w.failed(u, errors.New("EOF"), false)
		}
		if n := strings.Count(log.String(), "cannot watch"); n != 1 {
			t.Errorf("told %d times within half an hour", n)
		}
		if n := strings.Count(log.String(), "watched again"); n != 1 {
			t.Errorf("well again %d times within half an hour", n)
		}
		w.failed(u, errDeaf, false)
		time.Sleep(time.Hour)
		w.stands(u, "IDLE")
		w.failed(u, errors.New("EOF"), false)
		if n := strings.Count(log.String(), "cannot watch"); n != 2 {
			t.Errorf("told %d times in all\n%s", n, log.String())
		}
	})
}

// TestKeeperAgainSpares: a reload has nobody tried whose login was refused moments ago, however often it comes; a person's word has.
func TestKeeperAgainSpares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := &backend.Error{Step: backend.StepLogin, Kind: backend.AuthFailed, Reply: "no"}
		r := newKeeperRig(t, KeeperOptions{Passes: 4}, func(string) (time.Duration, bool, error) { return time.Second, false, wrong })
		r.Keep([]string{"anna"}, nil)
		time.Sleep(10 * time.Second)
		for range 20 {
			r.Again()
			time.Sleep(5 * time.Second)
		}
		if n := len(r.at("anna", 0)); n != 1 {
			t.Errorf("%d passes within two minutes of a refused login", n)
		}
		r.RetryAll()
		time.Sleep(5 * time.Second)
		if n := len(r.at("anna", 0)); n != 2 {
			t.Errorf("%d passes behind a person's word", n)
		}
		time.Sleep(10 * time.Minute)
		if n := len(r.at("anna", 0)); n < 3 {
			t.Errorf("%d passes: it is not tried again by itself", n)
		}
		r.stop()
	})
}
