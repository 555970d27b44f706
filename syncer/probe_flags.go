package syncer

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mailgate/backend"
)

// mostKeywords is how many keywords the probe gives to a mailbox at most.
const mostKeywords = 128

// keywords finds out what a mailbox of its own does with keywords: letter case, a flag that is none, how many.
func (r *prober) keywords(ctx context.Context) error {
	box := r.box + "-flags"
	var uids [2]uint32
	refused, err := r.try(ctx, "CREATE", func(c *backend.Client) error {
		if err := c.Create(box, "").Wait(ctx); err != nil {
			return err
		}
		for i := range uids {
			var err error
			if uids[i], err = append1(ctx, c, box, corpus()[0]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if refused != "" || uids[0] == 0 {
		r.note("keywords were not tried: %s", orElse(refused, "no UID"))
		return nil
	}
	store := func(what string, uid uint32, flags ...string) (kept []string, refused string, err error) {
		refused, err = r.try(ctx, what, func(c *backend.Client) error {
			if _, err := c.Select(box, backend.SelectOptions{}).Result(ctx); err != nil {
				return err
			}
			n := strconv.FormatUint(uint64(uid), 10)
			if err := c.Store(n, backend.StoreOptions{Add: flags}).Wait(ctx); err != nil {
				return err
			}
			s, err := fetch1(ctx, c, uid)
			kept = s.flags
			return err
		})
		return kept, refused, err
	}

	if _, refused, err = store("a keyword", uids[0], "MgProbeCase"); err != nil {
		return err
	}
	if refused != "" {
		r.note("keywords are refused: %s", refused)
		return nil
	}
	kept, refused, err := store("a keyword in another letter case", uids[1], "mgprobecase")
	if err != nil {
		return err
	}
	r.p.KeywordFolds = refused == "" && slices.Contains(kept, "MgProbeCase")

	kept, refused, err = store("a flag that is none", uids[0], `\MgProbe`)
	if err != nil {
		return err
	}
	switch {
	case refused != "":
		r.p.UnknownFlags, _, _ = strings.Cut(refused, " ")
	case slices.Contains(kept, `\MgProbe`):
		r.p.UnknownFlags = "kept"
	default:
		r.p.UnknownFlags = "dropped"
	}
	return r.keywordLimit(ctx, box, uids[1], func(flags ...string) ([]string, string, error) { return store("many keywords", uids[1], flags...) })
}

// keywordLimit doubles the number of keywords until some are refused or dropped. A batch that crosses a limit may fail
// whole and still use up what was left (Cyrus), so the mailbox's own list is asked then.
func (r *prober) keywordLimit(ctx context.Context, box string, uid uint32, store func(flags ...string) (kept []string, refused string, err error)) error {
	have := 1 // MgProbeCase
	for have < mostKeywords {
		var more []string
		for i := range min(have, mostKeywords-have) {
			more = append(more, fmt.Sprintf("MgProbe%d", have+i))
		}
		kept, refused, err := store(more...)
		if err != nil {
			return err
		}
		lost := 0
		for _, f := range more {
			if !slices.ContainsFunc(kept, func(k string) bool { return strings.EqualFold(k, f) }) {
				lost++
			}
		}
		if refused == "" && lost == 0 {
			have += len(more)
			continue
		}
		r.p.MaxKeywords = have + len(more) - lost
		if refused != "" {
			r.p.MaxKeywords = have
		}
		if _, err := r.try(ctx, "SELECT", func(c *backend.Client) error {
			s, err := c.Select(box, backend.SelectOptions{ReadOnly: true}).Result(ctx)
			if err != nil {
				return err
			}
			n := 0
			for _, f := range s.Flags {
				if !strings.HasPrefix(f, `\`) {
					n++
				}
			}
			r.p.MaxKeywords = max(r.p.MaxKeywords, n)
			return nil
		}); err != nil {
			return err
		}
		r.note("a mailbox takes %d keywords: %s", r.p.MaxKeywords, orElse(refused, "more are dropped without a word"))
		return nil
	}
	return nil
}

// rename looks whether UIDVALIDITY and UIDs live through RENAME. The first of three messages is expunged before, so that
// a server that counts anew is found out even where both names have one UIDVALIDITY.
func (r *prober) rename(ctx context.Context) error {
	from, to := r.box+"-before", r.box+"-after"
	look := func(c *backend.Client, name string) (uint32, []uint32, error) {
		var uids []uint32
		s, err := c.Select(name, backend.SelectOptions{ReadOnly: true}).Result(ctx)
		if err != nil {
			return 0, nil, err
		}
		err = c.Fetch("1:*", backend.FetchOptions{Items: []string{"FLAGS"}, Message: func(m *backend.Message) error {
			uids = append(uids, m.UID)
			return nil
		}}).Wait(ctx)
		if err != nil {
			return 0, nil, err
		}
		slices.Sort(uids)
		return s.Validity, slices.Compact(uids), c.Unselect().Wait(ctx)
	}
	same := false
	refused, err := r.try(ctx, "RENAME", func(c *backend.Client) error {
		if err := c.Create(from, "").Wait(ctx); err != nil {
			return err
		}
		for i := range 3 {
			m := corpus()[0]
			if i == 0 {
				m.flags = []string{`\Deleted`}
			}
			if _, err := append1(ctx, c, from, m); err != nil {
				return err
			}
		}
		if _, err := c.Select(from, backend.SelectOptions{}).Result(ctx); err != nil {
			return err
		}
		if err := c.Expunge("").Wait(ctx); err != nil {
			return err
		}
		validity, uids, err := look(c, from)
		if err != nil {
			return err
		}
		if err := c.Rename(from, to).Wait(ctx); err != nil {
			return err
		}
		validity2, uids2, err := look(c, to)
		if err != nil {
			return err
		}
		same = validity == validity2 && slices.Equal(uids, uids2)
		if !same {
			r.note("RENAME changes UIDVALIDITY %d to %d, UIDs %v to %v", validity, validity2, uids, uids2)
		}
		return nil
	})
	if err == nil && refused != "" {
		r.note("RENAME was not proven: %s", refused)
	}
	r.p.RenameKeeps = same
	return err
}
