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
	case st == nil, in.Kind == IntentSuspect && p.s.o.Now().Sub(in.Created) > suspectTime, stale && (in.Kind == IntentExpunge || in.Kind == IntentRestore),
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
			p.pools[to.Other()].drop(src)
			if dst.Err() == nil { // it was the other one: both begin anew
				_ = dst.Close()
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
	c := Change{DropIntents: []int64{in.ID}}
	var missing []item
	for i, it := range items {
		if e, ok := found[i]; ok {
			p.put(f, in.Side, it, e)
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

// put pairs an item with a copy that was found. What flags both had in common is not known any more: the follower's count
// as such, so that what the other side has wins.
func (p *pass) put(f *folder, to config.Side, it item, e merge.Entry) {
	q := merge.Pair{Base: [2]merge.Flags{e.Flags, e.Flags}}
	q.UID[to], q.UID[to.Other()] = e.UID, it.uid
	if it.again != 0 {
		f.pairs.remove(it.again)
	}
	f.pairs.put(q)
}

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
// 1970) may have been delivered in that very second: it stays a suspect.
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
		if living[it.uid] || !it.dated || it.date > recent {
			continue
		}
		before := ^uint32(0)
		for j := i + 1; j < len(items); j++ {
			if e, ok := found[j]; ok {
				before = e.UID
				break
			}
		}
		for _, d := range there {
			if d.uid > after && d.uid < before && !taken[d.uid] && d.date == it.date {
				found[i], taken[d.uid], after = merge.Entry{UID: d.uid}, true, d.uid
				break
			}
		}
	}
}

func hashOf(c *backend.Client) hasher {
	return func(ctx context.Context, uids []uint32, text bool) (map[uint32][32]byte, error) {
		return bodies(ctx, c, uids, text)
	}
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
