package syncer

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// item is a message that is to be created on a side: what is known of its original on the other.
type item struct {
	uid   uint32 // of the original
	flags uint32 // merge.Flags of the original
	date  int64  // INTERNALDATE, seconds since 1970, UTC
	size  int64  // RFC822.SIZE; 0 where it was not asked for
	again uint32 // UID on OLD of the pair whose copy is gone, 0 for mail that has no pair
	gone  uint32 // UID of that copy
	zone  int16  // of date, minutes east of UTC
	dated bool   // date is known
}

var errPayload = errors.New("an intent's payload cannot be read")

// encodeItems writes what recovery needs of items: UIDs, dates and sizes.
func encodeItems(items []item) []byte {
	b := []byte{2}
	b = binary.AppendUvarint(b, uint64(len(items)))
	var uid, date int64
	for _, it := range items {
		b = binary.AppendVarint(b, int64(it.uid)-uid)
		b = binary.AppendVarint(b, it.date-date)
		b = binary.AppendUvarint(b, uint64(it.again))
		b = binary.AppendUvarint(b, uint64(it.size))
		uid, date = int64(it.uid), it.date
	}
	return b
}

// encodeUIDs is encodeItems of UIDs alone.
func encodeUIDs(uids []uint32) []byte {
	items := make([]item, len(uids))
	for i, u := range uids {
		items[i].uid = u
	}
	return encodeItems(items)
}

// encodeRename is encodeItems of a mailbox that is about to have the name to.
func encodeRename(to string, items []item) []byte {
	b := binary.AppendUvarint([]byte{3}, uint64(len(to)))
	return append(append(b, to...), encodeItems(items)...)
}

// flagDelta is what is added to messages of a side, and taken off them.
type flagDelta struct {
	add, remove []string
	uids        []uint32 // ascending
}

// encodeFlags writes changes of flags: how many, and for each its flags, then its UIDs as encodeUIDs.
func encodeFlags(deltas []flagDelta) []byte {
	b := binary.AppendUvarint([]byte{4}, uint64(len(deltas)))
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	for _, d := range deltas {
		text(strings.Join(d.add, " ")) // no flag holds a space (RFC 3501, section 9, atom)
		text(strings.Join(d.remove, " "))
		text(string(encodeUIDs(d.uids)))
	}
	return b
}

// aboutFlags tells what encodeFlags wrote. An older program makes a suspect of such an intent where a mailbox has begun anew.
func aboutFlags(b []byte) bool { return len(b) > 0 && b[0] == 4 }

func decodeFlags(b []byte) ([]flagDelta, error) {
	if !aboutFlags(b) {
		return nil, errPayload
	}
	b = b[1:]
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return nil, errPayload
	}
	b = b[k:]
	out := make([]flagDelta, 0, n)
	for range n {
		var v [3]string
		for i := range v {
			size, k := binary.Uvarint(b)
			if k <= 0 || size > uint64(len(b)-k) {
				return nil, errPayload
			}
			v[i], b = string(b[k:k+int(size)]), b[k+int(size):]
		}
		items, err := decodeItems([]byte(v[2]))
		if err != nil {
			return nil, err
		}
		d := flagDelta{add: strings.Fields(v[0]), remove: strings.Fields(v[1])}
		for _, it := range items {
			d.uids = append(d.uids, it.uid)
		}
		out = append(out, d)
	}
	return out, nil
}

// decodeRename gives "" for what an edition before this one wrote, which had no name.
func decodeRename(b []byte) (to string, items []item, err error) {
	if len(b) > 0 && b[0] == 3 {
		n, k := binary.Uvarint(b[1:])
		if k <= 0 || n > uint64(len(b)-1-k) {
			return "", nil, errPayload
		}
		b = b[1+k:]
		to, b = string(b[:n]), b[n:]
	}
	items, err = decodeItems(b)
	return to, items, err
}

func decodeItems(b []byte) ([]item, error) {
	if len(b) == 0 || b[0] != 1 && b[0] != 2 {
		return nil, errPayload
	}
	sized := b[0] == 2 // the first edition had no sizes
	b = b[1:]
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)) {
		return nil, errPayload
	}
	b = b[k:]
	items := make([]item, 0, n)
	var uid, date int64
	for range n {
		var v [2]int64
		for i := range v {
			x, k := binary.Varint(b)
			if k <= 0 {
				return nil, errPayload
			}
			v[i], b = x, b[k:]
		}
		again, k := binary.Uvarint(b)
		if k <= 0 {
			return nil, errPayload
		}
		b = b[k:]
		var size uint64
		if sized {
			if size, k = binary.Uvarint(b); k <= 0 || size > math.MaxInt64 {
				return nil, errPayload
			}
			b = b[k:]
		}
		uid, date = uid+v[0], date+v[1]
		if uid < 0 || uid > 1<<32-1 || again > 1<<32-1 {
			return nil, errPayload
		}
		items = append(items, item{uid: uint32(uid), date: date, dated: true, again: uint32(again), size: int64(size)})
	}
	return items, nil
}
