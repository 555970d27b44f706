package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailgate/logins"
	"mailgate/op"
)

// TestErasedHashes: of hashes that are erased or replaced nothing is left in the files of SQLite.
func TestErasedHashes(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	hash := func() string { // a costly one is not needed
		salt, key := make([]byte, 12), make([]byte, 24)
		for i := range salt {
			salt[i] = 'A' + byte(rand.N(26))
		}
		for i := range key {
			key[i] = 'a' + byte(rand.N(26))
		}
		return "$argon2id$v=19$m=64,t=1,p=1$" + string(salt) + "$" + string(key)
	}
	var gone []string
	for _, n := range rand.Perm(120) {
		k := logins.Kept{User: fmt.Sprintf("user%d@example.com", n), Hash: hash(), Learned: alice.Since, Seen: alice.Since, Expires: alice.Since.Add(1)}
		must(t, s.PutKept(ctx, k))
		gone = append(gone, k.Hash)
		if n%3 == 0 {
			k.Hash = hash()
			gone = append(gone, k.Hash)
			must(t, s.PutKept(ctx, k))
		}
		k.Hook.Error = strings.Repeat("no room ", rand.N(20))
		_, err := s.SetHook(ctx, k)
		must(t, err)
	}
	left := func() (n int) {
		t.Helper()
		files, err := filepath.Glob(path + "*")
		must(t, err)
		for _, file := range files {
			b, err := os.ReadFile(file)
			must(t, err)
			for _, h := range gone {
				if strings.Contains(string(b), h[len(h)-24:]) {
					n++
				}
			}
		}
		return n
	}
	if left() < 120 {
		t.Fatal("hashes that are there are not found: this test cannot fail")
	}
	n, err := s.DropKept(ctx, "", op.Event{What: "erased"})
	must(t, err)
	same(t, n, 120)
	must(t, s.ScrubSecrets(ctx))
	if n := left(); n > 0 {
		t.Errorf("%d hashes are in the files", n)
	}
}

// TestCheckKept: what is no hash shows, without its being told.
func TestCheckKept(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	must(t, s.PutKept(ctx, keptRow(anna, 1)))
	must(t, s.PutKept(ctx, logins.Kept{User: bert, Hash: "hunter2"}))
	look, err := Look(ctx, path)
	must(t, err)
	defer look.Close()
	f, err := look.Check(ctx)
	must(t, err)
	if len(f.Problems) != 1 || !strings.Contains(f.Problems[0], bert) || strings.Contains(f.Problems[0], "hunter2") || f.Rows["kept"] != 2 {
		t.Errorf("%+v", f)
	}
}
