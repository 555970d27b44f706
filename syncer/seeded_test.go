package syncer_test

import (
	"testing"

	"mailgate/config"
	"mailgate/mailtest/corpus"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestSeededTarget begins with a NEW that another tool has filled in part: what is there is paired, twins one by one, and
// nothing is doubled. And a store that was lost comes to the same.
func TestSeededTarget(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	mail := corpus.Mailbox(400, 6, 3, corpus.Options{Mean: 1500, Plain: true})
	corpus.Load(t, l.Old, 1, mail)
	first := newRig(t, l.Old, l.New, 1, nil)
	first.pass(t)
	x := lab.Dial(t, l.New, 1)
	x.Do("SELECT INBOX")
	x.Do(`UID STORE 1:10 +FLAGS (\Deleted)`)
	x.Do("UID EXPUNGE 1:10") // the other tool was not through
	x.Do(`UID STORE 11:15 +FLAGS (\Flagged)`)
	x.Close()
	want := first.snapshot(t, config.Old)

	r := newRig(t, l.Old, l.New, 1, nil) // with an empty store
	rep := r.pass(t)
	if rep.Paired != 390 || rep.Copied != [2]int64{0, 10} {
		t.Errorf("%d paired, %v copied; want 390 and 10", rep.Paired, rep.Copied)
	}
	r.same(t)
	for side := range config.Sides {
		for _, d := range corpus.Diff(want, r.snapshot(t, config.Side(side)), corpus.DiffOptions{OnlyB: func(_ corpus.Path, c *corpus.Contents) bool { return c.Count == 0 }}) {
			t.Errorf("side %d: %s", side, d)
		}
	}
	r.pass(t)
	r.quiet(t)
}

// TestLargeMessage streams a message of 100 MB.
func TestLargeMessage(t *testing.T) {
	t.Parallel()
	l := lab.Start(t, lab.MailboxesOnly())
	r := newRig(t, l.Old, l.New, 2, nil)
	m := corpus.LargeMessage(100 << 20)
	corpus.Load(t, l.Old, 2, []corpus.Folder{{Levels: []string{"INBOX"}, Count: 1, Messages: func(yield func(corpus.Message) bool) { yield(m) }}})
	rep, err := r.Run(t.Context(), lab.User(2), syncer.RunOptions{})
	if err != nil || rep.Copied[config.New] != 1 || rep.Bytes[config.New] < 100<<20 {
		t.Fatalf("%+v %v", rep, err)
	}
	r.same(t)
}
