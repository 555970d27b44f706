package syncer

import (
	"errors"
	"fmt"
	"slices"

	"mailgate/config"
	"mailgate/syncer/merge"
)

// ErrDamaged means that what the store holds of a mailbox cannot be read.
var ErrDamaged = errors.New("the pairs of a mailbox are damaged in the store; restore it, or see mailgate store check")

// pairSet is the base of one mailbox in memory: its pairs in the store's chunks. The chunks' limits are those of UIDs on
// OLD. It is not safe for concurrent use.
type pairSet struct {
	chunks []pairChunk
}

type pairChunk struct {
	low        uint32
	generation int64
	pairs      []merge.Pair // ascending by UID on OLD
	dirty      bool
}

func loadPairs(chunks []Chunk) (*pairSet, error) {
	p := &pairSet{}
	for _, c := range chunks {
		pairs, err := DecodePairs(nil, c.Data)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		p.chunks = append(p.chunks, pairChunk{low: c.Low, generation: c.Generation, pairs: pairs})
	}
	return p, nil
}

// all are the pairs, ascending by UID on OLD. The result is the caller's to read, until the next change.
func (p *pairSet) all() []merge.Pair {
	if len(p.chunks) == 1 {
		return p.chunks[0].pairs
	}
	out := make([]merge.Pair, 0, p.len())
	for _, c := range p.chunks {
		out = append(out, c.pairs...)
	}
	return out
}

func (p *pairSet) len() (n int) {
	for _, c := range p.chunks {
		n += len(c.pairs)
	}
	return n
}

// at finds the chunk that a UID on OLD belongs to.
func (p *pairSet) at(uid uint32) int {
	i, found := slices.BinarySearchFunc(p.chunks, uid, func(c pairChunk, uid uint32) int {
		switch {
		case c.low < uid:
			return -1
		case c.low > uid:
			return 1
		}
		return 0
	})
	if found {
		return i
	}
	return i - 1
}

func byOld(q merge.Pair, uid uint32) int {
	switch {
	case q.UID[0] < uid:
		return -1
	case q.UID[0] > uid:
		return 1
	}
	return 0
}

// put adds a pair, or replaces the one with the same UID on OLD.
func (p *pairSet) put(q merge.Pair) {
	if len(p.chunks) == 0 || p.at(q.UID[0]) < 0 {
		p.chunks = slices.Insert(p.chunks, 0, pairChunk{low: min(1, q.UID[0])})
	}
	i := p.at(q.UID[0])
	c := &p.chunks[i]
	at, found := slices.BinarySearchFunc(c.pairs, q.UID[0], byOld)
	c.dirty = true
	switch {
	case found:
		c.pairs[at] = q
		return
	case len(c.pairs) < ChunkPairs:
		c.pairs = slices.Insert(c.pairs, at, q)
		return
	case at == len(c.pairs) && i == len(p.chunks)-1: // the usual case: the newest mail
		p.chunks = append(p.chunks, pairChunk{low: q.UID[0], pairs: []merge.Pair{q}, dirty: true})
		return
	}
	half := len(c.pairs) / 2
	upper := pairChunk{low: c.pairs[half].UID[0], pairs: slices.Clone(c.pairs[half:]), dirty: true}
	c.pairs = slices.Clip(c.pairs[:half])
	p.chunks = slices.Insert(p.chunks, i+1, upper)
	p.put(q)
}

// remove takes the pair with a UID on OLD out.
func (p *pairSet) remove(uid uint32) {
	i := p.at(uid)
	if i < 0 {
		return
	}
	c := &p.chunks[i]
	if at, found := slices.BinarySearchFunc(c.pairs, uid, byOld); found {
		c.pairs = slices.Delete(c.pairs, at, at+1)
		c.dirty = true
	}
}

// rebase gives the pair with a UID on OLD a new base.
func (p *pairSet) rebase(uid uint32, base [2]merge.Flags) {
	i := p.at(uid)
	if i < 0 {
		return
	}
	c := &p.chunks[i]
	if at, found := slices.BinarySearchFunc(c.pairs, uid, byOld); found {
		c.pairs[at].Base = base
		c.dirty = true
	}
}

// changed are the chunks to be written. Call stored when they are.
func (p *pairSet) changed(mailbox int64) (out []Chunk) {
	for _, c := range p.chunks {
		if c.dirty && (len(c.pairs) > 0 || c.generation > 0) {
			w := Chunk{Mailbox: mailbox, Low: c.low, Generation: c.generation}
			if len(c.pairs) > 0 {
				w.Data = EncodePairs(c.pairs)
			}
			out = append(out, w)
		}
	}
	return out
}

// wrote tells whether a message of a side is in a pair of those to be written.
func (p *pairSet) wrote(side config.Side, uid uint32) bool {
	return slices.ContainsFunc(p.chunks, func(c pairChunk) bool {
		return c.dirty && slices.ContainsFunc(c.pairs, func(q merge.Pair) bool { return q.UID[side] == uid })
	})
}

// stored notes that what changed gave is durable.
func (p *pairSet) stored() {
	keep := p.chunks[:0]
	for _, c := range p.chunks {
		if c.dirty {
			if len(c.pairs) == 0 {
				continue
			}
			c.generation++
			c.dirty = false
		}
		keep = append(keep, c)
	}
	p.chunks = keep
}

// clear takes all pairs out.
func (p *pairSet) clear() {
	for i := range p.chunks {
		p.chunks[i].pairs, p.chunks[i].dirty = nil, true
	}
}

// uids are those of one side, ascending.
func (p *pairSet) uids(side merge.Side) []uint32 {
	out := make([]uint32, 0, p.len())
	for _, c := range p.chunks {
		for _, q := range c.pairs {
			out = append(out, q.UID[side])
		}
	}
	if side == merge.New {
		slices.Sort(out)
	}
	return out
}

// find gives the pair with a UID on OLD.
func (p *pairSet) find(uid uint32) (merge.Pair, bool) {
	i := p.at(uid)
	if i < 0 {
		return merge.Pair{}, false
	}
	at, found := slices.BinarySearchFunc(p.chunks[i].pairs, uid, byOld)
	if !found {
		return merge.Pair{}, false
	}
	return p.chunks[i].pairs[at], true
}
