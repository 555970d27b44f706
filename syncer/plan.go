package syncer

import (
	"mailgate/backend"
	"mailgate/config"
)

// Rules are the operator's wishes about folders.
type Rules struct {
	Rename  map[string]string // OLD's name to NEW's, both as people read them (UTF-8, OLD's and NEW's separators); children follow
	Exclude []string          // names on OLD as people read them, with * and % as in LIST
	Use     map[string]string // special use such as \Sent to NEW's name
}

// SideFolders is what one side holds.
type SideFolders struct {
	Namespaces backend.Namespaces
	Folders    []backend.ListEntry // the whole personal namespace
	Subscribed map[string]bool     // raw names
	Profile    *Profile            // nil where nothing was probed
	UTF8       bool                // UTF8=ACCEPT is enabled: raw names are UTF-8
}

// Action is what the plan does with a folder.
type Action string

const (
	ActionPair   Action = "pair"   // it is on both sides, or known already
	ActionCreate Action = "create" // it has to be created on Side
	ActionRename Action = "rename" // known, and renamed on the other side: RENAME on Side, From there
	ActionGone   Action = "gone"   // known, and gone from the other side: to be deleted on Side after a time of grace
	ActionSkip   Action = "skip"   // left out, Why
	ActionRefuse Action = "refuse" // collision, or a name that the other side cannot hold: nothing of the account is written
)

// Folder is a line of the plan.
type Folder struct {
	Name       [2]string // raw, by side
	Shown      [2]string // as people read them
	Exists     [2]bool
	Selectable [2]bool
	Known      int64 // ID of the stored mailbox, 0 for none
	Action     Action
	Side       config.Side // where Action is done
	From       string      // ActionRename: raw
	Use        string      // special use, "" for none
	Subscribed [2]bool
	Messages   [2]uint32 // where STATUS said
	Size       [2]int64
	Why        string // in plain words
}

// Plan is shown before the first write.
type Plan struct {
	User      string
	Authority config.Side
	Prefix    [2]string
	Separator [2]byte
	Folders   []Folder // parents before children
	Notes     []string
}

// Refused lists the folders with ActionRefuse.
func (p *Plan) Refused() []Folder { return nil }

// PlanFolders makes the plan from what both sides hold and what is known. It is pure: the same input gives the same plan.
func PlanFolders(user string, authority config.Side, sides [2]SideFolders, known []Mailbox, rules Rules) *Plan {
	return nil
}
