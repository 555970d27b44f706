package gate

import (
	"context"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Waiver lets one gate pass for a wave or a user until a time, whatever it answers.
type Waiver struct {
	Scope  string      `json:"scope"` // "wave:NAME" or "user:ADDRESS", as op.HoldWave and op.HoldUser give it
	Gate   config.Gate `json:"gate"`
	By     string      `json:"by"`
	Reason string      `json:"reason"`
	At     time.Time   `json:"at"`
	Until  time.Time   `json:"until"`
}

// Row is what a user met on a side on one day (UTC), as one node has counted it.
type Row struct {
	Node   string
	User   string
	Side   config.Side
	Day    time.Time // its beginning
	Counts Counts
}

// Store keeps what a Book knows. Packages outside implement it. All methods are safe for concurrent use, each is one transaction,
// durable when it returns nil; trouble wraps op.ErrUnavailable.
type Store interface {
	// Baselines lists all, by user; SaveBaselines replaces those of their users, where it is not older than what is recorded.
	Baselines(ctx context.Context) ([]Baseline, error)
	SaveBaselines(ctx context.Context, list []Baseline) error
	// Signals calls f for each row not older than since, by user; f must not call the store. SaveSignals replaces rows; those that
	// count nothing are deleted. ForgetSignals deletes what is older than a time, and tells how many rows.
	Signals(ctx context.Context, since time.Time, f func(Row) error) error
	SaveSignals(ctx context.Context, rows []Row) error
	ForgetSignals(ctx context.Context, before time.Time) (int, error)
	// Waivers lists all, also those that are over, by scope and gate. PutWaiver replaces that of its scope and gate, DropWaiver takes
	// one away (changed is false when there was none); with their events.
	Waivers(ctx context.Context) ([]Waiver, error)
	PutWaiver(ctx context.Context, w Waiver, events ...op.Event) error
	DropWaiver(ctx context.Context, scope string, gate config.Gate, events ...op.Event) (changed bool, err error)
}
