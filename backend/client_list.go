package backend

import (
	"context"
	"slices"
	"strings"
)

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
