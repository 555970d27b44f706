package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
)

// mostSizes is how many messages are asked for their size one by one.
const mostSizes = 5000

// hosts asks both sides: what they hold, in one listing each, and the sizes of what is to be told in bytes.
func (w *outlook) hosts(ctx context.Context) error {
	began := time.Now()
	p, err := w.s.newPass(ctx, w.f.User, RunOptions{DryRun: true, Wait: forecastWait})
	if err == nil {
		defer p.close()
		err = safely(func() error { return p.list(ctx) })
	}
	w.look = time.Since(began)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isStore(err):
		return err
	case err != nil:
		w.unknown("what the hosts hold now", err)
		w.f.POP3.Why = "the hosts could not be asked"
		return nil
	}
	w.f.Asked = true
	w.fold(p)
	if err := safely(func() error { return w.askBoth(ctx, p) }); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.unknown("sizes", err)
	}
	w.carry()
	return w.pop3(ctx, p)
}

// fold puts what was listed beside what is known.
func (w *outlook) fold(p *pass) {
	var rows []*outlookRow
	for _, line := range p.folders {
		r := &outlookRow{shown: line.name(), size: [2]int64{-1, -1}, status: line.status}
		if i := slices.IndexFunc(w.rows, func(x *outlookRow) bool { return line.was.ID != 0 && x.box.ID == line.was.ID }); i >= 0 {
			r.box, r.ids = w.rows[i].box, w.rows[i].ids
		}
		for side := range r.name {
			if line.Exists[side] {
				r.name[side] = line.Name[side]
			}
			if line.status[side] != nil && line.status[side].Size > 0 {
				r.size[side] = line.status[side].Size
			}
		}
		rows = append(rows, r)
	}
	w.rows = rows
	for _, line := range p.plan.Folders {
		switch {
		case line.Action == ActionRefuse:
			w.inWay("mailgate sync plan "+w.f.User+", and write what it asks for into mailgate.yaml", "folder %s: %s", shownName(line), readable(line.Why))
		case line.Action == ActionSkip && line.Exists[w.f.From]:
			w.f.IMAP.Gone++
		}
	}
	for _, side := range config.Sides {
		for _, r := range rows {
			if st := r.status[side]; st != nil {
				w.told[side] = true
				w.cheap[side] = w.cheap[side] || st.HasHighestModSeq && st.HighestModSeq > 0
			}
		}
	}
}

// askBoth asks for capabilities and sizes, one side after the other.
func (w *outlook) askBoth(ctx context.Context, p *pass) error {
	var caps [2][]string
	var errs error
	for _, side := range config.Sides {
		err := p.on(ctx, side, func(c *backend.Client) error {
			caps[side] = imapwire.OfferableStrings(c.Capabilities())
			if err := w.sizes(ctx, side, c); err != nil {
				return err
			}
			return w.newMail(ctx, side, c)
		})
		errs = errors.Join(errs, err)
	}
	if caps[0] != nil && caps[1] != nil {
		_, w.f.Lost, w.f.Gained = Compare(caps[w.f.From], caps[w.f.To])
	}
	return errs
}

// sizes asks how large the folders are that clients will download again: by STATUS where the host has that, else of each message where there
// are few.
func (w *outlook) sizes(ctx context.Context, side config.Side, c *backend.Client) error {
	asked := map[*outlookRow]*backend.StatusCommand{}
	left := int64(mostSizes)
	for _, r := range w.rows {
		if st := r.status[side]; r.name[side] == "" || st == nil || r.keeps() {
			continue
		} else if st.Messages == 0 {
			r.size[side] = 0
			continue
		}
		if c.Has("STATUS=SIZE") || c.Has("IMAP4REV2") {
			asked[r] = c.Status(r.name[side], "MESSAGES", "SIZE")
		} else if n := int64(r.status[side].Messages); side == w.f.From && n <= left {
			left -= n
			size, err := sizeOf(ctx, c, r.name[side], 1, nil)
			if err != nil && !refused(err) {
				return err
			} else if err == nil {
				r.size[side] = size.Bytes
			}
		}
	}
	for r, x := range asked {
		st, err := x.Result(ctx)
		switch {
		case err == nil:
			r.size[side] = st.Size
		case !refused(err):
			return err
		}
	}
	return nil
}

