package syncer

import (
	"context"
	"maps"
	"slices"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// fate is what became of messages whose append had an unknown outcome, by the index of the item.
type fate struct {
	deleted map[int]uint32 // arrived under that UID, and was deleted by its owner
	doubt   map[int]bool   // perhaps
}

// arrivedAndGone tells which of the items that were not found had arrived where people work, and were deleted there before anybody looked. A UID
// that was given out since the append began, and is in nothing known, is of something that has gone. Appends come in order: what stands between
// two that were found, as many as are gone there and each deleted by a client of the gateway, are the deleted ones. Behind the last that was found it may
// as well have been other mail: as many of the items as have gone may be of those, and are neither appended anew nor deleted.
func (p *pass) arrivedAndGone(ctx context.Context, dst *backend.Client, f *folder, in Intent, items []item, found map[int]merge.Entry) (x fate, err error) {
	if in.Side != p.authority || len(found) == len(items) || in.UIDNext == 0 {
		return x, nil
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
		return x, err
	}
	next := sel.UIDNext
	if sel.Exists > 0 {
		err = dst.Fetch(openRange(in.UIDNext), backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
			taken[m.UID] = true
			next = max(next, m.UID+1)
			return nil
		}}).Wait(ctx)
		if err != nil {
			return x, err
		}
	}
	x = fate{deleted: map[int]uint32{}, doubt: map[int]bool{}}
	proven := p.provenUIDs(f)
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
		var gaps []uint32
		for u := after + 1; u < before && len(gaps) <= j-i; u++ {
			if !taken[u] {
				gaps = append(gaps, u)
			}
		}
		sure := j < len(items) && len(gaps) == j-i && !slices.ContainsFunc(gaps, func(u uint32) bool { return !proven.Has(u) })
		for k := i; k < j && len(gaps) > 0; k++ {
			switch {
			case sure:
				x.deleted[k] = gaps[k-i]
			case j < len(items) || k-i < len(gaps):
				x.doubt[k] = true
			}
		}
		i = j - 1
	}
	if len(x.deleted)+len(x.doubt) > 0 {
		p.s.o.Log.Info("mail was deleted before it was known to have arrived", "user", p.user, "folder", f.name(), "surely", len(x.deleted), "perhaps", len(x.doubt))
	}
	return x, nil
}

// provenUIDs are what clients are known to have deleted in a folder of the side that decides, one by one.
func (p *pass) provenUIDs(f *folder) (out imapwire.Spans) {
	for _, at := range p.spots(f.was.Name[p.authority], uint64(f.box.Validity[p.authority])) {
		for _, x := range p.proofs[at] {
			if x.sure() {
				for _, r := range x.uids {
					out = out.Add(r.First, r.Last)
				}
			}
		}
	}
	return out
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
