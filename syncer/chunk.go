package syncer

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"mailgate/syncer/merge"
)

// ChunkPairs is how many pairs a chunk holds at most.
const ChunkPairs = 4096

// ErrChunk means that a chunk's data are not what EncodePairs wrote.
var ErrChunk = errors.New("chunk damaged")

const (
	chunkVersion = 1
	maxChunk     = 4 * ChunkPairs // what DecodePairs takes
)

// EncodePairs writes pairs, ascending by UID on OLD, as a chunk's data (uid-stable.md, section 2.5): column by column,
// each as runs. UIDs are gaps to the UID before, so that a mailbox that was copied in one go is one run.
// It panics beyond 4*ChunkPairs: DecodePairs would not take that, and a chunk that cannot be read must never be stored.
func EncodePairs(p []merge.Pair) []byte {
	if len(p) > maxChunk {
		panic("too many pairs for a chunk")
	}
	b := []byte{chunkVersion}
	b = binary.AppendUvarint(b, uint64(len(p)))
	for side := range 2 {
		last := int64(0)
		b = runs(b, len(p), func(i int) uint64 {
			gap := int64(p[i].UID[side]) - last
			last = int64(p[i].UID[side])
			return zigzag(gap)
		})
	}
	b = runs(b, len(p), func(i int) uint64 { return uint64(p[i].Base[merge.Old]) })
	b = runs(b, len(p), func(i int) uint64 { // 0: as on OLD
		if p[i].Base[merge.New] == p[i].Base[merge.Old] {
			return 0
		}
		return uint64(p[i].Base[merge.New]) + 1
	})
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// runs writes n values: each run is a header (its length, doubled, plus 1 when all its values are equal) and its values.
func runs(b []byte, n int, value func(int) uint64) []byte {
	v := make([]uint64, n)
	for i := range v {
		v[i] = value(i)
	}
	for i := 0; i < n; {
		same := 1
		for i+same < n && v[i+same] == v[i] {
			same++
		}
		if same >= 3 || i+same == n {
			b = binary.AppendUvarint(b, uint64(same)<<1|1)
			b = binary.AppendUvarint(b, v[i])
			i += same
			continue
		}
		k := i
		for k < n && !(k+2 < n && v[k] == v[k+1] && v[k] == v[k+2]) {
			k++
		}
		b = binary.AppendUvarint(b, uint64(k-i)<<1)
		for ; i < k; i++ {
			b = binary.AppendUvarint(b, v[i])
		}
	}
	return b
}

func zigzag(x int64) uint64   { return uint64(x)<<1 ^ uint64(x>>63) }
func unzigzag(x uint64) int64 { return int64(x>>1) ^ -int64(x&1) }

// DecodePairs appends what EncodePairs wrote to p. Anything else is ErrChunk.
func DecodePairs(p []merge.Pair, data []byte) ([]merge.Pair, error) {
	if len(data) < 6 || data[0] != chunkVersion {
		return p, ErrChunk
	}
	b, sum := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	if crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != sum {
		return p, ErrChunk
	}
	b = b[1:]
	n, k := binary.Uvarint(b)
	if k <= 0 || n > maxChunk {
		return p, ErrChunk
	}
	b = b[k:]
	start := len(p)
	p = append(p, make([]merge.Pair, n)...)
	out := p[start:]
	ok := true
	for side := range 2 {
		last := int64(0)
		b, ok = unruns(b, int(n), func(i int, v uint64) bool {
			last += unzigzag(v)
			out[i].UID[side] = uint32(last)
			return last >= 0 && last <= 1<<32-1
		})
		if !ok {
			return p[:start], ErrChunk
		}
	}
	flag := func(v uint64) bool { return v <= 1<<32-1 }
	if b, ok = unruns(b, int(n), func(i int, v uint64) bool { out[i].Base[merge.Old] = merge.Flags(v); return flag(v) }); !ok {
		return p[:start], ErrChunk
	}
	b, ok = unruns(b, int(n), func(i int, v uint64) bool {
		if out[i].Base[merge.New] = out[i].Base[merge.Old]; v > 0 {
			out[i].Base[merge.New] = merge.Flags(v - 1)
		}
		return v == 0 || flag(v-1)
	})
	if !ok || len(b) > 0 {
		return p[:start], ErrChunk
	}
	return p, nil
}

// unruns reads n values and gives what follows them.
func unruns(b []byte, n int, take func(int, uint64) bool) ([]byte, bool) {
	next := func() (uint64, bool) {
		v, k := binary.Uvarint(b)
		if k <= 0 {
			return 0, false
		}
		b = b[k:]
		return v, true
	}
	for i := 0; i < n; {
		head, ok := next()
		if !ok || head>>1 == 0 || head>>1 > uint64(n-i) {
			return b, false
		}
		var v uint64
		for j := range head >> 1 {
			if j == 0 || head&1 == 0 {
				if v, ok = next(); !ok {
					return b, false
				}
			}
			if !take(i, v) {
				return b, false
			}
			i++
		}
	}
	return b, true
}
