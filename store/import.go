package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"mailgate/op"
)

// Import implements op.Store.
func (s *SQLite) Import(ctx context.Context, im op.ImportTx) ([]op.Operation, error) {
	ops := append([]op.Operation(nil), im.Operations...)
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if err := setDesired(ctx, tx, im); err != nil {
			return err
		}
		for _, user := range im.Unpin {
			if err := setPin(ctx, tx, op.Pin{User: user}); err != nil {
				return err
			}
		}
		if err := addRows(ctx, tx, im.Place); err != nil {
			return err
		}
		if err := newOperations(ctx, tx, ops); err != nil {
			return err
		}
		for _, o := range im.Ended {
			if err := saveOperation(ctx, tx, o); err != nil {
				return err
			}
		}
		rules, err := json.Marshal(im.Rules)
		if err != nil {
			return err
		}
		if err := setMeta(ctx, tx, "rules", string(rules)); err != nil {
			return err
		}
		if err := setMeta(ctx, tx, "serial", im.Serial); err != nil {
			return err
		}
		return addEvents(ctx, tx, im.Events)
	})
	if err != nil {
		return nil, err
	}
	return ops, nil
}

// setDesired writes the lines that changed and removes those that are gone.
func setDesired(ctx context.Context, tx *sql.Tx, im op.ImportTx) error {
	set, err := tx.PrepareContext(ctx, "INSERT INTO desired (user, side) VALUES (?,?) ON CONFLICT DO UPDATE SET side = excluded.side")
	if err != nil {
		return err
	}
	defer set.Close()
	for _, d := range im.Set {
		if _, err := set.ExecContext(ctx, d.User, d.Side); err != nil {
			return err
		}
	}
	del, err := tx.PrepareContext(ctx, "DELETE FROM desired WHERE user=?")
	if err != nil {
		return err
	}
	defer del.Close()
	for _, user := range im.Delete {
		if _, err := del.ExecContext(ctx, user); err != nil {
			return err
		}
	}
	return nil
}

// Desired implements op.Store.
func (s *SQLite) Desired(ctx context.Context, f func(op.Desired) error) (string, error) {
	serial, err := s.meta(ctx, "serial")
	if err != nil {
		return "", err
	}
	rows, err := s.read.QueryContext(ctx, "SELECT user, side FROM desired")
	if err != nil {
		return "", wrap(err)
	}
	defer rows.Close()
	for rows.Next() {
		var d op.Desired
		if err := rows.Scan(&d.User, &d.Side); err != nil {
			return "", wrap(err)
		}
		if err := f(d); err != nil {
			return "", err
		}
	}
	return serial, wrap(rows.Err())
}

// Rules implements op.Store.
func (s *SQLite) Rules(ctx context.Context) (r op.Rules, err error) {
	text, err := s.meta(ctx, "rules")
	if err != nil || text == "" {
		return r, err
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("rules in the store: %w", err)
	}
	return r, nil
}
