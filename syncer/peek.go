package syncer

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
)

// Peek asks both sides whether a pass over a user would find something, at the price of one command each where there is LIST with STATUS
// (RFC 5819), and of one STATUS a mailbox where there is not: of the first hundreds then. Where the numbers of a side do not tell of flags,
// as it has no CONDSTORE (RFC 7162), the flags of the newest messages are read in INBOX and in the mailboxes in which something was done
// lately. It writes nothing, takes no ownership of the account, and may be called while a pass is under way; connections that are kept are
// used and kept again, others are not kept. An error is a *SideError or the store's.
//
// true may be a false alarm. false is no promise: flags of other mailboxes and of older messages do not show without CONDSTORE (but for
// \Seen, which the number of unseen ones tells of), and subscriptions do not show at all; and what is due by time alone (the daily scan,
// tries of mail in quarantine) is not asked about. So passes have to be made now and then all the same.
func (s *Syncer) Peek(ctx context.Context, user string) (changed bool, err error) {
	known, err := s.o.Store.Mailboxes(ctx, user)
	if err != nil {
		return false, err
	}
	return s.peek(ctx, user, known, false, nil)
}

// peek is Peek. keep keeps connections that were made for it too; also (may be nil) is asked of a side whose numbers have not changed.
func (s *Syncer) peek(ctx context.Context, user string, known []Mailbox, keep bool, also func(config.Side, *backend.Client) error) (changed bool, err error) {
	if len(known) == 0 {
		return true, nil
	}
	conns := s.idle.take(user)
	kept := [2]bool{keep || conns[0].Client != nil, keep || conns[1].Client != nil}
	var wg sync.WaitGroup
	var news [2]bool
	var errs [2]error
	for _, side := range config.Sides {
		wg.Go(func() {
			errs[side] = safely(func() (err error) {
				news[side], err = s.peekSide(ctx, side, user, known, &conns[side], kept[side])
				if err == nil && !news[side] && also != nil {
					if err = also(side, conns[side].Client); err != nil {
						err = &SideError{side, err}
					}
				}
				return err
			})
		})
	}
	wg.Wait()
	var over []pooled
	for side, c := range conns {
		if c.Client != nil && (!kept[side] || errs[side] != nil || c.Err() != nil) {
			over = append(over, c)
			conns[side] = pooled{}
		}
	}
	s.idle.close(over...)
	if conns != [2]pooled{} {
		s.keep(user, conns)
	}
	return news[config.Old] || news[config.New], errors.Join(errs[:]...)
}

// AtRest is Peek the other way round, and asks the store besides: true means that nothing has changed on either side since the last pass, that
// each side holds as many messages as are accounted for, and that no pass has left anything to be finished. What Peek cannot see this cannot
// either. q is what the side to holds and may hold, as far as it is at rest and tells. Connections are kept for the pass that follows.
func (s *Syncer) AtRest(ctx context.Context, user string, to config.Side) (rest bool, q Quota, err error) {
	known, err := s.o.Store.Mailboxes(ctx, user)
	if err != nil {
		return false, q, err
	}
	changed, err := s.peek(ctx, user, known, s.o.Keep > 0, func(side config.Side, c *backend.Client) (err error) {
		if side == to {
			q, err = quotaOf(ctx, c)
		}
		return err
	})
	if err != nil || changed {
		return false, q, err
	}
	rest, err = s.accounted(ctx, user)
	return rest, q, err
}

// accounted tells that each side holds, by the numbers of the last look, as many messages as are accounted for, and that nothing is unfinished.
func (s *Syncer) accounted(ctx context.Context, user string) (bool, error) {
	s.mu.Lock()
	laden := s.laden[user]
	s.mu.Unlock()
	if laden != [2]bool{} { // mailboxes that a rule leaves out; or new ones, of which Peek tells once only
		return false, nil
	}
	intents, err := s.o.Store.Intents(ctx, user)
	if err != nil || slices.ContainsFunc(intents, func(in Intent) bool { return in.Kind != IntentSuspect }) {
		return false, err
	}
	list, err := s.o.Store.Quarantine(ctx, user)
	if err != nil {
		return false, err
	}
	known, err := s.o.Store.Mailboxes(ctx, user) // behind the look: what a pass has written meanwhile counts
	if err != nil {
		return false, err
	}
	for _, m := range known {
		for _, side := range config.Sides {
			if m.Name[side] == "" {
				return false, nil
			}
			n := m.Pairs
			for _, q := range list {
				if q.Mailbox == m.ID && q.Side == side && q.Validity == m.Validity[side] {
					n++
				}
			}
			if int64(m.Cursor[side].Messages) != n {
				return false, nil
			}
		}
	}
	return true, nil
}

// LookAnew has the next Peek tell again of mailboxes that nothing is known of: the pass that was to take them has not come to its end.
func (s *Syncer) LookAnew(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.strange, user)
}

// peekWait is how long a look waits for a connection.
const peekWait = 2 * time.Second

