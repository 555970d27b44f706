package syncer

import "time"

// ScriptState is how a Sieve script stands.
type ScriptState string

const (
	ScriptEqual   ScriptState = "equal"   // the same on both sides, but for folders' names
	ScriptRefused ScriptState = "refused" // the other side does not take it, or it cannot be carried there: Why
	ScriptKept    ScriptState = "kept"    // gone on the side that decides, and kept on the other: Why
)

// Script is what is known of a user's Sieve script, by its name.
type Script struct {
	Name   string
	Base   [2]string // SHA-256, in hex, of its text on each side when both were last in agreement; both "" where they never were
	Active [2]bool   // it was the active one there when the marks were last in agreement, or were last left as they are
	State  ScriptState
	Why    string    // in plain words
	Tried  string    // State refused: a hash of what was tried. The same is not tried again
	Seen   time.Time // when that was noted
}