// sizeOf counts the messages of a mailbox from a UID on, but for those that are known, and their bytes.
func sizeOf(ctx context.Context, c *backend.Client, name string, first uint32, known []uint32) (a Amount, err error) {
	if _, err = c.Select(name, backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
		return a, err
	}
	err = c.Fetch(fmt.Sprintf("%d:*", first), backend.FetchOptions{Items: []string{"RFC822.SIZE"}, Message: func(m *backend.Message) error {
		if _, old := slices.BinarySearch(known, m.UID); m.UID >= first && !old { // "*" is the last one, however low its UID is
			a.Messages++
			a.Bytes += m.Size
		}
		return nil
	}}).Wait(ctx)
	return a, err
}

// newMail counts what has come since the last pass and is on one side only.
func (w *outlook) newMail(ctx context.Context, side config.Side, c *backend.Client) error {
	left := int64(mostSizes)
	for _, r := range w.rows {
		st, cur := r.status[side], r.box.Cursor[side]
		if st == nil || r.box.ID == 0 || cur.UIDNext == 0 || st.Validity != r.box.Validity[side] || st.UIDNext <= cur.UIDNext {
			continue
		}
		late := r.ids.late[side]
		n := min(int64(st.Messages), int64(st.UIDNext-cur.UIDNext)-int64(len(late)))
		if n <= 0 {
			continue
		}
		a := Amount{Messages: n, About: true, NoBytes: "there is too much of it to ask for each size"}
		if asked := n + int64(len(late)); asked <= left {
			left -= asked
			got, err := sizeOf(ctx, c, r.name[side], cur.UIDNext, late)
			switch {
			case err == nil:
				a = got
			case refused(err):
				a.NoBytes = whyNot(err)
			default:
				return err
			}
		}
		if a.Messages == 0 {
			continue
		}
		a.Folders = 1
		if side == w.f.From {
			r.fresh = a
		}
		w.f.Carry[side.Other()].add(a)
	}
	return nil
}

// carry adds what no pass has been through with, and counts folders that have changed otherwise.
func (w *outlook) carry() {
	for _, r := range w.rows {
		changed := false
		for _, side := range config.Sides {
			st, cur := r.status[side], r.box.Cursor[side]
			switch {
			case st == nil:
				continue
			case r.box.ID == 0 || cur.UIDNext == 0: // the first copy is not through with it
				n := int64(st.Messages) - r.ids.pairs
				if n <= 0 || r.box.ID == 0 && side == w.f.To && r.status[w.f.From] != nil { // a pass finds out what both have
					continue
				}
				a := Amount{Folders: 1, Messages: n, Bytes: max(0, r.size[side])}
				if r.size[side] < 0 {
					a.NoBytes = sideName(side) + " does not tell sizes (STATUS=SIZE)"
				} else if n < int64(st.Messages) {
					a.Bytes, a.About = a.Bytes*n/int64(st.Messages), true
				}
				if side == w.f.From {
					r.fresh = a
				}
				w.f.Carry[side.Other()].add(a)
			case st.Validity != r.box.Validity[side]:
				changed = true
				w.note("%s began anew on %s (another UIDVALIDITY): the next pass compares it whole", r.shown, sideName(side))
			default:
				changed = changed || st.UIDNext == cur.UIDNext && w.s.differs(r.box, side, st)
			}
		}
		if changed {
			w.f.Changed++
		}
	}
}

// Compare parts two lists into what stands in both and what stands in one only, in their order and without regard to letter case.
func Compare(from, to []string) (both, lost, gained []string) {
	has := func(list []string, x string) bool {
		return slices.ContainsFunc(list, func(y string) bool { return strings.EqualFold(x, y) })
	}
	for _, x := range from {
		if has(to, x) {
			both = append(both, x)
		} else {
			lost = append(lost, x)
		}
	}
	for _, x := range to {
		if !has(from, x) {
			gained = append(gained, x)
		}
	}
	return both, lost, gained
}

