package syncer

import (
	"context"
	"maps"
	"slices"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// perhapsGone tells which of the items that were not found, by their index, had perhaps arrived where people work, and were deleted there before
// anybody looked. A UID that was given out since the append began, and is in nothing known, is of something that has gone. That can be other mail:
// what was delivered between two copies of ours, where a host has refused the one that is missing, or was not given it, and its owner has deleted
// since. Nothing tells these apart, also where a client is known to have deleted that UID, so such items are neither appended anew nor deleted.
// Appends come in order: what is missing between two that were found may be any of what has gone there, and behind the last one as many items as
// have gone.
func (p *pass) perhapsGone(ctx context.Context, dst *backend.Client, f *folder, in Intent, items []item, found map[int]merge.Entry) (map[int]bool, error) {
	if in.Side != p.authority || len(found) == len(items) || in.UIDNext == 0 {
		return nil, nil
	}
	taken := map[uint32]bool{}
	for _, q := range f.pairs.all() {
		taken[q.UID[in.Side]] = true
	}
	for _, q := range f.quar {
		if q.Side == in.Side {
			taken[q.UID] = true
		}
	}
	for _, e := range found {
		taken[e.UID] = true
	}
	sel, err := dst.Select(f.Name[in.Side], backend.SelectOptions{ReadOnly: dst.Has("CONDSTORE")}).Result(ctx)
	if err != nil {
		return nil, err
	}
	next := sel.UIDNext
	if sel.Exists > 0 {
		err = dst.Fetch(openRange(in.UIDNext), backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
			taken[m.UID] = true
			next = max(next, m.UID+1)
			return nil
		}}).Wait(ctx)
		if err != nil {
			return nil, err
		}
	}
	doubt := map[int]bool{}
	for i, after := 0, in.UIDNext-1; i < len(items); i++ {
		if e, ok := found[i]; ok {
			after = max(after, e.UID)
			continue
		}
		j, before := i, next
		for ; j < len(items); j++ {
			if e, ok := found[j]; ok {
				before = e.UID
				break
			}
		}
		gaps := 0
		for u := after + 1; u < before && gaps < j-i; u++ {
			if !taken[u] {
				gaps++
			}
		}
		for k := i; k < j && gaps > 0; k++ {
			if j < len(items) || k-i < gaps {
				doubt[k] = true
			}
		}
		i = j - 1
	}
	if len(doubt) > 0 {
		p.s.o.Log.Info("mail was perhaps deleted before it was known to have arrived", "user", p.user, "folder", f.name(), "messages", len(doubt))
	}
	return doubt, nil
}

// setAside puts originals into quarantine whose copies may have been deleted by their owner.
func (f *folder) setAside(p *pass, side config.Side, items []item, doubt map[int]bool) (list []Quarantined) {
	now := p.s.o.Now()
	for _, i := range slices.Sorted(maps.Keys(doubt)) {
		if slices.ContainsFunc(f.quar, func(q Quarantined) bool { return q.Side == side && q.UID == items[i].uid }) {
			continue
		}
		list = append(list, Quarantined{User: p.user, Mailbox: f.box.ID, Side: side, Validity: f.validity(side), UID: items[i].uid, Reason: reasonSuspect,
			Detail: "its copy had perhaps arrived on the other side, and was deleted there", First: now, Last: now})
	}
	f.quar = append(f.quar, list...)
	return list
}
