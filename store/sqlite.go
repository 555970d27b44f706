package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"mailgate/op"
)

//go:embed schema/*.sql
var schema embed.FS

// SQLite is a store in one file, with one process that writes. It implements op.Store and syncer.Store.
type SQLite struct {
	database // write has one connection
	path     string
	door     door

	mu   sync.Mutex // guards lock
	lock *os.File   // nil while the store is lent
}

// ErrDamaged means that the file is no store any more.
var ErrDamaged = errors.New("the file is damaged; it was not touched: restore it from a backup")

// busyTime bounds the wait for a lock that another process holds on the file.
const busyTime = 5 * time.Second

// pageSize is that of new files, in bytes: most folders are small, and a chunk takes whole pages.
const pageSize = 1024

// Open opens the store, makes it if need be (mode 0600), and brings its schema up to date. One process at a time may
// have it open: op.ErrInUse. A damaged file is left as it is.
func Open(ctx context.Context, path string) (*SQLite, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &SQLite{database: database{dialect: sqliteDialect()}, path: path, lock: lock}
	if err := s.open(ctx, path); err != nil {
		s.Close()
		return nil, fmt.Errorf("store %s: %w", path, err)
	}
	return s, nil
}

// lockFile takes the lock that says who writes. It ends with the process, however that ends.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(path)
		f.Close()
		return nil, fmt.Errorf("%w (pid %s, lock %s)", op.ErrInUse, strings.TrimSpace(string(pid)), path)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func (s *SQLite) open(ctx context.Context, path string) error {
	if err := inspect(ctx, path); err != nil {
		return err
	}
	if err := create(ctx, path); err != nil {
		return err
	}
	dsn := dsn(path) + "?_txlock=immediate&_pragma=busy_timeout(" + strconv.FormatInt(busyTime.Milliseconds(), 10) +
		")&_pragma=journal_mode(WAL)&_pragma=wal_autocheckpoint(4000)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	plain, err := sql.Open("sqlite", dsn) // for its driver
	if err != nil {
		return err
	}
	defer plain.Close()
	s.write = sql.OpenDB(connector{plain.Driver(), dsn, &s.door})
	s.write.SetMaxOpenConns(1)
	s.read = sql.OpenDB(connector{plain.Driver(), dsn, &s.door})
	s.read.SetMaxOpenConns(4)
	if err := s.keepLog(ctx); err != nil {
		return err
	}
	return s.migrate(ctx)
}

// create makes the file if need be. The size of its pages has to be there before the write-ahead log.
func create(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil || st.Size() > 0 {
		return err
	}
	db, err := sql.Open("sqlite", dsn(path)+"?_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA page_size = %d; PRAGMA user_version = 0", pageSize))
	return wrap(errors.Join(err, db.Close()))
}

// keepLog leaves the write-ahead log and its index where they are when the store is closed: without them a start on a
// full disk could not even read.
func (s *SQLite) keepLog(ctx context.Context) error {
	c, err := s.write.Conn(ctx)
	if err != nil {
		return wrap(err)
	}
	defer c.Close()
	return wrap(c.Raw(func(driver any) error {
		_, err := driver.(sqlite.FileControl).FileControlPersistWAL("main", 1)
		return err
	}))
}

func dsn(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }

// inspect looks at a file that exists before anything may write to it: a read-only connection neither changes it nor
// folds its write-ahead log into it.
func inspect(ctx context.Context, path string) error {
	if st, err := os.Stat(path); err != nil || st.Size() == 0 {
		return nil // it will be made, or opening it says what is wrong
	}
	db, err := sql.Open("sqlite", dsn(path)+"?mode=ro&_pragma=busy_timeout("+strconv.FormatInt(busyTime.Milliseconds(), 10)+")")
	if err != nil {
		return err
	}
	defer db.Close()
	var verdict string
	err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict)
	var e *sqlite.Error
	switch {
	case errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_CORRUPT || e.Code()&0xff == sqlite3.SQLITE_NOTADB):
		return fmt.Errorf("%w (%w)", ErrDamaged, err)
	case err != nil:
		return wrap(err)
	case verdict != "ok":
		return fmt.Errorf("%w (%s)", ErrDamaged, verdict)
	}
	return nil
}

// migrate runs the schema's steps that the file has not had yet, each in a transaction.
func (s *SQLite) migrate(ctx context.Context) error {
	var have int
	if err := s.write.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return wrap(err)
	}
	steps, err := schema.ReadDir("schema")
	if err != nil {
		return err
	}
	if have > len(steps) {
		return fmt.Errorf("the file has schema %d, this program knows %d; use the newer program", have, len(steps))
	}
	for i := have; i < len(steps); i++ {
		text, err := schema.ReadFile("schema/" + steps[i].Name())
		if err != nil {
			return err
		}
		err = s.tx(ctx, func(t *transaction) error {
			if _, err := t.tx.ExecContext(ctx, string(text)); err != nil {
				return err
			}
			_, err := t.tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", i+1))
			return err
		})
		if err != nil {
			return fmt.Errorf("migration %s: %w", steps[i].Name(), err)
		}
	}
	return nil
}

// sqliteDialect is the one that the statements are written in.
func sqliteDialect() dialect {
	return dialect{wipe: wipeSQLite, scrub: scrubSQLite, bind: func(query string) string { return query }, args: func(args []any) []any { return args }, wrap: wrap, stale: func(error) bool { return false },
		now: func(context.Context, *transaction) (time.Time, error) { return time.Now(), nil },
		lastID: func(ctx context.Context, t *transaction, table string, n int64) error {
			if table == "accounts" { // goes on after the highest by itself
				return nil
			}
			if _, err := t.exec(ctx, "DELETE FROM sqlite_sequence WHERE name=?", table); err != nil {
				return err
			}
			_, err := t.exec(ctx, "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", table, n)
			return err
		}}
}

// wrap marks errors that are the disk's or a lock's, by SQLite's result code.
func wrap(err error) error {
	if err == nil || errors.Is(err, op.ErrUnavailable) {
		return err
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
			sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL:
			return fmt.Errorf("%w: %w", op.ErrUnavailable, err)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", op.ErrUnavailable, err)
	}
	return err
}

// Close implements op.Store. The log is emptied into the file, so that a file restored from a backup is not overlaid
// with it.
func (s *SQLite) Close() error {
	var errs []error
	if s.write != nil && !s.door.shut.Load() {
		s.emptyLog()
	}
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