// peekSide looks at a side. A kept connection that has died meanwhile is replaced; c is the one to be kept afterwards.
func (s *Syncer) peekSide(ctx context.Context, side config.Side, user string, known []Mailbox, c *pooled, keep bool) (changed bool, err error) {
	kept := c.Client != nil
	for {
		if c.Client == nil {
			sl, err := s.o.Budget.soon(ctx, side, user, peekWait)
			if err == nil {
				*c, err = s.openWith(ctx, sl, side, user)
			}
			if err == nil && keep {
				enable(c.Client)
			}
			if err != nil {
				return false, &SideError{side, err}
			}
		}
		changed, err = s.peekOn(ctx, side, user, known, c.Client)
		switch {
		case err == nil:
			return changed, nil
		case !kept || c.Err() == nil || ctx.Err() != nil || Silent(err):
			return false, &SideError{side, err}
		}
		kept = false
		c.end()
		*c = pooled{}
	}
}

func (s *Syncer) peekOn(ctx context.Context, side config.Side, user string, known []Mailbox, c *backend.Client) (changed bool, err error) {
	listed := map[string]*backend.ListEntry{}
	all := c.Has("LIST-STATUS") || c.Has("IMAP4REV2") || len(known) <= peekMost
	if all {
		err = c.List(ctx, backend.ListOptions{Status: statusItems}, func(e backend.ListEntry) error {
			listed[peekName(e.Name)] = &e
			return nil
		})
	} else {
		err = s.peekSome(ctx, side, user, known, c, listed)
	}
	if err != nil {
		return false, err
	}
	var dumb []Mailbox // numbers do not tell of their flags
	for _, m := range known {
		name := peekName(m.Name[side])
		e := listed[name]
		var st *backend.Status
		switch {
		case name == "" || e == nil && !all:
			continue
		case e != nil:
			st = e.Status
			delete(listed, name)
		}
		if s.differs(m, side, st) {
			changed = true
			s.busy(user, m.ID)
		} else if st != nil && st.HighestModSeq == 0 && st.Messages > 0 && (name == "INBOX" || s.isBusy(user, m.ID)) {
			dumb = append(dumb, m)
		}
	}
	if s.strangers(user, side, listed) || changed {
		return true, nil
	}
	return s.peekFlags(ctx, side, dumb, c)
}

// peekMost is how many mailboxes are asked for one by one. Of a user who has more, INBOX is, and where something was done lately.
const peekMost = 200

// peekSome is the look at those.
func (s *Syncer) peekSome(ctx context.Context, side config.Side, user string, known []Mailbox, c *backend.Client, listed map[string]*backend.ListEntry) error {
	asked := map[string]*backend.StatusCommand{}
	for _, m := range known {
		if name := peekName(m.Name[side]); name == "INBOX" || name != "" && s.isBusy(user, m.ID) {
			asked[m.Name[side]] = c.Status(m.Name[side], statusItems...)
		}
	}
	for name, x := range asked {
		e := &backend.ListEntry{Name: name}
		st, err := x.Result(ctx)
		switch {
		case err == nil:
			e.Status = &st
		case !refused(err):
			return err
		}
		listed[peekName(name)] = e
	}
	return nil
}

// peekName is a name for comparing: INBOX is one in any letter case.
func peekName(name string) string {
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	return name
}

// differs tells whether a mailbox is other than when both sides were last in agreement. st is nil when it is not listed, or
// cannot be opened.
func (s *Syncer) differs(m Mailbox, side config.Side, st *backend.Status) bool {
	if st == nil { // it is gone: the pass that saw it first waits, and so does this
		return m.GoneSince.IsZero() || s.longGone(m, s.o.Grace)
	}
	cur := m.Cursor[side]
	return st.Validity != m.Validity[side] || st.UIDNext != cur.UIDNext || st.Messages != cur.Messages || st.Unseen != cur.Unseen ||
		st.HighestModSeq != cur.HighestModSeq
}

// strangers tells whether there are mailboxes that nothing is known of and that were not there when it was last asked. The pass
// that follows takes them, or leaves them out for good: those of others, and those that a rule excludes. What is remembered of
// them is a hash each, in this process.
func (s *Syncer) strangers(user string, side config.Side, listed map[string]*backend.ListEntry) (fresh bool) {
	var now []uint64
	laden := false
	for name, e := range listed {
		if selectable(*e) {
			h := fnv.New64a()
			_, _ = io.WriteString(h, name)
			if e.Status != nil && e.Status.Messages > 0 { // empty ones of the follower are left out (hollow): only until they have mail
				_, _ = io.WriteString(h, "\x00mail")
				laden = true
			}
			now = append(now, h.Sum64())
		}
	}
	slices.Sort(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	has := s.laden[user]
	if has[side] = laden; has == [2]bool{} {
		delete(s.laden, user)
	} else {
		s.laden[user] = has
	}
	was := s.strange[user]
	for _, h := range now {
		_, there := slices.BinarySearch(was[side], h)
		fresh = fresh || !there
	}
	if was[side] = now; was[0] == nil && was[1] == nil {
		delete(s.strange, user)
	} else {
		s.strange[user] = was
	}
	return fresh
}
