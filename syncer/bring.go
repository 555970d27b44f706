package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// bring does what the fast way could not: steps with moves, mail for the side that decides, and mail that was refused in a
// command with others. What is refused in every form goes into quarantine.
func (p *pass) bring(ctx context.Context, j *job) error {
	f := j.f
	err := p.on(ctx, j.to, func(c *backend.Client) error {
		sel, err := c.Select(f.Name[j.to], backend.SelectOptions{}).Result(ctx)
		if err != nil {
			return err
		}
		if known := f.validity(j.to); known != 0 && sel.Validity != known {
			return fmt.Errorf("the mailbox was reset on %s: UIDVALIDITY is %d and was %d", j.to, sel.Validity, known)
		}
		if sel.ReadOnly {
			return fmt.Errorf("the mailbox is read-only on %s", j.to)
		}
		st, err := c.Status(f.Name[j.to], "UIDNEXT").Result(ctx)
		f.opened[j.to] = sel
		f.mu.Lock()
		defer f.mu.Unlock()
		f.next[j.to] = max(f.next[j.to], sel.UIDNext, st.UIDNext)
		return err
	})
	if err != nil {
		return err
	}
	j.flags = nil
	if err := p.load(ctx, f); err != nil {
		return err
	}
	if len(j.rest) == 0 {
		for _, s := range f.steps[j.to] {
			if s.from != nil {
				if err := p.moveFrom(ctx, j, s); err != nil {
					return err
				}
				continue
			}
			rest, err := p.again(ctx, j, s.items, lineOptions{to: j.to})
			if err != nil || f.err != nil { // noted already
				return err
			}
			j.rest = append(j.rest, rest...)
		}
	}
	return p.insist(ctx, j)
}

// again copies items of a job in another way.
func (p *pass) again(ctx context.Context, j *job, items []item, o lineOptions) ([]refusal, error) {
	if len(items) == 0 || j.f.err != nil {
		return nil, nil
	}
	none := make(chan *job)
	close(none)
	sub := &job{f: j.f, to: j.to, items: items}
	if _, err := p.worker(ctx, o, []*job{sub}, none); err != nil {
		return nil, err
	}
	if j.f.err != nil { // noted already
		return nil, nil
	}
	return sub.rest, p.load(ctx, j.f)
}

// insist offers what was refused one by one, and then with less and less: without keywords, with another date, as binary.
func (p *pass) insist(ctx context.Context, j *job) error {
	rest, err := p.readAgain(ctx, j, j.rest)
	if err != nil || j.f.err != nil {
		return err
	}
	j.rest = nil
	attempts := []struct {
		how  attempt
		only func(refusal) bool
	}{
		{attempt{}, func(refusal) bool { return true }},
		{attempt{noKeywords: true}, func(r refusal) bool { return len(j.keep(r.item).list) > len(j.systemOnly(r.item).list) }},
		{attempt{noKeywords: true, clamp: true}, func(r refusal) bool { return r.date <= 0 }},
		{attempt{binary: true}, func(r refusal) bool { return r.nul && p.offers(ctx, j.to, "BINARY") }},
	}
	for _, a := range attempts {
		var try []item
		rest = slices.DeleteFunc(rest, func(r refusal) bool {
			if a.only(r) && !isQuota(r.err) && !errors.Is(r.err, errUnreadable) && !errors.Is(r.err, errVanished) {
				try = append(try, r.item)
				return true
			}
			return false
		})
		slices.SortFunc(try, func(x, y item) int { return cmp.Compare(x.uid, y.uid) })
		left, err := p.again(ctx, j, try, lineOptions{to: j.to, single: true, how: a.how})
		if err != nil || j.f.err != nil {
			return err
		}
		rest = append(rest, left...)
	}
	return p.quarantine(ctx, j, rest)
}

func (p *pass) offers(ctx context.Context, side config.Side, capability string) (has bool) {
	_ = p.on(ctx, side, func(c *backend.Client) error {
		has = c.Has(capability)
		return nil
	})
	return has
}

// systemOnly are the flags of an item that every server knows.
func (j *job) systemOnly(it item) flagSet {
	var s flagSet
	for _, flag := range j.keep(it).list {
		if flag[0] == '\\' {
			s.list = append(s.list, flag)
		}
	}
	j.f.mu.Lock()
	defer j.f.mu.Unlock()
	s.id = j.f.dict.ID([]byte(strings.Join(s.list, " ")))
	return s
}

