package store

import (
	"context"
	"fmt"
	"slices"

	"mailgate/config"
	"mailgate/learned"
	"mailgate/logins"
	"mailgate/syncer"
	"mailgate/syncer/merge"
)

// Findings are the outcome of a check.
type Findings struct {
	Schema   int              `json:"schema"`
	Rows     map[string]int64 `json:"rows"`  // by table
	Pairs    int64            `json:"pairs"` // in all chunks
	Problems []string         `json:"problems"`
	More     int              `json:"more,omitempty"` // problems that are not listed
}

// mostProblems is how many are listed.
const mostProblems = 100

func (f *Findings) add(format string, args ...any) {
	if len(f.Problems) == mostProblems {
		f.More++
		return
	}
	f.Problems = append(f.Problems, fmt.Sprintf(format, args...))
}

// Check reads everything and looks for what cannot be right. An error means that it could not look.
func (s *Snapshot) Check(ctx context.Context) (*Findings, error) {
	f := &Findings{Schema: s.schema, Rows: map[string]int64{}, Problems: []string{}}
	if s.lite {
		err := s.list(ctx, "PRAGMA integrity_check(100)", nil, func(sc scanner) error {
			var verdict string
			err := sc.Scan(&verdict)
			if verdict != "ok" {
				f.add("the file is damaged: %s", verdict)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, t := range tables() {
		err := s.list(ctx, "SELECT COUNT(*) FROM "+t.name, nil, func(sc scanner) error {
			var n int64
			err := sc.Scan(&n)
			f.Rows[t.name] = n
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	for _, r := range [][3]string{{"mailboxes", "account", "accounts"}, {"chunks", "mailbox", "mailboxes"}, {"intents", "mailbox", "mailboxes"},
		{"quarantine", "mailbox", "mailboxes"}, {"scripts", "account", "accounts"}} {
		query := "SELECT x." + r[1] + ", COUNT(*) FROM " + r[0] + " x LEFT JOIN " + r[2] + " y ON y.id = x." + r[1] +
			" WHERE y.id IS NULL GROUP BY x." + r[1] + " ORDER BY 1"
		err := s.list(ctx, query, nil, func(sc scanner) error {
			var id, n int64
			err := sc.Scan(&id, &n)
			f.add("%s: %d rows of %s %d, which is not in %s", r[0], n, r[1], id, r[2])
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r[0], err)
		}
	}
	if err := s.checkLearned(ctx, f); err != nil {
		return nil, err
	}
	return f, s.checkContents(ctx, f)
}

// checkChunks decodes each chunk: UIDs ascend on OLD through all chunks of a mailbox, and none comes twice on NEW.
func (s *Snapshot) checkChunks(ctx context.Context, f *Findings) error {
	var pairs []merge.Pair
	var news []uint32
	var mailbox, last int64 // the mailbox, and the highest UID on OLD seen in it
	ended := func() {
		slices.Sort(news)
		for i := 1; i < len(news); i++ {
			if news[i] == news[i-1] {
				f.add("mailbox %d: UID %d on NEW stands in two pairs", mailbox, news[i])
			}
		}
		news = news[:0]
	}
	err := s.list(ctx, "SELECT mailbox, low, data FROM chunks ORDER BY mailbox, low", nil, func(sc scanner) error {
		var id, low int64
		var data []byte
		err := sc.Scan(&id, &low, &data)
		if err != nil {
			return err
		}
		if id != mailbox {
			ended()
			mailbox, last = id, 0
		}
		if pairs, err = syncer.DecodePairs(pairs[:0], data); err != nil {
			f.add("mailbox %d, chunk %d: %v", id, low, err)
			return nil
		}
		if last > 0 && low <= last {
			f.add("mailbox %d, chunk %d: the chunk before it goes up to UID %d", id, low, last)
		}
		for i, p := range pairs {
			uid := int64(p.UID[merge.Old])
			if uid < low || i > 0 && uid <= last || p.UID[merge.New] == 0 {
				f.add("mailbox %d, chunk %d: pair %d is out of order", id, low, i)
				break
			}
			last = uid
			news = append(news, p.UID[merge.New])
		}
		f.Pairs += int64(len(pairs))
		return nil
	})
	ended()
	return err
}

// checkLearned looks at what was learned without the key: whether it is what age writes, and of a side that there is.
func (s *Snapshot) checkLearned(ctx context.Context, f *Findings) error {
	err := s.list(ctx, "SELECT user, side, sealed FROM learned ORDER BY user, side", nil, func(sc scanner) error {
		var user string
		var side int64
		var sealed []byte
		if err := sc.Scan(&user, &side, &sealed); err != nil {
			return err
		}
		switch {
		case side != int64(config.Old) && side != int64(config.New):
			f.add("learned: %s has a password of side %d, which there is not", user, side)
		case !learned.Sealed(sealed):
			f.add("learned: what is kept of %s on %s is nothing that was encrypted here; mailgate secrets forget %s erases it", user, config.Side(side), user)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("learned: %w", err)
	}
	err = s.list(ctx, "SELECT user, hash FROM kept ORDER BY user", nil, func(sc scanner) error {
		var user, hash string
		err := sc.Scan(&user, &hash)
		if err == nil && !logins.IsHash(hash) {
			f.add("kept: what is kept of %s is no hash that was made here; mailgate secrets forget %s erases it", user, user)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("kept: %w", err)
	}
	return nil
}
