package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mailgate/config"
	"mailgate/imapwire"
	"mailgate/op"
)

// Selection says which messages in quarantine are meant; what is empty says nothing.
type Selection struct {
	Folder string // as people read it, on either side
	Side   string // "old" or "new"
	UIDs   []uint32
	Reason string
	Waived bool // to be tried again: those that are waived too
}

// Errors of DecideQuarantine.
var (
	// ErrNoneMeant means that nothing in quarantine is what was asked for.
	ErrNoneMeant = errors.New("nothing in quarantine fits")
	// ErrAmbiguous means that a UID alone does not say which message is meant.
	ErrAmbiguous = errors.New("the same UID stands in several folders")
)

// DecideOptions of DecideQuarantine.
type DecideOptions struct {
	Selection
	By     string // for the history
	From   string // the same
	DryRun bool
}

// QuarantineDecided is what DecideQuarantine did.
type QuarantineDecided struct {
	User     string    `json:"user"`
	Decision Decision  `json:"decision"`
	DryRun   bool      `json:"dry_run,omitempty"`
	Messages []Waiting `json:"messages"`
	Already  int       `json:"already"`              // it was decided so before
	Left     []string  `json:"left_alone,omitempty"` // what was not meant, and how it would be named
}

// DecideQuarantine notes what a person says of messages in quarantine: Retry, they are wanted, and the next pass tries them whatever
// their reason; or Waived, they need not be carried. Either takes the other back. Nothing is done to any message here, so a pass may
// be under way; it heeds the decision when it reads the quarantine next. Who decided is kept with the message and in the history.
//
// Retry without UIDs leaves alone what must not be brought back by the way: what is waived (unless o.Waived), and what asks for a
// person (unless o.Reason names it).
func (s *Syncer) DecideQuarantine(ctx context.Context, user string, d Decision, o DecideOptions) (*QuarantineDecided, error) {
	list, boxes, err := s.inQuarantine(ctx, user)
	if err != nil {
		return nil, err
	}
	out := &QuarantineDecided{User: user, Decision: d, DryRun: o.DryRun, Messages: []Waiting{}}
	var meant []Quarantined
	left := leftAlone{}
	for _, q := range list {
		if !o.means(q, boxes[q.Mailbox]) {
			continue
		}
		switch {
		case q.Decision == d:
			out.Already++
			continue
		case d == Retry && len(o.UIDs) == 0 && q.Decision == Waived && !o.Waived:
			left.add("waived", "--waived")
			continue
		case d == Retry && len(o.UIDs) == 0 && asks(q.Reason) && o.Reason != q.Reason:
			left.add(q.Reason, "--reason "+q.Reason)
			continue
		}
		q.Decision, q.By, q.Decided = d, o.By, s.o.Now()
		meant = append(meant, q)
	}
	out.Left = left.text
	if err := o.clear(meant, boxes); err != nil {
		return nil, err
	}
	if len(meant)+out.Already == 0 && (!o.everything() || len(out.Left) > 0) {
		return out, noneMeant(out.Left)
	}
	for _, q := range meant {
		out.Messages = append(out.Messages, waiting(q, boxes[q.Mailbox]))
	}
	if o.DryRun || len(meant) == 0 {
		return out, nil
	}
	_, err = s.o.Store.Decide(ctx, user, meant, s.decidedEvents(user, d, o, meant, boxes)...)
	return out, err
}

func noneMeant(left []string) error {
	if len(left) == 0 {
		return ErrNoneMeant
	}
	return fmt.Errorf("%w: left alone are %s", ErrNoneMeant, strings.Join(left, "; "))
}

// leftAlone counts what was not meant.
type leftAlone struct {
	text []string
	n    map[string]int
	how  map[string]string
}

func (l *leftAlone) add(what, how string) {
	if l.n == nil {
		l.n, l.how = map[string]int{}, map[string]string{}
	}
	l.n[what]++
	l.how[what] = how
	l.text = nil
	for _, w := range []string{"waived", reasonReset, reasonSuspect, reasonVanished} {
		if l.n[w] > 0 {
			l.text = append(l.text, fmt.Sprintf("%d %s (name them by --uid or %s)", l.n[w], w, l.how[w]))
		}
	}
}

// everything tells that nothing was selected.
func (s Selection) everything() bool {
	return s.Folder == "" && s.Side == "" && len(s.UIDs) == 0 && s.Reason == ""
}

// means tells whether a message is selected.
func (s Selection) means(q Quarantined, m Mailbox) bool {
	folder := s.Folder == ""
	for _, name := range m.Name {
		title := folderTitle(name)
		folder = folder || name != "" && (title == s.Folder || name == s.Folder || strings.EqualFold(name, inboxName) && strings.EqualFold(s.Folder, inboxName))
	}
	return folder && (s.Side == "" || s.Side == q.Side.String()) && (s.Reason == "" || s.Reason == q.Reason) &&
		(len(s.UIDs) == 0 || slices.Contains(s.UIDs, q.UID))
}

// clear is ErrAmbiguous when a UID means messages of several folders or sides.
func (s Selection) clear(meant []Quarantined, boxes map[int64]Mailbox) error {
	seen := map[uint32]Quarantined{}
	for _, q := range meant {
		x, twice := seen[q.UID]
		if twice && len(s.UIDs) > 0 {
			return fmt.Errorf("%w: UID %d is in %s and in %s; add --folder or --side", ErrAmbiguous, q.UID, placeOf(x, boxes), placeOf(q, boxes))
		}
		seen[q.UID] = q
	}
	return nil
}

func placeOf(q Quarantined, boxes map[int64]Mailbox) string {
	return folderTitle(boxes[q.Mailbox].Name[q.Side]) + " on " + sideName(q.Side)
}

// decidedEvents are a decision in the history: one event for each folder, side and reason, with all UIDs.
func (s *Syncer) decidedEvents(user string, d Decision, o DecideOptions, meant []Quarantined, boxes map[int64]Mailbox) (events []op.Event) {
	type group struct {
		mailbox  int64
		side     config.Side
		validity uint32
		reason   string
	}
	uids := map[group][]uint32{}
	var order []group
	for _, q := range meant {
		g := group{q.Mailbox, q.Side, q.Validity, q.Reason}
		if uids[g] == nil {
			order = append(order, g)
		}
		uids[g] = append(uids[g], q.UID)
	}
	what := map[Decision]string{Retry: "quarantine retry", Waived: "quarantine waived"}[d]
	for _, g := range order {
		slices.Sort(uids[g])
		events = append(events, op.Event{At: s.o.Now(), User: user, What: what, By: o.By, From: o.From, After: string(d), Detail: fmt.Sprintf("%s: UID %s of %s on %s (UIDVALIDITY %d)",
			g.reason, imapwire.AppendUIDs(nil, uids[g]), folderTitle(boxes[g.mailbox].Name[g.side]), sideName(g.side), g.validity)})
	}
	return events
}
