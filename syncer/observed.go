package syncer

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"mailgate/config"
)

// observation is when deletes that the guard holds back were first seen, and how many they were.
type observation struct {
	since    time.Time
	messages int
}

// observed takes a pass, begun at that time, that held deletes back, or nothing. What has grown by more than anybody deletes in a day is
// seen for the first time again.
func observed(before map[string]observation, held []Held, at time.Time) map[string]observation {
	now := make(map[string]observation, len(held))
	for _, h := range held {
		key := heldKey(h.Folder, h.Side)
		x, known := before[key]
		if !known || h.Messages > x.messages+max(guardMessages, h.Of/guardShare) {
			x = observation{since: at, messages: h.Messages}
		}
		now[key] = x
	}
	return now
}

func heldKey(folder, side string) string { return side + "\x00" + folder }

// sighted gives what was seen of a user by passes of this process.
func (s *Proofs) sighted(user string) (map[string]observation, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, known := s.seen[user]
	return maps.Clone(seen), known
}

// sight remembers what a pass has held back.
func (s *Proofs) sight(user string, seen map[string]observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]map[string]observation{}
	}
	s.seen[user] = seen
}

// ripe tells whether something may be released by a look at it with fresh eyes.
func (s *Proofs) ripe(user string, confirm time.Duration, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.seen[user] {
		if now.Sub(x.since) >= confirm {
			return true
		}
	}
	return false
}

// observations are those of the passes before this one: as this process remembers them, or as they are written down.
func (p *pass) observations(ctx context.Context) map[string]observation {
	if p.seen != nil {
		return p.seen
	}
	seen, known := p.s.o.Proofs.sighted(p.user)
	if !known {
		seen = nil
		runs, err := p.s.o.Store.Runs(ctx, p.user, 100)
		if err != nil {
			runs = nil // then it is seen for the first time now
		}
		for _, r := range slices.Backward(runs) {
			var rep Report
			if r.Error == "" && !r.Ended.IsZero() && json.Unmarshal(r.Summary, &rep) == nil {
				seen = observed(seen, rep.Held, r.Began)
			}
		}
	}
	if p.seen = seen; p.seen == nil {
		p.seen = map[string]observation{}
	}
	return p.seen
}

// released tells whether deletes that would be held back may go (uid-stable.md, section 4.7): they were seen before, long enough ago,
// and are seen again over another connection; and a person says so, or they are of Trash or Junk of the side that decides.
func (p *pass) released(ctx context.Context, f *folder) bool {
	if p.s.o.Confirm <= 0 {
		return p.opts.Deletes
	}
	if !p.opts.Deletes && !p.discards(f) {
		return false
	}
	x, known := p.observations(ctx)[heldKey(f.name(), p.authority.Other().String())]
	n := len(f.work.expunge[p.authority.Other()]) - f.proven.count
	return known && p.reopened && p.s.elapsed(x.since) >= p.s.o.Confirm && n <= x.messages+max(guardMessages, f.agreed()/guardShare)
}

// discards tells whether a folder is where people put what they want no more, as its host says (RFC 6154).
func (p *pass) discards(f *folder) bool {
	for _, e := range p.sides[p.authority].Folders {
		if e.Name == f.Name[p.authority] {
			return slices.ContainsFunc(e.Attributes, func(a string) bool { return strings.EqualFold(a, `\Trash`) || strings.EqualFold(a, `\Junk`) })
		}
	}
	return false
}

// wayOut says how deletes that are held back may go.
func (p *pass) wayOut(ctx context.Context, f *folder) string {
	if p.s.o.Confirm <= 0 {
		return "if that is meant, run the pass with --deletes"
	}
	x, known := p.observations(ctx)[heldKey(f.name(), p.authority.Other().String())]
	if !known {
		x.since = p.s.stamp()
	}
	by := "if that is meant, run the pass with --deletes"
	if p.discards(f) {
		by = "they go by themselves"
	}
	if at := x.since.Add(p.s.o.Confirm); at.After(p.s.stamp()) {
		by += fmt.Sprintf(" after %s, when they have been seen for %s", at.UTC().Format("2006-01-02 15:04 MST"), p.s.o.Confirm)
	}
	return by
}

// remember keeps what this pass has held back for the next one.
func (p *pass) remember(ctx context.Context, err error) {
	if p.opts.DryRun || err != nil || p.s.o.Confirm <= 0 {
		return
	}
	before, _ := p.s.o.Proofs.sighted(p.user)
	if len(p.report.Held) > 0 {
		before = p.observations(ctx)
	}
	seen := observed(before, p.report.Held, p.s.stamp())
	for _, f := range p.folders {
		key := heldKey(f.name(), p.authority.Other().String())
		if x, known := before[key]; known && f.err != nil { // nobody has looked
			seen[key] = x
		}
	}
	p.s.o.Proofs.sight(p.user, seen)
}

// freshConns ends the connections that were kept from the pass before when deletes may be released: they are to be seen over another one.
func (s *Syncer) freshConns(user string, kept *[2]pooled) {
	if s.o.Confirm > 0 && s.o.Proofs.ripe(user, s.o.Confirm, s.stamp()) {
		s.idle.close(kept[config.Old], kept[config.New])
		*kept = [2]pooled{}
	}
}
