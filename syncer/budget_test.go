package syncer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// errLimit is a refusal that a host has a code for.
func errLimit() error {
	return &backend.Error{Step: backend.StepLogin, Code: "LIMIT", Reply: "[LIMIT] no", Err: errors.New("answers NO")}
}

func mustFirst(t *testing.T, b *Budget, user string) *slot {
	t.Helper()
	s, err := b.first(t.Context(), config.Old, user)
	if err != nil {
		t.Fatal(err)
	}
	s.connected(true)
	return s
}

func onePlace(t *testing.T, b *Budget) PlaceUse {
	t.Helper()
	list := b.Use()
	if len(list) != 1 {
		t.Fatalf("%d places", len(list))
	}
	return list[0]
}

// TestBudgetCap: a cap is not passed, and a pass's first connection goes before the further ones of others.
func TestBudgetCap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{})
		b.Set([2]int{2, 0})
		s1 := mustFirst(t, b, "a")
		s2, ok := b.more(config.Old, "a")
		if !ok {
			t.Fatal("no second connection within the cap")
		}
		b.Set([2]int{3, 0})
		if _, ok := b.more(config.Old, "a"); ok || !b.busy(config.Old, "a") {
			t.Error("a further connection while one is being made: a host that refuses it would be asked twice")
		}
		b.Set([2]int{2, 0})
		s2.connected(true)
		if _, ok := b.more(config.Old, "a"); ok {
			t.Fatal("a third connection, and the cap is 2")
		}
		if _, ok := b.more(config.New, "a"); !ok {
			t.Fatal("NEW has no cap")
		}
		var got time.Duration
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			s, err := b.first(t.Context(), config.Old, "b")
			if err != nil {
				t.Error(err)
			}
			got = time.Since(began)
			s.release()
		})
		synctest.Wait()
		if !b.pressed(config.Old, "a") {
			t.Error("nobody was asked to give back what he can spare")
		}
		time.Sleep(time.Hour)
		s2.release()
		s2.release()
		if s, ok := b.more(config.Old, "a"); ok { // b waits for his first
			t.Error("a further connection went before a first one")
			s.release()
		}
		wg.Wait()
		if got != time.Hour {
			t.Errorf("waited %s", got)
		}
		s1.release()
		if u := b.Use(); u[0].Open+u[1].Open != 0 {
			t.Errorf("still open: %+v", u)
		}
	})
}

// TestBudgetSetWakes: a higher cap is noticed at once, and so is the end of a wait.
func TestBudgetSetWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{})
		b.Set([2]int{1, 0})
		mustFirst(t, b, "a")
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := b.first(ctx, config.Old, "b"); !errors.Is(err, why) {
				t.Errorf("cancelled: %v", err)
			}
		})
		synctest.Wait()
		cancel(why)
		wg.Wait()
		if b.pressed(config.Old, "a") {
			t.Error("who has given up still waits")
		}
		wg.Go(func() {
			if _, err := b.first(t.Context(), config.Old, "c"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		began := time.Now()
		b.Set([2]int{5, 0})
		wg.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("noticed after %s", d)
		}
	})
}

// TestBudgetLearns: a host that refuses the fifth allows four, for ten minutes; then one or two more are tried.
func TestBudgetLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{})
		s := mustFirst(t, b, "a")
		if s.refused(errors.New("no route to host")) {
			t.Error("learned from another error")
		}
		for range 3 {
			x, _ := b.more(config.Old, "a")
			x.connected(true)
		}
		x, _ := b.more(config.Old, "a")
		if !x.refused(errLimit()) {
			t.Fatal("nothing learned")
		}
		x.release()
		if u := onePlace(t, b); u.Cap != 4 || u.Learned != 4 || u.Open != 4 {
			t.Errorf("after a refusal: %+v", u)
		}
		if _, ok := b.more(config.Old, "a"); ok {
			t.Error("asked again at once")
		}
		began := time.Now()
		next, err := b.first(t.Context(), config.Old, "b")
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != learnedTime {
			t.Errorf("tried again after %s", d)
		}
		if !next.refused(errLimit()) {
			t.Error("nothing learned the second time")
		}
		if u := onePlace(t, b); u.Cap != 4 {
			t.Errorf("after the second refusal: %+v", u)
		}
		if err := next.again(t.Context(), time.Minute); !errors.Is(err, ErrCrowded) {
			t.Errorf("a slot that cannot be used: %v", err)
		}
		time.AfterFunc(time.Minute, s.release)
		if err := next.again(t.Context(), crowdedTime); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * learnedTime)
		if u := onePlace(t, b); u.Cap != 0 {
			t.Errorf("a cap is believed for ever: %+v", u)
		}
	})
}

