package faulty

import (
	"strconv"
	"strings"
)

// span is a range of a set, first <= last.
type span struct{ first, last uint32 }

// set parses a set of UIDs; star is what "*" stands for.
func set(s string, star uint32) (out []span, ok bool) {
	for part := range strings.SplitSeq(s, ",") {
		a, b, isRange := strings.Cut(part, ":")
		if !isRange {
			b = a
		}
		x, ok1 := number(a, star)
		y, ok2 := number(b, star)
		if !ok1 || !ok2 {
			return nil, false
		}
		out = append(out, span{min(x, y), max(x, y)})
	}
	return out, true
}

func number(s string, star uint32) (uint32, bool) {
	if s == "*" {
		return star, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n > 0
}

func within(set []span, n uint32) bool {
	for _, s := range set {
		if n >= s.first && n <= s.last {
			return true
		}
	}
	return false
}

// format writes ascending or other numbers as a set that keeps their order.
func format(list []uint32) string {
	var b strings.Builder
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(list[i]), 10))
		if j > i {
			b.WriteByte(':')
			b.WriteString(strconv.FormatUint(uint64(list[j]), 10))
		}
		i = j + 1
	}
	return b.String()
}
