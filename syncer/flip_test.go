package syncer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestMovedUnderWay moves the user while a pass is under way: it does not carry on in the name of the side that decides no more.
func TestMovedUnderWay(t *testing.T) {
	l := lab.Start(t)
	var epoch atomic.Int64
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) {
		o.Route = func(context.Context, string) (config.Side, int64, error) {
			n := epoch.Load()
			return config.Side(n % 2), n, nil
		}
	})
	x := lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", "", 0, 6)
	r.pass(t)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 1 +FLAGS (\Deleted)`)
	x.Do("UID EXPUNGE 1")
	x.Do(`UID STORE 2 +FLAGS (\Seen)`)
	x.Close()
	for _, phase := range []string{"scan", "copy", "changes"} {
		epoch.Store(0)
		rep, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Progress: func(g syncer.Progress) {
			if g.Phase == phase {
				epoch.Store(1)
			}
		}})
		if !errors.Is(err, syncer.ErrMoved) || rep.Expunged != [2]int64{} {
			t.Errorf("moved at %s: %+v %v", phase, rep, err)
		}
	}
	if n := r.snapshot(t, config.New).Messages(); n != 6 {
		t.Errorf("NEW has %d messages", n)
	}
}
