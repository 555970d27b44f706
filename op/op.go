package op

import (
	"strings"
	"time"

	"mailgate/config"
)

// Kind is what an operation does.
type Kind string

const (
	Flip    Kind = "flip"    // move one user to Target
	Import  Kind = "import"  // take over a changed routes file that needs approval
	Default Kind = "default" // a changed side of users never seen
	Sync    Kind = "sync"    // one pass over a user's mailboxes; Target means nothing
	Wave    Kind = "wave"    // move all members of Wave to Target: each is a flip with this one as its Parent
)

// Status is where an operation stands.
type Status string

const (
	Accepted    Status = "accepted"    // recorded, not begun
	Waiting     Status = "waiting"     // for Reason
	Running     Status = "running"     // in Step
	Done        Status = "done"        // a pass: Reason says what was left
	Failed      Status = "failed"      // Reason says why; of a flip nothing is different but the history
	Cancelled   Status = "cancelled"   // by a person, a pass also by a flip
	Interrupted Status = "interrupted" // a pass whose process ended; the next one goes on where it was
)

// GoesOn is the reason of an operation that is Interrupted by the death of its process.
const GoesOn = "mailgate was ended meanwhile; the next pass goes on where this one was"

// Final tells whether the operation will not change any more.
func (s Status) Final() bool {
	return s == Done || s == Failed || s == Cancelled || s == Interrupted
}

// Operation is one request and what became of it.
type Operation struct {
	ID       string        `json:"id"` // "op-" and digits, rising
	Kind     Kind          `json:"kind"`
	User     string        `json:"user,omitempty"` // canonical address
	Target   config.Side   `json:"target"`
	Status   Status        `json:"status"`
	Step     string        `json:"step,omitempty"`   // state of the flip machine, such as DRAIN; phase of a pass
	Reason   string        `json:"reason,omitempty"` // why it waits or failed, in plain words
	By       string        `json:"by"`               // "routes file SERIAL", "cli:uid=0", ...
	Pin      bool          `json:"pin,omitempty"`    // on success leave a pin: the decision was not the file's
	Created  time.Time     `json:"created"`
	Changed  time.Time     `json:"changed"`
	Deadline time.Time     `json:"deadline,omitzero"`
	Took     time.Duration `json:"took_ns,omitempty"` // FENCE to RELEASE
	Payload  string        `json:"payload,omitempty"` // Import: the serial that was approved; else what the kind needs

	Wave   string `json:"wave,omitempty"`   // that the user is in, or that is moved
	Parent string `json:"parent,omitempty"` // the operation that this one is a part of
	Now    bool   `json:"now,omitempty"`    // rollback --now: NEW need not be reached
	From   string `json:"from,omitempty"`   // where the request came from: "control socket, pid 4711", "routes file", "SIGHUP", an address
	Plan   string `json:"plan,omitempty"`   // what who asked was shown before

	// Done and Total count what is carried or moved, and Unit names it; the store does not keep them.
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	Unit  string `json:"unit,omitempty"` // "messages", "users"
}

// State is a row's place in the flip machine (design.md, section 7); router has the table of moves.
type State string

const (
	Settled State = "SETTLED" // on its side, nothing under way
	Prep    State = "PREP"    // he works on; his mailboxes are brought together
	Fence   State = "FENCE"   // new logins wait
	Drain   State = "DRAIN"   // sessions end at a command boundary
	Delta   State = "DELTA"   // what is left is carried
	Verify  State = "VERIFY"  // both sides are compared
	Release State = "RELEASE" // committed; waiting logins go on
)

// Fenced tells whether logins wait in s.
func (s State) Fenced() bool { return s != Settled && s != Prep }

// Row is a user's actual state: the truth about where he is.
type Row struct {
	User       string      `json:"user"` // canonical address
	Side       config.Side `json:"side"`
	Epoch      int64       `json:"epoch"`      // number of committed flips
	Generation int64       `json:"generation"` // rises with each change of the row
	State      State       `json:"state"`
	Target     config.Side `json:"target"`         // meaningful while State is not Settled
	Op         string      `json:"op,omitempty"`   // the operation that moves it
	Since      time.Time   `json:"since,omitzero"` // of Side
}

// Pin records that a decision made elsewhere than in the routes file holds for a user.
type Pin struct {
	User   string      `json:"user"`
	Side   config.Side `json:"side"`
	By     string      `json:"by"`
	Reason string      `json:"reason,omitempty"`
	At     time.Time   `json:"at"`
}

// Event is a line of the history.
type Event struct {
	ID     int64     `json:"id"`
	At     time.Time `json:"at"`
	Op     string    `json:"op,omitempty"`
	User   string    `json:"user,omitempty"`
	What   string    `json:"what"` // "flip committed", "flip aborted", "import", ...
	Before string    `json:"before,omitempty"`
	After  string    `json:"after,omitempty"`
	By     string    `json:"by,omitempty"`
	Detail string    `json:"detail,omitempty"`
	From   string    `json:"from,omitempty"` // where the request came from, see Operation
	Plan   string    `json:"plan,omitempty"` // what was shown before
}

// Desired is a user's line as last imported from the routes file: what edges are measured against.
type Desired struct {
	User string
	Side config.Side
}

// Rules decide about names that have no row, and which names are one user. They are kept with the rows, since a
// restart must not decide by a file that was not taken over.
type Rules struct {
	Default   config.Side `json:"default"`            // of names that no pattern fits
	Patterns  []Pattern   `json:"patterns,omitempty"` // the first that fits counts
	Addresses string      `json:"addresses"`          // how addresses were made canonical; rows are kept under such names
}

// Pattern is the side of a domain's users who have no row.
type Pattern struct {
	Domain string      `json:"domain"` // "*" fits all
	Side   config.Side `json:"side"`
}

// Side is that of a user who has no row.
func (r Rules) Side(user string) config.Side {
	domain := user[strings.LastIndexByte(user, '@')+1:]
	for _, p := range r.Patterns {
		if p.Domain == "*" || p.Domain == domain {
			return p.Side
		}
	}
	return r.Default
}
