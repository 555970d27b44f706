package merge

// Side is one of the two sides: 0 is OLD, 1 is NEW.
type Side uint8

const (
	Old Side = iota
	New
)

// Other is the opposite side.
func (s Side) Other() Side { return s ^ 1 }

// Flags is a set of flags, as its number in a Dict.
type Flags uint32

// Entry is a message of a snapshot.
type Entry struct {
	UID   uint32
	Flags Flags
}

// Pair is one message on both sides. Base are the flags of each side when they were last known to agree (as far as each side
// can hold them).
type Pair struct {
	UID  [2]uint32
	Base [2]Flags
}

// Input is one mailbox.
type Input struct {
	Dict      *Dict
	Authority Side       // the routed side: what it says wins
	Base      []Pair     // ascending by UID[Old]; UID[New] in any order
	Snap      [2][]Entry // complete, ascending by UID
	// CanKeep tells whether a side can hold a flag (PERMANENTFLAGS). nil means that it can hold all.
	CanKeep [2]func(flag string) bool
	// Ignore are flags that never travel in this mailbox besides \Recent.
	Ignore func(flag string) bool
	// FollowerDeletes carries deletes on the follower to the authority. By default the message is created again there.
	FollowerDeletes bool
}

// FlagChange is one delta for messages of one side, in ascending order.
type FlagChange struct {
	Add, Remove []string
	UIDs        []uint32
	Pairs       []int    // indexes into Input.Base, same order
	Base        [2]Flags // what Pair.Base becomes when this change and the one of the other side for the same pair, if any, are done
}

// Result is what is to be done. Nothing of it is done yet.
type Result struct {
	Create   [2][]Entry      // to be created on that side: entries of the other side's snapshot, ascending, \Recent taken out, not filtered by CanKeep
	Recreate [2][]int        // pairs (indexes) whose copy on that side is gone and has to be created there again, ascending by the other side's UID
	Expunge  [2][]int        // pairs (indexes) whose copy on that side has to be expunged
	Drop     []int           // pairs gone on both sides
	Change   [2][]FlagChange // STOREs on that side
	Rebase   []Rebase        // pairs whose base changes without anything to be done
	Conflict []Conflict
	Lost     map[string]int // flag -> number of messages that the other side cannot keep
}

// Rebase is a new base for a pair.
type Rebase struct {
	Pair int
	Base [2]Flags
}

// Conflict is a decision that somebody may want to know of.
type Conflict struct {
	Pair int
	Kind string // DeletedAndChanged or Exclusive
	Kept bool
}

// Kinds of conflicts.
const (
	DeletedAndChanged = "deleted-and-changed" // one side deleted it, the other changed its flags
	Exclusive         = "exclusive"           // $Junk and $NotJunk
)

// ConflictKinds lists them.
func ConflictKinds() []string { return []string{DeletedAndChanged, Exclusive} }
