package syncer_test

import (
	"strings"
	"testing"

	"mailgate/config"
	"mailgate/mailtest/lab"
	"mailgate/syncer"
)

// TestGapsCrowded: a look does not take the connection that a pass has, nor wait long for it: what it cannot ask is unknown.
func TestGapsCrowded(t *testing.T) {
	l := lab.Start(t, lab.MailboxesOnly())
	b := syncer.NewBudget(syncer.BudgetOptions{})
	b.Set([2]int{1, 1})
	r := newRig(t, l.Old, l.New, 1, func(o *syncer.Options) { o.Budget = b })
	release, err := b.Hold(t.Context(), config.Old, lab.User(2))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	got := r.gaps(t)
	if !strings.Contains(got[syncer.GapACL], "OLD could not be asked: "+syncer.ErrCrowded.Error()) || !strings.HasPrefix(got[syncer.GapACL], "unknown") {
		t.Errorf("acl: %s", got[syncer.GapACL])
	}
	for _, u := range b.Use() {
		if want := map[config.Side]int{config.Old: 1, config.New: 0}[u.Side]; u.Open > want {
			t.Errorf("%d connections to %s are left", u.Open, u.Side)
		}
	}
}
