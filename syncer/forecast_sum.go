package syncer

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"mailgate/config"
)

// ForecastSum is the forecast of a wave, or of any users that are moved to the same side. It is not safe for concurrent use.
type ForecastSum struct {
	To      config.Side `json:"to"`
	Users   int         `json:"users"`     // that were looked at
	There   int         `json:"there"`     // of those: on that side already
	Failed  []NotTold   `json:"failed"`    // who could not be looked at, and why
	Partly  int         `json:"partly"`    // looked at, and not all is known
	Quick   int         `json:"not_asked"` // of whom the hosts were not asked: what is to be carried is not known
	Never   int         `json:"never"`     // of whom no whole pass was made
	Blocked int         `json:"blocked"`   // with something in the way
	Carry   Amount      `json:"carry"`     // in all
	Prep    float64     `json:"prep_seconds"`
	IMAP    Amount      `json:"imap"` // what clients download again
	Kept    Amount      `json:"kept"`
	POP3    int64       `json:"pop3"`         // messages
	Of      int64       `json:"pop3_of"`      //
	NoPOP3  int         `json:"pop3_unknown"` // users
	Open    int         `json:"sessions"`
	Gap     float64     `json:"gap_seconds"` // the longest
	NoGap   int         `json:"gap_unknown"` // users
	Largest []*Forecast `json:"largest"`     // whose clients download most, the first is the largest
}

// mostLargest is how many users are named for their size.
const mostLargest = 5

// Add takes one user's.
func (s *ForecastSum) Add(f *Forecast) {
	s.Users++
	if f.There {
		s.There++
		return
	}
	if !f.Asked {
		s.Quick++
	}
	s.Carry.add(f.total())
	s.IMAP.add(f.IMAP.Amount)
	s.Kept.add(f.IMAP.Kept)
	if f.Prep != nil {
		s.Prep += *f.Prep
	}
	if f.POP3.Known {
		s.POP3 += f.POP3.Messages
		s.Of += f.POP3.Of
	} else {
		s.NoPOP3++
	}
	if f.Gap.Known {
		s.Gap = max(s.Gap, f.Gap.Seconds)
	} else {
		s.NoGap++
	}
	for _, n := range f.Open {
		s.Open += n
	}
	for cond, n := range map[*int]bool{&s.Never: f.Never, &s.Blocked: len(f.InWay) > 0, &s.Partly: len(f.Unknown) > 0} {
		if n {
			*cond++
		}
	}
	s.Largest = append(s.Largest, f)
	slices.SortStableFunc(s.Largest, largest)
	s.Largest = s.Largest[:min(len(s.Largest), mostLargest)]
}

// Missing notes who could not be looked at.
func (s *ForecastSum) Missing(user string, err error) {
	s.Failed = append(s.Failed, NotTold{user, whyNot(err)})
}

// WriteText writes the sum for people.
func (s *ForecastSum) WriteText(out io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s to %s, all together:\n", count64(int64(s.Users-s.There), "user"), sideName(s.To))
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(t, "  %s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	if s.There > 0 {
		line("there already", "%s", count64(int64(s.There), "user"))
	}
	carry := "nothing"
	if s.Carry.Messages > 0 {
		carry = s.Carry.Text()
	}
	moving := s.Users - s.There
	switch {
	case s.Quick == moving && moving > 0:
		carry = "unknown, as the hosts were not asked"
	case s.Quick > 0:
		carry += fmt.Sprintf("; of %s it is not known, as the hosts were not asked", count64(int64(s.Quick), "user"))
	case s.Never > 0 && s.Carry.Messages > 0:
		carry = "at most " + carry
	}
	if s.Never > 0 {
		carry += fmt.Sprintf("; of %s no whole pass has been made yet", count64(int64(s.Never), "user"))
	}
	if s.Prep > 0 {
		carry += "; that takes about " + secondsOf(s.Prep) + " for one after the other, and they work meanwhile"
	}
	line("to carry", "%s", carry)
	gap := "unknown"
	if s.Gap > 0 {
		gap = "at most about " + secondsOf(s.Gap) + " each"
	}
	if s.NoGap > 0 && s.Gap > 0 {
		gap += fmt.Sprintf("; of %s it is not known", count64(int64(s.NoGap), "user"))
	}
	line("logins wait", "%s", gap)
	imap := "clients keep what they have"
	if s.IMAP.Messages > 0 {
		imap = "clients download again " + s.IMAP.Text()
	}
	if s.Kept.Messages > 0 && s.IMAP.Messages > 0 {
		imap += "; they keep " + s.Kept.Counts()
	}
	line("IMAP", "%s", imap)
	pop := "unknown, what clients that leave mail on the server download again"
	if s.NoPOP3 < moving {
		pop = fmt.Sprintf("clients that leave mail on the server download again %s of %s", Thousands(s.POP3), messagesText64(s.Of))
	}
	if s.NoPOP3 > 0 && s.NoPOP3 < moving {
		pop += fmt.Sprintf("; of %s it is not known", count64(int64(s.NoPOP3), "user"))
	}
	if s.Of > 0 || s.NoPOP3 > 0 {
		line("POP3", "%s", pop)
	}
	if s.Open > 0 {
		line("sessions", "%s now", count64(int64(s.Open), "session"))
	}
	if s.Blocked > 0 {
		line("IN THE WAY", "something stands in the way of %s: ask for each with --dry-run", count64(int64(s.Blocked), "user"))
	}
	if s.Partly > 0 {
		line("unknown", "of %s not all could be told", count64(int64(s.Partly), "user"))
	}
	if n := len(s.Failed); n > 0 {
		line("unknown", "%s could not be looked at", count64(int64(n), "user"))
		for _, x := range s.Failed[:min(n, mostNotes)] {
			line("", "%s: %s", x.What, x.Why)
		}
		if n -= mostNotes; n > 0 {
			line("", "and %s more", Thousands(int64(n)))
		}
	}
	for i, f := range s.Largest {
		what := ""
		if i == 0 {
			what = "the largest"
		}
		line(what, "%s: %s", f.User, f.IMAP.Text())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := out.Write(b.Bytes())
	return err
}
