package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailgate/op"
	"mailgate/syncer"
)

// cluster is a PostgreSQL server of a test's own, on a socket in its folder.
type cluster struct {
	dir, bin string
	cred     *syscall.Credential
	cmd      *exec.Cmd
	log      bytes.Buffer
	n        int
}

// newCluster makes a server and starts it. Without PostgreSQL the test fails: make setup installs it.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed; run make setup")
	}
	dir, err := os.MkdirTemp("", "pg")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &cluster{dir: dir, bin: filepath.Dir(found[len(found)-1])}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		c.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		must(t, os.Chown(dir, uid, gid))
	}
	if out, err := c.command("initdb", "-D", dir+"/data", "-U", "mailgate", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.start(t)
	t.Cleanup(func() { c.kill() })
	return c
}

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.cred, Setpgid: true}
	return cmd
}

func (c *cluster) start(t *testing.T) {
	t.Helper()
	c.cmd = c.command("postgres", "-D", c.dir+"/data", "-k", c.dir, "-c", "listen_addresses=", "-c", "max_connections=60", "-c", "fsync=off", // the machine stays up
		"-c", "shared_buffers=16MB")
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	must(t, c.cmd.Start())
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		db, err := sql.Open("pgx", c.url("postgres"))
		must(t, err)
		err = db.Ping()
		db.Close()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%v\n%s", err, c.log.String())
		}
	}
}

// kill ends the whole server at once, as a loss of power does.
func (c *cluster) kill() {
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	_ = c.cmd.Wait()
	// The backends left the group of the postmaster: they end when they see that it is gone.
	time.Sleep(100 * time.Millisecond)
}

func (c *cluster) url(db string) string {
	return fmt.Sprintf("postgres://mailgate@/%s?host=%s", db, c.dir)
}

// last names the database that fresh made last.
func (c *cluster) last() string { return fmt.Sprintf("m%d", c.n) }

// fresh makes an empty database and returns its URL.
func (c *cluster) fresh(t *testing.T) string {
	t.Helper()
	c.n++
	c.sql(t, "postgres", "CREATE DATABASE "+c.last())
	return c.url(c.last())
}

func (c *cluster) sql(t *testing.T, db, q string) {
	t.Helper()
	d, err := sql.Open("pgx", c.url(db))
	must(t, err)
	defer d.Close()
	_, err = d.Exec(q)
	must(t, err)
}

func openPG(t *testing.T, url string) *Postgres {
	t.Helper()
	s, err := OpenPostgres(t.Context(), url)
	must(t, err)
	return s
}

func TestPostgres(t *testing.T) {
	c := newCluster(t)
	t.Run("conforms", func(t *testing.T) {
		urls := map[op.Store]string{}
		conform(t, func(t *testing.T) op.Store {
			url := c.fresh(t)
			s := openPG(t, url)
			urls[s] = url
			return s
		}, func(t *testing.T, s op.Store) op.Store {
			must(t, s.Close())
			return openPG(t, urls[s])
		})
	})
	t.Run("conforms for the syncer", func(t *testing.T) {
		urls := map[both]string{}
		conformSyncer(t, func(t *testing.T) (both, both) {
			url := c.fresh(t)
			one, two := openPG(t, url), openPG(t, url)
			urls[one] = url
			return one, two
		}, func(t *testing.T, s both) both {
			must(t, s.Close())
			return openPG(t, urls[s])
		})
	})
	t.Run("two processes", func(t *testing.T) { postgresTwo(t, c) })
	t.Run("one writer", func(t *testing.T) { postgresWriter(t, c) })
	t.Run("nodes", func(t *testing.T) { postgresNodes(t, c) })
	t.Run("leases of nodes", func(t *testing.T) { postgresLeases(t, c) })
	t.Run("names of nodes", func(t *testing.T) { postgresRename(t, c) })
	t.Run("a node is removed", func(t *testing.T) { postgresRemoved(t, c) })
	t.Run("wire", func(t *testing.T) { postgresWire(t, c) })
	t.Run("newer schema", func(t *testing.T) { postgresNewer(t, c) })
	t.Run("read-only", func(t *testing.T) { postgresReadOnly(t, c) })
	t.Run("transfer", func(t *testing.T) { postgresTransfer(t, c) })
	t.Run("fence", func(t *testing.T) { postgresFence(t, c) })
	t.Run("snapshot", func(t *testing.T) { postgresSnapshot(t, c) })
	t.Run("stale connections", func(t *testing.T) { postgresStale(t, c) })
	t.Run("full disk", func(t *testing.T) { postgresFull(t, c) })
	t.Run("locked", func(t *testing.T) { postgresLocked(t, c) })
	t.Run("turns read-only", func(t *testing.T) { postgresTurnsReadOnly(t, c) })
	t.Run("silent", func(t *testing.T) { postgresSilent(t, c) })
	t.Run("cut", func(t *testing.T) { postgresCut(t, c) })
	t.Run("late commit", func(t *testing.T) { postgresLateCommit(t, c) })
	t.Run("killed", func(t *testing.T) { postgresKilled(t, c) })
}

