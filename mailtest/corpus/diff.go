package corpus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// DiffOptions say what Diff takes for equal.
type DiffOptions struct {
	// Map gives the path on b for one on a; false leaves the folder out. nil keeps all paths.
	Map func(Path) (Path, bool)
	// OnlyB tells whether a folder may be on b alone, such as an empty one that b made by itself. nil means that none may.
	OnlyB func(Path, *Contents) bool
	// Keep tells whether a flag counts. nil means that all do.
	Keep func(flag string) bool
	// Skip tells whether a message does not count, on either side. nil means that all do.
	Skip func(Path, Item) bool
	// FoldFlags takes flags that differ by letter case only for the same.
	FoldFlags bool
	// NoDates, NoSubscriptions leave them out.
	NoDates, NoSubscriptions bool
	// Limit is the number of differences that are told of each folder; 0 means 20, less than 0 all.
	Limit int
}

// Diff compares two accounts, and says in words where b is not what a is; nothing means that they are equal.
func Diff(a, b Account, o DiffOptions) []string {
	var out []string
	known := map[Path]bool{}
	for _, p := range slices.Sorted(maps.Keys(a.Folders)) {
		to, counts := o.mapped(p)
		if !counts {
			continue
		}
		if known[to] {
			out = append(out, fmt.Sprintf("%s: a second folder that becomes %s", p, to))
			continue
		}
		known[to] = true
		fa, fb := a.Folders[p], b.Folders[to]
		if fb == nil {
			out = append(out, fmt.Sprintf("%s: the folder is missing (%d messages)", to, fa.Count))
			continue
		}
		lines := o.folder(to, fa, fb)
		limit := cmp.Or(o.Limit, 20)
		if limit > 0 && len(lines) > limit {
			lines = append(lines[:limit:limit], fmt.Sprintf("%s: and %d differences more", to, len(lines)-limit))
		}
		out = append(out, lines...)
	}
	for _, p := range slices.Sorted(maps.Keys(b.Folders)) {
		if f := b.Folders[p]; !known[p] && (o.OnlyB == nil || !o.OnlyB(p, f)) {
			out = append(out, fmt.Sprintf("%s: an unexpected folder (%d messages)", p, f.Count))
		}
	}
	if !o.NoSubscriptions {
		out = append(out, o.subscriptions(a, b, known)...)
	}
	return out
}

func (o DiffOptions) mapped(p Path) (Path, bool) {
	if o.Map == nil {
		return p, true
	}
	return o.Map(p)
}

// subscriptions compares those of folders that both have.
func (o DiffOptions) subscriptions(a, b Account, known map[Path]bool) (out []string) {
	want := map[Path]bool{}
	for p := range a.Subscribed {
		if to, counts := o.mapped(p); counts && known[to] {
			want[to] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(known)) {
		switch {
		case b.Folders[p] == nil:
		case want[p] && !b.Subscribed[p]:
			out = append(out, fmt.Sprintf("%s: not subscribed any more", p))
		case !want[p] && b.Subscribed[p]:
			out = append(out, fmt.Sprintf("%s: subscribed now", p))
		}
	}
	return out
}

// found is one message of a folder.
type found struct {
	Item
	uid     uint32
	subject string
}

func (f found) String() string {
	return fmt.Sprintf("%q, UID %d, %d bytes, %x", f.subject, f.uid, f.Size, f.Body[:4])
}

// items are the messages of a folder as far as they count, by what they are.
func (o DiffOptions) items(p Path, f *Contents) map[Item][]found {
	out := map[Item][]found{}
	for item, seen := range f.Messages {
		if o.Skip != nil && o.Skip(p, item) {
			continue
		}
		var flags []string
		for _, flag := range strings.Fields(item.Flags) {
			if o.Keep == nil || o.Keep(flag) {
				if o.FoldFlags {
					flag = strings.ToLower(flag)
				}
				flags = append(flags, flag)
			}
		}
		slices.Sort(flags)
		item.Flags = strings.Join(slices.Compact(flags), " ")
		if o.NoDates {
			item.Date = 0
		}
		for _, uid := range seen.UIDs {
			out[item] = append(out[item], found{item, uid, seen.Subject})
		}
	}
	return out
}

// folder compares one.
func (o DiffOptions) folder(p Path, fa, fb *Contents) (out []string) {
	left, right := o.items(p, fa), o.items(p, fb)
	var missing, extra []found
	for item, l := range left {
		n := min(len(l), len(right[item]))
		missing, extra = append(missing, l[n:]...), append(extra, right[item][n:]...)
	}
	for item, r := range right {
		if left[item] == nil {
			extra = append(extra, r...)
		}
	}
	byUID := func(x, y found) int { return cmp.Compare(x.uid, y.uid) }
	slices.SortFunc(missing, byUID)
	slices.SortFunc(extra, byUID)
	bodies := map[[32]byte]bool{}
	for _, e := range extra {
		bodies[e.Body] = true
	}
	for _, m := range missing {
		// the same text with other flags or another date is one difference, not two
		i := -1
		if bodies[m.Body] {
			i = slices.IndexFunc(extra, func(e found) bool { return e.Body == m.Body && (e.Flags == m.Flags || e.Date == m.Date) })
		}
		if i < 0 && bodies[m.Body] {
			i = slices.IndexFunc(extra, func(e found) bool { return e.Body == m.Body })
		}
		if i < 0 {
			out = append(out, fmt.Sprintf("%s: missing: %s, flags (%s), %s", p, m, m.Flags, date(m.Date)))
			continue
		}
		e := extra[i]
		extra = slices.Delete(extra, i, i+1)
		if e.Flags != m.Flags {
			out = append(out, fmt.Sprintf("%s: flags (%s), want (%s): %s", p, e.Flags, m.Flags, m))
		}
		if e.Date != m.Date {
			out = append(out, fmt.Sprintf("%s: date %s, want %s: %s", p, date(e.Date), date(m.Date), m))
		}
	}
	for _, e := range extra {
		out = append(out, fmt.Sprintf("%s: unexpected: %s, flags (%s), %s", p, e, e.Flags, date(e.Date)))
	}
	return out
}

func date(t int64) string { return time.Unix(t, 0).UTC().Format("2006-01-02 15:04:05Z") }
