package merge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// Dict numbers sets of flags. Number 0 is the empty set. A flag that differs from a known one by letter case only is the
// same flag (servers fold keywords); the first spelling stays. It is not safe for concurrent use.
type Dict struct {
	flags []string         // by number of the flag, first spelling
	index map[string]int   // lower case -> number of the flag
	sets  [][]int          // by Flags: numbers of flags, ascending
	byKey map[string]Flags // encoded numbers -> Flags
	byRaw map[string]Flags // as servers write it -> Flags
}

// maxRaw bounds the texts that are remembered as servers write them.
const maxRaw = 10000

func (d *Dict) prepare() {
	if d.index == nil {
		d.index, d.byKey, d.byRaw = map[string]int{}, map[string]Flags{"": 0}, map[string]Flags{}
		d.sets = [][]int{nil}
	}
}

// ID numbers the set that stands between the parentheses of FLAGS, raw. \Recent is left out. Known text does not allocate.
func (d *Dict) ID(raw []byte) Flags {
	if id, ok := d.byRaw[string(raw)]; ok {
		return id
	}
	d.prepare()
	var set []int
	for _, f := range bytes.Fields(raw) {
		if fold(string(f)) != `\recent` {
			set = append(set, d.flag(string(f)))
		}
	}
	id := d.set(set)
	if len(d.byRaw) >= maxRaw {
		clear(d.byRaw)
	}
	d.byRaw[string(raw)] = id
	return id
}

func (d *Dict) flag(f string) int {
	key := fold(f)
	n, ok := d.index[key]
	if !ok {
		n = len(d.flags)
		d.flags = append(d.flags, f)
		d.index[key] = n
	}
	return n
}

// fold makes ASCII letters small, and no others: keywords may hold any bytes.
func fold(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// set numbers a set of flags.
func (d *Dict) set(set []int) Flags {
	d.prepare()
	slices.Sort(set)
	set = slices.Compact(set)
	var key []byte
	for _, n := range set {
		key = binary.AppendUvarint(key, uint64(n))
	}
	id, ok := d.byKey[string(key)]
	if !ok {
		id = Flags(len(d.sets))
		d.sets = append(d.sets, slices.Clone(set))
		d.byKey[string(key)] = id
	}
	return id
}

// numbers are the flags of a set, by number.
func (d *Dict) numbers(f Flags) []int {
	if int(f) >= len(d.sets) {
		return nil
	}
	return d.sets[f]
}

// List gives the flags of a set, sorted.
func (d *Dict) List(f Flags) []string {
	var out []string
	for _, n := range d.numbers(f) {
		out = append(out, d.flags[n])
	}
	slices.Sort(out)
	return out
}

// Without gives the flags of a set that are not in another, sorted.
func (d *Dict) Without(f, other Flags) []string {
	var out []string
	for _, n := range d.numbers(f) {
		if !slices.Contains(d.numbers(other), n) {
			out = append(out, d.flags[n])
		}
	}
	slices.Sort(out)
	return out
}

// Changed is a set with flags more and flags less.
func (d *Dict) Changed(f Flags, add, remove []string) Flags {
	d.prepare()
	set := slices.Clone(d.numbers(f))
	for _, x := range add {
		set = append(set, d.flag(x))
	}
	for _, x := range remove {
		set = slices.DeleteFunc(set, func(n int) bool { return n == d.flag(x) })
	}
	return d.set(set)
}

var errDict = errors.New("the flags of a mailbox cannot be read")

// Encode writes the dictionary; DecodeDict reads it.
func (d *Dict) Encode() []byte {
	b := []byte{1}
	b = binary.AppendUvarint(b, uint64(len(d.flags)))
	for _, f := range d.flags {
		b = binary.AppendUvarint(b, uint64(len(f)))
		b = append(b, f...)
	}
	b = binary.AppendUvarint(b, uint64(max(len(d.sets), 1)))
	for _, s := range d.sets[min(1, len(d.sets)):] {
		b = binary.AppendUvarint(b, uint64(len(s)))
		for _, n := range s {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

// DecodeDict reads what Encode wrote; an empty b gives an empty dictionary.
func DecodeDict(b []byte) (*Dict, error) {
	d := &Dict{}
	d.prepare()
	if len(b) == 0 {
		return d, nil
	}
	if b[0] != 1 {
		return nil, errDict
	}
	b = b[1:]
	number := func(limit int) (int, bool) {
		n, k := binary.Uvarint(b)
		if k <= 0 || limit < 0 || n > uint64(limit) {
			return 0, false
		}
		b = b[k:]
		return int(n), true
	}
	flags, ok := number(len(b))
	if !ok {
		return nil, errDict
	}
	for range flags {
		n, ok := number(len(b))
		if !ok || n > len(b) {
			return nil, errDict
		}
		if before := len(d.flags); d.flag(string(b[:n])) != before { // twice the same
			return nil, errDict
		}
		b = b[n:]
	}
	sets, ok := number(len(b) + 1)
	if !ok || sets == 0 {
		return nil, errDict
	}
	for i := 1; i < sets; i++ {
		n, ok := number(len(b))
		if !ok {
			return nil, errDict
		}
		set := make([]int, n)
		for j := range set {
			if set[j], ok = number(flags - 1); !ok {
				return nil, errDict
			}
		}
		if d.set(set) != Flags(i) {
			return nil, errDict
		}
	}
	if len(b) > 0 {
		return nil, errDict
	}
	return d, nil
}
