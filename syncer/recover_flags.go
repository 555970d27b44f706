package syncer

import (
	"context"
	"slices"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// intendFlags writes down which flags of a folder are about to be changed. Without it, what a pass that is killed has carried to a side
// looks there like somebody's change: when the user takes back his own before the next pass, it would come back to him.
func (p *pass) intendFlags(ctx context.Context, f *folder) (intents []int64, err error) {
	var c Change
	for _, side := range config.Sides {
		var deltas []flagDelta
		for _, x := range f.work.change[side] {
			d := flagDelta{add: x.add, remove: x.remove}
			for _, q := range x.pairs {
				d.uids = append(d.uids, q.UID[side])
			}
			slices.Sort(d.uids)
			deltas = append(deltas, d)
		}
		if len(deltas) > 0 {
			c.AddIntents = append(c.AddIntents, Intent{User: p.user, Mailbox: f.box.ID, Side: side, Kind: IntentFlags, Epoch: p.epoch,
				Validity: f.validity(side), Payload: encodeFlags(deltas), Created: p.s.stamp()})
		}
	}
	if len(c.AddIntents) == 0 {
		return nil, nil
	}
	a, err := p.write(ctx, c)
	return a.Intents, err
}

// storeTime is longer than a host is at the changes of flags that one pass has sent it for a folder.
const storeTime = 10 * time.Minute

// settleFlags counts as common what a pass that ended early has changed: the flags that stand on the side as they were to be. The rest is
// as before, and a change again if it still is one.
func (p *pass) settleFlags(ctx context.Context, f *folder, in Intent) error {
	deltas, err := decodeFlags(in.Payload)
	if err != nil {
		return err
	}
	if err := p.load(ctx, f); err != nil {
		return err
	}
	var uids []uint32
	for _, d := range deltas {
		uids = append(uids, d.uids...)
	}
	slices.Sort(uids)
	var now map[uint32]merge.Flags
	err = p.on(ctx, in.Side, func(c *backend.Client) error {
		if !p.settled && p.s.elapsed(in.Created) < storeTime { // what was sent may still be carried out, for all folders alike
			if err := p.settle(ctx, c, f.Name[in.Side]); err != nil {
				return err
			}
			p.settled = true
		}
		sel, err := c.Select(f.Name[in.Side], backend.SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil {
			return err
		}
		if sel.Validity != in.Validity {
			return errReset
		}
		now, err = f.flagsAt(ctx, c, slices.Compact(uids))
		return err
	})
	if err != nil {
		return err
	}
	pairs := map[uint32]merge.Pair{} // by UID on the side
	for _, q := range f.pairs.all() {
		if _, ok := now[q.UID[in.Side]]; ok {
			pairs[q.UID[in.Side]] = q
		}
	}
	f.mu.Lock()
	for _, d := range deltas {
		for _, uid := range d.uids {
			q, ok := pairs[uid]
			if !ok {
				continue
			}
			done := func(flag string) bool { return hasFlag(f.dict, now[uid], flag) }
			add := slices.DeleteFunc(slices.Clone(d.add), func(flag string) bool { return !done(flag) })
			remove := slices.DeleteFunc(slices.Clone(d.remove), done)
			for side := range q.Base {
				q.Base[side] = f.dict.Changed(q.Base[side], add, remove)
			}
			pairs[uid] = q
			f.pairs.rebase(q.UID[config.Old], q.Base)
		}
	}
	f.mu.Unlock()
	_, err = p.save(ctx, f, Change{DropIntents: []int64{in.ID}})
	return err
}
