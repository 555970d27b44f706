package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// conclude carries subscriptions and deletions of folders, and notes how far the pass has come.
func (p *pass) conclude(ctx context.Context) error {
	for _, side := range config.Sides {
		if err := p.subscribe(ctx, side); err != nil {
			return err
		}
	}
	for _, f := range p.folders { // what was to be moved into a folder that failed still stands where it was
		for _, steps := range f.steps {
			for _, st := range steps {
				if f.err != nil && st.from != nil {
					st.from.work.again = true
					st.from.stuck = true
				}
			}
		}
	}
	for _, f := range slices.Backward(p.folders) { // children before their parents
		if f.Action == ActionGone && f.err == nil {
			if err := p.gone(ctx, f); err != nil {
				if err := p.fail(ctx, f, err); err != nil {
					return err
				}
			}
		}
	}
	if p.opts.DryRun {
		return nil
	}
	c := Change{Release: p.release, Quarantine: p.newQuarantine}
	for _, f := range p.folders {
		if f.err != nil || f.box.ID == 0 || f.Action == ActionGone {
			continue
		}
		f.box.Subscribed = p.wanted(f)
		f.box.GoneSince = f.was.GoneSince
		if f.Exists[0] && f.Exists[1] {
			f.box.GoneSince = time.Time{}
			if !f.was.GoneSince.IsZero() {
				p.s.o.Clock.back(f.box.ID)
			}
		}
		for side, sel := range f.opened {
			if sel != nil && sel.MailboxID != "" {
				f.box.MailboxID[side] = sel.MailboxID
			}
		}
		if f.work.merged && !f.work.again {
			p.advance(f)
		}
		if f.was.ID != 0 && f.work.any() {
			p.s.busy(p.user, f.box.ID)
		}
		if f.work.any() {
			p.report.touched = append(p.report.touched, f.box.ID)
		}
		if !sameBox(f.box, f.was) {
			c.Mailboxes = append(c.Mailboxes, f.box)
		}
	}
	if len(c.Mailboxes)+len(c.Release)+len(c.Quarantine) == 0 {
		return nil
	}
	_, err := p.write(ctx, c)
	return err
}

// advance sets the cursors to what was listed when the pass began: what has changed since shows the next time.
func (p *pass) advance(f *folder) {
	for side, st := range f.status {
		if st == nil {
			continue
		}
		cur := Cursor{UIDNext: st.UIDNext, Messages: st.Messages, Unseen: st.Unseen, HighestModSeq: st.HighestModSeq, Scanned: f.box.Cursor[side].Scanned}
		if s := f.snap[side]; s != nil && s.mode == scanFull {
			cur.Scanned = p.report.Began // what has come since then is perhaps not in it
		}
		if f.box.Validity[side] == 0 || f.box.Validity[side] == st.Validity {
			f.box.Validity[side], f.box.Cursor[side] = st.Validity, cur
		}
	}
}

func sameBox(a, b Mailbox) bool {
	af, bf := a.Flags, b.Flags
	a.Flags, b.Flags = nil, nil
	for side := range a.Cursor {
		if !a.Cursor[side].Scanned.Equal(b.Cursor[side].Scanned) {
			return false
		}
		a.Cursor[side].Scanned = b.Cursor[side].Scanned
	}
	if !a.GoneSince.Equal(b.GoneSince) {
		return false
	}
	a.GoneSince = b.GoneSince
	return a.ID == b.ID && a.User == b.User && a.Name == b.Name && a.Validity == b.Validity && a.MailboxID == b.MailboxID &&
		a.Cursor == b.Cursor && a.Subscribed == b.Subscribed && a.SpecialUse == b.SpecialUse && a.Pairs == b.Pairs && bytes.Equal(af, bf)
}

// wanted tells whether a folder is to be subscribed: at the first meeting when it is on either side, later as whoever has
// changed it since says.
func (p *pass) wanted(f *folder) bool {
	has := f.Subscribed
	if f.was.ID == 0 {
		return has[0] || has[1]
	}
	if has[p.authority] != f.was.Subscribed {
		return has[p.authority]
	}
	if other := p.authority.Other(); f.Exists[other] && f.Action == ActionPair && has[other] != f.was.Subscribed {
		return has[other]
	}
	return f.was.Subscribed
}

