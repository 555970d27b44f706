package syncer

import (
	"mailgate/backend"
	"mailgate/config"
)

// Rules are the operator's wishes about folders.
type Rules struct {
	Rename  map[string]string // OLD's name to NEW's, both as people read them (UTF-8, OLD's and NEW's separators, with or without prefix); children follow
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
	Renamed    map[string]int64    // raw names of folders whose content proves them to be a stored mailbox, by its ID
}

// Action is what the plan does with a folder.
type Action string

const (
	ActionPair   Action = "pair"   // it is on both sides, or known already
	ActionCreate Action = "create" // it has to be created on Side; with Known it was there once, and the side that decides still has it
	ActionRename Action = "rename" // known, and renamed on the other side: RENAME on Side, From there
	ActionGone   Action = "gone"   // known, and gone from the other side: to be deleted on Side after a time of grace; on neither side: to be forgotten
	ActionSkip   Action = "skip"   // left out, Why
	ActionRefuse Action = "refuse" // collision, or a name that the other side cannot hold: nothing of the account is written
)

// Folder is a line of the plan.
type Folder struct {
	Name       [2]string // raw, by side, when the plan's renames are done
	Shown      [2]string // as people read them
	Exists     [2]bool   // as a mailbox; a \Noselect name that becomes one counts as missing
	Selectable [2]bool
	Known      int64 // ID of the stored mailbox, 0 for none
	Action     Action
	Side       config.Side // where Action is done; Old where nothing is
	// Listed are the raw names that it is listed by now, "" where it is not. They differ from Name where ActionRename, or
	// one of a folder above, gives it another.
	Listed     [2]string
	From       string    // where it is renamed on Side (ActionRename, or ActionGone where another has its name now): raw name when its turn comes; renames are done in the plan's order, so it may be the outcome of an earlier one
	Use        string    // special use, "" for none
	Subscribed [2]bool   // as it is
	Subscribe  bool      // as it should be on both sides
	Messages   [2]uint32 // where STATUS said
	Size       [2]int64
	Why        string // in plain words
}

// Plan is shown before the first write. Its form in JSON is planJSON.
type Plan struct {
	User      string
	Authority config.Side
	Prefix    [2]string
	Separator [2]byte
	Folders   []Folder // renames first, in the order in which they are done; then parents before children
	Notes     []string
}

// Refused lists the folders with ActionRefuse.
func (p *Plan) Refused() []Folder {
	var list []Folder
	for _, f := range p.Folders {
		if f.Action == ActionRefuse {
			list = append(list, f)
		}
	}
	return list
}

// PlanFolders makes the plan from what both sides hold and what is known. It is pure: the same input gives the same plan.
//
// Known mailboxes keep their pair of names. Others are named by the nearest of: the known mailbox above them, the operator's
// rename, the special use, else their own name, each component escaped where the other side cannot hold it (type escaper).
func PlanFolders(user string, authority config.Side, sides [2]SideFolders, known []Mailbox, rules Rules) *Plan {
	return planFolders(user, authority, sides, known, rules).plan
}

// planFolders makes the plan, and leaves what names were made by.
func planFolders(user string, authority config.Side, sides [2]SideFolders, known []Mailbox, rules Rules) *planner {
	p := newPlanner(user, authority, sides, known, rules)
	p.knownFolders()
	p.newFolders(config.Old)
	p.newFolders(config.New)
	p.parents()
	p.finish()
	return p
}
