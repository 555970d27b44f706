package store

import (
	"testing"
	"time"

	"mailgate/config"
	"mailgate/logins"
	"mailgate/op"
	"mailgate/syncer"
)

// keptRow is what is kept of a user with every field set, learned n hours after a time of old.
func keptRow(user string, n int) logins.Kept {
	at := alice.Since.Add(time.Duration(n) * time.Hour)
	return logins.Kept{User: user, Side: config.New, Protocol: config.POP3, Hash: logins.Hash(config.Secret(user)), Learned: at, Seen: at.Add(time.Minute),
		Expires: at.Add(24 * time.Hour), Hook: logins.HookState{Done: at.Add(time.Second), Tries: 3, Next: at.Add(2 * time.Second), Error: "exit status 1"}}
}

// conformLogins is what every logins.Store must do.
func conformLogins(t *testing.T, one, two syncer.Store) {
	t.Run("logins", func(t *testing.T) { conformRecords(t, one.(logins.Store), two.(logins.Store)) })
	t.Run("kept", func(t *testing.T) { conformKept(t, one.(logins.Store), two.(logins.Store), one.(op.Store)) })
	t.Run("refusals", func(t *testing.T) { conformRefusals(t, one.(logins.Store), two.(logins.Store), one.(op.Store)) })
}

// conformRecords: the first login stays, the last never goes back, each place by itself.
func conformRecords(t *testing.T, s, other logins.Store) {
	ctx := t.Context()
	list := func(user string, want ...logins.Login) {
		t.Helper()
		got, err := other.Logins(ctx, user)
		must(t, err)
		same(t, got, want)
	}
	at := alice.Since
	x := logins.Login{User: anna, Side: config.Old, Protocol: config.IMAP, First: at, Last: at}
	pop, onNew, berts := x, x, x
	pop.Protocol, onNew.Side, berts.User = config.POP3, config.New, bert
	list("")
	must(t, s.SaveLogins(ctx, nil))
	must(t, s.SaveLogins(ctx, []logins.Login{berts, onNew, pop, x}))
	list("", x, pop, onNew, berts)
	list(bert, berts)
	later := x
	later.First, later.Last = at.Add(time.Hour), at.Add(time.Hour)
	must(t, s.SaveLogins(ctx, []logins.Login{later}))
	x.Last = later.Last
	list(anna, x, pop, onNew)
	later.Last = at.Add(-time.Hour)
	must(t, s.SaveLogins(ctx, []logins.Login{later}))
	list(anna, x, pop, onNew)
}

