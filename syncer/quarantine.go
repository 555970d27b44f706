package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"mailgate/backend"
	"mailgate/config"
	"mailgate/imapwire"
)

// Waiting is a message in quarantine as people are shown it. What was read from the message is missing where nobody could look.
type Waiting struct {
	Folder    [2]string   `json:"folder"` // as people read it, by side; "" where it is not
	Side      config.Side `json:"side"`   // where the message is
	Validity  uint32      `json:"uidvalidity"`
	UID       uint32      `json:"uid"`
	Subject   string      `json:"subject,omitempty"`
	From      string      `json:"from,omitempty"`
	MessageID string      `json:"message_id,omitempty"`
	Date      time.Time   `json:"date,omitzero"` // INTERNALDATE
	Size      int64       `json:"size,omitempty"`
	Gone      bool        `json:"gone,omitempty"` // it is not there any more: the next pass lets it go
	Reason    string      `json:"reason"`
	Why       string      `json:"why"` // the reason in plain words
	Said      string      `json:"said,omitempty"`
	WayOut    string      `json:"way_out"`
	Since     time.Time   `json:"since"`
	Last      time.Time   `json:"last"`
	Tries     int         `json:"tries"`
	Next      time.Time   `json:"next,omitzero"` // when it is tried again by itself; zero when a person is waited for
	Decision  Decision    `json:"decision,omitempty"`
	By        string      `json:"by,omitempty"`
	Decided   time.Time   `json:"decided,omitzero"`

	raw string // name of the folder on Side
}

// QuarantineList is what waits of a user.
type QuarantineList struct {
	User     string    `json:"user"`
	Known    bool      `json:"known"`  // a pass has been over his mailboxes
	Open     int       `json:"open"`   // wait, those among them that are tried next
	Waived   int       `json:"waived"` // no obstacle: a person has said so
	Messages []Waiting `json:"messages"`
	Notes    []string  `json:"notes,omitempty"` // why messages could not be looked at
}

// ListQuarantine lists what is in quarantine, by folder, and looks at the messages where they are. A side that does not answer is
// noted, and no error. A pass may be under way.
func (s *Syncer) ListQuarantine(ctx context.Context, user string) (*QuarantineList, error) {
	l := &QuarantineList{User: user, Messages: []Waiting{}}
	list, boxes, err := s.inQuarantine(ctx, user)
	if err != nil {
		return nil, err
	}
	l.Known = len(boxes) > 0
	for _, q := range list {
		w := waiting(q, boxes[q.Mailbox])
		if q.Decision == Waived {
			l.Waived++
		} else {
			l.Open++
		}
		l.Messages = append(l.Messages, w)
	}
	var notes [2][]string
	var wg sync.WaitGroup
	for _, side := range config.Sides {
		wg.Go(func() { notes[side] = s.lookAt(ctx, user, side, l.Messages) })
	}
	wg.Wait()
	l.Notes = append(notes[0], notes[1]...)
	return l, context.Cause(ctx)
}

// inQuarantine reads what is in quarantine, folder by folder, and the folders.
func (s *Syncer) inQuarantine(ctx context.Context, user string) ([]Quarantined, map[int64]Mailbox, error) {
	list, err := s.o.Store.Quarantine(ctx, user)
	if err != nil {
		return nil, nil, err
	}
	known, err := s.o.Store.Mailboxes(ctx, user)
	if err != nil {
		return nil, nil, err
	}
	boxes := map[int64]Mailbox{}
	for _, m := range known {
		boxes[m.ID] = m
	}
	slices.SortStableFunc(list, func(a, b Quarantined) int {
		return cmp.Or(cmp.Compare(boxes[a.Mailbox].Name[0], boxes[b.Mailbox].Name[0]), cmp.Compare(boxes[a.Mailbox].Name[1], boxes[b.Mailbox].Name[1]))
	})
	return list, boxes, nil
}

func waiting(q Quarantined, m Mailbox) Waiting {
	w := Waiting{Side: q.Side, Validity: q.Validity, UID: q.UID, Reason: q.Reason, Said: oneLine(q.Detail, 300), Since: q.First, Last: q.Last, Tries: q.Tries,
		Decision: q.Decision, raw: m.Name[q.Side]}
	for side, name := range m.Name {
		w.Folder[side] = folderTitle(name)
	}
	x := wordsOf(q)
	w.Why, w.WayOut = x.why, x.wayOut
	switch {
	case q.Decision != Undecided:
		w.By, w.Decided = oneLine(q.By, 100), q.Decided
	case !asks(q.Reason):
		w.Next = nextTry(q)
	}
	return w
}

// lookAt reads what the messages of a side are, with one connection and one FETCH for each folder, and says why it could not.
func (s *Syncer) lookAt(ctx context.Context, user string, side config.Side, list []Waiting) (notes []string) {
	folders := map[string][]*Waiting{}
	var names []string
	for i := range list {
		if w := &list[i]; w.Side == side {
			if folders[w.raw] == nil {
				names = append(names, w.raw)
			}
			folders[w.raw] = append(folders[w.raw], w)
		}
	}
	if len(names) == 0 {
		return nil
	}
	c, err := s.openOne(ctx, side, user)
	if err != nil {
		return []string{"the messages on " + sideName(side) + " could not be looked at: " + oneLine(err.Error(), 300)}
	}
	defer s.idle.close(c)
	for _, name := range names {
		if err := lookInto(ctx, c.Client, name, folders[name]); err != nil {
			notes = append(notes, fmt.Sprintf("%s on %s could not be looked at: %s", folderTitle(name), sideName(side), oneLine(err.Error(), 300)))
			if !refused(err) {
				break // the connection is gone
			}
		}
	}
	return notes
}

// lookInto reads the messages of one folder.
func lookInto(ctx context.Context, c *backend.Client, name string, list []*Waiting) error {
	sel, err := c.Select(name, backend.SelectOptions{ReadOnly: true}).Result(ctx)
	if err != nil {
		return err
	}
	at := map[uint32]*Waiting{}
	var uids []uint32
	for _, w := range list {
		if w.Gone = true; w.Validity == sel.Validity {
			at[w.UID] = w
			uids = append(uids, w.UID)
		}
	}
	if len(uids) == 0 || sel.Exists == 0 {
		return nil
	}
	slices.Sort(uids)
	var all []*backend.Command
	for _, set := range imapwire.SplitUIDs(uids, lineLength) {
		all = append(all, c.Fetch(set, backend.FetchOptions{Items: []string{"INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[HEADER.FIELDS (SUBJECT FROM MESSAGE-ID)]"},
			Message: func(m *backend.Message) error {
				if w := at[m.UID]; w != nil {
					w.Gone, w.Date, w.Size = false, m.InternalDate, m.Size
				}
				return nil
			},
			Body: func(m *backend.Message, _ string, _ int64, r io.Reader) error {
				text, err := io.ReadAll(io.LimitReader(r, maxHeader))
				if w := at[m.UID]; w != nil {
					w.Gone = false
					w.Subject, w.MessageID = subjectAndID(text)
					w.From = fromOf(text)
				}
				return err
			}}))
	}
	var errs []error
	for _, x := range all { // a message that the server cannot give does not hide the others
		errs = append(errs, x.Wait(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		for _, w := range at {
			w.Gone = false // what was not told of may be there
		}
		return err
	}
	return nil
}
