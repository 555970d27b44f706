package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"mailgate/op"
)

// lively is how long ago a node may have been heard of so that another machine must not take its name.
const lively = 10 * time.Second

// Join registers a node, in place of an earlier process of its name. op.ErrNodeName when that one lives elsewhere (About.Place). It
// returns the node as registered.
func (s *Postgres) Join(ctx context.Context, n op.Node) (op.Node, error) {
	err := s.tx(ctx, func(t *transaction) error {
		if err := t.freeze(ctx, false); err != nil {
			return err
		}
		now, err := t.d.now(ctx, t)
		if err != nil {
			return err
		}
		was, err := scanNode(t.row(ctx, "SELECT "+nodeColumns+" FROM nodes WHERE name=?", n.Name))
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case was.About.Place != n.About.Place && now.Sub(was.Seen) < lively:
			return fmt.Errorf("%w: %s is at %s", op.ErrNodeName, n.Name, was.About.Place)
		case was.Incarnation != n.Incarnation && was.About.Place == n.About.Place: // there is one process in a place: that one has ended
			if err := t.dropLeases(ctx, n.Name); err != nil {
				return err
			}
		}
		about, err := aboutText(n.About)
		if err != nil {
			return err
		}
		n.Since, n.Seen = now, now
		_, err = t.exec(ctx, "INSERT INTO nodes ("+nodeColumns+`) VALUES (?,?,?,?,?) ON CONFLICT (name)
			DO UPDATE SET incarnation = excluded.incarnation, since = excluded.since, seen = excluded.seen, about = excluded.about`,
			n.Name, n.Incarnation, stamp(n.Since), stamp(n.Seen), about)
		if err != nil {
			return err
		}
		return t.dropMessages(ctx, now)
	})
	return n, err
}

// dropMessages forgets what was asked by or of processes that are no nodes any more, and what nobody can wait for still.
func (t *transaction) dropMessages(ctx context.Context, now time.Time) error {
	_, err := t.exec(ctx, `DELETE FROM messages WHERE incarnation NOT IN (SELECT incarnation FROM nodes)
		OR sender NOT IN (SELECT incarnation FROM nodes) OR at < ?`, stamp(now.Add(-24*time.Hour)))
	return err
}

// dropLeases frees the mailboxes that a node was at which is known to be down, so that nobody waits for the end of its leases; should it
// write here all the same, it is fenced. That it leads no more is not enough: it may stand still, or be cut off from here only, with
// commands on their way to the hosts, and ends what it does when it cannot renew a lease. For that others wait.
func (t *transaction) dropLeases(ctx context.Context, name string) error {
	_, err := t.exec(ctx, "UPDATE accounts SET owner='', token=token+1, lease=0 WHERE owner=? AND owner<>''", name)
	return err
}

// Rename has a node go on under another name, by its incarnation: its registration stays, so that nothing is committed without its word. It
// must not lead, and nobody is said to lead behind it. Who is registered under that name is ErrNodeName, unless it is over: an earlier process
// in the same place that has ended. op.ErrNodes when the node is registered no more. It may be called again after an error.
func (s *Postgres) Rename(ctx context.Context, n op.Node, name string, over bool) error {
	about, err := aboutText(n.About)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(t *transaction) error {
		if err := t.freeze(ctx, false); err != nil {
			return err
		}
		now, err := t.d.now(ctx, t)
		if err != nil {
			return err
		}
		was, err := scanNode(t.row(ctx, "SELECT "+nodeColumns+" FROM nodes WHERE name=?", name))
		switch {
		case errors.Is(err, sql.ErrNoRows), err == nil && was.Incarnation == n.Incarnation:
		case err != nil:
			return err
		case !over || was.About.Place != n.About.Place:
			return fmt.Errorf("%w: %s is at %s", op.ErrNodeName, name, was.About.Place)
		default:
			if err := t.dropNode(ctx, was); err != nil {
				return err
			}
			if err := t.dropLeases(ctx, name); err != nil {
				return err
			}
		}
		changed, err := t.exec(ctx, "UPDATE nodes SET name=?, seen=?, about=? WHERE incarnation=?", name, stamp(now), about, n.Incarnation)
		if err != nil {
			return err
		}
		if changed == 0 {
			return fmt.Errorf("%w: %s", op.ErrNodes, n.Name)
		}
		if _, err := t.exec(ctx, "UPDATE messages SET node=? WHERE incarnation=?", name, n.Incarnation); err != nil {
			return err
		}
		return t.leadsNoMore(ctx, n)
	})
}

// leadsNoMore has nobody said to lead where a node is, which has given the right up. The term stays: who joins must heed no older one.
func (t *transaction) leadsNoMore(ctx context.Context, n op.Node) error {
	var text string
	err := t.row(ctx, "SELECT value FROM meta WHERE key='leader'").Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	l, err := parseLeader(text, err)
	if err != nil || l.Incarnation != n.Incarnation {
		return err
	}
	nobody, err := json.Marshal(op.Leader{Term: l.Term, Since: l.Since})
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, "UPDATE meta SET value=? WHERE key='leader' AND value=?", string(nobody), text) // another may lead by now
	return err
}

// Leave is the end of a node whose sessions have ended; of another incarnation nothing is done.
func (s *Postgres) Leave(ctx context.Context, n op.Node) error {
	return s.tx(ctx, func(t *transaction) error {
		if err := t.freeze(ctx, false); err != nil {
			return err
		}
		_, err := t.exec(ctx, "DELETE FROM nodes WHERE incarnation=?", n.Incarnation)
		return err
	})
}

