package logins

import (
	"fmt"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestRecords: the last login of each user, side and protocol is written behind the logins, many together, and not for each of those who
// log in all the time; tokens count as well.
func TestRecords(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, r *rig) {
		began := time.Now()
		for i := range 500 {
			r.Note(fmt.Sprintf("user%d@example.com", i), config.Old, config.IMAP, "hunter2", true)
		}
		r.Note(anna, config.New, config.Submission, "", true)
		r.refusal(bert, config.Old, config.IMAP, "hunter3")
		r.settle()
		if len(r.store.snap().logins) != 501 || r.store.snap().saves != 1 {
			t.Fatalf("%d logins in %d writes", len(r.store.snap().logins), r.store.snap().saves)
		}
		list, _ := r.store.Logins(t.Context(), anna)
		if len(list) != 1 || list[0] != (Login{anna, config.New, config.Submission, began, began}) {
			t.Errorf("%+v", list)
		}
		r.login(anna, config.New, config.Submission, "")
		r.settle()
		if r.store.snap().saves != 1 {
			t.Errorf("%d writes: a login that was recorded a moment ago is written again", r.store.snap().saves)
		}
		r.pass(recordEvery)
		r.login(anna, config.New, config.Submission, "")
		r.login(anna, config.New, config.IMAP, "hunter2")
		now := time.Now()
		r.settle()
		list, _ = r.store.Logins(t.Context(), anna)
		if len(list) != 2 || !list[0].First.Equal(now) || !list[1].First.Equal(began) || !list[1].Last.Equal(now) {
			t.Errorf("%+v", list)
		}
		if len(r.store.snap().kept) != 0 || len(r.calls) != 0 {
			t.Error("something is kept of passwords, though nobody asked for it")
		}
	})
}

// TestRecordsWait: what the store does not take is written when it can be again, and what waits at the end is written at the end.
func TestRecordsWait(t *testing.T) {
	bubble(t, Settings{}, func(t *testing.T, r *rig) {
		r.store.fail(op.ErrUnavailable)
		first := time.Now()
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.pass(time.Hour)
		r.login(anna, config.Old, config.IMAP, "hunter2")
		last := time.Now()
		r.pass(time.Hour)
		if n := len(r.store.snap().logins); n != 0 {
			t.Fatal(n)
		}
		r.store.fail(nil)
		r.pass(2 * again)
		if list := r.store.snap().logins; len(list) != 1 || !list[0].First.Equal(first) || !list[0].Last.Equal(last) {
			t.Errorf("%+v", list)
		}
		r.login(bert, config.Old, config.IMAP, "hunter3")
		r.stop()
		if list, _ := r.store.Logins(t.Context(), bert); len(list) != 1 {
			t.Error("a login of the last moment is lost")
		}
	})
}
