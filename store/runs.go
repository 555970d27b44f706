package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mailgate/config"
	"mailgate/op"
	"mailgate/syncer"
)

// Runs implements syncer.Store.
func (d *database) Runs(ctx context.Context, user string, most int) (out []syncer.Run, err error) {
	err = d.list(ctx, "SELECT id, began, ended, summary, error FROM runs WHERE user = ? ORDER BY id DESC LIMIT ?",
		[]any{user, limit(most)}, func(s scanner) error {
			r := syncer.Run{User: user}
			var began, ended int64
			var text []byte
			err := s.Scan(&r.ID, &began, &ended, &r.Summary, &text)
			r.Began, r.Ended, r.Summary, r.Error = when(began), when(ended), filled(r.Summary), string(text)
			out = append(out, r)
			return err
		})
	return out, err
}

// keptRuns is how many passes of a user are remembered: passes begin by themselves, every few seconds where people work.
const keptRuns = 100

// SaveRun implements syncer.Store; op.ErrNotFound when there is none with the ID.
func (d *database) SaveRun(ctx context.Context, r syncer.Run) (int64, error) {
	if r.ID == 0 {
		return d.addRun(ctx, r)
	}
	err := d.tx(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "UPDATE runs SET user=?, began=?, ended=?, summary=?, error=? WHERE id=?",
			r.User, stamp(r.Began), stamp(r.Ended), blob(r.Summary), blob(r.Error), r.ID)
		if err == nil && n == 0 {
			return fmt.Errorf("run %d: %w", r.ID, op.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return r.ID, nil
}

// addRun adds a pass, and forgets the oldest of the user's in a transaction of its own: two that forget the same rows, in whatever order,
// may hold each other up, and PostgreSQL ends one of them. What it has not forgotten the next pass does.
func (d *database) addRun(ctx context.Context, r syncer.Run) (id int64, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		return t.row(ctx, "INSERT INTO runs (user, began, ended, summary, error) VALUES (?,?,?,?,?) RETURNING id",
			r.User, stamp(r.Began), stamp(r.Ended), blob(r.Summary), blob(r.Error)).Scan(&id)
	})
	if err != nil {
		return 0, err
	}
	_ = d.tx(ctx, func(t *transaction) error {
		_, err := t.exec(ctx, "DELETE FROM runs WHERE user = ? AND id <= (SELECT id FROM runs WHERE user = ? ORDER BY id DESC LIMIT 1 OFFSET ?)",
			r.User, r.User, keptRuns)
		return err
	})
	return id, nil
}

// Profile implements syncer.Store.
func (d *database) Profile(ctx context.Context, side config.Side, host string) (text []byte, ok bool, err error) {
	err = d.one(ctx, "SELECT text FROM profiles WHERE side = ? AND host = ?", []any{side, host}, func(s scanner) error { return s.Scan(&text) })
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return text, err == nil, err
}

// SaveProfile implements syncer.Store.
func (d *database) SaveProfile(ctx context.Context, side config.Side, host string, text []byte) error {
	return d.tx(ctx, func(t *transaction) error {
		_, err := t.exec(ctx, `INSERT INTO profiles (side, host, text) VALUES (?,?,?)
			ON CONFLICT (side, host) DO UPDATE SET text = excluded.text`, side, host, blob(text))
		return err
	})
}

var _ syncer.Store = (*database)(nil)