// postgresTwo: of two processes that saw the same generation one wins, and both may make the schema at once.
func postgresTwo(t *testing.T, c *cluster) {
	url := c.fresh(t)
	var stores [2]*Postgres
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() { stores[i], _ = OpenPostgres(t.Context(), url) })
	}
	wg.Wait()
	if stores[0] == nil || stores[1] == nil {
		t.Fatal("one could not open it")
	}
	defer stores[0].Close()
	defer stores[1].Close()
	must(t, stores[0].AddRows(t.Context(), []op.Row{alice}))
	for gen := range int64(20) {
		var errs [2]error
		for i, s := range stores {
			wg.Go(func() {
				next := alice
				next.Generation = gen + 1
				errs[i] = s.Swap(t.Context(), gen, next, op.Operation{}, nil, op.Event{What: "won"})
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), op.ErrConflict) {
			t.Fatal(errs)
		}
	}
	h, err := stores[1].History(t.Context(), op.HistoryFilter{})
	must(t, err)
	same(t, len(h), 20)
}

// unlocked waits until the database has noticed that the writer's connection is gone.
func unlocked(t *testing.T, p *Postgres) {
	t.Helper()
	for n, end := 1, time.Now().Add(10*time.Second); n > 0; time.Sleep(time.Millisecond) {
		must(t, p.read.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&n))
		if time.Now().After(end) {
			t.Fatal("the lock is still held")
		}
	}
}

