package store

import (
	"context"

	"mailgate/op"
	"mailgate/syncer"
)

// Pauses implements syncer.Store.
func (d *database) Pauses(ctx context.Context) (out []syncer.Pause, err error) {
	err = d.list(ctx, "SELECT user, by, reason, at FROM pauses ORDER BY user", nil, func(s scanner) error {
		var p syncer.Pause
		var at int64
		err := s.Scan(&p.User, &p.By, &p.Reason, &at)
		p.At = when(at)
		out = append(out, p)
		return err
	})
	return out, err
}

// SetPause implements syncer.Store.
func (d *database) SetPause(ctx context.Context, p syncer.Pause, e op.Event) (changed bool, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, `INSERT INTO pauses (user, by, reason, at) VALUES (?,?,?,?) ON CONFLICT (user) DO NOTHING`,
			p.User, p.By, p.Reason, stamp(p.At))
		if changed = n > 0; err != nil || !changed {
			return err
		}
		return addEvents(ctx, t, []op.Event{e})
	})
	return changed && err == nil, err
}

// DropPause implements syncer.Store.
func (d *database) DropPause(ctx context.Context, user string, e op.Event) (changed bool, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "DELETE FROM pauses WHERE user=?", user)
		if changed = n > 0; err != nil || !changed {
			return err
		}
		return addEvents(ctx, t, []op.Event{e})
	})
	return changed && err == nil, err
}
