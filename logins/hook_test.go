package logins

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// provision is a hook.
func provision() Settings { return Settings{Hook: []string{"/usr/bin/provision", "new"}} }

// ran is for whom the hook has run, and with which password.
func (r *rig) ran() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		out = append(out, c.User+" "+c.Side.String()+" "+c.Password.Reveal())
	}
	return out
}

func (r *rig) hooks(f func(context.Context, Call) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = f
}

func (r *rig) wantRan(want ...string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.ran(); !slices.Equal(got, want) {
		r.t.Fatalf("the hook ran for %q, want %q", got, want)
	}
}

// TestHookOnce: the hook runs at the first login and again when the password has changed, also behind a restart; nobody else's.
func TestHookOnce(t *testing.T) {
	bubble(t, provision(), func(t *testing.T, r *rig) {
		for range 3 {
			r.login(anna, config.Old, config.IMAP, "hunter2")
		}
		r.refusal(bert, config.Old, config.IMAP, "hunter3")
		r.login(bert, config.Old, config.IMAP, "") // a token
		r.wantRan(anna + " old hunter2")
		if k := r.hashOf(anna); !k.Hook.Done.Equal(time.Now()) || r.calls[0].Argv[1] != "new" || r.n.get("hook done") != 1 {
			t.Errorf("%+v %+v", k, r.calls[0])
		}
		if got := r.store.what(); !slices.Equal(got, []string{anna + ": login hook done"}) {
			t.Errorf("history: %q", got)
		}
		r.pass(3 * time.Hour) // renewed
		r.login(anna, config.New, config.IMAP, "hunter2")
		r.stop()
		r.calls = nil
		r.begin(provision())
		r.login(anna, config.New, config.IMAP, "hunter2")
		r.wantRan()
		r.login(anna, config.New, config.IMAP, "hunter4")
		r.login(bert, config.New, config.POP3, "hunter5")
		r.wantRan(anna+" new hunter4", bert+" new hunter5")
	})
}

// TestHookFails: a hook that fails is tried again with back-off, with logins in between changing nothing, also behind a restart; status
// and history tell of it.
func TestHookFails(t *testing.T) {
	bubble(t, provision(), func(t *testing.T, r *rig) {
		r.hooks(func(context.Context, Call) error { return errors.New("exit status 1: no room") })
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.login(anna, config.Old, config.IMAP, "hunter2")
		one := anna + " old hunter2"
		r.wantRan(one)
		k := r.hashOf(anna)
		if k.Hook.Tries != 1 || k.Hook.Error != "exit status 1: no room" || !k.Hook.Done.IsZero() {
			t.Errorf("%+v", k.Hook)
		}
		r.pass(2 * firstRetry)
		r.wantRan(one, one)
		r.pass(firstRetry / 3) // the second rest is twice as long
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.wantRan(one, one)
		r.pass(24 * time.Hour)
		if n := len(r.ran()); n < 24 || n > 40 {
			t.Errorf("tried %d times in a day", n)
		}
		r.stop()
		r.calls = nil
		r.begin(provision())
		r.login(anna, config.Old, config.IMAP, "hunter2") // it is not time yet
		r.wantRan()
		r.hooks(nil)
		r.pass(2 * lastRetry)
		r.wantRan(one)
		if k := r.hashOf(anna); k.Hook.Done.IsZero() || k.Hook.Tries != 0 || k.Hook.Error != "" {
			t.Errorf("%+v", k.Hook)
		}
		if got := r.store.what(); !slices.Equal(got, []string{anna + ": login hook failed", anna + ": login hook done"}) {
			t.Errorf("history: %q", got)
		}
	})
}

// TestHookBounded: one for a user at a time, no more than so many in all, and logins never wait; a password that comes meanwhile is
// next, and the one before is not.
func TestHookBounded(t *testing.T) {
	bubble(t, provision(), func(t *testing.T, r *rig) {
		release := make(chan struct{})
		r.hooks(func(context.Context, Call) error { <-release; return nil })
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.login(anna, config.Old, config.IMAP, "hunter3")
		r.login(anna, config.Old, config.IMAP, "hunter4")
		r.wantRan(anna + " old hunter2")
		for _, user := range []string{"b@example.com", "c@example.com", "d@example.com"} {
			r.login(user, config.Old, config.IMAP, "hunter5")
			r.pass(time.Minute)
		}
		synctest.Wait()
		if got := r.ran(); len(got) != 2 || got[1] != "b@example.com old hunter5" {
			t.Fatalf("%q at once", got)
		}
		close(release)
		synctest.Wait()
		got := r.ran()
		if len(got) != 5 || !slices.Contains(got, anna+" old hunter4") || slices.Contains(got, anna+" old hunter3") {
			t.Errorf("%q", got)
		}
		if k := r.hashOf(anna); k.Hook.Done.IsZero() || !Matches(k.Hash, "hunter4") {
			t.Errorf("%+v", k)
		}
	})
}

