package syncer

import (
	"bytes"
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

// runMessages is how many messages one intent speaks of: what recovery has to look for at most, times the runs under way.
const runMessages = 1024

// runsAhead is how many runs are asked for before the first is through.
const runsAhead = 2

// job is mail to be copied into one folder on one side.
type job struct {
	f     *folder
	to    config.Side
	items []item
	rest  []refusal // refused in a command with others: to be tried one by one
	flags map[merge.Flags]flagSet
}

// flagSet is what a target takes of a set of flags.
type flagSet struct {
	list []string
	id   merge.Flags
}

// refusal is a message that a server did not take.
type refusal struct {
	item
	err error
	nul bool // it holds NULs
}

// copy brings mail to where it lacks: ascending in each folder, several folders at once.
func (p *pass) copy(ctx context.Context) error {
	p.progress(func(g *Progress) { g.Phase = "copy" })
	var fast, slow []*job
	for _, f := range p.folders {
		for _, to := range config.Sides {
			if f.err != nil || len(f.steps[to]) == 0 {
				continue
			}
			j := &job{f: f, to: to}
			if steps := f.steps[to]; len(steps) == 1 && steps[0].from == nil && f.opened[to] != nil && to != p.authority {
				j.items = steps[0].items
				fast = append(fast, j)
			} else {
				slow = append(slow, j)
			}
		}
	}
	if p.opts.DryRun {
		for _, j := range append(fast, slow...) {
			for _, s := range j.f.steps[j.to] {
				if s.from == nil {
					p.report.Copied[j.to] += int64(len(s.items))
				}
			}
		}
		return nil
	}
	slices.SortStableFunc(fast, func(a, b *job) int { return cmp.Compare(len(b.items), len(a.items)) }) // the longest first: less waiting at the end
	queue := make(chan *job, len(fast))
	for _, j := range fast {
		queue <- j
	}
	close(queue)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range min(p.s.o.Connections, len(fast)) {
		wg.Go(func() {
			again, err := p.worker(ctx, lineOptions{to: p.authority.Other()}, nil, queue)
			mu.Lock()
			defer mu.Unlock()
			slow = append(slow, again...)
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	slices.SortFunc(slow, func(a, b *job) int { return strings.Compare(a.f.name(), b.f.name()) })
	for _, j := range slow {
		if j.f.err != nil {
			continue
		}
		if err := p.bring(ctx, j); err != nil {
			if err := p.fail(ctx, j.f, err); err != nil {
				return err
			}
		}
		j.f.unload()
	}
	return nil
}

func (f *folder) unload() {
	if f.pairs != nil && !f.pairsDirty() {
		f.pairs = nil
	}
}

// line is how mail is copied: to which side, and how it is presented.
type lineOptions struct {
	to     config.Side
	single bool // one message a command
	how    attempt
}

// attempt is what is left out or changed so that a server takes a message after all.
type attempt struct{ noKeywords, clamp, binary bool }

// worker copies jobs, those given and those of the queue, one behind the other without a pause. Jobs of which something was
// refused are returned. A connection that breaks is replaced, once it is known what has arrived.
func (p *pass) worker(ctx context.Context, o lineOptions, mine []*job, queue <-chan *job) (again []*job, err error) {
	for tries := 0; ; {
		if len(mine) == 0 {
			j, ok := <-queue
			if !ok {
				return again, nil
			}
			mine = []*job{j}
		}
		l := &line{p: p, lineOptions: o}
		begun, done, err := l.work(ctx, mine, queue)
		for _, j := range done {
			j.f.unload()
			if len(j.rest) > 0 {
				again = append(again, j)
			}
		}
		if mine = begun; err == nil {
			tries = 0
			continue
		}
		if isStore(err) || ctx.Err() != nil {
			return again, err
		}
		if len(done) > 0 || l.landed > 0 {
			tries = 0
		}
		p.s.o.Log.Warn("copying begins anew", "user", p.user, "err", err)
		if tries++; tries >= attempts {
			for _, j := range mine {
				if err := p.fail(ctx, j.f, err); err != nil {
					return again, err
				}
			}
			mine, tries = nil, 0
			continue
		}
		if err := pause(ctx, tries); err != nil {
			return again, err
		}
		keep := mine[:0]
		for _, j := range mine {
			if err := p.resume(ctx, j); err != nil {
				if err := p.fail(ctx, j.f, err); err != nil {
					return again, err
				}
				continue
			}
			switch {
			case len(j.items) > 0:
				keep = append(keep, j)
			case len(j.rest) > 0:
				again = append(again, j)
			}
		}
		mine = keep
	}
}

// resume finds out what of a job has arrived, after its connections broke.
func (p *pass) resume(ctx context.Context, j *job) error {
	f := j.f
	f.pairs = nil // what is not durable is looked for
	intents, err := p.s.o.Store.Intents(ctx, p.user)
	if err != nil {
		return storeError{err}
	}
	if err := p.load(ctx, f); err != nil {
		return err
	}
	for _, in := range intents {
		if in.Mailbox != f.box.ID || in.Side != j.to || in.Kind != IntentAppend && in.Kind != IntentMove {
			continue
		}
		if err := p.settleIntent(ctx, f, in); err != nil {
			return err
		}
		f.work.again = true // the flags of what was found are those of the copy: the next pass looks at the original's
	}
	// An item is through when its original is in a pair whose copy is not the one that was gone.
	from := j.to.Other()
	copies := make(map[uint32]merge.Pair, f.pairs.len())
	for _, q := range f.pairs.all() {
		copies[q.UID[from]] = q
	}
	open := func(it item) bool {
		q, ok := copies[it.uid]
		return !ok || it.again != 0 && q.UID[j.to] == it.gone
	}
	j.items = slices.DeleteFunc(slices.Clone(j.items), func(it item) bool { return !open(it) })
	j.rest = slices.DeleteFunc(j.rest, func(r refusal) bool { return !open(r.item) })
	j.items = slices.DeleteFunc(j.items, func(it item) bool {
		return slices.ContainsFunc(j.rest, func(r refusal) bool { return r.uid == it.uid })
	})
	return nil
}

// line is a source and a target connection, with runs of messages under way between them.
type line struct {
	p *pass
	lineOptions
	src, dst *backend.Client
	landed   int // messages paired
}

// run is a number of messages that one intent speaks of.
type run struct {
	l      *line
	j      *job
	items  []item
	intent int64
	index  map[uint32]int // by UID of the original
	fetch  []*backend.Command

	// Written by the source's reader, and read when the fetch has ended.
	append  *backend.Append
	current []int // items in it
	bytes   int64
	total   int64
	sent    []sent
	seen    map[uint32]bool
	nul     map[uint32]bool
}

// sent is an APPEND command with the items that were in it.
type sent struct {
	command *backend.AppendCommand
	items   []int
	err     error
}

// work copies the jobs given and, when they are fed, further ones of the queue. It returns jobs that were begun and are not
// through, and those that are; the connections are closed after an error.
func (l *line) work(ctx context.Context, jobs []*job, queue <-chan *job) (begun, done []*job, err error) {
	if l.src, err = l.p.pools[l.to.Other()].get(ctx, jobs[0].f.Name[l.to.Other()]); err != nil {
		return jobs, nil, err
	}
	if l.dst, err = l.p.pools[l.to].get(ctx, ""); err != nil {
		l.p.pools[l.to.Other()].put(l.src)
		return jobs, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	runs := make(chan *run, runsAhead)
	fed := make(chan error, 1)
	var mu sync.Mutex // guards open
	open := slices.Clone(jobs)
	go func() { // ends with the queue or with ctx; waited for below
		defer close(runs)
		fed <- l.feed(ctx, jobs, queue, runs, func(j *job) {
			mu.Lock()
			defer mu.Unlock()
			open = append(open, j)
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
			cancel(err)
			_ = l.src.Close() // whoever waits for them ends
			_ = l.dst.Close()
		}
	}
	if ferr := <-fed; err == nil {
		err = ferr
	}
	cancel(nil)
	if err != nil {
		l.p.pools[l.to.Other()].drop(l.src)
		l.p.pools[l.to].drop(l.dst)
		return open, done, err
	}
	l.p.pools[l.to.Other()].put(l.src)
	l.p.pools[l.to].put(l.dst)
	return open, done, nil
}

// feed sends what is to be copied, intent first. Nothing waits for an answer.
func (l *line) feed(ctx context.Context, jobs []*job, queue <-chan *job, runs chan<- *run, begin func(*job)) error {
	for n := 0; ; n++ {
		var j *job
		if n < len(jobs) {
			j = jobs[n]
		} else {
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
	barrier := func() { l.src.Select(f.Name[j.to.Other()], backend.SelectOptions{ReadOnly: true}) }
	isOpen := func() bool { return l.src.Mailbox() == f.Name[j.to.Other()] } // and nothing is outstanding
	if slices.ContainsFunc(j.items, func(it item) bool { return !it.dated }) {
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
	for items := range slices.Chunk(j.items, runMessages) {
		r := &run{l: l, j: j, items: items, index: make(map[uint32]int, len(items)), seen: make(map[uint32]bool), nul: map[uint32]bool{}}
		uids := make([]uint32, len(items))
		for i, it := range items {
			uids[i], r.index[it.uid] = it.uid, i
		}
		in := Intent{User: l.p.user, Mailbox: f.box.ID, Side: j.to, Kind: IntentAppend, Epoch: l.p.epoch, Validity: f.validity(j.to),
			UIDNext: f.nextUID(j.to), Payload: encodeItems(items), Created: l.p.s.o.Now()}
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
		}
		if !send(ctx, runs, r) {
			return context.Cause(ctx)
		}
	}
	return nil
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

// date learns the dates of items that have none yet, in the mailbox that is selected at the source.
func (l *line) date(ctx context.Context, items []item) error {
	var uids []uint32
	at := map[uint32]int{}
	for i, it := range items {
		if !it.dated {
			uids = append(uids, it.uid)
			at[it.uid] = i
		}
	}
	var list []*backend.Command
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		list = append(list, l.src.Fetch(set, backend.FetchOptions{Items: []string{"INTERNALDATE"}, Message: func(m *backend.Message) error {
			if i, ok := at[m.UID]; ok && m.DateText != "" {
				d := dateOfMessage(m)
				items[i].date, items[i].zone, items[i].dated = d.date, d.zone, true
			}
			return nil
		}}))
	}
	return waitAll(ctx, list)
}

// body streams a message from the source into the target. It runs in the source's reader.
func (r *run) body(ctx context.Context, uid uint32, size int64, b io.Reader) error {
	i, ok := r.index[uid]
	if !ok {
		return nil
	}
	delete(r.index, uid) // once
	l, it := r.l, r.items[i]
	if r.append == nil {
		r.append, r.current, r.bytes = l.dst.Append(ctx, r.j.f.Name[r.j.to]), nil, 0
	}
	m := backend.AppendMessage{Flags: r.j.keep(it).list, Size: size, Date: it.when(), Binary: l.how.binary}
	if l.how.noKeywords {
		m.Flags = slices.DeleteFunc(slices.Clone(m.Flags), func(f string) bool { return f[0] != '\\' })
	}
	if l.how.clamp && it.date < 0 || !it.dated {
		m.Date = time.Unix(0, 0).UTC()
		if l.how.clamp {
			m.Date = time.Unix(24*60*60, 0).UTC() // the first second of 1970 is "now" to some
		}
	}
	r.current = append(r.current, i)
	w, err := r.append.Next(ctx, m)
	if err != nil {
		if !refused(err) {
			r.append.Abandon(err)
			r.append = nil
			return err
		}
		r.finish(err)
		return nil
	}
	if l.single {
		b = io.TeeReader(b, nulFinder{r.nul, uid})
	}
	n, err := io.Copy(w, b)
	if err != nil {
		r.append.Abandon(err)
		r.append = nil
		return err
	}
	r.total += size
	if r.bytes += size; n != size {
		err := fmt.Errorf("message %d ends after %d of %d bytes", uid, n, size)
		r.append.Abandon(err)
		r.append = nil
		return err
	}
	l.p.progress(func(g *Progress) { g.Bytes[0] += size; g.Messages[0]++ })
	if l.single || !l.dst.MultiAppend() || len(r.current) >= l.p.s.o.Batch || r.bytes >= l.p.s.o.BatchBytes || len(r.index) == 0 {
		r.finish(nil)
	}
	return nil
}

// finish ends the APPEND command.
func (r *run) finish(err error) {
	if r.append == nil {
		return
	}
	c := r.append.Finish()
	r.append = nil
	r.sent = append(r.sent, sent{c, r.current, err})
}

// when is INTERNALDATE in its zone.
func (it item) when() time.Time {
	return time.Unix(it.date, 0).In(time.FixedZone("", int(it.zone)*60))
}

// keep tells which flags of an item the target takes. A run that is read asks while the one before is concluded.
func (j *job) keep(it item) flagSet {
	id := merge.Flags(it.flags)
	f := j.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := j.flags[id]; ok {
		return s
	}
	var s flagSet
	for _, flag := range f.dict.List(id) {
		if sel := f.opened[j.to]; sel == nil || sel.CanKeep(flag) {
			s.list = append(s.list, flag)
		}
	}
	s.id = f.dict.ID([]byte(strings.Join(s.list, " ")))
	if j.flags == nil {
		j.flags = map[merge.Flags]flagSet{}
	}
	j.flags[id] = s
	return s
}

// through waits until a run is done, and makes its pairs durable. What was refused stands in the job's rest.
func (r *run) through(ctx context.Context) error {
	for _, c := range r.fetch {
		if err := c.Wait(ctx); err != nil {
			if refused(err) {
				return fmt.Errorf("%s: %w", r.j.to.Other(), err)
			}
			return err
		}
	}
	r.finish(nil) // the last message may be gone
	j, f, l := r.j, r.j.f, r.l
	to := j.to
	var unknown []item // appended, and yet without a UID
	var why error
	var top uint32
	n := 0
	for _, s := range r.sent {
		got, err := s.command.Result(ctx)
		if s.err != nil {
			err = s.err
		}
		switch {
		case err != nil && !refused(err):
			return err
		case err != nil && len(s.items) == 1:
			it := r.items[s.items[0]]
			j.rest = append(j.rest, refusal{it, err, r.nul[it.uid]})
		case err != nil:
			why = err
			for _, i := range s.items {
				unknown = append(unknown, r.items[i])
			}
		case len(got.UIDs) != len(s.items):
			for _, i := range s.items {
				unknown = append(unknown, r.items[i])
			}
		case got.Validity != f.validity(to):
			return fmt.Errorf("the mailbox was reset while mail was copied into it: UIDVALIDITY is %d and was %d", got.Validity, f.validity(to))
		default:
			for k, i := range s.items {
				l.paired(j, r.items[i], got.UIDs[k])
				top = max(top, got.UIDs[k]+1)
				n++
			}
		}
	}
	for i, it := range r.items {
		if _, unsent := r.index[it.uid]; !unsent {
			continue
		}
		if r.seen[it.uid] { // the source has it, and does not give it
			j.rest = append(j.rest, refusal{item: r.items[i], err: errUnreadable})
		} else { // gone meanwhile, most likely; if not, the next pass finds it
			f.work.again = true
		}
	}
	if len(unknown) > 0 {
		// Looked for at once: the next run waits until it is known what this one has left.
		found, err := l.find(ctx, j, unknown)
		if err != nil {
			return err
		}
		for i, it := range unknown {
			switch e, ok := found[i]; {
			case ok:
				l.paired(j, it, e.UID)
				top = max(top, e.UID+1)
				n++
			case why != nil:
				j.rest = append(j.rest, refusal{item: it, err: why})
			default:
				j.rest = append(j.rest, refusal{item: it, err: errVanished})
			}
		}
	}
	f.mu.Lock()
	f.next[to] = max(f.next[to], top)
	f.mu.Unlock()
	if _, err := l.p.save(ctx, f, Change{DropIntents: []int64{r.intent}}); err != nil {
		return err
	}
	l.landed += n
	l.p.count(func(rep *Report) {
		rep.Copied[to] += int64(n)
		rep.Bytes[to] += r.total
	})
	return nil
}

// Reasons why a message is refused that no server has said.
var (
	errUnreadable = errors.New("the server does not give this message")
	errVanished   = errors.New("the server said OK, and has the message not")
)

// reasonVanished is the quarantine of what a server took and nobody can find. It may be there, changed beyond recognition: it is not
// given to it a second time unless a person says so.
const reasonVanished = "vanished"

// paired notes that an item has a copy.
func (l *line) paired(j *job, it item, uid uint32) {
	f, to := j.f, j.to
	var q merge.Pair
	q.UID[to], q.UID[to.Other()] = uid, it.uid
	kept := j.keep(it)
	q.Base[to], q.Base[to.Other()] = kept.id, merge.Flags(it.flags)
	if l.how.noKeywords { // the next pass tries to set them: what is in the way may pass
		kept = j.systemOnly(it)
		q.Base = [2]merge.Flags{kept.id, kept.id}
		f.work.again = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if it.again != 0 {
		f.pairs.remove(it.again)
	}
	f.pairs.put(q)
}

// nulFinder notes that a message holds NULs.
type nulFinder struct {
	found map[uint32]bool
	uid   uint32
}

func (n nulFinder) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, 0) >= 0 {
		n.found[n.uid] = true
	}
	return len(p), nil
}

// find looks for what was appended without learning its UIDs. It uses connections of its own: those of the line are busy.
func (l *line) find(ctx context.Context, j *job, items []item) (found map[int]merge.Entry, err error) {
	err = l.p.both(ctx, j.to, func(src, dst *backend.Client) error {
		found, err = l.p.look(ctx, src, dst, j.f, j.to, j.f.nextUID(j.to), items)
		return err
	})
	return found, err
}
