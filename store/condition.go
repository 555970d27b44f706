package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"mailgate/op"
)

// meet looks at what a commit depends on, and keeps it so until the transaction ends.
func (t *transaction) meet(ctx context.Context, c op.Condition) error {
	if err := t.freeze(ctx, true); err != nil {
		return err
	}
	t.heard()
	rows, err := t.tx.QueryContext(t.ctx, t.d.bind("SELECT "+nodeColumns+" FROM nodes ORDER BY name"))
	if err != nil {
		return err
	}
	nodes, err := scanAll(rows, scanNode)
	if err != nil {
		return err
	}
	same := func(a, b op.Node) bool { return a.Name == b.Name && a.Incarnation == b.Incarnation }
	for _, n := range nodes {
		if !slices.ContainsFunc(c.Nodes, func(x op.Node) bool { return same(x, n) }) {
			return fmt.Errorf("%w: %s has not", op.ErrNodes, n.Name)
		}
	}
	for _, n := range c.Nodes {
		if !slices.ContainsFunc(nodes, func(x op.Node) bool { return same(x, n) }) {
			return fmt.Errorf("%w: %s is none any more", op.ErrNodes, n.Name)
		}
	}
	if rows, err = t.tx.QueryContext(t.ctx, "SELECT scope, by, reason, at FROM holds ORDER BY scope"); err != nil {
		return err
	}
	holds, err := scanAll(rows, scanHold)
	if err != nil {
		return err
	}
	for _, h := range holds {
		if slices.Contains(c.Scopes, h.Scope) {
			return fmt.Errorf("%w: %s is held by %s", op.ErrHeld, h.What(), h.By)
		}
	}
	return nil
}

// freeze keeps nodes and holds as they are until the transaction ends (shared), or keeps others from relying on them while
// they change.
func (t *transaction) freeze(ctx context.Context, shared bool) error {
	if t.d.freeze == nil { // one writer at a time
		return nil
	}
	return t.d.freeze(ctx, t, shared)
}

type rowsOf interface {
	scanner
	Next() bool
	Err() error
	Close() error
}

func scanAll[T any](rows rowsOf, scan func(scanner) (T, error)) (out []T, err error) {
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

const nodeColumns = "name, incarnation, since, seen, about"

func scanNode(s scanner) (n op.Node, err error) {
	var since, seen int64
	var about string
	err = s.Scan(&n.Name, &n.Incarnation, &since, &seen, &about)
	n.Since, n.Seen = when(since), when(seen)
	if err == nil && about != "" {
		err = json.Unmarshal([]byte(about), &n.About)
	}
	return n, err
}

func scanHold(s scanner) (h op.Hold, err error) {
	var at int64
	err = s.Scan(&h.Scope, &h.By, &h.Reason, &at)
	h.At = when(at)
	return h, err
}

// Nodes implements op.Store.
func (d *database) Nodes(ctx context.Context) (nodes []op.Node, err error) {
	err = d.list(ctx, "SELECT "+nodeColumns+" FROM nodes ORDER BY name", nil, func(s scanner) error {
		n, err := scanNode(s)
		nodes = append(nodes, n)
		return err
	})
	return nodes, err
}

// AddNode implements op.Store.
func (d *database) AddNode(ctx context.Context, n op.Node) error {
	return d.tx(ctx, func(t *transaction) error {
		if err := t.freeze(ctx, false); err != nil {
			return err
		}
		about, err := aboutText(n.About)
		if err != nil {
			return err
		}
		_, err = t.exec(ctx, `INSERT INTO nodes (`+nodeColumns+`) VALUES (?,?,?,?,?) ON CONFLICT (name)
			DO UPDATE SET incarnation = excluded.incarnation, since = excluded.since, seen = excluded.seen, about = excluded.about
			WHERE nodes.incarnation <> excluded.incarnation`, n.Name, n.Incarnation, stamp(n.Since), stamp(n.Seen), about)
		return err
	})
}

func aboutText(a op.About) (string, error) {
	if a == (op.About{}) {
		return "", nil
	}
	text, err := json.Marshal(a)
	return string(text), err
}

// RemoveNode implements op.Store.
func (d *database) RemoveNode(ctx context.Context, n op.Node, e op.Event) error {
	return d.tx(ctx, func(t *transaction) error {
		if err := t.dropNode(ctx, n); err != nil {
			return err
		}
		return addEvents(ctx, t, []op.Event{e})
	})
}

// dropNode takes a registration out, and keeps others from changing until the transaction ends. op.ErrNodes when there is none of this very
// incarnation.
func (t *transaction) dropNode(ctx context.Context, n op.Node) error {
	if err := t.freeze(ctx, false); err != nil {
		return err
	}
	dropped, err := t.exec(ctx, "DELETE FROM nodes WHERE name=? AND incarnation=?", n.Name, n.Incarnation)
	if err == nil && dropped == 0 {
		err = fmt.Errorf("%w: %s", op.ErrNodes, n.Name)
	}
	return err
}

// Holds implements op.Store.
func (d *database) Holds(ctx context.Context) (holds []op.Hold, err error) {
	err = d.list(ctx, "SELECT scope, by, reason, at FROM holds ORDER BY scope", nil, func(s scanner) error {
		h, err := scanHold(s)
		holds = append(holds, h)
		return err
	})
	return holds, err
}

// AddHold implements op.Store.
func (d *database) AddHold(ctx context.Context, h op.Hold, events ...op.Event) (changed bool, err error) {
	return d.changeHold(ctx, events, "INSERT INTO holds (scope, by, reason, at) VALUES (?,?,?,?) ON CONFLICT DO NOTHING",
		h.Scope, h.By, h.Reason, stamp(h.At))
}

// DropHold implements op.Store.
func (d *database) DropHold(ctx context.Context, scope string, events ...op.Event) (changed bool, err error) {
	return d.changeHold(ctx, events, "DELETE FROM holds WHERE scope=?", scope)
}

func (d *database) changeHold(ctx context.Context, events []op.Event, query string, args ...any) (changed bool, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		if err := t.freeze(ctx, false); err != nil {
			return err
		}
		n, err := t.exec(ctx, query, args...)
		if changed = n > 0; err != nil || n == 0 {
			return err
		}
		return addEvents(ctx, t, events)
	})
	return changed && err == nil, err
}
