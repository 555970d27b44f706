package syncer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// ConfirmOptions of Confirm.
type ConfirmOptions struct {
	Decides func(ctx context.Context, user string) (config.Side, int64, error) // as in RunOptions
	Wrote   []int64                                                            // mailboxes, by the IDs of the store, in which passes have written since they were last looked at
	Blind   bool                                                               // that is not known: of a side whose numbers do not tell of flags, the flags of all messages are read
}

// Confirmation is what both sides hold beside each other, by their numbers and by what the store knows of them.
type Confirmation struct {
	User        string            `json:"user"`
	At          time.Time         `json:"at"`
	Took        time.Duration     `json:"took_ns"`
	Folders     int               `json:"folders"`
	Messages    [2]int64          `json:"messages"`
	Pairs       int64             `json:"pairs"`
	Looked      int               `json:"looked"`    // folders that were opened; of the others the numbers are those of the last pass
	Aside       int64             `json:"aside"`     // in quarantine, and waiting
	Waived      int64             `json:"waived"`    // in quarantine, and no obstacle
	Late        [2]int64          `json:"late"`      // arrived since the last pass, by side
	Unkept      int64             `json:"unkept"`    // messages with flags that the other side cannot keep
	Disorder    int               `json:"disorder"`  // folders whose messages stand in another order on NEW than on OLD
	Different   int64             `json:"different"` // differences in all; no more than 100 are listed
	Differences []FolderDeviation `json:"differences,omitempty"`
	Quota       [2]Quota          `json:"quota"` // of the side that does not decide; the other one is not asked
}

// FolderDeviation is a difference that Confirm found.
type FolderDeviation struct {
	Folder string    `json:"folder"`
	Kind   string    `json:"kind"` // "gone", "stray", "flags", "count", "folder", "unfinished"
	UID    [2]uint32 `json:"uid"`
	Why    string    `json:"why"`
}

// Quota is what an account may hold; Known is false where its host does not tell.
type Quota struct {
	backend.Quota
	Known bool
}

// Over tells that an account holds more than it may: nothing more is taken in.
func (q Quota) Over() bool {
	return q.Known && (q.StorageLimit > 0 && q.Storage >= q.StorageLimit || q.MessageLimit > 0 && q.Messages >= q.MessageLimit)
}

// maxDeviations bounds the differences that are listed.
const maxDeviations = 100

func (c *Confirmation) add(f *folder, kind string, uid [2]uint32, format string, args ...any) {
	if c.Different++; len(c.Differences) < maxDeviations {
		c.Differences = append(c.Differences, FolderDeviation{f.name(), kind, uid, fmt.Sprintf(format, args...)})
	}
}

// Confirm compares both sides right behind a pass, quickly and exactly. What a host's numbers (UIDNEXT, MESSAGES, HIGHESTMODSEQ) say has not
// changed since the last pass is what that pass has seen of it: pairs and flags are those of the store. Other folders are opened, and what
// has changed is read; so are the flags of folders in which passes wrote, where the numbers do not tell of flags. Each message of either side must be
// in a pair or in quarantine, each pair's messages must be there, and their flags must be the same as far as a side can keep them. What has arrived
// since the pass is counted as late, and no difference: it is as good as what arrives in a moment. Nothing is written.
func (s *Syncer) Confirm(ctx context.Context, user string, o ConfirmOptions) (*Confirmation, error) {
	p, err := s.newPass(ctx, user, RunOptions{DryRun: true, Decides: o.Decides, Fenced: true})
	if err != nil {
		return nil, err
	}
	defer p.close()
	c := &Confirmation{User: user, At: s.o.Now().UTC()}
	if err = safely(func() error { return p.confirm(ctx, o, c) }); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	c.Took = s.o.Now().Sub(c.At)
	return c, nil
}

