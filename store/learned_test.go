package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/config"
	"mailgate/learned"
	"mailgate/op"
	"mailgate/syncer"
)

// TestErased: of passwords that are erased, replaced or over nothing is left in the files of SQLite, in no page and not in the
// write-ahead log, while the store goes on and much else is written. What was not erased is there.
func TestErased(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	var gone []learned.Row
	put := func(r learned.Row) {
		t.Helper()
		must(t, s.PutSecret(ctx, r))
		if r.Side == config.Old || r.User != anna {
			gone = append(gone, r)
		}
	}
	kept := learnedRow(anna, config.New, 1000)
	put(kept)
	token := acquire(t, s, bert, "p1")
	for i, n := range rand.Perm(300) { // in no order: pages are split and joined
		user := fmt.Sprintf("user%d@example.com", n)
		first := learnedRow(user, config.Old, n)
		put(first)
		put(learnedRow(user, config.New, n))
		if n%3 == 0 {
			put(learnedRow(user, config.Old, n+1)) // another one in its place
		}
		first.Seen = first.Seen.Add(time.Hour)
		_, err := s.RenewSecret(ctx, first)
		must(t, err)
		if i%20 == 0 { // rows of others, that come and go in between
			a, err := s.Apply(ctx, syncer.Change{User: bert, Token: token, Mailboxes: []syncer.Mailbox{{}}, Chunks: []syncer.Chunk{{Mailbox: -1, Low: 1, Data: make([]byte, 3000)}}})
			must(t, err)
			if i%40 == 0 {
				_, err = s.Apply(ctx, syncer.Change{User: bert, Token: token, DropMailboxes: a.Mailboxes})
				must(t, err)
			}
		}
	}
	if n := remains(t, path, gone); n == 0 {
		t.Fatal("nothing is found that is there: this test cannot fail")
	}
	_, err := s.ExpireSecrets(ctx, learnedRow(anna, config.Old, 150).Expires, time.Time{}) // half of them are over
	must(t, err)
	for _, n := range rand.Perm(300) {
		_, err := s.DropSecrets(ctx, fmt.Sprintf("user%d@example.com", n), op.Event{What: "erased"})
		must(t, err)
	}
	must(t, s.ScrubSecrets(ctx))
	if n := remains(t, path, gone); n > 0 {
		t.Errorf("%d pieces of what was erased are in the files", n)
	}
	if remains(t, path, []learned.Row{kept}) == 0 {
		t.Error("what was not erased is not there")
	}
	n, err := s.DropSecrets(ctx, "", op.Event{What: "erased"})
	must(t, err)
	same(t, n, 1)
	must(t, s.ScrubSecrets(ctx))
	if remains(t, path, []learned.Row{kept}) > 0 {
		t.Error("the last one is in the files")
	}
}

// remains counts pieces of what was sealed in the files of a store. The header is the same for all.
func remains(t *testing.T, path string, rows []learned.Row) (n int) {
	t.Helper()
	files, err := filepath.Glob(path + "*")
	must(t, err)
	const piece = 16
	there := map[string]bool{}
	for _, file := range files {
		b, err := os.ReadFile(file)
		must(t, err)
		for i := 0; i+piece <= len(b); i++ {
			if w := b[i : i+piece]; bytes.Count(w, []byte{0}) < 4 {
				there[string(w)] = true
			}
		}
	}
	for _, r := range rows {
		for p := range slices.Chunk(bytes.TrimPrefix(r.Sealed, []byte("age-encryption.org/v1\n")), piece) {
			if there[string(p)] {
				n++
			}
		}
	}
	return n
}

// TestScrubWaits: while somebody reads the store since before, the log cannot be emptied: that is told, and done the next time.
func TestScrubWaits(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	s.scrub = func(ctx context.Context, db *sql.DB) error { // does not wait
		if _, err := db.ExecContext(ctx, "PRAGMA busy_timeout = 1"); err != nil {
			return err
		}
		return scrubSQLite(ctx, db)
	}
	r := learnedRow(anna, config.Old, 1)
	must(t, s.PutSecret(ctx, r))
	look, err := Look(ctx, path)
	must(t, err)
	_, err = look.Check(ctx)
	must(t, err)
	_, err = s.DropSecrets(ctx, anna, op.Event{What: "erased"})
	must(t, err)
	is(t, s.ScrubSecrets(ctx), op.ErrUnavailable)
	must(t, look.Close())
	must(t, s.ScrubSecrets(ctx))
	if remains(t, path, []learned.Row{r}) > 0 {
		t.Error("it is in the files")
	}
}

// TestLoadLeavesNothing: what came by an import is erased as what was learned here.
func TestLoadLeavesNothing(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	one, two := openAt(t, filepath.Join(dir, "one.db")), openAt(t, filepath.Join(dir, "two.db"))
	defer one.Close()
	defer two.Close()
	var rows []learned.Row
	for _, n := range rand.Perm(200) {
		rows = append(rows, learnedRow(fmt.Sprintf("user%d@example.com", n), config.Old, n))
		must(t, one.PutSecret(ctx, rows[len(rows)-1]))
	}
	lines := strings.SplitAfter(exportFile(t, filepath.Join(dir, "one.db")), "\n")
	first := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, `"table":"learned"`) })
	some := lines[first : first+len(rows)]
	rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] }) // by hand
	_, err := load(t, two, strings.Join(lines, ""))
	must(t, err)
	if remains(t, filepath.Join(dir, "two.db"), rows) == 0 {
		t.Fatal("nothing came")
	}
	_, err = two.DropSecrets(ctx, "", op.Event{What: "erased"})
	must(t, err)
	must(t, two.ScrubSecrets(ctx))
	if n := remains(t, filepath.Join(dir, "two.db"), rows); n > 0 {
		t.Errorf("%d pieces are in the files", n)
	}
}

// TestCheckLearned: what was not encrypted here shows, without its being told.
func TestCheckLearned(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	must(t, s.PutSecret(ctx, learnedRow(anna, config.Old, 1)))
	bad := learnedRow(bert, config.New, 1)
	bad.Sealed = []byte("hunter2")
	must(t, s.PutSecret(ctx, bad))
	look, err := Look(ctx, path)
	must(t, err)
	defer look.Close()
	f, err := look.Check(ctx)
	must(t, err)
	if len(f.Problems) != 1 || !strings.Contains(f.Problems[0], bert+" on new") || strings.Contains(f.Problems[0], "hunter2") || f.Rows["learned"] != 2 {
		t.Errorf("%+v", f)
	}
}
