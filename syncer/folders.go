package syncer

import (
	"context"
	"errors"
	"fmt"

	"mailgate/backend"
	"mailgate/config"
)

// reasonReset is the quarantine of mail whose partner's mailbox was reset by the side that decides: nobody can tell
// whether it was deleted there, or lost.
const reasonReset = "reset"

// prepare carries the folder plan out as far as it gives: renames and creations. Deletions come at the end.
func (p *pass) prepare(ctx context.Context) error {
	quarantine, err := p.s.o.Store.Quarantine(ctx, p.user)
	if err != nil {
		return storeError{err}
	}
	for _, f := range p.folders {
		for _, q := range quarantine {
			if f.box.ID != 0 && q.Mailbox == f.box.ID {
				f.quar = append(f.quar, q)
			}
		}
	}
	for _, f := range p.folders {
		switch {
		case f.Action == ActionRename && p.opts.DryRun:
			p.report.Renamed[f.Side]++
			f.Name[f.Side] = f.From // there it is still
			for _, e := range p.sides[f.Side].Folders {
				if e.Name == f.From {
					f.status[f.Side], f.Exists[f.Side] = e.Status, true
				}
			}
		case f.Action == ActionRename:
			if err := p.rename(ctx, f); err != nil {
				return err
			}
		case f.Action == ActionCreate && p.opts.DryRun:
			p.report.Created[f.Side]++
		}
	}
	if p.opts.DryRun {
		return nil
	}
	for _, side := range config.Sides {
		if err := p.create(ctx, side); err != nil {
			return err
		}
	}
	return p.register(ctx)
}

// rename repeats a rename on the side that has not seen it yet.
func (p *pass) rename(ctx context.Context, f *folder) error {
	err := p.on(ctx, f.Side, func(c *backend.Client) error {
		to := f.Name[f.Side]
		if err := c.Rename(f.From, to).Wait(ctx); err != nil {
			return err
		}
		if f.box.Subscribed { // some servers leave the subscription at the old name, some drop it
			s, u := c.Subscribe(to), c.Unsubscribe(f.From)
			if err := s.Wait(ctx); err != nil {
				return err
			}
			if err := u.Wait(ctx); err != nil && !refused(err) {
				return err
			}
			delete(p.sides[f.Side].Subscribed, f.From)
			p.sides[f.Side].Subscribed[to] = true
		}
		st, err := c.Status(to, statusItems...).Result(ctx)
		f.status[f.Side], f.Exists[f.Side] = &st, true
		return err
	})
	if err != nil {
		return p.fail(ctx, f, fmt.Errorf("rename to %q on %s: %w", f.Shown[f.Side], f.Side, err))
	}
	p.report.Renamed[f.Side]++
	return nil
}

// on runs f with a connection to a side, and again on another one when the connection fails.
func (p *pass) on(ctx context.Context, side config.Side, f func(*backend.Client) error) error {
	for tries := 1; ; tries++ {
		c, err := p.pools[side].get(ctx, "")
		if err == nil {
			if err = f(c); err == nil || refused(err) {
				p.pools[side].put(c)
				return err
			}
			if isStore(err) || c.Err() == nil && ctx.Err() == nil {
				p.pools[side].put(c)
				return err
			}
			p.pools[side].drop(c)
		}
		if tries >= attempts || ctx.Err() != nil {
			var s *SideError
			if !errors.As(err, &s) {
				err = &SideError{side, err}
			}
			return err
		}
		if err := pause(ctx, tries); err != nil {
			return err
		}
	}
}

// create makes the folders that a side lacks, parents first, without waiting for each.
func (p *pass) create(ctx context.Context, side config.Side) error {
	var list []*folder
	for _, f := range p.folders {
		if f.Action == ActionCreate && f.Side == side && f.err == nil && !f.Exists[side] {
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return p.on(ctx, side, func(c *backend.Client) error {
		creates := make([]*backend.Command, len(list))
		looks := make([]*backend.StatusCommand, len(list))
		for i, f := range list {
			use := ""
			if c.Has("CREATE-SPECIAL-USE") {
				use = f.Use
			}
			creates[i] = c.Create(f.Name[side], use)
			looks[i] = c.Status(f.Name[side], statusItems...)
		}
		for i, f := range list {
			made := creates[i].Wait(ctx)
			st, err := looks[i].Result(ctx)
			for _, e := range []error{made, err} {
				if e != nil && !refused(e) {
					return e
				}
			}
			if err != nil && f.Use != "" { // perhaps it is the use that is refused
				if made = c.Create(f.Name[side], "").Wait(ctx); made == nil {
					st, err = c.Status(f.Name[side], statusItems...).Result(ctx)
				}
				if err != nil && !refused(err) {
					return err
				}
			}
			if err != nil {
				if err := p.fail(ctx, f, fmt.Errorf("create %q on %s: %w", f.Shown[side], side, errors.Join(made, err))); err != nil {
					return err
				}
				continue
			}
			if made == nil { // otherwise it was there: a kill came between the creation and what follows
				p.report.Created[side]++
			}
			f.status[side], f.Exists[side] = &st, true
		}
		return nil
	})
}

// register gives new folders their place in the store.
func (p *pass) register(ctx context.Context) error {
	var list []*folder
	for _, f := range p.folders {
		switch {
		case f.err != nil || f.Action == ActionGone:
		case f.box.ID == 0 || f.Action == ActionRename:
			for side, st := range f.status {
				if f.box.ID == 0 && st != nil {
					f.box.Validity[side], f.box.MailboxID[side] = st.Validity, st.MailboxID
				}
			}
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		return nil
	}
	c := Change{}
	for _, f := range list {
		c.Mailboxes = append(c.Mailboxes, f.box)
	}
	a, err := p.write(ctx, c)
	if err != nil {
		return err
	}
	for i, f := range list {
		f.box.ID = a.Mailboxes[i]
	}
	return nil
}
