package syncer

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
	var before []numbered
	if !p.opts.DryRun {
		if err := p.unnamed(ctx); err != nil {
			return err
		}
		if before, err = p.numbers(ctx); err != nil {
			return err
		}
	}
	for _, f := range p.folders {
		switch {
		case f.err == nil && f.From != "" && p.opts.DryRun:
			p.report.Renamed[f.Side]++
		case f.From != "" && !p.opts.DryRun:
			if f.err == nil {
				if err := p.rename(ctx, f); err != nil {
					return err
				}
			}
			if err := p.failBelow(ctx, f); err != nil {
				return err
			}
		case f.err != nil:
		case f.Action == ActionCreate && p.opts.DryRun:
			p.report.Created[f.Side]++
		}
	}
	if p.opts.DryRun {
		return nil
	}
	for _, side := range config.Sides {
		if err := p.carriedAlong(ctx, side); err != nil {
			return err
		}
	}
	if err := p.renumber(ctx, before); err != nil {
		return err
	}
	// Before the first is made: one that a kill leaves behind, and that its owner renames or deletes meanwhile, is to be known for his.
	if err := p.register(ctx, func(f *folder) bool { return f.Action == ActionCreate && f.box.ID == 0 }); err != nil {
		return err
	}
	for _, side := range config.Sides {
		if err := p.create(ctx, side); err != nil {
			return err
		}
	}
	if err := p.register(ctx, func(f *folder) bool { return f.box.ID == 0 || f.box.Name != f.was.Name }); err != nil {
		return err
	}
	return p.unregister(ctx)
}

// rename repeats a rename on the side that has not seen it yet.
func (p *pass) rename(ctx context.Context, f *folder) error {
	err := p.on(ctx, f.Side, func(c *backend.Client) error {
		to := f.Name[f.Side]
		if err := c.Rename(f.From, to).Wait(ctx); err != nil && !(refused(err) && wasRenamed(ctx, c, f.From, to)) {
			return err
		}
		if f.box.Subscribed { // some servers leave the subscription at the old name, some drop it
			was := f.Listed[f.Side] // a folder above it may have been renamed before: then From is another
			s, u := c.Subscribe(to), c.Unsubscribe(was)
			if err := s.Wait(ctx); err != nil {
				return err
			}
			if err := u.Wait(ctx); err != nil && !refused(err) {
				return err
			}
			delete(p.sides[f.Side].Subscribed, was)
			p.sides[f.Side].Subscribed[to] = true
		}
		st, err := c.Status(to, statusItems...).Result(ctx)
		if err == nil {
			f.status[f.Side], f.Exists[f.Side] = &st, true
		}
		return err
	})
	if refused(err) && f.Action == ActionGone { // it waits under the name that it has
		f.Name = f.was.Name
		f.Name[f.Side] = f.From
		f.box.Name = f.Name
		return nil
	}
	if err != nil {
		return p.fail(ctx, f, fmt.Errorf("rename to %q on %s: %w", f.Shown[f.Side], f.Side, err))
	}
	p.report.Renamed[f.Side]++
	return nil
}

// failBelow leaves alone what is to stand below a folder that could not be renamed: created there now, it would take the place of
// that folder, for good. Nor is anything created, or renamed to, where that folder still is.
func (p *pass) failBelow(ctx context.Context, f *folder) error {
	if f.err == nil {
		return nil
	}
	sep := p.plan.Separator[f.Side]
	for _, g := range p.folders {
		name := g.Name[f.Side]
		under := func(at string) bool { return sep != 0 && strings.HasPrefix(name, at+string(rune(sep))) }
		if g.err == nil && g != f && (under(f.Name[f.Side]) || (g.Action == ActionCreate || g.From != "" && g.Side == f.Side) && (name == f.From || under(f.From))) {
			if err := p.fail(ctx, g, fmt.Errorf("%s: %w", f.name(), errAbove)); err != nil {
				return err
			}
		}
	}
	return nil
}

// errAbove is the trouble of the folders that wait for another.
var errAbove = errors.New("it could not be renamed, and what is to stand in its place or below it waits")

