package imapwire

import (
	"slices"
	"sort"
)

// Span is a run of numbers of messages, both ends included.
type Span struct{ First, Last uint32 }

// Spans is a set of numbers: ascending, apart from each other. The zero value is the empty set. Methods that change it may write to
// its array.
type Spans []Span

// Add returns the set with the numbers from first to last.
func (s Spans) Add(first, last uint32) Spans {
	if first > last {
		return s
	}
	i := sort.Search(len(s), func(i int) bool { return uint64(s[i].Last)+1 >= uint64(first) })
	j := i
	for ; j < len(s) && uint64(s[j].First) <= uint64(last)+1; j++ {
		first, last = min(first, s[j].First), max(last, s[j].Last)
	}
	return slices.Replace(s, i, j, Span{first, last})
}

// Without returns the set without the numbers from first to last.
func (s Spans) Without(first, last uint32) Spans {
	if first > last {
		return s
	}
	var out Spans
	for _, x := range s {
		if x.Last < first || x.First > last {
			out = append(out, x)
			continue
		}
		if x.First < first {
			out = append(out, Span{x.First, first - 1})
		}
		if x.Last > last {
			out = append(out, Span{last + 1, x.Last})
		}
	}
	return out
}

// Both is what is in s and in o.
func (s Spans) Both(o Spans) (out Spans) {
	for i, j := 0, 0; i < len(s) && j < len(o); {
		if first, last := max(s[i].First, o[j].First), min(s[i].Last, o[j].Last); first <= last {
			out = append(out, Span{first, last})
		}
		if s[i].Last < o[j].Last {
			i++
		} else {
			j++
		}
	}
	return out
}

// Has tells whether a number is in the set.
func (s Spans) Has(n uint32) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i].Last >= n })
	return i < len(s) && s[i].First <= n
}

// Size is how many numbers are in the set.
func (s Spans) Size() (n uint64) {
	for _, x := range s {
		n += uint64(x.Last) - uint64(x.First) + 1
	}
	return n
}
