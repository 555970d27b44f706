package logins

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// hashOf is what is kept of a user.
func (r *rig) hashOf(user string) (k Kept) {
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	if x := r.store.find(user); x != nil {
		k = *x
	}
	return k
}

// TestHash: an argon2id hash in the form that Dovecot takes behind {ARGON2ID}, with a salt of its own, that the password matches and no
// other does; what is no hash, or costs too much, matches nothing.
func TestHash(t *testing.T) {
	t.Parallel()
	one, two := Hash("hunter2"), Hash("hunter2")
	if !strings.HasPrefix(one, "$argon2id$v=19$m=19456,t=2,p=1$") || one == two {
		t.Errorf("%s %s", one, two)
	}
	if !Matches(one, "hunter2") || Matches(one, "hunter3") || Matches(one, "") || Matches(one+"A", "hunter2") {
		t.Error("matches")
	}
	// Of the reference implementation's test suite.
	if !Matches("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password") {
		t.Error("a hash of the reference implementation does not match")
	}
	for _, bad := range []string{"", "hunter2", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ",
		strings.Replace(one, "m=19456", "m=4000000", 1), strings.Replace(one, "t=2", "t=0", 1), strings.Replace(one, "p=1", "p=0", 1),
		strings.Replace(one, "t=2", "t=17", 1), strings.Replace(one, "p=1", "p=1 ", 1), one[:60]} {
		if IsHash(bad) || Matches(bad, "hunter2") {
			t.Errorf("%q is taken for a hash", bad)
		}
	}
}

// TestKeeps: with hashes on, one is kept of each user, renewed by the same password, and replaced by another one; not without.
func TestKeeps(t *testing.T) {
	bubble(t, Settings{Hash: true}, func(t *testing.T, r *rig) {
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.login(bert, config.Old, config.IMAP, "") // a token
		first := r.hashOf(anna)
		if !Matches(first.Hash, "hunter2") || !first.Expires.Equal(time.Now().Add(life)) || len(r.store.snap().kept) != 1 {
			t.Fatalf("%+v", first)
		}
		for range 20 {
			r.login(anna, config.Old, config.IMAP, "hunter2")
		}
		if r.store.snap().writes != 1 {
			t.Errorf("%d writes for the same password", r.store.snap().writes)
		}
		r.pass(2 * time.Hour)
		r.login(anna, config.New, config.IMAP, "hunter2")
		second := r.hashOf(anna)
		if second.Hash != first.Hash || !second.Seen.Equal(time.Now()) || second.Side != config.New || !second.Learned.Equal(first.Learned) {
			t.Errorf("renewed: %+v", second)
		}
		r.stop()
		r.begin(Settings{Hash: true}) // another process compares with the hash
		r.login(anna, config.New, config.IMAP, "hunter2")
		if k := r.hashOf(anna); k.Hash != first.Hash || r.n.get("hash renewed") != 1 {
			t.Errorf("behind a restart: %+v %v", k, r.n.n)
		}
		r.login(anna, config.New, config.IMAP, "hunter3")
		if k := r.hashOf(anna); !Matches(k.Hash, "hunter3") || !k.Learned.After(first.Learned) {
			t.Errorf("replaced: %+v", k)
		}
		r.refusal(anna, config.New, config.IMAP, "hunter4")
		r.Configure(Settings{Expire: life})
		r.login(anna, config.New, config.IMAP, "hunter5")
		if k := r.hashOf(anna); !Matches(k.Hash, "hunter3") {
			t.Errorf("replaced by what was refused, or while it is off: %+v", k)
		}
	})
}

// TestKeepsMail: a password of submission is kept where none is known, and takes no mail password's place.
func TestKeepsMail(t *testing.T) {
	bubble(t, Settings{Hash: true}, func(t *testing.T, r *rig) {
		r.login(anna, config.Old, config.Submission, "hunter2")
		r.login(anna, config.Old, config.POP3, "hunter3")
		for range 5 {
			r.login(anna, config.Old, config.Submission, "hunter2")
		}
		if k := r.hashOf(anna); !Matches(k.Hash, "hunter3") || r.n.get("hash kept") != 1 {
			t.Errorf("%+v %v", k, r.n.n)
		}
		before := r.hashOf(anna)
		r.login(anna, config.Old, config.IMAP, "hunter2") // at the same moment, and yet another row
		if k := r.hashOf(anna); !Matches(k.Hash, "hunter2") || !k.Learned.After(before.Learned) {
			t.Errorf("%+v, before %+v", k, before)
		}
	})
}

