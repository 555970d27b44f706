package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
)

// errOldList is a folder that a side does not list, and has.
var errOldList = errors.New("it does not list the folder, and has it: it is looked at again; where that stays so, its owner may perhaps not list it (right l of its ACL)")

// unlisted tells of each folder whether a side has it under the name that the store knows, though it does not list that: errOldList. A session may know an old
// list (Dovecot, for some 50 ms behind a CREATE in another one; and see close): to forget a folder that another session has made would leave it there for
// good, and to delete its partner would delete what is not gone.
func (p *pass) unlisted(ctx context.Context, side config.Side, list ...*folder) []error {
	taken := map[string]bool{} // in one case: a host may fold names
	for _, g := range p.folders {
		if !slices.Contains(list, g) {
			taken[strings.ToLower(g.Name[side])] = true
		}
	}
	for _, e := range p.sides[side].Folders {
		if selectable(e) {
			taken[strings.ToLower(e.Name)] = true
		}
	}
	errs := make([]error, len(list))
	err := p.on(ctx, side, func(c *backend.Client) error {
		clear(errs)
		looks := make([]*backend.StatusCommand, len(list))
		for i, f := range list {
			if name := f.was.Name[side]; name != "" && !taken[strings.ToLower(name)] { // else what is there is another folder
				looks[i] = c.Status(name, "UIDVALIDITY")
			}
		}
		for i, x := range looks {
			if x == nil {
				continue
			}
			_, err := x.Result(ctx)
			if err != nil && !refused(err) {
				return err
			}
			switch {
			case err == nil:
				errs[i] = fmt.Errorf("%s: %w", side, errOldList)
			case passing(err): // a trouble of the moment does not say that it is gone
				errs[i] = fmt.Errorf("%s does not list the folder, nor tell whether it has it: %w", side, err)
			}
		}
		return nil
	})
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// unnamed has folders fail that would lose the name that they have on a side because it is not listed there.
func (p *pass) unnamed(ctx context.Context) error {
	for _, side := range config.Sides {
		var list []*folder
		for _, f := range p.folders {
			if was := f.was.Name[side]; f.err == nil && was != "" && f.Action != ActionGone && f.Listed[side] != was && f.Name[side] != was {
				list = append(list, f)
			}
		}
		if len(list) == 0 {
			continue
		}
		for i, err := range p.unlisted(ctx, side, list...) {
			if err == nil {
				continue
			}
			if err := p.fail(ctx, list[i], err); err != nil {
				return err
			}
		}
	}
	return nil
}
