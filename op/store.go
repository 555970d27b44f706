package op

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrConflict means that the row was not at the generation that the caller saw: nothing was written.
	ErrConflict = errors.New("row changed meanwhile")
	// ErrNotFound means that there is no such row, operation or pin.
	ErrNotFound = errors.New("not found")
	// ErrUnavailable means that the store cannot write (or read) now: disk full, locked, read-only, I/O error. Nothing
	// is half written. Callers go on without it and try again.
	ErrUnavailable = errors.New("store unavailable")
	// ErrHeld means that a hold stands in the way: nothing was written.
	ErrHeld = errors.New("a hold stands in the way")
	// ErrNodes means that other nodes are registered than those that have acknowledged: nothing was written.
	ErrNodes = errors.New("other nodes are registered than have acknowledged")
	// ErrGone means that a node that was asked is registered no more: it was removed, or another process has its name.
	ErrGone = errors.New("is no registered node any more")
	// ErrNotAsked is an ErrGone that was known before anything was sent: the node has carried out nothing.
	ErrNotAsked = fmt.Errorf("it %w, and was not asked", ErrGone)
	// ErrNodeName means that another process has the node's name.
	ErrNodeName = errors.New("another process is registered under this node's name")
	// ErrInUse means that another process has the store open for writing.
	ErrInUse = errors.New("store is in use by another process")
)

// Store is the durable side. All methods are safe for concurrent use, each is one transaction, durable when it
// returns nil, and wraps ErrUnavailable when the cause is the disk or a lock. After an error of a write other than
// ErrConflict and ErrNotFound the outcome may be unknown: read back. Nothing of a call is under way any more when it
// has returned, so what is read back then is final.
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
	// NewOperations is NewOperation of all or none: for each an event of the same index, where there is one.
	NewOperations(ctx context.Context, list []Operation, events []Event) ([]Operation, error)
	// Operation reads one; ErrNotFound.
	Operation(ctx context.Context, id string) (Operation, error)
	// Operations lists the newest first.
	Operations(ctx context.Context, f Filter) ([]Operation, error)

	// Pins lists all, by user; DeletePin removes one, with its event (ErrNotFound). Swap and Import write them.
	Pins(ctx context.Context) ([]Pin, error)
	DeletePin(ctx context.Context, user string, e Event) error

	// History lists the newest first. AddEvents appends; an event without a time gets the present one.
	History(ctx context.Context, f HistoryFilter) ([]Event, error)
	AddEvents(ctx context.Context, events ...Event) error

	// Import records that a routes file was taken over, all in one transaction, and returns the operations asked for
	// with their IDs.
	Import(ctx context.Context, im ImportTx) ([]Operation, error)
	// Desired calls f for each line as last imported, and returns the last serial, "" before the first import; f must
	// not call the store.
	Desired(ctx context.Context, f func(Desired) error) (serial string, err error)
	// Rules are those of the last import, zero before the first.
	Rules(ctx context.Context) (Rules, error)

	// Commit is Swap of the commit of a flip: written only if c holds, else ErrNodes or ErrHeld. What c is about cannot
	// change between the look and the write.
	Commit(ctx context.Context, from int64, next Row, o Operation, pin *Pin, c Condition, events ...Event) error

	// Nodes lists the registered nodes by name, AddNode registers one (idempotent; another incarnation takes the place of
	// the one before), RemoveNode takes this very incarnation out: ErrNodes, and nothing is written, when it is not registered, since
	// another may be under its name.
	Nodes(ctx context.Context) ([]Node, error)
	AddNode(ctx context.Context, n Node) error
	RemoveNode(ctx context.Context, n Node, e Event) error

	// Holds lists all, by scope. AddHold sets one (of the same scope the first stays, and changed is false), DropHold takes
	// one away (changed is false when there was none); with their events, when anything changed.
	Holds(ctx context.Context) ([]Hold, error)
	AddHold(ctx context.Context, h Hold, events ...Event) (changed bool, err error)
	DropHold(ctx context.Context, scope string, events ...Event) (changed bool, err error)

	// Waves lists what is remembered of waves, by name. SaveWave writes it if its generation is still w's, and makes the next
	// one of it (ErrConflict otherwise), with its events.
	Waves(ctx context.Context) ([]WaveRow, error)
	SaveWave(ctx context.Context, w WaveRow, events ...Event) error
	// Check verifies that the store can be read and written now.
	Check(ctx context.Context) error
	// Close ends it. The store must not be used afterwards.
	Close() error
}

// Filter chooses operations. The zero value is all of them.
type Filter struct {
	Open   bool   // only those that are not final
	Kind   Kind   // "" means any
	User   string // "" means any
	Parent string // "" means any
	Limit  int    // at most so many, 0 means all
}

// HistoryFilter chooses events. The zero value is all of them.
type HistoryFilter struct {
	User  string    // "" means any
	Wave  string    // of the wave itself (its scope stands as User) and of operations in it; "" means any
	Since time.Time // not older than this
	What  []string  // one of these; none means any
	Limit int       // at most so many, 0 means all
}

// ImportTx is the content of one Import.
type ImportTx struct {
	Serial     string
	Set        []Desired   // lines that are new or changed
	Delete     []string    // lines that are gone
	Place      []Row       // users without a row
	Unpin      []string    // pins that the file now agrees with
	Operations []Operation // asked for: they get their IDs
	Ended      []Operation // imports that waited, and end with this one: saved
	Rules      Rules
	Events     []Event
	Nodes      []Node // unless nil, exactly those are registered, else ErrNodes and nothing is written
}
