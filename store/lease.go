package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"mailgate/syncer"
)

// longestLease is how far ahead the end of a lease is believed. One that ends later was taken before the clock was set back; who holds it
// still renews it in a moment, and else must not keep others out for days.
const longestLease = 10 * time.Minute

// Acquire implements syncer.Store. Every call gives a larger token, that of the owner who renews too: what he began under
// the former one is fenced off with everybody else's.
func (d *database) Acquire(ctx context.Context, user, owner string, ttl time.Duration) (token int64, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		now, err := t.d.now(ctx, t)
		if err != nil {
			return err
		}
		err = t.row(ctx, `INSERT INTO accounts (user, owner, token, lease) VALUES (?,?,1,?) ON CONFLICT (user)
			DO UPDATE SET owner = excluded.owner, token = accounts.token + 1, lease = excluded.lease
			WHERE accounts.owner = excluded.owner OR accounts.lease <= ? OR accounts.lease > ? RETURNING token`,
			user, owner, stamp(now.Add(ttl)), stamp(now), stamp(now.Add(max(2*ttl, longestLease)))).Scan(&token)
		if errors.Is(err, sql.ErrNoRows) {
			var who string
			var lease int64
			if err := t.row(ctx, "SELECT owner, lease FROM accounts WHERE user=?", user).Scan(&who, &lease); err != nil {
				return err
			}
			return fmt.Errorf("%w: %s, until %s", syncer.ErrFenced, who, when(lease).Format(time.RFC3339))
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return token, nil
}

// Release implements syncer.Store. The token is worth nothing afterwards.
func (d *database) Release(ctx context.Context, user string, token int64) error {
	return d.tx(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "UPDATE accounts SET owner='', token=token+1, lease=0 WHERE user=? AND token=?", user, token)
		if err == nil && n == 0 {
			return syncer.ErrFenced
		}
		return err
	})
}

// holder is the account of user, locked until the transaction ends, if token is the present one.
func (t *transaction) holder(ctx context.Context, user string, token int64) (account int64, err error) {
	err = t.row(ctx, "SELECT id FROM accounts WHERE user=? AND token=? AND owner<>''"+t.d.lockRow, user, token).Scan(&account)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, syncer.ErrFenced
	}
	return account, err
}
