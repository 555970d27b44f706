package store

import (
	"cmp"
	"context"
	"slices"
	"time"

	"mailgate/logins"
	"mailgate/op"
)

// ofUser narrows a query to a user, if there is one.
func ofUser(query, user, order string) (string, []any) {
	if user == "" {
		return query + " ORDER BY " + order, nil
	}
	return query + " WHERE user = ? ORDER BY " + order, []any{user}
}

// Logins implements logins.Store.
func (d *database) Logins(ctx context.Context, user string) (out []logins.Login, err error) {
	query, args := ofUser("SELECT user, side, protocol, first, last FROM logins", user, "user, side, protocol")
	err = d.list(ctx, query, args, func(s scanner) error {
		var x logins.Login
		var first, last int64
		err := s.Scan(&x.User, &x.Side, &x.Protocol, &first, &last)
		x.First, x.Last = when(first), when(last)
		out = append(out, x)
		return err
	})
	return out, err
}

// SaveLogins implements logins.Store.
func (d *database) SaveLogins(ctx context.Context, list []logins.Login) error {
	list = slices.Clone(list) // in one order: several nodes do this at once
	slices.SortFunc(list, func(a, b logins.Login) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Side, b.Side), cmp.Compare(a.Protocol, b.Protocol))
	})
	return d.tx(ctx, func(t *transaction) error {
		st, err := t.prepare(ctx, `INSERT INTO logins (user, side, protocol, first, last) VALUES (?,?,?,?,?) ON CONFLICT (user, side, protocol)
			DO UPDATE SET last = excluded.last WHERE excluded.last > logins.last`)
		if err != nil {
			return err
		}
		defer st.close()
		for _, x := range list {
			if _, err := st.exec(ctx, x.User, x.Side, string(x.Protocol), stamp(x.First), stamp(x.Last)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Refusals implements logins.Store.
func (d *database) Refusals(ctx context.Context, user string) (out []logins.Refusal, err error) {
	query, args := ofUser("SELECT user, side, protocol, first, last, count FROM refusals", user, "user, side, protocol")
	err = d.list(ctx, query, args, func(s scanner) error {
		var x logins.Refusal
		var first, last int64
		err := s.Scan(&x.User, &x.Side, &x.Protocol, &first, &last, &x.Count)
		x.First, x.Last = when(first), when(last)
		out = append(out, x)
		return err
	})
	return out, err
}

// PutRefusal implements logins.Store.
func (d *database) PutRefusal(ctx context.Context, r logins.Refusal, events ...op.Event) error {
	return d.tx(ctx, func(t *transaction) error {
		_, err := t.exec(ctx, `INSERT INTO refusals (user, side, protocol, first, last, count) VALUES (?,?,?,?,?,?) ON CONFLICT (user, side, protocol)
			DO UPDATE SET first = excluded.first, last = excluded.last, count = excluded.count`,
			r.User, r.Side, string(r.Protocol), stamp(r.First), stamp(r.Last), r.Count)
		if err != nil {
			return err
		}
		return addEvents(ctx, t, events)
	})
}

// DropRefusal implements logins.Store.
func (d *database) DropRefusal(ctx context.Context, r logins.Refusal, e op.Event) (there bool, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "DELETE FROM refusals WHERE user = ? AND side = ? AND protocol = ?", r.User, r.Side, string(r.Protocol))
		if there = n > 0; err != nil || !there {
			return err
		}
		return addEvents(ctx, t, []op.Event{e})
	})
	return there && err == nil, err
}

const keptColumns = "user, side, protocol, hash, learned, seen, expires, done, tries, next, error"

// Kept implements logins.Store.
func (d *database) Kept(ctx context.Context, user string) (out []logins.Kept, err error) {
	query, args := ofUser("SELECT "+keptColumns+" FROM kept", user, "user")
	err = d.list(ctx, query, args, func(s scanner) error {
		var k logins.Kept
		var first, seen, expires, done, next int64
		err := s.Scan(&k.User, &k.Side, &k.Protocol, &k.Hash, &first, &seen, &expires, &done, &k.Hook.Tries, &next, &k.Hook.Error)
		k.Learned, k.Seen, k.Expires, k.Hook.Done, k.Hook.Next = when(first), when(seen), when(expires), when(done), when(next)
		out = append(out, k)
		return err
	})
	return out, err
}

// PutKept implements logins.Store.
func (d *database) PutKept(ctx context.Context, k logins.Kept) error {
	return d.secretly(ctx, func(t *transaction) error {
		_, err := t.exec(ctx, "INSERT INTO kept ("+keptColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (user) DO UPDATE SET
			side = excluded.side, protocol = excluded.protocol, hash = excluded.hash, learned = excluded.learned, seen = excluded.seen,
			expires = excluded.expires, done = excluded.done, tries = excluded.tries, next = excluded.next, error = excluded.error`,
			k.User, k.Side, string(k.Protocol), k.Hash, stamp(k.Learned), stamp(k.Seen), stamp(k.Expires), stamp(k.Hook.Done), k.Hook.Tries,
			stamp(k.Hook.Next), k.Hook.Error)
		return err
	})
}

// RenewKept implements logins.Store.
func (d *database) RenewKept(ctx context.Context, k logins.Kept) (there bool, err error) {
	err = d.secretly(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "UPDATE kept SET side = ?, seen = ?, expires = ? WHERE user = ? AND learned = ?",
			k.Side, stamp(k.Seen), stamp(k.Expires), k.User, stamp(k.Learned))
		there = n > 0
		return err
	})
	return there && err == nil, err
}

// SetHook implements logins.Store.
func (d *database) SetHook(ctx context.Context, k logins.Kept, events ...op.Event) (there bool, err error) {
	err = d.secretly(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "UPDATE kept SET done = ?, tries = ?, next = ?, error = ? WHERE user = ? AND learned = ?",
			stamp(k.Hook.Done), k.Hook.Tries, stamp(k.Hook.Next), k.Hook.Error, k.User, stamp(k.Learned))
		if there = n > 0; err != nil || !there {
			return err
		}
		return addEvents(ctx, t, events)
	})
	return there && err == nil, err
}

// ClaimHook implements logins.Store.
func (d *database) ClaimHook(ctx context.Context, k logins.Kept, now, until time.Time) (is logins.Kept, mine bool, err error) {
	err = d.secretly(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "UPDATE kept SET next = ? WHERE user = ? AND learned = ? AND done = ? AND next <= ?",
			stamp(until), k.User, stamp(k.Learned), stamp(time.Time{}), stamp(now))
		mine = n > 0
		return err
	})
	if mine = mine && err == nil; mine || err != nil {
		return k, mine, err
	}
	list, err := d.Kept(ctx, k.User)
	for _, x := range list {
		if x.Learned.Equal(k.Learned) {
			return x, false, err
		}
	}
	return logins.Kept{}, false, err
}

// DropKept implements logins.Store.
func (d *database) DropKept(ctx context.Context, user string, e op.Event) (int, error) {
	return d.eachSecret(ctx, "kept", "DELETE FROM kept", "1 = 1", user, e)
}

// ExpireKept implements logins.Store.
func (d *database) ExpireKept(ctx context.Context, now, unseen time.Time) (int, error) {
	return d.expire(ctx, "kept", now, unseen)
}
