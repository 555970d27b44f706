package syncer

import (
	"context"
	"fmt"
	"slices"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// step is a run of messages to be brought into a folder in one way.
type step struct {
	items []item
	from  *folder      // moved from there, on the side where they are brought in; nil means copied from the other side
	moved []merge.Pair // of from, in the order of items
	fresh bool         // moved messages are in no pair of from (the follower moved them, and they are moved back)
}

// maxMoves bounds what is compared to find moves: beyond it messages are copied and expunged, which is slower but right.
const maxMoves = 20000

// moves finds messages that went from one folder to another, so that they can be moved on the other side too. Then
// the guard against bulk deletes looks at what remains.
func (p *pass) moves(ctx context.Context) error {
	follower := p.authority.Other()
	if err := p.findMoves(ctx, follower, false); err != nil {
		return err
	}
	if err := p.findMoves(ctx, follower, true); err != nil {
		return err
	}
	if p.opts.Leave {
		p.leaveGone(follower)
	}
	p.guard(ctx)
	for _, f := range p.folders {
		for _, side := range config.Sides {
			if f.err == nil && len(f.steps[side]) == 0 && len(f.work.create[side]) > 0 {
				f.steps[side] = []step{{items: f.work.create[side]}}
			}
		}
	}
	return nil
}

// leaveGone does not make again what is gone from the follower, but for what was moved there and is moved back: a job that takes old mail
// away there is not to be fought with each pass. The next pass without Leave finds it by Recount. It makes it again with the flags that the
// pairs say, where the side that decides has CONDSTORE: what has changed of them in this pass has to stand there.
func (p *pass) leaveGone(follower config.Side) {
	for _, f := range p.folders {
		moved := map[uint32]bool{}
		f.steps[follower] = slices.DeleteFunc(f.steps[follower], func(s step) bool {
			for _, it := range s.items {
				moved[it.uid] = moved[it.uid] || s.from != nil
			}
			return s.from == nil && !slices.ContainsFunc(s.items, func(it item) bool { return it.again == 0 })
		})
		gone := func(it item) bool { return it.again != 0 && !moved[it.uid] }
		for i := range f.steps[follower] {
			if s := &f.steps[follower][i]; s.from == nil {
				s.items = slices.DeleteFunc(slices.Clone(s.items), gone)
			}
		}
		for _, it := range f.work.create[follower] {
			if base, changed := f.work.left[it.again]; changed && gone(it) {
				f.work.rebase = append(f.work.rebase, rebase{it.again, base})
			}
		}
		before := len(f.work.create[follower])
		f.work.create[follower] = slices.DeleteFunc(f.work.create[follower], gone)
		p.report.Missing += int64(before - len(f.work.create[follower]))
	}
}

// candidate is a message that is gone from a folder, or new in one.
type candidate struct {
	f   *folder
	uid uint32 // on the side where it can be looked at
	at  int    // index into the folder's list
	digest

	sent  int64 // its date, where dated
	dated bool
}

// candidates calls each for what is gone (fresh false) and what is new: see findMoves.
func (p *pass) candidates(follower config.Side, back bool, each func(c candidate, fresh bool)) {
	for _, f := range p.folders {
		if f.err != nil || !f.work.merged {
			continue
		}
		if back {
			for i, it := range f.work.create[follower] {
				if it.again != 0 {
					each(candidate{f: f, uid: it.uid, at: i}, false)
				}
			}
			for i, it := range f.work.create[p.authority] {
				each(candidate{f: f, uid: it.uid, at: i, sent: it.date, dated: it.dated}, true)
			}
			continue
		}
		for i, q := range f.work.expunge[follower] {
			each(candidate{f: f, uid: q.UID[follower], at: i}, false)
		}
		for i, it := range f.work.create[follower] {
			if it.again == 0 {
				each(candidate{f: f, uid: it.uid, at: i, sent: it.date, dated: it.dated}, true)
			}
		}
	}
}

// findMoves compares what is gone with what is new. With back false: gone and new on the side that decides, looked at on the
// follower (where what is gone still is) and there. With back true: moved on the follower, and to be moved back.
func (p *pass) findMoves(ctx context.Context, follower config.Side, back bool) error {
	lost, news := 0, 0 // counted first: at a first copy there are very many, and none to compare them with
	p.candidates(follower, back, func(_ candidate, fresh bool) {
		if fresh {
			news++
		} else {
			lost++
		}
	})
	if lost == 0 || news == 0 || lost+news > maxMoves {
		return nil
	}
	gone, fresh := make([]candidate, 0, lost), make([]candidate, 0, news)
	p.candidates(follower, back, func(c candidate, isFresh bool) {
		if isFresh {
			fresh = append(fresh, c)
		} else {
			gone = append(gone, c)
		}
	})
	goneSide, freshSide := follower, p.authority
	if back {
		goneSide, freshSide = p.authority, follower
	}
	if err := p.know(ctx, goneSide, gone); err != nil {
		return err
	}
	// A message that was moved keeps its date. Opening a mailbox can be dear (a large Maildir that has just changed), so only
	// what may be one of those is looked at.
	dates := map[int64]bool{}
	for _, g := range gone {
		dates[g.date] = true
	}
	fresh = slices.DeleteFunc(fresh, func(n candidate) bool { return n.dated && !dates[n.sent] })
	if len(fresh) == 0 {
		return nil
	}
	if err := p.know(ctx, freshSide, fresh); err != nil {
		return err
	}
	failed := func(c candidate) bool { return c.f.err != nil }
	gone, fresh = slices.DeleteFunc(gone, failed), slices.DeleteFunc(fresh, failed)
	type key struct {
		date, size int64
		header     [12]byte
	}
	left := map[key][]int{}
	for i, g := range gone {
		if g.digest.uid != 0 {
			k := key{g.date, g.size, g.header}
			left[k] = append(left[k], i)
		}
	}
	counts := map[key]int{}
	for _, n := range fresh {
		counts[key{n.date, n.size, n.header}]++
	}
	type moved struct{ gone, fresh candidate }
	var found []moved
	for _, n := range fresh {
		k := key{n.date, n.size, n.header}
		// Unique on both sides, and with a Message-ID, or it is no proof: then they are copied, which is never wrong.
		if g := left[k]; n.digest.uid != 0 && !n.weak && len(g) == 1 && counts[k] == 1 && gone[g[0]].f != n.f {
			found = append(found, moved{gone[g[0]], n})
		}
	}
	if len(found) == 0 {
		return nil
	}
	// One folder at a time: where the messages are to be on the follower.
	type source struct {
		from *folder
		pair merge.Pair
		uid  uint32 // on the follower, where it is now
	}
	targets := map[*folder]map[int]source{} // index into work.create[follower]
	away := map[*folder][]int{}             // of gone (back false) or of fresh (back true)
	for _, m := range found {
		to, from, at, off := m.fresh.f, m.gone.f, m.fresh.at, m.gone.at
		s := source{from: from}
		if back {
			to, from, at, off = m.gone.f, m.fresh.f, m.gone.at, m.fresh.at
			s = source{from: from, uid: m.fresh.uid}
			has := merge.Flags(from.work.create[p.authority][m.fresh.at].flags)
			s.pair.Base = [2]merge.Flags{has, has}
		} else {
			s.pair = from.work.expunge[follower][m.gone.at]
			s.uid = s.pair.UID[follower]
		}
		it := &to.work.create[follower][at] // dated, so that recovery knows it again when its original is gone
		d := m.fresh.digest
		if back {
			d = m.gone.digest
		}
		it.date, it.zone, it.dated = d.date, d.zone, true
		if targets[to] == nil {
			targets[to] = map[int]source{}
		}
		targets[to][at] = s
		away[from] = append(away[from], off)
	}
	for to, list := range targets {
		var steps []step
		for i, it := range to.work.create[follower] {
			s, isMove := list[i]
			var from *folder
			if isMove {
				from = s.from
			}
			if len(steps) == 0 || steps[len(steps)-1].from != from {
				steps = append(steps, step{from: from, fresh: back})
			}
			last := &steps[len(steps)-1]
			last.items = append(last.items, it)
			if isMove {
				q := s.pair
				q.UID[follower] = s.uid
				last.moved = append(last.moved, q)
			}
		}
		to.steps[follower] = mergeSteps(to.steps[follower], steps)
	}
	for from, off := range away {
		slices.Sort(off)
		if back {
			from.work.create[p.authority] = without(from.work.create[p.authority], off)
			continue
		}
		from.movedAway = append(from.movedAway, pick(from.work.expunge[follower], off)...)
		from.work.expunge[follower] = without(from.work.expunge[follower], off)
	}
	if p.opts.DryRun {
		p.report.Moved[follower] += int64(len(found))
	}
	return nil
}

// mergeSteps puts moves back into a list of steps that another search has made: the later search speaks of the same items.
func mergeSteps(old, steps []step) []step {
	if len(old) == 0 {
		return steps
	}
	known := map[uint32]step{}
	for _, s := range old {
		for i, it := range s.items {
			if s.from != nil {
				known[it.uid] = step{from: s.from, moved: s.moved[i : i+1], fresh: s.fresh}
			}
		}
	}
	var out []step
	for _, s := range steps {
		for i, it := range s.items {
			one := step{items: []item{it}, from: s.from, fresh: s.fresh}
			if s.from != nil {
				one.moved = s.moved[i : i+1]
			} else if k, ok := known[it.uid]; ok {
				one.from, one.moved, one.fresh = k.from, k.moved, k.fresh
			}
			if n := len(out); n > 0 && out[n-1].from == one.from && out[n-1].fresh == one.fresh {
				out[n-1].items = append(out[n-1].items, it)
				out[n-1].moved = append(out[n-1].moved, one.moved...)
				continue
			}
			out = append(out, one)
		}
	}
	return out
}

// without leaves elements out, by ascending index; pick takes them.
func without[T any](list []T, at []int) []T {
	out := list[:0:0]
	for i, x := range list {
		if len(at) > 0 && at[0] == i {
			at = at[1:]
			continue
		}
		out = append(out, x)
	}
	return out
}

func pick[T any](list []T, at []int) (out []T) {
	for _, i := range at {
		out = append(out, list[i])
	}
	return out
}

// know reads the digests of candidates on a side, folder by folder. One that cannot be opened any more, as its owner has deleted or renamed it
// meanwhile, or that takes connections along, is left alone in this pass.
func (p *pass) know(ctx context.Context, side config.Side, list []candidate) error {
	at := 0
	for at < len(list) {
		err := p.on(ctx, side, func(c *backend.Client) error {
			for at < len(list) {
				end := at + 1
				for end < len(list) && list[end].f == list[at].f {
					end++
				}
				if err := p.knowOf(ctx, c, side, list[at:end]); err != nil {
					return err
				}
				at = end
			}
			return nil
		})
		if err == nil {
			break
		}
		f := list[at].f
		if err := p.fail(ctx, f, err); err != nil {
			return err
		}
		for at < len(list) && list[at].f == f {
			at++
		}
	}
	return nil
}

// knowOf is know for candidates of one folder.
func (p *pass) knowOf(ctx context.Context, c *backend.Client, side config.Side, list []candidate) error {
	f := list[0].f
	var uids []uint32
	for _, x := range list {
		uids = append(uids, x.uid)
	}
	slices.Sort(uids)
	var d []digest
	_, err := c.Select(f.Name[side], backend.SelectOptions{ReadOnly: true}).Result(ctx)
	if err == nil {
		d, err = digests(ctx, c, uids)
	}
	if err != nil && !(refused(err) && asked(err) == 0) {
		return err
	}
	if err != nil {
		f.unread = side == p.authority
		return p.fail(ctx, f, fmt.Errorf("%s: %w", side, err))
	}
	by := map[uint32]digest{}
	for _, x := range d {
		by[x.uid] = x
	}
	for i := range list {
		list[i].digest = by[list[i].uid]
	}
	return nil
}
