package op

import "time"

// WaveRow is what must be remembered of a wave. Who is in it stands in the routes file, and where they are in their rows.
// Times that are zero mean that it has not happened; a later one of the same kind takes the place of the earlier.
type WaveRow struct {
	Name       string `json:"name"`
	Generation int64  `json:"generation"` // rises with each change; 0 before the first

	Started   time.Time `json:"started,omitzero"` // from here on its mailboxes are kept in sync
	StartedBy string    `json:"started_by,omitempty"`

	Flipped   time.Time `json:"flipped,omitzero"` // when the last move of the wave to NEW ended: here the soak begins
	FlippedBy string    `json:"flipped_by,omitempty"`
	SoakUntil time.Time `json:"soak_until,omitzero"`

	Rolled    time.Time `json:"rolled_back,omitzero"` // when the last rollback of the wave was asked for
	RolledBy  string    `json:"rolled_back_by,omitempty"`
	RolledWhy string    `json:"rolled_back_why,omitempty"`

	Completed   time.Time `json:"completed,omitzero"` // its sync has ended, and rollback is not offered any more
	CompletedBy string    `json:"completed_by,omitempty"`

	Gate    string    `json:"gate,omitempty"` // the enforced gate that holds it, "" when none does
	GateWhy string    `json:"gate_why,omitempty"`
	GateAt  time.Time `json:"gate_at,omitzero"`
}

// Kept tells whether the wave was started by a verb and is not complete.
func (w WaveRow) Kept() bool { return !w.Started.IsZero() && w.Completed.IsZero() }

// Soaking tells whether the wave was moved to NEW, and neither rolled back nor completed since.
func (w WaveRow) Soaking() bool {
	return !w.Flipped.IsZero() && w.Completed.IsZero() && !w.Rolled.After(w.Flipped)
}