// TestBudgetAlone: who has no connection there has not taken the last one.
func TestBudgetAlone(t *testing.T) {
	b := NewBudget(BudgetOptions{})
	s, _ := b.more(config.Old, "a")
	if s.refused(errLimit()) {
		t.Error("learned that none are allowed")
	}
	s.release()
}

// TestBudgetUsersFirst: of a host with a cap for all the syncer takes a half, and none when less than a quarter is left.
func TestBudgetUsersFirst(t *testing.T) {
	for _, c := range []struct{ most, users, want int }{{40, 0, 20}, {40, 10, 20}, {40, 15, 15}, {40, 30, 0}, {40, 29, 1}, {1, 0, 1}, {2, 0, 1}, {3, 0, 1},
		{3, 2, 1}, {4, 0, 2}, {4, 3, 0}, {0, 1000, 100}} {
		own := 0
		b := NewBudget(BudgetOptions{Place: func(config.Side, string) string { return "h" }, Load: func(_ config.Side, place string) (int, int) {
			if place != "h" {
				t.Errorf("asked for %q", place)
			}
			return c.users + own, c.most
		}})
		got := 0
		for range 100 {
			b.mu.Lock()
			s, ok := b.take(b.of(config.Old, "a"), got%2 == 0, time.Now())
			b.mu.Unlock()
			if !ok {
				break
			}
			if got++; got%2 == 0 { // the others are first ones, about to connect
				own++
				s.connected(true)
			}
		}
		if got != c.want {
			t.Errorf("%d of users, %d in all allowed: %d for the syncer, want %d", c.users, c.most, got, c.want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		users := 4
		b := NewBudget(BudgetOptions{Load: func(config.Side, string) (int, int) { return users, 4 }})
		began := time.Now()
		time.AfterFunc(10*time.Second, func() { b.mu.Lock(); users = 2; b.mu.Unlock() })
		if _, err := b.first(t.Context(), config.Old, "a"); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d < 10*time.Second || d > 12*time.Second {
			t.Errorf("began after %s", d)
		}
	})
}

func TestCrowded(t *testing.T) {
	e := func(step backend.Step, code, reply string, err error) error {
		return &SideError{config.Old, &backend.Error{Step: step, Code: code, Reply: reply, Err: err}}
	}
	no := errors.New("answers NO")
	for _, c := range []struct {
		err  error
		want bool
	}{
		{e(backend.StepLogin, "LIMIT", "[LIMIT] no", no), true},
		{e(backend.StepLogin, "UNAVAILABLE", "[UNAVAILABLE] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)", no), true},
		{e(backend.StepLogin, "", "Too many open connections (5 of 5 for user33)", no), true},
		{e(backend.StepLogin, "", "Maximum number of connections from user+IP exceeded", no), true},
		{e(backend.StepLogin, "ALERT", "[ALERT] Too many simultaneous connections. (Failure)", no), true},
		{e(backend.StepLogin, "AUTHENTICATIONFAILED", "[AUTHENTICATIONFAILED] too many connections", no), false},
		{e(backend.StepLogin, "", "Too many failed logins", no), false},
		{e(backend.StepLogin, "", "Login failed.", no), false},
		{e(backend.StepBanner, "", "* BYE Too many connections", no), true},
		{e(backend.StepBanner, "UNAVAILABLE", "* BYE [UNAVAILABLE] later", no), true},
		{e(backend.StepBanner, "", "", io.EOF), true},
		{e(backend.StepTLS, "", "", io.EOF), true},
		{e(backend.StepLogin, "", "", io.EOF), false},
		{e(backend.StepConnect, "", "", io.EOF), false},
		{e(backend.StepBanner, "", "* OK", errors.New("line too long")), false},
		{io.EOF, false},
	} {
		if got := crowded(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

// TestBudgetSpare: what is good to have goes when a pass waits for its first connection, one for each.
func TestBudgetSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{})
		b.Set([2]int{3, 0})
		ended := 0
		for range 3 {
			s, ok := b.more(config.Old, "watched")
			if !ok {
				t.Fatal("no slot")
			}
			s.connected(true)
			s.spare(func() {
				ended++
				s.release()
			})
		}
		mustFirst(t, b, "a")
		if ended != 1 {
			t.Errorf("%d were ended for one pass", ended)
		}
		mustFirst(t, b, "b").release()
		if ended != 2 {
			t.Errorf("%d were ended for two passes", ended)
		}
		mustFirst(t, b, "c") // there is room
		if ended != 2 {
			t.Errorf("%d were ended where there is room", ended)
		}
	})
}

