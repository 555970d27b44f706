package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// database is what both kinds of store share: the methods of op.Store and syncer.Store over database/sql. Statements are
// written once, with ? for arguments.
type database struct {
	write, read *sql.DB
	doubts      *doubts // nil where an error of COMMIT is final
	dialect
}

// dialect is where the two databases differ.
type dialect struct {
	bind    func(query string) string                                    // turns ? into what the database takes
	args    func(args []any) []any                                       // makes arguments what the driver takes
	wrap    func(error) error                                            // marks trouble with op.ErrUnavailable
	begin   func(ctx context.Context, t *transaction) error              // runs first in each writing transaction; may be nil
	now     func(ctx context.Context, t *transaction) (time.Time, error) // the clock of leases
	silence time.Duration                                                // how long a statement may take; 0 means as long as it takes
	stale   func(error) bool                                             // a kept connection was dead: nothing was done
	// lastID makes the IDs of a table go on after n.
	lastID func(ctx context.Context, t *transaction, table string, n int64) error
	// freeze keeps nodes and holds as they are until the transaction ends (shared), or lets nobody rely on them while they change; nil
	// where there is one writer at a time.
	freeze  func(ctx context.Context, t *transaction, shared bool) error
	lockRow string // ends a SELECT whose row shall stay as it is
	// wipe has what is deleted overwritten while it is on; nil where the database cannot. scrub sees to it that nothing of rows
	// deleted so is left in its files.
	wipe  func(ctx context.Context, t *transaction, on bool) error
	scrub func(ctx context.Context, db *sql.DB) error
}

// maxStale is how many kept connections may turn out to be dead when something begins, which is then begun anew.
const maxStale = 8

// transaction is one that writes.
type transaction struct {
	tx *sql.Tx
	d  *database
	*patience
}

// errSilent means that the database did not answer for dialect.silence.
var errSilent = errors.New("the database does not answer")

// patience ends a context when nothing has been heard of the database for too long.
type patience struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer // nil where there is no limit
	limit  time.Duration
}

func (d *database) patience(ctx context.Context) *patience {
	p := &patience{limit: d.silence}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	if p.limit > 0 {
		p.timer = time.AfterFunc(p.limit, func() { p.cancel(errSilent) })
	}
	return p
}

// heard begins the time anew.
func (p *patience) heard() {
	if p.timer != nil {
		p.timer.Reset(p.limit)
	}
}

// end frees it, and gives err its cause.
func (p *patience) end(err error) error {
	if p.timer != nil {
		p.timer.Stop()
	}
	if err != nil && errors.Is(context.Cause(p.ctx), errSilent) {
		err = fmt.Errorf("%w (%w)", errSilent, err)
	}
	p.cancel(nil)
	return err
}

// tx runs f in a writing transaction. What f returns comes back; trouble of the database wraps op.ErrUnavailable.
func (d *database) tx(ctx context.Context, f func(*transaction) error) error {
	if err := d.settled(ctx); err != nil {
		return err
	}
	p := d.patience(ctx)
	tx, pid, release, err := d.beginTx(p.ctx)
	for n := 0; n < maxStale && err != nil && d.stale(err); n++ {
		tx, pid, release, err = d.beginTx(p.ctx)
	}
	if err != nil {
		return d.wrap(p.end(err))
	}
	t := &transaction{tx, d, p}
	if d.begin != nil {
		err = d.begin(ctx, t)
	}
	if err == nil {
		err = f(t)
	}
	if err != nil {
		_ = tx.Rollback()
		release()
		return d.wrap(p.end(err))
	}
	p.heard()
	err = p.end(tx.Commit())
	release()
	if d.doubts != nil {
		d.doubts.committed(ctx, pid, err)
	}
	return d.wrap(err)
}

// beginTx begins a transaction; pid is PostgreSQL's backend.
func (d *database) beginTx(ctx context.Context) (tx *sql.Tx, pid uint32, release func(), err error) {
	if d.doubts != nil {
		return d.doubts.begin(ctx)
	}
	tx, err = d.write.BeginTx(ctx, nil)
	return tx, 0, func() {}, err
}

// settled returns when nothing of earlier calls is under way.
func (d *database) settled(ctx context.Context) error {
	if d.doubts != nil {
		return d.doubts.settle(ctx)
	}
	return nil
}

// exec runs one statement and tells how many rows it changed.
func (t *transaction) exec(_ context.Context, query string, args ...any) (int64, error) {
	t.heard()
	res, err := t.tx.ExecContext(t.ctx, t.d.bind(query), t.d.args(args)...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// row asks for one row.
func (t *transaction) row(_ context.Context, query string, args ...any) *sql.Row {
	t.heard()
	return t.tx.QueryRowContext(t.ctx, t.d.bind(query), t.d.args(args)...)
}

// statement is one that is run often within a transaction.
type statement struct {
	st *sql.Stmt
	t  *transaction
}

func (t *transaction) prepare(_ context.Context, query string) (*statement, error) {
	t.heard()
	st, err := t.tx.PrepareContext(t.ctx, t.d.bind(query))
	return &statement{st, t}, err
}

func (s *statement) exec(_ context.Context, args ...any) (int64, error) {
	s.t.heard()
	res, err := s.st.ExecContext(s.t.ctx, s.t.d.args(args)...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (s *statement) row(_ context.Context, args ...any) *sql.Row {
	s.t.heard()
	return s.st.QueryRowContext(s.t.ctx, s.t.d.args(args)...)
}

func (s *statement) close() { _ = s.st.Close() }

// one reads one row outside of a transaction; sql.ErrNoRows when there is none.
func (d *database) one(ctx context.Context, query string, args []any, scan func(scanner) error) error {
	n := 0
	err := d.list(ctx, query, args, func(s scanner) error { n++; return scan(s) })
	if err == nil && n == 0 {
		return sql.ErrNoRows
	}
	return err
}

// list reads rows outside of a transaction, calling scan for each. An error of scan ends it and comes back.
func (d *database) list(ctx context.Context, query string, args []any, scan func(scanner) error) error {
	if err := d.settled(ctx); err != nil {
		return err
	}
	p := d.patience(ctx)
	return d.wrap(p.end(d.listWith(p, d.bind(query), d.args(args), scan)))
}

func (d *database) listWith(p *patience, query string, args []any, scan func(scanner) error) error {
	rows, err := d.read.QueryContext(p.ctx, query, args...)
	for n := 0; n < maxStale && err != nil && d.stale(err); n++ {
		rows, err = d.read.QueryContext(p.ctx, query, args...)
	}
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		p.heard()
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Check implements op.Store: it writes a row, so that a full disk shows.
func (d *database) Check(ctx context.Context) error {
	return d.tx(ctx, func(t *transaction) error {
		return setMeta(ctx, t, "checked", strconv.FormatInt(time.Now().UnixNano(), 10))
	})
}

func setMeta(ctx context.Context, t *transaction, key, value string) error {
	_, err := t.exec(ctx, "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
	return err
}

func (d *database) meta(ctx context.Context, key string) (value string, err error) {
	err = d.one(ctx, "SELECT value FROM meta WHERE key = ?", []any{key}, func(s scanner) error { return s.Scan(&value) })
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, err
}

// stamp and when keep times as nanoseconds; 0 is the zero time.
func stamp(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func when(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
