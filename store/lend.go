package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"mailgate/op"
)

// ErrLent means that another process has the store for now.
var ErrLent = fmt.Errorf("%w: another process of this gateway has it", op.ErrUnavailable)

// door lets connections be made while it is open.
type door struct{ shut atomic.Bool }

// connector makes connections to the file.
type connector struct {
	driver driver.Driver
	dsn    string
	door   *door
}

// Connect implements driver.Connector.
func (c connector) Connect(context.Context) (driver.Conn, error) {
	if c.door.shut.Load() {
		return nil, ErrLent
	}
	return c.driver.Open(c.dsn)
}

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return c.driver }

// Lend gives the file up without ending the store: what is under way ends first, all that comes later is ErrLent, and another process may
// open it. TakeBack ends that.
func (s *SQLite) Lend(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return ErrLent
	}
	s.emptyLog()
	s.door.shut.Store(true)
	for _, db := range []*sql.DB{s.read, s.write} {
		db.SetMaxIdleConns(0) // those that are idle end now, those that are in use behind that
		for db.Stats().OpenConnections > 0 {
			select {
			case <-ctx.Done():
				s.admitAgain()
				return fmt.Errorf("%w: what is under way in the store does not end: %w", op.ErrUnavailable, context.Cause(ctx))
			case <-time.After(time.Millisecond):
			}
		}
	}
	err := s.lock.Close()
	s.lock = nil
	return err
}

// admitAgain lets connections be made, and kept, again.
func (s *SQLite) admitAgain() {
	s.door.shut.Store(false)
	s.read.SetMaxIdleConns(keptIdle)
	s.write.SetMaxIdleConns(keptIdle)
}

// keptIdle is database/sql's own number.
const keptIdle = 2

// TakeBack opens a store again that was lent: op.ErrInUse while the other process has it. A newer program may have changed it so that
// this one cannot use it any more: then it stays lent.
func (s *SQLite) TakeBack(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil {
		return nil
	}
	lock, err := lockFile(s.path + ".lock")
	if err != nil {
		return err
	}
	s.admitAgain()
	if err = s.keepLog(ctx); err == nil {
		err = s.migrate(ctx)
	}
	if err != nil {
		s.door.shut.Store(true)
		s.read.SetMaxIdleConns(0)
		s.write.SetMaxIdleConns(0)
		return errors.Join(fmt.Errorf("store %s: %w", s.path, err), lock.Close())
	}
	s.lock = lock
	return nil
}

// emptyLog moves the write-ahead log into the file; what stays there is read by the next start.
func (s *SQLite) emptyLog() {
	ctx, cancel := context.WithTimeout(context.Background(), busyTime)
	defer cancel()
	_, _ = s.write.ExecContext(ctx, "PRAGMA busy_timeout = 1000; PRAGMA wal_checkpoint(TRUNCATE)")
}
