package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/faulty"
	"mailgate/syncer"
)

// TestCopyGivesWay: a first copy that is asked to give way ends between two runs, with nothing left open, keeps its connections, and is
// resumed where it was until all is there once.
func TestCopyGivesWay(t *testing.T) {
	const messages = 9000
	w := newFaultyWorld(t, faulty.Dovecot(), faulty.Cyrus(), 1, func(o *syncer.Options) {
		o.Batch, o.Connections, o.Keep = 64, 1, time.Minute
	})
	old := w.hosts[config.Old].Account
	for i := range messages {
		old.Append("INBOX", nil, time.Now(), fmt.Appendf(nil, "Subject: %d\r\nMessage-ID: <%d@x>\r\n\r\nx\r\n", i, i))
	}
	var yielded, carried atomic.Int64
	k := syncer.NewKeeper(syncer.KeeperOptions{Passes: 1, Slice: time.Millisecond, Busy: time.Millisecond, Soon: time.Millisecond,
		Pass: func(ctx context.Context, user string, _ bool) (bool, error) {
			if user == "other" {
				carried.Add(1)
				return true, nil
			}
			rep, err := w.Run(ctx, user, syncer.RunOptions{})
			if errors.Is(err, syncer.ErrYielded) {
				yielded.Add(1)
				if rep.Copied[config.New] == 0 {
					t.Error("it gave way and had copied nothing")
				}
				if open, err := w.store.Intents(t.Context(), user); err != nil || len(open) > 0 {
					t.Errorf("left open: %v, %v", open, err)
				}
				if len(rep.Errors)+len(rep.Quarantine) > 0 {
					t.Errorf("%+v", rep)
				}
			} else if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			return true, err
		}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	k.Keep([]string{"other", "user"}, nil)
	k.Through("other")
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s, _ := k.State("user"); s.Phase == "converged" {
			break
		}
		k.Hint("other")
	}
	cancel()
	wg.Wait()
	if n := yielded.Load(); n < 2 || carried.Load() < n {
		t.Errorf("it gave way %d times, and %d passes were made meanwhile", n, carried.Load())
	}
	if rep, err := w.pass(t); err != nil || rep.Copied != [2]int64{} || rep.Pairs != messages {
		t.Errorf("%v: %+v", err, rep)
	}
	logins := 0
	for _, line := range w.hosts[config.New].Trace() {
		if strings.Contains(line, " LOGIN ") || strings.Contains(line, " AUTHENTICATE ") {
			logins++
		}
	}
	if logins == 0 || logins > 2 {
		t.Errorf("%d logins", logins)
	}
}