// subscribe makes the subscriptions of a side what they are to be.
func (p *pass) subscribe(ctx context.Context, side config.Side) error {
	var add, remove []*folder
	for _, f := range p.folders {
		if f.err != nil || f.Action == ActionGone || !f.Exists[side] && !p.opts.DryRun {
			continue
		}
		has := p.sides[side].Subscribed[f.Name[side]]
		switch want := p.wanted(f); {
		case want && !has:
			add = append(add, f)
		case !want && has:
			remove = append(remove, f)
		}
	}
	if len(add)+len(remove) == 0 {
		return nil
	}
	p.report.Subscribed[side] += len(add) + len(remove)
	if p.opts.DryRun {
		return nil
	}
	return p.on(ctx, side, func(c *backend.Client) error {
		type sent struct {
			f   *folder
			cmd *backend.Command
		}
		var list []sent
		for _, f := range add {
			list = append(list, sent{f, c.Subscribe(f.Name[side])})
		}
		for _, f := range remove {
			list = append(list, sent{f, c.Unsubscribe(f.Name[side])})
		}
		for _, s := range list {
			if err := s.cmd.Wait(ctx); err != nil {
				if !refused(err) {
					return err
				}
				if err := p.fail(ctx, s.f, fmt.Errorf("subscription on %s: %w", side, err)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// gone deletes a folder that the side that decides has no more, after its time of grace, and when nothing stands in it that
// the other side has not seen.
func (p *pass) gone(ctx context.Context, f *folder) error {
	if !f.Exists[0] && !f.Exists[1] { // nothing is left of it
		if p.opts.DryRun {
			return nil
		}
		if err := errors.Join(p.unlisted(ctx, config.Old, f)[0], p.unlisted(ctx, config.New, f)[0]); err != nil {
			return err
		}
		_, err := p.write(ctx, Change{DropMailboxes: []int64{f.box.ID}})
		return err
	}
	side := f.Side
	messages := int(f.Messages[side])
	moved := len(f.movedAway) > 0 && len(f.movedAway) >= messages && !f.stuck // to where the folder is now, under another name
	switch {
	case moved, f.proven.folder, f.released && p.opts.Deletes: // a person has done that, or says that it is meant
	case f.was.GoneSince.IsZero() && p.s.o.Grace > 0:
		f.box.GoneSince = p.s.stamp()
		p.hold(f, side, messages, messages, fmt.Sprintf("the folder is gone from %s; it is deleted on %s when it has been so for %s; %s", side.Other(), side, p.s.o.Grace, p.wayOut(ctx, f)))
		if p.opts.DryRun {
			return nil
		}
		_, err := p.write(ctx, Change{Mailboxes: []Mailbox{f.box}})
		return err
	case !p.s.longGone(f.was, p.s.o.Grace):
		p.hold(f, side, messages, messages, fmt.Sprintf("the folder is gone from %s since %s; it is deleted on %s after %s; %s", side.Other(), f.was.GoneSince.UTC().Format("2006-01-02 15:04 MST"), side, p.s.o.Grace, p.wayOut(ctx, f)))
		return nil
	case p.guarded != "" && !f.released:
		p.hold(f, side, messages, messages, p.guarded+"; "+p.wayOut(ctx, f))
		return nil
	}
	switch {
	case f.stuck:
		return nil
	case p.unseen != "" && !moved && messages > 0 && !p.meant(f):
		p.hold(f, side, messages, messages, p.wayOutUnseen(ctx, f))
		return nil
	}
	if err := p.unlisted(ctx, side.Other(), f)[0]; err != nil {
		return err
	}
	if err := p.load(ctx, f); err != nil {
		return err
	}
	known := f.pairs.uids(merge.Side(side))
	var here, strange []uint32
	err := p.on(ctx, side, func(c *backend.Client) error {
		here, strange = nil, nil
		sel, err := c.Select(f.Name[side], backend.SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil {
			return err
		}
		if f.box.Validity[side] != 0 && sel.Validity != f.box.Validity[side] {
			return fmt.Errorf("the mailbox was reset on %s", side)
		}
		if sel.Exists > 0 {
			err = c.Fetch("1:*", backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
				if _, ok := slices.BinarySearch(known, m.UID); ok {
					here = append(here, m.UID)
				} else {
					strange = append(strange, m.UID)
				}
				return nil
			}}).Wait(ctx)
			if err != nil {
				return err
			}
		}
		if uint32(len(here)+len(strange)) < sel.Exists {
			return errVoid
		}
		if len(strange) > 0 || p.opts.DryRun {
			return c.Unselect().Wait(ctx)
		}
		if err := c.Unselect().Wait(ctx); err != nil {
			return err
		}
		if err := c.Delete(f.Name[side]).Wait(ctx); err != nil {
			return err
		}
		if p.sides[side].Subscribed[f.Name[side]] {
			if err := c.Unsubscribe(f.Name[side]).Wait(ctx); err != nil && !refused(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete on %s: %w", side, err)
	}
	if len(strange) > 0 {
		return p.remains(ctx, f, here, strange)
	}
	p.report.Deleted[side]++
	if p.opts.DryRun {
		return nil
	}
	f.carried, f.deleted = true, true
	_, err = p.write(ctx, Change{DropMailboxes: []int64{f.box.ID}})
	return err
}
