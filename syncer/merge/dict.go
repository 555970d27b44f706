package merge

// Dict numbers sets of flags. Number 0 is the empty set. A flag that differs from a known one by letter case only is the same flag
// (servers fold keywords); the first spelling stays. It is not safe for concurrent use.
type Dict struct{}

// ID numbers the set that stands between the parentheses of FLAGS, raw. \Recent is left out. Known text does not allocate.
func (d *Dict) ID(raw []byte) Flags { return 0 }

// List gives the flags of a set, sorted.
func (d *Dict) List(f Flags) []string { return nil }

// Encode writes the dictionary; DecodeDict reads it.
func (d *Dict) Encode() []byte { return nil }

// DecodeDict reads what Encode wrote; an empty b gives an empty dictionary.
func DecodeDict(b []byte) (*Dict, error) { return &Dict{}, nil }

// Mailbox merges.
func Mailbox(in Input) Result { return Result{} }
