package syncer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/mailtest/lab"
	"mailgate/store"
	"mailgate/syncer"
)

// lockedStore is one that cannot be written any more once it is locked: who tries waits for as long as he may.
type lockedStore struct {
	*store.SQLite
	locked atomic.Bool
	began  atomic.Pointer[time.Time]
	last   atomic.Pointer[time.Time] // the latest deadline
}

func (s *lockedStore) hang(ctx context.Context) error {
	now := time.Now()
	s.began.CompareAndSwap(nil, &now)
	if end, ok := ctx.Deadline(); ok {
		s.last.Store(&end)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (s *lockedStore) SaveRun(ctx context.Context, r syncer.Run) (int64, error) {
	if s.locked.Load() {
		return 0, s.hang(ctx)
	}
	return s.SQLite.SaveRun(ctx, r)
}

func (s *lockedStore) Release(ctx context.Context, user string, token int64) error {
	if s.locked.Load() {
		return s.hang(ctx)
	}
	return s.SQLite.Release(ctx, user, token)
}

// TestPassEnds: what a pass still does when it was told to end is bounded as a whole, though both hosts say nothing any more and the store
// is locked; and it is cut short at once when the program is to end.
func TestPassEnds(t *testing.T) {
	l := lab.Start(t, lab.MailboxesOnly())
	for name, c := range map[string]struct {
		n    int
		cut  time.Duration
		most time.Duration
	}{"as a whole": {1, time.Hour, 9 * time.Second}, "cut short": {2, 500 * time.Millisecond, 2500 * time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relays := [2]*relay{newRelay(t, lab.Addr(l.Old.IMAP)), newRelay(t, lab.Addr(l.New.IMAP))}
			hosts := [2]lab.Host{l.Old, l.New}
			for side := range hosts {
				hosts[side].IMAP = relays[side].port()
			}
			enough, cut := context.WithCancel(context.Background())
			defer cut()
			st := &lockedStore{}
			r := newRig(t, hosts[0], hosts[1], c.n, func(o *syncer.Options) {
				st.SQLite = o.Store.(*store.SQLite)
				o.Store, o.Enough, o.Keep = st, enough, time.Minute
			})
			r.pass(t)
			for _, x := range relays {
				x.breaks("", "LIST")
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			told := errors.New("of a test")
			time.AfterFunc(500*time.Millisecond, func() {
				st.locked.Store(true)
				time.AfterFunc(c.cut, cut)
				cancel(told)
			})
			began := time.Now()
			_, err := r.Run(ctx, lab.User(c.n), syncer.RunOptions{})
			if took := time.Since(began) - 500*time.Millisecond; !errors.Is(err, told) || took > c.most {
				t.Errorf("%v, and it took %s", err, took)
			}
			if all := st.last.Load().Sub(*st.began.Load()); all > 5*time.Second {
				t.Errorf("all together may take %s", all)
			}
		})
	}
}
