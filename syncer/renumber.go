package syncer

import (
	"cmp"
	"context"
	"slices"

	"mailgate/backend"
	"mailgate/config"
)

// numbered is what a mailbox held before a rename of ours.
type numbered struct {
	f    *folder
	side config.Side
	list []sizeOf
}

type sizeOf struct {
	uid  uint32
	size int64
}

// numbers notes the UIDs of mailboxes that are about to be renamed where that may give them others (Courier does): by content alone
// nobody could tell afterwards a message that was deleted on the other side from one that is new here.
func (p *pass) numbers(ctx context.Context) ([]numbered, error) {
	var out []numbered
	for _, side := range config.Sides {
		if pr := p.sides[side].Profile; pr != nil && pr.RenameKeeps {
			continue
		}
		var list []*folder
		for _, f := range p.folders {
			st := f.status[side]
			if f.err == nil && f.box.Pairs > 0 && f.Listed[side] != "" && f.Name[side] != f.Listed[side] && st != nil && st.Validity == f.box.Validity[side] {
				list = append(list, f)
			}
		}
		if len(list) == 0 {
			continue
		}
		err := p.on(ctx, side, func(c *backend.Client) error {
			for _, f := range list {
				n, err := sizes(ctx, c, f.Listed[side])
				if refused(err) {
					continue
				}
				if err != nil {
					return err
				}
				out = append(out, numbered{f, side, n})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// sizes lists a mailbox, ascending.
func sizes(ctx context.Context, c *backend.Client, name string) (list []sizeOf, err error) {
	sel, err := c.Select(name, backend.SelectOptions{ReadOnly: true}).Result(ctx)
	if err != nil || sel.Exists == 0 {
		return nil, err
	}
	err = c.Fetch("1:*", backend.FetchOptions{Items: []string{"RFC822.SIZE"}, Message: func(m *backend.Message) error {
		if m.Size > 0 {
			list = append(list, sizeOf{m.UID, m.Size})
		}
		return nil
	}}).Wait(ctx)
	slices.SortFunc(list, func(a, b sizeOf) int { return cmp.Compare(a.uid, b.uid) })
	return slices.CompactFunc(list, func(a, b sizeOf) bool { return a.uid == b.uid }), err
}

// renumber gives the pairs of mailboxes that were renamed their new UIDs: the order is the same, and new mail can only stand behind.
// Where that does not hold, the mailbox is paired anew by content.
func (p *pass) renumber(ctx context.Context, before []numbered) error {
	for _, n := range before {
		st := n.f.status[n.side]
		if n.f.err != nil || st == nil || st.Validity == n.f.box.Validity[n.side] {
			continue
		}
		var after []sizeOf
		err := p.on(ctx, n.side, func(c *backend.Client) (err error) {
			after, err = sizes(ctx, c, n.f.Name[n.side])
			return err
		})
		if err != nil && !refused(err) {
			return err
		}
		if err != nil || !sameOrder(n.list, after) {
			p.s.o.Log.Warn("a mailbox was renumbered by a rename, and has changed meanwhile", "user", p.user, "folder", n.f.name(), "side", n.side)
			continue
		}
		if err := p.numberAnew(ctx, n, after, st.Validity); err != nil {
			if err := p.fail(ctx, n.f, err); err != nil {
				return err
			}
		}
	}
	return nil
}

func sameOrder(before, after []sizeOf) bool {
	return len(before) <= len(after) && slices.EqualFunc(before, after[:len(before)], func(a, b sizeOf) bool { return a.size == b.size })
}

func (p *pass) numberAnew(ctx context.Context, n numbered, after []sizeOf, validity uint32) error {
	f := n.f
	if err := p.load(ctx, f); err != nil {
		return err
	}
	to := make(map[uint32]uint32, len(n.list))
	for i, x := range n.list {
		to[x.uid] = after[i].uid
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
	f.box.Validity[n.side], f.box.Cursor[n.side] = validity, Cursor{}
	_, err := p.save(ctx, f, Change{})
	f.unload()
	return err
}
