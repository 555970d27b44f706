package syncer_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestCancelled ends passes at many moments: each ends soon and says why, and the next ones go on where it was.
func TestCancelled(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	// A host that is busy stores what it was given later than other tests wait for; what comes late is set aside, not doubled.
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Settle = time.Second })
	x := lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", `\Seen Label`, 0, 200)
	x.Do(`CREATE "INBOX.Work"`)
	fill(x, "INBOX.Work", "", 300, 100)
	why := errors.New("enough")
	total, ended := 300, 0
	span := 400 // what a pass tells of itself until its end
	for i := range 25 {
		ctx, cancel := context.WithCancelCause(t.Context())
		n, stop := 0, 1+rand.IntN(span)
		timer := time.AfterFunc(time.Duration(rand.IntN(150))*time.Millisecond, func() {
			if i%2 == 1 {
				cancel(why)
			}
		})
		began := time.Now()
		_, err := r.Run(ctx, lab.User(1), syncer.RunOptions{Progress: func(syncer.Progress) {
			if n++; n == stop && i%2 == 0 {
				cancel(why)
			}
		}})
		timer.Stop()
		if err != nil {
			ended++
		} else {
			span = max(1, n)
		}
		if err != nil && !errors.Is(err, why) {
			t.Errorf("%d: %v", i, err)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%d took %s", i, took)
		}
		cancel(nil)
		fill(x, "INBOX", "", 1000+10*i, 3)
		x.Do("SELECT INBOX")
		uids := x.UIDs()
		x.Do(`UID STORE %d +FLAGS (\Answered)`, uids[rand.IntN(len(uids))])
		x.Do(`UID STORE %d +FLAGS (\Deleted)`, uids[i])
		x.Do(`UID EXPUNGE %d`, uids[i])
		x.Do(`UID MOVE %d "INBOX.Work"`, uids[len(uids)-1-i])
		total += 2
	}
	x.Close()
	t.Logf("%d passes were ended", ended)
	if ended < 3 {
		t.Errorf("only %d passes were ended", ended)
	}
	for range 3 {
		r.pass(t)
	}
	r.same(t)
	r.quiet(t)
	for _, d := range corpus.Diff(r.snapshot(t, config.Old), r.snapshot(t, config.New), corpus.DiffOptions{NoSubscriptions: true}) {
		t.Error(d)
	}
	if n := r.messages(t); n != [2]int{total, total} {
		t.Errorf("messages: %v, want %d", n, total)
	}
}
