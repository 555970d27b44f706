package syncer

import (
	"context"
	"slices"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// Some hosts give a message another UID under the same UIDVALIDITY: two sessions of Courier write its list of UIDs at once, or a Maildir is
// read while a file in it gets another name, and the message is gone from one look and new in the next. Neither a delete nor mail that came
// late: it is paired under its new UID, and nothing is carried.

// counts tells that a side says itself what has gone (RFC 7162), and does not leave it to be found missing.
func (f *folder) counts(side config.Side) bool {
	return f.status[side] != nil && f.status[side].HasHighestModSeq && f.status[side].HighestModSeq > 0
}

// lookTwice looks once more for what a side does not show any more, before it is made again or deleted on the other: what that finds is put
// into snap. It tells whether that is another than it was.
func (p *pass) lookTwice(ctx context.Context, f *folder, snap *[2][]merge.Entry, res merge.Result) (changed bool, err error) {
	follower := p.authority.Other()
	pairs := f.pairs.all()
	for _, side := range config.Sides {
		var gone []int
		switch {
		case !f.Exists[side]:
		case side == follower && !p.opts.Leave:
			if gone = res.Recreate[side]; !f.counts(side) {
				gone = slices.Concat(gone, res.Drop)
			}
		case side == p.authority && !f.counts(side):
			gone = res.Expunge[follower]
		}
		if len(gone) == 0 {
			continue
		}
		var lost []uint32
		for _, i := range gone {
			if uid := pairs[i].UID[side]; uid != 0 && !has(snap[side], uid) {
				lost = append(lost, uid)
			}
		}
		slices.Sort(lost)
		found, err := p.lookFrom(ctx, f, side, snap[side], slices.Compact(lost))
		if err != nil {
			return false, err
		}
		if len(found) > 0 {
			s := &snapshot{entries: append(slices.Clone(snap[side]), found...)}
			s.order()
			snap[side], changed = s.entries, true
		}
	}
	return changed, nil
}

// lookFrom reads what of some UIDs is there, and what is behind all that is known.
func (p *pass) lookFrom(ctx context.Context, f *folder, side config.Side, known []merge.Entry, uids []uint32) (found []merge.Entry, err error) {
	next := uint32(1)
	if len(known) > 0 {
		next = known[len(known)-1].UID + 1
	}
	err = p.on(ctx, side, func(c *backend.Client) error {
		found = nil
		sel, err := c.Select(f.Name[side], backend.SelectOptions{ReadOnly: p.opts.DryRun || c.Has("CONDSTORE")}).Result(ctx)
		if err != nil {
			return err
		}
		if sel.Validity != f.validity(side) {
			return errReset
		}
		if sel.Exists == 0 {
			return nil
		}
		for _, set := range append(imapwire.SplitUIDs(uids, lineLength), openRange(next)) {
			err := c.Fetch(set, backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
				if m.HasFlags && !has(known, m.UID) { // n:* names the last message even where it is below n
					f.mu.Lock()
					defer f.mu.Unlock()
					found = append(found, merge.Entry{UID: m.UID, Flags: f.dict.ID(m.Flags)})
				}
				return nil
			}}).Wait(ctx)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// newNumbers pairs messages of a side under the UIDs that they have got there: gone from a pair, and new with the same content. It tells whether
// there were any. What was new a moment ago and has another UID again may be what is gone: then nothing is deleted, or made anew, in this pass.
func (p *pass) newNumbers(ctx context.Context, f *folder, side config.Side, res merge.Result) (found bool, err error) {
	gone := res.Recreate[side]
	if side == p.authority {
		if f.counts(side) { // a move within the folder, or the like: deleted and copied anew, as it was
			return false, nil
		}
		gone = res.Expunge[side.Other()]
	}
	n, err := p.numbersAnew(ctx, f, side, gone, res.Create[side.Other()])
	return n > 0, err
}

func (p *pass) numbersAnew(ctx context.Context, f *folder, side config.Side, gone []int, fresh []merge.Entry) (n int, err error) {
	other := side.Other()
	var uids [2][]uint32
	partner := map[uint32]merge.Pair{} // by the UID on the other side
	pairs := f.pairs.all()
	for _, i := range gone {
		uids[other] = append(uids[other], pairs[i].UID[other])
		partner[pairs[i].UID[other]] = pairs[i]
	}
	for _, e := range fresh {
		if !slices.ContainsFunc(f.quar, func(q Quarantined) bool { return q.Side == side && q.UID == e.UID && q.Validity == f.validity(side) }) {
			uids[side] = append(uids[side], e.UID)
		}
	}
	if len(uids[0]) == 0 || len(uids[1]) == 0 || len(uids[0])+len(uids[1]) > maxMoves {
		return 0, nil
	}
	err = p.both(ctx, side, func(src, dst *backend.Client) error {
		n = 0
		var conns [2]*backend.Client
		conns[other], conns[side] = src, dst
		for s, c := range conns {
			if _, err := c.Select(f.Name[s], backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
				return err
			}
		}
		same, shown, err := alike(ctx, conns, uids)
		if err != nil {
			return err
		}
		f.unsteady[side] = len(same) < len(gone) && shown[side] < len(uids[side])
		for _, x := range same {
			q := partner[x[other]]
			f.pairs.remove(q.UID[config.Old])
			q.UID[side] = x[side]
			f.pairs.put(q)
		}
		n = len(same)
		return nil
	})
	if err != nil {
		return 0, err
	}
	if n > 0 {
		p.s.o.Log.Info("messages have got other UIDs", "user", p.user, "folder", f.name(), "side", side, "messages", n)
	}
	return n, nil
}

// alike pairs messages of the mailboxes that are selected by content; the list has their UIDs. shown is how many of those asked for are there.
func alike(ctx context.Context, conns [2]*backend.Client, uids [2][]uint32) (list [][2]uint32, shown [2]int, err error) {
	var d [2][]digest
	for side, c := range conns {
		slices.Sort(uids[side])
		if d[side], err = digests(ctx, c, uids[side]); err != nil {
			return nil, shown, err
		}
		shown[side] = len(d[side])
	}
	same, err := matchDigests(ctx, d[0], d[1], [2]hasher{hashOf(conns[0]), hashOf(conns[1])})
	if err != nil {
		return nil, shown, err
	}
	for _, x := range same {
		list = append(list, [2]uint32{d[0][x[0]].uid, d[1][x[1]].uid})
	}
	return list, shown, nil
}

// deletedAndNumbered sets aside what may have got another UID on the follower while it was deleted on the side that decides: both messages of a pair
// are gone, and the follower shows mail that was not there and may be older than the last look. Nothing is known of the contents of such a
// pair, so it can be told neither from mail that somebody has moved here, which must not be lost, nor carried, which might bring it back. Dates are
// by the host's clock and the last look by ours, so mail counts as newer only by more than clocks may be apart; and a date says nothing where the pair
// was made since that look, nor does one that is still to come.
func (p *pass) deletedAndNumbered(ctx context.Context, f *folder, res merge.Result) error {
	follower := p.authority.Other()
	fresh := res.Create[p.authority]
	pairs := f.pairs.all()
	if f.counts(follower) || len(fresh) == 0 || !slices.ContainsFunc(res.Drop, func(i int) bool { return pairs[i].UID[0] != 0 && pairs[i].UID[1] != 0 }) {
		return nil
	}
	cur := f.box.Cursor[follower]
	later := slices.ContainsFunc(res.Drop, func(i int) bool { return pairs[i].UID[follower] >= cur.UIDNext }) || cur.Scanned.IsZero()
	uids := make([]uint32, len(fresh))
	for i, e := range fresh {
		uids[i] = e.UID
	}
	var d []digest
	err := p.on(ctx, follower, func(c *backend.Client) error {
		if _, err := c.Select(f.Name[follower], backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
			return err
		}
		var err error
		d, err = digests(ctx, c, uids)
		return err
	})
	if err != nil {
		return err
	}
	if len(d) < len(uids) { // it has got yet another UID: until it keeps one nobody can tell what it is
		f.unsteady[follower] = true
	}
	for _, x := range d {
		if later || x.date < cur.Scanned.Add(skew).Unix() || x.date > p.s.o.Now().Add(skew).Unix() {
			p.doubt(f, follower, x.uid, "perhaps a message that was deleted meanwhile, and has another UID here now")
		}
	}
	return nil
}

// there are the messages of pairs that a side shows in the mailbox that is selected. On a host that may give other UIDs, what it does not show need not
// be gone: the next pass looks.
func (p *pass) there(ctx context.Context, c *backend.Client, f *folder, side config.Side, uids []uint32) ([]uint32, error) {
	if f.counts(side) {
		return uids, nil
	}
	var out []uint32
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		err := c.Fetch(set, backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
			if m.HasFlags {
				out = append(out, m.UID)
			}
			return nil
		}}).Wait(ctx)
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(u uint32) bool { _, asked := slices.BinarySearch(uids, u); return !asked }), nil
}
