package syncer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/backend"
)

// sighting is a message as it came back.
type sighting struct {
	found bool
	body  []byte
	size  int64
	date  time.Time
	text  string // the date as it was written
	flags []string
}

func (s *sighting) has(flag string) bool {
	return slices.ContainsFunc(s.flags, func(f string) bool { return strings.EqualFold(f, flag) })
}

// append1 appends one message and gives its UID; 0 when the server does not tell and UIDNEXT is of no help.
func append1(ctx context.Context, c *backend.Client, box string, m specimen) (uid uint32, err error) {
	guess := uint32(0)
	if !c.Has("UIDPLUS") {
		st, err := c.Status(box, "UIDNEXT").Result(ctx)
		if err != nil {
			return 0, err
		}
		guess = st.UIDNext
	}
	a := c.Append(ctx, box)
	w, err := a.Next(ctx, backend.AppendMessage{Flags: m.flags, Date: m.date, Size: int64(len(m.body)), Binary: m.binary})
	if err == nil {
		_, _ = io.WriteString(w, m.body) // Finish tells of its error
	}
	done, ended := a.Finish().Result(ctx)
	switch {
	case err != nil:
		return 0, err
	case ended != nil:
		return 0, ended
	case len(done.UIDs) == 1:
		return done.UIDs[0], nil
	}
	return guess, nil
}

// fetch1 reads a message of the mailbox that is selected.
func fetch1(ctx context.Context, c *backend.Client, uid uint32) (sighting, error) {
	var s sighting
	err := c.Fetch(strconv.FormatUint(uint64(uid), 10), backend.FetchOptions{
		Items: []string{"FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[]"},
		Message: func(m *backend.Message) error {
			if m.UID != uid {
				return nil
			}
			s.found = true
			if m.HasFlags {
				s.flags = strings.Fields(string(m.Flags))
			}
			if m.DateText != "" {
				s.size, s.date, s.text = m.Size, m.InternalDate, m.DateText
			}
			return nil
		},
		Body: func(m *backend.Message, _ string, _ int64, r io.Reader) error {
			b, err := io.ReadAll(io.LimitReader(r, 1<<20))
			if m.UID == uid {
				s.body = b
			}
			return err
		},
	}).Wait(ctx)
	if err != nil {
		return sighting{}, err
	}
	return s, nil
}

// messages appends the corpus one by one and reads it back.
func (r *prober) messages(ctx context.Context) error {
	list := corpus()
	uids := make([]uint32, len(list))
	for i, m := range list {
		refused, err := r.try(ctx, "APPEND, "+m.name, func(c *backend.Client) (err error) {
			if m.binary && !c.Has("BINARY") {
				r.p.Refuses[m.name] = "BINARY is not offered"
				return nil
			}
			uids[i], err = append1(ctx, c, r.box, m)
			return err
		})
		if err != nil {
			return err
		}
		if refused != "" {
			r.p.Refuses[m.name] = refused
		}
	}
	r.p.ExactSizes, r.p.KeepsDates, r.p.KeepsZones = true, true, true
	seen, last := 0, uint32(0)
	r.p.Ascending = true
	for i, m := range list {
		if uids[i] == 0 {
			if r.p.Refuses[m.name] != "" && !m.odd && !m.date.Equal(ordinaryDate) {
				r.p.KeepsDates, r.p.KeepsZones = false, false
			}
			continue
		}
		var s sighting
		refused, err := r.try(ctx, "FETCH, "+m.name, func(c *backend.Client) error {
			if _, err := c.Select(r.box, backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
				return err
			}
			var err error
			s, err = fetch1(ctx, c, uids[i])
			return err
		})
		switch {
		case err != nil:
			return err
		case refused != "":
			r.p.Alters[m.name] = "it was taken, but cannot be read: " + refused
			continue
		case !s.found:
			r.p.Alters[m.name] = "it was taken, but is not there under its UID"
			r.p.Ascending = false
			continue
		}
		if seen++; uids[i] <= last {
			r.p.Ascending = false
		}
		last = uids[i]
		r.compare(m, &s)
		switch m.name {
		case plainMail:
			r.plain = uids[i]
		case flaggedMail:
			r.flagged = uids[i]
		}
	}
	if seen < 2 {
		r.p.Ascending, r.p.ExactSizes, r.p.KeepsDates, r.p.KeepsZones = false, false, false, false
		r.note("hardly any message could be appended: nothing is known of UIDs, sizes and dates")
	}
	if !r.p.Ascending {
		r.note("UIDs do not rise in the order of APPEND")
	}
	return nil
}

// compare keeps what is different in a message that came back.
func (r *prober) compare(m specimen, s *sighting) {
	var how []string
	if a := alteration([]byte(m.body), s.body); a != "" {
		how = append(how, a)
	}
	if s.size != int64(len(s.body)) {
		r.p.ExactSizes = false
		how = append(how, fmt.Sprintf("RFC822.SIZE says %d, the body has %d", s.size, len(s.body)))
	}
	if !s.date.Equal(m.date) {
		how = append(how, "its date comes back as "+s.text)
	}
	if !m.odd {
		_, want := m.date.Zone()
		_, got := s.date.Zone()
		r.p.KeepsDates = r.p.KeepsDates && s.date.Equal(m.date)
		r.p.KeepsZones = r.p.KeepsZones && s.date.Equal(m.date) && want == got
	}
	var lost []string
	for _, f := range m.flags {
		if !s.has(f) {
			lost = append(lost, f)
		}
	}
	if len(lost) > 0 {
		how = append(how, "it loses "+strings.Join(lost, " "))
	}
	for _, f := range s.flags {
		if !slices.Contains(m.flags, f) && !strings.EqualFold(f, `\Recent`) && !slices.ContainsFunc(m.flags, func(x string) bool { return strings.EqualFold(x, f) }) {
			how = append(how, "it gains "+f)
		}
	}
	if len(how) > 0 {
		r.p.Alters[m.name] = strings.Join(how, "; ")
	}
}

