package op

import (
	"context"
	"errors"

	"mailgate/config"
)

var (
	// ErrConflict means that the row was not at the generation that the caller saw: nothing was written.
	ErrConflict = errors.New("row changed meanwhile")
	// ErrNotFound means that there is no such row, operation or pin.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable means that the store cannot write (or read) now: disk full, locked, read-only, I/O error. Nothing
	// is half written. Callers go on without it and try again.
	ErrUnavailable = errors.New("store unavailable")
	// ErrInUse means that another process has the store open for writing.
	ErrInUse = errors.New("store is in use by another process")
)

// Store is the durable side. All methods are safe for concurrent use, each is one transaction, durable when it
// returns nil, and wraps ErrUnavailable when the cause is the disk or a lock. After an error of a write that wraps
// ErrUnavailable the outcome may be unknown: read back.
type Store interface {
	// Rows calls f for each user's row; f must not call the store.
	Rows(ctx context.Context, f func(Row) error) error
	// Row reads one row; ErrNotFound when there is none.
	Row(ctx context.Context, user string) (Row, error)
	// AddRows inserts rows that do not exist yet and leaves those that do alone.
	AddRows(ctx context.Context, rows []Row) error
	// Swap replaces the row of next.User if its generation is still from, and appends the events and (when its ID is
	// set) saves o, in one transaction. A pin with a User is written when pin.At is set, deleted when it is zero;
	// nil leaves pins alone. ErrConflict when the generation differs, ErrNotFound when there is no row.
	Swap(ctx context.Context, from int64, next Row, o Operation, pin *Pin, events ...Event) error

	// NewOperation gives o a fresh ID, saves it and the events, and returns it.
	NewOperation(ctx context.Context, o Operation, events ...Event) (Operation, error)
	// SaveOperation replaces the operation with o.ID, and appends the events.
	SaveOperation(ctx context.Context, o Operation, events ...Event) error
	// Operation reads one; ErrNotFound.
	Operation(ctx context.Context, id string) (Operation, error)
	// Operations lists the newest first, at most limit; only those not final when open.
	Operations(ctx context.Context, open bool, limit int) ([]Operation, error)

	// Pins lists all; SetPin writes one, DeletePin removes it (ErrNotFound) - both with their event.
	Pins(ctx context.Context) ([]Pin, error)
	SetPin(ctx context.Context, p Pin, e Event) error
	DeletePin(ctx context.Context, user string, e Event) error

	// History lists the newest first, at most limit, of one user unless user is "".
	History(ctx context.Context, user string, limit int) ([]Event, error)
	AddEvents(ctx context.Context, events ...Event) error

	// Import records that the routes file with this serial was taken over: the changed lines (set), the vanished ones
	// (del), the rows of users placed for the first time and the operations asked for, all in one transaction. It
	// returns the operations with their IDs.
	Import(ctx context.Context, im ImportTx) ([]Operation, error)
	// Desired calls f for each line as last imported, and returns the last serial, "" before the first import.
	Desired(ctx context.Context, f func(Desired) error) (serial string, err error)

	// Default is the side of users who have no row; SetDefault changes it.
	Default(ctx context.Context) (config.Side, error)
	SetDefault(ctx context.Context, s config.Side, o Operation, e Event) error

	// Nodes lists the registered nodes, AddNode registers one (idempotent), RemoveNode takes one out.
	Nodes(ctx context.Context) ([]string, error)
	AddNode(ctx context.Context, name string) error
	RemoveNode(ctx context.Context, name string, e Event) error

	// Check verifies that the store can be read and written now.
	Check(ctx context.Context) error
	// Close ends it. The store must not be used afterwards.
	Close() error
}

// ImportTx is the content of one Import.
type ImportTx struct {
	Serial     string
	Set        []Desired
	Delete     []string
	Place      []Row
	Unpin      []string // pins that the file now agrees with
	Operations []Operation
	Events     []Event
}
