package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"mailgate/config"
	"mailgate/cutover"
	"mailgate/op"
	"mailgate/syncer"
)

// leftBehind is what rollback --now left on the side that it left, as far as mailgate knows: what it has not read it cannot name.
type leftBehind struct {
	Op       string      `json:"op"`
	Side     config.Side `json:"side"`
	Read     time.Time   `json:"read,omitzero"`   // when the last pass that read both sides began
	Since    time.Time   `json:"since,omitzero"`  // of the oldest change that is known of and was not carried
	Pairs    int64       `json:"pairs"`           // messages that are known to be on both sides
	Messages int64       `json:"messages"`        // that the side held when it was last read
	Aside    int         `json:"aside,omitempty"` // of them in quarantine
}

func (b leftBehind) String() string {
	s := fmt.Sprintf("what changed on %s since %s has not been brought over: it is when %s answers again", b.Side, sinceText(b.Read), b.Side)
	if b.Read.IsZero() {
		s = fmt.Sprintf("%s was never read as a whole: what is on it alone is brought over when it answers again", b.Side)
	}
	if !b.Since.IsZero() {
		s += fmt.Sprintf("; changes are known of since %s", sinceText(b.Since))
	}
	return fmt.Sprintf("%s (%d messages were on it, %d of them on both sides)", s, b.Messages, b.Pairs)
}

func sinceText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// behind remembers in this process who has left something behind, so that passes need not ask the store. It is safe for concurrent use.
type behind struct {
	mu    sync.Mutex
	read  bool
	users map[string]leftMark
}

type leftMark struct {
	leftBehind
	at time.Time // of the flip
}

// load reads who has; mu is held.
func (b *behind) load(ctx context.Context, g *gateway) error {
	if b.read {
		return nil
	}
	list, err := g.store.Behind(ctx)
	if err != nil {
		return err
	}
	b.users = map[string]leftMark{}
	for _, x := range list {
		m := leftMark{at: x.At}
		if err := json.Unmarshal(x.Text, &m.leftBehind); err != nil {
			return fmt.Errorf("what %s left behind: %w", x.User, err)
		}
		b.users[x.User] = m
	}
	b.read = true
	return nil
}

// of is what a user has left behind; false means nothing.
func (b *behind) of(ctx context.Context, g *gateway, user string) (leftMark, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.load(ctx, g); err != nil {
		return leftMark{}, false
	}
	m, ok := b.users[user]
	return m, ok
}

// leaveBehind notes what a flip leaves behind that did not reach the side it left.
func (s *syncing) leaveBehind(ctx context.Context, m cutover.Move) error {
	b := leftBehind{Op: m.Op, Side: m.From}
	boxes, err := s.g.store.Mailboxes(ctx, m.User)
	if err != nil {
		return err
	}
	for _, x := range boxes {
		b.Pairs += x.Pairs
		b.Messages += int64(x.Cursor[m.From].Messages)
	}
	if runs, err := s.g.store.Runs(ctx, m.User, 20); err == nil {
		for _, r := range runs {
			if r.Error == "" && !r.Ended.IsZero() {
				b.Read = r.Began
				break
			}
		}
	}
	if kp := s.keeping; kp != nil {
		if st, kept := kp.k.State(m.User); kept {
			if st.Last.After(b.Read) { // passes that found nothing are written down nowhere
				b.Read = st.Last
			}
			b.Since = st.Since
		}
	}
	at := time.Now()
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	err = s.g.store.SaveBehind(ctx, syncer.Behind{User: m.User, At: at, Text: text},
		op.Event{At: at, Op: m.Op, User: m.User, By: m.By, What: "left behind", Before: m.From.String(), After: m.To.String(), Detail: b.String()})
	if err != nil {
		return err
	}
	s.behind.mu.Lock()
	defer s.behind.mu.Unlock()
	if err := s.behind.load(ctx, s.g); err != nil {
		return err
	}
	s.behind.users[m.User] = leftMark{b, at}
	return nil
}

// doubt says of who went back by rollback --now that nobody knows yet what is missing on the side that he is on: a follower may lose mail, and
// that is made again ahead of other flips only.
func (s *syncing) doubt(ctx context.Context, user string) string {
	m, ok := s.behind.of(ctx, s.g, user)
	if !ok {
		return ""
	}
	return fmt.Sprintf("since rollback --now it is not known what was deleted on %s, and what it had lost before", m.Side.Other())
}

// caughtUp notes that a pass has read both sides of a user as a whole.
func (s *syncing) caughtUp(ctx context.Context, user string, r *syncer.Report) {
	if r == nil || r.DryRun || len(r.Errors)+len(r.Held)+len(r.Quarantine) > 0 || r.Sieve != nil && r.Sieve.Trouble != "" {
		return
	}
	m, ok := s.behind.of(ctx, s.g, user)
	if !ok || !r.Began.After(m.at) {
		return
	}
	e := op.Event{At: time.Now(), User: user, By: "serve", What: "brought over", Detail: fmt.Sprintf("%s answers again: %s", m.Side, did(r))}
	if _, err := s.g.store.DropBehind(ctx, user, e); err != nil {
		s.g.log.Warn("that a side was read again is not recorded", "user", user, "err", err)
		return
	}
	s.behind.mu.Lock()
	defer s.behind.mu.Unlock()
	delete(s.behind.users, user)
}