// wasRenamed tells whether a rename that is refused has been carried out already: its answer was lost.
func wasRenamed(ctx context.Context, c *backend.Client, from, to string) bool {
	before, after := c.Status(from, "UIDVALIDITY"), c.Status(to, "UIDVALIDITY")
	_, errFrom := before.Result(ctx)
	_, errTo := after.Result(ctx)
	return refused(errFrom) && errTo == nil
}

// carriedAlong looks at the folders of a side that have another name because a folder above them was renamed: some servers give
// them a new UIDVALIDITY too. It takes their subscriptions along.
func (p *pass) carriedAlong(ctx context.Context, side config.Side) error {
	var list []*folder
	for _, f := range p.folders {
		renamed := f.From != "" && f.Side == side
		if f.err == nil && !renamed && f.Exists[side] && f.Name[side] != f.Listed[side] {
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return p.on(ctx, side, func(c *backend.Client) error {
		looks := make([]*backend.StatusCommand, len(list))
		subs := make([][]*backend.Command, len(list))
		for i, f := range list {
			looks[i] = c.Status(f.Name[side], statusItems...)
			if p.sides[side].Subscribed[f.Listed[side]] {
				subs[i] = []*backend.Command{c.Subscribe(f.Name[side]), c.Unsubscribe(f.Listed[side])}
			}
		}
		for i, f := range list {
			st, err := looks[i].Result(ctx)
			for _, s := range subs[i] {
				if serr := s.Wait(ctx); serr != nil && !refused(serr) {
					return serr
				}
			}
			switch {
			case err != nil && !refused(err):
				return err
			case err != nil:
				err = fmt.Errorf("%q on %s did not follow the rename of the folder above it: %w", f.Shown[side], side, err)
				if err := p.fail(ctx, f, err); err != nil {
					return err
				}
				continue
			}
			f.status[side] = &st
			if len(subs[i]) > 0 {
				delete(p.sides[side].Subscribed, f.Listed[side])
				p.sides[side].Subscribed[f.Name[side]] = true
			}
		}
		return nil
	})
}

// on runs f with a connection to a side, and again on another one when the connection fails. What fails each time is a *SideError, and in it
// an endedError where there were connections.
func (p *pass) on(ctx context.Context, side config.Side, f func(*backend.Client) error) error {
	for tries := 1; ; tries++ {
		c, err := p.pools[side].get(ctx, "")
		connected := err == nil
		if connected {
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
		if tries >= attempts || ctx.Err() != nil || hopeless(err) || holds(ctx) && errors.Is(err, ErrCrowded) {
			var s *SideError
			if !errors.As(err, &s) {
				if connected {
					err = endedError{err}
				}
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
			f.made = made == nil || alreadyExists(made)
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

// alreadyExists tells that a folder was not made as it is there (RFC 5530).
func alreadyExists(err error) bool {
	var s *backend.StatusError
	return errors.As(err, &s) && s.Code.Name == "ALREADYEXISTS"
}

// register gives folders their place in the store: those that are new.
func (p *pass) register(ctx context.Context, wanted func(*folder) bool) error {
	var list []*folder
	c := Change{}
	for _, f := range p.folders {
		if f.err != nil || !wanted(f) {
			continue
		}
		for side, st := range f.status {
			if f.box.Validity[side] == 0 && st != nil && f.Exists[side] && f.was.ID == 0 {
				f.box.Validity[side], f.box.MailboxID[side] = st.Validity, st.MailboxID
			}
		}
		list, c.Mailboxes = append(list, f), append(c.Mailboxes, f.box)
	}
	if len(list) == 0 {
		return nil
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

// unregister takes the places of those again that could not be made: the next pass may have another name for them.
func (p *pass) unregister(ctx context.Context) error {
	var c Change
	for _, f := range p.folders {
		if f.err != nil && f.Action == ActionCreate && f.box.ID != 0 && !f.made && !errors.Is(f.err, errOldList) && !f.Exists[f.Side] && f.box.Validity[f.Side] == 0 && f.box.Pairs == 0 {
			c.DropMailboxes = append(c.DropMailboxes, f.box.ID)
			f.box.ID = 0
		}
	}
	if len(c.DropMailboxes) == 0 {
		return nil
	}
	_, err := p.write(ctx, c)
	return err
}
