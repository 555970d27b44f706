package store

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/config"
	"mailgate/logins"
	"mailgate/op"
	"mailgate/syncer"
	"mailgate/syncer/merge"
)

// export is what a store's snapshot writes.
func export(t *testing.T, s *Snapshot, err error) string {
	t.Helper()
	must(t, err)
	defer s.Close()
	var b bytes.Buffer
	n, err := s.Export(t.Context(), &b)
	must(t, err)
	if lines := strings.Count(b.String(), "\n"); n == 0 && lines > 9 {
		t.Errorf("%d rows in %d lines", n, lines)
	}
	return b.String()
}

func exportFile(t *testing.T, path string) string {
	t.Helper()
	s, err := Look(t.Context(), path)
	return export(t, s, err)
}

// fillAll writes something into every table, with gaps after the last IDs.
func fillAll(t *testing.T, s Store) {
	t.Helper()
	ctx := t.Context()
	fill(t, s)
	must(t, s.AddEvents(ctx, op.Event{At: alice.Since, User: "ünï@example.com", What: "a \"quote\" <&> \u2028", Detail: "d"}))
	c, a := fillSyncer(t, s)
	b, err := s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, Mailboxes: []syncer.Mailbox{{}}, AddIntents: []syncer.Intent{{Mailbox: -1}}})
	must(t, err)
	_, err = s.Apply(ctx, syncer.Change{User: anna, Token: c.Token, DropMailboxes: b.Mailboxes, DropIntents: a.Intents[1:]})
	must(t, err)
	acquire(t, s, bert, "p2")
	_, err = s.SetPause(ctx, syncer.Pause{User: anna, By: "me", At: alice.Since}, op.Event{User: anna, What: "sync paused"})
	must(t, err)
	must(t, s.PutSecret(ctx, learnedRow(anna, config.New, 1)))
	must(t, s.KeepAddresses(ctx, []auth.Known{{User: anna, Network: netip.MustParseAddr("2001:db8::"), Seen: alice.Since}}, nil, time.Time{}))
	must(t, s.SaveGaps(ctx, anna, alice.Since, []byte(`{"user":"anna"}`)))
	must(t, s.SaveVerified(ctx, syncer.Verified{User: anna, At: alice.Since, Equal: true, Text: []byte("{}")}))
	must(t, s.SaveBehind(ctx, syncer.Behind{User: anna, At: alice.Since, Text: []byte("{}")}))
	must(t, s.SaveProofs(ctx, map[string][]byte{anna: []byte("[]")}))
	must(t, s.SaveLogins(ctx, []logins.Login{{User: anna, Side: config.New, Protocol: config.POP3, First: alice.Since, Last: alice.Since.Add(1)}}))
	must(t, s.PutKept(ctx, keptRow(anna, 1)))
	fillGates(t, s)
	must(t, s.PutRefusal(ctx, logins.Refusal{User: anna, Side: config.New, Protocol: config.IMAP, First: alice.Since, Last: alice.Since.Add(1), Count: 3}))
	_, err = s.AddHold(ctx, op.Hold{Scope: op.HoldWave("sales"), By: "kim", Reason: "fair", At: alice.Since})
	must(t, err)
	must(t, s.SaveWave(ctx, op.WaveRow{Name: "sales", Started: alice.Since, StartedBy: "kim", GateAt: alice.Since.Add(1)}))
	must(t, s.Check(ctx))
}

func load(t *testing.T, s Store, text string) (int64, error) {
	t.Helper()
	return s.Load(t.Context(), bufio.NewReader(strings.NewReader(text)))
}

// sameExport compares two exports line by line.
func sameExport(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("line %d of %d and %d:\n%s\n%s", i+1, len(g), len(w), g[min(i, len(g)-1)], w[min(i, len(w)-1)])
		}
	}
}

// goesOn: a loaded store gives out new IDs only, and knows what the first knew.
func goesOn(t *testing.T, from, to Store) {
	t.Helper()
	ctx := t.Context()
	same(t, dumpSyncer(t, to), dumpSyncer(t, from))
	same(t, dump(t, to), dump(t, from))
	var pauses [2][]syncer.Pause
	for i, s := range []Store{from, to} {
		var err error
		pauses[i], err = s.Pauses(ctx)
		must(t, err)
	}
	same(t, pauses[1], pauses[0])
	var known [2]map[string]*logins.Known
	for i, s := range []Store{from, to} {
		var err error
		known[i], err = logins.Read(ctx, s, "")
		must(t, err)
		if k := known[i][anna]; k == nil || len(k.Logins) != 1 || k.Kept == nil || len(k.Refusals) != 1 {
			t.Errorf("of logins there is %+v", k)
		}
	}
	same(t, known[1], known[0])
	var gaps [2]string
	for i, s := range []Store{from, to} {
		text, ok, err := s.Gaps(ctx, anna)
		must(t, err)
		same(t, ok, true)
		times, err := s.GapTimes(ctx)
		must(t, err)
		gaps[i] = fmt.Sprint(string(text), times)
	}
	same(t, gaps[1], gaps[0])
	same(t, dumpGates(t, to), dumpGates(t, from))
	var ids [2][]any
	for i, s := range []Store{from, to} {
		o, err := s.NewOperation(ctx, op.Operation{Kind: op.Flip})
		must(t, err)
		run, err := s.SaveRun(ctx, syncer.Run{User: anna})
		must(t, err)
		token := acquire(t, s, anna, "p1")
		a, err := s.Apply(ctx, syncer.Change{User: anna, Token: token, Mailboxes: []syncer.Mailbox{{}}, AddIntents: []syncer.Intent{{Mailbox: -1}}})
		must(t, err)
		acquire(t, s, "new@example.com", "p1")
		ids[i] = []any{o.ID, run, token, a}
	}
	same(t, ids[1], ids[0])
}

