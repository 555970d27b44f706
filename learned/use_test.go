package learned

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestRefused: a password that a side refuses is tried once there, by whomever, in this process and the next, until another one is
// learned; the other side has its own mind.
func TestRefused(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	var no *RefusedError
	tried, err := r.uses(anna, config.New, "")
	if want(t, tried, "hunter2"); !errors.As(err, &no) || !errors.Is(err, errWrong) || no.Side != config.New {
		t.Errorf("%v", err)
	}
	for range 2 {
		tried, err = r.uses(anna, config.New, "hunter2")
		if want(t, tried); !errors.As(err, &no) || !strings.Contains(err.Error(), "is refused by NEW") {
			t.Errorf("%v", err)
		}
		r.login(anna, config.Old, config.IMAP, "hunter2") // the same again changes nothing
		r.again()
	}
	tried, err = r.uses(anna, config.Old, "hunter2")
	if want(t, tried, "hunter2"); err != nil {
		t.Error(err)
	}
	if len(r.store.events) != 1 || r.store.events[0].What != "learned password refused" || r.store.events[0].User != anna {
		t.Errorf("%+v", r.store.events)
	}
	r.login(anna, config.New, config.IMAP, "hunter2") // learned there now, but it is the one that is refused there
	tried, _ = r.uses(anna, config.New, "hunter2")
	want(t, tried)
	r.login(anna, config.Old, config.IMAP, "hunter3")
	if r.row(anna, config.Old).Refused != [2]time.Time{} {
		t.Error("another password is refused as the one before")
	}
}

// TestRefusedByScripts: what ManageSieve refuses is not tried there again, and the mail goes on; what the mail refuses is tried nowhere.
func TestRefusedByScripts(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	scripts := func() (n int, err error) {
		err = r.UseAt(t.Context(), anna, config.Old, config.Sieve, func(config.Secret) error { n++; return errWrong }, func(err error) bool { return err == errWrong })
		return n, err
	}
	var no *RefusedError
	for i := range 3 {
		if n, err := scripts(); !errors.As(err, &no) || n != max(0, 1-i) {
			t.Errorf("time %d: %d tries, %v", i, n, err)
		}
		if tried, err := r.uses(anna, config.Old, "hunter2"); err != nil {
			t.Errorf("the mail minds: %v %v", tried, err)
		}
	}
	if r.row(anna, config.Old).Refused != [2]time.Time{} || len(r.store.events) > 0 {
		t.Errorf("%+v, %+v", r.row(anna, config.Old), r.store.events)
	}
	r.login(anna, config.Old, config.IMAP, "hunter3")
	if tried, _ := r.uses(anna, config.Old, ""); len(tried) != 1 {
		t.Errorf("%v", tried)
	}
	if n, err := scripts(); !errors.As(err, &no) || n != 0 {
		t.Errorf("%d tries of what the mail refuses, %v", n, err)
	}
}

// TestTemporary: trouble is no refusal.
func TestTemporary(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	down := errors.New("the host is down")
	for range 3 {
		n := 0
		err := r.Use(t.Context(), anna, config.Old, func(config.Secret) error { n++; return down }, func(err error) bool { return err == errWrong })
		if !errors.Is(err, down) || n != 1 {
			t.Errorf("%v, %d tries", err, n)
		}
	}
	if tried, err := r.uses(anna, config.Old, "hunter2"); err != nil {
		t.Errorf("%v %v", tried, err)
	}
}

// TestBothSides: at NEW its own comes first, then OLD's, once; what was typed for NEW is never shown to OLD.
func TestBothSides(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "of-old")
	r.login(anna, config.New, config.IMAP, "of-new")
	tried, err := r.uses(anna, config.New, "of-new")
	if want(t, tried, "of-new"); err != nil {
		t.Error(err)
	}
	tried, err = r.uses(anna, config.New, "of-old")
	if want(t, tried, "of-new", "of-old"); err != nil {
		t.Error(err)
	}
	tried, err = r.uses(anna, config.New, "")
	if want(t, tried, "of-old"); err == nil {
		t.Error("no error")
	}
	tried, _ = r.uses(anna, config.New, "")
	want(t, tried)
	r.login(bert, config.New, config.IMAP, "of-new")
	var unknown *UnknownError
	tried, err = r.uses(bert, config.Old, "of-new")
	if want(t, tried); !errors.As(err, &unknown) || !strings.HasPrefix(err.Error(), "he has not logged in on OLD since ") {
		t.Errorf("%v", err)
	}
	for _, side := range config.Sides {
		r.login("carol@example.com", side, config.IMAP, "of-both")
	}
	tried, _ = r.uses("carol@example.com", config.New, "")
	want(t, tried, "of-both")
}

