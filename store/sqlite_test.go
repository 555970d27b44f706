package store

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailgate/op"
)

// TestMain makes the test binary a child that works on a store, when a test starts it so.
func TestMain(m *testing.M) {
	switch path := os.Getenv("STORE_TEST_PATH"); os.Getenv("STORE_TEST_CHILD") {
	case "write":
		childWrite(path)
	case "full":
		childFull(path)
	default:
		goleak.VerifyTestMain(m)
	}
}

func child(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	c := exec.Command(exe)
	c.Env = append(os.Environ(), "STORE_TEST_CHILD="+role, "STORE_TEST_PATH="+path)
	return c
}

func openAt(t *testing.T, path string) *SQLite {
	t.Helper()
	s, err := Open(t.Context(), path)
	must(t, err)
	return s
}

func TestSQLiteConforms(t *testing.T) {
	paths := map[op.Store]string{}
	conform(t, func(t *testing.T) op.Store {
		path := filepath.Join(t.TempDir(), "a ?#%", "state.db") // a path is no URL
		s := openAt(t, path)
		paths[s] = path
		return s
	}, func(t *testing.T, s op.Store) op.Store {
		must(t, s.Close())
		return openAt(t, paths[s])
	})
}

func TestSQLiteConformsForSyncer(t *testing.T) {
	paths := map[both]string{}
	conformSyncer(t, func(t *testing.T) (both, both) {
		path := filepath.Join(t.TempDir(), "state.db")
		s := openAt(t, path)
		paths[s] = path
		return s, s
	}, func(t *testing.T, s both) both {
		must(t, s.Close())
		return openAt(t, paths[s])
	})
}

func TestFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	must(t, s.AddRows(t.Context(), []op.Row{alice}))
	for _, f := range []string{path, path + "-wal", path + ".lock"} {
		st, err := os.Stat(f)
		must(t, err)
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", filepath.Base(f), st.Mode())
		}
	}
}

func TestOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	_, err := Open(t.Context(), path)
	is(t, err, op.ErrInUse)
	if !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("the error does not say who: %v", err)
	}
	must(t, s.Close())
	must(t, openAt(t, path).Close())
}

// childWrite writes flips until it is killed, and prints each generation that the store has acknowledged.
func childWrite(path string) {
	ctx := context.Background()
	s, err := Open(ctx, path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	row, err := s.Row(ctx, alice.User)
	if errors.Is(err, op.ErrNotFound) {
		row = alice
		err = s.AddRows(ctx, []op.Row{row})
	}
	for err == nil {
		var o op.Operation
		if o, err = s.NewOperation(ctx, op.Operation{Kind: op.Flip, User: row.User, Status: op.Accepted}); err != nil {
			break
		}
		from := row.Generation
		row.Generation++
		row.Op, o.Status = o.ID, op.Done
		if err = s.Swap(ctx, from, row, o, nil, op.Event{User: row.User, What: "step", Detail: fmt.Sprint(row.Generation)}); err == nil {
			fmt.Println(row.Generation)
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

// TestKilledWriter: what was acknowledged is there after kill -9, whole, and at most one step more.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	acked := int64(0)
	for range 8 {
		c := child(t, "write", path)
		out, err := c.StdoutPipe()
		must(t, err)
		must(t, c.Start())
		stop := acked + 1 + rand.Int64N(60)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			n, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				t.Fatal(lines.Text())
			}
			if acked = n; n == stop {
				must(t, c.Process.Signal(syscall.SIGKILL))
			}
		}
		_ = c.Wait()

		s := openAt(t, path)
		row, err := s.Row(t.Context(), alice.User)
		must(t, err)
		if row.Generation < acked || row.Generation > acked+1 {
			t.Fatalf("acknowledged %d, found %d", acked, row.Generation)
		}
		h, err := s.History(t.Context(), op.HistoryFilter{})
		must(t, err)
		o, err := s.Operation(t.Context(), row.Op)
		must(t, err)
		if int64(len(h)) != row.Generation || h[0].Detail != fmt.Sprint(row.Generation) || o.Status != op.Done {
			t.Fatalf("row at %d, %d events, operation %s: a half transaction", row.Generation, len(h), o.Status)
		}
		acked = row.Generation
		must(t, s.Close())
	}
}

// childFull works on a store whose files may not grow, and prints what happened.
func childFull(path string) {
	ctx := context.Background()
	s, err := Open(ctx, path)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		panic(err)
	}
	row, gen := alice, int64(0)
	if err := s.AddRows(ctx, []op.Row{row}); err != nil {
		panic(err)
	}
	small := was
	small.Cur = 64 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		panic(err)
	}
	for range 1000 {
		row.Generation = gen + 1
		err = s.Swap(ctx, gen, row, op.Operation{}, nil, op.Event{What: "step", Detail: strings.Repeat("x", 4000)})
		if err != nil {
			break
		}
		gen++
	}
	fmt.Println("full:", errors.Is(err, op.ErrUnavailable), err)
	_, err = s.Import(ctx, op.ImportTx{Serial: "no", Events: []op.Event{{What: "no", Detail: strings.Repeat("x", 40000)}}})
	fmt.Println("import:", errors.Is(err, op.ErrUnavailable))
	got, err := s.Row(ctx, row.User)
	fmt.Println("read:", got.Generation == gen, err)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		panic(err)
	}
	row.Generation = gen + 1
	fmt.Println("again:", s.Swap(ctx, gen, row, op.Operation{}, nil, op.Event{What: "step"}))
	h, err := s.History(ctx, op.HistoryFilter{})
	serial, serr := s.Desired(ctx, func(op.Desired) error { return nil })
	fmt.Println("whole:", int64(len(h)) == gen+1, err, serial == "", serr)
	fmt.Println("close:", s.Close())
	os.Exit(0)
}

