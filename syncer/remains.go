package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"mailgate/backend"
)

// remains does what can be done of a folder that is gone from the side that decides, for good, and holds mail here that was never there.
// What was in both, and is in no doubt, goes as the folder would. Mail that is set aside stays until a person decides. The rest came here
// by itself, and nothing may be lost: when no doubt is left the folder is as good as new, and the next pass carries it to the other side.
func (p *pass) remains(ctx context.Context, f *folder, here, strange []uint32) error {
	side := f.Side
	gone := "the folder is gone from " + side.Other().String()
	if slices.ContainsFunc(p.intents, func(in Intent) bool { return in.Mailbox == f.box.ID && in.Side == side }) {
		p.hold(f, side, len(strange), len(here)+len(strange), gone+", but holds mail here that may be a late copy of ours, or is new; it is looked at again")
		return nil
	}
	waived, undecided := 0, 0
	for _, uid := range strange {
		i := slices.IndexFunc(f.quar, func(q Quarantined) bool { return q.Side == side && q.UID == uid && q.Validity == f.box.Validity[side] })
		switch {
		case i < 0:
		case f.quar[i].Decision == Waived:
			waived++
		case f.quar[i].Decision == Undecided && asks(f.quar[i].Reason):
			undecided++
		}
	}
	if p.opts.DryRun {
		p.count(func(r *Report) { r.Expunged[side] += int64(len(here)) })
		p.hold(f, side, len(strange), len(here)+len(strange), fmt.Sprintf("%s, and what it had there is deleted here; left is mail that %s has never seen, %d of it set aside",
			gone, side.Other(), waived+undecided))
		return nil
	}
	if len(here) > 0 {
		if err := p.empty(ctx, f, here); err != nil {
			return err
		}
	}
	switch {
	case waived+undecided < len(strange):
		return p.comesBack(ctx, f, len(strange))
	case undecided > 0:
		p.hold(f, side, undecided, len(strange), fmt.Sprintf("%s, and what it had there is deleted here; left is mail that is set aside until a person decides", gone))
	}
	return nil
}

// comesBack makes a folder one that its other side has never had: the next pass makes it there, with the mail that is left. What was decided
// about mail in it stands.
func (p *pass) comesBack(ctx context.Context, f *folder, messages int) error {
	side, other := f.Side, f.Side.Other()
	p.s.o.Log.Warn("a folder that was deleted comes back: it holds mail that was never there", "user", p.user, "folder", f.name(), "side", side, "messages", messages)
	f.pairs.clear()
	f.box.Name[other], f.box.MailboxID[other] = "", ""
	f.box.Cursor, f.box.GoneSince = [2]Cursor{}, time.Time{}
	p.s.o.Clock.back(f.box.ID)
	_, err := p.save(ctx, f, Change{})
	return err
}

// empty deletes messages of a folder that is gone from the other side.
func (p *pass) empty(ctx context.Context, f *folder, uids []uint32) error {
	side := f.Side
	slices.Sort(uids)
	var intents []int64
	err := p.on(ctx, side, func(c *backend.Client) error {
		sel, err := c.Select(f.Name[side], backend.SelectOptions{}).Result(ctx)
		if err != nil {
			return err
		}
		if sel.Validity != f.box.Validity[side] {
			return fmt.Errorf("the mailbox was reset on %s", side)
		}
		ids, err := p.remove(ctx, c, f, side, uids)
		intents = append(intents, ids...)
		if err != nil {
			return err
		}
		return c.Unselect().Wait(ctx)
	})
	if err != nil {
		return err
	}
	f.pairs.clear()
	p.count(func(r *Report) { r.Expunged[side] += int64(len(uids)) })
	_, err = p.save(ctx, f, Change{DropIntents: intents})
	return err
}

// asideAlone explains a folder that is gone from the other side and stands here for the mail alone that is set aside; false means that there
// is more in it.
func (v *verifier) asideAlone(ctx context.Context, f *folder, r *FolderVerification) (alone bool, err error) {
	side := f.Side
	var uids []uint32
	err = v.on(ctx, side, func(c *backend.Client) error {
		uids = nil
		sel, err := c.Select(f.Name[side], backend.SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil {
			return err
		}
		f.opened[side] = sel
		if sel.Exists > 0 {
			err = c.Fetch("1:*", backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
				uids = append(uids, m.UID)
				return nil
			}}).Wait(ctx)
		}
		if err == nil && uint32(len(uids)) < sel.Exists {
			err = errVoid
		}
		if err != nil {
			return err
		}
		return c.Unselect().Wait(ctx)
	})
	if refused(err) || errors.Is(err, errVoid) {
		return false, nil
	}
	if err != nil || len(uids) == 0 {
		return false, err
	}
	var x FolderVerification
	for _, uid := range uids {
		var pair [2]facts
		pair[side].uid = uid
		x.missing(f, pair)
	}
	if x.Found > 0 {
		return false, nil
	}
	r.Open, r.Explained, r.Waived = x.Open, x.Explained, x.Waived
	r.Messages[side] = int64(len(uids))
	return true, nil
}