// TestKeptEnds: what is kept is erased at its end, and on request, in the store and in what waits.
func TestKeptEnds(t *testing.T) {
	bubble(t, Settings{Hash: true}, func(t *testing.T, r *rig) {
		r.login(anna, config.Old, config.IMAP, "hunter2")
		scrubs := r.store.snap().scrubs
		r.pass(life + tidyEvery)
		if len(r.store.snap().kept) != 0 || r.store.snap().scrubs == scrubs {
			t.Errorf("%+v, scrubbed %d times", r.store.snap().kept, r.store.snap().scrubs)
		}
		r.login(anna, config.Old, config.IMAP, "hunter2")
		r.login(bert, config.Old, config.IMAP, "hunter3")
		r.store.fail(op.ErrUnavailable)
		if n, err := r.Forget(t.Context(), anna, "me", ""); err == nil || n != 0 {
			t.Error(n, err)
		}
		r.store.fail(nil)
		n, err := r.Forget(t.Context(), anna, "me", "")
		if err != nil || n != 1 || len(r.store.snap().kept) != 1 || r.people[anna] != nil {
			t.Errorf("%d %v %+v", n, err, r.store.snap().kept)
		}
		r.refusal(anna, config.New, config.IMAP, "hunter2") // is nothing that is known
		r.settle()
		if len(r.store.snap().refusals) != 0 {
			t.Errorf("%+v", r.store.snap().refusals)
		}
		if n, err := r.Forget(t.Context(), "", "me", ""); err != nil || n != 1 || len(r.store.snap().kept) != 0 {
			t.Errorf("%d %v %+v", n, err, r.store.snap().kept)
		}
		r.login(anna, config.Old, config.IMAP, "hunter2") // is learned again
		if !Matches(r.hashOf(anna).Hash, "hunter2") {
			t.Error("not learned again")
		}
	})
}

// TestKeepsFew: what waits is bounded, and erased with what is kept; a store that fails is told of, and the next login makes it good.
func TestKeepsFew(t *testing.T) {
	r := &rig{t: t, store: &memory{}, n: &counts{n: map[string]int{}}}
	r.Ledger = New(Options{Store: r.store, Log: discard(), Recorder: r.n})
	r.hash = cheap
	r.Configure(Settings{Hash: true, Expire: life})
	for i := range maxQueue + 7 {
		r.Note(fmt.Sprintf("user%d@example.com", i), config.Old, config.IMAP, "hunter2", true)
	}
	r.Note("user0@example.com", config.Old, config.IMAP, "hunter3", true)
	if r.n.get("hash dropped") != 7 || len(r.order) != maxQueue {
		t.Errorf("%v, %d wait", r.n.n, len(r.order))
	}
	r.store.fail(op.ErrUnavailable)
	if !r.keepNext(t.Context()) || r.n.get("hash failed") != 1 {
		t.Error(r.n.n)
	}
	r.store.fail(nil)
	if _, err := r.Forget(t.Context(), "user1@example.com", "me", ""); err != nil || len(r.order) != maxQueue-2 {
		t.Error(err, len(r.order))
	}
	r.Configure(Settings{Expire: life})
	if r.keepNext(t.Context()) || len(r.store.snap().kept) != 0 {
		t.Error("what waits is kept though it was turned off")
	}
	r.Configure(Settings{Hash: true, Expire: life})
	r.Note("user0@example.com", config.Old, config.IMAP, "hunter3", true)
	if !r.keepNext(t.Context()) || !Matches(r.hashOf("user0@example.com").Hash, "hunter3") {
		t.Error("not made good")
	}
}
