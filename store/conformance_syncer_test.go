package store

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// both is what a store implements.
type both interface {
	op.Store
	syncer.Store
}

// conformSyncer is what every syncer.Store must do. open gives a fresh store, and a second opening of the same where
// several processes may have it.
func conformSyncer(t *testing.T, open func(*testing.T) (one, two both), reopen func(*testing.T, both) both) {
	for name, f := range map[string]func(t *testing.T, one, two syncer.Store){
		"lease": conformLease, "lease races": conformLeaseRace, "apply": conformApply, "apply is whole or not at all": conformApplyWhole,
		"apply races": conformApplyRace, "mailboxes of others": conformOthers, "dropped mailbox": conformDrop,
		"decisions": conformDecide, "pauses": conformPauses, "learned passwords": conformLearned, "known addresses": conformKnown, "logins": conformLogins, "gaps": conformGaps, "gates": conformGates, "verified": conformVerified, "scripts": conformScripts, "runs": conformRuns, "runs race": conformRunsRace,
		"a clock set back": conformClockBack, "profiles": conformProfiles, "a cancelled context": conformSyncerCancelled,
	} {
		t.Run(name, func(t *testing.T) {
			one, two := open(t)
			defer one.Close()
			if two != one {
				defer two.Close()
			}
			f(t, one, two)
		})
	}
	t.Run("everything is there after reopening", func(t *testing.T) {
		one, two := open(t)
		if two != one {
			must(t, two.Close())
		}
		fillSyncer(t, one)
		before := dumpSyncer(t, one)
		one = reopen(t, one)
		defer func() { one.Close() }()
		same(t, dumpSyncer(t, one), before)
	})
}

const (
	anna = "anna@example.com"
	bert = "bert@example.com"
)

// everything is what a syncer.Store holds of a user.
type everything struct {
	Mailboxes  []syncer.Mailbox
	Chunks     []syncer.Chunk
	Intents    []syncer.Intent
	Quarantine []syncer.Quarantined
	Runs       []syncer.Run
	Scripts    []syncer.Script
}

func dumpSyncer(t *testing.T, s syncer.Store) map[string]everything {
	t.Helper()
	ctx, all := t.Context(), map[string]everything{}
	for _, user := range []string{anna, bert} {
		var e everything
		var err error
		e.Mailboxes, err = s.Mailboxes(ctx, user)
		must(t, err)
		for _, m := range e.Mailboxes {
			chunks, err := s.Chunks(ctx, m.ID)
			must(t, err)
			e.Chunks = append(e.Chunks, chunks...)
		}
		e.Intents, err = s.Intents(ctx, user)
		must(t, err)
		e.Quarantine, err = s.Quarantine(ctx, user)
		must(t, err)
		e.Runs, err = s.Runs(ctx, user, 0)
		must(t, err)
		e.Scripts, err = s.Scripts(ctx, user)
		must(t, err)
		all[user] = e
	}
	return all
}

func acquire(t *testing.T, s syncer.Store, user, owner string) int64 {
	t.Helper()
	token, err := s.Acquire(t.Context(), user, owner, time.Minute)
	must(t, err)
	return token
}

// sample is a mailbox with every field set, with bytes that are no text.
func sample(user string) syncer.Mailbox {
	at := alice.Since
	return syncer.Mailbox{User: user, Name: [2]string{"INBOX.\xff\x00&", "a/b \"%"}, Validity: [2]uint32{1<<32 - 1, 7},
		MailboxID: [2]string{"F\x01", "G"}, Cursor: [2]syncer.Cursor{{UIDNext: 1<<32 - 1, Messages: 2, Unseen: 3, HighestModSeq: 1<<63 - 1,
			Scanned: at}, {UIDNext: 5, Messages: 6, Unseen: 7, HighestModSeq: 8, Scanned: at.Add(time.Hour)}}, Subscribed: true,
		SpecialUse: `\Sent`, Flags: []byte{0, 255, 1}, Pairs: 1 << 40, GoneSince: at.Add(2 * time.Hour)}
}

