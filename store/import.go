package store

import (
	"context"
	"encoding/json"
	"fmt"

	"mailgate/op"
)

// Import implements op.Store.
func (d *database) Import(ctx context.Context, im op.ImportTx) ([]op.Operation, error) {
	ops := append([]op.Operation(nil), im.Operations...)
	err := d.tx(ctx, func(t *transaction) error {
		if im.Nodes != nil {
			if err := t.meet(ctx, op.Condition{Nodes: im.Nodes}); err != nil {
				return err
			}
		}
		if err := setDesired(ctx, t, im); err != nil {
			return err
		}
		for _, user := range im.Unpin {
			if err := setPin(ctx, t, op.Pin{User: user}); err != nil {
				return err
			}
		}
		if err := addRows(ctx, t, im.Place); err != nil {
			return err
		}
		if err := newOperations(ctx, t, ops); err != nil {
			return err
		}
		for _, o := range im.Ended {
			if err := saveOperation(ctx, t, o); err != nil {
				return err
			}
		}
		rules, err := json.Marshal(im.Rules)
		if err != nil {
			return err
		}
		if err := setMeta(ctx, t, "rules", string(rules)); err != nil {
			return err
		}
		if err := setMeta(ctx, t, "serial", im.Serial); err != nil {
			return err
		}
		return addEvents(ctx, t, im.Events)
	})
	if err != nil {
		return nil, err
	}
	return ops, nil
}

// setDesired writes the lines that changed and removes those that are gone.
func setDesired(ctx context.Context, t *transaction, im op.ImportTx) error {
	set, err := t.prepare(ctx, "INSERT INTO desired (user, side) VALUES (?,?) ON CONFLICT (user) DO UPDATE SET side = excluded.side")
	if err != nil {
		return err
	}
	defer set.close()
	for _, d := range im.Set {
		if _, err := set.exec(ctx, d.User, d.Side); err != nil {
			return err
		}
	}
	del, err := t.prepare(ctx, "DELETE FROM desired WHERE user=?")
	if err != nil {
		return err
	}
	defer del.close()
	for _, user := range im.Delete {
		if _, err := del.exec(ctx, user); err != nil {
			return err
		}
	}
	return nil
}

// Desired implements op.Store.
func (d *database) Desired(ctx context.Context, f func(op.Desired) error) (string, error) {
	serial, err := d.meta(ctx, "serial")
	if err != nil {
		return "", err
	}
	err = d.list(ctx, "SELECT user, side FROM desired", nil, func(s scanner) error {
		var line op.Desired
		if err := s.Scan(&line.User, &line.Side); err != nil {
			return err
		}
		return f(line)
	})
	if err != nil {
		return "", err
	}
	return serial, nil
}

// Rules implements op.Store.
func (d *database) Rules(ctx context.Context) (r op.Rules, err error) {
	text, err := d.meta(ctx, "rules")
	if err != nil || text == "" {
		return r, err
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fmt.Errorf("rules in the store: %w", err)
	}
	return r, nil
}
