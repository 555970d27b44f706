package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"mailgate/op"
	"mailgate/syncer"
)

// Apply implements syncer.Store. A mailbox that is not the user's is op.ErrNotFound; an intent, a mailbox to be dropped or
// a message to be released that is gone already is nothing to do.
func (d *database) Apply(ctx context.Context, c syncer.Change) (syncer.Applied, error) {
	var done syncer.Applied
	err := d.tx(ctx, func(t *transaction) error {
		account, err := t.holder(ctx, c.User, c.Token)
		if err != nil {
			return err
		}
		a := &applying{transaction: t, account: account, known: map[int64]bool{}}
		if err := a.dropMailboxes(ctx, c.DropMailboxes); err != nil {
			return err
		}
		if err := a.mailboxes(ctx, c.Mailboxes); err != nil {
			return err
		}
		if err := a.chunks(ctx, c.Chunks); err != nil {
			return err
		}
		if err := a.intents(ctx, c.DropIntents, c.AddIntents); err != nil {
			return err
		}
		if err := a.quarantine(ctx, c.Quarantine, c.Release); err != nil {
			return err
		}
		if err := a.scripts(ctx, c.Scripts, c.DropScripts); err != nil {
			return err
		}
		done = a.done
		return nil
	})
	if err != nil {
		return syncer.Applied{}, err
	}
	return done, nil
}

// applying is one Apply under way.
type applying struct {
	*transaction
	account int64
	known   map[int64]bool // mailboxes that are the account's
	done    syncer.Applied
}

// mailbox is the ID that id means: a negative one is counted among Change.Mailboxes. It must be the account's.
func (a *applying) mailbox(ctx context.Context, id int64) (int64, error) {
	if id < 0 {
		if i := -1 - id; i < int64(len(a.done.Mailboxes)) {
			return a.done.Mailboxes[i], nil
		}
		return 0, fmt.Errorf("mailbox %d of the change: %w", id, op.ErrNotFound)
	}
	if a.known[id] {
		return id, nil
	}
	var one int
	err := a.row(ctx, "SELECT 1 FROM mailboxes WHERE id=? AND account=?", id, a.account).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("mailbox %d: %w", id, op.ErrNotFound)
	}
	a.known[id] = err == nil
	return id, err
}

func (a *applying) dropMailboxes(ctx context.Context, ids []int64) error {
	for _, id := range ids { // what hangs on them goes by the foreign keys
		if _, err := a.exec(ctx, "DELETE FROM mailboxes WHERE id=? AND account=?", id, a.account); err != nil {
			return err
		}
	}
	return nil
}

func (a *applying) mailboxes(ctx context.Context, list []syncer.Mailbox) error {
	for _, m := range list {
		id := m.ID
		if id == 0 {
			err := a.row(ctx, "INSERT INTO mailboxes (account, "+mailboxColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
				RETURNING id`, append([]any{a.account}, mailboxValues(m)...)...).Scan(&id)
			if err != nil {
				return err
			}
		} else {
			n, err := a.exec(ctx, "UPDATE mailboxes SET ("+mailboxColumns+`) = (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
				WHERE id=? AND account=?`, append(mailboxValues(m), id, a.account)...)
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("mailbox %d: %w", id, op.ErrNotFound)
			}
		}
		a.known[id] = true
		a.done.Mailboxes = append(a.done.Mailboxes, id)
	}
	return nil
}

// chunks writes each if its generation is the one that the caller saw.
func (a *applying) chunks(ctx context.Context, list []syncer.Chunk) error {
	for _, c := range list {
		mailbox, err := a.mailbox(ctx, c.Mailbox)
		if err != nil {
			return err
		}
		var n int64
		switch {
		case c.Generation == 0 && len(c.Data) == 0:
			err = a.row(ctx, "SELECT 1 - COUNT(*) FROM chunks WHERE mailbox=? AND low=?", mailbox, c.Low).Scan(&n)
		case c.Generation == 0:
			n, err = a.exec(ctx, "INSERT INTO chunks (mailbox, low, generation, data) VALUES (?,?,1,?) ON CONFLICT DO NOTHING",
				mailbox, c.Low, c.Data)
		case len(c.Data) == 0:
			n, err = a.exec(ctx, "DELETE FROM chunks WHERE mailbox=? AND low=? AND generation=?", mailbox, c.Low, c.Generation)
		default:
			n, err = a.exec(ctx, "UPDATE chunks SET data=?, generation=generation+1 WHERE mailbox=? AND low=? AND generation=?",
				c.Data, mailbox, c.Low, c.Generation)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("mailbox %d, chunk %d: %w", mailbox, c.Low, syncer.ErrStale)
		}
	}
	return nil
}

func (a *applying) intents(ctx context.Context, drop []int64, add []syncer.Intent) error {
	for _, id := range drop {
		_, err := a.exec(ctx, "DELETE FROM intents WHERE id=? AND mailbox IN (SELECT id FROM mailboxes WHERE account=?)", id, a.account)
		if err != nil {
			return err
		}
	}
	for _, i := range add {
		mailbox, err := a.mailbox(ctx, i.Mailbox)
		if err != nil {
			return err
		}
		var id int64
		err = a.row(ctx, `INSERT INTO intents (mailbox, side, kind, epoch, validity, uidnext, payload, created)
			VALUES (?,?,?,?,?,?,?,?) RETURNING id`,
			mailbox, i.Side, i.Kind, i.Epoch, i.Validity, i.UIDNext, blob(i.Payload), stamp(i.Created)).Scan(&id)
		if err != nil {
			return err
		}
		a.done.Intents = append(a.done.Intents, id)
	}
	return nil
}

func (a *applying) quarantine(ctx context.Context, put, release []syncer.Quarantined) error {
	for _, q := range put {
		mailbox, err := a.mailbox(ctx, q.Mailbox)
		if err != nil {
			return err
		}
		_, err = a.exec(ctx, `INSERT INTO quarantine (mailbox, side, validity, uid, reason, detail, first, last, tries, decision, by, decided)
			VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (mailbox, side, validity, uid) DO UPDATE SET reason = excluded.reason,
			detail = excluded.detail, first = excluded.first, last = excluded.last, tries = excluded.tries,
			decision = CASE WHEN quarantine.decided > excluded.decided THEN quarantine.decision ELSE excluded.decision END,
			by = CASE WHEN quarantine.decided > excluded.decided THEN quarantine.by ELSE excluded.by END,
			decided = CASE WHEN quarantine.decided > excluded.decided THEN quarantine.decided ELSE excluded.decided END`,
			mailbox, q.Side, q.Validity, q.UID, q.Reason, blob(q.Detail), stamp(q.First), stamp(q.Last), q.Tries, q.Decision, q.By, stamp(q.Decided))
		if err != nil {
			return err
		}
	}
	for _, q := range release {
		mailbox, err := a.mailbox(ctx, q.Mailbox)
		if errors.Is(err, op.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = a.exec(ctx, "DELETE FROM quarantine WHERE mailbox=? AND side=? AND validity=? AND uid=?", mailbox, q.Side, q.Validity, q.UID)
		if err != nil {
			return err
		}
	}
	return nil
}
