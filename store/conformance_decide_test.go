package store

import (
	"context"
	"slices"
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

// conformDecide: what a person has decided is written whoever owns the account, with its event; a pass that has read the message
// before does not undo it, and one that has read it does.
func conformDecide(t *testing.T, s, two syncer.Store) {
	ctx := t.Context()
	c, a := fillSyncer(t, s)
	at := alice.Since.Add(time.Hour)
	before := dumpSyncer(t, s)
	read := before[anna].Quarantine
	decide := func(d syncer.Decision, by string, at time.Time, list ...syncer.Quarantined) int {
		t.Helper()
		list = slices.Clone(list)
		for i := range list {
			list[i].Decision, list[i].By, list[i].Decided = d, by, at
		}
		n, err := two.Decide(ctx, anna, list, op.Event{User: anna, What: "decided", By: by})
		must(t, err)
		return n
	}
	kept := func(want ...syncer.Quarantined) {
		t.Helper()
		got, err := s.Quarantine(ctx, anna)
		must(t, err)
		same(t, got, want)
	}
	gone := read[0]
	gone.UID = 4711
	same(t, decide(syncer.Waived, "me", at, read[0], gone), 1)
	waived := read[0]
	waived.Decision, waived.By, waived.Decided = syncer.Waived, "me", at
	kept(waived, read[1])

	// A pass that knows nothing of it counts a try, and lets nothing else go.
	tried := read[0]
	tried.Tries, tried.Detail = 7, "NO again"
	_, err := s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, Quarantine: []syncer.Quarantined{tried}})
	must(t, err)
	waived.Tries, waived.Detail = 7, "NO again"
	kept(waived, read[1])

	// One that knows it has the word.
	tried.Decision, tried.By, tried.Decided = syncer.Undecided, "me", at
	_, err = s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, Quarantine: []syncer.Quarantined{tried}})
	must(t, err)
	kept(tried, read[1])

	// A clock that is behind: the later decision is later all the same.
	same(t, decide(syncer.Retry, "you", at.Add(-time.Minute), tried), 1)
	late := tried
	late.Decision, late.By, late.Decided = syncer.Retry, "you", at.Add(1)
	kept(late, read[1])
	_, err = s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, Quarantine: []syncer.Quarantined{tried}})
	must(t, err)
	kept(late, read[1])

	// Nobody decides for others, and what is not written whole is not written.
	n, err := two.Decide(ctx, bert, []syncer.Quarantined{{Mailbox: late.Mailbox, Side: late.Side, Validity: late.Validity, UID: late.UID}})
	must(t, err)
	same(t, n, 0)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := two.Decide(ended, anna, []syncer.Quarantined{late}); err == nil {
		t.Error("decided though the context has ended")
	}
	kept(late, read[1])
	history, err := s.(op.Store).History(ctx, op.HistoryFilter{User: anna})
	must(t, err)
	var by []string
	for _, e := range history {
		if e.What == "decided" {
			by = append(by, e.By)
		}
	}
	same(t, by, []string{"you", "me"})

	// What is released is forgotten with what was decided about it.
	_, err = s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, Release: []syncer.Quarantined{late}})
	must(t, err)
	kept(read[1])
	_, err = s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, Quarantine: []syncer.Quarantined{read[0]}})
	must(t, err)
	kept(read[0], read[1])
	same(t, len(a.Mailboxes), 2)
}
