package backend

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"mailgate/imapwire"
)

// statusWindow is how many STATUS commands are under way at once.
const statusWindow = 200

// statusOfAll asks for each mailbox that can be opened, a window ahead of the answers. One that refuses has no status.
func (c *Client) statusOfAll(ctx context.Context, list []ListEntry, items []string, out map[string]*Status) error {
	var commands []*StatusCommand
	take := func(x *StatusCommand) error {
		s, err := x.Result(ctx)
		var refused *StatusError
		switch {
		case err == nil:
			out[x.mailbox] = &s
		case !errors.As(err, &refused) || refused.Status == "BYE":
			return err
		}
		return nil
	}
	for _, e := range list {
		if slices.ContainsFunc(e.Attributes, func(a string) bool {
			return strings.EqualFold(a, `\Noselect`) || strings.EqualFold(a, `\NonExistent`)
		}) {
			continue
		}
		if len(commands) == statusWindow {
			if err := take(commands[0]); err != nil {
				return err
			}
			commands = commands[1:]
		}
		commands = append(commands, c.Status(e.Name, items...))
	}
	for _, x := range commands {
		if err := take(x); err != nil {
			return err
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
