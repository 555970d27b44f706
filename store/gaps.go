package store

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// Gaps implements syncer.Store.
func (d *database) Gaps(ctx context.Context, user string) (text []byte, ok bool, err error) {
	err = d.one(ctx, "SELECT text FROM gaps WHERE user = ?", []any{user}, func(s scanner) error { return s.Scan(&text) })
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return text, err == nil, err
}

// SaveGaps implements syncer.Store.
func (d *database) SaveGaps(ctx context.Context, user string, at time.Time, text []byte) error {
	return d.tx(ctx, func(t *transaction) error {
		_, err := t.exec(ctx, `INSERT INTO gaps (user, at, text) VALUES (?,?,?)
			ON CONFLICT (user) DO UPDATE SET at = excluded.at, text = excluded.text`, user, stamp(at), blob(text))
		return err
	})
}

// GapTimes implements syncer.Store.
func (d *database) GapTimes(ctx context.Context) (map[string]time.Time, error) {
	out := map[string]time.Time{}
	err := d.list(ctx, "SELECT user, at FROM gaps", nil, func(s scanner) error {
		var user string
		var at int64
		err := s.Scan(&user, &at)
		out[user] = when(at)
		return err
	})
	return out, err
}
