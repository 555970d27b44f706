package cutover

import (
	"context"
	"slices"
	"time"

	"mailgate/op"
	"mailgate/router"
)

// Seen owes a row to a user who has logged in for the first time. It does not block: see router.New. Only admitted
// logins count, so there is one for each user that a backend knows, never one for a stranger's guess.
func (m *Manager) Seen(user string, p router.Place) {
	m.mu.Lock()
	m.owed = append(m.owed, op.Row{User: user, Side: p.Side, Epoch: p.Epoch, Generation: p.Generation, State: op.Settled,
		Since: time.Now()})
	m.mu.Unlock()
	signal(m.wake)
}

// Owed is the number of rows that wait to be written.
func (m *Manager) Owed() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.owed)
}

// writeOwed writes owed rows, behind the logins.
func (m *Manager) writeOwed() {
	for {
		select {
		case <-m.ctx.Done():
		case <-m.wake:
		}
		if err := m.retry(m.flushOwed); err != nil {
			m.log.Error("rows of users seen for the first time are not written", "rows", m.Owed(), "err", err)
		}
		if m.ctx.Err() != nil {
			return
		}
	}
}

// flushOwed writes what is owed now. One at a time: two would each take the other's rows off the list.
func (m *Manager) flushOwed(ctx context.Context) error {
	select {
	case m.flushing <- struct{}{}:
		defer func() { <-m.flushing }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	m.mu.Lock()
	rows := slices.Clone(m.owed)
	m.mu.Unlock()
	if len(rows) == 0 {
		return nil
	}
	if err := m.store.AddRows(ctx, rows); err != nil {
		m.log.Warn("rows of new users are not written yet", "rows", len(rows), "err", err)
		return err
	}
	m.rec.StoreOK(time.Now())
	m.mu.Lock()
	m.owed = slices.Delete(m.owed, 0, len(rows))
	m.mu.Unlock()
	return nil
}
