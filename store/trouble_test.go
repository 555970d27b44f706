package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

// trouble writes changes until the trouble that begin makes stops them: a clear error, nothing half written, reading works,
// and after end writing goes on by itself.
func trouble(t *testing.T, s Store, begin, end func()) {
	t.Helper()
	ctx := t.Context()
	c, a := fillSyncer(t, s)
	begin()
	next := syncer.Change{User: anna, Token: c.Token, Mailboxes: c.Mailboxes[:1], Chunks: []syncer.Chunk{{Mailbox: -1, Low: 1, Generation: 1}},
		DropIntents: a.Intents[:1], AddIntents: []syncer.Intent{{Mailbox: -1, Kind: syncer.IntentMove}}}
	next.Mailboxes[0].ID = a.Mailboxes[0]
	before := dumpSyncer(t, s)
	for n := 0; ; n++ {
		next.Chunks[0].Data = []byte(strings.Repeat(fmt.Sprintf("%16d", n), 8<<10)) // new pages each time
		next.Chunks[0].Low, next.Chunks[0].Generation = uint32(10000+n), 0
		done, err := s.Apply(ctx, next)
		if err != nil {
			is(t, err, op.ErrUnavailable)
			break
		}
		if n == 1000 {
			t.Fatal("there is no trouble")
		}
		next.DropIntents, before = done.Intents, dumpSyncer(t, s)
	}
	if m := dumpSyncer(t, s); !equal(m, before) {
		t.Errorf("half a change is there: %v", m)
	}
	end()
	_, err := s.Apply(ctx, next)
	must(t, err)
	if now := dumpSyncer(t, s)[anna]; len(now.Intents) != 2 {
		t.Errorf("intents: %+v", now.Intents)
	}
}

func equal(a, b map[string]everything) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// smallDisk is a file system of a few hundred kilobytes, and functions that fill it and make room.
func smallDisk(t *testing.T, size string) (dir string, fill, clean func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "disk")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("MAILGATE_REQUIRE_LAB") != "" {
			t.Fatalf("a small disk to fill: %v", err)
		}
		t.Skipf("a small disk to fill: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	filler := filepath.Join(dir, "filler")
	return dir, func() {
		f, err := os.Create(filler)
		must(t, err)
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}, func() { must(t, os.Remove(filler)) }
}

func TestApplyOnFullDisk(t *testing.T) {
	dir, fill, clean := smallDisk(t, "4m")
	s := openAt(t, filepath.Join(dir, "state.db"))
	defer s.Close()
	trouble(t, s, fill, clean)
}

func TestApplyLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openAt(t, path)
	defer s.Close()
	_, err := s.write.ExecContext(t.Context(), "PRAGMA busy_timeout = 50")
	must(t, err)
	c := raw(t, path)
	trouble(t, s, func() { exec1(t, c, "BEGIN IMMEDIATE") }, func() { exec1(t, c, "ROLLBACK") })
}

func TestApplyReadOnly(t *testing.T) {
	s := openAt(t, filepath.Join(t.TempDir(), "state.db"))
	defer s.Close()
	set := func(v string) func() {
		return func() {
			_, err := s.write.ExecContext(t.Context(), "PRAGMA query_only = "+v) // root writes through file modes
			must(t, err)
		}
	}
	trouble(t, s, set("1"), set("0"))
}

// postgresFull: the disk of the tables is full.
func postgresFull(t *testing.T, c *cluster) {
	dir, fill, clean := smallDisk(t, "8m")
	space := filepath.Join(dir, "space")
	must(t, os.Mkdir(space, 0o700))
	must(t, os.Chmod(dir, 0o755))
	if c.cred != nil {
		must(t, os.Chown(space, int(c.cred.Uid), int(c.cred.Gid)))
	}
	c.sql(t, "postgres", "CREATE TABLESPACE small LOCATION '"+space+"'")
	s := openPG(t, c.fresh(t)+"&default_tablespace=small")
	trouble(t, s, fill, clean)
	must(t, s.Close())
	c.sql(t, "postgres", "DROP DATABASE "+c.last())
	c.sql(t, "postgres", "DROP TABLESPACE small")
}

