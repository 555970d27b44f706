package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// work is what is to be done in one folder.
type work struct {
	merged  bool
	agreed  int             // pairs of when both sides were last in agreement
	create  [2][]item       // on that side, ascending by the original's UID
	expunge [2][]merge.Pair // on that side
	change  [2][]change
	drop    []uint32 // pairs that are gone on both sides, by UID on OLD
	rebase  []rebase
	left    map[uint32][2]merge.Flags // by UID on OLD, what is gone from the follower: its base, where flags changed on the side that decides; see leaveGone
	again   bool                      // something was left undone: the next pass has to look again, whatever the cursors say
}

// any tells whether there is something to be done on either side.
func (w *work) any() bool {
	for side := range w.create {
		if len(w.create[side])+len(w.expunge[side])+len(w.change[side]) > 0 {
			return true
		}
	}
	return false
}

// change is one delta of flags for messages of one side.
type change struct {
	add, remove []string
	pairs       []merge.Pair
	base        [2]merge.Flags // afterwards
}

type rebase struct {
	uid  uint32 // on OLD
	base [2]merge.Flags
}

// pair merges what was scanned, folder by folder: what is to be done remains, what was read goes.
func (p *pass) pair(ctx context.Context) error {
	for _, f := range p.folders {
		if f.err != nil || f.snap[0] == nil {
			continue
		}
		if err := p.mergeFolder(ctx, f); err != nil {
			if err := p.fail(ctx, f, err); err != nil {
				return err
			}
			continue
		}
		p.progress(func(g *Progress) { g.Folders[0]++ })
	}
	p.progress(func(g *Progress) { g.Folders[0] = 0 })
	return nil
}

func (p *pass) mergeFolder(ctx context.Context, f *folder) error {
	if f.pairs == nil {
		if err := p.load(ctx, f); err != nil {
			return err
		}
	}
	snap, err := p.wholes(ctx, f)
	if err != nil {
		return err
	}
	if f.reset[0] || f.reset[1] {
		if err := p.anew(ctx, f, snap); err != nil {
			return err
		}
	}
	if err := p.twins(ctx, f, &snap); err != nil {
		return err
	}
	res := p.merge(f, snap)
	again, err := p.lookTwice(ctx, f, &snap, res)
	if err != nil {
		return err
	}
	if again {
		res = p.merge(f, snap)
	}
	numbered := false
	for _, side := range config.Sides { // one after the other: what is paired anew has another place among the pairs
		n, err := p.newNumbers(ctx, f, side, res)
		if err != nil {
			return err
		}
		if n {
			numbered = true
			res = p.merge(f, snap)
		}
	}
	matched, err := p.matchNew(ctx, f, snap, res)
	if err != nil {
		return err
	}
	if matched = matched || numbered; matched {
		res = p.merge(f, snap)
		if !p.opts.DryRun && f.box.ID != 0 {
			f.adopt()
			if _, err := p.save(ctx, f, Change{}); err != nil {
				return err
			}
		}
	}
	if err := p.deletedAndNumbered(ctx, f, res); err != nil {
		return err
	}
	p.workOf(f, snap, res)
	f.adopt()
	if !f.pairsDirty() {
		f.pairs = nil // they are read again when it is this folder's turn
	}
	for side := range f.snap {
		f.snap[side] = &snapshot{mode: f.snap[side].mode} // how it was looked at is still asked for at the end
	}
	return nil
}

// wholes are all messages of both sides of a folder that was scanned.
func (p *pass) wholes(ctx context.Context, f *folder) (snap [2][]merge.Entry, err error) {
	for _, side := range config.Sides {
		snap[side] = f.whole(side)
		// Not as many messages as what is known and what has changed come to: something was not told of.
		if f.snap[side].mode == scanDelta && f.opened[side] != nil && uint32(len(snap[side])) != f.opened[side].Exists {
			f.snap[side].mode = scanFull
			if err := errors.Join(p.scanSide(ctx, side, []*folder{f}), f.scanErr[side]); err != nil {
				return snap, err
			}
			snap[side] = f.whole(side)
		}
	}
	return snap, nil
}

func (f *folder) pairsDirty() bool {
	return slices.ContainsFunc(f.pairs.chunks, func(c pairChunk) bool { return c.dirty })
}

