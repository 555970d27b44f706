package syncer

import (
	"cmp"
	"slices"
	"strings"
)

// sortForCopy puts jobs in the order in which people want their mail: INBOX, what they write (Drafts, Sent), then folder by folder as new as
// the newest mail in each is, and last what they have thrown away. But a folder that holds more than one connection's share of all
// begins behind INBOX: whatever comes before it, everything waits for its end, and the other connections go on in order.
func sortForCopy(list []*job, connections int) {
	all := 0
	for _, j := range list {
		all += len(j.items)
	}
	turn := func(j *job) int {
		use := strings.ToLower(j.f.Use)
		switch {
		case strings.EqualFold(j.f.name(), "INBOX"):
			return 0
		case connections > 1 && len(j.items) > all/connections:
			return 1
		case use == `\drafts` || use == `\sent`:
			return 2
		case use == `\trash` || use == `\junk`:
			return 4
		}
		return 3
	}
	newest := func(j *job) int64 { // messages arrive in the order of their UIDs, but for those that were copied from elsewhere
		if n := len(j.items); n > 0 && j.items[n-1].dated {
			return j.items[n-1].date
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b *job) int {
		return cmp.Or(cmp.Compare(turn(a), turn(b)), cmp.Compare(newest(b), newest(a)), cmp.Compare(len(b.items), len(a.items)))
	})
}
