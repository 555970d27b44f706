package syncer

import (
	"context"
	"slices"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// look finds messages among what stands at or above a UID of a side and is in no pair. The result goes from the index of
// an item to its copy, with the flags that the follower has of it. since is when their appends may have begun.
func (p *pass) look(ctx context.Context, src, dst *backend.Client, f *folder, to config.Side, from uint32, items []item, since time.Time) (map[int]merge.Entry, error) {
	opened := [2]*backend.SelectCommand{}
	opened[to] = dst.Select(f.Name[to], backend.SelectOptions{ReadOnly: true})
	if f.Exists[to.Other()] { // otherwise all originals are gone
		opened[to.Other()] = src.Select(f.Name[to.Other()], backend.SelectOptions{ReadOnly: true})
	}
	var there []uint32
	flags := map[uint32]merge.Flags{}
	fetch := dst.Fetch(openRange(max(from, 1)), backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
		if m.UID >= from && m.HasFlags { // n:* names the last message even where it is below n
			f.mu.Lock()
			defer f.mu.Unlock()
			there, flags[m.UID] = append(there, m.UID), f.dict.ID(m.Flags)
		}
		return nil
	}})
	var exists uint32
	for side, s := range opened {
		if s == nil {
			continue
		}
		sel, err := s.Result(ctx)
		if err != nil {
			return nil, err
		}
		if config.Side(side) == to {
			exists = sel.Exists
			if st := f.status[to]; st != nil && sel.Validity != st.Validity {
				return nil, errReset
			}
		}
	}
	if err := fetch.Wait(ctx); err != nil && !(refused(err) && exists == 0) {
		return nil, err
	}
	paired := map[uint32]bool{}
	for _, q := range f.pairs.all() {
		if q.UID[to] >= from {
			paired[q.UID[to]] = true
		}
	}
	slices.Sort(there)
	there = slices.DeleteFunc(slices.Compact(there), func(u uint32) bool { return paired[u] })
	found := map[int]merge.Entry{}
	if len(there) == 0 || len(items) == 0 {
		return found, nil
	}
	uids := make([]uint32, len(items))
	index := make(map[uint32]int, len(items))
	for i, it := range items {
		uids[i], index[it.uid] = it.uid, i
	}
	var a []digest
	var err error
	if opened[to.Other()] != nil {
		if a, err = digests(ctx, src, uids); err != nil {
			return nil, err
		}
	}
	b, err := digests(ctx, dst, there)
	if err != nil {
		return nil, err
	}
	pairs, err := matchDigests(ctx, a, b, [2]hasher{hashOf(src), hashOf(dst)})
	if err != nil {
		return nil, err
	}
	taken := map[uint32]bool{}
	for _, x := range pairs {
		found[index[a[x[0]].uid]] = merge.Entry{UID: b[x[1]].uid}
		taken[b[x[1]].uid] = true
	}
	rewritten(index, a, b, found, taken)
	orphans(items, a, b, found, taken, since.Add(-skew).Unix())
	twinsByFlags(items, b, flags, found)
	originals := map[uint32]merge.Flags{}
	if to == p.authority && opened[to.Other()] != nil && len(found) > 0 {
		if originals, err = f.flagsAt(ctx, src, uids); err != nil {
			return nil, err
		}
	}
	for i, e := range found {
		e.Flags = flags[e.UID]
		if to == p.authority {
			e.Flags = originals[items[i].uid]
		}
		found[i] = e
	}
	return found, nil
}

// flagsAt reads the flags of messages in the mailbox that is open.
func (f *folder) flagsAt(ctx context.Context, c *backend.Client, uids []uint32) (map[uint32]merge.Flags, error) {
	out := make(map[uint32]merge.Flags, len(uids))
	var list []*backend.Command
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		list = append(list, c.Fetch(set, backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
			if m.HasFlags {
				f.mu.Lock()
				defer f.mu.Unlock()
				out[m.UID] = f.dict.ID(m.Flags)
			}
			return nil
		}}))
	}
	err := waitAll(ctx, list)
	return out, err
}

