package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// mode is how a side of a folder is looked at.
type mode uint8

const (
	scanNone  mode = iota // the base tells: nothing has changed there
	scanDelta             // what has changed since the cursor (RFC 7162)
	scanFull              // every message
)

// snapshot is what a side of a folder holds.
type snapshot struct {
	mode    mode
	entries []merge.Entry // ascending; for scanDelta those that are new or changed
	gone    []backend.Range
	alive   []backend.Range // scanDelta without VANISHED: all there are
	dates   []dateOf        // of entries, where they were asked for
}

type dateOf struct {
	uid  uint32
	zone int16
	date int64
	size int64 // 0 where it was not asked for
}

// fullEvery is how often every message is looked at, whatever the cursors say.
const fullEvery = 24 * time.Hour

// modeOf decides how a side is looked at.
func (p *pass) modeOf(f *folder, side config.Side) mode {
	st, cur := f.status[side], f.box.Cursor[side]
	switch {
	case st == nil || !st.HasHighestModSeq || st.HighestModSeq == 0 || cur.HighestModSeq == 0,
		st.Validity != f.box.Validity[side], p.stale(cur),
		st.HighestModSeq < cur.HighestModSeq, f.turnedBack(side): // an index was lost, or a backup restored: its count begins anew
		return scanFull
	case st.HighestModSeq == cur.HighestModSeq && st.UIDNext == cur.UIDNext && st.Messages == cur.Messages && !p.due(f, side):
		if p.opts.Recount && f.miscounts(side) { // scanning counts where something has changed
			return scanFull
		}
		return scanNone
	}
	return scanDelta
}

// miscounts tells that a side holds another number of messages than pairs and quarantine come to.
func (f *folder) miscounts(side config.Side) bool {
	n := f.box.Pairs
	for _, q := range f.quar {
		if q.Side == side && q.Validity == f.box.Validity[side] {
			n++
		}
	}
	return int64(f.status[side].Messages) != n
}

// stale tells that every message is to be looked at again, for it is long ago.
func (p *pass) stale(cur Cursor) bool {
	now := p.s.o.Now()
	switch {
	case p.opts.Fenced:
		return false
	case now.Before(cur.Scanned.Add(-fullEvery / 24)): // the clock was set back
		return true
	}
	return now.Sub(cur.Scanned) > fullEvery
}

// turnedBack tells that UIDs of a side that were given out will be given out again, under the same UIDVALIDITY: a backup was
// restored. A pair's UID may be that of other mail then.
func (f *folder) turnedBack(side config.Side) bool {
	st := f.status[side]
	return st != nil && st.Validity == f.box.Validity[side] && st.UIDNext != 0 && st.UIDNext < f.box.Cursor[side].UIDNext
}

// due tells whether mail in quarantine is to be tried again.
func (p *pass) due(f *folder, side config.Side) bool {
	return slices.ContainsFunc(f.quar, func(q Quarantined) bool { return q.Side == side && p.retry(q) })
}

// retry tells whether a message in quarantine is tried again in this pass: less and less often.
func (p *pass) retry(q Quarantined) bool {
	switch {
	case q.Decision == Retry:
		return true
	case q.Decision == Waived, asks(q.Reason):
		return false
	case q.Reason == reasonUnreadable && q.Tries < soonTries: // it may have been in the way of a moment
		return true
	}
	return !p.s.o.Now().Before(nextTry(q))
}

// scan looks at both sides of all folders in which anything may have changed.
func (p *pass) scan(ctx context.Context) error { return p.scanBy(ctx, p.modeOf) }

