package syncer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/syncer/merge"
)

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
	sortForCopy(fast, p.s.o.Connections)
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
			var again []*job
			err := safely(func() (err error) {
				again, err = p.worker(ctx, lineOptions{to: p.authority.Other()}, nil, queue)
				return err
			})
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
	struck := 0
	nothing := make(chan *job)
	close(nothing)
	for tries := 0; ; {
		if len(mine) == 0 {
			j, ok := <-queue
			if !ok {
				return again, nil
			}
			mine = []*job{j}
		}
		turn, later, more := mine, []*job(nil), queue
		if tries > 0 { // one by one, to find out which it is
			turn, later, more = mine[:1], mine[1:], nothing
		}
		l := &line{p: p, lineOptions: o}
		begun, done, err := l.work(ctx, turn, more)
		for _, j := range done {
			j.f.unload()
			if len(j.rest) > 0 {
				again = append(again, j)
			}
		}
		if mine = slices.Concat(begun, later); err == nil {
			tries, struck = 0, 0
			continue
		}
		if isStore(err) || ctx.Err() != nil || asked(err) > 0 || errors.Is(err, ErrYielded) {
			return again, err
		}
		if l.src == nil && errors.Is(err, ErrCrowded) { // nothing was begun; other lines have what connections there are
			continue
		}
		if len(done) > 0 || l.landed > 0 {
			tries, struck = 0, 0
		}
		if Silent(err) {
			if struck++; struck >= strikes {
				return again, err
			}
			tries = attempts
		}
		if errors.Is(err, ErrCrowded) { // there was none to look for copies with: that is done below, now that the line has let go of its own
			tries = 0
		}
		p.s.o.Log.Warn("copying begins anew", "user", p.user, "err", err)
		if tries++; tries >= attempts {
			for _, j := range begun {
				j.f.unread = l.srcEnded && l.to != p.authority
				if err := p.fail(ctx, j.f, err); err != nil {
					return again, err
				}
			}
			mine, tries = later, min(len(later), 1)
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
				tries = 1 // the others are not to blame
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
