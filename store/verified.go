package store

import (
	"context"
	"database/sql"
	"errors"

	"mailgate/op"
	"mailgate/syncer"
)

// Verified implements syncer.Store.
func (d *database) Verified(ctx context.Context, user string) (v syncer.Verified, ok bool, err error) {
	err = d.one(ctx, "SELECT user, at, equal, text FROM verified WHERE user = ?", []any{user}, func(s scanner) error {
		var at, equal int64
		err := s.Scan(&v.User, &at, &equal, &v.Text)
		v.At, v.Equal = when(at), equal != 0
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return syncer.Verified{}, false, nil
	}
	return v, err == nil, err
}

// SaveVerified implements syncer.Store.
func (d *database) SaveVerified(ctx context.Context, v syncer.Verified) error {
	return d.tx(ctx, func(t *transaction) error {
		equal := 0
		if v.Equal {
			equal = 1
		}
		_, err := t.exec(ctx, `INSERT INTO verified (user, at, equal, text) VALUES (?,?,?,?)
			ON CONFLICT (user) DO UPDATE SET at = excluded.at, equal = excluded.equal, text = excluded.text`, v.User, stamp(v.At), equal, blob(v.Text))
		return err
	})
}

// Behind implements syncer.Store.
func (d *database) Behind(ctx context.Context) (out []syncer.Behind, err error) {
	err = d.list(ctx, "SELECT user, at, text FROM behind ORDER BY user", nil, func(s scanner) error {
		var b syncer.Behind
		var at int64
		err := s.Scan(&b.User, &at, &b.Text)
		b.At = when(at)
		out = append(out, b)
		return err
	})
	return out, err
}

// SaveBehind implements syncer.Store.
func (d *database) SaveBehind(ctx context.Context, b syncer.Behind, e ...op.Event) error {
	return d.tx(ctx, func(t *transaction) error {
		_, err := t.exec(ctx, `INSERT INTO behind (user, at, text) VALUES (?,?,?)
			ON CONFLICT (user) DO UPDATE SET at = excluded.at, text = excluded.text`, b.User, stamp(b.At), blob(b.Text))
		if err != nil {
			return err
		}
		return addEvents(ctx, t, e)
	})
}

// DropBehind implements syncer.Store.
func (d *database) DropBehind(ctx context.Context, user string, e ...op.Event) (was bool, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "DELETE FROM behind WHERE user=?", user)
		if was = n > 0; err != nil || !was {
			return err
		}
		return addEvents(ctx, t, e)
	})
	return was && err == nil, err
}
