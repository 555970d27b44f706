package syncer

import (
	"context"

	"mailgate/backend"
	"mailgate/config"
)

// Room is whether what is still to come to an account has room there.
type Room struct {
	Quota    Quota // of the account
	Messages int64 // still to come
	Bytes    int64 // the same; from the mean size of the other side's messages where some are there already
	Measured bool  // Bytes is known: the other side tells sizes (STATUS=SIZE, RFC 8438) or its own quota
}

// Fits tells whether there is room as far as that is known.
func (r Room) Fits() bool {
	q := r.Quota
	return !q.Known || (q.MessageLimit == 0 || q.Messages+r.Messages <= q.MessageLimit) &&
		(q.StorageLimit == 0 || !r.Measured || q.Storage+r.Bytes <= q.StorageLimit)
}

// Room asks the side that does not decide what it may hold, and the other one how much is not there yet. Nothing is written.
func (s *Syncer) Room(ctx context.Context, user string, decides func(context.Context, string) (config.Side, int64, error)) (r Room, err error) {
	p, err := s.newPass(ctx, user, RunOptions{DryRun: true, Decides: decides})
	if err != nil {
		return r, err
	}
	defer p.close()
	err = safely(func() (err error) {
		from := p.authority
		if r.Quota, err = p.quota(ctx, from.Other()); err != nil || !r.Quota.Known {
			return err
		}
		known, err := s.o.Store.Mailboxes(ctx, user)
		if err != nil {
			return err
		}
		pairs := map[string]int64{}
		for _, m := range known {
			pairs[peekName(m.Name[from])] = m.Pairs
		}
		var all, size int64
		items := []string{"MESSAGES"}
		err = p.on(ctx, from, func(c *backend.Client) error {
			if r.Measured = c.Has("STATUS=SIZE"); r.Measured {
				items = append(items, "SIZE")
			}
			r.Messages, all, size = 0, 0, 0
			return c.List(ctx, backend.ListOptions{Status: items}, func(e backend.ListEntry) error {
				if e.Status != nil {
					n := int64(e.Status.Messages)
					all, size, r.Messages = all+n, size+e.Status.Size, r.Messages+max(0, n-pairs[peekName(e.Name)])
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		if !r.Measured {
			q, err := p.quota(ctx, from)
			if err != nil {
				return err
			}
			size, r.Measured = q.Storage, q.Known && q.Storage > 0
		}
		if all > 0 {
			r.Bytes = int64(float64(size) / float64(all) * float64(r.Messages))
		}
		return nil
	})
	return r, err
}