// Beat notes that a node lives, and what it tells of itself. It answers who leads. op.ErrNodes when it is registered no more,
// op.ErrNodeName when another process has its name. The incarnation says which node it is, here as in Leave and AddRowsOf: its name may be
// changing, see Rename.
func (s *Postgres) Beat(ctx context.Context, n op.Node) (leads op.Leader, err error) {
	about, err := aboutText(n.About)
	if err != nil {
		return leads, err
	}
	err = s.tx(ctx, func(t *transaction) error {
		now, err := t.d.now(ctx, t)
		if err != nil {
			return err
		}
		changed, err := t.exec(ctx, "UPDATE nodes SET seen=?, about=? WHERE incarnation=?", stamp(now), about, n.Incarnation)
		if err != nil {
			return err
		}
		if changed == 0 {
			var one int
			if err := t.row(ctx, "SELECT 1 FROM nodes WHERE name=?", n.Name).Scan(&one); err == nil {
				return op.ErrNodeName
			} else if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			return op.ErrNodes
		}
		leads, err = t.leader(ctx)
		return err
	})
	return leads, err
}

// AddRowsOf is AddRows for a node that does not lead: op.ErrNodes, and nothing is written, when it is registered no more, since what it
// knew of where people belong may be over.
func (s *Postgres) AddRowsOf(ctx context.Context, n op.Node, rows []op.Row) error {
	return s.tx(ctx, func(t *transaction) error {
		if err := t.freeze(ctx, true); err != nil {
			return err
		}
		var one int
		err := t.row(ctx, "SELECT 1 FROM nodes WHERE incarnation=?", n.Incarnation).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return op.ErrNodes
		} else if err != nil {
			return err
		}
		return addRows(ctx, t, rows)
	})
}

// Serial is that of the routes file which was last taken over; "" before the first.
func (s *Postgres) Serial(ctx context.Context) (string, error) { return s.meta(ctx, "serial") }

// Leader tells who leads, or led last.
func (s *Postgres) Leader(ctx context.Context) (op.Leader, error) {
	text, err := s.meta(ctx, "leader")
	return parseLeader(text, err)
}

func (t *transaction) leader(ctx context.Context) (op.Leader, error) {
	var text string
	err := t.row(ctx, "SELECT value FROM meta WHERE key='leader'").Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return parseLeader(text, err)
}

func parseLeader(text string, err error) (l op.Leader, _ error) {
	if err != nil || text == "" {
		return l, err
	}
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return l, fmt.Errorf("leader in the store: %w", err)
	}
	return l, nil
}

// Waiting counts, by incarnation, what nodes were asked and have not answered.
func (s *Postgres) Waiting(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	err := s.list(ctx, "SELECT incarnation, count(*) FROM messages WHERE answer IS NULL GROUP BY incarnation", nil, func(sc scanner) error {
		var inc string
		var n int
		err := sc.Scan(&inc, &n)
		out[inc] = n
		return err
	})
	return out, err
}

// RemoveNode implements op.Store. All connections of the node are ended first, so that nothing of it is in the way: it may stand still in
// the middle of a transaction. If it leads, it can write nothing of users any more when this has returned, and another may lead; mailboxes
// that it was at are free.
func (s *Postgres) RemoveNode(ctx context.Context, n op.Node, e op.Event) error {
	if err := s.endConnections(ctx, n); err != nil {
		return err
	}
	return s.tx(ctx, func(t *transaction) error {
		if err := t.dropNode(ctx, n); err != nil {
			return err
		}
		if err := t.dropLeases(ctx, n.Name); err != nil {
			return err
		}
		l, err := t.leader(ctx)
		if err != nil {
			return err
		}
		if l.Name == n.Name && n.Name != "" {
			if _, err := t.exec(ctx, "UPDATE meta SET value = (value::bigint + 1)::text WHERE key='writer' AND value=?", strconv.FormatInt(l.Term, 10)); err != nil {
				return err
			}
			if _, err := t.exec(ctx, "DELETE FROM meta WHERE key='leader'"); err != nil {
				return err
			}
		}
		return addEvents(ctx, t, []op.Event{e})
	})
}

// endConnections ends those of a node that is registered, which its incarnation tells from others: see OpenPostgresNode.
func (s *Postgres) endConnections(ctx context.Context, n op.Node) error {
	tag, _, _ := strings.Cut(n.Incarnation, ".")
	var one int
	err := s.one(ctx, "SELECT 1 FROM nodes WHERE name=? AND incarnation=?", []any{n.Name, n.Incarnation}, func(sc scanner) error { return sc.Scan(&one) })
	if errors.Is(err, sql.ErrNoRows) || err == nil && tag == "" {
		return nil
	} else if err != nil {
		return err
	}
	left := false
	err = s.one(ctx, `SELECT COALESCE(bool_or(NOT pg_terminate_backend(pid, 4000)), false) FROM pg_stat_activity
		WHERE datname = current_database() AND usename = current_user AND application_name LIKE '%' || ? AND pid <> pg_backend_pid()`,
		[]any{nameTag(tag)}, func(sc scanner) error { return sc.Scan(&left) })
	if err == nil && left {
		err = fmt.Errorf("%w: a connection of node %s does not end", op.ErrUnavailable, n.Name)
	}
	return err
}

// nameTag ends the name of a node's connections.
func nameTag(tag string) string { return " node " + tag }
