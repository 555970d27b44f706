package cutover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"mailgate/config"
	"mailgate/op"
	"mailgate/router"
)

// Seen is Newcomers.Seen.
func (m *Manager) Seen(user string, p router.Place) { m.newcomers.Seen(user, p) }

// Owed is the number of rows that wait to be written.
func (m *Manager) Owed() int { return m.newcomers.Owed() }

// writeOwed writes owed rows, behind the logins.
func (m *Manager) writeOwed() {
	var later <-chan time.Time // when held users are asked for again
	owed := m.newcomers.wake
	if m.cluster != nil && !m.own {
		owed = nil // the node writes its own, whoever leads: Member
	}
	for {
		select {
		case <-m.ctx.Done():
		case <-owed:
		case <-m.wake:
		case <-later:
		}
		held := 0
		err := m.retry(func(ctx context.Context) error {
			if err := m.flushOwed(ctx); err != nil {
				return err
			}
			var err error
			held, err = m.askCrossed(ctx)
			return err
		})
		if later = nil; held > 0 {
			later = time.After(heldWait)
		}
		if err != nil {
			m.log.Error("users seen for the first time are not recorded", "rows", m.Owed(), "err", err)
		}
		if m.ctx.Err() != nil {
			return
		}
	}
}

// FlushOwed writes the rows that this process owes: see LocalNode.Flush.
func (m *Manager) FlushOwed(ctx context.Context) error { return m.flushOwed(ctx) }

// flushOwed writes what is owed now.
func (m *Manager) flushOwed(ctx context.Context) error {
	return m.newcomers.flush(ctx, func(ctx context.Context, rows []op.Row) error {
		if err := m.store.AddRows(ctx, rows); err != nil {
			m.log.Warn("rows of new users are not written yet", "rows", len(rows), "err", err)
			return err
		}
		for _, r := range rows {
			if err := m.agree(ctx, r); err != nil {
				return fmt.Errorf("correct the row of %s: %w", r.User, err)
			}
		}
		m.rec.StoreOK(time.Now())
		return nil
	})
}

// cross notes users whom a line that was just taken over, and asked for nothing, does not find on its side: they were
// admitted while it was recorded. Their sessions are the truth (I1), flushOwed makes the store say so too, and the line
// becomes a flip.
func (m *Manager) cross(user string, want config.Side) {
	if p, known := m.router.Lookup(user); !known || p.Side == want {
		return
	}
	m.mu.Lock()
	m.crossed = append(m.crossed, user)
	m.mu.Unlock()
	signal(m.wake)
}

// agree makes the store say what an admitted login has made true, where an import has placed him on the other side.
func (m *Manager) agree(ctx context.Context, seen op.Row) error {
	row, err := m.store.Row(ctx, seen.User)
	if err != nil {
		return err
	}
	if row.Side == seen.Side || row.State != op.Settled || row.Epoch != seen.Epoch || row.Generation != seen.Generation {
		return nil
	}
	next := row
	next.Side, next.Generation, next.Since = seen.Side, row.Generation+1, seen.Since
	return m.store.Swap(ctx, row.Generation, next, op.Operation{}, nil, op.Event{At: time.Now(), User: seen.User,
		What: "placed where he logged in", Before: row.Side.String(), After: next.Side.String(), By: "serve"})
}

// heldWait is how long users whom a hold stops wait until they are asked for again, unless a hold ends before.
const heldWait = 30 * time.Second

// askCrossed asks for what the lines of users who crossed an import say. Those whom a hold stops stay for another time, and stop nobody
// else: it tells how many they are.
func (m *Manager) askCrossed(ctx context.Context) (held int, err error) {
	m.mu.Lock()
	list := m.crossed
	m.crossed = nil
	m.mu.Unlock()
	var left []string
	for i, user := range list {
		want, listed := m.Desired(user)
		_, moving := m.headed(user)
		if p, _ := m.router.Lookup(user); !listed || moving || p.Side == want {
			continue
		}
		if _, err = m.Request(ctx, user, want, "routes file", false); errors.Is(err, op.ErrHeld) {
			left, err = append(left, user), nil
		} else if err != nil {
			left = append(left, list[i:]...)
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crossed = append(left, m.crossed...)
	return len(left), err
}
