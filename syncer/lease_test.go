package syncer_test

import (
	"errors"
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
	l := lab.Start(t)
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