func (p *pass) merge(f *folder, snap [2][]merge.Entry) merge.Result {
	in := merge.Input{Dict: f.dict, Authority: merge.Side(p.authority), Base: f.takenOff(snap), Snap: snap}
	for side, sel := range f.opened {
		if sel != nil && config.Side(side) != p.authority { // what EXAMINE says of the other side means nothing
			in.CanKeep[side] = sel.CanKeep
		}
	}
	return merge.Mailbox(in)
}

// takenOff are the pairs, where a keyword that a side has taken with OK and does not have at the first sight counts as kept and taken off since, if the
// mailbox says that it is one of its flags (RFC 9051, section 7.3.5): what a host takes and does not keep is none of those.
func (f *folder) takenOff(snap [2][]merge.Entry) []merge.Pair {
	pairs, copied := f.pairs.all(), false
	for side, sel := range f.opened {
		if sel == nil {
			continue
		}
		for i, q := range pairs {
			sent := f.dict.Sent(q.Base[side])
			if sent == q.Base[side] || !has(snap[side], q.UID[side]) {
				continue
			}
			now := flagsOf(snap[side], q.UID[side])
			lacks := slices.DeleteFunc(f.dict.Without(sent, now), func(flag string) bool { return flag[0] == '\\' })
			if f.dict.Sent(now) != now || len(lacks) == 0 || slices.ContainsFunc(lacks, func(flag string) bool {
				return !slices.ContainsFunc(sel.Flags, func(s string) bool { return strings.EqualFold(s, flag) })
			}) {
				continue
			}
			if !copied {
				pairs, copied = slices.Clone(pairs), true
			}
			pairs[i].Base[side] = sent
		}
	}
	return pairs
}

// anew pairs a mailbox again after one side (or both) began it anew, under another UIDVALIDITY: by content. What had a pair and
// is left unmatched on one side was perhaps deleted, perhaps lost on the other: it is neither deleted nor brought back.
func (p *pass) anew(ctx context.Context, f *folder, snap [2][]merge.Entry) error {
	old := slices.Clone(f.pairs.all())
	f.pairs.clear()
	res := p.merge(f, snap)
	if _, err := p.matchNew(ctx, f, snap, res); err != nil {
		return err
	}
	// Flags that both had in common are still known by the UID on the side that was not reset.
	for _, side := range config.Sides {
		if f.reset[side.Other()] && !f.reset[side] {
			base := make(map[uint32][2]merge.Flags, len(old))
			for _, q := range old {
				base[q.UID[side]] = q.Base
			}
			for _, q := range slices.Clone(f.pairs.all()) {
				if b, ok := base[q.UID[side]]; ok {
					q.Base = b
					f.pairs.put(q)
				}
			}
		}
	}
	if f.reset[0] != f.reset[1] {
		p.inDoubt(f, snap, old)
	}
	p.s.o.Log.Warn("a mailbox began anew", "user", p.user, "folder", f.name(), "pairs_before", len(old), "pairs_now", f.pairs.len())
	return p.saveAnew(ctx, f)
}

// inDoubt puts what may have been deleted on the side that decides into quarantine, on the follower. When it was that side that
// began anew, this is what had a pair and has none now. When it was the follower, nobody knows its messages by their UIDs any
// more: when the deciding side has deleted some meanwhile, any that it lacks may be of those.
func (p *pass) inDoubt(f *folder, snap [2][]merge.Entry, old []merge.Pair) {
	follower := p.authority.Other()
	paired := map[uint32]bool{}
	for _, q := range f.pairs.all() {
		paired[q.UID[follower]] = true
	}
	var doubt []uint32
	why := fmt.Sprintf("the mailbox was reset on %s (another UIDVALIDITY, or an older state restored): these messages are not there any more; they stay on %s until a person decides", p.authority, follower)
	detail := fmt.Sprintf("the mailbox began anew on %s, and has this message no more", p.authority)
	if f.reset[p.authority] {
		for _, q := range old {
			if uid := q.UID[follower]; !paired[uid] && has(snap[follower], uid) {
				doubt = append(doubt, uid)
			}
		}
	} else {
		if !slices.ContainsFunc(old, func(q merge.Pair) bool { return !has(snap[p.authority], q.UID[p.authority]) }) {
			return
		}
		why = fmt.Sprintf("the mailbox was reset on %s (another UIDVALIDITY, or an older state restored) after mail was deleted on %s: these messages are not on %s, and stay on %s until a person decides", follower, p.authority, p.authority, follower)
		detail = fmt.Sprintf("the mailbox began anew on %s, and %s has deleted mail since the last pass: this message is not there", follower, p.authority)
		for _, e := range snap[follower] {
			if !paired[e.UID] {
				doubt = append(doubt, e.UID)
			}
		}
	}
	if len(doubt) == 0 {
		return
	}
	now := p.s.o.Now()
	for _, uid := range doubt {
		f.quar = append(f.quar, Quarantined{User: p.user, Mailbox: f.box.ID, Side: follower, Validity: f.validity(follower), UID: uid,
			Reason: reasonReset, Detail: detail, First: now, Last: now})
	}
	p.hold(f, follower, len(doubt), len(old), why)
}

