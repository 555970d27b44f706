package syncer

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"mailgate/syncer/merge"
)

func TestChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p []merge.Pair
		uid := uint32(0)
		for range rapid.IntRange(0, 300).Draw(t, "n") {
			uid += uint32(rapid.IntRange(1, 3).Draw(t, "gap"))
			f := merge.Flags(rapid.IntRange(0, 4).Draw(t, "flags"))
			q := merge.Pair{UID: [2]uint32{uid, rapid.Uint32().Draw(t, "new")}, Base: [2]merge.Flags{f, f}}
			if rapid.IntRange(0, 9).Draw(t, "other") == 0 {
				q.Base[1] = merge.Flags(rapid.Uint32().Draw(t, "new flags") >> 1)
			}
			p = append(p, q)
		}
		got, err := DecodePairs(nil, EncodePairs(p))
		if err != nil || !slices.Equal(got, p) {
			t.Fatalf("%v: %v, want %v", err, got, p)
		}
	})
}

// TestChunkSize bounds the bytes of a pair.
func TestChunkSize(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		what  string
		limit float64
		pair  func(i uint32) merge.Pair
	}{
		{"copied in one go, one flag in twenty", 0.5, func(i uint32) merge.Pair {
			f := merge.Flags(1)
			if i%20 == 0 {
				f = 2
			}
			return merge.Pair{UID: [2]uint32{i + 1, i + 1}, Base: [2]merge.Flags{f, f}}
		}},
		{"holes, 32 sets of flags at random", 3, func(i uint32) merge.Pair {
			f := merge.Flags(rnd.IntN(32))
			return merge.Pair{UID: [2]uint32{i*2 + rnd.Uint32N(2) + 1, i + 1}, Base: [2]merge.Flags{f, f}}
		}},
		{"200 sets at random on each side", 8, func(i uint32) merge.Pair {
			return merge.Pair{UID: [2]uint32{i*2 + 1, i*3 + 1}, Base: [2]merge.Flags{merge.Flags(rnd.IntN(200)), merge.Flags(rnd.IntN(200))}}
		}},
	} {
		var p []merge.Pair
		for i := range uint32(ChunkPairs) {
			p = append(p, c.pair(i))
		}
		size := float64(len(EncodePairs(p))) / ChunkPairs
		t.Logf("%s: %.2f bytes a pair", c.what, size)
		if size > c.limit {
			t.Errorf("%s: %.2f bytes a pair, at most %.1f", c.what, size, c.limit)
		}
	}
}

// TestPairSet compares a pairSet with a map, through its chunks.
func TestPairSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := &pairSet{}
		want := map[uint32]merge.Pair{}
		stored := map[uint32]Chunk{}
		save := func() {
			for _, c := range p.changed(1) {
				if c.Generation != stored[c.Low].Generation {
					t.Fatalf("chunk %d was written at generation %d and is at %d", c.Low, c.Generation, stored[c.Low].Generation)
				}
				if c.Generation++; len(c.Data) == 0 {
					delete(stored, c.Low)
					continue
				}
				stored[c.Low] = c
			}
			p.stored()
		}
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			uid := uint32(rapid.IntRange(1, 20000).Draw(t, "uid"))
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0, 1:
				for k := range uint32(rapid.IntRange(1, 3000).Draw(t, "many")) {
					q := merge.Pair{UID: [2]uint32{uid + k, uid + k}}
					p.put(q)
					want[uid+k] = q
				}
			case 2:
				p.remove(uid)
				delete(want, uid)
			case 3:
				p.rebase(uid, [2]merge.Flags{1, 2})
				if q, ok := want[uid]; ok {
					q.Base = [2]merge.Flags{1, 2}
					want[uid] = q
				}
			case 4:
				save()
			}
		}
		save()
		var list []Chunk
		for _, c := range stored {
			list = append(list, c)
		}
		slices.SortFunc(list, func(a, b Chunk) int { return int(a.Low) - int(b.Low) })
		again, err := loadPairs(list)
		if err != nil {
			t.Fatal(err)
		}
		if p.len() != len(want) || again.len() != len(want) || !slices.Equal(p.all(), again.all()) {
			t.Fatalf("%d pairs, %d in the store, want %d", p.len(), again.len(), len(want))
		}
		for uid, q := range want {
			if got, ok := again.find(uid); !ok || got != q {
				t.Fatalf("pair %d is %v", uid, got)
			}
		}
	})
}

// TestChunkLimit: what EncodePairs writes can be read, or is not written.
func TestChunkLimit(t *testing.T) {
	full := make([]merge.Pair, maxChunk)
	if got, err := DecodePairs(nil, EncodePairs(full)); err != nil || len(got) != len(full) {
		t.Errorf("%d pairs, %v", len(got), err)
	}
	defer func() {
		if recover() == nil {
			t.Error("a chunk that cannot be read was written")
		}
	}()
	EncodePairs(make([]merge.Pair, maxChunk+1))
}

// TestChunkDamaged: a byte that is wrong anywhere is noticed, and so are data that end early.
func TestChunkDamaged(t *testing.T) {
	b := EncodePairs([]merge.Pair{{UID: [2]uint32{1, 2}}, {UID: [2]uint32{5, 1}, Base: [2]merge.Flags{1, 2}}})
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1
		if _, err := DecodePairs(nil, bad); !errors.Is(err, ErrChunk) {
			t.Errorf("byte %d wrong: %v", i, err)
		}
		if _, err := DecodePairs(nil, b[:i]); !errors.Is(err, ErrChunk) {
			t.Errorf("%d bytes only: %v", i, err)
		}
	}
	// Runs that are longer than the column, with the right checksum.
	long := []byte{chunkVersion, 1, 2<<1 | 1, 2, 1<<1 | 1, 2, 1<<1 | 1, 0, 1<<1 | 1, 0}
	long = binary.LittleEndian.AppendUint32(long, crc32.Checksum(long, crc32.MakeTable(crc32.Castagnoli)))
	if _, err := DecodePairs(nil, long); !errors.Is(err, ErrChunk) {
		t.Errorf("a run too long: %v", err)
	}
}

// FuzzDecodePairs takes data without a checksum and gives them the right one, so that it gets beyond that.
func FuzzDecodePairs(f *testing.F) {
	for _, p := range [][]merge.Pair{nil, {{UID: [2]uint32{1, 2}}, {UID: [2]uint32{5, 1}, Base: [2]merge.Flags{1, 2}}}} {
		b := EncodePairs(p)
		f.Add(b[:len(b)-4])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = binary.LittleEndian.AppendUint32(b[:len(b):len(b)], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		before := []merge.Pair{{UID: [2]uint32{7, 7}}}
		p, err := DecodePairs(before, b)
		if len(p) == 0 || p[0] != before[0] || err != nil && len(p) != 1 || len(p) > maxChunk+1 {
			t.Fatalf("%d pairs, %v", len(p), err)
		}
		if err != nil {
			return
		}
		again, err := DecodePairs(nil, EncodePairs(p[1:]))
		if err != nil || !slices.Equal(again, p[1:]) {
			t.Fatalf("not the same again: %v", err)
		}
	})
}
