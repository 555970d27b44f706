package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/syncer/merge"
)

// runMessages is how many messages one intent speaks of: what recovery has to look for at most, times the runs under way.
const runMessages = 1024

// runsAhead is how many runs are asked for before the first is through.
const runsAhead = 2

// line is a source and a target connection, with runs of messages under way between them.
type line struct {
	p *pass
	lineOptions
	src, dst *backend.Client
	landed   int                    // messages paired
	asked    *backend.Command       // the last fetch of mail, feed's
	opening  *backend.SelectCommand // what opened the mailbox for it, feed's
	srcEnded bool                   // the source's connection did
}

// work copies the jobs given and, when they are fed, further ones of the queue. It returns jobs that were begun and are not
// through, and those that are; the connections are closed after an error.
func (l *line) work(ctx context.Context, jobs []*job, queue <-chan *job) (begun, done []*job, err error) {
	if l.dst, err = l.p.pools[l.to].get(ctx, ""); err != nil { // the target first, as in both: nobody waits for who waits for him
		return jobs, nil, err
	}
	if l.src, err = l.p.pools[l.to.Other()].get(ctx, jobs[0].f.Name[l.to.Other()]); err != nil {
		l.p.pools[l.to].put(l.dst)
		return jobs, nil, err
	}
	if l.dst.Mailbox() != "" { // Courier takes no mail for a mailbox that the connection has open read-only
		l.dst.Unselect()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	runs := make(chan *run, runsAhead)
	fed := make(chan error, 1)
	var mu sync.Mutex // guards open
	open := slices.Clone(jobs)
	go func() { // ends with the queue or with ctx; waited for below
		defer close(runs)
		fed <- safely(func() error {
			return l.feed(ctx, jobs, queue, runs, func(j *job) {
				mu.Lock()
				defer mu.Unlock()
				open = append(open, j)
			})
		})
	}()
	end := func(j *job) {
		mu.Lock()
		defer mu.Unlock()
		open = slices.DeleteFunc(open, func(x *job) bool { return x == j })
		done = append(done, j)
	}
	for r := range runs {
		if err != nil {
			continue // the others are looked for later
		}
		if r.items == nil { // the end of a job
			end(r.j)
			continue
		}
		if err = r.through(ctx); err != nil {
			err = l.whose(err)
			cancel(err)
			_ = l.dst.Close() // whoever waits for them ends
			r.drop(err)       // before the source: its reader may stand at the next run, which cannot begin before this one's APPEND ends
			_ = l.src.Close()
		}
	}
	if ferr := <-fed; err == nil {
		err = l.whose(ferr)
	}
	cancel(nil)
	if err != nil && l.opening != nil && !errors.Is(err, ErrYielded) {
		_ = l.src.Close() // so that there is an answer
		if _, oerr := l.opening.Result(context.Background()); asked(oerr) > 0 {
			err = oerr // a server that asks for patience at that says something else to the fetch behind it
		}
	}
	if err != nil && !errors.Is(err, ErrYielded) { // nothing is under way then
		l.p.pools[l.to.Other()].drop(l.src)
		l.p.pools[l.to].drop(l.dst)
		return open, done, err
	}
	l.p.pools[l.to.Other()].put(l.src)
	l.p.pools[l.to].put(l.dst)
	return open, done, err
}

// whose says of an error which connection ended, where it was one of the two.
func (l *line) whose(err error) error {
	src, dst := l.src.Err() != nil, l.dst.Err() != nil
	switch {
	case err == nil || src == dst || refused(err):
		return err
	case src:
		l.srcEnded = true
		return fmt.Errorf("%s: %w", l.to.Other(), err)
	}
	return fmt.Errorf("%s: %w", l.to, err)
}

// feed sends what is to be copied, intent first. Nothing waits for an answer.
func (l *line) feed(ctx context.Context, jobs []*job, queue <-chan *job, runs chan<- *run, begin func(*job)) error {
	for n := 0; ; n++ {
		var j *job
		if n < len(jobs) {
			j = jobs[n]
		} else {
			if n > 0 && (l.p.pools[0].spares() || l.p.pools[1].spares()) { // another line goes on, or this worker with the next connection
				return nil
			}
			var ok bool
			if j, ok = <-queue; !ok {
				return nil
			}
			begin(j)
		}
		if err := l.feedJob(ctx, j, runs); err != nil {
			return err
		}
		if !send(ctx, runs, &run{l: l, j: j}) {
			return context.Cause(ctx)
		}
	}
}

func send(ctx context.Context, runs chan<- *run, r *run) bool {
	select {
	case runs <- r:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *line) feedJob(ctx context.Context, j *job, runs chan<- *run) error {
	f := j.f
	if err := l.p.load(ctx, f); err != nil {
		return err
	}
	// Servers run commands at once where nothing forbids it (Dovecot does), and then messages would arrive out of order. EXAMINE
	// waits for what was asked of the folder before this one; its failure shows in the fetch. Within a folder a fetch waits for
	// the one before: to open a large mailbox anew would take longer than the answer does.
	barrier := func() { l.opening = l.src.Select(f.Name[j.to.Other()], backend.SelectOptions{ReadOnly: true}) }
	isOpen := func() bool { return l.src.Mailbox() == f.Name[j.to.Other()] } // and nothing is outstanding
	if slices.ContainsFunc(j.items, l.undated()) {
		if !isOpen() {
			barrier()
		}
		if err := l.date(ctx, j.items); err != nil {
			return err
		}
	}
	l.p.progress(func(g *Progress) { g.Folder = f.name() })
	open := isOpen()
	var last *backend.Command
	for rest := j.items; len(rest) > 0; {
		n, err := l.turn(ctx, rest)
		if err != nil {
			return err
		}
		items := rest[:n:n]
		rest = rest[n:]
		r := &run{l: l, j: j, items: items, index: make(map[uint32]int, len(items)), seen: make(map[uint32]bool), nul: map[uint32]bool{}}
		uids := make([]uint32, len(items))
		for i, it := range items {
			uids[i], r.index[it.uid] = it.uid, i
		}
		in := Intent{User: l.p.user, Mailbox: f.box.ID, Side: j.to, Kind: IntentAppend, Epoch: l.p.epoch, Validity: f.validity(j.to),
			UIDNext: f.nextUID(j.to), Payload: encodeItems(items), Created: l.p.s.stamp()}
		a, err := l.p.write(ctx, Change{AddIntents: []Intent{in}})
		if err != nil {
			return err
		}
		r.intent = a.Intents[0]
		for _, set := range imapwire.SplitUIDs(uids, lineLength) {
			switch {
			case last != nil:
				if err := last.Wait(ctx); err != nil {
					return err
				}
			case !open:
				barrier()
			}
			r.fetch = append(r.fetch, l.src.Fetch(set, backend.FetchOptions{Items: []string{"BODY.PEEK[]"},
				Body:    func(m *backend.Message, _ string, size int64, b io.Reader) error { return r.body(ctx, m.UID, size, b) },
				Message: func(m *backend.Message) error { r.seen[m.UID] = true; return nil }}))
			last = r.fetch[len(r.fetch)-1]
			l.asked = last
		}
		if !send(ctx, runs, r) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// turn tells how many of the messages may be copied next, when it is their turn.
//
// Here is where limits are waited for, and nowhere else: before the intent is written and before any body is asked for, with all that
// was asked for before read to its end. So no server is kept in the middle of a literal while we wait: neither the source, which may be
// cut off when nobody reads what it sends, nor the target, whose APPEND has ended with the last message of the run before. To wait
// between the messages of a fetch would be smoother, and would do both.
func (l *line) turn(ctx context.Context, items []item) (int, error) {
	if yields(ctx) && l.p.mayYield() {
		return 0, ErrYielded
	}
	items = items[:min(len(items), runMessages)]
	limits := l.p.s.o.Limits
	if !limits.limited() {
		return len(items), nil
	}
	if l.asked != nil {
		if err := l.asked.Wait(ctx); err != nil && !refused(err) { // a refusal is the run's own affair
			return 0, err
		}
	}
	n, bytes := limits.part(items)
	return n, limits.wait(ctx, l.p.user, n, bytes)
}

// nextUID is a UID at or above which everything stands that is appended from now on.
func (f *folder) nextUID(side config.Side) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.next[side]
	if st := f.status[side]; st != nil && st.Validity == f.validity(side) { // another mailbox's says nothing
		n = max(n, st.UIDNext)
	}
	return n
}

// undated tells items that have no date yet, or came of late and have no size: see orphans. Where bytes are limited all have to have one.
func (l *line) undated() func(item) bool {
	sizes := l.p.s.o.Limits.needSizes()
	recent := l.p.s.o.Now().Add(-2 * skew).Unix()
	return func(it item) bool { return !it.dated || it.size == 0 && (sizes || it.date > recent) }
}

// date learns dates and sizes of items, which ascend by UID, in the mailbox that is selected at the source.
func (l *line) date(ctx context.Context, items []item) error {
	var uids []uint32
	undated := l.undated()
	for _, it := range items {
		if undated(it) {
			uids = append(uids, it.uid)
		}
	}
	var list []*backend.Command
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		list = append(list, l.src.Fetch(set, backend.FetchOptions{Items: []string{"INTERNALDATE", "RFC822.SIZE"}, Message: func(m *backend.Message) error {
			i, ok := slices.BinarySearchFunc(items, m.UID, func(it item, uid uint32) int { return cmp.Compare(it.uid, uid) })
			if ok && m.DateText != "" {
				d := dateOfMessage(m)
				items[i].date, items[i].zone, items[i].size, items[i].dated = d.date, d.zone, d.size, true
			}
			return nil
		}}))
	}
	return waitAll(ctx, list)
}

// find looks for what was appended without learning its UIDs. It uses connections of its own: those of the line are busy.
func (l *line) find(ctx context.Context, j *job, items []item) (found map[int]merge.Entry, err error) {
	err = l.p.both(holding(ctx), j.to, func(src, dst *backend.Client) error {
		found, err = l.p.look(ctx, src, dst, j.f, j.to, j.f.nextUID(j.to), items, l.p.s.o.Now())
		return err
	})
	return found, err
}
