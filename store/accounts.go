package store

import (
	"context"

	"mailgate/syncer"
)

// Mailboxes implements syncer.Store.
func (d *database) Mailboxes(ctx context.Context, user string) (out []syncer.Mailbox, err error) {
	err = d.list(ctx, "SELECT m.id, "+mailboxColumns+` FROM mailboxes m JOIN accounts a ON a.id = m.account WHERE a.user = ?
		ORDER BY m.id`, []any{user}, func(s scanner) error {
		m, err := scanMailbox(s)
		m.User = user
		out = append(out, m)
		return err
	})
	return out, err
}

const mailboxColumns = `old_name, new_name, old_validity, new_validity, old_mailboxid, new_mailboxid,
	old_uidnext, old_messages, old_unseen, old_modseq, old_scanned, new_uidnext, new_messages, new_unseen, new_modseq,
	new_scanned, subscribed, special_use, flags, pairs, gone`

func scanMailbox(s scanner) (m syncer.Mailbox, err error) {
	var name, id [2][]byte
	var use []byte
	var modseq, scanned [2]int64
	var gone int64
	c := &m.Cursor
	err = s.Scan(&m.ID, &name[0], &name[1], &m.Validity[0], &m.Validity[1], &id[0], &id[1],
		&c[0].UIDNext, &c[0].Messages, &c[0].Unseen, &modseq[0], &scanned[0],
		&c[1].UIDNext, &c[1].Messages, &c[1].Unseen, &modseq[1], &scanned[1],
		&m.Subscribed, &use, &m.Flags, &m.Pairs, &gone)
	for i := range 2 {
		m.Name[i], m.MailboxID[i] = string(name[i]), string(id[i])
		c[i].HighestModSeq, c[i].Scanned = uint64(modseq[i]), when(scanned[i])
	}
	m.SpecialUse, m.Flags, m.GoneSince = string(use), filled(m.Flags), when(gone)
	return m, err
}

func mailboxValues(m syncer.Mailbox) []any {
	c := &m.Cursor
	return []any{blob(m.Name[0]), blob(m.Name[1]), m.Validity[0], m.Validity[1], blob(m.MailboxID[0]), blob(m.MailboxID[1]),
		c[0].UIDNext, c[0].Messages, c[0].Unseen, int64(c[0].HighestModSeq), stamp(c[0].Scanned),
		c[1].UIDNext, c[1].Messages, c[1].Unseen, int64(c[1].HighestModSeq), stamp(c[1].Scanned),
		m.Subscribed, blob(m.SpecialUse), blob(m.Flags), m.Pairs, stamp(m.GoneSince)}
}

// blob makes bytes of a string or of bytes, never NULL.
func blob[T string | []byte](s T) []byte { return append([]byte{}, s...) }

// filled is nil for no bytes.
func filled(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// Chunks implements syncer.Store.
func (d *database) Chunks(ctx context.Context, mailbox int64) (out []syncer.Chunk, err error) {
	err = d.list(ctx, "SELECT low, generation, data FROM chunks WHERE mailbox = ? ORDER BY low", []any{mailbox}, func(s scanner) error {
		c := syncer.Chunk{Mailbox: mailbox}
		err := s.Scan(&c.Low, &c.Generation, &c.Data)
		out = append(out, c)
		return err
	})
	return out, err
}

// Intents implements syncer.Store.
func (d *database) Intents(ctx context.Context, user string) (out []syncer.Intent, err error) {
	err = d.list(ctx, `SELECT i.id, i.mailbox, i.side, i.kind, i.epoch, i.validity, i.uidnext, i.payload, i.created FROM intents i
		JOIN mailboxes m ON m.id = i.mailbox JOIN accounts a ON a.id = m.account WHERE a.user = ? ORDER BY i.id`, []any{user},
		func(s scanner) error {
			i := syncer.Intent{User: user}
			var created int64
			err := s.Scan(&i.ID, &i.Mailbox, &i.Side, &i.Kind, &i.Epoch, &i.Validity, &i.UIDNext, &i.Payload, &created)
			i.Payload, i.Created = filled(i.Payload), when(created)
			out = append(out, i)
			return err
		})
	return out, err
}

// Quarantine implements syncer.Store.
func (d *database) Quarantine(ctx context.Context, user string) (out []syncer.Quarantined, err error) {
	err = d.list(ctx, `SELECT q.mailbox, q.side, q.validity, q.uid, q.reason, q.detail, q.first, q.last, q.tries, q.decision, q.by, q.decided
		FROM quarantine q JOIN mailboxes m ON m.id = q.mailbox JOIN accounts a ON a.id = m.account WHERE a.user = ?
		ORDER BY q.mailbox, q.side, q.uid, q.validity`, []any{user}, func(s scanner) error {
		q := syncer.Quarantined{User: user}
		var detail []byte
		var first, last, decided int64
		err := s.Scan(&q.Mailbox, &q.Side, &q.Validity, &q.UID, &q.Reason, &detail, &first, &last, &q.Tries, &q.Decision, &q.By, &decided)
		q.Detail, q.First, q.Last, q.Decided = string(detail), when(first), when(last), when(decided)
		out = append(out, q)
		return err
	})
	return out, err
}
