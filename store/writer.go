package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"mailgate/op"
)

// writerEvery is how often the writer's connection is looked at.
const writerEvery = 2 * time.Second

// writer is the right to be the one process that writes the state of users. Two things carry it: a lock on a connection
// of its own, which keeps others from beginning, and a number in the database, which each transaction compares, so that a
// writer whose connection was lost and whose place was taken writes nothing.
type writer struct {
	db     *sql.DB
	node   op.Node // who it is; may be nobody
	number string  // constant after take

	mu   sync.Mutex
	conn *sql.Conn // holds the lock; nil while it is lost

	lost     chan struct{} // closed when another took the place
	lostOnce sync.Once

	stop context.CancelFunc
	done chan struct{}
}

// take becomes the writer, or is op.ErrInUse.
func (w *writer) take(ctx context.Context) error {
	if err := w.lock(ctx); err != nil {
		return err
	}
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return wrapPostgres(err)
	}
	defer func() { _ = tx.Rollback() }()
	var n int64
	err = tx.QueryRowContext(ctx, `INSERT INTO meta (key, value) VALUES ('writer', '1') ON CONFLICT (key)
		DO UPDATE SET value = (meta.value::bigint + 1)::text RETURNING value`).Scan(&n)
	if err != nil {
		return wrapPostgres(err)
	}
	who, err := json.Marshal(op.Leader{Name: w.node.Name, Incarnation: w.node.Incarnation, Term: n, Since: time.Now()})
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('leader', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, string(who))
	if err != nil {
		return wrapPostgres(err)
	}
	w.number = strconv.FormatInt(n, 10)
	return wrapPostgres(tx.Commit())
}

// lock takes the lock on a new connection.
func (w *writer) lock(ctx context.Context) error {
	conn, err := w.db.Conn(ctx)
	if err != nil {
		return wrapPostgres(err)
	}
	var got bool
	err = conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(lockWriter)).Scan(&got)
	if err != nil || !got {
		conn.Close()
		if err == nil {
			return op.ErrInUse
		}
		return wrapPostgres(err)
	}
	w.mu.Lock()
	w.conn = conn
	w.mu.Unlock()
	return nil
}

// check runs first in each writing transaction. Who takes the place changes the row, and so waits for the transaction.
func (w *writer) check(ctx context.Context, t *transaction) error {
	var one int
	err := t.row(ctx, "SELECT 1 FROM meta WHERE key='writer' AND value=? FOR SHARE", w.number).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return op.ErrInUse
	}
	return err
}

// watch keeps the lock's connection: when it is lost, it takes the lock again, as soon as that works.
func (w *writer) watch() {
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.done = stop, make(chan struct{})
	go func() {
		defer close(w.done)
		tick := time.NewTicker(writerEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.keep(ctx)
			}
		}
	}()
}

func (w *writer) keep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, busyTime)
	defer cancel()
	var mine bool
	err := w.db.QueryRowContext(ctx, "SELECT value = $1 FROM meta WHERE key='writer'", w.number).Scan(&mine)
	if err == nil && !mine {
		w.lostOnce.Do(func() { close(w.lost) })
		w.drop()
		return
	}
	w.mu.Lock()
	conn := w.conn
	w.mu.Unlock()
	if conn != nil {
		var one int
		if err := conn.QueryRowContext(ctx, "SELECT 1").Scan(&one); err == nil {
			return
		}
		w.drop()
	}
	_ = w.lock(ctx) // else at the next tick
}

// drop ends the lock's connection for good: in the pool it would go on holding the lock.
func (w *writer) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = w.conn.Close()
		w.conn = nil
	}
}

// close gives the right up.
func (w *writer) close() {
	if w.stop != nil {
		w.stop()
		<-w.done
	}
	w.drop()
}
