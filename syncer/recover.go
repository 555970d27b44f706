package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// errReset is a mailbox that began anew while it was worked on.
var errReset = errors.New("the mailbox was reset meanwhile")

// suspectTime is how long an append of unknown outcome may still come true.
const suspectTime = 24 * time.Hour

// recover finds out what became of what was under way when a pass ended early: write-ahead intents of uid-stable.md, section
// 4.6. Nothing is done again before it was looked for.
func (p *pass) recover(ctx context.Context) error {
	intents, err := p.s.o.Store.Intents(ctx, p.user)
	if err != nil {
		return storeError{err}
	}
	if p.opts.DryRun {
		return nil
	}
	for _, in := range intents {
		i := slices.IndexFunc(p.folders, func(f *folder) bool { return f.box.ID == in.Mailbox })
		if i < 0 || p.folders[i].err != nil {
			continue // a folder that is left out, or out of reach: later
		}
		if err := p.settleIntent(ctx, p.folders[i], in); err != nil {
			if err := p.fail(ctx, p.folders[i], err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pass) settleIntent(ctx context.Context, f *folder, in Intent) error {
	st := f.status[in.Side]
	if st == nil && f.Exists[in.Side] { // out of reach, perhaps for a moment: nothing is known of it
		return fmt.Errorf("%s does not tell the state of the mailbox", in.Side)
	}
	stale := st != nil && st.Validity != in.Validity
	switch {
	case st == nil, in.Kind == IntentSuspect && (p.s.elapsed(in.Created) > suspectTime || aboutFlags(in.Payload)), stale && (in.Kind == IntentExpunge || in.Kind == IntentRestore || in.Kind == IntentFlags),
		in.Kind == IntentExpunge && (in.Epoch != p.epoch || f.turnedBack(in.Side)): // who decides now has not said so; or UIDs are those of other mail
		_, err := p.write(ctx, Change{DropIntents: []int64{in.ID}})
		return err
	case stale: // renumbered, by a rename of ours perhaps: what is there is paired by its content; what came twice, or still comes, is a twin
		in.Kind, in.Validity, in.UIDNext = IntentSuspect, st.Validity, 1
		return p.suspect(ctx, in, in.Payload)
	case in.Kind == IntentSuspect:
		p.intents = append(p.intents, in)
		return nil
	case in.Kind == IntentExpunge:
		return p.expungeAgain(ctx, f, in)
	case in.Kind == IntentRestore:
		return p.restore(ctx, f, in)
	case in.Kind == IntentFlags:
		return p.settleFlags(ctx, f, in)
	}
	items, err := decodeItems(in.Payload)
	if err != nil {
		return err
	}
	if err := p.load(ctx, f); err != nil {
		return err
	}
	return p.both(ctx, in.Side, func(src, dst *backend.Client) error { return p.lookFor(ctx, src, dst, f, in, items) })
}

// suspect replaces an intent by one that says of items that they may still arrive, or have arrived twice.
func (p *pass) suspect(ctx context.Context, in Intent, items []byte) error {
	next := in
	next.ID, next.Kind, next.Payload = 0, IntentSuspect, items
	a, err := p.write(ctx, Change{DropIntents: []int64{in.ID}, AddIntents: []Intent{next}})
	if err != nil {
		return err
	}
	next.ID = a.Intents[0]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.intents = append(p.intents, next)
	return nil
}

// both runs f with connections to the other side and to a side, and again on others when one fails.
func (p *pass) both(ctx context.Context, to config.Side, f func(src, dst *backend.Client) error) error {
	return p.on(ctx, to, func(dst *backend.Client) error {
		src, err := p.pools[to.Other()].get(ctx, "")
		if err != nil {
			return err
		}
		err = f(src, dst)
		if err != nil && !refused(err) && !isStore(err) && !errors.Is(err, errReset) {
			ended := src.Err() != nil
			p.pools[to.Other()].drop(src)
			if dst.Err() == nil { // it was the other one: both begin anew
				_ = dst.Close()
				if ended {
					err = &SideError{to.Other(), endedError{err}}
				}
			}
			return err
		}
		p.pools[to.Other()].put(src)
		return err
	})
}

// settle waits until a mailbox takes in nothing more: a server may still be storing what it was given before the
// connection broke. It returns UIDNEXT.
func (p *pass) settle(ctx context.Context, c *backend.Client, name string) error {
	var last uint32
	since := time.Now()
	for first := true; ; first = false {
		st, err := c.Status(name, "UIDNEXT", "MESSAGES").Result(ctx)
		if err != nil {
			return err
		}
		if first || st.UIDNext != last {
			last, since = st.UIDNext, time.Now()
		}
		if time.Since(since) >= p.s.o.Settle {
			return nil
		}
		t := time.NewTimer(max(p.s.o.Settle/8, time.Millisecond))
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// lookFor settles an append or a move of unknown outcome: what has arrived is paired, the rest may be done again, and
// what still arrives afterwards is known for a twin.
func (p *pass) lookFor(ctx context.Context, src, dst *backend.Client, f *folder, in Intent, items []item) error {
	if err := p.settle(ctx, dst, f.Name[in.Side]); err != nil {
		return err
	}
	found, err := p.look(ctx, src, dst, f, in.Side, in.UIDNext, items, in.Created)
	if err != nil {
		return err
	}
	doubt, err := p.perhapsGone(ctx, dst, f, in, items, found)
	if err != nil {
		return err
	}
	c := Change{DropIntents: []int64{in.ID}, Quarantine: f.setAside(p, in.Side.Other(), items, doubt)}
	var missing []item
	for i, it := range items {
		if e, ok := found[i]; ok {
			f.settled(in, it, e)
		} else {
			missing = append(missing, it)
		}
	}
	if len(missing) > 0 {
		suspect := in
		suspect.ID, suspect.Kind, suspect.Payload, suspect.Created = 0, IntentSuspect, encodeItems(missing), p.s.o.Now()
		c.AddIntents = append(c.AddIntents, suspect)
	}
	a, err := p.save(ctx, f, c)
	if err != nil {
		return err
	}
	p.mu.Lock() // several folders may be looked through at once
	defer p.mu.Unlock()
	for i, id := range a.Intents {
		c.AddIntents[i].ID = id
		p.intents = append(p.intents, c.AddIntents[i])
	}
	p.s.o.Log.Info("went on where a pass had ended", "user", p.user, "folder", f.name(), "found", len(found), "of", len(items))
	return nil
}

// settled pairs an item of an intent with a copy that was found. What flags both had in common is not known any more of what had no pair before:
// the follower's count as such, so that what the other side has wins. What had one was not seen anew on the side of its original, which stands as it did.
func (f *folder) settled(in Intent, it item, e merge.Entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := in.Side.Other()
	q := merge.Pair{Base: [2]merge.Flags{e.Flags, e.Flags}}
	q.UID[in.Side], q.UID[from] = e.UID, it.uid
	if it.again != 0 {
		if before, ok := f.pairs.find(it.again); ok {
			if q.Base = before.Base; in.Kind != IntentMove { // it was sent what its original had
				q.Base[in.Side] = f.dict.Unconfirmed(f.dict.Sent(before.Base[from]))
			}
		}
		f.pairs.remove(it.again)
	}
	f.pairs.put(q)
}

// openRange is "n:*".
func openRange(n uint32) string {
	return string(append(imapwire.AppendUIDs(nil, []uint32{n}), ":*"...))
}

// expungeAgain carries to its end what was decided: the partners of these messages are gone for good, for UIDs do not come back.
func (p *pass) expungeAgain(ctx context.Context, f *folder, in Intent) error {
	items, err := decodeItems(in.Payload)
	if err != nil {
		return err
	}
	uids := make([]uint32, len(items))
	for i, it := range items {
		uids[i] = it.uid
	}
	ids := []int64{in.ID}
	err = p.on(ctx, in.Side, func(c *backend.Client) error {
		sel, err := c.Select(f.Name[in.Side], backend.SelectOptions{}).Result(ctx)
		if err != nil || sel.Validity != in.Validity {
			return err
		}
		more, err := p.remove(ctx, c, f, in.Side, uids)
		ids = append(ids, more...)
		return err
	})
	if err != nil {
		return err
	}
	_, err = p.write(ctx, Change{DropIntents: ids})
	return err
}

// restore sets \Deleted again on mail of others from which it was taken for a plain EXPUNGE.
func (p *pass) restore(ctx context.Context, f *folder, in Intent) error {
	items, err := decodeItems(in.Payload)
	if err != nil {
		return err
	}
	uids := make([]uint32, len(items))
	for i, it := range items {
		uids[i] = it.uid
	}
	err = p.on(ctx, in.Side, func(c *backend.Client) error {
		sel, err := c.Select(f.Name[in.Side], backend.SelectOptions{}).Result(ctx)
		if err != nil {
			return err
		}
		if sel.Validity != in.Validity {
			return fmt.Errorf("the mailbox was reset on %s", in.Side)
		}
		return storeAll(ctx, c, uids, backend.StoreOptions{Add: []string{`\Deleted`}})
	})
	if err != nil {
		return err
	}
	_, err = p.write(ctx, Change{DropIntents: []int64{in.ID}})
	return err
}

// storeAll is Store in as many commands as are needed.
func storeAll(ctx context.Context, c *backend.Client, uids []uint32, o backend.StoreOptions) error {
	var list []*backend.Command
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		list = append(list, c.Store(set, o))
	}
	return waitAll(ctx, list)
}
