package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mailgate/imapwire"
)

// Noop is NOOP.
func (c *Client) Noop() *Command { return c.send("NOOP", "NOOP") }

// Enable leaves out what the server does not offer; Enabled tells what is on after its Wait.
func (c *Client) Enable(capabilities ...string) *Command {
	list := slices.DeleteFunc(slices.Clone(capabilities), func(s string) bool { return !c.Has(s) })
	if len(list) == 0 || !c.Has("ENABLE") && !c.Has("IMAP4REV2") && !c.Has("QRESYNC") {
		return failed("ENABLE", nil)
	}
	return c.send("ENABLE", append([]string{"ENABLE"}, list...)...)
}

// Enabled tells whether the server has said that a capability is on.
func (c *Client) Enabled(capability string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enabled[strings.ToUpper(capability)]
}

// Create makes a mailbox; use is "" or such as \Sent (RFC 6154).
func (c *Client) Create(name, use string) *Command {
	args := []string{"CREATE", str(name)}
	if use != "" {
		args = append(args, "(USE ("+use+"))")
	}
	return c.send("CREATE", args...)
}

// Delete, Rename, Subscribe and Unsubscribe are the commands of these names.
func (c *Client) Delete(name string) *Command { return c.send("DELETE", "DELETE", str(name)) }
func (c *Client) Rename(from, to string) *Command {
	return c.send("RENAME", "RENAME", str(from), str(to))
}
func (c *Client) Subscribe(name string) *Command { return c.send("SUBSCRIBE", "SUBSCRIBE", str(name)) }
func (c *Client) Unsubscribe(name string) *Command {
	return c.send("UNSUBSCRIBE", "UNSUBSCRIBE", str(name))
}

// listResponse takes LIST, LSUB and XLIST from behind their name.
func (c *Client) listResponse() error {
	e, err := c.listEntry()
	if err != nil {
		return err
	}
	if x := c.oldest(func(x *Command) bool { return x.list != nil }); x != nil {
		return x.tell(x.list(e))
	} else if f := c.handlers().List; f != nil {
		f(e)
	}
	return nil
}

func (c *Client) listEntry() (e ListEntry, err error) {
	if err := c.r.Expect(' '); err != nil {
		return e, err
	}
	attrs, err := c.value(maxItem)
	if err != nil {
		return e, err
	}
	e.Attributes = strings.Fields(strings.Trim(attrs, "()"))
	if err := c.r.Expect(' '); err != nil {
		return e, err
	}
	b, err := c.r.Peek()
	if err != nil {
		return e, err
	}
	if b == '"' {
		q, err := c.r.Quoted()
		if err != nil {
			return e, err
		}
		if len(q) > 0 {
			e.Separator = q[0]
		}
	} else if _, err := c.r.Word(); err != nil { // NIL
		return e, err
	}
	if err := c.r.Expect(' '); err != nil {
		return e, err
	}
	if e.Name, err = c.mailboxName(); err != nil {
		return e, err
	}
	for { // extended data
		b, err := c.r.Peek()
		if err != nil {
			return e, err
		}
		switch b {
		case '\r', '\n':
			return e, c.r.EndOfLine()
		case ' ':
			_, _ = c.r.Next()
			continue
		}
		v, err := c.value(maxItem)
		if err != nil {
			return e, err
		}
		if i := strings.Index(strings.ToUpper(v), "OLDNAME"); i >= 0 {
			e.OldName = strings.Trim(v[i+len("OLDNAME"):], ` ()"`)
		}
	}
}

