package admin

import (
	"context"
	"testing"

	"mailgate/config"
	"mailgate/op"
	"mailgate/store"
)

// movingStore moves a user while somebody asks where he is.
type movingStore struct {
	*store.SQLite
	move func()
}

func (s *movingStore) Row(ctx context.Context, user string) (op.Row, error) {
	s.move()
	return s.SQLite.Row(ctx, user)
}

// TestUserAmidFlip: who asks amid a flip and hears of none under way hears of the side that he is on.
func TestUserAmidFlip(t *testing.T) {
	g := newRig(t, "alice@example.com old\n")
	s := &movingStore{g.store, func() {
		o, err := g.m.Request(t.Context(), "alice@example.com", config.New, "test", false)
		must(t, err)
		o, err = g.m.Wait(t.Context(), o.ID)
		must(t, err)
		if o.Status != op.Done {
			t.Fatal(o.Reason)
		}
	}}
	api := &API{Gateway: g, Router: g.r, Manager: g.m, Store: s}
	u, err := api.user(t.Context(), "alice@example.com")
	must(t, err)
	if u.State == op.Settled && len(u.Open) == 0 && (u.Side != config.New || u.Epoch != 1) {
		t.Errorf("on %s in epoch %d, and nothing is under way", u.Side, u.Epoch)
	}
}
