package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailgate/op"
)

const opColumns = "id, kind, user, target, status, step, reason, by, pin, created, changed, deadline, took, payload"

func scanOperation(s scanner) (o op.Operation, err error) {
	var id, created, changed, deadline, took int64
	err = s.Scan(&id, &o.Kind, &o.User, &o.Target, &o.Status, &o.Step, &o.Reason, &o.By, &o.Pin, &created, &changed,
		&deadline, &took, &o.Payload)
	o.ID, o.Created, o.Changed, o.Deadline = opID(id), when(created), when(changed), when(deadline)
	o.Took = time.Duration(took)
	return o, err
}

func opID(n int64) string { return "op-" + strconv.FormatInt(n, 10) }

func opNumber(id string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(id, "op-"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("operation %q: %w", id, op.ErrNotFound)
	}
	return n, nil
}

func opValues(o op.Operation) []any {
	return []any{o.Kind, o.User, o.Target, o.Status, o.Step, o.Reason, o.By, o.Pin, stamp(o.Created), stamp(o.Changed),
		stamp(o.Deadline), int64(o.Took), o.Payload}
}

// newOperation inserts o and gives it its ID.
func newOperation(ctx context.Context, tx *sql.Tx, o *op.Operation) error {
	res, err := tx.ExecContext(ctx, `INSERT INTO operations (kind, user, target, status, step, reason, by, pin, created, changed,
		deadline, took, payload) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`, opValues(*o)...)
	if err != nil {
		return err
	}
	n, err := res.LastInsertId()
	o.ID = opID(n)
	return err
}

func saveOperation(ctx context.Context, tx *sql.Tx, o op.Operation) error {
	n, err := opNumber(o.ID)
	if err != nil {
		return err
	}
	res, err := tx.ExecContext(ctx, `UPDATE operations SET kind=?, user=?, target=?, status=?, step=?, reason=?, by=?, pin=?,
		created=?, changed=?, deadline=?, took=?, payload=? WHERE id=?`, append(opValues(o), n)...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, op.ErrNotFound)
	}
	return nil
}

// NewOperation implements op.Store.
func (s *SQLite) NewOperation(ctx context.Context, o op.Operation, events ...op.Event) (op.Operation, error) {
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if err := newOperation(ctx, tx, &o); err != nil {
			return err
		}
		for i := range events {
			events[i].Op = o.ID
		}
		return addEvents(ctx, tx, events)
	})
	return o, err
}

// SaveOperation implements op.Store.
func (s *SQLite) SaveOperation(ctx context.Context, o op.Operation, events ...op.Event) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		if err := saveOperation(ctx, tx, o); err != nil {
			return err
		}
		return addEvents(ctx, tx, events)
	})
}

// Operation implements op.Store.
func (s *SQLite) Operation(ctx context.Context, id string) (op.Operation, error) {
	n, err := opNumber(id)
	if err != nil {
		return op.Operation{}, err
	}
	o, err := scanOperation(s.read.QueryRowContext(ctx, "SELECT "+opColumns+" FROM operations WHERE id=?", n))
	if errors.Is(err, sql.ErrNoRows) {
		return o, fmt.Errorf("operation %q: %w", id, op.ErrNotFound)
	}
	return o, wrap(err)
}

// Operations implements op.Store.
func (s *SQLite) Operations(ctx context.Context, open bool, limit int) ([]op.Operation, error) {
	where := ""
	if open {
		where = " WHERE status IN ('accepted', 'waiting', 'running')"
	}
	rows, err := s.read.QueryContext(ctx, "SELECT "+opColumns+" FROM operations"+where+" ORDER BY id DESC LIMIT ?", limit)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var out []op.Operation
	for rows.Next() {
		o, err := scanOperation(rows)
		if err != nil {
			return nil, wrap(err)
		}
		out = append(out, o)
	}
	return out, wrap(rows.Err())
}

func addEvents(ctx context.Context, tx *sql.Tx, events []op.Event) error {
	for _, e := range events {
		if e.At.IsZero() {
			e.At = time.Now()
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO history (at, op, user, what, before, after, by, detail) VALUES (?,?,?,?,?,?,?,?)",
			stamp(e.At), e.Op, e.User, e.What, e.Before, e.After, e.By, e.Detail)
		if err != nil {
			return err
		}
	}
	return nil
}

// AddEvents implements op.Store.
func (s *SQLite) AddEvents(ctx context.Context, events ...op.Event) error {
	return s.tx(ctx, func(tx *sql.Tx) error { return addEvents(ctx, tx, events) })
}

// History implements op.Store.
func (s *SQLite) History(ctx context.Context, user string, limit int) ([]op.Event, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT id, at, op, user, what, before, after, by, detail FROM history
		WHERE ? = '' OR user = ? ORDER BY id DESC LIMIT ?`, user, user, limit)
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	var out []op.Event
	for rows.Next() {
		var e op.Event
		var at int64
		if err := rows.Scan(&e.ID, &at, &e.Op, &e.User, &e.What, &e.Before, &e.After, &e.By, &e.Detail); err != nil {
			return nil, wrap(err)
		}
		e.At = when(at)
		out = append(out, e)
	}
	return out, wrap(rows.Err())
}

var _ op.Store = (*SQLite)(nil)