// fillSyncer writes something of every kind and returns what was made, and the token.
func fillSyncer(t *testing.T, s syncer.Store) (syncer.Change, syncer.Applied) {
	t.Helper()
	at := alice.Since
	c := syncer.Change{User: anna, Token: acquire(t, s, anna, "p1"), Mailboxes: []syncer.Mailbox{sample(anna), {User: anna, Name: [2]string{"x", ""}}},
		Chunks: []syncer.Chunk{{Mailbox: -1, Low: 1, Data: []byte("one\x00\xff")}, {Mailbox: -1, Low: 5000, Data: []byte("two")}, {Mailbox: -2, Low: 1, Data: []byte("three")}},
		AddIntents: []syncer.Intent{{User: anna, Mailbox: -1, Side: config.New, Kind: syncer.IntentAppend, Epoch: 3, Validity: 7, UIDNext: 1<<32 - 1,
			Payload: []byte{0, 1}, Created: at}, {User: anna, Mailbox: -2, Kind: syncer.IntentSuspect}},
		Quarantine: []syncer.Quarantined{{User: anna, Mailbox: -2, Side: config.New, Validity: 9, UID: 4, Reason: "nul", Detail: "NO \xff\x00", First: at,
			Last: at.Add(1), Tries: 3, Decision: syncer.Waived, By: "cli: root\u2028", Decided: at.Add(2)}, {User: anna, Mailbox: -1, UID: 1, Reason: "quota"}},
		Scripts: sampleScripts()}
	a, err := s.Apply(t.Context(), c)
	must(t, err)
	_, err = s.SaveRun(t.Context(), syncer.Run{User: anna, Began: at, Ended: at.Add(time.Minute), Summary: []byte(`{"pairs": 1}`), Error: "why\x00"})
	must(t, err)
	must(t, s.SaveProfile(t.Context(), config.New, "mail.example.com", []byte(`{"host": "mail.example.com"}`)))
	return c, a
}

func conformLease(t *testing.T, s, two syncer.Store) {
	ctx := t.Context()
	first := acquire(t, s, anna, "p1")
	if first <= 0 {
		t.Errorf("token %d", first)
	}
	_, err := two.Acquire(ctx, anna, "p2", time.Minute)
	is(t, err, syncer.ErrFenced)
	acquire(t, two, bert, "p2") // another account is another lease
	second := acquire(t, s, anna, "p1")
	if second <= first {
		t.Errorf("after %d came token %d", first, second)
	}
	_, err = s.Apply(ctx, syncer.Change{User: anna, Token: first})
	is(t, err, syncer.ErrFenced)
	_, err = s.Apply(ctx, syncer.Change{User: anna, Token: second})
	must(t, err)
	_, err = s.Apply(ctx, syncer.Change{User: "nobody", Token: second})
	is(t, err, syncer.ErrFenced)
	is(t, s.Release(ctx, anna, first), syncer.ErrFenced)
	must(t, s.Release(ctx, anna, second))
	is(t, s.Release(ctx, anna, second), syncer.ErrFenced)
	for token := range second + 3 { // a lease that was given up is nobody's
		_, err = s.Apply(ctx, syncer.Change{User: anna, Token: token})
		is(t, err, syncer.ErrFenced)
	}
	third, err := two.Acquire(ctx, anna, "p2", time.Millisecond)
	must(t, err)
	if third <= second {
		t.Errorf("after %d came token %d", second, third)
	}
	time.Sleep(20 * time.Millisecond)
	// Time that is over fences nobody off until somebody else comes.
	_, err = two.Apply(ctx, syncer.Change{User: anna, Token: third, Mailboxes: []syncer.Mailbox{sample(anna)}})
	must(t, err)
	fourth := acquire(t, s, anna, "p1")
	if fourth <= third {
		t.Errorf("after %d came token %d", third, fourth)
	}
	_, err = two.Apply(ctx, syncer.Change{User: anna, Token: third, Mailboxes: []syncer.Mailbox{sample(anna)}})
	is(t, err, syncer.ErrFenced)
	list, err := s.Mailboxes(ctx, anna)
	must(t, err)
	same(t, len(list), 1)
}

