package store

import (
	"context"

	"mailgate/op"
)

const waveColumns = "name, generation, started, started_by, flipped, flipped_by, soak_until, rolled, rolled_by, rolled_why, completed, completed_by, gate, gate_why, gate_at"

// Waves implements op.Store.
func (d *database) Waves(ctx context.Context) (out []op.WaveRow, err error) {
	err = d.list(ctx, "SELECT "+waveColumns+" FROM waves ORDER BY name", nil, func(s scanner) error {
		var w op.WaveRow
		var started, flipped, soak, rolled, completed, gate int64
		err := s.Scan(&w.Name, &w.Generation, &started, &w.StartedBy, &flipped, &w.FlippedBy, &soak, &rolled, &w.RolledBy, &w.RolledWhy,
			&completed, &w.CompletedBy, &w.Gate, &w.GateWhy, &gate)
		w.Started, w.Flipped, w.SoakUntil, w.Rolled, w.Completed, w.GateAt = when(started), when(flipped), when(soak), when(rolled), when(completed), when(gate)
		out = append(out, w)
		return err
	})
	return out, err
}

// SaveWave implements op.Store.
func (d *database) SaveWave(ctx context.Context, w op.WaveRow, events ...op.Event) error {
	return d.tx(ctx, func(t *transaction) error {
		values := []any{w.Generation + 1, stamp(w.Started), w.StartedBy, stamp(w.Flipped), w.FlippedBy, stamp(w.SoakUntil), stamp(w.Rolled), w.RolledBy,
			w.RolledWhy, stamp(w.Completed), w.CompletedBy, w.Gate, w.GateWhy, stamp(w.GateAt), w.Name}
		var n int64
		var err error
		if w.Generation == 0 {
			n, err = t.exec(ctx, `INSERT INTO waves (generation, started, started_by, flipped, flipped_by, soak_until, rolled, rolled_by, rolled_why,
				completed, completed_by, gate, gate_why, gate_at, name) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING`, values...)
		} else {
			n, err = t.exec(ctx, `UPDATE waves SET generation=?, started=?, started_by=?, flipped=?, flipped_by=?, soak_until=?, rolled=?, rolled_by=?,
				rolled_why=?, completed=?, completed_by=?, gate=?, gate_why=?, gate_at=? WHERE name=? AND generation=?`, append(values, w.Generation)...)
		}
		switch {
		case err != nil:
			return err
		case n == 0:
			return op.ErrConflict
		}
		return addEvents(ctx, t, events)
	})
}
