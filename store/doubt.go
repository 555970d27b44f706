package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"mailgate/op"
)

// doubts are backends of PostgreSQL that were told to commit, and whose answer was lost: they may still do it. Before
// anything else is read or written they are ended, so that what is read back is final.
type doubts struct {
	db *sql.DB

	mu   sync.Mutex
	pids map[uint32]bool
}

// begin begins a transaction and names its backend; release gives the connection back.
func (q *doubts) begin(ctx context.Context) (tx *sql.Tx, pid uint32, release func(), err error) {
	conn, err := q.db.Conn(ctx)
	if err != nil {
		return nil, 0, nil, err
	}
	err = conn.Raw(func(c any) error {
		pid = c.(*stdlib.Conn).Conn().PgConn().PID()
		return nil
	})
	if err == nil {
		tx, err = conn.BeginTx(ctx, nil)
	}
	if err != nil {
		conn.Close()
		return nil, 0, nil, err
	}
	return tx, pid, func() { conn.Close() }, nil
}

// committed is called with what a COMMIT said.
func (q *doubts) committed(ctx context.Context, pid uint32, err error) {
	var server *pgconn.PgError
	if err == nil || errors.As(err, &server) {
		return
	}
	q.mu.Lock()
	q.pids[pid] = true
	q.mu.Unlock()
	_ = q.settle(context.WithoutCancel(ctx)) // else the next call does
}

// settle ends those in doubt, and waits until they are gone.
func (q *doubts) settle(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, busyTime)
	defer cancel()
	for pid := range q.pids {
		var left bool
		err := q.db.QueryRowContext(ctx, `SELECT COALESCE(bool_or(NOT pg_terminate_backend(pid, 4000)), false) FROM pg_stat_activity
			WHERE pid = $1 AND usename = current_user`, int64(pid)).Scan(&left)
		if err == nil && left {
			err = fmt.Errorf("backend %d does not end", pid)
		}
		if err != nil {
			return fmt.Errorf("%w: whether the last change was made is not known yet: %w", op.ErrUnavailable, err)
		}
		delete(q.pids, pid)
	}
	return nil
}