// conformLeaseRace: of many who want an account exactly one gets it.
func conformLeaseRace(t *testing.T, one, two syncer.Store) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		s := []syncer.Store{one, two}[i%2]
		wg.Go(func() {
			_, err := s.Acquire(t.Context(), anna, string(rune('a'+i)), time.Minute)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, syncer.ErrFenced) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	same(t, won, 1)
}

func conformApply(t *testing.T, s, _ syncer.Store) {
	ctx := t.Context()
	same(t, dumpSyncer(t, s), map[string]everything{anna: {}, bert: {}})
	c, a := fillSyncer(t, s)
	same(t, []int{len(a.Mailboxes), len(a.Intents)}, []int{2, 2})
	m := c.Mailboxes
	m[0].ID, m[1].ID = a.Mailboxes[0], a.Mailboxes[1]
	got := dumpSyncer(t, s)
	same(t, got[bert], everything{})
	same(t, got[anna].Mailboxes, m)
	same(t, got[anna].Chunks, []syncer.Chunk{{Mailbox: m[0].ID, Low: 1, Generation: 1, Data: []byte("one\x00\xff")},
		{Mailbox: m[0].ID, Low: 5000, Generation: 1, Data: []byte("two")}, {Mailbox: m[1].ID, Low: 1, Generation: 1, Data: []byte("three")}})
	i := c.AddIntents
	i[0].ID, i[0].Mailbox, i[1].ID, i[1].Mailbox = a.Intents[0], m[0].ID, a.Intents[1], m[1].ID
	same(t, got[anna].Intents, i)
	q := c.Quarantine
	q[0].Mailbox, q[1].Mailbox = m[1].ID, m[0].ID
	same(t, got[anna].Quarantine, []syncer.Quarantined{q[1], q[0]})

	// Everything again, by its ID: replaced, deleted, released.
	m[0].Name, m[0].Flags, m[0].Pairs, m[0].GoneSince, m[0].Subscribed = [2]string{"", "new"}, nil, 0, time.Time{}, false
	q[0].Tries, q[0].Decision, q[0].Detail = 4, "", "other"
	b, err := s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, Mailboxes: []syncer.Mailbox{{User: anna, Name: [2]string{"third", "third"}}, m[0]},
		Chunks: []syncer.Chunk{{Mailbox: m[0].ID, Low: 1, Generation: 1, Data: []byte("ONE")}, {Mailbox: -2, Low: 5000, Generation: 1},
			{Mailbox: -2, Low: 6000}, {Mailbox: -1, Low: 1, Data: []byte("four")}},
		DropIntents: []int64{i[0].ID, i[0].ID + 1000}, AddIntents: []syncer.Intent{{User: anna, Mailbox: -2, Kind: syncer.IntentMove}},
		Quarantine: []syncer.Quarantined{q[0]}, Release: []syncer.Quarantined{{Mailbox: -2, UID: 1}, {Mailbox: 4711, UID: 1}}})
	must(t, err)
	same(t, len(b.Mailboxes), 2)
	same(t, b.Mailboxes[1], m[0].ID)
	if b.Mailboxes[0] <= m[1].ID || b.Intents[0] <= i[1].ID {
		t.Errorf("IDs do not rise: %v after %v", b, a)
	}
	got = dumpSyncer(t, s)
	third := syncer.Mailbox{ID: b.Mailboxes[0], User: anna, Name: [2]string{"third", "third"}}
	same(t, got[anna].Mailboxes, []syncer.Mailbox{m[0], m[1], third})
	same(t, got[anna].Chunks, []syncer.Chunk{{Mailbox: m[0].ID, Low: 1, Generation: 2, Data: []byte("ONE")},
		{Mailbox: m[1].ID, Low: 1, Generation: 1, Data: []byte("three")}, {Mailbox: third.ID, Low: 1, Generation: 1, Data: []byte("four")}})
	same(t, got[anna].Intents, []syncer.Intent{i[1], {ID: b.Intents[0], User: anna, Mailbox: m[0].ID, Kind: syncer.IntentMove}})
	same(t, got[anna].Quarantine, []syncer.Quarantined{q[0]})
}

