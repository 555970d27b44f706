package syncer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"mailgate/backend"
	"mailgate/config"
)

// numbered is what a mailbox held before a rename of ours.
type numbered struct {
	f      *folder
	side   config.Side
	list   []marked
	intent int64
}

// marked is a message with what it is known by: its size, date and header.
type marked struct {
	uid  uint32
	mark int64
}

// numbers notes the UIDs of mailboxes that are about to be renamed where that may give them others (Courier does): by content alone
// nobody could tell afterwards a message that was deleted on the other side from one that is new here. What a pass before this one
// noted, and did not see the end of, comes first.
func (p *pass) numbers(ctx context.Context) ([]numbered, error) {
	open, err := p.s.o.Store.Intents(ctx, p.user)
	if err != nil {
		return nil, storeError{err}
	}
	var out []numbered
	var stale []int64
	for _, in := range open {
		if in.Kind != IntentRename {
			continue
		}
		i := slices.IndexFunc(p.folders, func(f *folder) bool { return f.box.ID == in.Mailbox })
		_, items, err := decodeRename(in.Payload)
		if err != nil || i < 0 || p.folders[i].box.Validity[in.Side] != in.Validity || !renumbered(p.folders[i], in.Side) {
			stale = append(stale, in.ID)
			continue
		}
		n := numbered{f: p.folders[i], side: in.Side, intent: in.ID}
		for _, it := range items {
			n.list = append(n.list, marked{it.uid, it.date})
		}
		out = append(out, n)
	}
	for _, side := range config.Sides {
		list, err := p.numbersOf(ctx, side)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	c := Change{DropIntents: stale}
	for _, n := range out {
		if n.intent == 0 {
			items := make([]item, len(n.list))
			for i, x := range n.list {
				items[i] = item{uid: x.uid, date: x.mark}
			}
			c.AddIntents = append(c.AddIntents, Intent{User: p.user, Mailbox: n.f.box.ID, Side: n.side, Kind: IntentRename, Epoch: p.epoch,
				Validity: n.f.box.Validity[n.side], Payload: encodeRename(n.f.Name[n.side], items), Created: p.s.stamp()})
		}
	}
	if len(c.AddIntents)+len(c.DropIntents) == 0 {
		return out, nil
	}
	a, err := p.write(ctx, c)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].intent == 0 {
			out[i].intent, a.Intents = a.Intents[0], a.Intents[1:]
		}
	}
	return out, nil
}

// renumbered tells that a mailbox has another UIDVALIDITY than that of its pairs.
func renumbered(f *folder, side config.Side) bool {
	return f.status[side] != nil && f.status[side].Validity != f.box.Validity[side]
}

// numbersOf notes those of a side.
func (p *pass) numbersOf(ctx context.Context, side config.Side) (out []numbered, err error) {
	var empty []numbered
	if pr := p.sides[side].Profile; pr != nil && pr.RenameKeeps {
		return nil, nil
	}
	var list []*folder
	for _, f := range p.folders {
		switch {
		case f.err != nil || f.box.ID == 0 || f.Listed[side] == "" || f.Name[side] == f.Listed[side]:
		case f.box.Pairs > 0 || len(f.quar) > 0:
			list = append(list, f)
		case f.box.Validity[side] != 0 && !renumbered(f, side): // its new name alone is to be known
			empty = append(empty, numbered{f: f, side: side})
		}
	}
	if len(list) == 0 {
		return empty, nil
	}
	err = p.on(ctx, side, func(c *backend.Client) error {
		out = nil
		for _, f := range list {
			n, validity, err := marks(ctx, c, f.Listed[side])
			if refused(err) {
				err = p.fail(ctx, f, err)
			} else if err == nil && validity == f.box.Validity[side] {
				out = append(out, numbered{f: f, side: side, list: n})
			}
			if err != nil {
				return err
			}
		}
		if c.Mailbox() == "" {
			return nil
		}
		return c.Unselect().Wait(ctx) // Dovecot ends a connection whose mailbox is renamed under it
	})
	return append(out, empty...), err
}