// rewritten finds the copies that a server has changed while it stored them: they arrived since, and have the Message-ID and the date
// that was asked for.
func rewritten(index map[uint32]int, originals, there []digest, found map[int]merge.Entry, taken map[uint32]bool) {
	type key struct {
		date int64
		id   [12]byte
	}
	left := map[key][]uint32{}
	for _, d := range there {
		if !d.weak && !taken[d.uid] {
			left[key{d.date, d.id}] = append(left[key{d.date, d.id}], d.uid)
		}
	}
	for _, d := range originals {
		i, k := index[d.uid], key{d.date, d.id}
		if _, ok := found[i]; ok || d.weak || len(left[k]) == 0 {
			continue
		}
		found[i], taken[left[k][0]] = merge.Entry{UID: left[k][0]}, true
		left[k] = left[k][1:]
	}
}

// skew is how far the clocks of hosts may be apart.
const skew = 10 * time.Minute

// orphans finds the copies of messages whose originals have been deleted since: those of the same date that stand in the
// place, between the copies of the items before and behind, where theirs would stand. Mail dated after recent (in seconds since
// 1970) may have been delivered in that very second: it has to have the size too, or stays a suspect.
func orphans(items []item, alive, there []digest, found map[int]merge.Entry, taken map[uint32]bool, recent int64) {
	living := map[uint32]bool{}
	for _, d := range alive {
		living[d.uid] = true
	}
	after := uint32(0)
	for i, it := range items {
		if e, ok := found[i]; ok {
			after = e.UID
			continue
		}
		if living[it.uid] || !it.dated {
			continue
		}
		like := func(d digest) bool {
			return !taken[d.uid] && d.date == it.date && (it.date <= recent || d.size == it.size)
		}
		before := ^uint32(0)
		for j := i + 1; j < len(items); j++ {
			if e, ok := found[j]; ok {
				before = e.UID
				break
			}
		}
		for _, d := range there {
			if d.uid > after && d.uid < before && like(d) {
				found[i], taken[d.uid], after = merge.Entry{UID: d.uid}, true, d.uid
				break
			}
		}
		if _, ok := found[i]; ok {
			continue
		}
		for _, d := range there { // a twin that lives may have been given its place: then the other copy is left over
			if like(d) && slices.ContainsFunc(there, func(x digest) bool {
				return taken[x.uid] && x.date == d.date && x.size == d.size && x.header == d.header
			}) {
				found[i], taken[d.uid] = merge.Entry{UID: d.uid}, true
				break
			}
		}
	}
}

// twinsByFlags gives each of several items of one content the copy that has its flags, so far as there is one: they were appended with
// them, and nothing else tells such copies apart.
func twinsByFlags(items []item, there []digest, flags map[uint32]merge.Flags, found map[int]merge.Entry) {
	type content struct {
		date, size int64
		header     [12]byte
	}
	of := make(map[uint32]content, len(there))
	for _, d := range there {
		of[d.uid] = content{d.date, d.size, d.header}
	}
	groups := map[content][]int{}
	for i := range items {
		if e, ok := found[i]; ok {
			groups[of[e.UID]] = append(groups[of[e.UID]], i)
		}
	}
	for _, group := range groups {
		if len(group) < 2 {
			continue
		}
		copies := map[merge.Flags][]uint32{}
		for _, i := range group {
			uid := found[i].UID
			copies[flags[uid]] = append(copies[flags[uid]], uid)
		}
		var left []int
		for _, i := range group {
			like := merge.Flags(items[i].flags)
			if len(copies[like]) == 0 {
				left = append(left, i)
				continue
			}
			found[i] = merge.Entry{UID: copies[like][0]}
			copies[like] = copies[like][1:]
		}
		var rest []uint32
		for _, list := range copies {
			rest = append(rest, list...)
		}
		slices.Sort(rest)
		for k, i := range left {
			found[i] = merge.Entry{UID: rest[k]}
		}
	}
}

func hashOf(c *backend.Client) hasher {
	return func(ctx context.Context, uids []uint32, text bool) (map[uint32][32]byte, error) {
		return bodies(ctx, c, uids, text)
	}
}