// conformApplyWhole: a change that fails has written nothing, whatever part of it fails.
func conformApplyWhole(t *testing.T, s, _ syncer.Store) {
	ctx := t.Context()
	c, a := fillSyncer(t, s)
	before := dumpSyncer(t, s)
	good := func() syncer.Change {
		return syncer.Change{User: anna, Token: c.Token, Mailboxes: []syncer.Mailbox{sample(anna)}, DropMailboxes: []int64{a.Mailboxes[1]},
			Chunks:      []syncer.Chunk{{Mailbox: a.Mailboxes[0], Low: 1, Generation: 1, Data: []byte("no")}, {Mailbox: -1, Low: 1, Data: []byte("no")}},
			DropIntents: a.Intents[:1], AddIntents: []syncer.Intent{{Mailbox: -1}}, Quarantine: []syncer.Quarantined{{Mailbox: -1, UID: 5}},
			Release: []syncer.Quarantined{{Mailbox: a.Mailboxes[0], UID: 1}}}
	}
	for name, x := range map[string]struct {
		spoil func(*syncer.Change)
		want  error
	}{
		"token":             {func(c *syncer.Change) { c.Token++ }, syncer.ErrFenced},
		"older chunk":       {func(c *syncer.Change) { c.Chunks[0].Generation = 0 }, syncer.ErrStale},
		"newer chunk":       {func(c *syncer.Change) { c.Chunks[0].Generation = 2 }, syncer.ErrStale},
		"chunk that is not": {func(c *syncer.Change) { c.Chunks[1].Generation = 1 }, syncer.ErrStale},
		"deletes older":     {func(c *syncer.Change) { c.Chunks[0].Generation, c.Chunks[0].Data = 3, nil }, syncer.ErrStale},
		"deletes unseen":    {func(c *syncer.Change) { c.Chunks[0].Generation, c.Chunks[0].Data = 0, nil }, syncer.ErrStale},
		"mailbox":           {func(c *syncer.Change) { c.Mailboxes[0].ID = 4711 }, op.ErrNotFound},
		"chunk's mailbox":   {func(c *syncer.Change) { c.Chunks[1].Mailbox = -2 }, op.ErrNotFound},
		"intent's mailbox":  {func(c *syncer.Change) { c.AddIntents[0].Mailbox = a.Mailboxes[1] }, op.ErrNotFound}, // dropped just now
		"mailbox unknown":   {func(c *syncer.Change) { c.Quarantine[0].Mailbox = 4711 }, op.ErrNotFound},
	} {
		bad := good()
		x.spoil(&bad)
		done, err := s.Apply(ctx, bad)
		if !errors.Is(err, x.want) || done.Mailboxes != nil || done.Intents != nil {
			t.Errorf("%s: %v %v, want %v", name, done, err, x.want)
		}
		same(t, dumpSyncer(t, s), before)
	}
	_, err := s.Apply(ctx, good())
	must(t, err)
}