// TestHookAgain: a hook whose end was not recorded, because the store failed or the process was killed, runs again.
func TestHookAgain(t *testing.T) {
	bubble(t, provision(), func(t *testing.T, r *rig) {
		r.hooks(func(context.Context, Call) error { r.store.fail(op.ErrUnavailable); return nil })
		r.login(anna, config.Old, config.IMAP, "hunter2")
		one := anna + " old hunter2"
		r.wantRan(one)
		r.hooks(nil)
		r.store.fail(nil)
		r.pass(2 * firstRetry)
		r.wantRan(one, one)
		if k := r.hashOf(anna); k.Hook.Done.IsZero() {
			t.Errorf("%+v", k)
		}
		k := r.hashOf(anna)
		k.Hook = HookState{} // as if it had been killed before it was recorded
		if err := r.store.PutKept(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		r.stop()
		r.hooks(nil)
		r.begin(provision())
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.wantRan(one, one, one)

		// One that ends because serve does has not failed.
		r.hooks(func(ctx context.Context, _ Call) error { <-ctx.Done(); return ctx.Err() })
		r.login(bert, config.Old, config.IMAP, "hunter3")
		r.stop()
		if k := r.hashOf(bert); k.Hook != (HookState{}) || r.n.get("hook failed") != 0 {
			t.Errorf("%+v %v", k.Hook, r.n.n)
		}
	})
}

// TestHookOfSeveral: of two processes one runs the hook for a user who logs in through both, the other when that one has failed or was
// killed, and has had its time; who ends in order leaves it to the other at once.
func TestHookOfSeveral(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, one *rig) {
		one.stop()
		one.shared = true
		two := &rig{t: t, store: one.store, shared: true, known: map[string]string{}}
		one.begin(provision())
		two.begin(provision())
		defer two.stop()
		runs := func(user string) (n int) {
			for _, r := range []*rig{one, two} {
				for _, x := range r.ran() {
					if strings.HasPrefix(x, user+" ") {
						n++
					}
				}
			}
			return n
		}
		both := func(user string) {
			one.Note(user, config.Old, config.IMAP, "hunter2", true)
			two.Note(user, config.Old, config.IMAP, "hunter2", true)
			synctest.Wait()
		}
		slow := func(ctx context.Context, _ Call) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Second):
				return nil
			}
		}
		one.hooks(slow)
		two.hooks(slow)
		both(anna)
		one.pass(24 * time.Hour)
		both(anna)
		one.pass(24 * time.Hour)
		if n := runs(anna); n != 1 || one.hashOf(anna).Hook.Done.IsZero() {
			t.Errorf("it ran %d times: %+v", n, one.hashOf(anna))
		}

		fails := true
		once := func(ctx context.Context, c Call) error {
			if fails {
				fails = false
				return errors.New("no room")
			}
			return nil
		}
		one.hooks(once)
		two.hooks(once)
		both(bert)
		one.pass(24 * time.Hour)
		if n := runs(bert); n != 2 || one.hashOf(bert).Hook.Done.IsZero() {
			t.Errorf("it ran %d times: %+v", n, one.hashOf(bert))
		}

		const carl = "c@example.com"
		one.hooks(slow)
		two.hooks(slow)
		one.login(carl, config.Old, config.IMAP, "hunter2")
		two.login(carl, config.Old, config.IMAP, "hunter2")
		if n := runs(carl); n != 1 {
			t.Fatalf("it ran %d times at once", n)
		}
		one.stop() // in the middle
		if k := two.hashOf(carl); !k.Hook.Next.IsZero() || !k.Hook.Done.IsZero() {
			t.Errorf("%+v", k.Hook)
		}
		two.pass(24 * time.Hour)
		if n := runs(carl); n != 2 || two.hashOf(carl).Hook.Done.IsZero() {
			t.Errorf("it ran %d times: %+v", n, two.hashOf(carl))
		}
	})
}

// TestHookOff: who has left the routes file, or was forgotten, or whose hook was turned off, has none run.
func TestHookOff(t *testing.T) {
	bubble(t, provision(), func(t *testing.T, r *rig) {
		r.hooks(func(context.Context, Call) error { return errors.New("no") })
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.login(bert, config.Old, config.IMAP, "hunter3")
		r.login("c@example.com", config.Old, config.IMAP, "hunter4")
		if n := len(r.ran()); n != 3 {
			t.Fatal(n)
		}
		r.Ledger.mu.Lock() // under which it is read
		r.o.Listed = func(user string) bool { return user != anna }
		r.Ledger.mu.Unlock()
		if _, err := r.Forget(t.Context(), bert, "me", ""); err != nil {
			t.Fatal(err)
		}
		r.pass(2 * firstRetry)
		if n := len(r.ran()); n != 4 || !strings.HasPrefix(r.ran()[3], "c@") {
			t.Errorf("%q", r.ran())
		}
		r.Configure(Settings{Expire: life})
		r.pass(24 * time.Hour)
		r.login(anna, config.Old, config.IMAP, "hunter2")
		if n := len(r.ran()); n != 4 {
			t.Errorf("%q", r.ran())
		}
	})
}
