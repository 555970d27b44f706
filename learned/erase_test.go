package learned

import (
	"errors"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestForgetLeaves: what may be left in files is told, beside what was erased, and seen to by the next look for what is over.
func TestForgetLeaves(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	r.store.left = op.ErrUnavailable
	n, err := r.Forget(t.Context(), anna, "me", "")
	if n != 1 || !errors.Is(err, ErrLeft) || !errors.Is(err, op.ErrUnavailable) || len(r.store.rows) != 0 {
		t.Errorf("%d, %v", n, err)
	}
	r.tidy(t.Context())
	r.store.left = nil
	r.tidy(t.Context())
	r.tidy(t.Context())
	if r.store.scrubs != 3 {
		t.Errorf("%d scrubs", r.store.scrubs)
	}
}

// TestReplacedIsErased: of a password in whose place another one came nothing is left either, within the hour.
func TestReplacedIsErased(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	r.tidy(t.Context())
	if r.store.scrubs != 0 {
		t.Errorf("%d scrubs for nothing", r.store.scrubs)
	}
	r.login(anna, config.Old, config.IMAP, "hunter3")
	r.tidy(t.Context())
	if r.store.scrubs != 1 {
		t.Errorf("%d scrubs", r.store.scrubs)
	}
}

// TestList: the states of rows, of all and of one.
func TestList(t *testing.T) {
	r := newRig(t)
	r.login(anna, config.Old, config.IMAP, "hunter2")
	r.login(anna, config.New, config.IMAP, "hunter3")
	r.login(bert, config.Old, config.IMAP, "hunter4")
	r.login("carol@example.com", config.Old, config.IMAP, "hunter5")
	_, _ = r.uses(anna, config.New, "")
	r.store.mu.Lock()
	r.store.find(bert, config.Old).Expires = time.Now()
	x := r.store.find("carol@example.com", config.Old)
	x.Sealed = r.store.find(bert, config.Old).Sealed
	r.store.mu.Unlock()
	list, err := r.List(t.Context(), "")
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	for i, want := range []struct {
		state   State
		refused int
	}{{Usable, 1}, {Refused, 1}, {Expired, 0}, {OtherKey, 0}} {
		if list[i].State != want.state || len(list[i].Refused) != want.refused {
			t.Errorf("%d: %+v, want %+v", i, list[i], want)
		}
	}
	if list, err = r.List(t.Context(), anna); err != nil || len(list) != 2 || list[1].Side != config.New {
		t.Errorf("%+v %v", list, err)
	}
}