// postgresWriter: one at a time; who lost his place writes nothing.
func postgresWriter(t *testing.T, c *cluster) {
	url, ctx := c.fresh(t), t.Context()
	one, err := OpenPostgresWriter(ctx, url)
	must(t, err)
	defer one.Close()
	_, err = OpenPostgresWriter(ctx, url)
	is(t, err, op.ErrInUse)
	must(t, one.AddRows(ctx, []op.Row{alice}))

	// The connection that holds the lock is cut: it is taken again.
	cut := func() {
		_, err := one.read.ExecContext(ctx, `SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
		must(t, err)
	}
	cut()
	one.writer.keep(ctx)
	must(t, one.AddEvents(ctx, op.Event{What: "goes on"}))
	_, err = OpenPostgresWriter(ctx, url)
	is(t, err, op.ErrInUse)

	// It is cut, and another was quicker.
	one.writer.drop()
	unlocked(t, one)
	two, err := OpenPostgresWriter(ctx, url)
	must(t, err)
	is(t, one.AddEvents(ctx, op.Event{What: "no"}), op.ErrInUse)
	one.writer.keep(ctx)
	is(t, one.AddEvents(ctx, op.Event{What: "no"}), op.ErrInUse)
	must(t, two.AddEvents(ctx, op.Event{What: "yes"}))
	must(t, two.Close())
	unlocked(t, one)
	three, err := OpenPostgresWriter(ctx, url)
	must(t, err)
	defer three.Close()
	h, err := three.History(ctx, op.HistoryFilter{})
	must(t, err)
	same(t, []string{h[0].What, h[1].What}, []string{"yes", "goes on"})
}

func postgresNewer(t *testing.T, c *cluster) {
	url := c.fresh(t)
	s := openPG(t, url)
	_, err := s.write.Exec("UPDATE schema_version SET version = 99")
	must(t, err)
	must(t, s.Close())
	if _, err := OpenPostgres(t.Context(), url); err == nil || !bytes.Contains([]byte(err.Error()), []byte("newer")) {
		t.Errorf("got %v", err)
	}
}

func postgresReadOnly(t *testing.T, c *cluster) {
	url := c.fresh(t)
	must(t, openPG(t, url).Close())
	s := openPG(t, url+"&default_transaction_read_only=on")
	defer s.Close()
	is(t, s.Check(t.Context()), op.ErrUnavailable)
	_, err := s.Pins(t.Context())
	must(t, err)
}

// postgresKilled: the server is killed while changes are written: each is there whole or not at all, those that were
// acknowledged are there, and the store goes on by itself.
func postgresKilled(t *testing.T, c *cluster) {
	ctx := t.Context()
	s, err := OpenPostgresWriter(ctx, c.fresh(t))
	must(t, err)
	defer s.Close()
	token := acquire(t, s, anna, "p1")
	change := syncer.Change{User: anna, Token: token, Mailboxes: []syncer.Mailbox{sample(anna)}, Chunks: []syncer.Chunk{{Mailbox: -1, Low: 1, Data: make([]byte, 16<<10)}},
		AddIntents: []syncer.Intent{{Mailbox: -1, Kind: syncer.IntentAppend}}}
	for range 3 {
		failed, acked := make(chan error), int64(0)
		go func() {
			for {
				a, err := s.Apply(ctx, change)
				if err != nil {
					failed <- err
					return
				}
				change.Mailboxes[0].ID, change.DropIntents, acked = a.Mailboxes[0], a.Intents, change.Chunks[0].Generation+1
				change.Chunks[0].Generation = acked
			}
		}()
		time.Sleep(150 * time.Millisecond)
		c.kill()
		is(t, <-failed, op.ErrUnavailable)
		_, err := s.Mailboxes(ctx, anna)
		is(t, err, op.ErrUnavailable)
		c.start(t)
		var list []syncer.Mailbox
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if list, err = s.Mailboxes(ctx, anna); err == nil {
				break
			}
			is(t, err, op.ErrUnavailable)
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
		same(t, len(list), 1)
		chunks, err := s.Chunks(ctx, list[0].ID)
		must(t, err)
		intents, err := s.Intents(ctx, anna)
		must(t, err)
		if g := chunks[0].Generation; len(chunks) != 1 || len(intents) != 1 || g < acked || g > acked+1 {
			t.Fatalf("acknowledged %d, found %+v and %d intents", acked, g, len(intents))
		}
		change.Mailboxes[0].ID, change.Chunks[0].Generation, change.DropIntents = list[0].ID, chunks[0].Generation, []int64{intents[0].ID}
		_, err = s.Apply(ctx, change)
		must(t, err)
		change.Chunks[0].Generation++
		change.DropIntents = nil
		intents, err = s.Intents(ctx, anna)
		must(t, err)
		change.DropIntents = []int64{intents[0].ID}
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	must(t, s.Check(short))
}

// postgresFence: who takes an account waits for a change that has looked at the token already.
func postgresFence(t *testing.T, c *cluster) {
	url, ctx := c.fresh(t), t.Context()
	one, two := openPG(t, url), openPG(t, url)
	defer one.Close()
	defer two.Close()
	token, err := one.Acquire(ctx, anna, "p1", time.Millisecond)
	must(t, err)
	time.Sleep(20 * time.Millisecond)
	took := make(chan error, 1)
	must(t, one.tx(ctx, func(tx *transaction) error {
		if _, err := tx.holder(ctx, anna, token); err != nil {
			return err
		}
		go func() {
			_, err := two.Acquire(ctx, anna, "p2", time.Minute)
			took <- err
		}()
		select {
		case err := <-took:
			return fmt.Errorf("taken in the middle of a change (%v)", err)
		case <-time.After(300 * time.Millisecond):
			return nil
		}
	}))
	must(t, <-took)
	_, err = one.Apply(ctx, syncer.Change{User: anna, Token: token})
	is(t, err, syncer.ErrFenced)
}

// postgresSnapshot: an export sees one moment.
func postgresSnapshot(t *testing.T, c *cluster) {
	url := c.fresh(t)
	s := openPG(t, url)
	defer s.Close()
	fillAll(t, s)
	look, err := LookPostgres(t.Context(), url)
	before := export(t, look, err)
	look, err = LookPostgres(t.Context(), url)
	must(t, err)
	must(t, s.AddNode(t.Context(), op.Node{Name: "later"}))
	sameExport(t, export(t, look, nil), before)
	look, err = LookPostgres(t.Context(), url)
	if after := export(t, look, err); after == before {
		t.Error("what was written is not there")
	}
}

// postgresStale: connections that died unseen cost no call.
func postgresStale(t *testing.T, c *cluster) {
	url, ctx := c.fresh(t), t.Context()
	s := openPG(t, url)
	defer s.Close()
	other, err := sql.Open("pgx", c.url("postgres"))
	must(t, err)
	defer other.Close()
	cut := func() {
		t.Helper()
		var n int
		must(t, other.QueryRow("SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1", c.last()).Scan(&n))
		time.Sleep(30 * time.Millisecond) // so soon that nobody asks whether they live
		if n == 0 {
			t.Error("there was no connection to cut")
		}
	}
	must(t, other.Ping())
	for range 3 {
		must(t, s.Check(ctx))
		cut()
		must(t, s.Check(ctx))
		cut()
		_, err := s.Pins(ctx)
		must(t, err)
	}
}