// conformApplyRace: of many who read the same generation exactly one writes.
func conformApplyRace(t *testing.T, one, two syncer.Store) {
	c, a := fillSyncer(t, one)
	for gen := int64(1); gen < 6; gen++ {
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for i := range 8 {
			s := []syncer.Store{one, two}[i%2]
			wg.Go(func() {
				_, err := s.Apply(t.Context(), syncer.Change{User: anna, Token: c.Token, Chunks: []syncer.Chunk{{Mailbox: a.Mailboxes[0], Low: 1,
					Generation: gen, Data: []byte("x")}}, AddIntents: []syncer.Intent{{Mailbox: a.Mailboxes[0], Kind: syncer.IntentMove}}})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, syncer.ErrStale) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		same(t, won, 1)
	}
	same(t, len(dumpSyncer(t, two)[anna].Intents), 2+5)
}

// conformOthers: a token writes for its own user only.
func conformOthers(t *testing.T, s, _ syncer.Store) {
	ctx := t.Context()
	_, a := fillSyncer(t, s)
	before := dumpSyncer(t, s)
	c := syncer.Change{User: bert, Token: acquire(t, s, bert, "p1")}
	m := a.Mailboxes[0]
	for _, change := range []syncer.Change{
		{Mailboxes: []syncer.Mailbox{{ID: m, User: bert}}}, {Chunks: []syncer.Chunk{{Mailbox: m, Low: 1, Generation: 1}}},
		{AddIntents: []syncer.Intent{{Mailbox: m}}}, {Quarantine: []syncer.Quarantined{{Mailbox: m}}},
	} {
		change.User, change.Token = c.User, c.Token
		_, err := s.Apply(ctx, change)
		is(t, err, op.ErrNotFound)
	}
	c.DropMailboxes, c.DropIntents, c.Release = a.Mailboxes, a.Intents, []syncer.Quarantined{{Mailbox: m, UID: 1}}
	_, err := s.Apply(ctx, c)
	must(t, err)
	same(t, dumpSyncer(t, s), before)
}

// conformDrop: a mailbox takes along what hangs on it, and its ID is not given out again.
func conformDrop(t *testing.T, s, _ syncer.Store) {
	ctx := t.Context()
	c, a := fillSyncer(t, s)
	_, err := s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, DropMailboxes: a.Mailboxes})
	must(t, err)
	got := dumpSyncer(t, s)[anna]
	got.Runs = nil
	same(t, got, everything{Scripts: sampleScripts()}) // which hang on no mailbox
	chunks, err := s.Chunks(ctx, a.Mailboxes[0])
	must(t, err)
	same(t, len(chunks), 0)
	b, err := s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, Mailboxes: []syncer.Mailbox{{User: anna}}, AddIntents: []syncer.Intent{{Mailbox: -1}}})
	must(t, err)
	if b.Mailboxes[0] <= a.Mailboxes[1] || b.Intents[0] <= a.Intents[1] {
		t.Errorf("IDs come again: %v after %v", b, a)
	}
}

func conformRuns(t *testing.T, s, _ syncer.Store) {
	ctx := t.Context()
	r := syncer.Run{User: anna, Began: alice.Since}
	var err error
	var ids []int64
	for range 3 {
		id, err := s.SaveRun(ctx, r)
		must(t, err)
		ids = append(ids, id)
	}
	_, err = s.SaveRun(ctx, syncer.Run{User: bert})
	must(t, err)
	r.ID, r.Ended, r.Summary, r.Error = ids[1], alice.Since.Add(time.Hour), []byte(`{}`), "no"
	id, err := s.SaveRun(ctx, r)
	must(t, err)
	same(t, id, ids[1])
	list, err := s.Runs(ctx, anna, 2)
	must(t, err)
	same(t, list, []syncer.Run{{ID: ids[2], User: anna, Began: alice.Since}, r})
	list, err = s.Runs(ctx, anna, 0)
	must(t, err)
	same(t, len(list), 3)
	for range 110 {
		id, err = s.SaveRun(ctx, syncer.Run{User: anna})
		must(t, err)
	}
	list, err = s.Runs(ctx, anna, 0)
	must(t, err)
	same(t, []any{len(list), list[0].ID}, []any{100, id})
	list, err = s.Runs(ctx, bert, 0)
	must(t, err)
	same(t, len(list), 1)
	r.ID = 4711
	_, err = s.SaveRun(ctx, r)
	is(t, err, op.ErrNotFound)
}