// quarantine keeps a list of what a side refuses, with the reason. The rest of the mailbox is not held up.
func (p *pass) quarantine(ctx context.Context, j *job, rest []refusal) error {
	if len(rest) == 0 {
		return nil
	}
	f, now := j.f, p.s.o.Now()
	var list []Quarantined
	for _, r := range rest {
		q := Quarantined{User: p.user, Mailbox: f.box.ID, Side: j.to.Other(), Validity: f.validity(j.to.Other()), UID: r.uid, First: now}
		for _, x := range f.quar {
			if x.Side == q.Side && x.Validity == q.Validity && x.UID == q.UID {
				q = x
			}
		}
		q.Reason, q.Detail, q.Last, q.Tries = class(r.err), r.err.Error(), now, q.Tries+1
		q.Decision = Undecided // it was tried, as somebody wished
		list = append(list, q)
	}
	p.count(func(rep *Report) { rep.Quarantine = append(rep.Quarantine, list...) })
	p.progress(func(g *Progress) { g.Failed += int64(len(list)) })
	for _, q := range list {
		f.quar = slices.DeleteFunc(f.quar, func(x Quarantined) bool { return x.Side == q.Side && x.UID == q.UID })
	}
	f.quar = append(f.quar, list...)
	for _, r := range rest {
		if r.again != 0 { // its copy is gone, and there is no other: the pair would say that there is one
			f.pairs.remove(r.again)
		}
	}
	_, err := p.save(ctx, f, Change{Quarantine: list})
	return err
}

// class puts a refusal under a heading.
func class(err error) string {
	var s *backend.StatusError
	switch {
	case errors.As(err, &s):
	case errors.Is(err, errUnreadable):
		return reasonUnreadable
	case errors.Is(err, errVanished):
		return reasonVanished
	default:
		return "unknown"
	}
	text := strings.ToLower(s.Text)
	switch {
	case isQuota(err):
		return "quota"
	case s.Code.Name == "TOOBIG" || strings.Contains(text, "too large") || strings.Contains(text, "too big"):
		return "too-big"
	case s.Code.Name == "NOPERM" || s.Code.Name == "READ-ONLY":
		return "permission"
	case strings.Contains(text, "nul"):
		return "nul"
	}
	return "refused"
}

// isQuota tells that a mailbox is full (RFC 9208; Cyrus says it in words only).
func isQuota(err error) bool {
	var s *backend.StatusError
	if !errors.As(err, &s) {
		return false
	}
	return s.Code.Name == "OVERQUOTA" || s.Code.Name == "" && strings.Contains(strings.ToLower(s.Text), "quota")
}

// errCopyUnknown means that the answer to a COPY was lost: done again it would double what it has copied.
var errCopyUnknown = errors.New("the connection broke while messages were copied; the next pass looks what has become of them")

// moveFrom is move. Where connections end at the folder that messages are moved from they stay there, and the others come in.
func (p *pass) moveFrom(ctx context.Context, j *job, s step) error {
	if s.from.err == nil {
		err := p.move(ctx, j, s)
		var ended endedError
		if !errors.As(err, &ended) || !p.breaks(ctx, j.to, s.from) {
			return err
		}
		if err = p.fail(ctx, s.from, err); err != nil {
			return err
		}
	}
	j.f.work.again, s.from.stuck = true, true
	return nil
}

