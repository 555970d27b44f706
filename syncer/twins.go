package syncer

import (
	"context"
	"slices"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// reasonSuspect is the quarantine of mail that may be a late copy of a message deleted since: it is neither carried over nor
// deleted.
const reasonSuspect = "suspect"

// twins removes appends that came true after they had been done again (uid-stable.md, section 4.6, "zombie append"): what
// is in no pair, arrived since, and equals to the last byte, the date included, a message that was appended twice. Each
// attempt can have left one at most.
func (p *pass) twins(ctx context.Context, f *folder, snap *[2][]merge.Entry) error {
	if p.opts.DryRun {
		return nil
	}
	for i := range p.intents {
		in := &p.intents[i]
		if in.Mailbox != f.box.ID || in.Kind != IntentSuspect || f.validity(in.Side) != in.Validity {
			continue
		}
		items, err := decodeItems(in.Payload)
		if err != nil {
			return err
		}
		if err := p.twinsOf(ctx, f, snap, in, items); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) twinsOf(ctx context.Context, f *folder, snap *[2][]merge.Entry, in *Intent, items []item) error {
	side := in.Side
	copies := map[uint32]uint32{} // UID of the original -> of its copy
	paired := map[uint32]bool{}
	for _, q := range f.pairs.all() {
		copies[q.UID[side.Other()]] = q.UID[side]
		paired[q.UID[side]] = true
	}
	var fresh []uint32
	for _, e := range snap[side] {
		if e.UID >= in.UIDNext && !paired[e.UID] && !f.decided(side, e.UID) {
			fresh = append(fresh, e.UID)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	var intents []int64
	var twins []uint32
	var left []item
	err := p.on(ctx, side, func(c *backend.Client) error {
		twins, left = nil, nil
		// backHere takes a message that somebody has moved away and back for one of those.
		var away []digest
		looked := false
		backHere := func(x digest) (bool, error) {
			if !looked {
				var err error
				if away, err = p.away(ctx, side); err != nil {
					return false, err
				}
				looked = true
			}
			i := slices.IndexFunc(away, func(a digest) bool { return a.size == x.size && a.header == x.header })
			if i >= 0 {
				away = slices.Delete(away, i, i+1)
			}
			return i >= 0, nil
		}
		if _, err := c.Select(f.Name[side], backend.SelectOptions{}).Result(ctx); err != nil {
			return err
		}
		d, err := digests(ctx, c, fresh)
		if err != nil {
			return err
		}
		byDate := map[int64][]digest{}
		for _, x := range d {
			byDate[x.date] = append(byDate[x.date], x)
		}
		for _, it := range items {
			list := byDate[it.date]
			uid, known := copies[it.uid]
			if len(list) == 0 {
				left = append(left, it)
				continue
			}
			if !known {
				if !has(snap[side.Other()], it.uid) { // deleted since: which of these is its copy nobody can tell
					var rest []digest
					for _, x := range list {
						back, err := backHere(x)
						if err != nil {
							return err
						}
						if !back {
							rest = append(rest, x)
							p.doubt(f, side, x.uid, "perhaps a late copy of a message that was deleted meanwhile")
						}
					}
					byDate[it.date] = rest
				}
				left = append(left, it)
				continue
			}
			twin, err := sameAs(ctx, c, uid, list)
			if err != nil {
				return err
			}
			if twin == 0 {
				left = append(left, it)
				continue
			}
			at := slices.IndexFunc(list, func(x digest) bool { return x.uid == twin })
			back, err := backHere(list[at])
			if err != nil {
				return err
			}
			byDate[it.date] = slices.Delete(slices.Clone(list), at, at+1)
			if back { // this is it
				left = append(left, it)
				continue
			}
			twins = append(twins, twin)
		}
		if len(twins) == 0 {
			return nil
		}
		slices.Sort(twins)
		ids, err := p.remove(ctx, c, f, side, twins)
		intents = append(intents, ids...)
		return err
	})
	if err != nil || len(twins) == 0 {
		return err
	}
	snap[side] = slices.DeleteFunc(slices.Clone(snap[side]), func(e merge.Entry) bool { return slices.Contains(twins, e.UID) })
	p.s.o.Log.Info("removed late copies of appends that were done again", "user", p.user, "folder", f.name(), "messages", len(twins))
	c := Change{DropIntents: append(intents, in.ID)}
	if len(left) > 0 {
		next := *in
		next.ID, next.Payload = 0, encodeItems(left)
		c.AddIntents = append(c.AddIntents, next)
	}
	a, err := p.write(ctx, c)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		in.ID, in.Payload = a.Intents[0], encodeItems(left)
	} else {
		in.Mailbox = 0
	}
	return nil
}

// away are the messages of all folders whose copies on a side are gone, as the other side shows them.
func (p *pass) away(ctx context.Context, side config.Side) (out []digest, err error) {
	other := side.Other()
	for _, f := range p.folders {
		uids, err := p.partnersOfGone(ctx, f, side)
		if err != nil {
			return nil, err
		}
		if len(uids) == 0 {
			continue
		}
		slices.Sort(uids)
		err = p.on(ctx, other, func(c *backend.Client) error {
			if _, err := c.Select(f.Name[other], backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
				return err
			}
			list, err := digests(ctx, c, uids)
			out = append(out, list...)
			return err
		})
		if err != nil && !refused(err) {
			return nil, err
		}
	}
	return out, nil
}

// partnersOfGone are the UIDs on the other side of what a side has no more. Of a folder that is merged already its work tells.
func (p *pass) partnersOfGone(ctx context.Context, f *folder, side config.Side) (uids []uint32, err error) {
	other := side.Other()
	switch {
	case f.err != nil || f.snap[side] == nil || !f.Exists[other]:
	case f.work.merged && side == p.authority:
		for _, q := range f.work.expunge[other] {
			uids = append(uids, q.UID[other])
		}
	case f.work.merged:
		for _, it := range f.work.create[side] {
			if it.again != 0 {
				uids = append(uids, it.uid)
			}
		}
	default:
		if f.pairs == nil {
			if err := p.load(ctx, f); err != nil {
				return nil, err
			}
		}
		snap := [2][]merge.Entry{f.whole(config.Old), f.whole(config.New)}
		for _, q := range f.pairs.all() {
			if !has(snap[side], q.UID[side]) && has(snap[other], q.UID[other]) {
				uids = append(uids, q.UID[other])
			}
		}
	}
	return uids, nil
}

// sameAs finds the message of a list that equals another of the selected mailbox in everything; 0 when there is none.
func sameAs(ctx context.Context, c *backend.Client, uid uint32, list []digest) (uint32, error) {
	d, err := digests(ctx, c, []uint32{uid})
	if err != nil || len(d) == 0 {
		return 0, err
	}
	var uids []uint32
	for _, x := range list {
		if x.size == d[0].size && x.header == d[0].header {
			uids = append(uids, x.uid)
		}
	}
	if len(uids) == 0 {
		return 0, nil
	}
	sums, err := bodies(ctx, c, append(slices.Clone(uids), uid), false)
	if err != nil {
		return 0, err
	}
	for _, u := range uids {
		if sums[u] == sums[uid] {
			return u, nil
		}
	}
	return 0, nil
}

// doubt puts a message into quarantine for a person to decide.
func (p *pass) doubt(f *folder, side config.Side, uid uint32, detail string) {
	for _, q := range f.quar {
		if q.Side == side && q.UID == uid {
			return
		}
	}
	now := p.s.o.Now()
	f.quar = append(f.quar, Quarantined{User: p.user, Mailbox: f.box.ID, Side: side, Validity: f.validity(side), UID: uid, Reason: reasonSuspect,
		Detail: detail, First: now, Last: now})
	p.newQuarantine = append(p.newQuarantine, f.quar[len(f.quar)-1])
}
