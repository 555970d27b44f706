package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// each runs do for folders, several at once. What goes wrong with one is noted; the first error that ends the pass is
// returned.
func (p *pass) each(ctx context.Context, list []*folder, do func(context.Context, *folder) error) error {
	queue := make(chan *folder, len(list))
	for _, f := range list {
		queue <- f
	}
	close(queue)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for range min(p.s.o.Connections, len(list)) {
		wg.Go(func() {
			for f := range queue {
				if ctx.Err() != nil {
					return
				}
				err := safely(func() error {
					err := do(ctx, f)
					if err != nil {
						err = p.fail(ctx, f, err)
					}
					f.unload()
					return err
				})
				if err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// flags carries changes of flags, by as few commands as there are different deltas.
func (p *pass) flags(ctx context.Context) error {
	p.progress(func(g *Progress) { g.Phase = "changes"; g.Folder = "" })
	var list []*folder
	for _, f := range p.folders {
		w := &f.work
		if f.err != nil || len(w.change[0])+len(w.change[1])+len(w.rebase) == 0 {
			continue
		}
		if p.opts.DryRun {
			for side := range w.change {
				for _, c := range w.change[side] {
					p.report.Flags[side] += int64(len(c.pairs))
				}
			}
			continue
		}
		list = append(list, f)
	}
	return p.each(ctx, list, p.flagsOf)
}

func (p *pass) flagsOf(ctx context.Context, f *folder) error {
	if err := p.load(ctx, f); err != nil {
		return err
	}
	intents, err := p.intendFlags(ctx, f)
	if err != nil {
		return err
	}
	for _, r := range f.work.rebase {
		f.pairs.rebase(r.uid, r.base)
	}
	for _, side := range config.Sides { // what each side does not keep of it is taken off below
		for _, x := range f.work.change[side] {
			for _, q := range x.pairs {
				f.pairs.rebase(q.UID[config.Old], x.base)
			}
		}
	}
	for _, side := range config.Sides {
		changes := f.work.change[side]
		if len(changes) == 0 {
			continue
		}
		err := p.on(ctx, side, func(c *backend.Client) error {
			sel, err := c.Select(f.Name[side], backend.SelectOptions{}).Result(ctx)
			if err != nil {
				return err
			}
			if sel.Validity != f.validity(side) {
				return fmt.Errorf("the mailbox was reset on %s", side)
			}
			return p.change(ctx, c, f, side, sel, changes)
		})
		if err != nil {
			return err
		}
	}
	_, err = p.save(ctx, f, Change{DropIntents: intents})
	return err
}

// change does one side's changes in the mailbox that is selected. A change that was done already does no harm.
func (p *pass) change(ctx context.Context, c *backend.Client, f *folder, side config.Side, sel *backend.Selected, changes []change) error {
	type sent struct {
		change
		lost []string // of add, what the side does not take
		list []*backend.Command
	}
	var all []sent
	for _, x := range changes {
		s := sent{change: x}
		x.add = slices.DeleteFunc(slices.Clone(x.add), func(flag string) bool {
			if sel.CanKeep(flag) {
				return false
			}
			s.lost = append(s.lost, flag)
			return true
		})
		s.add = x.add
		for _, set := range uidSets(x.pairs, side) {
			if len(x.add) > 0 {
				s.list = append(s.list, c.Store(set, backend.StoreOptions{Add: x.add}))
			}
			if len(x.remove) > 0 {
				s.list = append(s.list, c.Store(set, backend.StoreOptions{Remove: x.remove}))
			}
		}
		all = append(all, s)
	}
	for _, s := range all {
		refusedOne := false
		for _, cmd := range s.list {
			if err := cmd.Wait(ctx); err != nil {
				if !refused(err) {
					return err
				}
				refusedOne = true
			}
		}
		if refusedOne { // one flag too many spoils all of them
			for _, flag := range s.add {
				err := storeSets(ctx, c, uidSets(s.pairs, side), backend.StoreOptions{Add: []string{flag}})
				if err != nil && (!refused(err) || flag[0] == '\\' || passing(err)) { // it is not the flag: the next pass tries again
					return err
				}
				if err != nil {
					s.lost = append(s.lost, flag)
					p.count(func(r *Report) { r.Lost[flag] += int64(len(s.pairs)) })
				}
			}
			if len(s.remove) > 0 {
				if err := storeSets(ctx, c, uidSets(s.pairs, side), backend.StoreOptions{Remove: s.remove}); err != nil {
					return err
				}
			}
		}
		var now map[uint32]merge.Flags
		keywords := slices.DeleteFunc(slices.Clone(s.add), func(flag string) bool { return flag[0] == '\\' || slices.Contains(s.lost, flag) })
		if len(keywords) > 0 { // of a message that is gone, which STORE says OK to, the place where it was moved to tells
			var err error
			if now, err = f.flagsAt(ctx, c, uidsOf(s.pairs, side)); err != nil {
				return err
			}
		}
		f.mu.Lock()
		kept := f.without(s.base[side], s.lost)
		for _, q := range s.pairs {
			base := kept
			if has, there := now[q.UID[side]]; there && slices.ContainsFunc(keywords, func(flag string) bool { return !hasFlag(f.dict, has, flag) }) {
				base = f.dict.Unconfirmed(kept)
			}
			if q, ok := f.pairs.find(q.UID[config.Old]); ok && q.Base[side] != base {
				q.Base[side] = base
				f.pairs.rebase(q.UID[config.Old], q.Base)
			}
		}
		f.mu.Unlock()
		p.count(func(r *Report) { r.Flags[side] += int64(len(s.pairs)) })
	}
	return nil
}

// passing tells a refusal that is about the server's own trouble of the moment (RFC 5530, section 3).
func passing(err error) bool {
	var s *backend.StatusError
	return asked(err) > 0 ||
		errors.As(err, &s) && slices.Contains([]string{"UNAVAILABLE", "SERVERBUG", "INUSE", "LIMIT", "CONTACTADMIN", "CORRUPTION"}, s.Code.Name)
}

// without is a set of flags less some: what a side was to get and did not take is not in its base, or it would look as if somebody
// had taken it off there. The caller holds mu.
func (f *folder) without(id merge.Flags, lost []string) merge.Flags {
	if len(lost) == 0 {
		return id
	}
	kept := slices.DeleteFunc(f.dict.List(id), func(flag string) bool {
		return slices.ContainsFunc(lost, func(l string) bool { return strings.EqualFold(l, flag) })
	})
	return f.dict.ID([]byte(strings.Join(kept, " ")))
}

func storeSets(ctx context.Context, c *backend.Client, sets []string, o backend.StoreOptions) error {
	var list []*backend.Command
	for _, set := range sets {
		list = append(list, c.Store(set, o))
	}
	return waitAll(ctx, list)
}

// expunges carries deletes: last of all, so that a pass that ends early leaves a message twice rather than nowhere.
func (p *pass) expunges(ctx context.Context) error {
	if !p.opts.DryRun {
		p.holdUnseen(ctx) // of a folder that was well until it was copied
	}
	var list []*folder
	for _, f := range p.folders {
		w := &f.work
		if f.err != nil || len(w.expunge[0])+len(w.expunge[1])+len(w.drop) == 0 {
			continue
		}
		if p.opts.DryRun {
			for side := range w.expunge {
				p.report.Expunged[side] += int64(len(w.expunge[side]))
			}
			continue
		}
		list = append(list, f)
	}
	return p.each(ctx, list, p.expungesOf)
}

func (p *pass) expungesOf(ctx context.Context, f *folder) error {
	if err := p.load(ctx, f); err != nil {
		return err
	}
	var intents []int64
	f.carried = true
	for _, side := range config.Sides {
		pairs := f.work.expunge[side]
		if len(pairs) == 0 {
			continue
		}
		uids := make([]uint32, len(pairs))
		for i, q := range pairs {
			uids[i] = q.UID[side]
		}
		slices.Sort(uids)
		err := p.on(ctx, side, func(c *backend.Client) error {
			sel, err := c.Select(f.Name[side], backend.SelectOptions{}).Result(ctx)
			if err != nil {
				return err
			}
			if sel.Validity != f.validity(side) {
				return fmt.Errorf("the mailbox was reset on %s", side)
			}
			there, err := p.there(ctx, c, f, side, uids)
			if err != nil {
				return err
			}
			if len(there) < len(uids) {
				f.work.again = true
				pairs = slices.DeleteFunc(slices.Clone(pairs), func(q merge.Pair) bool { return !slices.Contains(there, q.UID[side]) })
			}
			if uids = there; len(uids) == 0 {
				return nil
			}
			ids, err := p.remove(ctx, c, f, side, uids)
			intents = append(intents, ids...)
			return err
		})
		if err != nil {
			return err
		}
		for _, q := range pairs {
			if q.UID[config.Old] != 0 {
				f.pairs.remove(q.UID[config.Old])
			}
		}
		p.count(func(r *Report) { r.Expunged[side] += int64(len(pairs)) })
	}
	for _, uid := range f.work.drop {
		f.pairs.remove(uid)
	}
	_, err := p.save(ctx, f, Change{DropIntents: intents})
	return err
}

// remove expunges messages of the mailbox that is selected, and nothing else: with UIDPLUS by their UIDs, else by removePlain. The
// intents that are returned, also beside an error, go when what was removed is written down.
func (p *pass) remove(ctx context.Context, c *backend.Client, f *folder, side config.Side, uids []uint32) (intents []int64, err error) {
	in := Intent{User: p.user, Mailbox: f.box.ID, Side: side, Kind: IntentExpunge, Epoch: p.epoch, Validity: f.validity(side), Payload: encodeUIDs(uids),
		Created: p.s.stamp()}
	a, err := p.write(ctx, Change{AddIntents: []Intent{in}})
	if err != nil {
		return nil, err
	}
	return a.Intents, p.removeNow(ctx, c, f, side, uids)
}

func (p *pass) removeNow(ctx context.Context, c *backend.Client, f *folder, side config.Side, uids []uint32) error {
	if !c.Has("UIDPLUS") {
		return p.removePlain(ctx, c, f, side, uids)
	}
	if err := storeAll(ctx, c, uids, backend.StoreOptions{Add: []string{`\Deleted`}}); err != nil {
		return err
	}
	var list []*backend.Command
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		list = append(list, c.Expunge(set))
	}
	return waitAll(ctx, list)
}

// removePlain does it by EXPUNGE, which takes all that is marked \Deleted: the mark is taken off all others for a moment. An intent says
// of which, so that it is set again whatever happens. Others may mark mail meanwhile: it is looked once more until nobody has.
func (p *pass) removePlain(ctx context.Context, c *backend.Client, f *folder, side config.Side, uids []uint32) error {
	var hidden []uint32
	var intents []int64
	for looks := 0; ; looks++ {
		var others []uint32
		err := c.Search("DELETED", func(r backend.Range) {
			for u := r.First; u <= r.Last; u++ {
				if _, ours := slices.BinarySearch(uids, u); !ours {
					others = append(others, u)
				}
			}
		}).Wait(ctx)
		if err != nil {
			return err
		}
		if len(others) == 0 && looks > 0 {
			break
		}
		if looks > attempts {
			return fmt.Errorf("others mark mail as deleted without end on %s, which has no UIDPLUS", side)
		}
		if len(others) > 0 {
			a, err := p.write(ctx, Change{AddIntents: []Intent{{User: p.user, Mailbox: f.box.ID, Side: side, Kind: IntentRestore, Epoch: p.epoch,
				Validity: f.validity(side), Payload: encodeUIDs(others), Created: p.s.stamp()}}})
			if err != nil {
				return err
			}
			intents, hidden = append(intents, a.Intents...), append(hidden, others...)
			if err := storeAll(ctx, c, others, backend.StoreOptions{Remove: []string{`\Deleted`}}); err != nil {
				return err
			}
		}
		if looks == 0 {
			if err := storeAll(ctx, c, uids, backend.StoreOptions{Add: []string{`\Deleted`}}); err != nil {
				return err
			}
		}
	}
	if err := c.Expunge("").Wait(ctx); err != nil {
		return err
	}
	if len(hidden) == 0 {
		return nil
	}
	slices.Sort(hidden)
	if err := storeAll(ctx, c, hidden, backend.StoreOptions{Add: []string{`\Deleted`}}); err != nil {
		return err
	}
	_, err := p.write(ctx, Change{DropIntents: intents})
	return err
}
