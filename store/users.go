package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

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
func (d *database) Rows(ctx context.Context, f func(op.Row) error) error {
	return d.list(ctx, "SELECT "+rowColumns+" FROM users", nil, func(s scanner) error {
		r, err := scanRow(s)
		if err != nil {
			return err
		}
		return f(r)
	})
}

// Row implements op.Store.
func (d *database) Row(ctx context.Context, user string) (op.Row, error) {
	var r op.Row
	err := d.one(ctx, "SELECT "+rowColumns+" FROM users WHERE user = ?", []any{user}, func(s scanner) (err error) {
		r, err = scanRow(s)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return op.Row{}, op.ErrNotFound
	}
	return r, err
}

// AddRows implements op.Store.
func (d *database) AddRows(ctx context.Context, rows []op.Row) error {
	return d.tx(ctx, func(t *transaction) error { return addRows(ctx, t, rows) })
}

func addRows(ctx context.Context, t *transaction, rows []op.Row) error {
	if len(rows) == 0 {
		return nil
	}
	st, err := t.prepare(ctx, "INSERT INTO users ("+rowColumns+") VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING")
	if err != nil {
		return err
	}
	defer st.close()
	rows = slices.Clone(rows) // in one order: several nodes do this at once
	slices.SortFunc(rows, func(a, b op.Row) int { return cmp.Compare(a.User, b.User) })
	for _, r := range rows {
		if _, err := st.exec(ctx, r.User, r.Side, r.Epoch, r.Generation, r.State, r.Target, r.Op, stamp(r.Since)); err != nil {
			return err
		}
	}
	return nil
}

// Swap implements op.Store.
func (d *database) Swap(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, events ...op.Event) error {
	return d.tx(ctx, func(t *transaction) error { return swap(ctx, t, from, next, o, pin, events) })
}

// Commit implements op.Store.
func (d *database) Commit(ctx context.Context, from int64, next op.Row, o op.Operation, pin *op.Pin, c op.Condition, events ...op.Event) error {
	return d.tx(ctx, func(t *transaction) error {
		if err := t.meet(ctx, c); err != nil {
			return err
		}
		return swap(ctx, t, from, next, o, pin, events)
	})
}

func swap(ctx context.Context, t *transaction, from int64, next op.Row, o op.Operation, pin *op.Pin, events []op.Event) error {
	n, err := t.exec(ctx, `UPDATE users SET side=?, epoch=?, generation=?, state=?, target=?, op=?, since=?
		WHERE user=? AND generation=?`, next.Side, next.Epoch, next.Generation, next.State, next.Target, next.Op,
		stamp(next.Since), next.User, from)
	if err != nil {
		return err
	}
	if n == 0 {
		var one int
		err := t.row(ctx, "SELECT 1 FROM users WHERE user=?", next.User).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return op.ErrNotFound
		} else if err != nil {
			return err
		}
		return op.ErrConflict
	}
	if o.ID != "" {
		if err := saveOperation(ctx, t, o); err != nil {
			return err
		}
	}
	if pin != nil {
		if err := setPin(ctx, t, *pin); err != nil {
			return err
		}
	}
	return addEvents(ctx, t, events)
}

// setPin writes a pin, or removes it when it has no time.
func setPin(ctx context.Context, t *transaction, p op.Pin) error {
	if p.At.IsZero() {
		_, err := t.exec(ctx, "DELETE FROM pins WHERE user=?", p.User)
		return err
	}
	_, err := t.exec(ctx, `INSERT INTO pins (user, side, by, reason, at) VALUES (?,?,?,?,?) ON CONFLICT (user)
		DO UPDATE SET side = excluded.side, by = excluded.by, reason = excluded.reason, at = excluded.at`,
		p.User, p.Side, p.By, p.Reason, stamp(p.At))
	return err
}

// Pins implements op.Store.
func (d *database) Pins(ctx context.Context) (pins []op.Pin, err error) {
	err = d.list(ctx, "SELECT user, side, by, reason, at FROM pins ORDER BY user", nil, func(s scanner) error {
		var p op.Pin
		var at int64
		err := s.Scan(&p.User, &p.Side, &p.By, &p.Reason, &at)
		p.At = when(at)
		pins = append(pins, p)
		return err
	})
	return pins, err
}

// DeletePin implements op.Store.
func (d *database) DeletePin(ctx context.Context, user string, e op.Event) error {
	return d.tx(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "DELETE FROM pins WHERE user=?", user)
		if err != nil {
			return err
		}
		if n == 0 {
			return op.ErrNotFound
		}
		return addEvents(ctx, t, []op.Event{e})
	})
}
