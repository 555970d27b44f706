package learned

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// row is the only one of a user at a side.
func (r *rig) row(user string, side config.Side) (out Row) {
	r.t.Helper()
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if x := r.store.find(user, side); x != nil {
		return *x
	}
	return out
}

// TestLearns: a login is kept as ciphertext with an end; the same password again only renews that, now and then, and on both sides
// where both have it; another one takes its place.
func TestLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.login(anna, config.Old, config.IMAP, "hunter2")
		first := r.row(anna, config.Old)
		if got, err := r.key.Open(anna, config.Old, first.Sealed); err != nil || got.Reveal() != "hunter2" {
			t.Fatalf("%q, %v", got.Reveal(), err)
		}
		if !first.Expires.Equal(time.Now().Add(life)) || !first.Learned.Equal(time.Now()) {
			t.Errorf("%+v", first)
		}
		r.login(anna, config.Old, config.IMAP, "hunter2")
		if r.store.writes != 1 {
			t.Errorf("%d writes for two logins with the same password", r.store.writes)
		}
		time.Sleep(2 * time.Hour)
		r.login(anna, config.Old, config.IMAP, "hunter2")
		second := r.row(anna, config.Old)
		if !second.Seen.Equal(time.Now()) || !second.Expires.Equal(time.Now().Add(life)) || !second.Learned.Equal(first.Learned) ||
			string(second.Sealed) != string(first.Sealed) {
			t.Errorf("renewed: %+v\nbefore: %+v", second, first)
		}
		time.Sleep(2 * time.Hour)
		r.login(anna, config.New, config.IMAP, "hunter2") // moved: OLD's is renewed as well
		if got := r.row(anna, config.Old); !got.Seen.Equal(time.Now()) {
			t.Errorf("OLD's row: %+v", got)
		}
		time.Sleep(2 * time.Hour)
		r.login(anna, config.New, config.IMAP, "hunter3")
		if got := r.row(anna, config.Old); got.Seen.Equal(time.Now()) {
			t.Errorf("OLD's row is renewed by another password: %+v", got)
		}
		if got, err := r.key.Open(anna, config.New, r.row(anna, config.New).Sealed); err != nil || got.Reveal() != "hunter3" {
			t.Errorf("%q, %v", got.Reveal(), err)
		}
		if r.n.results["learned"] != 3 || r.n.results["renewed"] != 1 || fmt.Sprint(r.n.changed) != fmt.Sprint([]string{anna, anna, anna}) {
			t.Errorf("%v %v", r.n.results, r.n.changed)
		}
		r.again() // another process knows nothing, and looks: the same password is no other one
		r.login(anna, config.Old, config.IMAP, "hunter2")
		if got := r.row(anna, config.Old); !got.Learned.Equal(first.Learned) || r.n.results["renewed"] != 2 {
			t.Errorf("%+v %v", got, r.n.results)
		}
		if strings.Contains(r.log.String(), "hunter") {
			t.Errorf("in the log: %s", r.log)
		}
	})
}

// TestOff: without a key nothing is learned, nothing that waits is written, and nothing is used; rows stay until they are over.
func TestOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.Note(bert, config.Old, config.IMAP, "hunter3")
		r.Configure(nil, life)
		for r.writeNext(t.Context()) {
		}
		r.login(bert, config.Old, config.IMAP, "hunter3")
		if len(r.store.rows) != 1 || len(r.seen) != 0 || len(r.queue) != 0 {
			t.Errorf("%d rows, %d seen, %d wait", len(r.store.rows), len(r.seen), len(r.queue))
		}
		if tried, err := r.uses(anna, config.Old, "hunter2"); !errors.Is(err, ErrOff) || len(tried) > 0 {
			t.Errorf("%v %v", tried, err)
		}
		list, err := r.List(t.Context(), "")
		if err != nil || len(list) != 1 || list[0].State != NoKey {
			t.Errorf("%+v %v", list, err)
		}
		time.Sleep(life)
		r.tidy(t.Context())
		if len(r.store.rows) != 0 {
			t.Error("a row whose time is over is there")
		}
	})
}

