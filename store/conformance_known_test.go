package store

import (
	"net/netip"
	"testing"
	"time"

	"mailgate/auth"
	"mailgate/syncer"
)

// conformKnown is what every auth.Memory must do.
func conformKnown(t *testing.T, one, two syncer.Store) {
	ctx := t.Context()
	s, other := one.(auth.Memory), two.(auth.Memory)
	at := alice.Since
	known := func(user, network string, n int) auth.Known {
		return auth.Known{User: user, Network: netip.MustParseAddr(network), Seen: at.Add(time.Duration(n) * time.Hour)}
	}
	list := func(since time.Time, most int, want ...auth.Known) {
		t.Helper()
		got, err := other.KnownAddresses(ctx, since, most)
		must(t, err)
		same(t, got, want)
	}
	list(time.Time{}, 10)
	a4, a6, b4 := known(anna, "192.0.2.1", 1), known(anna, "2001:db8::", 3), known(bert, "192.0.2.1", 2)
	must(t, s.KeepAddresses(ctx, []auth.Known{a6, b4, a4}, nil, time.Time{}))
	list(time.Time{}, 10, a4, b4, a6)
	list(a4.Seen, 10, b4, a6)
	list(time.Time{}, 2, b4, a6)
	a4.Seen = at.Add(9 * time.Hour)
	must(t, s.KeepAddresses(ctx, []auth.Known{a4}, []auth.Known{{User: bert, Network: a4.Network}, {User: bert, Network: a6.Network}}, time.Time{}))
	list(time.Time{}, 10, a6, a4)
	must(t, s.KeepAddresses(ctx, nil, nil, a6.Seen))
	list(time.Time{}, 10, a4)
}