func TestExportLoad(t *testing.T) {
	dir := t.TempDir()
	one := openAt(t, filepath.Join(dir, "one.db"))
	defer one.Close()
	fillAll(t, one)
	text := exportFile(t, filepath.Join(dir, "one.db")) // while it is open
	for _, tab := range tables() {
		if !strings.Contains(text, `{"table":"`+tab.name+`","row":`) {
			t.Errorf("nothing of %s was exported", tab.name)
		}
	}
	two := openAt(t, filepath.Join(dir, "two.db"))
	defer two.Close()
	rows, err := load(t, two, text)
	must(t, err)
	same(t, fmt.Sprintf(`{"end":%d}`, rows), strings.Split(text, "\n")[strings.Count(text, "\n")-1])
	sameExport(t, exportFile(t, filepath.Join(dir, "two.db")), text)
	goesOn(t, one, two)
	_, err = load(t, two, text)
	is(t, err, ErrNotEmpty)
}

// TestLoadIsWhole: what is not a whole export leaves an empty store empty.
func TestLoadIsWhole(t *testing.T) {
	dir := t.TempDir()
	one := openAt(t, filepath.Join(dir, "one.db"))
	fillAll(t, one)
	must(t, one.Close())
	text := exportFile(t, filepath.Join(dir, "one.db"))
	lines := strings.SplitAfter(text, "\n")
	without := func(n int) string { return strings.Join(lines[:n], "") + strings.Join(lines[n+1:], "") }
	path := filepath.Join(dir, "two.db")
	two := openAt(t, path)
	defer two.Close()
	empty := exportFile(t, path)
	for name, bad := range map[string]string{
		"nothing": "", "cut off": text[:len(text)/2], "cut off at a line": strings.Join(lines[:len(lines)/2], ""),
		"without end": without(len(lines) - 2), "a row less": without(3), "a row more": text + lines[3], "newer": strings.Replace(text, `_store":1`, `_store":2`, 1),
		"no head": without(0), "unknown table": strings.Replace(text, `"table":"pins"`, `"table":"pans"`, 1),
		"unknown column": strings.Replace(text, `"reason":`, `"raisin":`, 1), "unknown word": strings.Replace(text, `"row":`, `"low":`, 1),
		"not base64": strings.Replace(text, `"data":"`, `"data":"*`, 1), "null": strings.Replace(text, `"kind":"append"`, `"kind":null`, 1),
		"no JSON": strings.Replace(text, `{"table":"history"`, `{"table:"history"`, 1),
	} {
		if bad == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := load(t, two, bad); err == nil || !strings.Contains(err.Error(), ErrBadExport.Error()) {
			t.Errorf("%s: %v", name, err)
		}
		sameExport(t, exportFile(t, path), empty)
	}
	_, err := load(t, two, text)
	must(t, err)
}

// postgresTransfer: from SQLite to PostgreSQL and back nothing changes, not a byte.
func postgresTransfer(t *testing.T, c *cluster) {
	dir, url := t.TempDir(), c.fresh(t)
	one := openAt(t, filepath.Join(dir, "one.db"))
	defer one.Close()
	fillAll(t, one)
	text := exportFile(t, filepath.Join(dir, "one.db"))
	pg, err := OpenPostgresWriter(t.Context(), url)
	must(t, err)
	defer pg.Close()
	_, err = load(t, pg, text[:len(text)-2])
	is(t, err, ErrBadExport)
	_, err = load(t, pg, text)
	must(t, err)
	look, err := LookPostgres(t.Context(), url)
	back := export(t, look, err)
	sameExport(t, back, text)
	three := openAt(t, filepath.Join(dir, "three.db"))
	defer three.Close()
	_, err = load(t, three, back)
	must(t, err)
	sameExport(t, exportFile(t, filepath.Join(dir, "three.db")), text)
	goesOn(t, three, pg)
	_, err = load(t, pg, text)
	is(t, err, ErrNotEmpty)
	look, err = LookPostgres(t.Context(), url)
	must(t, err)
	defer look.Close()
	f, err := look.Check(t.Context())
	must(t, err)
	same(t, slices.DeleteFunc(f.Problems, func(p string) bool { return strings.HasSuffix(p, "chunk damaged") }), []string{}) // they hold words
}

