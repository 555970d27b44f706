package syncer

import (
	"context"
	"fmt"

	"mailgate/backend"
)

// mayHold tells of a folder that the side that decides does not let us look into though mail has come into it: what is gone from others may be
// there, and the copy on the follower the only one that can be read. A client's MOVE leaves the same proofs as a delete. It is "" when there is none,
// or nothing is gone.
func (p *pass) mayHold(ctx context.Context) string {
	side, gone := p.authority, false
	for _, f := range p.folders {
		gone = gone || f.Action == ActionGone || len(f.work.expunge[side.Other()]) > 0
	}
	for _, f := range p.folders {
		if !gone || f.err == nil || !f.unread || !f.Exists[side] {
			continue
		}
		st := f.status[side]
		if st == nil && f.was.Pairs == 0 { // it was never shown
			continue
		}
		if st != nil { // that was before other folders were looked at
			now, err := p.statusOf(ctx, f)
			if st = &now; err != nil {
				st = nil
			}
		}
		if st == nil || st.Messages > 0 && (st.Validity != f.was.Validity[side] || st.UIDNext != f.was.Cursor[side].UIDNext) {
			return fmt.Sprintf("mail may have been moved to %q, which cannot be looked into on %s: mend that first", f.name(), side)
		}
	}
	return ""
}

func (p *pass) statusOf(ctx context.Context, f *folder) (st backend.Status, err error) {
	err = p.on(ctx, p.authority, func(c *backend.Client) (err error) {
		st, err = c.Status(f.Name[p.authority], statusItems...).Result(ctx)
		return err
	})
	return st, err
}

// holdUnseen keeps deletes back of what may stand elsewhere, unless a person has seen that and says that they are meant.
func (p *pass) holdUnseen(ctx context.Context) {
	follower := p.authority.Other()
	if p.unseen == "" {
		p.unseen = p.mayHold(ctx)
	}
	for _, f := range p.folders {
		n := len(f.work.expunge[follower])
		if p.unseen == "" || n == 0 || f.err != nil || f.waits || f.copied || f.Action == ActionGone || p.meant(f) {
			continue
		}
		p.hold(f, follower, n, int(f.box.Pairs), p.wayOutUnseen(ctx, f))
		f.work.expunge[follower], f.work.again, f.waits = nil, true, true
	}
}

// meant tells whether a person says that the deletes of a folder are.
func (p *pass) meant(f *folder) bool { return f.released && p.opts.Deletes }

func (p *pass) wayOutUnseen(ctx context.Context, f *folder) string {
	if p.discards(f) { // these go by themselves only where they are what they look like
		return p.unseen + "; if the deletes are meant, run the pass with --deletes"
	}
	return p.unseen + "; " + p.wayOut(ctx, f)
}