// TestSubmissionLearns: a password of submission is learned where none is known, and where the known one is refused; it does not take
// the place of a good one.
func TestSubmissionLearns(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.Submission, "of-smtp")
	tried, err := r.uses(anna, config.Old, "of-imap")
	want(t, tried, "of-smtp")
	if err == nil {
		t.Error("no error")
	}
	r.login(anna, config.Old, config.IMAP, "of-imap")
	for range 2 {
		r.login(anna, config.Old, config.Submission, "of-smtp")
	}
	tried, err = r.uses(anna, config.Old, "of-imap")
	want(t, tried, "of-imap")
	if err != nil || r.n.results["kept"] != 1 {
		t.Errorf("%v %v", err, r.n.results)
	}
	r.login(anna, config.Old, config.Submission, "changed") // he has changed it
	tried, _ = r.uses(anna, config.Old, "changed")
	want(t, tried, "of-imap")
	r.login(anna, config.Old, config.Submission, "changed")
	tried, err = r.uses(anna, config.Old, "changed")
	if want(t, tried, "changed"); err != nil {
		t.Error(err)
	}
}

// TestQueueFull: what does not fit is dropped and counted, and learned at the next login; one who waits already costs no room.
func TestQueueFull(t *testing.T) {
	r := newRig(t)
	for i := range maxQueue + 7 {
		r.Note(fmt.Sprintf("user%d@example.com", i), config.Old, config.IMAP, "hunter2")
	}
	r.Note("user0@example.com", config.Old, config.IMAP, "hunter3")
	if r.n.results["dropped"] != 7 || len(r.order) != maxQueue || len(r.queue) != maxQueue {
		t.Errorf("%v, %d wait", r.n.results, len(r.order))
	}
	for r.writeNext(t.Context()) {
	}
	if len(r.store.rows) != maxQueue {
		t.Errorf("%d rows", len(r.store.rows))
	}
	if got, err := r.key.Open("user0@example.com", config.Old, r.row("user0@example.com", config.Old).Sealed); err != nil || got.Reveal() != "hunter3" {
		t.Errorf("the later password of one who waited: %q, %v", got.Reveal(), err)
	}
	r.login(fmt.Sprintf("user%d@example.com", maxQueue), config.Old, config.IMAP, "hunter2")
	if len(r.store.rows) != maxQueue+1 {
		t.Error("who was dropped is not learned at his next login")
	}
}

// TestStoreFails: what the store does not take is learned at the next login; nobody waits for it.
func TestStoreFails(t *testing.T) {
	r := newRig(t)
	r.store.fail(op.ErrUnavailable)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	r.store.fail(nil)
	if r.n.results["failed"] != 1 || len(r.store.rows) != 0 {
		t.Errorf("%v", r.n.results)
	}
	r.login(anna, config.Old, config.IMAP, "hunter2")
	if len(r.store.rows) != 1 || strings.Contains(r.log.String(), "hunter") {
		t.Errorf("%d rows; log %s", len(r.store.rows), r.log)
	}
	// While the store hangs, logins do not.
	r.store.hold, r.store.inside = make(chan struct{}), make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	r.Note(anna, config.Old, config.IMAP, "hunter3")
	<-r.store.inside
	for range 1000 {
		r.Note(bert, config.Old, config.IMAP, "hunter4")
	}
	close(r.store.hold)
	for end := time.Now().Add(10 * time.Second); r.row(bert, config.Old).User == "" && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	cancel()
	wg.Wait()
	if r.row(bert, config.Old).User == "" {
		t.Error("what waited was not written")
	}
}

// TestExpires: what is over is not used, and is erased by Run at the start and hourly; a scrub that failed is made up for.
func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.login(anna, config.Old, config.IMAP, "hunter2")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		time.Sleep(tidyEvery / 2)
		wg.Go(func() { r.Run(ctx) })
		time.Sleep(life - tidyEvery/2 - time.Minute)
		synctest.Wait()
		if tried, err := r.uses(anna, config.Old, "hunter2"); err != nil || len(tried) != 1 {
			t.Errorf("before its end: %v %v", tried, err)
		}
		time.Sleep(time.Minute)
		var unknown *UnknownError
		tried, err := r.uses(anna, config.Old, "hunter2")
		if want(t, tried); !errors.As(err, &unknown) || !unknown.Since.Equal(time.Now().Add(-life)) || !strings.Contains(err.Error(), "he has not logged in since ") {
			t.Errorf("over: %v", err)
		}
		r.store.fail(op.ErrUnavailable)
		time.Sleep(tidyEvery)
		synctest.Wait()
		if n, _ := r.store.counted(); n != 1 || !strings.Contains(r.log.String(), "not erased yet") {
			t.Errorf("%d rows, log %s", n, r.log)
		}
		r.store.fail(nil)
		time.Sleep(tidyEvery)
		synctest.Wait()
		if n, scrubs := r.store.counted(); n != 0 || scrubs != 1 {
			t.Errorf("%d rows, %d scrubs", n, scrubs)
		}
		time.Sleep(3 * tidyEvery)
		synctest.Wait()
		if _, scrubs := r.store.counted(); scrubs != 1 {
			t.Errorf("%d scrubs, for nothing", scrubs)
		}
		cancel()
		wg.Wait()
		r.store.rows = []Row{{User: bert, Expires: time.Now()}}
		ctx, cancel = context.WithCancel(t.Context())
		wg.Go(func() { r.Run(ctx) })
		synctest.Wait()
		if n, _ := r.store.counted(); n != 0 {
			t.Error("not erased at the start")
		}
		cancel()
		wg.Wait()
	})
}