// TestOtherRows: a row that somebody put in another's place, and one of another key, are not used, and seen.
func TestOtherRows(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "of-anna")
	r.login(bert, config.Old, config.IMAP, "of-bert")
	r.store.rows[0].Sealed, r.store.rows[1].Sealed = r.store.rows[1].Sealed, r.store.rows[0].Sealed
	for _, user := range []string{anna, bert} {
		for _, side := range config.Sides {
			tried, err := r.uses(user, side, "of-anna")
			if want(t, tried); !errors.Is(err, ErrOtherPlace) {
				t.Errorf("%s on %s: %v", user, side, err)
			}
		}
	}
	list, err := r.List(t.Context(), anna)
	if err != nil || len(list) != 1 || list[0].State != OtherKey {
		t.Errorf("%+v %v", list, err)
	}
	r.again()
	r.login(anna, config.Old, config.IMAP, "of-anna") // learned anew
	tried, err := r.uses(anna, config.Old, "of-anna")
	if want(t, tried, "of-anna"); err != nil {
		t.Error(err)
	}
	r.Configure(newKey(t), life)
	tried, err = r.uses(anna, config.Old, "of-anna")
	if want(t, tried); !errors.Is(err, ErrOtherKey) {
		t.Errorf("%v", err)
	}
	r.login(anna, config.Old, config.IMAP, "of-anna") // seen in this process already, but with the other key
	if _, err = r.uses(anna, config.Old, "of-anna"); err != nil {
		t.Error(err)
	}
}

// TestOneAtATime: however many connections a pass opens, a wrong password is shown to a server once; who waits can be ended.
func TestOneAtATime(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	var tries atomic.Int32
	var wg sync.WaitGroup
	inside, out := make(chan struct{}), make(chan struct{})
	for range 10 {
		wg.Go(func() {
			err := r.Use(t.Context(), anna, config.Old, func(config.Secret) error {
				if tries.Add(1) == 1 {
					close(inside)
				}
				<-out
				return errWrong
			}, func(err error) bool { return err == errWrong })
			var no *RefusedError
			if !errors.As(err, &no) {
				t.Errorf("%v", err)
			}
		})
	}
	<-inside
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(down{})
	if err := r.Use(ctx, anna, config.Old, nil, nil); !errors.Is(err, down{}) {
		t.Errorf("%v", err)
	}
	if _, err := r.uses(bert, config.Old, ""); err == nil { // others do not wait
		t.Error("no error")
	}
	close(out)
	wg.Wait()
	if tries.Load() != 1 || len(r.turns) != 0 {
		t.Errorf("%d tries, %d turns left", tries.Load(), len(r.turns))
	}
}

type down struct{}

func (down) Error() string { return "ended" }

// TestRefusedWithoutStore: while the store takes nothing, a refused password is not tried again either.
func TestRefusedWithoutStore(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	err := r.Use(t.Context(), anna, config.Old, func(config.Secret) error {
		r.store.fail(op.ErrUnavailable)
		return errWrong
	}, func(error) bool { return true })
	var no *RefusedError
	if !errors.As(err, &no) {
		t.Errorf("%v", err)
	}
	r.store.fail(nil)
	tried, err := r.uses(anna, config.Old, "hunter2")
	if want(t, tried); !errors.As(err, &no) || !r.row(anna, config.Old).Refused[config.Old].IsZero() {
		t.Errorf("%v", err)
	}
	list, err := r.List(t.Context(), "")
	if err != nil || list[0].State != Refused {
		t.Errorf("%+v %v", list, err)
	}
	if !strings.Contains(r.log.String(), "not recorded") || strings.Contains(r.log.String(), "hunter2") {
		t.Errorf("log %s", r.log)
	}
}

// TestByTurns: who has two passwords for OLD and uses them by turns has each of them shown to NEW once, not with each login.
func TestByTurns(t *testing.T) {
	r := newRig(t)
	var all []string
	for range 5 {
		for _, password := range []string{"of-phone", "of-desk"} {
			r.login(anna, config.Old, config.IMAP, password)
			tried, err := r.uses(anna, config.New, "")
			if all = append(all, tried...); err == nil {
				t.Error("no error")
			}
		}
	}
	want(t, all, "of-phone", "of-desk")
}

// TestAllow: when a person says that a host was wrong, each password that it refused is tried once more.
func TestAllow(t *testing.T) {
	r := newRig(t)
	for _, user := range []string{anna, bert} {
		r.login(user, config.Old, config.IMAP, "hunter2")
		_, _ = r.uses(user, config.New, "")
	}
	r.store.fail(op.ErrUnavailable)
	if _, err := r.Allow(t.Context(), anna, "me", ""); !errors.Is(err, op.ErrUnavailable) {
		t.Error(err)
	}
	r.store.fail(nil)
	tried, _ := r.uses(anna, config.New, "")
	want(t, tried)
	if n, err := r.Allow(t.Context(), anna, "me", ""); n != 1 || err != nil {
		t.Error(n, err)
	}
	tried, _ = r.uses(bert, config.New, "")
	want(t, tried)
	for _, again := range []string{"hunter2", ""} {
		tried, _ = r.uses(anna, config.New, "")
		want(t, strings.Fields(strings.Join(tried, " ")), strings.Fields(again)...)
	}
	if n, err := r.Allow(t.Context(), "", "me", ""); n != 2 || err != nil {
		t.Error(n, err)
	}
	tried, err := r.uses(bert, config.New, "hunter2")
	if want(t, tried, "hunter2"); err != nil {
		t.Error(err)
	}
}
