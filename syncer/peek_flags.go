package syncer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/syncer/merge"
)

// Which mailboxes Peek reads flags in, where their numbers do not tell: those in which something was done within busyTime, the latest ones;
// and of how many messages, the newest ones. 5,000 are 230 KB.
const (
	busyTime  = 24 * time.Hour
	busyMost  = 4
	flagsMost = 5000
)

// busy notes that something was to be done in a mailbox of a user. What is remembered is in this process.
func (s *Syncer) busy(user string, mailbox int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(s.hot[user], func(h hotMailbox) bool { return h.id == mailbox })
	list = append(list, hotMailbox{mailbox, time.Now()})
	s.hot[user] = list[max(0, len(list)-busyMost):]
}

// isBusy tells whether that is not long ago.
func (s *Syncer) isBusy(user string, mailbox int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.hot[user], func(h hotMailbox) bool { return h.id == mailbox && time.Since(h.at) < busyTime })
}

// hotMailbox is a mailbox, and when something was done there.
type hotMailbox struct {
	id int64
	at time.Time
}

// peekFlags tells whether messages of mailboxes have other flags at a side than when both were last in agreement.
func (s *Syncer) peekFlags(ctx context.Context, side config.Side, list []Mailbox, c *backend.Client) (changed bool, err error) {
	if len(list) == 0 {
		return false, nil
	}
	for _, m := range list {
		if changed, err = s.flagsDiffer(ctx, side, m, c); err != nil || changed {
			break
		}
	}
	if err == nil && c.Mailbox() != "" {
		err = c.Unselect().Wait(ctx)
	}
	return changed, err
}

func (s *Syncer) flagsDiffer(ctx context.Context, side config.Side, m Mailbox, c *backend.Client) (differ bool, err error) {
	dict, err := merge.DecodeDict(m.Flags)
	if err != nil {
		return true, nil // a pass says so
	}
	chunks, err := s.o.Store.Chunks(ctx, m.ID)
	if err != nil {
		return false, err
	}
	set, err := loadPairs(chunks)
	if err != nil || set.len() == 0 {
		return err != nil, nil
	}
	pairs := slices.Clone(set.all())
	slices.SortFunc(pairs, func(a, b merge.Pair) int { return int(int64(a.UID[side]) - int64(b.UID[side])) })
	pairs = pairs[max(0, len(pairs)-flagsMost):]
	if _, err := c.Select(m.Name[side], backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
		return refused(err), peekTrouble(err)
	}
	// What is not paired, or is gone, shows in the numbers.
	err = c.Fetch(fmt.Sprintf("%d:*", pairs[0].UID[side]), backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(f *backend.Message) error {
		i, found := slices.BinarySearchFunc(pairs, f.UID, func(q merge.Pair, uid uint32) int { return int(int64(q.UID[side]) - int64(uid)) })
		differ = differ || found && f.HasFlags && dict.ID(f.Flags) != pairs[i].Base[side]
		return nil
	}}).Wait(ctx)
	return differ || refused(err), peekTrouble(err)
}

// peekTrouble is an error but for a refusal: that a pass looks into.
func peekTrouble(err error) error {
	if refused(err) {
		return nil
	}
	return err
}