// pop3 compares the unique-ids of his INBOX on both sides, by its pairs.
func (w *outlook) pop3(ctx context.Context, p *pass) error {
	g := &w.f.POP3
	if w.o.UIDLs == nil {
		g.Why = "it was not asked"
		return nil
	}
	if w.noPOP3() {
		return nil
	}
	i := slices.IndexFunc(w.rows, func(r *outlookRow) bool { return peekName(r.name[w.f.From]) == "INBOX" })
	if i < 0 || w.rows[i].box.ID == 0 {
		g.Why = "no pass has been over his INBOX yet"
		if i >= 0 && w.rows[i].status[w.f.From] != nil {
			g.Of = int64(w.rows[i].status[w.f.From].Messages)
		}
		return nil
	}
	r := w.rows[i]
	chunks, err := w.s.o.Store.Chunks(ctx, r.box.ID)
	if err != nil {
		return err
	}
	set, err := loadPairs(chunks)
	if err != nil {
		return err
	}
	var ids [2]map[uint32]string
	for _, side := range []config.Side{w.f.From, w.f.To} {
		ids[side], err = w.uidls(ctx, p, side, r)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, backend.ErrNoHost):
			w.o.NoPOP3[side] = true
			w.noPOP3()
			return nil
		case err != nil:
			g.Why = sideName(side) + ": " + whyNot(err)
			return nil
		}
	}
	g.Known, g.Of = true, int64(len(ids[w.f.From]))
	seen := make(map[string]bool, len(ids[w.f.From]))
	for _, id := range ids[w.f.From] {
		seen[id] = true
	}
	g.Messages = g.Of
	for _, q := range set.all() {
		a, ok := ids[w.f.From][q.UID[w.f.From]]
		b, there := ids[w.f.To][q.UID[w.f.To]]
		switch {
		case !ok || !there: // deleted since, or to be carried
		case a == b:
			g.Messages--
		case seen[b]:
			g.Mixed++
		}
	}
	return nil
}

// noPOP3 tells that a side has no POP3, and what that means.
func (w *outlook) noPOP3() bool {
	from, to := w.f.From, w.f.To
	switch {
	case w.o.NoPOP3[from]:
		w.f.POP3 = AgainPOP3{Known: true, Why: sideName(from) + " has no POP3: nobody uses it"}
	case w.o.NoPOP3[to]:
		w.f.POP3 = AgainPOP3{Known: true, Why: "careful: " + sideName(to) + " has no POP3, so that who uses it on " + sideName(from) + " cannot go on"}
	default:
		return false
	}
	return true
}

// uidls are the unique-ids of a side's INBOX by UID. POP3 numbers messages as IMAP does; mail may come in between.
func (w *outlook) uidls(ctx context.Context, p *pass, side config.Side, r *outlookRow) (map[uint32]string, error) {
	var uids []uint32
	var list []string
	for range 3 {
		err := p.on(ctx, side, func(c *backend.Client) error {
			uids = uids[:0]
			if _, err := c.Select(r.name[side], backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
				return err
			}
			if err := c.Search("ALL", func(x backend.Range) {
				for uid := x.First; uid != 0 && uid <= x.Last; uid++ {
					uids = append(uids, uid)
				}
			}).Wait(ctx); err != nil {
				return err
			}
			return c.Unselect().Wait(ctx) // Dovecot and others let one session at a time expunge
		})
		if err != nil {
			return nil, err
		}
		if list, err = w.o.UIDLs(ctx, side, w.f.User); err != nil {
			return nil, err
		}
		if len(list) == len(uids) {
			slices.Sort(uids)
			out := make(map[uint32]string, len(list))
			for i, uid := range uids {
				out[uid] = list[i]
			}
			return out, nil
		}
	}
	return nil, fmt.Errorf("there are %d messages by POP3 and %d by IMAP: it is not the same mailbox, or not all of it", len(list), len(uids))
}

// total is all that is to be carried.
func (f *Forecast) total() (a Amount) {
	a.add(f.Carry[f.To])
	a.add(f.Carry[f.From])
	return a
}

// largest orders by what clients will download.
func largest(a, b *Forecast) int {
	return cmp.Or(cmp.Compare(b.IMAP.Bytes, a.IMAP.Bytes), cmp.Compare(b.IMAP.Messages, a.IMAP.Messages), strings.Compare(a.User, b.User))
}