// conformRunsRace: many passes end at once, of one user and of another, in several processes: nobody is refused, no other user's go, of
// this one's the newest stay, and never many more than there are to be.
func conformRunsRace(t *testing.T, one, two syncer.Store) {
	ctx := t.Context()
	_, err := one.SaveRun(ctx, syncer.Run{User: bert})
	must(t, err)
	const writers, each = 8, 40
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[int64]bool{}
	for i := range writers {
		s := []syncer.Store{one, two}[i%2]
		wg.Go(func() {
			for n := range each {
				r := syncer.Run{User: anna, Summary: []byte(`{}`)}
				id, err := s.SaveRun(ctx, r)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids[id] = true
				mu.Unlock()
				if n%10 == 0 { // a run that goes on is written again, and may be gone by then
					r.ID, r.Ended = id, alice.Since
					if _, err := s.SaveRun(ctx, r); err != nil && !errors.Is(err, op.ErrNotFound) {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	same(t, len(ids), writers*each)
	list, err := two.Runs(ctx, anna, 0)
	must(t, err)
	if len(list) < 100 || len(list) > 100+writers {
		t.Errorf("%d runs are left", len(list))
	}
	last, err := one.SaveRun(ctx, syncer.Run{User: anna})
	must(t, err)
	list, err = one.Runs(ctx, anna, 0)
	must(t, err)
	same(t, []any{len(list), list[0].ID}, []any{100, last})
	for i, r := range list[1:] {
		if r.ID >= list[i].ID || !ids[r.ID] {
			t.Errorf("run %d behind %d", r.ID, list[i].ID)
		}
	}
	newest := 0
	for id := range ids {
		if id > list[len(list)-1].ID {
			newest++
		}
	}
	same(t, newest, 98)
	list, err = one.Runs(ctx, bert, 0)
	must(t, err)
	same(t, len(list), 1)
}

// conformClockBack: a lease that ends in days was taken before the clock was set back. It keeps nobody out, and its holder, if there is
// one, is fenced off; one of a usual length does keep others out.
func conformClockBack(t *testing.T, one, two syncer.Store) {
	ctx := t.Context()
	token, err := one.Acquire(ctx, anna, "p1", 24*time.Hour)
	must(t, err)
	taken, err := two.Acquire(ctx, anna, "p2", 90*time.Second)
	must(t, err)
	if taken <= token {
		t.Errorf("after %d came token %d", token, taken)
	}
	_, err = one.Apply(ctx, syncer.Change{User: anna, Token: token})
	is(t, err, syncer.ErrFenced)
	_, err = one.Acquire(ctx, anna, "p1", 90*time.Second)
	is(t, err, syncer.ErrFenced)
	_, err = two.Acquire(ctx, bert, "p2", 5*time.Minute)
	must(t, err)
	_, err = one.Acquire(ctx, bert, "p1", time.Second)
	is(t, err, syncer.ErrFenced)
}

func conformProfiles(t *testing.T, s, _ syncer.Store) {
	ctx := t.Context()
	_, ok, err := s.Profile(ctx, config.Old, "h")
	must(t, err)
	same(t, ok, false)
	for _, text := range []string{`{ "b": 1, "a": 2}`, `{}`} { // byte by byte, not as JSON
		must(t, s.SaveProfile(ctx, config.Old, "h", []byte(text)))
		got, ok, err := s.Profile(ctx, config.Old, "h")
		must(t, err)
		same(t, []any{string(got), ok}, []any{text, true})
	}
	_, ok, err = s.Profile(ctx, config.New, "h")
	must(t, err)
	same(t, ok, false)
}

func conformSyncerCancelled(t *testing.T, s, _ syncer.Store) {
	c, a := fillSyncer(t, s)
	before := dumpSyncer(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, DropMailboxes: a.Mailboxes})
	is(t, err, op.ErrUnavailable)
	_, err = s.Acquire(ctx, anna, "p1", time.Minute)
	is(t, err, op.ErrUnavailable)
	_, err = s.Mailboxes(ctx, anna)
	is(t, err, op.ErrUnavailable)
	_, err = s.SaveRun(ctx, syncer.Run{User: anna})
	is(t, err, op.ErrUnavailable)
	_, _, err = s.Profile(ctx, config.New, "mail.example.com")
	is(t, err, op.ErrUnavailable)
	same(t, dumpSyncer(t, s), before)
}