// conformKept: one for each user, changed only as the one that was seen, and erased with its event.
func conformKept(t *testing.T, s, other logins.Store, history op.Store) {
	ctx := t.Context()
	list := func(user string, want ...logins.Kept) {
		t.Helper()
		got, err := other.Kept(ctx, user)
		must(t, err)
		same(t, got, want)
	}
	what := func(user string) (out []string) {
		t.Helper()
		events, err := history.History(ctx, op.HistoryFilter{User: user})
		must(t, err)
		for _, e := range events {
			out = append(out, e.What)
		}
		return out
	}
	list("")
	annas, berts := keptRow(anna, 2), keptRow(bert, 3)
	for _, k := range []logins.Kept{berts, keptRow(anna, 1), annas} {
		must(t, s.PutKept(ctx, k))
	}
	list("", annas, berts)
	list(bert, berts)

	there := func(want bool) func(bool, error) {
		return func(got bool, err error) {
			t.Helper()
			must(t, err)
			same(t, got, want)
		}
	}
	next := annas
	next.Side, next.Seen, next.Expires = config.Old, annas.Seen.Add(time.Hour), annas.Expires.Add(time.Hour)
	stale := next
	stale.Learned = next.Learned.Add(-1)
	there(false)(s.RenewKept(ctx, stale))
	list(anna, annas)
	there(true)(s.RenewKept(ctx, next))
	list(anna, next)

	next.Hook = logins.HookState{Tries: 1, Next: alice.Since, Error: "late"}
	stale.Hook = next.Hook
	there(false)(s.SetHook(ctx, stale, op.Event{User: anna, What: "no"}))
	there(true)(s.SetHook(ctx, next, op.Event{User: anna, What: "failed"}))
	list("", next, berts)
	same(t, what(anna), []string{"failed"})
	claim := func(k logins.Kept, now time.Time, want bool, is logins.Kept) {
		t.Helper()
		got, mine, err := s.ClaimHook(ctx, k, now, alice.Since.Add(time.Hour))
		must(t, err)
		same(t, mine, want)
		if !mine {
			same(t, got, is)
		}
	}
	claim(next, alice.Since.Add(-1), false, next) // it is not time yet
	claim(stale, alice.Since, false, logins.Kept{})
	claim(next, alice.Since, true, next)
	claimed := next
	claimed.Hook.Next = alice.Since.Add(time.Hour)
	claim(next, alice.Since, false, claimed) // by another one
	claimed.Hook = logins.HookState{Done: alice.Since}
	there(true)(s.SetHook(ctx, claimed))
	claim(next, alice.Since.Add(2*time.Hour), false, claimed)
	there(true)(s.SetHook(ctx, next))

	expire := func(now, unseen time.Time, want int) {
		t.Helper()
		n, err := s.ExpireKept(ctx, now, unseen)
		must(t, err)
		same(t, n, want)
	}
	long := alice.Since.Add(-time.Hour)
	expire(next.Expires.Add(-1), long, 0)
	expire(next.Expires, long, 2) // both end at the same moment
	must(t, s.PutKept(ctx, annas))
	expire(long, annas.Seen.Add(-1), 0)
	expire(long, annas.Seen, 1)
	list("")

	drop := func(user string, want int) {
		t.Helper()
		n, err := s.DropKept(ctx, user, op.Event{What: "erased", By: "me"})
		must(t, err)
		same(t, n, want)
	}
	must(t, s.PutKept(ctx, annas))
	must(t, s.PutKept(ctx, berts))
	drop("nobody@example.com", 0)
	drop(anna, 1)
	list("", berts)
	drop("", 1)
	drop("", 0)
	same(t, what(anna), []string{"erased", "failed"})
	same(t, what(bert), []string{"erased"})
	must(t, s.ScrubSecrets(ctx))
}

// conformRefusals: written and taken back place by place, with their events.
func conformRefusals(t *testing.T, s, other logins.Store, history op.Store) {
	ctx := t.Context()
	list := func(user string, want ...logins.Refusal) {
		t.Helper()
		got, err := other.Refusals(ctx, user)
		must(t, err)
		same(t, got, want)
	}
	r := logins.Refusal{User: anna, Side: config.New, Protocol: config.IMAP, First: alice.Since, Last: alice.Since.Add(time.Hour), Count: 7}
	pop, berts := r, r
	pop.Protocol, berts.User = config.POP3, bert
	list("")
	must(t, s.PutRefusal(ctx, berts))
	must(t, s.PutRefusal(ctx, pop))
	must(t, s.PutRefusal(ctx, r, op.Event{User: anna, What: "refused"}))
	list("", r, pop, berts)
	list(bert, berts)
	r.Count, r.Last, r.First = 8, r.Last.Add(1), r.First.Add(1)
	must(t, s.PutRefusal(ctx, r))
	list(anna, r, pop)
	for _, want := range []bool{true, false} {
		dropped, err := s.DropRefusal(ctx, r, op.Event{User: anna, What: "works"})
		must(t, err)
		same(t, dropped, want)
	}
	list("", pop, berts)
	events, err := history.History(ctx, op.HistoryFilter{User: anna})
	must(t, err)
	n := map[string]int{}
	for _, e := range events {
		n[e.What]++
	}
	if n["works"] != 1 || n["refused"] != 1 {
		t.Errorf("history: %v", n)
	}
}
