package syncer_test

import (
	"testing"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestKeptConnections keeps connections between passes: what they have open is of the pass before, and must not be taken for what is
// there now.
func TestKeptConnections(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Keep = time.Minute })
	x := lab.Dial(t, l.Old, 1)
	fill(x, "INBOX", "", 0, 10)
	r.pass(t)
	for i := range 5 {
		fill(x, "INBOX", "", 100+10*i, 2)
		if rep := r.pass(t); rep.Copied[config.New] != 2 {
			t.Errorf("pass %d: %d copied, want 2", i, rep.Copied[config.New])
		}
	}
	r.same(t)
	x.Do(`CREATE "INBOX.Again"`)
	for i := range 4 {
		fill(x, "INBOX.Again", "", 200+10*i, 3+i)
		if rep := r.pass(t); rep.Copied[config.New] != int64(3+i) {
			t.Errorf("folder %d: %d copied of %d", i, rep.Copied[config.New], 3+i)
		}
		x.Do(`DELETE "INBOX.Again"`)
		x.Do(`CREATE "INBOX.Again"`)
	}
	r.pass(t)
	x.Close()
}