func (p *pass) saveAnew(ctx context.Context, f *folder) error {
	if p.opts.DryRun {
		return nil
	}
	for side := range f.opened {
		if f.opened[side] != nil {
			f.box.Validity[side], f.box.Cursor[side] = f.opened[side].Validity, Cursor{}
		}
	}
	_, err := p.save(ctx, f, Change{Quarantine: f.quar})
	return err
}

func has(list []merge.Entry, uid uint32) bool {
	_, ok := slices.BinarySearchFunc(list, uid, func(e merge.Entry, uid uint32) int { return cmp.Compare(e.UID, uid) })
	return ok
}

// matchNew pairs mail that is new on both sides by content: a target that another tool has filled, a mailbox that began
// anew, an append that came true late. It tells whether anything was paired.
func (p *pass) matchNew(ctx context.Context, f *folder, snap [2][]merge.Entry, res merge.Result) (bool, error) {
	// Create[New] are OLD's messages, and the other way round.
	fresh := [2][]merge.Entry{res.Create[config.New], res.Create[config.Old]}
	follower := p.authority.Other()
	if len(fresh[0]) == 0 || len(fresh[1]) == 0 {
		return false, nil
	}
	var conns [2]*backend.Client
	err := p.both(ctx, config.New, func(src, dst *backend.Client) error {
		conns = [2]*backend.Client{src, dst}
		var d [2][]digest
		for side, c := range conns {
			if _, err := c.Select(f.Name[side], backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
				return err
			}
			uids := make([]uint32, len(fresh[side]))
			for i, e := range fresh[side] {
				uids[i] = e.UID
			}
			var err error
			if d[side], err = digests(ctx, c, uids); err != nil {
				return err
			}
		}
		pairs, err := matchDigests(ctx, d[0], d[1], [2]hasher{hashOf(src), hashOf(dst)})
		if err != nil {
			return err
		}
		for _, x := range pairs {
			q := merge.Pair{UID: [2]uint32{d[0][x[0]].uid, d[1][x[1]].uid}}
			b := flagsOf(snap[follower], q.UID[follower]) // what the side that decides has beyond that goes to the follower
			q.Base = [2]merge.Flags{b, b}
			f.pairs.put(q)
		}
		p.report.Paired += int64(len(pairs))
		return nil
	})
	if err != nil {
		return false, err
	}
	return true, nil
}

// adopt takes over the UIDVALIDITY that was found. A cursor says nothing of another mailbox.
func (f *folder) adopt() {
	for side, sel := range f.opened {
		if sel != nil && f.box.Validity[side] != sel.Validity {
			f.box.Validity[side], f.box.Cursor[side] = sel.Validity, Cursor{}
		}
	}
}

func flagsOf(list []merge.Entry, uid uint32) merge.Flags {
	i, ok := slices.BinarySearchFunc(list, uid, func(e merge.Entry, uid uint32) int { return cmp.Compare(e.UID, uid) })
	if !ok {
		return 0
	}
	return list[i].Flags
}