// copies copies messages into their own mailbox.
func (r *prober) copies(ctx context.Context) error {
	for _, uid := range []uint32{r.plain, r.flagged} {
		if uid == 0 {
			r.note("COPY was not tried: there is no message to copy")
			return nil
		}
		kept := false
		refused, err := r.try(ctx, "COPY", func(c *backend.Client) error {
			if _, err := c.Select(r.box, backend.SelectOptions{}).Result(ctx); err != nil {
				return err
			}
			before, err := c.Status(r.box, "UIDNEXT").Result(ctx)
			if err != nil {
				return err
			}
			done, err := c.Copy(strconv.FormatUint(uint64(uid), 10), r.box).Result(ctx)
			if err != nil {
				return err
			}
			to := before.UIDNext
			if len(done.To) == 1 {
				to = done.To[0]
			}
			if _, err := c.Select(r.box, backend.SelectOptions{ReadOnly: true}).Result(ctx); err != nil {
				return err
			}
			a, err := fetch1(ctx, c, uid)
			if err != nil {
				return err
			}
			b, err := fetch1(ctx, c, to)
			if err != nil {
				return err
			}
			kept = b.found && bytes.Equal(a.body, b.body) && a.date.Equal(b.date)
			for _, f := range a.flags {
				kept = kept && (strings.EqualFold(f, `\Recent`) || b.has(f))
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.p.CopyKeeps = kept
		if !kept {
			r.note("COPY of a message into its own mailbox: %s", orElse(refused, "the copy is not equal"))
			return nil
		}
	}
	return nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// condstore looks whether HIGHESTMODSEQ rises by STORE.
func (r *prober) condstore(ctx context.Context) error {
	claimed := false
	refused, err := r.try(ctx, "CONDSTORE", func(c *backend.Client) error {
		claimed = c.Has("CONDSTORE") || c.Has("QRESYNC")
		if !claimed || r.plain == 0 {
			return nil
		}
		before, err := c.Select(r.box, backend.SelectOptions{CondStore: true}).Result(ctx)
		if err != nil {
			return err
		}
		if err := c.Store(strconv.FormatUint(uint64(r.plain), 10), backend.StoreOptions{Add: []string{`\Flagged`}}).Wait(ctx); err != nil {
			return err
		}
		after, err := c.Select(r.box, backend.SelectOptions{CondStore: true}).Result(ctx)
		if err != nil {
			return err
		}
		r.p.CondStore = before.HighestModSeq > 0 && after.HighestModSeq > before.HighestModSeq
		return nil
	})
	if err == nil && claimed && !r.p.CondStore {
		r.note("CONDSTORE is offered but does not work: %s", orElse(refused, "HIGHESTMODSEQ did not rise by STORE"))
	}
	return err
}

// several appends three messages in one command, where that is offered.
func (r *prober) several(ctx context.Context) error {
	var before, after backend.Status
	offered := false
	refused, err := r.try(ctx, "MULTIAPPEND", func(c *backend.Client) (err error) {
		if offered = c.MultiAppend(); !offered {
			return nil
		}
		if before, err = c.Status(r.box, "MESSAGES").Result(ctx); err != nil {
			return err
		}
		a := c.Append(ctx, r.box)
		for range 3 {
			m := corpus()[0]
			w, err := a.Next(ctx, backend.AppendMessage{Date: m.date, Size: int64(len(m.body))})
			if err != nil {
				_, _ = a.Finish().Result(ctx)
				return err
			}
			_, _ = io.WriteString(w, m.body) // Finish tells of its error
		}
		_, err = a.Finish().Result(ctx)
		return err
	})
	if err != nil || !offered {
		return err
	}
	if _, err := r.try(ctx, "STATUS", func(c *backend.Client) (err error) {
		after, err = c.Status(r.box, "MESSAGES").Result(ctx)
		return err
	}); err != nil {
		return err
	}
	n := int(after.Messages) - int(before.Messages)
	r.p.MultiAppend = refused == "" && n == 3
	if !r.p.MultiAppend {
		r.note("MULTIAPPEND is offered, but of three messages in one command %d were stored, and it said %s", n, orElse(refused, "OK"))
	}
	return nil
}

// early appends to a mailbox that does not exist: a server that says NO at once saves the message's bytes.
func (r *prober) early(ctx context.Context) error {
	body := strings.Repeat("x", 70)
	size := int64(100 * (len(body) + 2)) // more than LITERAL- allows without waiting
	asks := false
	refused, err := r.try(ctx, "APPEND to no mailbox", func(c *backend.Client) error {
		asks = !c.Has("LITERAL+")
		a := c.Append(ctx, r.box+"-none")
		w, err := a.Next(ctx, backend.AppendMessage{Date: ordinaryDate, Size: size})
		r.p.EarlyNo = err != nil && asks
		if err == nil {
			for range size / int64(len(body)+2) {
				if _, err := io.WriteString(w, body+"\r\n"); err != nil {
					break // Finish tells
				}
			}
		}
		_, ended := a.Finish().Result(ctx)
		if err != nil {
			return err
		}
		return ended
	})
	switch {
	case err != nil:
		return err
	case refused == "":
		r.note("APPEND makes a mailbox that does not exist")
	case !strings.Contains(refused, "[TRYCREATE]"):
		r.note("APPEND to a mailbox that does not exist is refused without TRYCREATE: %s", refused)
	}
	return nil
}
