package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/syncer/merge"
)

// run is a number of messages that one intent speaks of.
type run struct {
	l      *line
	j      *job
	items  []item
	intent int64
	index  map[uint32]int // by UID of the original
	fetch  []*backend.Command

	// Written by the source's reader, and read when the fetch has ended; the APPEND that is under way is ended by whoever comes first.
	mu      sync.Mutex
	dropped bool
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

// body streams a message from the source into the target. It runs in the source's reader.
func (r *run) body(ctx context.Context, uid uint32, size int64, b io.Reader) error {
	i, ok := r.index[uid]
	if !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dropped || ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b, away, err := standIn(size, b)
	if err != nil {
		return err
	}
	if away { // it stays in index: it was not sent
		r.seen[uid] = true
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
		r.end(err)
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
	l.p.s.o.Limits.count(size)
	l.p.progress(func(g *Progress) { g.Bytes[0] += size; g.Messages[0]++ })
	if l.single || !l.dst.MultiAppend() || len(r.current) >= l.p.s.o.Batch || r.bytes >= l.p.s.o.BatchBytes || len(r.index) == 0 {
		r.end(nil)
	}
	return nil
}

// drop gives up an APPEND that is under way, and takes no more of the run.
func (r *run) drop(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dropped = true; r.append != nil {
		r.append.Abandon(err)
		r.append = nil
	}
}

// finish ends the APPEND command that is under way.
func (r *run) finish(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(err)
}

// end is finish; mu is held.
func (r *run) end(err error) {
	if r.append == nil {
		return
	}
	c := r.append.Finish()
	r.append = nil
	r.sent = append(r.sent, sent{c, r.current, err})
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
		case err != nil && (!refused(err) || asked(err) > 0): // that it is too much now says nothing of the message
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
	q.Base[to] = f.dict.Unconfirmed(q.Base[to])
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
