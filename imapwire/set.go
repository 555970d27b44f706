package imapwire

import (
	"fmt"
	"strconv"
)

// SetError says where a set is not one (RFC 9051, section 9, sequence-set).
type SetError struct {
	Set    string // at most its first 100 bytes
	Offset int    // of the byte that is wrong; the length of the set when it ends too early
	Reason string
}

func (e *SetError) Error() string {
	return fmt.Sprintf("set %q, byte %d: %s", e.Set, e.Offset, e.Reason)
}

// ParseSet calls f for each element of a set such as "1:3,5,9:*", in the order in which they stand. A single number is
// first and last both; "*" is 0, so "9:*" gives 9, 0 and "*" gives 0, 0. A reversed range is turned round, "*" counting as
// larger than all. Leading zeros are passed over. The error is a *SetError, or the first one of f; elements before it have
// been given to f by then. It allocates nothing.
func ParseSet(b []byte, f func(first, last uint32) error) error {
	for i := 0; ; i++ {
		first, n, reason := setNumber(b[i:])
		i += n
		last := first
		if reason == "" && i < len(b) && b[i] == ':' {
			i++
			last, n, reason = setNumber(b[i:])
			i += n
		}
		if reason == "" && i < len(b) && b[i] != ',' {
			reason = "neither a comma nor the end"
		}
		if reason != "" {
			return &SetError{Set: string(b[:min(len(b), 100)]), Offset: i, Reason: reason}
		}
		if last != 0 && (first == 0 || first > last) {
			first, last = last, first
		}
		if err := f(first, last); err != nil {
			return err
		}
		if i == len(b) {
			return nil
		}
	}
}

// setNumber reads a number or "*" from the beginning of b. n is how many bytes are good.
func setNumber(b []byte) (v uint32, n int, reason string) {
	if len(b) > 0 && b[0] == '*' {
		return 0, 1, ""
	}
	for ; n < len(b) && b[n] >= '0' && b[n] <= '9'; n++ {
		d := uint32(b[n] - '0')
		if v > (1<<32-1-d)/10 {
			return 0, n, "a number of more than 32 bits"
		}
		v = v*10 + d
	}
	switch {
	case n == 0:
		return 0, 0, "no number"
	case v == 0:
		return 0, 0, "zero"
	}
	return v, n, ""
}

// AppendUIDs appends uids to dst as a set, such as "1:3,5". Each run that rises by one becomes a range; the order is kept,
// so what is not sorted, or holds a number twice, comes out as it went in. 0, which is no UID, is left out.
func AppendUIDs(dst []byte, uids []uint32) []byte {
	begun := false
	for len(uids) > 0 {
		n := run(uids)
		if uids[0] != 0 {
			if begun {
				dst = append(dst, ',')
			}
			dst, begun = appendRange(dst, uids[0], uids[n-1]), true
		}
		uids = uids[n:]
	}
	return dst
}

// longestRange is the length of "4294967294:4294967295".
const longestRange = 21

// SplitUIDs writes uids as AppendUIDs does, but in pieces of at most maxBytes bytes, since servers limit the length of a
// command line (RFC 7162, section 4: 8000 bytes are safe). Less than 21 counts as 21, the longest range. No UIDs, no pieces.
func SplitUIDs(uids []uint32, maxBytes int) []string {
	var pieces []string
	var piece []byte
	var room [longestRange]byte
	maxBytes = max(maxBytes, longestRange)
	for len(uids) > 0 {
		n := run(uids)
		if uids[0] != 0 {
			r := appendRange(room[:0], uids[0], uids[n-1])
			switch {
			case len(piece) == 0:
			case len(piece)+1+len(r) > maxBytes:
				pieces, piece = append(pieces, string(piece)), piece[:0]
			default:
				piece = append(piece, ',')
			}
			piece = append(piece, r...)
		}
		uids = uids[n:]
	}
	if len(piece) > 0 {
		pieces = append(pieces, string(piece))
	}
	return pieces
}

// run is how many of the first numbers rise by one each. A 0 stands alone.
func run(uids []uint32) int {
	n := 1
	for uids[0] != 0 && n < len(uids) && uids[n] != 0 && uids[n] == uids[n-1]+1 {
		n++
	}
	return n
}

func appendRange(dst []byte, first, last uint32) []byte {
	dst = strconv.AppendUint(dst, uint64(first), 10)
	if last == first {
		return dst
	}
	return strconv.AppendUint(append(dst, ':'), uint64(last), 10)
}