// move brings messages in from another folder of the same side: MOVE, or COPY and a later EXPUNGE.
func (p *pass) move(ctx context.Context, j *job, s step) error {
	f, to := j.f, j.to
	in := Intent{User: p.user, Mailbox: f.box.ID, Side: to, Kind: IntentMove, Epoch: p.epoch, Validity: f.validity(to), UIDNext: f.nextUID(to),
		Payload: encodeItems(s.items), Created: p.s.stamp()}
	a, err := p.write(ctx, Change{AddIntents: []Intent{in}})
	if err != nil {
		return err
	}
	where := map[uint32]uint32{} // UID before -> after
	var moves, copied bool
	err = p.on(ctx, to, func(c *backend.Client) error {
		sel, err := c.Select(s.from.Name[to], backend.SelectOptions{}).Result(ctx)
		if err != nil {
			return err
		}
		if sel.Validity != s.from.validity(to) {
			return fmt.Errorf("%s was reset on %s", s.from.name(), to)
		}
		moves = c.Has("MOVE")
		if copied && !moves {
			return errCopyUnknown
		}
		copied = true
		// A command takes messages in the order of their UIDs; they are to arrive in the order of items.
		var commands []*backend.CopyCommand
		for i := 0; i < len(s.moved); {
			k := i + 1
			for k < len(s.moved) && s.moved[k].UID[to] > s.moved[k-1].UID[to] {
				k++
			}
			for _, set := range uidSets(s.moved[i:k], to) {
				if moves {
					commands = append(commands, c.Move(set, f.Name[to]))
				} else {
					commands = append(commands, c.Copy(set, f.Name[to]))
				}
			}
			i = k
		}
		for _, cmd := range commands {
			got, err := cmd.Result(ctx)
			if err != nil {
				return err
			}
			for i, u := range got.From {
				where[u] = got.To[i]
			}
		}
		return nil
	})
	if err != nil {
		return err // the intent stands: the next pass looks what has become of it
	}
	var unknown []item
	var pairs []merge.Pair
	done := map[uint32]bool{}
	for i, it := range s.items {
		if _, ok := where[s.moved[i].UID[to]]; !ok {
			unknown = append(unknown, it)
		}
	}
	if len(unknown) > 0 {
		var found map[int]merge.Entry
		err := p.both(ctx, to, func(src, dst *backend.Client) (err error) {
			found, err = p.look(ctx, src, dst, f, to, in.UIDNext, unknown, in.Created)
			return err
		})
		if err != nil {
			return err
		}
		at := map[uint32]int{}
		for i, it := range s.items {
			at[it.uid] = i
		}
		for i, e := range found {
			where[s.moved[at[unknown[i].uid]].UID[to]] = e.UID
		}
	}
	if err := p.load(ctx, s.from); err != nil {
		return err
	}
	var top uint32
	f.mu.Lock()
	for i, it := range s.items {
		old := s.moved[i]
		uid, ok := where[old.UID[to]]
		if !ok {
			continue
		}
		done[old.UID[to]] = true
		top = max(top, uid+1)
		q := merge.Pair{}
		q.UID[to], q.UID[to.Other()] = uid, it.uid
		for side := range q.Base {
			q.Base[side] = f.dict.ID([]byte(strings.Join(s.from.dict.List(old.Base[side]), " ")))
		}
		if it.again != 0 {
			if before, ok := f.pairs.find(it.again); ok && s.fresh { // its flags on the follower are changes there, as if it had not been moved
				q.Base = before.Base
			}
			f.pairs.remove(it.again)
		}
		if x, ok := f.flagsOfMoved(&q, to, merge.Flags(it.flags)); ok {
			f.work.change[to] = append(f.work.change[to], x)
		}
		f.pairs.put(q)
	}
	f.next[to] = max(f.next[to], top)
	f.mu.Unlock()
	if _, err := p.save(ctx, f, Change{DropIntents: a.Intents}); err != nil {
		return err
	}
	for _, q := range s.moved {
		if !done[q.UID[to]] {
			s.from.work.again, f.work.again = true, true
			continue
		}
		pairs = append(pairs, q)
	}
	switch {
	case !moves:
		s.from.copied = true
		s.from.work.expunge[to] = append(s.from.work.expunge[to], pairs...)
	case !s.fresh:
		for _, q := range pairs {
			s.from.work.drop = append(s.from.work.drop, q.UID[config.Old])
		}
	}
	p.count(func(r *Report) { r.Moved[to] += int64(len(pairs)) })
	return nil
}

// flagsOfMoved is what has changed of a message's flags since both sides were alike, or while it was moved: now is what the side has from which it
// moves to. What a side does not keep stays in the base of the other. The caller holds mu.
func (f *folder) flagsOfMoved(q *merge.Pair, to config.Side, now merge.Flags) (x change, changed bool) {
	from := to.Other()
	q.Base[from] = f.dict.Settled(q.Base[from], now)
	x.add, x.remove = f.dict.Without(now, q.Base[from]), f.dict.Without(q.Base[from], now)
	if len(x.add)+len(x.remove) == 0 {
		return x, false
	}
	x.pairs = []merge.Pair{*q}
	x.base[from], x.base[to] = now, f.dict.Changed(f.dict.Sent(q.Base[to]), x.add, x.remove)
	if q.Base[to] != f.dict.Sent(q.Base[to]) {
		x.base[to] = f.dict.Unconfirmed(x.base[to])
	}
	return x, true
}
