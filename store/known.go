package store

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"mailgate/auth"
)

// KnownAddresses implements auth.Memory.
func (d *database) KnownAddresses(ctx context.Context, since time.Time, most int) (out []auth.Known, err error) {
	err = d.list(ctx, "SELECT user, network, seen FROM known WHERE seen > ? ORDER BY seen DESC, user, network LIMIT ?", []any{stamp(since), most},
		func(s scanner) error {
			var k auth.Known
			var network string
			var seen int64
			if err := s.Scan(&k.User, &network, &seen); err != nil {
				return err
			}
			k.Seen = when(seen)
			var err error
			if k.Network, err = netip.ParseAddr(network); err != nil {
				return fmt.Errorf("table known: %w", err)
			}
			out = append(out, k)
			return nil
		})
	slices.Reverse(out)
	return out, err
}

// KeepAddresses implements auth.Memory.
func (d *database) KeepAddresses(ctx context.Context, seen, gone []auth.Known, before time.Time) error {
	seen = slices.Clone(seen) // in one order: several nodes do this at once
	slices.SortFunc(seen, func(a, b auth.Known) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Network.String(), b.Network.String()))
	})
	return d.tx(ctx, func(t *transaction) error {
		for _, k := range seen {
			if _, err := t.exec(ctx, `INSERT INTO known (user, network, seen) VALUES (?,?,?) ON CONFLICT (user, network) DO UPDATE SET seen = excluded.seen`,
				k.User, k.Network.String(), stamp(k.Seen)); err != nil {
				return err
			}
		}
		for _, k := range gone {
			if _, err := t.exec(ctx, "DELETE FROM known WHERE user = ? AND network = ?", k.User, k.Network.String()); err != nil {
				return err
			}
		}
		_, err := t.exec(ctx, "DELETE FROM known WHERE seen <= ?", stamp(before))
		return err
	})
}
