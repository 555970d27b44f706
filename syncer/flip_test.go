package syncer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/op"
	"mailgate/syncer"
)

// TestMovedUnderWay moves the user while a pass is under way: it does not carry on in the name of the side that decides no more.
func TestMovedUnderWay(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
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

// deathly is a store whose process dies when it has written down what it is about to expunge.
type deathly struct {
	syncer.Store
	die atomic.Bool
}

func (d *deathly) Apply(ctx context.Context, c syncer.Change) (syncer.Applied, error) {
	a, err := d.Store.Apply(ctx, c)
	for _, in := range c.AddIntents {
		if err == nil && in.Kind == syncer.IntentExpunge && d.die.CompareAndSwap(true, false) {
			return syncer.Applied{}, op.ErrUnavailable
		}
	}
	return a, err
}

// TestDeletesDieWithTheirEpoch moves the user after a delete was written down, and before it was carried out: the mail stands on the side
// that decides now, which has never heard of it.
func TestDeletesDieWithTheirEpoch(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	var epoch atomic.Int64
	var store *deathly
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) {
		o.Route = func(context.Context, string) (config.Side, int64, error) {
			n := epoch.Load()
			return config.Side(n % 2), n, nil
		}
		store = &deathly{Store: o.Store}
		o.Store = store
	})
	x := lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", "", 0, 6)
	r.pass(t)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 1 +FLAGS (\Deleted)`)
	x.Do("UID EXPUNGE 1")
	x.Close()
	store.die.Store(true)
	if _, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{}); !errors.Is(err, op.ErrUnavailable) {
		t.Fatal(err)
	}
	epoch.Store(1)
	r.pass(t)
	r.pass(t)
	if n := r.messages(t); n != [2]int{6, 6} {
		t.Errorf("messages: %v", n)
	}
	r.same(t)
}