// TestFullDisk: a file that cannot grow is ErrUnavailable, reading goes on, and so does writing when there is room.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	out, err := child(t, "full", path).CombinedOutput()
	for _, want := range []string{"full: true", "import: true", "read: true <nil>", "again: <nil>", "whole: true <nil> true <nil>", "close: <nil>"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing (%v) in\n%s", want, err, out)
		}
	}
	must(t, openAt(t, path).Close())
}

// TestLogStays: an orderly end leaves the log and its index, without which a start on a full disk could not read, and
// leaves nothing in the log that would be laid over a file restored from a backup.
func TestLogStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	must(t, s.AddRows(t.Context(), []op.Row{alice}))
	must(t, s.Close())
	for suffix, empty := range map[string]bool{"-wal": true, "-shm": false} {
		st, err := os.Stat(path + suffix)
		must(t, err)
		if (st.Size() == 0) != empty {
			t.Errorf("%s has %d bytes", suffix, st.Size())
		}
	}
}

// raw is another program's connection to the file.
func raw(t *testing.T, path string) *sql.Conn {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	c, err := db.Conn(t.Context())
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func exec1(t *testing.T, c *sql.Conn, q string) {
	t.Helper()
	_, err := c.ExecContext(t.Context(), q)
	must(t, err)
}

// TestLocked: while another program has the file locked, writing is ErrUnavailable and reading works; then it goes on.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	must(t, s.AddRows(t.Context(), []op.Row{alice}))
	c := raw(t, path)
	exec1(t, c, "BEGIN EXCLUSIVE")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	next := alice
	next.Generation = 1
	is(t, s.Swap(ctx, 0, next, op.Operation{}, nil), op.ErrUnavailable)
	got, err := s.Row(t.Context(), alice.User)
	must(t, err)
	same(t, got, alice)
	exec1(t, c, "ROLLBACK")
	must(t, s.Swap(t.Context(), 0, next, op.Operation{}, nil))
}