// List calls f for each mailbox, in the server's order, when all are known.
func (c *Client) List(ctx context.Context, o ListOptions, f func(ListEntry) error) error {
	pattern := o.Pattern
	if pattern == "" {
		pattern = "*"
	}
	var list []ListEntry
	status := map[string]*Status{}
	known := map[string]bool{}
	held := 0
	hold := func(n int) error {
		if held += n + 200; held > maxMailboxes { // 200 for what is around the texts
			return tooMany("bytes of mailboxes", maxMailboxes)
		}
		return nil
	}
	take := func(e ListEntry) error {
		if known[e.Name] {
			return nil
		}
		known[e.Name] = true
		list = append(list, e)
		return hold(len(e.Name) + len(e.OldName) + 32*len(e.Attributes) + len(strings.Join(e.Attributes, "")))
	}
	extended := c.Has("LIST-EXTENDED") || c.Has("IMAP4REV2")
	// MAILBOXID is not asked for along with LIST: see objectID. In the worst case it holds a line's end.
	items := slices.DeleteFunc(slices.Clone(o.Status), func(item string) bool { return !c.knows(item) || item == "MAILBOXID" })
	inList := len(items) > 0 && !o.Subscribed && (c.Has("LIST-STATUS") || c.Has("IMAP4REV2"))
	x := &Command{name: "LIST", list: take}
	switch {
	case o.Subscribed && extended:
		c.start(x, "LIST (SUBSCRIBED)", str(o.Reference), str(pattern))
	case o.Subscribed:
		x.name = "LSUB"
		c.start(x, "LSUB", str(o.Reference), str(pattern))
	default:
		var ret []string
		if o.Special && c.Has("SPECIAL-USE") && (extended || inList) {
			ret = append(ret, "SPECIAL-USE")
		}
		if inList {
			ret = append(ret, "STATUS ("+strings.Join(items, " ")+")")
			x.status = func(s Status) {
				if status[s.Name] == nil {
					_ = x.tell(hold(len(s.Name)))
				}
				status[s.Name] = &s
			}
		}
		args := []string{"LIST", str(o.Reference), str(pattern)}
		if len(ret) > 0 {
			args = append(args, "RETURN ("+strings.Join(ret, " ")+")")
		}
		c.start(x, args...)
	}
	if err := x.Wait(ctx); err != nil {
		return err
	}
	if len(items) > 0 && !inList {
		if err := c.statusOfAll(ctx, list, items, status); err != nil {
			return err
		}
	}
	for _, e := range list {
		e.Status = status[e.Name]
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// statusOfAll asks for each mailbox that can be opened, without waiting in between. One that refuses has no status.
func (c *Client) statusOfAll(ctx context.Context, list []ListEntry, items []string, out map[string]*Status) error {
	var commands []*StatusCommand
	for _, e := range list {
		if !slices.ContainsFunc(e.Attributes, func(a string) bool {
			return strings.EqualFold(a, `\Noselect`) || strings.EqualFold(a, `\NonExistent`)
		}) {
			commands = append(commands, c.Status(e.Name, items...))
		}
	}
	for _, x := range commands {
		s, err := x.Result(ctx)
		var refused *StatusError
		if err != nil && !(errors.As(err, &refused) && refused.Status != "BYE") {
			return err
		}
		if err == nil {
			out[x.mailbox] = &s
		}
	}
	return nil
}

// knows tells whether STATUS may be asked for an item.
func (c *Client) knows(item string) bool {
	switch item {
	case "HIGHESTMODSEQ":
		return c.Has("CONDSTORE") || c.Has("QRESYNC")
	case "MAILBOXID":
		return c.Has("OBJECTID")
	case "SIZE":
		return c.Has("STATUS=SIZE") || c.Has("IMAP4REV2")
	}
	return true
}

// StatusCommand is STATUS of one mailbox.
type StatusCommand struct {
	*Command
	got *Status
}

// Status is STATUS; items that the server does not know are left out.
func (c *Client) Status(name string, items ...string) *StatusCommand {
	items = slices.DeleteFunc(slices.Clone(items), func(item string) bool { return !c.knows(item) })
	s := &StatusCommand{Command: &Command{name: "STATUS", mailbox: name}}
	s.status = func(got Status) { s.got = &got }
	c.start(s.Command, "STATUS", str(name), "("+strings.Join(items, " ")+")")
	return s
}

// Result waits for the status.
func (s *StatusCommand) Result(ctx context.Context) (Status, error) {
	if err := s.Wait(ctx); err != nil {
		return Status{}, err
	}
	if s.got == nil {
		return Status{}, errors.New("STATUS: OK, and no status")
	}
	return *s.got, nil
}

// statusResponse takes STATUS from behind its name.
func (c *Client) statusResponse() error {
	var s Status
	err := c.r.Expect(' ')
	if err == nil {
		s.Name, err = c.mailboxName()
	}
	if err == nil {
		err = c.r.Expect(' ')
	}
	if err != nil {
		return err
	}
	text, err := c.value(maxItem)
	if err != nil {
		return err
	}
	if err := c.r.SkipLine(); err != nil {
		return err
	}
	f := strings.Fields(strings.TrimSuffix(strings.TrimPrefix(text, "("), ")"))
	for i := 0; i+1 < len(f); i += 2 {
		n, _ := strconv.ParseUint(f[i+1], 10, 64)
		switch strings.ToUpper(f[i]) {
		case "MESSAGES":
			s.Messages, s.HasMessages = uint32(n), true
		case "UIDNEXT":
			s.UIDNext, s.HasUIDNext = uint32(n), true
		case "UIDVALIDITY":
			s.Validity, s.HasValidity = uint32(n), true
		case "UNSEEN":
			s.Unseen, s.HasUnseen = uint32(n), true
		case "HIGHESTMODSEQ":
			s.HighestModSeq, s.HasHighestModSeq = n, true
		case "SIZE":
			s.Size = int64(n)
		case "MAILBOXID":
			s.MailboxID = objectID(f[i+1])
		}
	}
	if x := c.statusFor(s.Name); x != nil {
		x.status(s)
		return x.told
	} else if f := c.handlers().Status; f != nil {
		f(s)
	}
	return nil
}

// statusFor finds who asked for the status of a mailbox. Some servers answer by another name than they were asked: then it is
// for the oldest STATUS without an answer, unless others may come unasked.
func (c *Client) statusFor(name string) *Command {
	if x := c.oldest(func(x *Command) bool {
		return x.status != nil && (x.list != nil || !x.answered && sameMailbox(x.mailbox, name))
	}); x != nil {
		x.answered = true
		return x
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var pending []*Command
	for _, x := range c.outstanding {
		if x.status != nil && !x.answered {
			pending = append(pending, x)
		}
	}
	if len(pending) == 0 || c.notify {
		return nil
	}
	for _, x := range pending {
		if strings.EqualFold(reading(x.mailbox), reading(name)) {
			c.rs.respells = true
			return x
		}
	}
	if len(pending) == 1 || c.rs.respells {
		c.rs.respells = true
		return pending[0]
	}
	return nil
}

// reading is a name as people read it, for comparing.
func reading(raw string) string {
	text, _ := imapwire.DecodeName(raw)
	return text
}

// sameMailbox compares raw names; INBOX is one in any letter case (RFC 9051, section 5.1).
func sameMailbox(a, b string) bool {
	return a == b || strings.EqualFold(a, "INBOX") && strings.EqualFold(b, "INBOX")
}

// Select opens a mailbox, read-only by EXAMINE. What was selected before is left without expunging.
func (c *Client) Select(name string, o SelectOptions) *SelectCommand {
	s := &SelectCommand{Command: &Command{name: "SELECT", selected: &Selected{}, mailbox: name}}
	if o.ReadOnly {
		s.name = "EXAMINE"
	}
	args := []string{s.name, str(name)}
	switch {
	case o.QResync != nil && c.Has("QRESYNC"):
		known := ""
		if o.QResync.Known != "" {
			known = " " + o.QResync.Known
		}
		args = append(args, fmt.Sprintf("(QRESYNC (%d %d%s))", o.QResync.Validity, o.QResync.ModSeq, known))
		s.vanished = o.Vanished
		if o.Fetch != nil {
			s.fetch = &fetching{FetchOptions: FetchOptions{Message: o.Fetch}, uids: []Range{{1, 0}}}
		}
	case o.CondStore && c.Has("CONDSTORE"):
		args = append(args, "(CONDSTORE)")
	}
	c.start(s.Command, args...)
	return s
}

// SelectCommand is SELECT or EXAMINE.
type SelectCommand struct{ *Command }

// Result waits for the mailbox.
func (s *SelectCommand) Result(ctx context.Context) (*Selected, error) {
	if err := s.Wait(ctx); err != nil {
		return nil, err
	}
	return s.selected, nil
}

// CanKeep tells whether a flag will stay: PERMANENTFLAGS has it or, for a keyword, \*.
func (s *Selected) CanKeep(flag string) bool {
	if s.PermanentFlags == nil {
		return flag != "" && flag[0] == '\\' || slices.ContainsFunc(s.Flags, func(f string) bool { return strings.EqualFold(f, flag) })
	}
	return slices.ContainsFunc(s.PermanentFlags, func(f string) bool {
		return strings.EqualFold(f, flag) || f == `\*` && flag != "" && flag[0] != '\\'
	})
}

// Unselect leaves the mailbox without expunging: UNSELECT, or EXAMINE of a mailbox that does not exist where that is
// missing (RFC 3691, section 1).
func (c *Client) Unselect() *Command {
	if c.Has("UNSELECT") || c.Has("IMAP4REV2") {
		return c.send("UNSELECT", "UNSELECT")
	}
	return c.start(&Command{name: "EXAMINE", selected: &Selected{}, futile: true}, "EXAMINE", str("mailgate-no-such-mailbox"))
}

// objectID is an identifier of RFC 8474, section 7, "" for what cannot be one: a Cyrus of 2022 answers LIST with STATUS with
// whatever its memory holds there.
func objectID(s string) string {
	s = strings.Trim(s, "()")
	if len(s) > 255 || strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) {
		return ""
	}
	return s
}

// Mailbox is the name of the mailbox that is open while nothing is outstanding, "" when none is.
func (c *Client) Mailbox() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.outstanding) > 0 {
		return ""
	}
	return c.mailbox
}
