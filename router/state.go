package router

import "fmt"

// State is a user's place in the flip machine (design.md, section 7).
type State string

const (
	Settled State = "SETTLED" // on his side, nothing under way
	Fence   State = "FENCE"   // new logins wait
	Drain   State = "DRAIN"   // sessions end at a command boundary
	Release State = "RELEASE" // committed: the new side is the truth, waiting logins go on
)

// Move is one legal step of the machine, with what it means.
type Move struct {
	From, To State
	What     string
}

// Moves is the table of legal moves, the same for a flip and for a rollback. It returns a fresh copy. Between Drain and
// Release lies the commit; the final delta and the verification take their place before it when mailboxes are synced.
func Moves() []Move {
	return []Move{
		{Settled, Fence, "a request was accepted: new logins wait"},
		{Fence, Drain, "the fence is recorded everywhere: sessions end at a command boundary"},
		{Fence, Settled, "abort: nothing is different"},
		{Drain, Release, "commit: every node has acknowledged, the route is the new side"},
		{Drain, Settled, "abort: nothing is different"},
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
