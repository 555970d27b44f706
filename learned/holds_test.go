package learned

import (
	"testing"
	"testing/synctest"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// TestHolds: the password that was learned of a user at a side, and no other one's, while it is good and can be opened.
func TestHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.login(anna, config.Old, config.IMAP, "hunter2")
		holds := func(user string, side config.Side, password config.Secret, want bool) {
			t.Helper()
			if got := r.Holds(t.Context(), user, side, password); got != want {
				t.Errorf("%s on %s: %t", user, side, got)
			}
		}
		holds(anna, config.Old, "hunter2", true)
		holds(anna, config.Old, "hunter3", false)
		holds(anna, config.New, "hunter2", false)
		holds(bert, config.Old, "hunter2", false)
		r.store.fail(op.ErrUnavailable)
		holds(anna, config.Old, "hunter2", false)
		r.store.fail(nil)
		r.Configure(nil, life)
		holds(anna, config.Old, "hunter2", false)
		r.Configure(r.key, life)
		holds(anna, config.Old, "hunter2", true)
		if _, err := r.uses(anna, config.Old, "changed"); err == nil { // OLD refuses it by now
			t.Error("no error")
		}
		holds(anna, config.Old, "hunter2", false)
		r.login(bert, config.New, config.IMAP, "hunter3")
		holds(bert, config.New, "hunter3", true)
		time.Sleep(life)
		holds(bert, config.New, "hunter3", false)
	})
}
