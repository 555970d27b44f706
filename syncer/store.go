package syncer

import (
	"context"
	"errors"
	"time"

	"mailgate/config"
	"mailgate/op"
)

// Errors of a Store, besides those of the disk (op.ErrUnavailable).
var (
	// ErrFenced means that another owner has taken the account since: nothing was written.
	ErrFenced = errors.New("another process syncs this account")
	// ErrStale means that a chunk was not at the generation that the caller saw: nothing was written.
	ErrStale = errors.New("a chunk changed meanwhile")
)

// Store keeps what the syncer knows (uid-stable.md, section 2.5). Packages outside implement it. All methods are safe for
// concurrent use, each is one transaction, durable when it returns nil, and wraps op.ErrUnavailable when the cause is the
// disk, a lock or the database's connection. Names and flags are raw bytes.
type Store interface {
	// Acquire makes owner the one who may write for user until ttl has passed, and returns his token: each one is larger
	// than all before, by one when nobody has acquired or released since. ErrFenced while somebody else's time is not over. The
	// same owner may renew.
	Acquire(ctx context.Context, user, owner string, ttl time.Duration) (token int64, err error)
	// Release gives it up.
	Release(ctx context.Context, user string, token int64) error

	// Mailboxes lists a user's, by ID.
	Mailboxes(ctx context.Context, user string) ([]Mailbox, error)
	// Chunks lists a mailbox's, by Low.
	Chunks(ctx context.Context, mailbox int64) ([]Chunk, error)
	// Intents lists a user's, by ID.
	Intents(ctx context.Context, user string) ([]Intent, error)
	// Quarantine lists a user's, by mailbox, side and UID.
	Quarantine(ctx context.Context, user string) ([]Quarantined, error)
	// Decide writes Decision, By and Decided of messages in quarantine, whoever owns the account, with the events of the history,
	// all or nothing; those that are in quarantine no more are left out. It returns how many were there. A pass that has read
	// the messages before does not undo it: Apply keeps a later decision than that of what it is given.
	Decide(ctx context.Context, user string, list []Quarantined, events ...op.Event) (int, error)
	// Unfinished lists the users of whom passes that ended early have left intents, other than suspects.
	Unfinished(ctx context.Context) ([]string, error)
	// Proofs lists by user what was kept of deletes that people asked for. SaveProofs replaces what is kept of some users, and drops that of whom
	// it is given none, all or nothing. The text is JSON.
	Proofs(ctx context.Context) (map[string][]byte, error)
	SaveProofs(ctx context.Context, list map[string][]byte) error
	// Scripts lists a user's Sieve scripts, by name.
	Scripts(ctx context.Context, user string) ([]Script, error)
	// Apply writes a change, all or nothing. ErrFenced when the token is not the present one; ErrStale by Chunk.Generation.
	// It returns the IDs given to new mailboxes and new intents, in order.
	Apply(ctx context.Context, c Change) (Applied, error)

	// Runs lists the passes over a user's account, the newest first, at most limit.
	Runs(ctx context.Context, user string, limit int) ([]Run, error)
	// SaveRun inserts (ID 0) or replaces one and returns its ID. The oldest ones go when a user has more than a hundred.
	SaveRun(ctx context.Context, r Run) (int64, error)

	// Pauses lists whose passes are paused, by user. SetPause adds one, and leaves one that is there alone; DropPause takes it
	// away. Both tell whether that changed anything, and write the event if so.
	Pauses(ctx context.Context) ([]Pause, error)
	SetPause(ctx context.Context, p Pause, e op.Event) (bool, error)
	DropPause(ctx context.Context, user string, e op.Event) (bool, error)

	// Gaps reads what was last kept of what does not travel with a user; ok is false when nothing was. SaveGaps replaces it. The text is
	// JSON. GapTimes tells when each user's were looked at.
	Gaps(ctx context.Context, user string) (text []byte, ok bool, err error)
	SaveGaps(ctx context.Context, user string, at time.Time, text []byte) error
	GapTimes(ctx context.Context) (map[string]time.Time, error)

	// Verified reads how the last whole comparison of a user's sides ended; ok is false when there was none. SaveVerified replaces it.
	Verified(ctx context.Context, user string) (v Verified, ok bool, err error)
	SaveVerified(ctx context.Context, v Verified) error

	// Behind lists, by user, what flips left behind on a side that was not reached. SaveBehind replaces a user's, DropBehind takes it away and
	// tells whether there was any, with their events (DropBehind's only if there was).
	Behind(ctx context.Context) ([]Behind, error)
	SaveBehind(ctx context.Context, b Behind, events ...op.Event) error
	DropBehind(ctx context.Context, user string, events ...op.Event) (bool, error)

	// Profile reads what was seen of a product, by side and host; ok is false when nothing was. SaveProfile replaces it.
	// The text is JSON.
	Profile(ctx context.Context, side config.Side, host string) (text []byte, ok bool, err error)
	SaveProfile(ctx context.Context, side config.Side, host string, text []byte) error
}

