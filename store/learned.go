package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"mailgate/config"
	"mailgate/learned"
	"mailgate/op"
)

const learnedColumns = "user, side, learned, seen, expires, refused_old, refused_new, sealed"

// secretly is tx for the tables learned and kept, in which nothing that is deleted or replaced may stay: SQLite overwrites it with zeros
// (secure_delete). Elsewhere that is not worth its writes.
func (d *database) secretly(ctx context.Context, f func(*transaction) error) error {
	return d.tx(ctx, func(t *transaction) error {
		if d.wipe == nil {
			return f(t)
		}
		if err := d.wipe(ctx, t, true); err != nil {
			return err
		}
		err := f(t)
		_ = d.wipe(context.WithoutCancel(ctx), t, false) // that it stays on costs time only
		return err
	})
}

// Secrets implements learned.Store.
func (d *database) Secrets(ctx context.Context, user string) (out []learned.Row, err error) {
	query, args := "SELECT "+learnedColumns+" FROM learned", []any(nil)
	if user != "" {
		query, args = query+" WHERE user = ?", []any{user}
	}
	err = d.list(ctx, query+" ORDER BY user, side", args, func(s scanner) error {
		var r learned.Row
		var first, seen, expires int64
		var refused [2]int64
		err := s.Scan(&r.User, &r.Side, &first, &seen, &expires, &refused[config.Old], &refused[config.New], &r.Sealed)
		r.Learned, r.Seen, r.Expires = when(first), when(seen), when(expires)
		r.Refused = [2]time.Time{when(refused[config.Old]), when(refused[config.New])}
		out = append(out, r)
		return err
	})
	return out, err
}

// PutSecret implements learned.Store.
func (d *database) PutSecret(ctx context.Context, r learned.Row) error {
	return d.secretly(ctx, func(t *transaction) error {
		_, err := t.exec(ctx, "INSERT INTO learned ("+learnedColumns+`) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT (user, side) DO UPDATE SET
			learned = excluded.learned, seen = excluded.seen, expires = excluded.expires, refused_old = excluded.refused_old,
			refused_new = excluded.refused_new, sealed = excluded.sealed`,
			r.User, r.Side, stamp(r.Learned), stamp(r.Seen), stamp(r.Expires), stamp(r.Refused[config.Old]), stamp(r.Refused[config.New]), blob(r.Sealed))
		return err
	})
}

// RenewSecret implements learned.Store.
func (d *database) RenewSecret(ctx context.Context, r learned.Row) (there bool, err error) {
	err = d.secretly(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "UPDATE learned SET seen = ?, expires = ? WHERE user = ? AND side = ? AND learned = ?",
			stamp(r.Seen), stamp(r.Expires), r.User, r.Side, stamp(r.Learned))
		there = n > 0
		return err
	})
	return there && err == nil, err
}

// RefuseSecret implements learned.Store.
func (d *database) RefuseSecret(ctx context.Context, r learned.Row, by config.Side, at time.Time, e op.Event) (changed bool, err error) {
	column := "refused_" + by.String()
	err = d.secretly(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "UPDATE learned SET "+column+" = ? WHERE user = ? AND side = ? AND learned = ? AND "+column+" = 0",
			stamp(at), r.User, r.Side, stamp(r.Learned))
		if changed = n > 0; err != nil || !changed {
			return err
		}
		return addEvents(ctx, t, []op.Event{e})
	})
	return changed && err == nil, err
}

// AllowSecrets implements learned.Store.
func (d *database) AllowSecrets(ctx context.Context, user string, e op.Event) (int, error) {
	return d.eachSecret(ctx, "learned", "UPDATE learned SET refused_old = 0, refused_new = 0", "(refused_old > 0 OR refused_new > 0)", user, e)
}

// DropSecrets implements learned.Store.
func (d *database) DropSecrets(ctx context.Context, user string, e op.Event) (int, error) {
	return d.eachSecret(ctx, "learned", "DELETE FROM learned", "1 = 1", user, e)
}

// eachSecret does something to the rows of a user, or of everybody, in a table, for which a condition holds, with an event for each user.
func (d *database) eachSecret(ctx context.Context, table, do, where, user string, e op.Event) (n int, err error) {
	where, args := " WHERE "+where, []any(nil)
	if user != "" {
		where, args = where+" AND user = ?", []any{user}
	}
	err = d.secretly(ctx, func(t *transaction) error {
		events, err := eventsOf(t, "SELECT user, COUNT(*) FROM "+table+where+" GROUP BY user ORDER BY user", args, e)
		if err != nil {
			return err
		}
		done, err := t.exec(ctx, do+where, args...)
		if n = int(done); err != nil {
			return err
		}
		return addEvents(ctx, t, events)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// eventsOf makes an event of e for each user.
func eventsOf(t *transaction, query string, args []any, e op.Event) (events []op.Event, err error) {
	t.heard()
	rows, err := t.tx.QueryContext(t.ctx, t.d.bind(query), t.d.args(args)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n int
		if err := rows.Scan(&e.User, &n); err != nil {
			return nil, err
		}
		e.Detail = fmt.Sprintf("%d rows", n)
		events = append(events, e)
	}
	return events, rows.Err()
}

// ExpireSecrets implements learned.Store.
func (d *database) ExpireSecrets(ctx context.Context, now, unseen time.Time) (int, error) {
	return d.expire(ctx, "learned", now, unseen)
}

// expire deletes what is over in a table, or has not been seen for too long.
func (d *database) expire(ctx context.Context, table string, now, unseen time.Time) (n int, err error) {
	there := false // mostly there is nothing to write
	where := " FROM " + table + " WHERE expires <= ? OR seen <= ?"
	err = d.list(ctx, "SELECT 1"+where+" LIMIT 1", []any{stamp(now), stamp(unseen)}, func(s scanner) error {
		there = true
		return s.Scan(new(int))
	})
	if err != nil || !there {
		return 0, err
	}
	err = d.secretly(ctx, func(t *transaction) error {
		gone, err := t.exec(ctx, "DELETE"+where, stamp(now), stamp(unseen))
		n = int(gone)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// ScrubSecrets implements learned.Store.
func (d *database) ScrubSecrets(ctx context.Context) error {
	if err := d.settled(ctx); err != nil {
		return err
	}
	return d.wrap(d.scrub(ctx, d.write))
}

// wipeSQLite lets deleted content be overwritten with zeros, or not any more, on the connection of a transaction.
func wipeSQLite(_ context.Context, t *transaction, on bool) error {
	value := 0
	if on {
		value = 1
	}
	_, err := t.tx.ExecContext(t.ctx, fmt.Sprintf("PRAGMA secure_delete = %d", value))
	return err
}

// scrubSQLite empties the write-ahead log, which has rows as they were written. Who reads since before, such as a backup, is waited
// for as long as for a lock.
func scrubSQLite(ctx context.Context, db *sql.DB) error {
	var busy, frames, done int
	if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &done); err != nil {
		return err
	}
	if busy != 0 {
		return fmt.Errorf("%w: somebody reads the store, a backup or an export perhaps, and keeps its write-ahead log", op.ErrUnavailable)
	}
	return nil
}

// scrubPostgres writes the tables anew: PostgreSQL leaves deleted rows in their files. What its own log, archives, replicas and
// backups have of them is out of reach.
func scrubPostgres(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	_, err := db.ExecContext(ctx, "VACUUM (FULL) learned, kept", pgx.QueryExecModeSimpleProtocol)
	return err
}
