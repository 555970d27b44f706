package syncer

import "mailgate/syncer/merge"

// ChunkPairs is how many pairs a chunk holds at most.
const ChunkPairs = 4096

// EncodePairs writes pairs, ascending by UID on OLD, as a chunk's data (uid-stable.md, section 2.5).
func EncodePairs(p []merge.Pair) []byte { return nil }

// DecodePairs appends what EncodePairs wrote to p.
func DecodePairs(p []merge.Pair, data []byte) ([]merge.Pair, error) { return p, nil }
