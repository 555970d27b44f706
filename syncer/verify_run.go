package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// Verify compares both sides of a user, folder by folder and message by message, and writes nothing anywhere.
func (s *Syncer) Verify(ctx context.Context, user string, o VerifyOptions) (*Verification, error) {
	p, err := s.newPass(ctx, user, RunOptions{DryRun: true, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.list(ctx); err != nil {
		return nil, err
	}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	if o.Sample <= 0 {
		o.Sample = 20
	}
	v := &verifier{pass: p, o: o, out: &Verification{User: user, At: s.o.Now().UTC(), Deep: o.Deep, Authority: p.authority.String()}}
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	v.out.Sieve = p.verifySieve(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	v.out.Took = s.o.Now().Sub(v.out.At)
	return v.out, nil
}

type verifier struct {
	*pass
	o   VerifyOptions
	out *Verification
}

// facts are what a scan tells of a message.
type facts struct {
	uid   uint32
	flags merge.Flags
	date  int64
	size  int64
}

func (v *verifier) run(ctx context.Context) error {
	v.progress(func(g *Progress) { g.Phase = "verify"; g.Folders[1] = len(v.plan.Folders) })
	results := make([]*FolderVerification, len(v.folders))
	queue := make(chan int, len(v.folders))
	for i := range v.folders {
		queue <- i
	}
	close(queue)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	for range min(v.s.o.Connections, len(v.folders)) {
		wg.Go(func() {
			for i := range queue {
				var r *FolderVerification
				err := safely(func() (err error) {
					r, err = v.folder(ctx, v.folders[i])
					return err
				})
				mu.Lock()
				if results[i] = r; err != nil && first == nil {
					first = fmt.Errorf("%s: %w", v.folders[i].name(), err)
				}
				stop := first != nil
				mu.Unlock()
				if stop {
					return
				}
				v.progress(func(g *Progress) { g.Folders[0]++; g.Folder = v.folders[i].name() })
			}
		})
	}
	wg.Wait()
	if first != nil {
		return first
	}
	v.out.Equal = true
	for _, r := range results {
		v.out.Folders = append(v.out.Folders, *r)
		for side := range r.Messages {
			v.out.Messages[side] += r.Messages[side]
		}
		v.out.Compared += r.compared
		v.out.Hashed += r.Hashed
		v.out.Open += int64(len(r.Open))
		v.out.Waived += r.Waived
		if len(r.Differences)+len(r.Open) > 0 {
			v.out.Equal = false
		}
	}
	for _, f := range v.plan.Folders { // what is left out is said
		if f.Action == ActionRefuse || f.Action == ActionSkip && f.Selectable[v.authority] {
			r := FolderVerification{Name: f.Shown}
			d := Difference{Kind: "folder", Why: f.Why}
			if f.Action == ActionSkip {
				r.Explained = append(r.Explained, d)
			} else {
				r.add(d)
				v.out.Equal = false
			}
			v.out.Folders = append(v.out.Folders, r)
		}
	}
	slices.SortStableFunc(v.out.Folders, func(a, b FolderVerification) int { return cmp.Compare(a.Name[0], b.Name[0]) })
	return nil
}

// folder compares one folder.
func (v *verifier) folder(ctx context.Context, f *folder) (*FolderVerification, error) {
	r := &FolderVerification{Name: f.Shown}
	if f.Action == ActionGone && f.Exists[f.Side] && len(f.quar) > 0 {
		if done, err := v.asideAlone(ctx, f, r); err != nil || done {
			return r, err
		}
	}
	for side := range f.Exists {
		if !f.Exists[side] {
			r.add(Difference{Kind: "folder", Why: "the folder is not on " + sideName(config.Side(side))})
		}
	}
	if len(r.Differences) > 0 {
		return r, nil
	}
	if f.Subscribed[0] != f.Subscribed[1] {
		r.add(Difference{Kind: "subscription", Old: subscribed(f.Subscribed[0]), New: subscribed(f.Subscribed[1])})
	}
	if err := v.load(ctx, f); err != nil {
		return nil, err
	}
	defer f.unload()
	var err error
	for tries := 1; tries <= attempts; tries++ {
		if err = v.both(ctx, config.New, func(src, dst *backend.Client) error {
			r.reset()
			return v.compare(ctx, f, r, [2]*backend.Client{src, dst})
		}); err == nil || refused(err) || hopeless(err) || ctx.Err() != nil {
			break
		}
	}
	if refused(err) || errors.Is(err, errVoid) {
		r.add(Difference{Kind: "folder", Why: err.Error()})
		err = nil
	}
	return r, err
}

// reset takes back what an attempt has found whose connection broke.
func (r *FolderVerification) reset() {
	r.Differences = slices.DeleteFunc(r.Differences, func(d Difference) bool { return d.Kind != "subscription" })
	r.Open, r.Waived, r.Explained, r.Hashed, r.compared, r.Found = nil, 0, nil, 0, 0, int64(len(r.Differences))
}

func subscribed(on bool) string {
	if on {
		return "subscribed"
	}
	return "not subscribed"
}

// look reads a side of a folder.
func (v *verifier) look(ctx context.Context, f *folder, side config.Side, c *backend.Client) ([]facts, *backend.Selected, error) {
	sel, err := c.Select(f.Name[side], backend.SelectOptions{ReadOnly: true}).Result(ctx)
	if err != nil || sel.Exists == 0 {
		return nil, sel, err
	}
	list := make([]facts, 0, sel.Exists)
	err = c.Fetch("1:*", backend.FetchOptions{Items: []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE"}, Message: func(m *backend.Message) error {
		if !m.HasFlags || m.DateText == "" {
			return nil
		}
		f.mu.Lock()
		id := f.dict.ID(m.Flags)
		f.mu.Unlock()
		d := dateOfMessage(m)
		list = append(list, facts{m.UID, id, d.date, m.Size})
		return nil
	}}).Wait(ctx)
	if err != nil {
		return nil, sel, err
	}
	slices.SortFunc(list, func(a, b facts) int { return cmp.Compare(a.uid, b.uid) })
	list = slices.CompactFunc(list, func(a, b facts) bool { return a.uid == b.uid })
	if uint32(len(list)) < sel.Exists {
		err = fmt.Errorf("%w: %d of %d messages on %s", errVoid, len(list), sel.Exists, side)
	}
	return list, sel, err
}

func (v *verifier) compare(ctx context.Context, f *folder, r *FolderVerification, conns [2]*backend.Client) error {
	var list [2][]facts
	var errs [2]error
	var wg sync.WaitGroup
	for side, c := range conns {
		wg.Go(func() {
			errs[side] = safely(func() (err error) {
				list[side], f.opened[side], err = v.look(ctx, f, config.Side(side), c)
				return err
			})
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	for side := range list {
		r.Messages[side] = int64(len(list[side]))
	}
	pairs, err := v.pairs(ctx, f, list, conns)
	if err != nil {
		return err
	}
	paired := [2]map[uint32]bool{{}, {}}
	var both [][2]facts
	for _, q := range pairs {
		x := [2]facts{factsOf(list[0], q.UID[0]), factsOf(list[1], q.UID[1])}
		for side := range x {
			if x[side].uid != 0 {
				paired[side][x[side].uid] = true
			}
		}
		switch {
		case x[0].uid != 0 && x[1].uid != 0:
			both = append(both, x)
		case x[0].uid != 0 || x[1].uid != 0:
			r.missing(f, x)
		}
	}
	for side := range list {
		for _, m := range list[side] {
			if !paired[side][m.uid] {
				var x [2]facts
				x[side] = m
				r.missing(f, x)
			}
		}
	}
	for _, x := range both {
		v.sameFacts(f, r, x)
	}
	r.compared = int64(len(both))
	if err := v.sameBodies(ctx, r, both, conns); err != nil {
		return err
	}
	return v.name(ctx, r, conns)
}

// pairs are those of the store where both mailboxes are still those that they were made of. Where there are none, another tool
// has copied: then messages are paired by content.
func (v *verifier) pairs(ctx context.Context, f *folder, list [2][]facts, conns [2]*backend.Client) ([]merge.Pair, error) {
	if f.pairs.len() > 0 && f.opened[0].Validity == f.box.Validity[0] && f.opened[1].Validity == f.box.Validity[1] {
		err := v.numbered(ctx, f, list, conns)
		return f.pairs.all(), err
	}
	if len(list[0]) == 0 || len(list[1]) == 0 {
		return nil, nil
	}
	var d [2][]digest
	for side, c := range conns {
		uids := make([]uint32, len(list[side]))
		for i, m := range list[side] {
			uids[i] = m.uid
		}
		var err error
		if d[side], err = digests(ctx, c, uids); err != nil {
			return nil, err
		}
	}
	found, err := matchDigests(ctx, d[0], d[1], [2]hasher{hashOf(conns[0]), hashOf(conns[1])})
	if err != nil {
		return nil, err
	}
	out := make([]merge.Pair, len(found))
	for i, x := range found {
		out[i].UID = [2]uint32{d[0][x[0]].uid, d[1][x[1]].uid}
	}
	return out, nil
}

// numbered gives pairs the UIDs that a host has given their messages since the last pass, as that would. They are not kept.
func (v *verifier) numbered(ctx context.Context, f *folder, list [2][]facts, conns [2]*backend.Client) error {
	for _, side := range config.Sides {
		if f.counts(side) {
			continue
		}
		other := side.Other()
		var uids [2][]uint32
		partner, known := map[uint32]merge.Pair{}, map[uint32]bool{} // by the UID on the other side, and on this one
		for _, q := range f.pairs.all() {
			known[q.UID[side]] = true
			if factsOf(list[side], q.UID[side]).uid == 0 && factsOf(list[other], q.UID[other]).uid != 0 {
				uids[other], partner[q.UID[other]] = append(uids[other], q.UID[other]), q
			}
		}
		for _, m := range list[side] {
			if !known[m.uid] {
				uids[side] = append(uids[side], m.uid)
			}
		}
		if len(uids[0]) == 0 || len(uids[1]) == 0 || len(uids[0])+len(uids[1]) > maxMoves {
			continue
		}
		same, _, err := alike(ctx, conns, uids)
		if err != nil {
			return err
		}
		for _, x := range same {
			q := partner[x[other]]
			f.pairs.remove(q.UID[config.Old])
			q.UID[side] = x[side]
			f.pairs.put(q)
		}
	}
	return nil
}

func factsOf(list []facts, uid uint32) facts {
	i, ok := slices.BinarySearchFunc(list, uid, func(m facts, uid uint32) int { return cmp.Compare(m.uid, uid) })
	if !ok {
		return facts{}
	}
	return list[i]
}

// maxListed bounds the differences that are listed of one folder; all are counted.
const maxListed = 1000

func (r *FolderVerification) add(d Difference) {
	if r.Found++; len(r.Differences) < maxListed {
		r.Differences = append(r.Differences, d)
	}
}

// missing notes a message that one side lacks.
func (r *FolderVerification) missing(f *folder, x [2]facts) {
	side := 0
	if x[0].uid == 0 {
		side = 1
	}
	d := Difference{Kind: "missing-new", UID: [2]uint32{x[0].uid, x[1].uid}, size: x[side].size, date: x[side].date}
	if side == 1 {
		d.Kind = "missing-old"
	}
	for _, q := range f.quar {
		if q.Side == config.Side(side) && q.UID == x[side].uid && q.Validity == f.opened[side].Validity {
			if q.Decision == Waived {
				d.Why = aboutWaiver(q)
				r.Waived++
				r.Explained = append(r.Explained, d)
				return
			}
			d.Why = "in quarantine (" + q.Reason + "): " + q.Detail
			r.Open = append(r.Open, d)
			return
		}
	}
	r.add(d)
}

// sameFacts compares flags and date of a pair.
func (v *verifier) sameFacts(f *folder, r *FolderVerification, x [2]facts) {
	d := Difference{UID: [2]uint32{x[0].uid, x[1].uid}}
	if x[0].flags != x[1].flags {
		d := d
		d.Kind, d.Old, d.New = "flags", strings.Join(f.dict.List(x[0].flags), " "), strings.Join(f.dict.List(x[1].flags), " ")
		if why := v.kept(f, x); why != "" {
			d.Why = why
			r.Explained = append(r.Explained, d)
		} else {
			r.add(d)
		}
	}
	if x[0].date != x[1].date {
		d := d
		d.Kind, d.Old, d.New = "date", dateText(x[0].date), dateText(x[1].date)
		if min(x[0].date, x[1].date) < 24*60*60 && max(x[0].date, x[1].date) <= 24*60*60 {
			d.Why = "a date before 1970 was made the first day of 1970"
			r.Explained = append(r.Explained, d)
		} else {
			r.add(d)
		}
	}
}

func dateText(sec int64) string { return time.Unix(sec, 0).UTC().Format("2006-01-02 15:04:05") }

// kept explains flags that differ because a side cannot keep them: "" when that is not all.
func (v *verifier) kept(f *folder, x [2]facts) string {
	var lost []string
	for side := range x {
		for _, flag := range f.dict.List(x[side].flags) {
			other := 1 - side
			if slices.ContainsFunc(f.dict.List(x[other].flags), func(s string) bool { return strings.EqualFold(s, flag) }) {
				continue
			}
			// The stored base says that the other side was never seen with it, though this one was.
			q, ok := f.pairs.find(x[0].uid)
			if !ok || !hasFlag(f.dict, q.Base[side], flag) || hasFlag(f.dict, f.dict.Settled(q.Base[other], x[other].flags), flag) {
				return ""
			}
			lost = append(lost, flag)
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return "the other side does not keep " + strings.Join(lost, " ")
}

func hasFlag(d *merge.Dict, set merge.Flags, flag string) bool {
	return slices.ContainsFunc(d.List(set), func(s string) bool { return strings.EqualFold(s, flag) })
}

// altered sorts a difference of contents: explained when a product is known to change what it is given; likely is asked first.
func (v *verifier) altered(r *FolderVerification, d Difference, likely config.Side) {
	for _, side := range []config.Side{likely, likely.Other()} {
		if pr := v.sides[side].Profile; pr != nil && len(pr.Alters) > 0 && d.Why != "" {
			d.Why += "; " + cmp.Or(pr.Product, "that server") + " was seen to do that"
			r.Explained = append(r.Explained, d)
			return
		}
	}
	r.add(d)
}

// maxSized bounds the messages of a folder that are read because their sizes differ, where not all are read.
const maxSized = 1000

// sameBodies hashes bodies: all, or a sample evenly spread, the newest among it, and those whose sizes differ: they tell why.
func (v *verifier) sameBodies(ctx context.Context, r *FolderVerification, both [][2]facts, conns [2]*backend.Client) error {
	step := 1
	if !v.o.Deep {
		step = max(1, len(both)/v.o.Sample)
	}
	var chosen [][2]facts
	sized := 0
	for i := len(both) - 1; i >= 0; i-- {
		x := both[i]
		if x[0].size != x[1].size {
			if sized++; sized > maxSized && !v.o.Deep {
				r.add(Difference{Kind: "size", UID: [2]uint32{x[0].uid, x[1].uid}, Old: fmt.Sprint(x[0].size), New: fmt.Sprint(x[1].size),
					Why: "not read: --deep reads all"})
				continue
			}
		} else if (len(both)-1-i)%step != 0 {
			continue
		}
		chosen = append(chosen, x)
	}
	slices.Reverse(chosen)
	for rest := chosen; len(rest) > 0; {
		n := min(len(rest), 4096)
		if limits := v.s.o.Limits; limits.limited() {
			items := make([]item, n)
			for i, x := range rest[:n] {
				items[i].size = max(x[0].size, x[1].size)
			}
			var bytes int64
			n, bytes = limits.part(items)
			if err := limits.wait(ctx, v.user, n, bytes); err != nil {
				return err
			}
		}
		part := rest[:n]
		rest = rest[n:]
		var sums [2]map[uint32]bodySum
		var errs [2]error
		var wg sync.WaitGroup
		for side, c := range conns {
			wg.Go(func() {
				uids := make([]uint32, len(part))
				for i, x := range part {
					uids[i] = x[side].uid
				}
				sums[side], errs[side] = hashBodies(ctx, c, uids)
			})
		}
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		for _, x := range part {
			a, okA := sums[0][x[0].uid]
			b, okB := sums[1][x[1].uid]
			if !okA || !okB { // gone meanwhile, or unreadable
				r.add(Difference{Kind: "body", UID: [2]uint32{x[0].uid, x[1].uid}, Why: "a side does not give the message"})
				continue
			}
			r.Hashed++
			if a.exact == b.exact {
				continue
			}
			d := Difference{Kind: "body", UID: [2]uint32{x[0].uid, x[1].uid}, Old: fmt.Sprintf("%d bytes, SHA-256 %x", x[0].size, a.exact[:8]),
				New: fmt.Sprintf("%d bytes, SHA-256 %x", x[1].size, b.exact[:8])}
			d.Why = a.alike(b)
			likely := config.Old
			if a.eight && !b.eight { // NEW has made X of it
				likely = config.New
			}
			v.altered(r, d, likely)
		}
		v.progress(func(g *Progress) { g.Messages[0] += int64(len(part)) })
	}
	return nil
}

// name adds Subject and Message-ID to what differs, so that people find it.
func (v *verifier) name(ctx context.Context, r *FolderVerification, conns [2]*backend.Client) error {
	for side, c := range conns {
		at := map[uint32][]*Difference{}
		for _, list := range [][]Difference{r.Differences, r.Open, r.Explained} {
			for i := range list {
				d := &list[i]
				if d.UID[side] != 0 && (side == 0 || d.UID[0] == 0) {
					at[d.UID[side]] = append(at[d.UID[side]], d)
				}
			}
		}
		if len(at) == 0 {
			continue
		}
		uids := make([]uint32, 0, len(at))
		for u := range at {
			uids = append(uids, u)
		}
		slices.Sort(uids)
		var list []*backend.Command
		for _, set := range imapwire.SplitUIDs(uids, lineLength) {
			list = append(list, c.Fetch(set, backend.FetchOptions{Items: []string{"BODY.PEEK[HEADER.FIELDS (SUBJECT MESSAGE-ID)]"},
				Body: func(m *backend.Message, _ string, _ int64, b io.Reader) error {
					text, err := io.ReadAll(io.LimitReader(b, maxHeader))
					subject, id := subjectAndID(text)
					for _, d := range at[m.UID] {
						d.Subject, d.MessageID = subject, id
					}
					return err
				}}))
		}
		if err := waitAll(ctx, list); err != nil {
			return err
		}
	}
	return nil
}