// workOf turns the result of the merge into what is to be done, in UIDs.
func (p *pass) workOf(f *folder, snap [2][]merge.Entry, res merge.Result) {
	w := &f.work
	pairs := f.pairs.all()
	for side, unsteady := range f.unsteady {
		if unsteady {
			res.Expunge[1-side], res.Recreate[side], res.Drop, w.again = nil, nil, nil, true
		}
	}
	for flag, n := range res.Lost {
		p.report.Lost[flag] += int64(n)
	}
	for _, c := range res.Conflict {
		p.report.Conflicts[c.Kind]++
	}
	for _, to := range config.Sides {
		from := to.Other()
		skip := p.barred(f, from, snap[from])
		w.create[to] = slices.Grow(w.create[to], len(res.Create[to])+len(res.Recreate[to])) // a first copy is all of the mailbox
		for _, e := range res.Create[to] {
			if !skip[e.UID] {
				w.create[to] = append(w.create[to], item{uid: e.UID, flags: uint32(e.Flags)})
			}
		}
		for _, i := range res.Recreate[to] {
			q := pairs[i]
			if skip[q.UID[from]] {
				continue
			}
			now := flagsOf(snap[from], q.UID[from])
			if p.opts.Leave && now != q.Base[from] {
				if w.left == nil {
					w.left = map[uint32][2]merge.Flags{}
				}
				base := q.Base
				base[from] = now
				w.left[q.UID[config.Old]] = base
			}
			w.create[to] = append(w.create[to], item{uid: q.UID[from], flags: uint32(f.dict.Sent(now)), again: q.UID[config.Old], gone: q.UID[to]})
		}
		slices.SortFunc(w.create[to], func(a, b item) int { return cmp.Compare(a.uid, b.uid) })
		dated := f.snap[from].dates
		j := 0
		for i := range w.create[to] {
			it := &w.create[to][i]
			for j < len(dated) && dated[j].uid < it.uid {
				j++
			}
			if j < len(dated) && dated[j].uid == it.uid {
				it.date, it.zone, it.size, it.dated = dated[j].date, dated[j].zone, dated[j].size, true
			}
		}
		for _, i := range res.Expunge[to] {
			w.expunge[to] = append(w.expunge[to], pairs[i])
		}
		for _, c := range res.Change[to] {
			x := change{add: c.Add, remove: c.Remove, base: c.Base}
			for _, i := range c.Pairs {
				x.pairs = append(x.pairs, pairs[i])
			}
			w.change[to] = append(w.change[to], x)
		}
	}
	for _, i := range res.Drop {
		w.drop = append(w.drop, pairs[i].UID[config.Old])
	}
	for _, r := range res.Rebase {
		w.rebase = append(w.rebase, rebase{pairs[r.Pair].UID[config.Old], r.Base})
	}
	next := [2]uint32{f.box.Cursor[0].UIDNext, f.box.Cursor[1].UIDNext}
	follower := p.authority.Other()
	for _, q := range pairs { // by either UID: hosts exist that give others
		if next[p.authority] == 0 || q.UID[p.authority] < next[p.authority] || q.UID[follower] < next[follower] {
			w.agreed++
		}
	}
	w.merged = true
	p.progress(func(g *Progress) {
		g.Messages[1] += int64(len(w.create[0]) + len(w.create[1]))
	})
}

// barred are the UIDs of a side that are not to be copied in this pass: those in quarantine. What is in quarantine and
// gone is let go.
func (p *pass) barred(f *folder, side config.Side, snap []merge.Entry) map[uint32]bool {
	out := map[uint32]bool{}
	f.quar = slices.DeleteFunc(f.quar, func(q Quarantined) bool {
		if q.Side != side {
			return false
		}
		looked := f.snap[side].mode != scanNone // otherwise only what is paired shows
		if q.Validity != f.validity(side) || looked && !has(snap, q.UID) {
			p.release = append(p.release, q)
			return true
		}
		if !p.retry(q) {
			out[q.UID] = true
			p.report.aside(q)
		}
		return false
	})
	return out
}

func (f *folder) validity(side config.Side) uint32 {
	if f.opened[side] != nil {
		return f.opened[side].Validity
	}
	return f.box.Validity[side]
}

// hold notes deletes that wait for a person.
func (p *pass) hold(f *folder, side config.Side, n, of int, why string) {
	p.count(func(r *Report) {
		r.Held = append(r.Held, Held{Folder: f.name(), Side: side.String(), Messages: n, Of: of, Why: why})
	})
}

// uidSets are UIDs of pairs on one side, as command arguments.
func uidSets(pairs []merge.Pair, side config.Side) []string {
	return imapwire.SplitUIDs(uidsOf(pairs, side), lineLength)
}

// uidsOf are UIDs of pairs on one side, ascending.
func uidsOf(pairs []merge.Pair, side config.Side) []uint32 {
	uids := make([]uint32, len(pairs))
	for i, q := range pairs {
		uids[i] = q.UID[side]
	}
	slices.Sort(uids)
	return uids
}