// TestSnapshot: an export sees one moment, and hinders nobody.
func TestSnapshot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	fillAll(t, s)
	before := exportFile(t, path)
	look, err := Look(t.Context(), path)
	must(t, err)
	must(t, s.AddNode(t.Context(), op.Node{Name: "later"}))
	sameExport(t, export(t, look, nil), before)
	if after := exportFile(t, path); !strings.Contains(after, "later") {
		t.Error("what was written is not there")
	}
}

// TestCheck finds what hangs in the air.
func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	fillAll(t, s)
	check := func() *Findings {
		t.Helper()
		look, err := Look(t.Context(), path)
		must(t, err)
		defer look.Close()
		f, err := look.Check(t.Context())
		must(t, err)
		return f
	}
	f := check()
	steps, err := schema.ReadDir("schema")
	must(t, err)
	same(t, []any{f.Schema, f.Rows["users"], f.Rows["intents"], f.Rows["chunks"]}, []any{len(steps), int64(1), int64(1), int64(3)})
	before := len(f.Problems)
	c := raw(t, path)
	exec1(t, c, "DELETE FROM mailboxes")
	exec1(t, c, "DELETE FROM accounts")
	must(t, s.Close())
	text := strings.Join(check().Problems[:], "\n")
	for _, want := range []string{"intents: 1 rows", "quarantine: 1 rows", "chunks: 2 rows", "scripts: 2 rows of account 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if before >= strings.Count(text, "\n")+1 {
		t.Error("nothing more was found")
	}
}

// TestLookAtOthers: what is no store of this program is not looked at, and why is said.
func TestLookAtOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	_, err := Look(t.Context(), path)
	is(t, err, op.ErrUnavailable)
	must(t, openAt(t, path).Close())
	c := raw(t, path)
	for _, version := range []string{"1", "99"} {
		exec1(t, c, "PRAGMA user_version = "+version)
		if _, err := Look(t.Context(), path); err == nil || !strings.Contains(err.Error(), "schema "+version) {
			t.Errorf("got %v", err)
		}
	}
}

// TestCheckChunks finds chunks that cannot be read, overlap, are out of order, or pair a message twice.
func TestCheckChunks(t *testing.T) {
	pair := func(old, new uint32) merge.Pair { return merge.Pair{UID: [2]uint32{old, new}} }
	chunk := func(low uint32, pairs ...merge.Pair) syncer.Chunk {
		return syncer.Chunk{Mailbox: -1, Low: low, Data: syncer.EncodePairs(pairs)}
	}
	for name, x := range map[string]struct {
		chunks []syncer.Chunk
		want   string // "" means that nothing is found
		pairs  int64
	}{
		"good":    {[]syncer.Chunk{chunk(1, pair(1, 10), pair(5, 3)), chunk(6, pair(6, 11))}, "", 3},
		"garbage": {[]syncer.Chunk{{Mailbox: -1, Low: 1, Data: bytes.Repeat([]byte{0xff}, 40)}}, "mailbox 1, chunk 1: ", 0},
		"overlap": {[]syncer.Chunk{chunk(1, pair(1, 1), pair(6, 2)), chunk(6, pair(7, 3))}, "chunk 6: the chunk before it goes up to UID 6", 3},
		"too low": {[]syncer.Chunk{chunk(5, pair(4, 1))}, "chunk 5: pair 0 is out of order", 1},
		"twice":   {[]syncer.Chunk{chunk(1, pair(1, 10)), chunk(6, pair(6, 10))}, "UID 10 on NEW stands in two pairs", 2},
		"no UID":  {[]syncer.Chunk{chunk(1, pair(1, 0))}, "out of order", 1},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			s := openAt(t, path)
			defer s.Close()
			_, err := s.Apply(t.Context(), syncer.Change{User: anna, Token: acquire(t, s, anna, "p1"), Mailboxes: []syncer.Mailbox{{User: anna}}, Chunks: x.chunks})
			must(t, err)
			look, err := Look(t.Context(), path)
			must(t, err)
			defer look.Close()
			f, err := look.Check(t.Context())
			must(t, err)
			if text := strings.Join(f.Problems, "\n"); f.Pairs != x.pairs || (x.want == "") != (text == "") || !strings.Contains(text, x.want) {
				t.Errorf("%d pairs, %q; want %d, %q", f.Pairs, text, x.pairs, x.want)
			}
		})
	}
}