// TestForget: a user's password is gone from the store, the queue and the memory, also one that is just being written; the others' stay.
func TestForget(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	r.login(anna, config.New, config.IMAP, "hunter2")
	r.login(bert, config.Old, config.IMAP, "hunter3")
	_, _ = r.uses(anna, config.Old, "another")
	r.Note(anna, config.Old, config.IMAP, "waits") // in the queue
	r.Note(bert, config.New, config.IMAP, "waits as well")
	n, err := r.Forget(t.Context(), anna, "me", "")
	if err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	for r.writeNext(t.Context()) {
	}
	if len(r.store.rows) != 2 || r.row(anna, config.Old).User != "" || r.store.scrubs != 1 {
		t.Errorf("%d rows, %d scrubs", len(r.store.rows), r.store.scrubs)
	}
	for l := range r.seen {
		if l.user == anna {
			t.Error("he is remembered")
		}
	}
	e := r.store.events[len(r.store.events)-1]
	if e.What != "learned password erased" || e.User != anna || e.By != "me" || e.At.IsZero() {
		t.Errorf("%+v", e)
	}
	r.login(anna, config.Old, config.IMAP, "hunter2") // the same one, which was refused: it may be tried again
	tried, err := r.uses(anna, config.Old, "hunter2")
	if want(t, tried, "hunter2"); err != nil {
		t.Error(err)
	}

	// One that is being written is erased behind that.
	r.store.hold, r.store.inside = make(chan struct{}), make(chan struct{}, 1)
	var wg sync.WaitGroup
	r.Note(anna, config.New, config.IMAP, "being written")
	wg.Go(func() { r.writeNext(t.Context()) })
	<-r.store.inside
	erased := make(chan int, 2)
	wg.Go(func() {
		n, _ := r.Forget(t.Context(), "", "me", "")
		erased <- n
	})
	select {
	case n := <-erased:
		t.Errorf("erased %d while one was being written", n)
		erased <- n
	case <-time.After(50 * time.Millisecond):
	}
	close(r.store.hold)
	wg.Wait()
	if n := <-erased; n != 4 || len(r.store.rows) != 0 || len(r.seen) != 0 || len(r.refused) != 0 {
		t.Errorf("%d erased, %d rows, %d seen, %d refused", n, len(r.store.rows), len(r.seen), len(r.refused))
	}

	r.store.fail(op.ErrUnavailable)
	if _, err := r.Forget(t.Context(), anna, "me", ""); !errors.Is(err, op.ErrUnavailable) || errors.Is(err, ErrLeft) {
		t.Errorf("the store fails: %v", err)
	}
}

// TestShorterLife: a life that is made shorter holds for what is there; one that is made longer begins with the next login.
func TestShorterLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.login(anna, config.Old, config.IMAP, "hunter2")
		time.Sleep(2 * time.Hour)
		r.Configure(r.key, 2*life)
		if list, err := r.List(t.Context(), ""); err != nil || !list[0].Expires.Equal(time.Now().Add(life-2*time.Hour)) {
			t.Errorf("%+v %v", list, err)
		}
		r.tidy(t.Context())
		if tried, err := r.uses(anna, config.Old, "hunter2"); err != nil || len(tried) != 1 {
			t.Errorf("%q %v", tried, err)
		}
		r.Configure(r.key, 2*time.Hour)
		tried, err := r.uses(anna, config.Old, "hunter2")
		var unknown *UnknownError
		if want(t, tried); !errors.As(err, &unknown) {
			t.Errorf("%v", err)
		}
		if list, err := r.List(t.Context(), ""); err != nil || list[0].State != Expired {
			t.Errorf("%+v %v", list, err)
		}
		r.tidy(t.Context())
		if n, _ := r.store.counted(); n != 0 {
			t.Error("not erased")
		}
	})
}