func (p *pass) confirm(ctx context.Context, o ConfirmOptions, c *Confirmation) error {
	intents, err := p.s.o.Store.Intents(ctx, p.user) // before the look: no pass is under way
	if err != nil {
		return err
	}
	if err := p.list(ctx); err != nil {
		return err
	}
	if len(p.plan.Refused()) > 0 {
		return &RefusedError{p.plan}
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	wrote := map[int64]bool{}
	for _, id := range o.Wrote {
		wrote[id] = true
	}
	err = p.scanBy(ctx, func(f *folder, side config.Side) mode {
		if f.Action != ActionPair || f.box.ID == 0 || !f.Exists[side] {
			return scanNone
		}
		return p.lookAgain(f, side, o.Blind || wrote[f.box.ID])
	})
	if err != nil {
		return err
	}
	for _, f := range p.folders {
		if slices.ContainsFunc(intents, func(in Intent) bool { return in.Mailbox == f.box.ID && in.Kind != IntentSuspect }) {
			c.add(f, "unfinished", [2]uint32{}, "a pass that ended early has left something to be finished here")
		}
		if err := p.confirmFolder(ctx, f, c); err != nil {
			return err
		}
		f.unload()
		f.snap = [2]*snapshot{}
	}
	to := p.authority.Other()
	c.Quota[to], err = p.quota(ctx, to)
	return err
}

// lookAgain decides how a side of a folder is looked at behind a pass.
func (p *pass) lookAgain(f *folder, side config.Side, wrote bool) mode {
	st, cur := f.status[side], f.box.Cursor[side]
	if st == nil {
		return scanNone
	}
	same := st.Validity == f.box.Validity[side] && st.UIDNext == cur.UIDNext && st.Messages == cur.Messages && st.HighestModSeq == cur.HighestModSeq
	if same && (st.HighestModSeq != 0 || st.Unseen == cur.Unseen && !wrote) {
		return scanNone
	}
	return p.modeOf(f, side)
}

func (p *pass) confirmFolder(ctx context.Context, f *folder, c *Confirmation) error {
	c.Folders++
	switch {
	case f.err != nil:
		c.add(f, "folder", [2]uint32{}, "%s", f.err)
	case f.Action != ActionPair || f.box.ID == 0 || !f.Exists[0] || !f.Exists[1]:
		why := cmp.Or(f.Why, "it was made, renamed or deleted since the last pass")
		for _, side := range config.Sides {
			if !f.Exists[side] {
				why = fmt.Sprintf("the folder is not on %s", sideName(side))
			}
		}
		c.add(f, "folder", [2]uint32{}, "%s", why)
	case f.status[0] == nil || f.status[1] == nil:
		side := config.Old
		if f.status[0] != nil {
			side = config.New
		}
		c.add(f, "folder", [2]uint32{}, "%s lists the folder and does not tell its state (STATUS): it can perhaps not be opened there", sideName(side))
	case f.status[0].Validity != f.box.Validity[0] || f.status[1].Validity != f.box.Validity[1]:
		c.add(f, "folder", [2]uint32{}, "the folder began anew (another UIDVALIDITY) since the last pass")
	default:
		return p.confirmPairs(ctx, f, c)
	}
	return nil
}

func (p *pass) confirmPairs(ctx context.Context, f *folder, c *Confirmation) error {
	if err := p.load(ctx, f); err != nil {
		return err
	}
	if f.snap[0] == nil {
		f.snap = [2]*snapshot{{}, {}}
	}
	if f.snap[0].mode != scanNone || f.snap[1].mode != scanNone {
		c.Looked++
	}
	snap, err := p.wholes(ctx, f)
	if err != nil {
		return err
	}
	var aside [2][]uint32
	for _, q := range f.quar {
		if q.Validity != f.validity(q.Side) {
			continue
		}
		if aside[q.Side] = append(aside[q.Side], q.UID); q.Decision == Waived {
			c.Waived++
		} else {
			c.Aside++
		}
	}
	for side := range aside {
		slices.Sort(aside[side])
	}
	if err := p.numberedSince(ctx, f, snap, aside); refused(err) {
		c.add(f, "folder", [2]uint32{}, "%s", err)
	} else if err != nil {
		return err
	}
	pairs := f.pairs.all()
	c.Pairs += int64(len(pairs))
	order := slices.Clone(pairs)
	for _, side := range config.Sides {
		slices.SortFunc(order, func(a, b merge.Pair) int { return cmp.Compare(a.UID[side], b.UID[side]) })
		if f.snap[side].mode == scanNone { // what is there is not listed, but counted
			n := int64(f.status[side].Messages)
			if c.Messages[side] += n; n != int64(len(pairs)+len(aside[side])) {
				c.add(f, "count", [2]uint32{}, "%s holds %d messages, and %d are accounted for", sideName(side), n, len(pairs)+len(aside[side]))
			}
			continue
		}
		c.Messages[side] += int64(len(snap[side]))
		p.account(f, side, order, snap[side], aside[side], c)
	}
	if !slices.IsSortedFunc(pairs, func(a, b merge.Pair) int { return cmp.Compare(a.UID[config.New], b.UID[config.New]) }) {
		c.Disorder++
	}
	f.confirmFlags(pairs, snap, c)
	return nil
}

// numberedSince gives pairs the UIDs that a host has given their messages since the last pass, as the next one would: nothing is lost behind a flip,
// and on a host that does so all the time no flip would ever get through. They are not kept.
func (p *pass) numberedSince(ctx context.Context, f *folder, snap [2][]merge.Entry, aside [2][]uint32) error {
	for _, side := range config.Sides {
		if f.counts(side) || f.snap[side].mode == scanNone {
			continue
		}
		other := side.Other()
		there := func(s config.Side, uid uint32) bool { return f.snap[s].mode == scanNone || has(snap[s], uid) }
		var gone []int
		known := map[uint32]bool{}
		for i, q := range f.pairs.all() {
			if known[q.UID[side]] = true; !there(side, q.UID[side]) && there(other, q.UID[other]) {
				gone = append(gone, i)
			}
		}
		fresh := slices.DeleteFunc(slices.Clone(snap[side]), func(e merge.Entry) bool {
			_, set := slices.BinarySearch(aside[side], e.UID)
			return set || known[e.UID]
		})
		if _, err := p.numbersAnew(ctx, f, side, gone, fresh); err != nil {
			return err
		}
	}
	return nil
}

// account sees to it that each message of a side stands in a pair or in quarantine, and each pair's is there.
func (p *pass) account(f *folder, side config.Side, order []merge.Pair, snap []merge.Entry, aside []uint32, c *Confirmation) {
	i := 0
	gone := func(until uint32) {
		for ; i < len(order) && (until == 0 || order[i].UID[side] < until); i++ {
			c.add(f, "gone", order[i].UID, "it is not on %s any more", sideName(side))
		}
	}
	for _, e := range snap {
		gone(e.UID)
		if i < len(order) && order[i].UID[side] == e.UID {
			i++
			continue
		}
		if _, set := slices.BinarySearch(aside, e.UID); set {
			continue
		}
		if next := f.box.Cursor[side].UIDNext; next > 0 && e.UID >= next {
			c.Late[side]++
			continue
		}
		var uid [2]uint32
		uid[side] = e.UID
		c.add(f, "stray", uid, "it is on %s only, and no pass has carried it", sideName(side))
	}
	gone(0)
}

// confirmFlags compares the flags of all pairs. Those of a side that was not looked at are as the last pass saw them.
func (f *folder) confirmFlags(pairs []merge.Pair, snap [2][]merge.Entry, c *Confirmation) {
	type key struct{ now, base [2]merge.Flags }
	type verdict struct{ unkept, differ bool }
	memo := map[key]verdict{}
	for _, q := range pairs {
		k := key{base: q.Base}
		there := true
		for side := range snap {
			if f.snap[side].mode == scanNone {
				k.now[side] = f.dict.Sent(q.Base[side])
				continue
			}
			i, ok := slices.BinarySearchFunc(snap[side], q.UID[side], func(e merge.Entry, uid uint32) int { return cmp.Compare(e.UID, uid) })
			if there = there && ok; ok {
				k.now[side] = f.dict.Sent(snap[side][i].Flags)
			}
		}
		if !there || k.now[0] == k.now[1] {
			continue
		}
		v, known := memo[k]
		if !known {
			v = verdict{unkept: true}
			for side := range k.now {
				for _, flag := range f.dict.List(k.now[side]) {
					if hasFlag(f.dict, k.now[1-side], flag) {
						continue
					}
					// It is on this side as the pass saw it, and the other one was seen without: it does not keep it.
					if !hasFlag(f.dict, q.Base[side], flag) || hasFlag(f.dict, f.dict.Settled(q.Base[1-side], k.now[1-side]), flag) {
						v = verdict{differ: true}
					}
				}
			}
			memo[k] = v
		}
		if v.differ {
			c.add(f, "flags", q.UID, "OLD has %s, NEW has %s", flagWords(f.dict, k.now[0]), flagWords(f.dict, k.now[1]))
		} else if v.unkept {
			c.Unkept++
		}
	}
}

func flagWords(d *merge.Dict, flags merge.Flags) string {
	if list := d.List(flags); len(list) > 0 {
		return strings.Join(list, " ")
	}
	return "no flags"
}

// quota asks what an account may hold. A refusal is no answer, and no trouble.
func (p *pass) quota(ctx context.Context, side config.Side) (q Quota, err error) {
	err = p.on(ctx, side, func(c *backend.Client) (err error) {
		q, err = quotaOf(ctx, c)
		return err
	})
	return q, err
}

// quotaOf is the quota of an account; a refusal is as good as no answer.
func quotaOf(ctx context.Context, c *backend.Client) (q Quota, err error) {
	q.Quota, q.Known, err = c.Quota(ctx, inboxName)
	if refused(err) {
		return Quota{}, nil
	}
	return q, err
}
