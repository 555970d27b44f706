package syncer

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"time"

	"mailgate/config"
	"mailgate/imapwire"
)

// keepEvery is how long what people ask to be deleted may be in memory only. It is written in batches, behind the answers to clients.
const keepEvery = 300 * time.Millisecond

// keptProof is a proof as it stands in the store.
type keptProof struct {
	Side     config.Side    `json:"side"`
	Mailbox  uint64         `json:"mailbox"`
	Validity uint64         `json:"validity"`
	Session  uint64         `json:"session"`
	UIDs     imapwire.Spans `json:"uids,omitempty"`
	Most     uint64         `json:"most"`
	Marked   imapwire.Spans `json:"marked,omitempty"`
}

// before marks sessions of a process before.
const before = 1 << 63

// Load takes over what a process before has remembered, before anybody notes anything. What cannot be read is no proof.
func (s *Proofs) Load(all map[string][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for user, text := range all {
		var list []keptProof
		if json.Unmarshal(text, &list) != nil {
			continue
		}
		for _, k := range list {
			x := proof{session: k.Session | before, most: k.Most}
			for _, r := range k.UIDs {
				x.uids = x.uids.Add(r.First, r.Last)
			}
			for _, r := range k.Marked {
				x.marked = x.marked.Add(r.First, r.Last)
			}
			s.add(user, spot{k.Side, k.Mailbox, k.Validity}, x)
		}
	}
}

// Replace is Load in place of all that is remembered, for a process that begins to make the passes another one has made until now. No pass
// may be under way.
func (s *Proofs) Replace(all map[string][]byte) {
	s.mu.Lock()
	clear(s.users)
	clear(s.seen)
	clear(s.taken)
	clear(s.dirty)
	s.spans = 0
	s.mu.Unlock()
	s.Load(all)
}

// Write writes what is remembered and not written yet. What could not be is with the next write.
func (s *Proofs) Write(ctx context.Context, save func(context.Context, map[string][]byte) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	list := s.changed()
	if len(list) == 0 {
		return nil
	}
	err := save(ctx, list)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for user := range list {
			s.touch(user)
		}
	}
	return err
}

// Run writes what is remembered until ctx ends, and a last time then. What could not be written is tried again.
func (s *Proofs) Run(ctx context.Context, save func(context.Context, map[string][]byte) error, log *slog.Logger) {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	told := false
	for end := false; !end; {
		wctx := ctx
		select {
		case <-t.C:
		case <-ctx.Done():
			var cancel context.CancelFunc
			wctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), storeEndTime)
			defer cancel()
			end = true
		}
		err := s.Write(wctx, save)
		if err != nil && !told {
			log.Warn("what people have deleted cannot be written down; the guard will hold it back after a crash", "err", err)
		}
		told = err != nil
	}
}

// touch notes that what is remembered of a user is to be written; mu is held.
func (s *Proofs) touch(user string) {
	if s.dirty == nil {
		s.dirty = map[string]bool{}
	}
	s.dirty[user] = true
}

// changed gives what has changed since, nil for who has nothing more. What a pass has taken counts until it is through.
func (s *Proofs) changed() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string][]byte, len(s.dirty))
	for user := range s.dirty {
		var list []keptProof
		for _, u := range []map[spot][]proof{s.taken[user], s.users[user]} {
			for at, proofs := range u {
				for _, x := range proofs {
					list = append(list, keptProof{at.side, at.mailbox, at.validity, x.session, x.uids, x.most, x.marked})
				}
			}
		}
		out[user] = nil
		if len(list) > 0 {
			out[user], _ = json.Marshal(list) // numbers only: it cannot fail
		}
	}
	clear(s.dirty)
	return out
}

// hand notes what a pass takes; mu is held.
func (s *Proofs) hand(user string, u map[spot][]proof) {
	if len(u) == 0 {
		return
	}
	if s.taken == nil {
		s.taken = map[string]map[spot][]proof{}
	}
	s.taken[user] = maps.Clone(u)
}
