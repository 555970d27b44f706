package store

import (
	"context"
	"database/sql"
	"errors"

	"mailgate/op"
)

const rowColumns = "user, side, epoch, generation, state, target, op, since"

type scanner interface{ Scan(...any) error }

func scanRow(s scanner) (r op.Row, err error) {
	var since int64
	err = s.Scan(&r.User, &r.Side, &r.Epoch, &r.Generation, &r.State, &r.Target, &r.Op, &since)
	r.Since = when(since)
	return r, err
}

// Rows implements op.Store.
func (s *SQLite) Rows(ctx context.Context, f func(op.Row) error) error {
	rows, err := s.read.QueryContext(ctx, "SELECT "+rowColumns+" FROM users")
	if err != nil {
		return wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return wrap(err)
		}
		if err := f(r); err != nil {
			return err
		}
	}
	return wrap(rows.Err())
}

// Row implements op.Store.
func (s *SQLite) Row(ctx context.Context, user string) (op.Row, error) {
	r, err := scanRow(s.read.QueryRowContext(ctx, "SELECT "+rowColumns+" FROM users WHERE user = ?", user))
	if errors.Is(err, sql.ErrNoRows) {
		return r, op.ErrNotFound
	}
	return r, wrap(err)
}

// AddRows implements op.Store.
func (s *SQLite) AddRows(ctx context.Context, rows []op.Row) error {
	return s.tx(ctx, func(tx *sql.Tx) error { return addRows(ctx, tx, rows) })
}

func addRows(ctx context.Context, tx *sql.Tx, rows []op.Row) error {
	if len(rows) == 0 {
		return nil
	}
	st, err := tx.PrepareContext(ctx, "INSERT INTO users ("+rowColumns+") VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING")
	if err != nil {
		return err
	}
	defer st.Close()
	for _, r := range rows {
		if _, err := st.ExecContext(ctx, r.User, r.Side, r.Epoch, r.Generation, r.State, r.Target, r.Op, stamp(r.Since)); err != nil {
			return err
		}
	}
	return nil
}

// Swap implements op.Store.
func (s *SQLite) Swap(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, events ...op.Event) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE users SET side=?, epoch=?, generation=?, state=?, target=?, op=?, since=?
			WHERE user=? AND generation=?`, next.Side, next.Epoch, next.Generation, next.State, next.Target, next.Op,
			stamp(next.Since), next.User, from)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			var one int
			err := tx.QueryRowContext(ctx, "SELECT 1 FROM users WHERE user=?", next.User).Scan(&one)
			if errors.Is(err, sql.ErrNoRows) {
				return op.ErrNotFound
			} else if err != nil {
				return err
			}
			return op.ErrConflict
		}
		if o.ID != "" {
			if err := saveOperation(ctx, tx, o); err != nil {
				return err
			}
		}
		if pin != nil {
			if err := setPin(ctx, tx, *pin); err != nil {
				return err
			}
		}
		return addEvents(ctx, tx, events)
	})
}

// setPin writes a pin, or removes it when it has no time.
func setPin(ctx context.Context, tx *sql.Tx, p op.Pin) error {
	if p.At.IsZero() {
		_, err := tx.ExecContext(ctx, "DELETE FROM pins WHERE user=?", p.User)
		return err
	}
	_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO pins (user, side, by, reason, at) VALUES (?,?,?,?,?)",
		p.User, p.Side, p.By, p.Reason, stamp(p.At))
	return err
}

// Pins implements op.Store.
func (s *SQLite) Pins(ctx context.Context) (pins []op.Pin, err error) {
	rows, err := s.read.QueryContext(ctx, "SELECT user, side, by, reason, at FROM pins ORDER BY user")
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p op.Pin
		var at int64
		if err := rows.Scan(&p.User, &p.Side, &p.By, &p.Reason, &at); err != nil {
			return nil, wrap(err)
		}
		p.At = when(at)
		pins = append(pins, p)
	}
	return pins, wrap(rows.Err())
}

// DeletePin implements op.Store.
func (s *SQLite) DeletePin(ctx context.Context, user string, e op.Event) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "DELETE FROM pins WHERE user=?", user)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return op.ErrNotFound
		}
		return addEvents(ctx, tx, []op.Event{e})
	})
}

// Nodes implements op.Store.
func (s *SQLite) Nodes(ctx context.Context) (names []string, err error) {
	rows, err := s.read.QueryContext(ctx, "SELECT name FROM nodes ORDER BY name")
	if err != nil {
		return nil, wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, wrap(err)
		}
		names = append(names, n)
	}
	return names, wrap(rows.Err())
}

// AddNode implements op.Store.
func (s *SQLite) AddNode(ctx context.Context, name string) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO nodes (name) VALUES (?) ON CONFLICT DO NOTHING", name)
		return err
	})
}

// RemoveNode implements op.Store.
func (s *SQLite) RemoveNode(ctx context.Context, name string, e op.Event) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM nodes WHERE name=?", name); err != nil {
			return err
		}
		return addEvents(ctx, tx, []op.Event{e})
	})
}
