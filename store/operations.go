package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/op"
)

const opColumns = "id, kind, user, target, status, step, reason, by, pin, created, changed, deadline, took, payload, wave, parent, now, origin, plan"

func scanOperation(s scanner) (o op.Operation, err error) {
	var id, created, changed, deadline, took int64
	err = s.Scan(&id, &o.Kind, &o.User, &o.Target, &o.Status, &o.Step, &o.Reason, &o.By, &o.Pin, &created, &changed,
		&deadline, &took, &o.Payload, &o.Wave, &o.Parent, &o.Now, &o.From, &o.Plan)
	o.ID, o.Created, o.Changed, o.Deadline = opID(id), when(created), when(changed), when(deadline)
	o.Took = time.Duration(took)
	return o, err
}

func opID(n int64) string { return "op-" + strconv.FormatInt(n, 10) }

func opNumber(id string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(id, "op-"), 10, 64)
	if err != nil || opID(n) != id {
		return 0, fmt.Errorf("operation %q: %w", id, op.ErrNotFound)
	}
	return n, nil
}

func opValues(o op.Operation) []any {
	return []any{o.Kind, o.User, o.Target, o.Status, o.Step, o.Reason, o.By, o.Pin, stamp(o.Created), stamp(o.Changed),
		stamp(o.Deadline), int64(o.Took), o.Payload, o.Wave, o.Parent, o.Now, o.From, o.Plan}
}

// newOperations inserts operations and gives them their IDs.
func newOperations(ctx context.Context, t *transaction, ops []op.Operation) error {
	st, err := t.prepare(ctx, `INSERT INTO operations (kind, user, target, status, step, reason, by, pin, created, changed,
		deadline, took, payload, wave, parent, now, origin, plan) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) RETURNING id`)
	if err != nil {
		return err
	}
	defer st.close()
	for i := range ops {
		var n int64
		if err := st.row(ctx, opValues(ops[i])...).Scan(&n); err != nil {
			return err
		}
		ops[i].ID = opID(n)
	}
	return nil
}

func saveOperation(ctx context.Context, t *transaction, o op.Operation) error {
	n, err := opNumber(o.ID)
	if err != nil {
		return err
	}
	changed, err := t.exec(ctx, `UPDATE operations SET kind=?, user=?, target=?, status=?, step=?, reason=?, by=?, pin=?,
		created=?, changed=?, deadline=?, took=?, payload=?, wave=?, parent=?, now=?, origin=?, plan=? WHERE id=?`, append(opValues(o), n)...)
	if err == nil && changed == 0 {
		return op.ErrNotFound
	}
	return err
}

// NewOperation implements op.Store.
func (d *database) NewOperation(ctx context.Context, o op.Operation, events ...op.Event) (op.Operation, error) {
	list, events := []op.Operation{o}, slices.Clone(events)
	err := d.tx(ctx, func(t *transaction) error {
		if err := newOperations(ctx, t, list); err != nil {
			return err
		}
		for i := range events {
			events[i].Op = list[0].ID
		}
		return addEvents(ctx, t, events)
	})
	if err != nil {
		return o, err
	}
	return list[0], nil
}

