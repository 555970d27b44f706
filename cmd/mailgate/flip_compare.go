package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"mailgate/cutover"
	"mailgate/syncer"
)

// verifiedFor is how long a whole comparison of both sides is good for flips.
const verifiedFor = 24 * time.Hour

// verifiedSummary is what is kept of a comparison.
type verifiedSummary struct {
	By          string         `json:"by"`
	Folders     int            `json:"folders"`
	Messages    [2]int64       `json:"messages"`
	Compared    int64          `json:"compared"`
	Open        int64          `json:"open,omitempty"`
	Waived      int64          `json:"waived,omitempty"`
	Differences map[string]int `json:"differences,omitempty"` // by kind
	Amid        int            `json:"amid,omitempty"`        // of Differences: what was seen once, while he worked
}

// verified tells when both sides of a user were last compared as a whole, and whether they were equal; ok is false when they never were.
func (s *syncing) verified(ctx context.Context, user string) (at time.Time, equal, ok bool, err error) {
	v, ok, err := s.g.store.Verified(ctx, user)
	return v.At, v.Equal, ok, err
}

// compare compares both sides of a user, and keeps how that ended.
func (s *syncing) compare(ctx context.Context, y *syncer.Syncer, user string, o syncer.VerifyOptions, by string) (*syncer.Verification, error) {
	v, err := y.Verify(ctx, user, o)
	if err != nil {
		return nil, err
	}
	s.saveVerified(ctx, user, v, v.Equal, 0, by)
	return v, nil
}

// saveVerified keeps how a comparison ended.
func (s *syncing) saveVerified(ctx context.Context, user string, v *syncer.Verification, equal bool, amid int, by string) {
	sum := verifiedSummary{By: by, Folders: len(v.Folders), Messages: v.Messages, Compared: v.Compared, Open: v.Open, Waived: v.Waived, Amid: amid}
	for _, f := range v.Folders {
		for _, d := range f.Differences {
			if sum.Differences == nil {
				sum.Differences = map[string]int{}
			}
			sum.Differences[d.Kind]++
		}
	}
	text, err := json.Marshal(sum)
	if err == nil {
		err = s.g.store.SaveVerified(ctx, syncer.Verified{User: user, At: v.At, Equal: equal, Text: text})
	}
	if err != nil {
		s.g.log.Warn("how a comparison ended is not recorded", "user", user, "err", err)
	}
}

// compareTries is how often both sides are compared before a flip while what differs is not the same.
const compareTries = 3

// losses are what a comparison names that a flip would lose, or that would come back: messages, folders and flags. Sizes, dates and
// contents that a host changes are in the report of the comparison, and carrying them again would not mend them.
func losses(v *syncer.Verification) map[string]string {
	out := map[string]string{}
	for _, f := range v.Folders {
		name := f.Name[0]
		if name == "" {
			name = f.Name[1]
		}
		for _, d := range f.Differences {
			switch d.Kind {
			case "missing-old", "missing-new", "folder", "flags":
				what := d.Kind
				for side, uid := range d.UID {
					if uid != 0 {
						what += fmt.Sprintf(", UID %d on %s", uid, []string{"old", "new"}[side])
					}
				}
				if d.Why != "" {
					what += ": " + d.Why
				}
				out[fmt.Sprint(name, d.Kind, d.UID)] = name + " (" + what + ")"
			}
		}
	}
	return out
}

// passedBy tells that all that two comparisons in a row have found, with a pass in between, was there once: nothing that differed the first
// time differed again, so each message that both have seen was equal at one of them. What the second found is what the user did meanwhile.
func passedBy(before, after *syncer.Verification) bool {
	for _, v := range []*syncer.Verification{before, after} {
		n, found := int64(len(losses(v))), v.Open
		for _, f := range v.Folders {
			found += f.Found
			if slices.ContainsFunc(f.Differences, func(d syncer.Difference) bool { return d.Kind == "folder" }) { // nobody has looked into it
				return false
			}
		}
		if s := v.Sieve; n != found || s != nil && (s.Different > 0 || s.Trouble != "") { // not all are listed, or some are of another kind
			return false
		}
	}
	type message struct {
		folder [2]string
		side   int
		uid    uint32
	}
	was := map[message]bool{}
	for i, v := range []*syncer.Verification{before, after} {
		for _, f := range v.Folders {
			for _, d := range f.Differences {
				for side, uid := range d.UID {
					if m := (message{f.Name, side, uid}); uid != 0 && i == 0 {
						was[m] = true
					} else if was[m] {
						return false
					}
				}
			}
		}
	}
	return true
}

// compared sees to it that both sides were compared as a whole not long ago, and were equal. The user works meanwhile: what differs each
// time, though it was carried in between, differs.
func (w *flipWork) compared() error {
	at, equal, ok, err := w.s.verified(w.u.ctx, w.m.User)
	if err != nil || ok && equal && time.Since(at) < verifiedFor {
		return w.refusal(err)
	}
	by := "flip " + w.m.Op
	times := map[string]int{}
	var before *syncer.Verification
	for try := range compareTries {
		v, err := w.s.compare(w.u.ctx, w.y, w.m.User, syncer.VerifyOptions{Sample: 1, Progress: func(p syncer.Progress) {
			w.tell(cutover.Progress{Why: "compares both sides" + far(p, time.Now()), Done: int64(p.Folders[0]), Total: int64(p.Folders[1]), Unit: "folders"})
		}}, by)
		if err != nil {
			return w.refusal(err)
		}
		now := losses(v)
		var same []string
		for key, what := range now {
			if times[key]++; times[key] == compareTries {
				same = append(same, what)
			}
		}
		if len(same) > 0 {
			return &cutover.Refusal{Why: fmt.Sprintf("both sides differ, though all was carried: %s", someOf(same, func(s string) string { return s })),
				Do: "see mailgate verify " + w.m.User + " and mailgate sync run " + w.m.User + ", then ask again"}
		}
		equal := len(now) == 0
		if !equal && before != nil && passedBy(before, v) {
			equal = true
			w.s.saveVerified(w.u.ctx, w.m.User, v, true, len(now), by)
		}
		before = v
		if equal && v.Took < prepShort || try == compareTries-1 {
			return nil
		}
		r, err := w.together()
		if err == nil {
			err = obstacles(w.m, r)
		}
		if err != nil || equal {
			return err
		}
	}
	return nil
}