// TestBudgetGivesWay: a user whose login a crowded host has refused comes first: what can be spared goes, and there will be one fewer.
func TestBudgetGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{})
		if b.GiveWay(config.Old, "a", errLimit()) {
			t.Error("gave way without a connection")
		}
		var slots []*slot
		s := mustFirst(t, b, "a")
		slots = append(slots, s)
		for range 3 {
			x, _ := b.more(config.Old, "a")
			x.connected(true)
			slots = append(slots, x)
		}
		ended := 0
		slots[3].spare(func() { ended++; slots[3].release() })
		if b.GiveWay(config.Old, "b", errors.New("no route to host")) || ended > 0 {
			t.Error("gave way to another trouble")
		}
		if !b.GiveWay(config.Old, "b", fmt.Errorf("own cap: %w", backend.ErrBudget)) || ended != 1 {
			t.Errorf("did not give way to our own cap: %d ended", ended)
		}
		if u := onePlace(t, b); u.Learned != 0 || u.Open != 3 {
			t.Errorf("our own cap is taken for one of the host's: %+v", u)
		}
		x, _ := b.more(config.Old, "a")
		x.connected(true)
		x.spare(func() { ended++; x.release() })
		if !b.GiveWay(config.Old, "b", errLimit()) || ended != 2 {
			t.Errorf("did not give way: %d ended", ended)
		}
		if u := onePlace(t, b); u.Learned != 3 || u.Open != 3 || b.pressed(config.Old, "a") {
			t.Errorf("behind that: %+v", u)
		}
		if !b.GiveWay(config.Old, "b", errLimit()) || !b.pressed(config.Old, "a") {
			t.Error("three connections where two may be, and none is asked to go")
		}
		slots[2].release()
		if _, ok := b.more(config.Old, "a"); ok || b.pressed(config.Old, "a") {
			t.Error("two of two are in use")
		}
		time.Sleep(learnedTime)
		if _, ok := b.more(config.Old, "a"); !ok {
			t.Error("gives way for ever")
		}
	})
}

// TestBudgetComing: where nothing of ours stands, and others come at the same time, one who is refused waits for a moment, and fails after it:
// the host may be down.
func TestBudgetComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(BudgetOptions{})
		one, err := b.first(t.Context(), config.Old, "a")
		if err != nil {
			t.Fatal(err)
		}
		two, err := b.first(t.Context(), config.Old, "b")
		if err != nil {
			t.Fatal(err)
		}
		if two.refused(errors.New("no route to host")) {
			t.Error("taken for a crowd")
		}
		n := 0
		for two.refused(errLimit()) {
			n++
		}
		if n == 0 || n > guesses {
			t.Errorf("believed in others %d times", n)
		}
		if u := onePlace(t, b); u.Learned != 0 {
			t.Errorf("learned from a guess: %+v", u)
		}
		one.release()
		two.release()
	})
}
