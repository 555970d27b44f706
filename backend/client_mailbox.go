package backend

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