// marks lists a mailbox, ascending.
func marks(ctx context.Context, c *backend.Client, name string) (list []marked, validity uint32, err error) {
	sel, err := c.Select(name, backend.SelectOptions{ReadOnly: true}).Result(ctx)
	if err != nil {
		return nil, 0, err
	}
	if sel.Exists == 0 {
		return nil, sel.Validity, nil
	}
	var uids []uint32
	err = c.Fetch("1:*", backend.FetchOptions{Message: func(m *backend.Message) error {
		uids = append(uids, m.UID)
		return nil
	}}).Wait(ctx)
	if err != nil {
		return nil, 0, err
	}
	slices.Sort(uids)
	found, err := digests(ctx, c, slices.Compact(uids))
	for _, d := range found {
		b := binary.BigEndian.AppendUint64(d.header[:], uint64(d.size))
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(d.date)))
		list = append(list, marked{d.uid, int64(binary.BigEndian.Uint64(sum[:]))})
	}
	return list, sel.Validity, err
}

// renumber gives the pairs of mailboxes that were renamed their new UIDs. The order may be another: Courier sorts by the names of its
// files, in which those of one second stand as they like. Where a message is missing the mailbox is paired anew by content.
func (p *pass) renumber(ctx context.Context, before []numbered) error {
	var done []int64
	for _, n := range before {
		if n.f.err != nil {
			continue // nobody knows yet how the rename ended
		}
		if !renumbered(n.f, n.side) {
			done = append(done, n.intent)
			continue
		}
		var after []marked
		err := p.on(ctx, n.side, func(c *backend.Client) (err error) {
			after, _, err = marks(ctx, c, n.f.Name[n.side])
			return err
		})
		if err != nil {
			if err := p.fail(ctx, n.f, err); err != nil {
				return err
			}
			continue
		}
		done = append(done, n.intent)
		to, whole := found(n.list, after)
		if !whole {
			p.s.o.Log.Warn("a mailbox was renumbered by a rename, and has changed meanwhile", "user", p.user, "folder", n.f.name(), "side", n.side)
			continue
		}
		if err := p.numberAnew(ctx, n, to, n.f.status[n.side].Validity); err != nil {
			if err := p.fail(ctx, n.f, err); err != nil {
				return err
			}
		}
	}
	if len(done) == 0 {
		return nil
	}
	_, err := p.write(ctx, Change{DropIntents: done})
	return err
}

// found gives the UIDs that messages have now by those that they had; whole is false when one is missing. Those that look the same
// keep their order.
func found(before, after []marked) (to map[uint32]uint32, whole bool) {
	now := make(map[int64][]uint32, len(after))
	for _, x := range after {
		now[x.mark] = append(now[x.mark], x.uid)
	}
	to = make(map[uint32]uint32, len(before))
	for _, x := range before {
		if len(now[x.mark]) == 0 {
			return nil, false
		}
		to[x.uid], now[x.mark] = now[x.mark][0], now[x.mark][1:]
	}
	return to, true
}

func (p *pass) numberAnew(ctx context.Context, n numbered, to map[uint32]uint32, validity uint32) error {
	f := n.f
	if err := p.load(ctx, f); err != nil {
		return err
	}
	old := slices.Clone(f.pairs.all())
	f.pairs.clear()
	lost := uint32(1 << 31) // UIDs for what was gone already: still gone, and so the other side's is deleted, or comes back, as it would have
	for _, q := range old {
		uid, ok := to[q.UID[n.side]]
		if !ok {
			lost++
			uid = lost
		}
		q.UID[n.side] = uid
		f.pairs.put(q)
	}
	c := f.requarantine(n.side, to, validity)
	f.box.Validity[n.side], f.box.Cursor[n.side] = validity, Cursor{}
	_, err := p.save(ctx, f, c)
	f.unload()
	return err
}
