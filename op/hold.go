package op

import (
	"strings"
	"time"
)

// Hold is a stop sign that no flip passes, neither way.
type Hold struct {
	Scope  string    `json:"scope"` // "all", "wave:NAME" or "user:ADDRESS"
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Scopes of holds.
const HoldAll = "all"

// HoldUser and HoldWave name the other scopes.
func HoldUser(address string) string { return "user:" + address }

// HoldWave is that of all members of a wave.
func HoldWave(name string) string { return "wave:" + name }

// HoldScopes are those that stop a user of a wave; wave may be "".
func HoldScopes(user, wave string) []string {
	s := []string{HoldAll, HoldUser(user)}
	if wave != "" {
		s = append(s, HoldWave(wave))
	}
	return s
}

// What names the scope for people.
func (h Hold) What() string {
	kind, name, ok := strings.Cut(h.Scope, ":")
	if !ok {
		return "everybody"
	}
	if kind == "wave" {
		return "wave " + name
	}
	return name
}

// Verb is what the verbs hold and unhold take for the scope.
func (h Hold) Verb() string {
	if _, name, ok := strings.Cut(h.Scope, ":"); ok {
		return name
	}
	return "--all"
}

// Node is a process that serves clients, as the store has it: its acknowledgement is needed for each flip.
type Node struct {
	Name        string    `json:"name"`
	Incarnation string    `json:"incarnation"` // of the process: whoever comes again under the same name is another one
	Since       time.Time `json:"since,omitzero"`
	Seen        time.Time `json:"seen,omitzero"` // when it was last heard of, by the store's clock; zero where nobody asks
	About       About     `json:"about,omitzero"`
}

// About is what a node tells of itself each time it is heard of.
type About struct {
	Version  string `json:"version,omitempty"`
	Place    string `json:"place,omitempty"`  // machine and control socket: another process there is its successor
	Serial   string `json:"serial,omitempty"` // of its routes file
	Sessions int    `json:"sessions"`
	// HandedOver tells that another process in its place has its listeners and its name: it has its sessions, and no files that count.
	HandedOver bool `json:"handed_over,omitempty"`
}

// Condition is what must still hold when a flip is committed. It is looked at within the transaction.
type Condition struct {
	Nodes  []Node   // exactly those are registered: each has acknowledged
	Scopes []string // none of them is held
}

// Leader is the node that runs operations.
type Leader struct {
	Name        string    `json:"name"`
	Incarnation string    `json:"incarnation"`
	Term        int64     `json:"term"` // rises with each leader
	Since       time.Time `json:"since,omitzero"`
}