// Everybody is the user of a pause that holds for all.
const Everybody = "*"

// Pause keeps passes that begin by themselves from a user.
type Pause struct {
	User       string    `json:"user"` // or Everybody
	By, Reason string    `json:",omitempty"`
	At         time.Time `json:"at"`
}

// Verified is how a comparison of both sides of a user ended: all of their messages, at that time.
type Verified struct {
	User  string
	At    time.Time
	Equal bool
	Text  []byte // JSON of a VerifiedSummary
}

// Behind is what a flip left behind.
type Behind struct {
	User string
	At   time.Time
	Text []byte // JSON, of whoever writes it
}

// Mailbox is one mailbox of a user, on one side or both.
type Mailbox struct {
	ID         int64
	User       string
	Name       [2]string // raw, by side; "" where it does not exist (yet)
	Validity   [2]uint32 // UIDVALIDITY that the pairs were made under; 0 when none were
	MailboxID  [2]string // OBJECTID (RFC 8474), "" where there is none
	Cursor     [2]Cursor
	Subscribed bool      // on both sides, when last in agreement
	SpecialUse string    // such as \Sent, "" for none
	Flags      []byte    // the merge.Dict of the chunks, encoded
	Pairs      int64     // number of pairs, for status
	GoneSince  time.Time // when one side was first seen without it; zero when it is there
}

// Cursor is how far a side was read when both were last in agreement: equal numbers mean that nothing has changed.
type Cursor struct {
	UIDNext, Messages, Unseen uint32
	HighestModSeq             uint64
	Scanned                   time.Time // when the pass of the last complete scan began
}

// Chunk holds up to 4096 pairs of a mailbox, encoded (chunk.go).
type Chunk struct {
	Mailbox    int64
	Low        uint32 // the lowest UID on OLD that may stand in it; chunks do not overlap
	Generation int64  // rises by one with each write; 0 is a chunk that is not stored yet
	Data       []byte // empty deletes it
}

// IntentKind is what was about to be done.
type IntentKind string

const (
	IntentAppend  IntentKind = "append"  // messages to be appended to Mailbox on Side
	IntentMove    IntentKind = "move"    // messages to be copied or moved into Mailbox on Side
	IntentExpunge IntentKind = "expunge" // messages to be expunged from Mailbox on Side: \Deleted that stands on them is ours
	IntentFlags   IntentKind = "flags"   // flags to be changed in Mailbox on Side
	IntentRestore IntentKind = "restore" // \Deleted to be set again: it was taken off mail of others for a plain EXPUNGE
	IntentRename  IntentKind = "rename"  // Mailbox is about to be renamed on Side: its new name, its UIDs and their sizes, should it be given others
	IntentSuspect IntentKind = "suspect" // an append of unknown outcome that was done again: what still arrives is a twin
)

// Intent is written before the first byte of what it names, and goes with the outcome.
type Intent struct {
	ID       int64
	User     string
	Mailbox  int64
	Side     config.Side // where it is done
	Kind     IntentKind
	Epoch    int64
	Validity uint32 // of Mailbox on Side
	UIDNext  uint32 // of Mailbox on Side before
	Payload  []byte // what it is about, encoded by the syncer
	Created  time.Time
}

// Quarantined is a message that one side refuses, or that cannot be read.
type Quarantined struct {
	User        string
	Mailbox     int64
	Side        config.Side // where the message is
	Validity    uint32
	UID         uint32
	Reason      string // class, such as "too-big", "nul", "quota", "parse", "unreadable"
	Detail      string // what the server said
	First, Last time.Time
	Tries       int
	Decision    Decision
	By          string    // who decided last
	Decided     time.Time // when; zero where nobody has
}

// Decision is what a person has said of a message in quarantine.
type Decision string

const (
	Undecided Decision = ""       // it waits, and is tried again from time to time where its reason allows that
	Retry     Decision = "retry"  // it is wanted: the next pass tries it, whatever its reason
	Waived    Decision = "waived" // it need not be carried: no pass copies or deletes it
)

// Change is one write.
type Change struct {
	User          string
	Token         int64
	Mailboxes     []Mailbox // replaced by ID; ID 0 is new
	DropMailboxes []int64   // with their chunks, intents and quarantine
	Chunks        []Chunk   // Generation is what the caller read (0 for new); a Mailbox of -1-i means the i-th of Mailboxes
	AddIntents    []Intent
	DropIntents   []int64
	Quarantine    []Quarantined // replaced by user, mailbox, side, validity, UID
	Release       []Quarantined // taken out, by the same
	Scripts       []Script      // replaced by name
	DropScripts   []string      // by name, before Scripts
}

// Applied is what Apply made.
type Applied struct {
	Mailboxes []int64 // IDs of Change.Mailboxes, all of them
	Intents   []int64 // IDs of Change.AddIntents
}

// Run is one pass, for status, history and report.
type Run struct {
	ID      int64
	User    string
	Began   time.Time
	Ended   time.Time // zero while it runs, or when it was killed
	Summary []byte    // JSON of the syncer's Report
	Error   string
}
