package syncer

import (
	"cmp"
	"context"
	"slices"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// offer is a folder that may be what a stored mailbox, whose name is gone, is called now: it holds as many messages, but nothing
// that a server tells proves it. Courier gives a folder that is renamed another UIDVALIDITY and its messages other UIDs.
type offer struct {
	side config.Side // where it was perhaps renamed
	s    *seen
	e    *entry
}

// recognize looks into folders that may have been renamed. Only when all messages are the same, one by one in their order, is it a
// rename: then nobody can tell it from one. In any other case it is a new folder into which mail was moved, and the old
// one is gone, which is right as well.
func (p *pass) recognize(ctx context.Context, known []Mailbox) error {
	pl := newPlanner(p.user, p.authority, p.sides, known, p.s.o.Rules)
	list := pl.findKnown()
	if err := p.interrupted(ctx, pl, list); err != nil {
		return err
	}
	for _, o := range pl.offers {
		if o.s.at[o.side] != nil || o.s.at[o.side.Other()] == nil || p.sides[o.side].Renamed[o.e.raw] != 0 {
			continue // found, or nothing to compare with
		}
		same, err := p.sameContent(ctx, o)
		if err != nil {
			return err
		}
		if same {
			p.renamedTo(o.side, o.e.raw, o.s.box.ID)
		}
	}
	return nil
}

// renamedTo notes what a stored mailbox is called on a side now.
func (p *pass) renamedTo(side config.Side, raw string, id int64) {
	if p.sides[side].Renamed == nil {
		p.sides[side].Renamed = map[string]int64{}
	}
	p.sides[side].Renamed[raw] = id
}

// interrupted finds folders that a pass was renaming when it ended, where a rename gives another identity: the old name is gone and the
// new one there, so the rename was done, and whatever became of the folder on the other side meanwhile, this is the one.
func (p *pass) interrupted(ctx context.Context, pl *planner, list []*seen) error {
	by := map[int64]*seen{}
	gone := false
	for _, s := range list {
		by[s.box.ID] = s
		for _, side := range config.Sides {
			gone = gone || s.at[side] == nil && s.box.Name[side] != ""
		}
	}
	if !gone {
		return nil
	}
	open, err := p.s.o.Store.Intents(ctx, p.user)
	if err != nil {
		return storeError{err}
	}
	given := [2]map[string]bool{{}, {}} // the names that such renames give: what stands there now may be the one or the other
	for _, in := range open {
		if to, _, err := decodeRename(in.Payload); in.Kind == IntentRename && err == nil {
			given[in.Side][pl.key(in.Side, to)] = true
		}
	}
	lost := func(s *seen, side config.Side) bool {
		e := s.at[side]
		return e == nil || !e.path.inbox && given[side][pl.key(side, e.raw)] && another(s.box, side, e.status)
	}
	for _, in := range open {
		s := by[in.Mailbox]
		if in.Kind != IntentRename || s == nil || !lost(s, in.Side) || s.box.Validity[in.Side] != in.Validity {
			continue
		}
		to, _, err := decodeRename(in.Payload)
		if err != nil {
			continue // numbers drops it
		}
		e := pl.byKey[in.Side][pl.key(in.Side, to)]
		if to != "" && e != nil && e.raw == to && e.selectable && (e.known == 0 || lost(by[e.known], in.Side)) && another(s.box, in.Side, e.status) {
			p.renamedTo(in.Side, to, in.Mailbox)
		}
	}
	return nil
}

// sameContent compares a folder with what the other side has of a stored mailbox, whose every message must still be there.
func (p *pass) sameContent(ctx context.Context, o offer) (same bool, err error) {
	box, side, other := o.s.box, o.side, o.side.Other()
	chunks, err := p.s.o.Store.Chunks(ctx, box.ID)
	if err != nil {
		return false, storeError{err}
	}
	set, err := loadPairs(chunks)
	if err != nil || set.len() == 0 {
		return false, nil //nolint:nilerr // damage shows when the folder is loaded
	}
	pairs := slices.Clone(set.all())
	slices.SortFunc(pairs, func(a, b merge.Pair) int { return cmp.Compare(a.UID[side], b.UID[side]) })
	kept := make([]uint32, len(pairs))
	for i, q := range pairs {
		kept[i] = q.UID[other]
	}
	err = p.both(ctx, side, func(src, dst *backend.Client) error {
		same = false
		sel, err := dst.Select(o.e.raw, backend.SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil || int(sel.Exists) != len(pairs) {
			return err
		}
		there, err := src.Select(o.s.at[other].raw, backend.SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil || there.Validity != box.Validity[other] {
			return err
		}
		var uids []uint32
		err = dst.Fetch("1:*", backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
			uids = append(uids, m.UID)
			return nil
		}}).Wait(ctx)
		if err != nil {
			return err
		}
		slices.Sort(uids)
		if uids = slices.Compact(uids); len(uids) != len(pairs) {
			return nil
		}
		same, err = sameMessages(ctx, [2]*backend.Client{src, dst}, [2][]uint32{kept, uids})
		return err
	})
	if refused(err) {
		return false, nil
	}
	return same, err
}

// sameMessages compares messages of the mailboxes that are selected, the first with the first: dates, sizes and the header
// fields that no server changes; where there is no Message-ID the whole message.
func sameMessages(ctx context.Context, conns [2]*backend.Client, uids [2][]uint32) (bool, error) {
	var known [2]map[uint32]digest
	for i, c := range conns {
		list, err := digests(ctx, c, slices.Sorted(slices.Values(uids[i])))
		if err != nil {
			return false, err
		}
		known[i] = make(map[uint32]digest, len(list))
		for _, d := range list {
			known[i][d.uid] = d
		}
	}
	var weak [2][]uint32
	for i := range uids[0] {
		a, b := known[0][uids[0][i]], known[1][uids[1][i]]
		if a.uid == 0 || b.uid == 0 || a.header != b.header || a.date != b.date || a.size != b.size {
			return false, nil
		}
		if a.weak {
			weak[0], weak[1] = append(weak[0], a.uid), append(weak[1], b.uid)
		}
	}
	if len(weak[0]) == 0 {
		return true, nil
	}
	var sums [2]map[uint32][32]byte
	for i, c := range conns {
		var err error
		if sums[i], err = bodies(ctx, c, slices.Sorted(slices.Values(weak[i])), false); err != nil {
			return false, err
		}
	}
	for i := range weak[0] {
		a, okA := sums[0][weak[0][i]]
		if b, okB := sums[1][weak[1][i]]; !okA || !okB || a != b {
			return false, nil
		}
	}
	return true, nil
}
