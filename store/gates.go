package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"mailgate/config"
	"mailgate/cutover/gate"
	"mailgate/op"
)

// baselineText is what the column text of baselines holds.
type baselineText struct {
	Week gate.Counts `json:"week"`
	Day  gate.Counts `json:"day"`
}

// Baselines implements gate.Store.
func (d *database) Baselines(ctx context.Context) (out []gate.Baseline, err error) {
	err = d.list(ctx, "SELECT user, at, text FROM baselines ORDER BY user", nil, func(s scanner) error {
		var x gate.Baseline
		var at int64
		var text []byte
		var counts baselineText
		if err := s.Scan(&x.User, &at, &text); err != nil {
			return err
		}
		if err := json.Unmarshal(text, &counts); err != nil {
			return fmt.Errorf("baseline of %s: %w", x.User, err)
		}
		x.At, x.Week, x.Day = when(at), counts.Week, counts.Day
		out = append(out, x)
		return nil
	})
	return out, err
}

// SaveBaselines implements gate.Store.
func (d *database) SaveBaselines(ctx context.Context, list []gate.Baseline) error {
	return d.tx(ctx, func(t *transaction) error {
		for _, x := range list {
			text, err := json.Marshal(baselineText{x.Week, x.Day})
			if err != nil {
				return err
			}
			if _, err := t.exec(ctx, `INSERT INTO baselines (user, at, text) VALUES (?,?,?)
				ON CONFLICT (user) DO UPDATE SET at = excluded.at, text = excluded.text WHERE excluded.at >= baselines.at`, x.User, stamp(x.At), blob(text)); err != nil {
				return err
			}
		}
		return nil
	})
}

const signalColumns = "user, side, day, node, logins_ok, logins_refused, logins_failed, sessions, broken, mail_ok, mail_refused"

// Signals implements gate.Store.
func (d *database) Signals(ctx context.Context, since time.Time, f func(gate.Row) error) error {
	return d.list(ctx, "SELECT "+signalColumns+" FROM signals WHERE day >= ? ORDER BY user, side, day, node", []any{stamp(since)}, func(s scanner) error {
		var r gate.Row
		var day int64
		c := &r.Counts
		if err := s.Scan(&r.User, &r.Side, &day, &r.Node, &c.LoginsOK, &c.LoginsRefused, &c.LoginsFailed, &c.Sessions, &c.Broken, &c.MailOK,
			&c.MailRefused); err != nil {
			return err
		}
		r.Day = when(day)
		return f(r)
	})
}

// SaveSignals implements gate.Store.
func (d *database) SaveSignals(ctx context.Context, rows []gate.Row) error {
	return d.tx(ctx, func(t *transaction) error {
		put, err := t.prepare(ctx, "INSERT INTO signals ("+signalColumns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (user, side, day, node) DO UPDATE SET
			logins_ok = excluded.logins_ok, logins_refused = excluded.logins_refused, logins_failed = excluded.logins_failed, sessions = excluded.sessions,
			broken = excluded.broken, mail_ok = excluded.mail_ok, mail_refused = excluded.mail_refused`)
		if err != nil {
			return err
		}
		defer put.close()
		for _, r := range rows {
			c := r.Counts
			if c == (gate.Counts{}) {
				_, err = t.exec(ctx, "DELETE FROM signals WHERE user = ? AND side = ? AND day = ? AND node = ?", r.User, r.Side, stamp(r.Day), r.Node)
			} else {
				_, err = put.exec(ctx, r.User, r.Side, stamp(r.Day), r.Node, c.LoginsOK, c.LoginsRefused, c.LoginsFailed, c.Sessions, c.Broken, c.MailOK, c.MailRefused)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetSignals implements gate.Store.
func (d *database) ForgetSignals(ctx context.Context, before time.Time) (n int, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		gone, err := t.exec(ctx, "DELETE FROM signals WHERE day < ?", stamp(before))
		n = int(gone)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// Waivers implements gate.Store.
func (d *database) Waivers(ctx context.Context) (out []gate.Waiver, err error) {
	err = d.list(ctx, "SELECT scope, gate, by, reason, at, until FROM waivers ORDER BY scope, gate", nil, func(s scanner) error {
		var w gate.Waiver
		var at, until int64
		err := s.Scan(&w.Scope, &w.Gate, &w.By, &w.Reason, &at, &until)
		w.At, w.Until = when(at), when(until)
		out = append(out, w)
		return err
	})
	return out, err
}

// PutWaiver implements gate.Store.
func (d *database) PutWaiver(ctx context.Context, w gate.Waiver, events ...op.Event) error {
	return d.tx(ctx, func(t *transaction) error {
		if _, err := t.exec(ctx, `INSERT INTO waivers (scope, gate, by, reason, at, until) VALUES (?,?,?,?,?,?) ON CONFLICT (scope, gate) DO UPDATE SET
			by = excluded.by, reason = excluded.reason, at = excluded.at, until = excluded.until`,
			w.Scope, w.Gate, w.By, w.Reason, stamp(w.At), stamp(w.Until)); err != nil {
			return err
		}
		return addEvents(ctx, t, events)
	})
}

// DropWaiver implements gate.Store.
func (d *database) DropWaiver(ctx context.Context, scope string, name config.Gate, events ...op.Event) (changed bool, err error) {
	err = d.tx(ctx, func(t *transaction) error {
		n, err := t.exec(ctx, "DELETE FROM waivers WHERE scope = ? AND gate = ?", scope, name)
		if changed = n > 0; err != nil || n == 0 {
			return err
		}
		return addEvents(ctx, t, events)
	})
	return changed && err == nil, err
}
