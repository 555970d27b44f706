package syncer_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/op"
	"mailgate/syncer"
)

// brittle is a store that fails from some write on, as on a full disk, until it is mended; or whose answer to that write is lost.
type brittle struct {
	syncer.Store
	mu     sync.Mutex
	writes int // so far
	from   int // fails from this one on; 0 means never
	lost   bool
}

func (b *brittle) Apply(ctx context.Context, c syncer.Change) (syncer.Applied, error) {
	b.mu.Lock()
	b.writes++
	fails := b.from > 0 && b.writes >= b.from
	done := fails && b.lost && b.writes == b.from
	b.mu.Unlock()
	if !fails {
		return b.Store.Apply(ctx, c)
	}
	if done {
		if _, err := b.Store.Apply(ctx, c); err != nil {
			return syncer.Applied{}, err
		}
	}
	return syncer.Applied{}, fmt.Errorf("the disk is full: %w", op.ErrUnavailable)
}

func (b *brittle) fail(from int, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes, b.from, b.lost = 0, from, lost
}

// everyWrite runs a scenario with the store failing at each of its writes in turn; prepare begins it anew, check judges it when the
// store works again.
func everyWrite(t *testing.T, prepare func() (*rig, *brittle), check func(what string)) {
	t.Helper()
	for _, lost := range []bool{false, true} {
		for n := 1; ; n++ {
			what := fmt.Sprintf("write %d failed (done nevertheless: %t)", n, lost)
			r, b := prepare()
			b.fail(n, lost)
			_, err := r.Run(t.Context(), lab.User(r.n), syncer.RunOptions{Deletes: true})
			b.mu.Lock()
			failed := b.writes >= n
			b.mu.Unlock()
			b.fail(0, false)
			if failed && err == nil {
				t.Errorf("%s, and the pass says nothing", what)
			}
			if !failed && err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			for good, tries := 0, 0; good < 2; tries++ {
				rep, err := r.Run(t.Context(), lab.User(r.n), syncer.RunOptions{Deletes: true})
				if err == nil && len(rep.Errors) == 0 {
					good++
				} else if good = 0; tries > 5 {
					t.Fatalf("%s: %v %+v", what, err, rep)
				}
			}
			check(what)
			if !failed {
				t.Logf("%d writes", n-1)
				break
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestStoreFails has the store fail at every write of a pass that copies, changes, moves, deletes and renames.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	var r *rig
	everyWrite(t, func() (*rig, *brittle) {
		l.Reset(t, 1)
		var b *brittle
		r = newRig(t, l.Old, l.New, 1, func(o *syncer.Options) {
			b = &brittle{Store: o.Store}
			o.Store = b
		})
		x := lab.Dial(t, l.Old, 1)
		x.Do(`CREATE "INBOX.Work"`)
		fill(x, "INBOX", "", 0, 6)
		fill(x, "INBOX.Work", `\Flagged Label`, 10, 3)
		r.pass(t)
		x.Do("SELECT INBOX")
		x.Do(`UID STORE 1 +FLAGS (\Answered Other)`)
		x.Do(`CREATE "INBOX.Other"`)
		x.Do(`UID MOVE 3 "INBOX.Other"`)
		x.Do(`UID STORE 4 +FLAGS (\Deleted)`)
		x.Do(`UID EXPUNGE 4`)
		fill(x, "INBOX", "", 20, 3)
		x.Do(`RENAME "INBOX.Work" "INBOX.Arbeit"`)
		x.Close()
		y := lab.Dial(t, l.New, 1)
		y.Append("INBOX", `\Seen`, letter(30)) // a straggler
		y.Do("SELECT INBOX")
		y.Do(`UID STORE 2 +FLAGS (\Flagged)`)
		y.Close()
		return r, b
	}, func(what string) {
		t.Helper()
		old, new := r.snapshot(t, config.Old), r.snapshot(t, config.New)
		if old.Messages() != 6-1+3+3+1 {
			t.Errorf("%s: OLD has %d messages", what, old.Messages())
		}
		for _, d := range corpus.Diff(old, new, corpus.DiffOptions{NoSubscriptions: true}) {
			t.Errorf("%s: %s", what, d)
		}
	})
}

// TestStoreFailsAtReset has it fail while a mailbox that began anew is paired again: what the side that decides has lost neither comes
// back there nor goes here.
func TestStoreFailsAtReset(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	var r *rig
	everyWrite(t, func() (*rig, *brittle) {
		l.Reset(t, 1)
		var b *brittle
		r = newRig(t, l.Old, l.New, 1, func(o *syncer.Options) {
			b = &brittle{Store: o.Store}
			o.Store = b
		})
		x := lab.Dial(t, l.Old, 1)
		fill(x, "INBOX", "", 0, 8)
		x.Close()
		r.pass(t)
		home := filepath.Join(l.Old.Home(1), "Maildir")
		lists, _ := filepath.Glob(filepath.Join(home, "dovecot*"))
		mail, _ := filepath.Glob(filepath.Join(home, "[cn][ue][rw]", "[0-9]*"))
		for _, f := range append(lists, mail[:2]...) {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
		return r, b
	}, func(what string) {
		t.Helper()
		if old, new := r.snapshot(t, config.Old).Messages(), r.snapshot(t, config.New).Messages(); old != 6 || new != 8 {
			t.Errorf("%s: %d messages on OLD, %d on NEW", what, old, new)
		}
	})
}
