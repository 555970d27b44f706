package store

import (
	"context"

	"mailgate/op"
	"mailgate/syncer"
)

// Decide implements syncer.Store. The time of a decision is later than that of the one before, also where clocks disagree: a pass
// that has read the one before must not win.
func (d *database) Decide(ctx context.Context, user string, list []syncer.Quarantined, events ...op.Event) (n int, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		n = 0
		for _, q := range list {
			there, err := t.exec(ctx, `UPDATE quarantine SET decision = ?, by = ?, decided = CASE WHEN decided >= ? THEN decided + 1 ELSE ? END
				WHERE side = ? AND validity = ? AND uid = ? AND mailbox =
				(SELECT m.id FROM mailboxes m JOIN accounts a ON a.id = m.account WHERE m.id = ? AND a.user = ?)`,
				q.Decision, q.By, stamp(q.Decided), stamp(q.Decided), q.Side, q.Validity, q.UID, q.Mailbox, user)
			if err != nil {
				return err
			}
			n += int(there)
		}
		return addEvents(ctx, t, events)
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
