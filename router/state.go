package router

import (
	"fmt"
	"strings"
)

// State is a user's place in the flip machine (design.md, section 7).
type State string

const (
	Settled State = "SETTLED" // on his side, nothing under way
	Prep    State = "PREP"    // he works on; his mailboxes are brought together
	Fence   State = "FENCE"   // new logins wait
	Drain   State = "DRAIN"   // sessions end at a command boundary
	Delta   State = "DELTA"   // nobody is at the mailboxes: what is left is carried, both ways
	Verify  State = "VERIFY"  // both sides are compared
	Release State = "RELEASE" // committed: the new side is the truth, waiting logins go on
)

// States lists them in the order in which a flip comes by.
func States() []State { return []State{Settled, Prep, Fence, Drain, Delta, Verify, Release} }

// Move is one legal step of the machine, with what it means.
type Move struct {
	From, To State
	What     string
}

// Moves is the table of legal moves, the same for a flip and for a rollback: verbs, API, metrics, tests and the drawing
// in docs/architecture.md (Draw) come from it. It returns a fresh copy. COMMIT is no state but the one transaction
// between Verify and Release.
func Moves() []Move {
	const nothing = "abort: nothing is different"
	return []Move{
		{Settled, Prep, "a request was accepted: the mailboxes are brought together while he works"},
		{Prep, Fence, "little is left to carry, and nothing stands in the way: new logins wait"},
		{Prep, Settled, nothing},
		{Fence, Drain, "the fence is recorded everywhere: sessions end at a command boundary"},
		{Fence, Settled, nothing},
		{Drain, Delta, "every node has acknowledged: nobody is at the mailboxes, and what is left is carried"},
		{Drain, Settled, nothing},
		{Delta, Verify, "all is carried: both sides are compared"},
		{Delta, Settled, nothing},
		{Verify, Release, "COMMIT: both sides are equal and every node stands by its acknowledgement; the route is the new side"},
		{Verify, Settled, nothing},
		{Release, Settled, "every node knows the new side"},
	}
}

// Legal returns nil if the machine may go from one state to the other.
func Legal(from, to State) error {
	for _, m := range Moves() {
		if m.From == from && m.To == to {
			return nil
		}
	}
	return fmt.Errorf("%w: %s to %s", ErrIllegal, from, to)
}

// Undo is the state in which a restart leaves a row that it finds in s: as before, or finished, never between.
// committed tells whether the row's side is already the target.
func Undo(s State) (next State, committed bool) {
	return Settled, s == Release
}

// Fenced tells whether logins wait in s.
func (s State) Fenced() bool { return s != Settled && s != Prep }

// Draw is the table as text, for people.
func Draw() string {
	var b strings.Builder
	for _, m := range Moves() {
		fmt.Fprintf(&b, "%-8s -> %-8s %s\n", m.From, m.To, m.What)
	}
	return b.String()
}
