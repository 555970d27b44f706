package syncer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"mailgate/config"
	"mailgate/syncer/merge"
)

// idsOf tells how the UIDs of a folder's pairs agree.
type idsOf struct {
	pairs   int64
	other   int64 // pairs with another UID on the other side
	crossed int64 // of those: it is the UID of other mail on the first side

	late [2][]uint32 // UIDs that a pass itself has made since the cursor, ascending
}

// known reads what the store knows.
func (w *outlook) known(ctx context.Context) error {
	boxes, err := w.s.o.Store.Mailboxes(ctx, w.f.User)
	if err != nil {
		return err
	}
	lost := map[string]int64{}
	for _, m := range boxes {
		r := &outlookRow{name: m.Name, shown: folderTitle(cmp.Or(m.Name[config.Old], m.Name[config.New])), box: m, size: [2]int64{-1, -1}}
		if err := w.pairs(ctx, r, lost); err != nil {
			return err
		}
		w.rows = append(w.rows, r)
	}
	for name, n := range lost {
		w.f.Flags.Messages += n
		w.f.Flags.Names = append(w.f.Flags.Names, oneLine(name, 100))
	}
	slices.Sort(w.f.Flags.Names)
	w.f.Never = !(&gapKnown{boxes: boxes}).passed()
	if err := w.waiting(ctx); err != nil {
		return err
	}
	return w.passes(ctx)
}

// pairs goes through the pairs of a folder.
func (w *outlook) pairs(ctx context.Context, r *outlookRow, lost map[string]int64) error {
	dict, err := merge.DecodeDict(r.box.Flags)
	if err != nil {
		return fmt.Errorf("mailbox %d: %w", r.box.ID, err)
	}
	chunks, err := w.s.o.Store.Chunks(ctx, r.box.ID)
	if err != nil {
		return err
	}
	set, err := loadPairs(chunks)
	if err != nil {
		return fmt.Errorf("mailbox %d: %w", r.box.ID, err)
	}
	from, to := w.f.From, w.f.To
	for _, c := range set.chunks {
		for _, p := range c.pairs {
			r.ids.pairs++
			if p.UID[0] != p.UID[1] {
				r.ids.other++
				if _, there := set.find(p.UID[config.New]); there {
					r.ids.crossed++
				}
			}
			for side := range r.ids.late {
				if uid := p.UID[side]; uid >= r.box.Cursor[side].UIDNext && r.box.Cursor[side].UIDNext > 0 {
					r.ids.late[side] = append(r.ids.late[side], uid)
				}
			}
			if p.Base[0] != p.Base[1] {
				for _, flag := range dict.Without(dict.Sent(p.Base[from]), p.Base[to]) {
					lost[flag]++
				}
			}
		}
	}
	for side := range r.ids.late {
		slices.Sort(r.ids.late[side])
	}
	return nil
}

// waiting finds what waits for a person.
func (w *outlook) waiting(ctx context.Context) error {
	list, err := w.s.o.Store.Quarantine(ctx, w.f.User)
	if err != nil {
		return err
	}
	reasons := map[string]int{}
	n := 0
	for _, q := range list {
		if q.Decision == Waived {
			continue
		}
		n++
		reasons[q.Reason]++
	}
	if n > 0 {
		var why []string
		for _, reason := range slices.Sorted(maps.Keys(reasons)) {
			why = append(why, fmt.Sprintf("%s %s", reason, Thousands(int64(reasons[reason]))))
		}
		w.inWay("mailgate quarantine list "+w.f.User+", and retry or waive them", "%s in quarantine (%s)", messagesText64(int64(n)), strings.Join(why, ", "))
	}
	return nil
}

// recentPasses is how many passes tell how long one takes.
const recentPasses = 20

// passes looks at how long passes took, and at what the last one has left.
func (w *outlook) passes(ctx context.Context) error {
	runs, err := w.s.o.Store.Runs(ctx, w.f.User, recentPasses)
	if err != nil {
		return err
	}
	for i, rep := range whole(runs) {
		w.took = append(w.took, passTime{rep.Took, rep.Copied[0] + rep.Copied[1] + rep.Paired})
		if i > 0 {
			continue
		}
		for _, h := range rep.Held {
			w.inWay("look what happened there, and mailgate sync run "+w.f.User+" --deletes if it is meant", "%s of %s are held back on %s: %s",
				count64(int64(h.Messages), "delete"), h.Folder, strings.ToUpper(h.Side), oneLine(h.Why, 300))
		}
		for _, e := range rep.Errors {
			w.inWay("see to it, and mailgate sync run "+w.f.User, "the last pass could not do %s: %s", e.Folder, oneLine(e.Error, 300))
		}
	}
	return nil
}

// whole are the reports of passes that came to their end, the newest first.
func whole(runs []Run) (list []Report) {
	for _, r := range runs {
		var rep Report
		if r.Error == "" && !r.Ended.IsZero() && json.Unmarshal(r.Summary, &rep) == nil {
			list = append(list, rep)
		}
	}
	return list
}

// lastPass is the report of the last one that came to its end; nil when none did.
func (w *outlook) lastPass(ctx context.Context) (*Report, error) {
	runs, err := w.s.o.Store.Runs(ctx, w.f.User, recentPasses)
	if err != nil {
		return nil, err
	}
	if list := whole(runs); len(list) > 0 {
		return &list[0], nil
	}
	return nil, nil
}
