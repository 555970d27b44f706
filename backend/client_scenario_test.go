package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"mailgate/imapwire"
)

// scenario does something of everything to an account that is empty, and tells what the engine says of it, line by line.
type scenario struct {
	t   testing.TB
	ctx context.Context
	c   *Client
	out []string
}

func (s *scenario) say(format string, args ...any) {
	s.out = append(s.out, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// did tells how a command has ended.
func (s *scenario) did(what string, err error) {
	var no *StatusError
	switch {
	case err == nil:
		s.say("%s: OK", what)
	case errors.As(err, &no):
		s.say("%s: %s [%s]", what, no.Status, strings.TrimSpace(no.Code.Name+" "+no.Code.Args))
	default:
		s.t.Errorf("%s: %v", what, err)
		s.say("%s: failed", what)
	}
}

// told tells what FETCH says of a message.
func (s *scenario) told(m *Message) {
	flags := strings.Fields(string(m.Flags))
	slices.SortFunc(flags, strings.Compare)
	other := make([]string, 0, len(m.Other))
	for k, v := range m.Other {
		other = append(other, k+"="+v)
	}
	slices.Sort(other)
	s.say("message %d UID %d flags %v %q date %q size %d modseq %d email %q %q", m.Seq, m.UID, m.HasFlags, flags, m.InternalDate.Format(time.RFC3339), m.Size, m.ModSeq, m.EmailID, other)
}

// messages are what is appended: keywords, \Deleted, bytes beyond ASCII, a lone one of some length.
var messages = []struct {
	AppendMessage
	body string
}{
	{AppendMessage{Flags: []string{`\Seen`, "$Label1"}, Date: time.Date(2001, 2, 3, 4, 5, 6, 0, time.FixedZone("", -5*3600))},
		"From: a@example.com\r\nTo: b@example.com\r\nSubject: one\r\nDate: Sat, 3 Feb 2001 04:05:06 -0500\r\nMessage-ID: <one@example.com>\r\n\r\nhello\r\n"},
	{AppendMessage{Flags: []string{`\Deleted`, `\Flagged`}, Date: time.Date(2011, 12, 13, 14, 15, 16, 0, time.UTC)},
		"From: a@example.com\r\nSubject: caf\xc3\xa9 \"two\" (x) {3}\r\nMessage-ID: <two@example.com>\r\n\r\n)\r\ns1 OK\r\n* BYE\r\n\xff\xfe bytes\r\n"},
	{AppendMessage{Date: time.Date(1999, 12, 31, 23, 59, 59, 0, time.FixedZone("", 3600))}, "Subject: three\r\n\r\n" + strings.Repeat("a line of text\r\n", 300)},
	{AppendMessage{Flags: []string{`\Answered`, `\Draft`, "Junk", "work-2"}}, "Subject: four\r\n\r\nno date of its own\r\n"},
}

// run plays it.
func (s *scenario) run() {
	c, ctx := s.c, s.ctx
	caps := c.Capabilities()
	slices.Sort(caps)
	s.say("capabilities %s", strings.Join(caps, " "))
	s.did("ENABLE", c.Enable("QRESYNC").Wait(ctx))
	s.say("enabled %v", c.Enabled("QRESYNC"))
	spaces, err := c.Namespace(ctx)
	s.did("NAMESPACE", err)
	s.say("namespaces %+v", spaces)
	prefix := ""
	if len(spaces.Personal) > 0 {
		prefix = spaces.Personal[0].Prefix
	}
	work, other := prefix+"Work", prefix+"Entw&APw-rfe"
	s.did("CREATE", c.Create(work, "").Wait(ctx))
	s.did("CREATE", c.Create(other, "").Wait(ctx))
	s.did("CREATE again", c.Create(work, "").Wait(ctx))
	s.did("SUBSCRIBE", c.Subscribe(work).Wait(ctx))
	s.appends(work)
	s.list()

	box, err := c.Select(work, SelectOptions{CondStore: true}).Result(ctx)
	s.did("SELECT", err)
	if err != nil {
		return
	}
	s.selected(box)
	s.fetch("1:*", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "BODY.PEEK[]")
	s.fetch("1", "ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[HEADER.FIELDS (SUBJECT)]", "BODY.PEEK[TEXT]<2.3>")
	s.flags(box)
	s.search("ALL", "DELETED", "KEYWORD $Label1", "SUBJECT three")
	s.moving(other)
	s.away(work, box)
	s.refusals(prefix + "missing")
	s.did("UNSELECT", c.Unselect().Wait(ctx))
	s.did("RENAME", c.Rename(work, prefix+"Play").Wait(ctx))
	s.did("UNSUBSCRIBE", c.Unsubscribe(work).Wait(ctx))
	s.did("LSUB", c.List(ctx, ListOptions{Subscribed: true}, func(e ListEntry) error {
		s.say("subscribed %q", e.Name)
		return nil
	}))
	s.did("DELETE", c.Delete(other).Wait(ctx))
	s.list()
	s.did("LOGOUT", c.Logout(ctx))
}

func (s *scenario) appends(to string) {
	per := 1
	if s.c.MultiAppend() {
		per = 3
	}
	var pending []*AppendCommand
	for list := messages; len(list) > 0; list = list[min(per, len(list)):] {
		a := s.c.Append(s.ctx, to)
		for _, m := range list[:min(per, len(list))] {
			m.Size = int64(len(m.body))
			if m.Date.IsZero() {
				m.Date = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
			}
			w, err := a.Next(s.ctx, m.AppendMessage)
			if err == nil {
				_, err = io.WriteString(w, m.body)
			}
			if err != nil {
				s.t.Errorf("APPEND: %v", err)
			}
		}
		pending = append(pending, a.Finish())
	}
	for _, a := range pending {
		got, err := a.Result(s.ctx)
		s.did("APPEND", err)
		s.say("appended %+v", got)
	}
}

func (s *scenario) list() {
	s.did("LIST", s.c.List(s.ctx, ListOptions{Special: true, Status: []string{"MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "HIGHESTMODSEQ"}}, func(e ListEntry) error {
		s.say("mailbox %q %q %v", e.Name, e.Separator, e.Attributes)
		if e.Status != nil {
			s.say("status %+v", *e.Status)
		}
		return nil
	}))
}

func (s *scenario) selected(box *Selected) {
	s.say("selected %+v keeps keywords: %v", *box, box.CanKeep("anything"))
}

func (s *scenario) fetch(uids string, items ...string) {
	s.did("FETCH", s.c.Fetch(uids, FetchOptions{Items: items, Message: func(m *Message) error {
		s.told(m)
		return nil
	}, Body: func(m *Message, section string, size int64, r io.Reader) error {
		b, err := io.ReadAll(r)
		same := ""
		for i, x := range messages {
			if x.body == string(b) {
				same = fmt.Sprint(" is message ", i+1)
			}
		}
		if same == "" && len(b) < 100 {
			same = fmt.Sprintf(" is %q", b)
		}
		s.say("body of UID %d, %s: %d bytes%s", m.UID, section, size, same)
		return err
	}}).Wait(s.ctx))
}

func (s *scenario) flags(box *Selected) {
	s.did("STORE", s.c.Store("1:2", StoreOptions{Add: []string{`\Seen`, "$Forwarded"}}).Wait(s.ctx))
	s.did("STORE", s.c.Store("1", StoreOptions{Remove: []string{"$Label1"}}).Wait(s.ctx))
	if box.HighestModSeq > 0 && s.c.Has("CONDSTORE") {
		s.did("STORE, conditional", s.c.Store("1:4", StoreOptions{Add: []string{`\Answered`}, UnchangedSince: box.HighestModSeq, Modified: func(r Range) {
			s.say("modified %v", r)
		}}).Wait(s.ctx))
	}
	s.fetch("1:*", "FLAGS")
}

func (s *scenario) search(criteria ...string) {
	for _, x := range criteria {
		var got []Range
		s.did("SEARCH "+x, s.c.Search(x, func(r Range) { got = append(got, r) }).Wait(s.ctx))
		s.say("found %v", got)
	}
}

func (s *scenario) moving(to string) {
	got, err := s.c.Copy("1,3:4", to).Result(s.ctx)
	s.did("COPY", err)
	s.say("copied %+v", got)
	if s.c.Has("MOVE") {
		got, err := s.c.Move("4", to).Result(s.ctx)
		s.did("MOVE", err)
		s.say("moved %+v", got)
	}
}

// away leaves the mailbox, changes it from outside of it as far as that goes, and comes back by QRESYNC.
func (s *scenario) away(name string, was *Selected) {
	expunge := "2"
	if !s.c.Has("UIDPLUS") {
		expunge = ""
	}
	gone := 0
	s.c.SetUntagged(Untagged{Expunge: func(uint32) { gone++ }, Vanished: func(r Range) { gone += int(r.Last-r.First) + 1 }})
	s.did("EXPUNGE", s.c.Expunge(expunge).Wait(s.ctx))
	s.say("expunged %d", gone)
	s.did("UNSELECT", s.c.Unselect().Wait(s.ctx))
	o := SelectOptions{ReadOnly: true}
	if s.c.Enabled("QRESYNC") {
		o.QResync = &QResync{Validity: was.Validity, ModSeq: was.HighestModSeq, Known: "1:4"}
		o.Vanished = func(r Range) { s.say("vanished %v", r) }
		o.Fetch = func(m *Message) error {
			s.told(m)
			return nil
		}
	}
	box, err := s.c.Select(name, o).Result(s.ctx)
	s.did("EXAMINE", err)
	if err == nil {
		s.selected(box)
	}
	if s.c.Enabled("QRESYNC") {
		s.did("FETCH of changes", s.c.Fetch("1:*", FetchOptions{Items: []string{"FLAGS"}, ChangedSince: was.HighestModSeq,
			Vanished: func(r Range) { s.say("vanished %v", r) }, Message: o.Fetch}).Wait(s.ctx))
	}
}

// refusals are what servers say no to; the connection goes on.
func (s *scenario) refusals(missing string) {
	_, err := s.c.Copy("1", missing).Result(s.ctx)
	s.did("COPY to nowhere", err)
	_, err = s.c.Status(missing, "MESSAGES").Result(s.ctx)
	s.did("STATUS of nothing", err)
	s.c.Ignore("LITERAL+", "LITERAL-") // so that the no comes before the literal
	a := s.c.Append(s.ctx, missing)
	w, err := a.Next(s.ctx, AppendMessage{Size: 10000})
	if err == nil { // a server that asks for it all the same
		_, err = io.WriteString(w, strings.Repeat("x", 10000))
	}
	_, err2 := a.Finish().Result(s.ctx)
	s.did("APPEND to nowhere", errors.Join(err, err2))
	_, ok := imapwire.Quote(missing)
	s.did("DELETE of nothing", s.c.Delete(missing+"\xc3\xa9").Wait(s.ctx))
	s.say("quotable %v", ok)
}