// TestReadOnly: a file that turns read-only under us.
func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	must(t, s.AddRows(t.Context(), []op.Row{alice}))
	_, err := s.write.ExecContext(t.Context(), "PRAGMA query_only = 1") // root writes through file modes
	must(t, err)
	is(t, s.Check(t.Context()), op.ErrUnavailable)
	got, err := s.Row(t.Context(), alice.User)
	must(t, err)
	same(t, got, alice)
	_, err = s.write.ExecContext(t.Context(), "PRAGMA query_only = 0")
	must(t, err)
	must(t, s.Check(t.Context()))
}

// TestDamaged: a damaged file is refused with a clear error, and not a byte of it or of its log is changed.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.db")
	s := openAt(t, path)
	for i := range 50 {
		must(t, s.AddEvents(t.Context(), op.Event{User: fmt.Sprint(i), What: strings.Repeat("x", 300)}))
	}
	must(t, s.Close())
	good, err := os.ReadFile(path)
	must(t, err)
	for name, damage := range map[string]func([]byte) []byte{
		"no database": func([]byte) []byte { return []byte("# alice@example.com old\n" + strings.Repeat("x", 2000)) },
		"cut off":     func(b []byte) []byte { return b[:len(b)/2] },
		"torn page": func(b []byte) []byte {
			return append(append(bytes.Clone(b[:8192]), make([]byte, 4096)...), b[12288:]...)
		},
		"header alone": func(b []byte) []byte { return b[:50] },
	} {
		t.Run(name, func(t *testing.T) {
			bad := damage(bytes.Clone(good))
			must(t, os.WriteFile(path, bad, 0o600))
			_, err := Open(t.Context(), path)
			is(t, err, ErrDamaged)
			now, err := os.ReadFile(path)
			must(t, err)
			if !bytes.Equal(now, bad) {
				t.Error("the damaged file was changed")
			}
		})
	}
	must(t, os.WriteFile(path, good, 0o600))
	must(t, openAt(t, path).Close())
}

// TestNewerSchema: a file of a newer program is refused and left alone.
func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	must(t, openAt(t, path).Close())
	c := raw(t, path)
	var version int
	must(t, c.QueryRowContext(t.Context(), "PRAGMA user_version").Scan(&version))
	exec1(t, c, "PRAGMA user_version = 99")
	exec1(t, c, "PRAGMA wal_checkpoint(TRUNCATE)")
	before, err := os.ReadFile(path)
	must(t, err)
	if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the newer file was changed")
	}
	exec1(t, c, fmt.Sprintf("PRAGMA user_version = %d", version))
	must(t, openAt(t, path).Close())
}

// TestManyOpenOperations: what a user's status asks does not read everybody's operations, however many are open.
func TestManyOpenOperations(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "state.db"))
	defer s.Close()
	im := op.ImportTx{Serial: "s"}
	for i := range 2000 {
		im.Operations = append(im.Operations, op.Operation{Kind: op.Flip, User: fmt.Sprintf("u%d@example.com", i), Status: op.Accepted})
	}
	_, err := s.Import(t.Context(), im)
	must(t, err)
	for _, f := range []op.Filter{{Parent: "op-7"}, {Parent: "op-7", Open: true}, {User: "u5@example.com", Open: true}, {Kind: op.Import, Open: true}, {Open: true, Limit: 10}} {
		query, args := operationsQuery(f)
		var id, parent, unused int
		var plan string
		must(t, s.read.QueryRowContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...).Scan(&id, &parent, &unused, &plan))
		if !strings.Contains(plan, "INDEX operations_") {
			t.Errorf("%+v: %s", f, plan)
		}
	}
}

// TestOlderSchema: a file of the version before is brought up to date, with what is in it.
func TestOlderSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	text, err := schema.ReadFile("schema/0001.sql")
	must(t, err)
	c := raw(t, path)
	exec1(t, c, string(text)+"; PRAGMA user_version = 1; INSERT INTO users VALUES ('"+alice.User+"', 0, 0, 0, 'SETTLED', 0, '', 0)")
	must(t, c.Close())
	s := openAt(t, path)
	defer s.Close()
	row, err := s.Row(t.Context(), alice.User)
	must(t, err)
	same(t, row.User, alice.User)
	fillSyncer(t, s)
}
