package main

import (
	"testing"

	"mailgate/config"
	"mailgate/imapwire"
)

// TestTermEndsAmidDeletes: what is deleted through a node whose term ends, behind the last write of proofs, is told to who leads next.
func TestTermEndsAmidDeletes(t *testing.T) {
	t.Parallel()
	const user = "user0@example.com"
	g := newFleet(t, 1, 1).gates[0]
	x, end := g.inside()
	defer end()
	g.until("it leads", func() bool { return x.term.Load() != nil })
	x.syncing.flipBegins(user) // so that his deletes are noted
	x.terms.Lock()
	term := x.term.Load()
	last := term.endProofs
	term.endProofs = func() {
		last()
		x.deleted(user, config.Old, 7, imapwire.Deletes{Mailbox: 5, Validity: 7, UIDs: imapwire.Spans{{First: 3, Last: 4}}, Most: 1})
	}
	x.terms.Unlock()
	x.stepDown()
	g.until("it is written down in the next term", func() bool {
		all, err := x.store.Proofs(t.Context())
		return err == nil && len(all[user]) > 0
	})
	if x.term.Load() == term {
		t.Error("the term has not ended")
	}
}
