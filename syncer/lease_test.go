package syncer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestOwner makes passes that take longer than the lease on the account, which has to be renewed under way; and has another
// process take the account, which has to end the pass.
func TestOwner(t *testing.T) {
	l := lab.Start(t, lab.MailboxesOnly())
	behind := newRelay(t, lab.Addr(l.New.IMAP))
	slow := l.New
	slow.IMAP = behind.port()
	r := newRig(t, l.Old, slow, 1, func(o *syncer.Options) { o.Lease = 120 * time.Millisecond })
	corpus.Load(t, l.Old, 1, corpus.Mailbox(3000, 12, 1, corpus.Options{Mean: 8000, Plain: true}))
	behind.set(fault{lateAt: "never", up: 1 << 40, late: 60 * time.Millisecond})
	rep := r.pass(t)
	if rep.Took < 200*time.Millisecond || rep.Copied[config.New] != 3000 {
		t.Errorf("the pass was to take longer than the lease: %s, %d copied", rep.Took, rep.Copied[config.New])
	}
	if _, err := r.store.Acquire(t.Context(), lab.User(1), "another", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{}); !errors.Is(err, syncer.ErrFenced) {
		t.Errorf("while another process has the account: %v", err)
	}
}

// sleeper is a store that a process cannot reach while it is asleep: its renewals wait, as everything does.
type sleeper struct {
	syncer.Store
	mu     sync.Mutex
	asleep chan struct{}
}

func (s *sleeper) Acquire(ctx context.Context, user, owner string, ttl time.Duration) (int64, error) {
	s.mu.Lock()
	asleep := s.asleep
	s.mu.Unlock()
	if asleep != nil {
		<-asleep
	}
	return s.Store.Acquire(ctx, user, owner, ttl)
}

// TestOwnerWakes has a process sleep in the middle of a pass for longer than its lease, while another one takes the account, does all
// that there is to do, and gives it back. Whoever wakes must not go on: it would copy everything again.
func TestOwnerWakes(t *testing.T) {
	l := lab.Start(t, lab.MailboxesOnly())
	x := lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", "", 0, 20)
	x.Close()
	var store *sleeper
	lease := 300 * time.Millisecond
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) {
		store = &sleeper{Store: o.Store}
		o.Store, o.Lease = store, lease
	})
	other := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Store, o.Owner = store.Store, "another" })
	awake := make(chan struct{})
	_, err := r.Run(t.Context(), lab.User(1), syncer.RunOptions{Progress: func(g syncer.Progress) {
		if g.Phase != "copy" || store.asleep != nil {
			return
		}
		store.mu.Lock()
		store.asleep = awake
		store.mu.Unlock()
		time.Sleep(2 * lease)
		if rep := other.pass(t); rep.Copied != [2]int64{0, 20} {
			t.Errorf("the other one: %+v", rep)
		}
		close(awake)
		time.Sleep(lease)
	}})
	if !errors.Is(err, syncer.ErrFenced) {
		t.Errorf("the one who slept: %v", err)
	}
	for range 2 {
		other.pass(t)
	}
	other.quiet(t)
	for _, side := range config.Sides {
		if a := other.snapshot(t, side); a.Messages() != 20 {
			t.Errorf("%s has %d messages", side, a.Messages())
		}
	}
}