// NewOperations implements op.Store.
func (d *database) NewOperations(ctx context.Context, list []op.Operation, events []op.Event) ([]op.Operation, error) {
	list, events = slices.Clone(list), slices.Clone(events)
	err := d.tx(ctx, func(t *transaction) error {
		if err := newOperations(ctx, t, list); err != nil {
			return err
		}
		for i := range min(len(list), len(events)) {
			events[i].Op = list[i].ID
		}
		return addEvents(ctx, t, events)
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// SaveOperation implements op.Store.
func (d *database) SaveOperation(ctx context.Context, o op.Operation, events ...op.Event) error {
	return d.tx(ctx, func(t *transaction) error {
		if err := saveOperation(ctx, t, o); err != nil {
			return err
		}
		return addEvents(ctx, t, events)
	})
}

// Operation implements op.Store.
func (d *database) Operation(ctx context.Context, id string) (op.Operation, error) {
	n, err := opNumber(id)
	if err != nil {
		return op.Operation{}, err
	}
	var o op.Operation
	err = d.one(ctx, "SELECT "+opColumns+" FROM operations WHERE id=?", []any{n}, func(s scanner) (err error) {
		o, err = scanOperation(s)
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		return op.Operation{}, fmt.Errorf("operation %q: %w", id, op.ErrNotFound)
	}
	return o, err
}

// Operations implements op.Store.
func (d *database) Operations(ctx context.Context, f op.Filter) ([]op.Operation, error) {
	query, args := operationsQuery(f)
	var out []op.Operation
	err := d.list(ctx, query, args, func(s scanner) error {
		o, err := scanOperation(s)
		out = append(out, o)
		return err
	})
	return out, err
}

// operationsQuery must stay quick beside 100,000 open operations: an index carries each filter.
func operationsQuery(f op.Filter) (string, []any) {
	var where clause
	if f.Open {
		where.add("status IN ('accepted', 'waiting', 'running')") // as the partial indexes have it
	}
	if f.Kind != "" {
		where.add("kind = ?", f.Kind)
	}
	if f.User != "" {
		where.add("user = ?", f.User)
	}
	if f.Parent != "" {
		where.add("parent = ? AND parent <> ''", f.Parent) // as the partial index has it
	}
	return "SELECT " + opColumns + " FROM operations" + where.text + " ORDER BY id DESC LIMIT ?", append(where.args, limit(f.Limit))
}

// clause is a WHERE clause under construction.
type clause struct {
	text string
	args []any
}

func (c *clause) add(condition string, args ...any) {
	word := " WHERE "
	if c.text != "" {
		word = " AND "
	}
	c.text += word + condition
	c.args = append(c.args, args...)
}

// limit is what LIMIT takes: 0 means all.
func limit(n int) int {
	if n <= 0 {
		return math.MaxInt32
	}
	return n
}

func addEvents(ctx context.Context, t *transaction, events []op.Event) error {
	for _, e := range events {
		if e.At.IsZero() {
			e.At = time.Now()
		}
		_, err := t.exec(ctx, "INSERT INTO history (at, op, user, what, before, after, by, detail, origin, plan) VALUES (?,?,?,?,?,?,?,?,?,?)",
			stamp(e.At), e.Op, e.User, e.What, e.Before, e.After, e.By, e.Detail, e.From, e.Plan)
		if err != nil {
			return err
		}
	}
	return nil
}

// AddEvents implements op.Store.
func (d *database) AddEvents(ctx context.Context, events ...op.Event) error {
	return d.tx(ctx, func(t *transaction) error { return addEvents(ctx, t, events) })
}

// History implements op.Store.
func (d *database) History(ctx context.Context, f op.HistoryFilter) ([]op.Event, error) {
	var where clause
	if f.User != "" {
		where.add("user = ?", f.User)
	}
	if f.Wave != "" {
		where.add("(user = ? OR op IN (SELECT 'op-' || id FROM operations WHERE wave = ? AND wave <> ''))", op.HoldWave(f.Wave), f.Wave)
	}
	if !f.Since.IsZero() {
		where.add("at >= ?", stamp(f.Since))
	}
	if len(f.What) > 0 {
		args := make([]any, len(f.What))
		for i, w := range f.What {
			args[i] = w
		}
		where.add("what IN (?"+strings.Repeat(",?", len(args)-1)+")", args...)
	}
	var out []op.Event
	err := d.list(ctx, "SELECT id, at, op, user, what, before, after, by, detail, origin, plan FROM history"+where.text+" ORDER BY id DESC LIMIT ?",
		append(where.args, limit(f.Limit)), func(s scanner) error {
			var e op.Event
			var at int64
			err := s.Scan(&e.ID, &at, &e.Op, &e.User, &e.What, &e.Before, &e.After, &e.By, &e.Detail, &e.From, &e.Plan)
			e.At = when(at)
			out = append(out, e)
			return err
		})
	return out, err
}

var _ op.Store = (*SQLite)(nil)
