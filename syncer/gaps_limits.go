package syncer

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"mailgate/config"
	"mailgate/syncer/merge"
)

// lostFlags counts the messages that have a flag on OLD and were given it on NEW in vain, by folder and flag.
func (s *Syncer) lostFlags(ctx context.Context, boxes []Mailbox) (things []GapThing, err error) {
	var pairs []merge.Pair
	for _, m := range boxes {
		dict, err := merge.DecodeDict(m.Flags)
		if err != nil {
			return nil, fmt.Errorf("mailbox %d: %w", m.ID, err)
		}
		chunks, err := s.o.Store.Chunks(ctx, m.ID)
		if err != nil {
			return nil, err
		}
		lost := map[string]int{}
		for _, c := range chunks {
			if pairs, err = DecodePairs(pairs[:0], c.Data); err != nil {
				return nil, fmt.Errorf("mailbox %d: %w", m.ID, err)
			}
			for _, p := range pairs {
				if p.Base[config.Old] == p.Base[config.New] {
					continue
				}
				for _, flag := range dict.Without(dict.Sent(p.Base[config.Old]), p.Base[config.New]) {
					lost[flag]++
				}
			}
		}
		for _, flag := range slices.Sorted(maps.Keys(lost)) {
			things = append(things, GapThing{Folder: folderTitle(m.Name[config.Old]), What: fmt.Sprintf("%s, on %s", oneLine(flag, 100), messageCount(lost[flag]))})
		}
	}
	return things, nil
}

// keywordsGap counts flags that NEW did not keep. What NEW says beforehand (PERMANENTFLAGS) is heeded by passes, and what it does is what counts.
func keywordsGap(k *gapKnown) Gap {
	const do = "nothing: the mail is there, and OLD keeps the flags; where NEW has room for few keywords in a folder, divide the folder"
	return counted(GapKeywords, k.lost, fmt.Sprintf("%d times a flag of a folder's messages that NEW did not keep", len(k.lost)),
		"NEW has kept all flags of the messages that were carried", k.unfinished(), do)
}

// quotaGap compares what OLD allows and holds with what NEW allows.
func quotaGap(old, newer *gapSide) Gap {
	const do = "have the administrator of NEW set the limit that the user is to have; it must hold what is on OLD"
	switch {
	case newer.err != nil:
		return unknown(GapQuota, do, "NEW could not be asked: %s", whyNot(newer.err))
	case old.err != nil:
		return unknown(GapQuota, do, "OLD could not be asked: %s", whyNot(old.err))
	}
	for _, g := range []*gapSide{old, newer} {
		if !g.has("QUOTA") {
			return unknown(GapQuota, "ask the administrators whether both hosts have limits, and compare them", "%s does not tell (no QUOTA)", g.title)
		}
		if err := g.errs[askQuota]; err != nil {
			return unknown(GapQuota, do, "%s: %s", g.title, whyNot(err))
		}
	}
	var things []GapThing
	o, n := old.quota, newer.quota
	if n.StorageLimit > 0 && o.Storage > n.StorageLimit {
		things = append(things, GapThing{What: fmt.Sprintf("OLD holds %s, and NEW allows %s: the mail does not fit", size(o.Storage), size(n.StorageLimit))})
	} else if o.StorageLimit != n.StorageLimit {
		things = append(things, GapThing{What: fmt.Sprintf("OLD allows %s, and NEW %s", orElse(size(o.StorageLimit), "any amount"), orElse(size(n.StorageLimit), "any amount"))})
	}
	if n.MessageLimit > 0 && o.Messages > n.MessageLimit {
		things = append(things, GapThing{What: fmt.Sprintf("OLD holds %d messages, and NEW allows %d: the mail does not fit", o.Messages, n.MessageLimit)})
	} else if o.MessageLimit != n.MessageLimit {
		things = append(things, GapThing{What: fmt.Sprintf("OLD allows %s, and NEW %s", messagesLimit(o.MessageLimit), messagesLimit(n.MessageLimit))})
	}
	return counted(GapQuota, things, "the limits of the account differ", "both sides have the same limits, or none", "", do)
}

func messagesLimit(n int64) string {
	if n == 0 {
		return "any number of messages"
	}
	return fmt.Sprintf("%d messages", n)
}

// sizesGap counts mail that is larger than NEW takes.
func sizesGap(old, newer *gapSide, k *gapKnown) Gap {
	const do = "raise the limit of NEW and mailgate quarantine retry, or waive them"
	var things []GapThing
	n := map[int64]int{}
	for _, q := range k.waiting {
		if q.Reason == "too-big" {
			n[q.Mailbox]++
		}
	}
	for _, m := range k.boxes {
		if n[m.ID] > 0 {
			things = append(things, GapThing{Folder: folderTitle(m.Name[config.Old]), What: "larger than NEW takes: " + messageCount(n[m.ID])})
		}
	}
	if old.limit > 0 && newer.limit > 0 && newer.limit < old.limit {
		things = append(things, GapThing{What: fmt.Sprintf("OLD takes messages of %s, NEW of %s", size(old.limit), size(newer.limit))})
	}
	none, why := "each message was taken by NEW", k.unfinished()
	if k.waived > 0 {
		none = fmt.Sprintf("each message was taken by NEW, but for %d that somebody has waived", k.waived)
	}
	switch {
	case why != "":
	case old.err != nil:
		why = "the limit of OLD could not be asked: " + whyNot(old.err)
	case newer.err != nil:
		why = "the limit of NEW could not be asked: " + whyNot(newer.err)
	}
	return counted(GapSizes, things, "NEW takes no messages of the size that OLD does", none, why, do)
}
