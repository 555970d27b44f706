package syncer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"mailgate/config"
)

// LeftBehind is what a user who leaves a side that nobody can read leaves there, as far as it is known. It is no loss: it comes over when
// that side returns, unless the side itself has lost it.
type LeftBehind struct {
	User string      `json:"user"`
	Side config.Side `json:"side"` // that he leaves
	At   time.Time   `json:"at"`

	Read     time.Time `json:"read,omitzero"`   // when that side was last read whole: what came there since may be left
	Known    int64     `json:"known"`           // messages that are on both sides: nothing of them is left
	Looked   time.Time `json:"looked,omitzero"` // when its numbers were last asked for, and showed no change
	Hinted   time.Time `json:"hinted,omitzero"` // since when a change is known of that no pass has carried; zero when none is
	Scripts  bool      `json:"scripts"`         // Sieve scripts were changed through the gateway, and not carried
	Waiting  int       `json:"waiting"`         // messages on that side that wait in quarantine
	Held     int       `json:"held"`            // folders with deletes that are not carried
	Broken   []string  `json:"broken,omitempty"`
	Never    bool      `json:"never"` // no whole pass was made: all that came there is left
	Sessions int       `json:"sessions"`
}

// Behind tells what a user would leave on a side now, from the store alone: the side need not answer. What is known of changes that no
// pass has seen (Looked, Hinted, Scripts, Sessions), and so is a
// later Read is for whoever keeps that.
func (s *Syncer) Behind(ctx context.Context, user string, side config.Side) (*LeftBehind, error) {
	b := &LeftBehind{User: user, Side: side, At: s.o.Now()}
	w := &outlook{s: s, f: &Forecast{User: user, From: side, To: side.Other()}}
	boxes, err := s.o.Store.Mailboxes(ctx, user)
	if err != nil {
		return nil, err
	}
	for _, m := range boxes {
		b.Known += m.Pairs
	}
	b.Never = !(&gapKnown{boxes: boxes}).passed()
	list, err := s.o.Store.Quarantine(ctx, user)
	if err != nil {
		return nil, err
	}
	for _, q := range list {
		if q.Side == side && q.Decision != Waived {
			b.Waiting++
		}
	}
	last, err := w.lastPass(ctx)
	if err != nil || last == nil {
		return b, err
	}
	b.Read, b.Held = last.Began, len(last.Held)
	for _, e := range last.Errors {
		b.Broken = append(b.Broken, e.Folder)
	}
	return b, nil
}

// WriteText writes it for people.
func (b *LeftBehind) WriteText(out io.Writer, now time.Time) error {
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "%s leaves %s without another look at it. What may stay there, until it returns and passes bring it over:\n", b.User, sideName(b.Side))
	t := tabwriter.NewWriter(&buf, 0, 4, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(t, "  %s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	switch {
	case b.Never:
		line("mail", "all that came to %s: no whole pass has read it yet", sideName(b.Side))
	case b.Read.IsZero():
		line("mail", "what came to %s since a time that is not known", sideName(b.Side))
	default:
		line("mail", "what came or changed on %s since %s, %s ago, when it was last read whole", sideName(b.Side), b.Read.Local().Format(time.DateTime), Seconds(now.Sub(b.Read)))
	}
	if b.Looked.After(b.Read) {
		line("", "by its numbers, nothing had come or changed %s ago", Seconds(now.Sub(b.Looked)))
	}
	if b.Sessions > 0 {
		line("", "what %s does there now", count64(int64(b.Sessions), "open session"))
	}
	if !b.Hinted.IsZero() {
		line("", "there is some: a change of %s ago is not carried yet", Seconds(now.Sub(b.Hinted)))
	}
	if b.Waiting > 0 {
		line("", "%s there in quarantine", messagesText64(int64(b.Waiting)))
	}
	for i, f := range b.Broken {
		if i == mostNotes {
			line("", "and of %d folders more", len(b.Broken)-i)
			break
		}
		line("", "of %s, which the last pass could not do", f)
	}
	if b.Scripts {
		line("scripts", "a change of his Sieve scripts")
	}
	if b.Held > 0 {
		line("deletes", "of %s, which are held back", count64(int64(b.Held), "folder"))
	}
	if b.Known > 0 {
		line("not left", "%s, which are on both sides", messagesText64(b.Known))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := out.Write(buf.Bytes())
	return err
}

// LeftBehindSum is what several users leave.
type LeftBehindSum struct {
	Side    config.Side   `json:"side"`
	Users   int           `json:"users"`
	Never   int           `json:"never"`   // of whom no whole pass was made
	Hinted  int           `json:"hinted"`  // of whom a change is known that no pass has carried
	Waiting int           `json:"waiting"` // messages there that wait in quarantine
	Known   int64         `json:"known"`   // messages that are on both sides
	Failed  []NotTold     `json:"failed,omitempty"`
	Longest []*LeftBehind `json:"longest"` // whose side was not read for the longest time, the first the longest
}

// Add takes one user's.
func (s *LeftBehindSum) Add(b *LeftBehind) {
	s.Users++
	s.Side = b.Side
	s.Waiting += b.Waiting
	s.Known += b.Known
	if b.Never {
		s.Never++
	}
	if !b.Hinted.IsZero() {
		s.Hinted++
	}
	s.Longest = append(s.Longest, b)
	slices.SortStableFunc(s.Longest, func(a, b *LeftBehind) int { return a.Read.Compare(b.Read) })
	s.Longest = s.Longest[:min(len(s.Longest), mostLargest)]
}

// Missing notes of whom nothing could be told.
func (s *LeftBehindSum) Missing(user string, err error) {
	s.Failed = append(s.Failed, NotTold{user, whyNot(err)})
}

// WriteText writes it for people.
func (s *LeftBehindSum) WriteText(out io.Writer, now time.Time) error {
	var buf bytes.Buffer
	fmt.Fprintf(&buf, "%s to go from %s without another look at it. What may stay there, until it returns and passes bring it over:\n", count64(int64(s.Users), "user"), sideName(s.Side))
	t := tabwriter.NewWriter(&buf, 0, 4, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(t, "  %s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	if s.Never > 0 {
		line("mail", "all that came for %s: no whole pass has read it yet", count64(int64(s.Never), "user"))
	}
	if s.Hinted > 0 {
		line("mail", "changes of %s that are known of and not carried yet", count64(int64(s.Hinted), "user"))
	}
	if s.Waiting > 0 {
		line("mail", "%s there in quarantine", messagesText64(int64(s.Waiting)))
	}
	for i, b := range s.Longest {
		what := "read last"
		if i > 0 {
			what = ""
		}
		if b.Read.IsZero() {
			line(what, "%s: never, as far as is known", b.User)
		} else {
			line(what, "%s: %s ago", b.User, Seconds(now.Sub(b.Read)))
		}
	}
	if s.Known > 0 {
		line("not left", "%s, which are on both sides", messagesText64(s.Known))
	}
	for _, x := range s.Failed[:min(len(s.Failed), mostNotes)] {
		line("unknown", "%s: %s", x.What, x.Why)
	}
	if n := len(s.Failed) - mostNotes; n > 0 {
		line("unknown", "and of %s more", Thousands(int64(n)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := out.Write(buf.Bytes())
	return err
}
