package store

import (
	"crypto/rand"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/learned"
	"mailgate/op"
	"mailgate/syncer"
)

// learnedRow is a row with every field set, learned n hours after a time of old; what is sealed is age's by its header only.
func learnedRow(user string, side config.Side, n int) learned.Row {
	body := make([]byte, 470)
	_, _ = rand.Read(body)
	at := alice.Since.Add(time.Duration(n) * time.Hour)
	return learned.Row{User: user, Side: side, Sealed: append([]byte("age-encryption.org/v1\n"), body...), Learned: at, Seen: at.Add(time.Minute),
		Expires: at.Add(24 * time.Hour), Refused: [2]time.Time{at.Add(time.Second), at.Add(2 * time.Second)}}
}

// conformLearned is what every learned.Store must do: one row for each user and side, changed only as the one that was seen.
func conformLearned(t *testing.T, one, two syncer.Store) {
	ctx := t.Context()
	s, other := one.(learned.Store), two.(learned.Store)
	history := func(user string) (what []string) {
		t.Helper()
		events, err := one.(op.Store).History(ctx, op.HistoryFilter{User: user})
		must(t, err)
		for _, e := range events {
			what = append(what, e.What)
		}
		return what
	}
	list := func(user string, want ...learned.Row) {
		t.Helper()
		got, err := other.Secrets(ctx, user)
		must(t, err)
		same(t, got, want)
	}
	list("")
	old, new, bertOld := learnedRow(anna, config.Old, 1), learnedRow(anna, config.New, 2), learnedRow(bert, config.Old, 3)
	for _, r := range []learned.Row{bertOld, new, learnedRow(anna, config.Old, 0), old} {
		must(t, s.PutSecret(ctx, r))
	}
	list("", old, new, bertOld)
	list(anna, old, new)
	list("nobody@example.com")

	// Renewed, and refused, is only what was seen.
	old.Seen, old.Expires = old.Seen.Add(time.Hour), old.Expires.Add(time.Hour)
	stale := old
	stale.Learned, stale.Seen = old.Learned.Add(-time.Hour), old.Seen.Add(time.Hour)
	for r, want := range map[*learned.Row]bool{&old: true, &stale: false} {
		there, err := s.RenewSecret(ctx, *r)
		must(t, err)
		same(t, there, want)
	}
	bertOld.Refused = [2]time.Time{}
	must(t, s.PutSecret(ctx, bertOld))
	at := bertOld.Learned.Add(time.Hour)
	refuse := func(r learned.Row, want bool) {
		t.Helper()
		changed, err := s.RefuseSecret(ctx, r, config.New, at, op.Event{User: bert, What: "refused"})
		must(t, err)
		same(t, changed, want)
	}
	stale = bertOld
	stale.Learned = stale.Learned.Add(1)
	refuse(stale, false)
	refuse(bertOld, true)
	refuse(bertOld, false)
	bertOld.Refused[config.New] = at
	list("", old, new, bertOld)
	same(t, history(bert), []string{"refused"})

	// Refusals are taken back, of one and of all; that is no other password.
	allow := func(user string, want int) {
		t.Helper()
		n, err := s.AllowSecrets(ctx, user, op.Event{What: "allowed", By: "me"})
		must(t, err)
		same(t, n, want)
	}
	allow("nobody@example.com", 0)
	allow(bert, 1)
	allow(bert, 0)
	bertOld.Refused = [2]time.Time{}
	list("", old, new, bertOld)
	allow("", 2)
	old.Refused, new.Refused = [2]time.Time{}, [2]time.Time{}
	list("", old, new, bertOld)
	same(t, history(bert), []string{"allowed", "refused"})
	same(t, history(anna), []string{"allowed"})
	refuse(bertOld, true)
	bertOld.Refused[config.New] = at

	// What is over goes; the moment itself is over.
	long := alice.Since.Add(-time.Hour)
	n, err := s.ExpireSecrets(ctx, old.Expires.Add(-1), long)
	must(t, err)
	same(t, n, 0)
	n, err = s.ExpireSecrets(ctx, old.Expires, long)
	must(t, err)
	same(t, n, 2) // new's is the same moment
	list("", bertOld)

	unseen := learnedRow("carol@example.com", config.New, 1)
	must(t, s.PutSecret(ctx, unseen))
	for want, at := range []time.Time{unseen.Seen.Add(-1), unseen.Seen} {
		n, err = s.ExpireSecrets(ctx, long, at)
		must(t, err)
		same(t, n, want)
	}
	list("", bertOld)

	// Erased on request: a user's, and everybody's, each with its event.
	must(t, s.PutSecret(ctx, old))
	must(t, s.PutSecret(ctx, new))
	drop := func(user string, want int) {
		t.Helper()
		n, err := s.DropSecrets(ctx, user, op.Event{What: "erased", By: "me"})
		must(t, err)
		same(t, n, want)
	}
	drop("nobody@example.com", 0)
	drop(anna, 2)
	drop(anna, 0)
	list("", bertOld)
	must(t, s.PutSecret(ctx, new))
	drop("", 2)
	drop("", 0)
	list("")
	same(t, history(anna), []string{"erased", "erased", "allowed"})
	same(t, history(bert), []string{"erased", "refused", "allowed", "refused"})
	must(t, s.ScrubSecrets(ctx))
}