// scanBy does that with what decides how.
func (p *pass) scanBy(ctx context.Context, modeOf func(*folder, config.Side) mode) error {
	p.progress(func(g *Progress) { g.Phase = "scan" })
	var list []*folder
	for _, f := range p.folders {
		if f.err != nil {
			continue
		}
		modes := [2]mode{modeOf(f, config.Old), modeOf(f, config.New)}
		if modes == [2]mode{} {
			continue
		}
		if err := p.load(ctx, f); err != nil {
			if err := p.fail(ctx, f, err); err != nil {
				return err
			}
			continue
		}
		for _, side := range config.Sides {
			f.snap[side] = &snapshot{mode: modes[side]}
		}
		list = append(list, f)
	}
	// The largest last: its connection keeps it open for the copy.
	slices.SortStableFunc(list, func(a, b *folder) int { return cmp.Compare(a.Messages[p.authority], b.Messages[p.authority]) })
	var wg sync.WaitGroup
	var errs [2]error
	for _, side := range config.Sides {
		wg.Go(func() { errs[side] = safely(func() error { return p.scanSide(ctx, side, list) }) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	for _, f := range list { // not before: the other side may still have been at it
		if err := errors.Join(f.scanErr[:]...); err != nil {
			f.unread = f.scanErr[p.authority] != nil
			if err := p.fail(ctx, f, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanAhead is how many folders are asked for before the first has answered.
const scanAhead = 8

// attempts is how often something is begun anew on a fresh connection while it makes no headway.
const attempts = 3

// scanSide looks at one side of folders, one behind the other without waiting. A connection that breaks is replaced. What
// the server says about one folder goes to its scanErr, and so does it when a folder breaks every connection.
func (p *pass) scanSide(ctx context.Context, side config.Side, list []*folder) error {
	list = slices.DeleteFunc(slices.Clone(list), func(f *folder) bool { return !f.Exists[side] || f.snap[side].mode == scanNone })
	struck := 0
	for tries := 0; len(list) > 0; {
		ahead := scanAhead
		if tries > 0 { // one by one, to find out which it is
			ahead = 1
		}
		done, connected, err := p.scanSome(ctx, side, list, ahead)
		list = list[done:]
		if done > 0 {
			struck = 0
			if tries = 0; err != nil && ahead == 1 {
				tries = 1 // it is the next one
			}
		}
		if err == nil {
			continue
		}
		tries++
		enough := tries >= attempts || Silent(err) && (ahead == 1 || len(list) == 1)
		if enough && connected {
			struck++
		}
		switch {
		case ctx.Err() != nil || asked(err) > 0 || enough && (!connected || len(list) == 0 || isStore(err) || stackOf(err) != nil),
			enough && struck >= strikes && (Silent(err) || !p.well(ctx, side, list[0])):
			return &SideError{side, err}
		case enough:
			list[0].scanErr[side] = fmt.Errorf("%s: the connection ends each time at this folder: %w", side, err)
			list, tries = list[1:], 0
			continue
		}
		if err := pause(ctx, tries); err != nil {
			return err
		}
	}
	return nil
}

// pause waits a little, and longer the more often it was tried.
func pause(ctx context.Context, tries int) error {
	t := time.NewTimer(time.Duration(tries) * 200 * time.Millisecond)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// refused tells an answer of the server, NO or BAD, from trouble with the connection.
func refused(err error) bool {
	var s *backend.StatusError
	return errors.As(err, &s) && s.Status != "BYE"
}

// scanSome scans folders in order until all are done or the connection fails, and tells how many are done, and whether there was a
// connection.
func (p *pass) scanSome(ctx context.Context, side config.Side, list []*folder, most int) (done int, connected bool, err error) {
	c, err := p.pools[side].get(ctx, "")
	if err != nil {
		return 0, false, err
	}
	defer func() {
		if err != nil {
			p.pools[side].drop(c)
			return
		}
		p.pools[side].put(c)
	}()
	expunged := &expunges{}
	c.SetUntagged(backend.Untagged{Expunge: func(uint32) { expunged.add(1) },
		Vanished: func(r backend.Range) { expunged.add(r.Last - r.First + 1) }})
	var ahead []*scanning
	next := 0
	for done < len(list) {
		for next < len(list) && len(ahead) < most {
			s := p.ask(c, side, list[next])
			expunged.begin(s)
			ahead = append(ahead, s)
			next++
		}
		s := ahead[0]
		ahead = ahead[1:]
		if err := s.take(ctx, p, expunged); err != nil {
			if !refused(err) && !errors.Is(err, errVoid) {
				return done, true, err
			}
			s.f.scanErr[side] = fmt.Errorf("%s: %w", side, err)
		}
		done++
	}
	return done, true, nil
}

// expunges counts the messages that go from mailboxes while they are looked at. What goes from one says nothing of another.
type expunges struct {
	mu   sync.Mutex
	list []*scanning // in the order in which they were asked for
}

func (e *expunges) begin(s *scanning) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, s)
}

// add counts for the mailbox that was opened last. It runs in the connection's reader.
func (e *expunges) add(n uint32) {
	now, cancel := context.WithCancelCause(context.Background())
	cancel(errNotYet)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range slices.Backward(e.list) {
		if !errors.Is(s.open.Wait(now), errNotYet) {
			s.expunged += n
			return
		}
	}
}

func (e *expunges) in(s *scanning) uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return s.expunged
}

var errNotYet = errors.New("not answered yet")

// errVoid is a scan that does not show the whole mailbox.
var errVoid = errors.New("the server did not show the whole mailbox: it is left alone")

// scanning is a folder that was asked for.
type scanning struct {
	f        *folder
	side     config.Side
	c        *backend.Client
	open     *backend.SelectCommand
	commands []*backend.Command
	expunged uint32 // meanwhile; see expunges
}

// ask sends what is needed to know one side of a folder.
func (p *pass) ask(c *backend.Client, side config.Side, f *folder) *scanning {
	s := &scanning{f: f, side: side, c: c}
	snap := f.snap[side]
	*snap = snapshot{mode: snap.mode}
	if snap.mode == scanDelta && !c.Has("CONDSTORE") {
		snap.mode = scanFull
	}
	// Only the follower is opened for writing: opening takes \Recent away from who comes next. But servers of the old kind
	// may give UIDs out for good only then (Courier does).
	s.open = c.Select(f.Name[side], backend.SelectOptions{ReadOnly: (side == p.authority && c.Has("CONDSTORE")) || p.opts.DryRun, CondStore: c.Has("CONDSTORE")})
	s.commands = p.fetchAll(c, side, f)
	return s
}

func (p *pass) fetchAll(c *backend.Client, side config.Side, f *folder) (list []*backend.Command) {
	snap := f.snap[side]
	take := func(m *backend.Message) error {
		if !m.HasFlags {
			return nil
		}
		f.mu.Lock()
		id := f.dict.ID(m.Flags)
		f.mu.Unlock()
		snap.entries = append(snap.entries, merge.Entry{UID: m.UID, Flags: id})
		if m.DateText != "" {
			snap.dates = append(snap.dates, dateOfMessage(m))
		}
		return nil
	}
	if snap.mode == scanFull {
		o := backend.FetchOptions{Items: []string{"FLAGS"}, Message: take}
		if f.pairs.len() == 0 { // all of it will be copied, most likely
			o.Items = append(o.Items, "INTERNALDATE")
		}
		return append(list, c.Fetch("1:*", o))
	}
	o := backend.FetchOptions{Items: []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE"}, ChangedSince: f.box.Cursor[side].HighestModSeq, Message: take}
	if c.Has("QRESYNC") {
		o.Vanished = func(r backend.Range) { snap.gone = append(snap.gone, r) }
		list = append(list, c.Fetch(everyUID, o))
	} else {
		list = append(list, c.Fetch("1:*", o), c.Search("ALL", func(r backend.Range) { snap.alive = append(snap.alive, r) }))
	}
	if uids := p.quarantined(f, side); len(uids) > 0 {
		for _, set := range imapwire.SplitUIDs(uids, lineLength) {
			list = append(list, c.Fetch(set, backend.FetchOptions{Items: []string{"FLAGS", "INTERNALDATE"}, Message: take}))
		}
	}
	return list
}

// everyUID is every UID that there can have been. "*" would be the highest one that is there, and a server need not tell what
// has vanished beyond that (RFC 7162, section 3.2.6; Cyrus does not).
const everyUID = "1:4294967294"

// quarantined are the UIDs of a side that stand in quarantine, ascending.
func (p *pass) quarantined(f *folder, side config.Side) (uids []uint32) {
	for _, q := range f.quar {
		if q.Side == side && q.Validity == f.box.Validity[side] {
			uids = append(uids, q.UID)
		}
	}
	slices.Sort(uids)
	return uids
}

func dateOfMessage(m *backend.Message) dateOf {
	d := dateOf{uid: m.UID, size: m.Size}
	if !m.InternalDate.IsZero() {
		_, off := m.InternalDate.Zone()
		d.date, d.zone = m.InternalDate.Unix(), int16(off/60)
	}
	return d
}

// take waits for the answers. errVoid, or a refusal, is about this folder; other errors are the connection's.
func (s *scanning) take(ctx context.Context, p *pass, expunged *expunges) error {
	sel, err := s.open.Result(ctx)
	ends := make([]error, len(s.commands))
	for i, c := range s.commands { // all answers are read, also when the mailbox could not be opened
		ends[i] = c.Wait(ctx)
	}
	if err != nil {
		return err
	}
	f, snap := s.f, s.f.snap[s.side]
	f.opened[s.side] = sel
	if f.pairs.len() > 0 && (sel.Validity != f.box.Validity[s.side] || f.turnedBack(s.side)) {
		f.reset[s.side] = true
		if snap.mode == scanDelta { // what was asked for was about another mailbox
			return s.anew(ctx, p, expunged)
		}
	}
	for i, err := range ends {
		if err == nil && voidCode(s.commands[i].Code().Name) {
			err = errVoid
		}
		if err != nil && !(refused(err) && sel.Exists == 0) { // some refuse 1:* in an empty mailbox
			return err
		}
	}
	snap.order()
	if p.opts.Recount && snap.mode == scanDelta && snap.alive == nil && uint32(len(f.whole(s.side)))+expunged.in(s) != sel.Exists {
		return s.anew(ctx, p, expunged) // of what is gone without having been carried nothing is told any more
	}
	if snap.mode == scanFull && uint32(len(snap.entries))+expunged.in(s) < sel.Exists {
		return fmt.Errorf("%w: %d of %d messages", errVoid, len(snap.entries), sel.Exists)
	}
	if n := count(snap.alive); snap.alive != nil && n+expunged.in(s) < sel.Exists || snap.mode == scanDelta && !s.c.Has("QRESYNC") && snap.alive == nil && sel.Exists > 0 {
		return fmt.Errorf("%w: %d of %d messages", errVoid, n, sel.Exists)
	}
	return nil
}

// anew looks at the whole mailbox. It is opened again: others have been asked for behind it, and the last one is open.
func (s *scanning) anew(ctx context.Context, p *pass, expunged *expunges) error {
	s.f.snap[s.side].mode = scanFull
	again := p.ask(s.c, s.side, s.f)
	expunged.begin(again)
	return again.take(ctx, p, expunged)
}

// voidCode tells response codes that say that an answer is not the whole (RFC 5530, RFC 9738).
func voidCode(name string) bool { return name == "LIMIT" || name == "MESSAGELIMIT" }

func count(list []backend.Range) (n uint32) {
	for _, r := range list {
		n += r.Last - r.First + 1
	}
	return n
}

// order puts entries in ascending order, the last word about a message counting.
func (s *snapshot) order() {
	if !slices.IsSortedFunc(s.entries, func(a, b merge.Entry) int { return cmp.Compare(a.UID, b.UID) }) {
		slices.SortStableFunc(s.entries, func(a, b merge.Entry) int { return cmp.Compare(a.UID, b.UID) })
	}
	keep := s.entries[:0]
	for i, e := range s.entries {
		if i+1 < len(s.entries) && s.entries[i+1].UID == e.UID {
			continue
		}
		keep = append(keep, e)
	}
	s.entries = keep
	slices.SortStableFunc(s.dates, func(a, b dateOf) int { return cmp.Compare(a.uid, b.uid) })
	slices.SortFunc(s.gone, func(a, b backend.Range) int { return cmp.Compare(a.First, b.First) })
	slices.SortFunc(s.alive, func(a, b backend.Range) int { return cmp.Compare(a.First, b.First) })
}

// whole gives all messages of a side, ascending: what was read, or the base with what has changed since.
func (f *folder) whole(side config.Side) []merge.Entry {
	s := f.snap[side]
	if s == nil || s.mode == scanFull {
		if s == nil {
			return nil
		}
		return s.entries
	}
	pairs := f.pairs.all()
	base := make([]merge.Entry, 0, len(pairs)+len(s.entries))
	for _, q := range pairs {
		base = append(base, merge.Entry{UID: q.UID[side], Flags: q.Base[side]})
	}
	if side == config.New {
		slices.SortFunc(base, func(a, b merge.Entry) int { return cmp.Compare(a.UID, b.UID) })
	}
	if s.mode == scanNone {
		return base
	}
	gone, alive := within(s.gone), within(s.alive)
	base = slices.DeleteFunc(base, func(e merge.Entry) bool { return gone(e.UID) || s.alive != nil && !alive(e.UID) })
	out := make([]merge.Entry, 0, len(base)+len(s.entries))
	i := 0
	for _, e := range s.entries {
		for i < len(base) && base[i].UID < e.UID {
			out = append(out, base[i])
			i++
		}
		if i < len(base) && base[i].UID == e.UID {
			i++
		}
		out = append(out, e)
	}
	return append(out, base[i:]...)
}

// within tells whether a number lies in ranges, asked in ascending order.
func within(list []backend.Range) func(uint32) bool {
	i := 0
	return func(uid uint32) bool {
		for i < len(list) && list[i].Last < uid {
			i++
		}
		return i < len(list) && list[i].First <= uid
	}
}