// postgresLocked: somebody holds a lock for long.
func postgresLocked(t *testing.T, c *cluster) {
	url := c.fresh(t)
	s := openPG(t, url+"&lock_timeout=100ms")
	defer s.Close()
	other := openPG(t, url)
	defer other.Close()
	tx, err := other.write.Begin()
	must(t, err)
	trouble(t, s, func() {
		_, err := tx.Exec("LOCK TABLE chunks IN EXCLUSIVE MODE")
		must(t, err)
	}, func() { must(t, tx.Rollback()) })
}

// postgresTurnsReadOnly: as a standby, or a server whose disk went bad.
func postgresTurnsReadOnly(t *testing.T, c *cluster) {
	s := openPG(t, c.fresh(t))
	defer s.Close()
	set := func(v string) func() {
		return func() {
			c.sql(t, "postgres", "ALTER DATABASE "+c.last()+" SET default_transaction_read_only = "+v)
			c.cut(t)
		}
	}
	trouble(t, s, set("on"), set("off"))
}

// cut ends all connections to the last database.
func (c *cluster) cut(t *testing.T) {
	t.Helper()
	c.sql(t, "postgres", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '"+c.last()+"'")
}

// postgresSilent: a server that stands still is an error after a time, and not for ever.
func postgresSilent(t *testing.T, c *cluster) {
	s := openPG(t, c.fresh(t))
	defer s.Close()
	s.silence = 300 * time.Millisecond
	c2, _ := fillSyncer(t, s)
	before := dumpSyncer(t, s)
	other := openPG(t, c.url(c.last())+"&lock_timeout=0")
	defer other.Close()
	var pids []int
	rows, err := other.read.Query("SELECT pid FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()", c.last())
	must(t, err)
	for rows.Next() {
		var pid int
		must(t, rows.Scan(&pid))
		pids = append(pids, pid)
	}
	must(t, rows.Close())
	still := func(sig syscall.Signal) {
		for _, pid := range pids {
			must(t, syscall.Kill(pid, sig))
		}
	}
	still(syscall.SIGSTOP)
	began := time.Now()
	for range pids { // one after the other is found to stand still
		_, err = s.Apply(t.Context(), syncer.Change{User: anna, Token: c2.Token, Mailboxes: []syncer.Mailbox{{User: anna}}})
		if err != nil {
			break
		}
	}
	still(syscall.SIGCONT)
	is(t, err, op.ErrUnavailable)
	if !errors.Is(err, errSilent) || time.Since(began) > 4*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	same(t, dumpSyncer(t, s), before)
	_, err = s.Apply(t.Context(), syncer.Change{User: anna, Token: c2.Token, Mailboxes: []syncer.Mailbox{{User: anna}}})
	must(t, err)
}

// postgresCut: connections are cut while changes are written; the calls after go on.
func postgresCut(t *testing.T, c *cluster) {
	s := openPG(t, c.fresh(t))
	defer s.Close()
	token := acquire(t, s, anna, "p1")
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		acked := int64(0)
		defer func() { done <- acked }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			_, err := s.Apply(t.Context(), syncer.Change{User: anna, Token: token, Mailboxes: []syncer.Mailbox{{User: anna}}})
			switch {
			case err == nil:
				acked++
			case !errors.Is(err, op.ErrUnavailable):
				t.Error(err)
				return
			}
		}
	}()
	for range 10 {
		time.Sleep(20 * time.Millisecond)
		c.cut(t)
	}
	close(stop)
	acked := <-done
	list, err := s.Mailboxes(t.Context(), anna)
	must(t, err)
	if n := int64(len(list)); acked == 0 || n < acked || n > acked+10 {
		t.Errorf("%d acknowledged, %d there", acked, n)
	}
}

// TestNoPasswordInErrors: what a URL holds is in no error.
func TestNoPasswordInErrors(t *testing.T) {
	for _, url := range []string{"postgres://u:hunter2@127.0.0.1:1/x", "postgres://u:hunter2@127.0.0.1:port/x",
		"postgres://u:hunter2@127.0.0.1:1/x?sslmode=perhaps", "postgres://u:hunter2@[::1/x", "postgres://u@127.0.0.1:1/x?password=hunter2&connect_timeout=x",
		"postgres://u:hunter2%zz@127.0.0.1:1/x"} {
		_, err := OpenPostgres(t.Context(), url)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
		_, err = LookPostgres(t.Context(), url)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}
