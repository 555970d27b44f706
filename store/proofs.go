package store

import (
	"context"

	"mailgate/syncer"
)

// Proofs implements syncer.Store.
func (d *database) Proofs(ctx context.Context) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := d.list(ctx, "SELECT user, text FROM proofs", nil, func(s scanner) error {
		var user string
		var text []byte
		err := s.Scan(&user, &text)
		out[user] = text
		return err
	})
	return out, err
}

// SaveProofs implements syncer.Store.
func (d *database) SaveProofs(ctx context.Context, list map[string][]byte) error {
	return d.tx(ctx, func(t *transaction) error {
		for user, text := range list {
			var err error
			if len(text) == 0 {
				_, err = t.exec(ctx, "DELETE FROM proofs WHERE user = ?", user)
			} else {
				_, err = t.exec(ctx, "INSERT INTO proofs (user, text) VALUES (?,?) ON CONFLICT (user) DO UPDATE SET text = excluded.text", user, blob(text))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Unfinished implements syncer.Store.
func (d *database) Unfinished(ctx context.Context) (users []string, err error) {
	err = d.list(ctx, `SELECT DISTINCT a.user FROM intents i JOIN mailboxes m ON m.id = i.mailbox JOIN accounts a ON a.id = m.account
		WHERE i.kind <> ? ORDER BY a.user`, []any{string(syncer.IntentSuspect)}, func(s scanner) error {
		var user string
		err := s.Scan(&user)
		users = append(users, user)
		return err
	})
	return users, err
}
