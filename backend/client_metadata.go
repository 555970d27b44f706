package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"mailgate/imapwire"
)

// Metadata is an annotation of a mailbox, or of the server (RFC 5464).
type Metadata struct {
	Mailbox string // raw; "" for the server's
	Name    string // such as /private/comment, in lower case
	Value   string // its beginning, up to 4096 bytes
	Size    int64  // of the whole value, in bytes
}

// MetadataOptions choose what Metadata asks for.
type MetadataOptions struct {
	Deep    bool  // entries below those that were named too (DEPTH infinity)
	MaxSize int64 // entries with longer values are left out; 0 means none are
}

// ErrNoMetadata means that the server has no METADATA.
var ErrNoMetadata = errors.New("the server has no METADATA")

// Metadata lists annotations that have a value, each once (RFC 5464, section 4.2). mailbox is "" for the server's own; Cyrus takes patterns
// such as "INBOX.*", too. The second result tells that some were left out for their size. The error is ErrNoMetadata, a *StatusError, or the
// connection's.
func (c *Client) Metadata(ctx context.Context, mailbox string, o MetadataOptions, entries ...string) ([]Metadata, bool, error) {
	if !c.Has("METADATA") && (mailbox != "" || !c.Has("METADATA-SERVER")) {
		return nil, false, ErrNoMetadata
	}
	var list []Metadata // the reader writes it, perhaps for longer than we wait
	held, known := 0, map[string]bool{}
	x := &Command{name: "GETMETADATA"}
	x.other = func(kind string) (bool, error) {
		if kind != "METADATA" {
			return false, nil
		}
		if err := c.r.Expect(' '); err != nil {
			return true, err
		}
		name, err := c.mailboxName()
		if err != nil {
			return true, err
		}
		return true, c.entries(func(m Metadata, has bool) error {
			if held += len(name) + len(m.Name) + len(m.Value) + 64; held > maxMetadata { // 64 for what is around the texts
				return tooMany("bytes of metadata", maxMetadata)
			}
			if m.Mailbox = name; has && !known[name+"\x00"+m.Name] {
				known[name+"\x00"+m.Name] = true
				list = append(list, m)
			}
			return nil
		})
	}
	args := []string{"GETMETADATA"}
	var options []string
	if o.Deep {
		options = append(options, "DEPTH infinity")
	}
	if o.MaxSize > 0 {
		options = append(options, fmt.Sprintf("MAXSIZE %d", o.MaxSize))
	}
	if len(options) > 0 {
		args = append(args, "("+strings.Join(options, " ")+")")
	}
	if err := c.start(x, append(args, str(mailbox), "("+strings.Join(entries, " ")+")")...).Wait(ctx); err != nil {
		return nil, false, err
	}
	code := x.Code()
	return list, code.Name == "METADATA" && strings.HasPrefix(strings.ToUpper(code.Args), "LONGENTRIES"), nil
}

// entries takes the entries of a METADATA response, and the end of its line. has is false for NIL. What comes without being asked for has
// names without values and without parentheses (RFC 5464, section 4.4.2), and is passed over.
func (c *Client) entries(f func(m Metadata, has bool) error) error {
	if err := c.r.Expect(' '); err != nil {
		return err
	}
	if ok, err := c.r.Take('('); err != nil || !ok {
		if err == nil {
			err = c.r.SkipLine()
		}
		return err
	}
	for {
		b, err := c.r.Peek()
		if err != nil {
			return err
		}
		switch b {
		case ')':
			return c.r.SkipLine()
		case ' ':
			_, _ = c.r.Next()
			continue
		case '\r', '\n':
			return fmt.Errorf("%w: an entry is missing", imapwire.ErrGrammar)
		}
		var m Metadata
		if m.Name, err = c.astring(); err != nil {
			return err
		}
		m.Name = strings.ToLower(m.Name)
		if err := c.r.Expect(' '); err != nil {
			return err
		}
		has, err := c.entryValue(&m)
		if err != nil {
			return err
		}
		if err := f(m, has); err != nil {
			return err
		}
	}
}

// entryValue takes NIL (has is false then), a quoted string, a literal or a literal8.
func (c *Client) entryValue(m *Metadata) (has bool, err error) {
	b, err := c.r.Peek()
	if err != nil {
		return false, err
	}
	keep := func(text []byte) { m.Value = string(text[:min(len(text), maxMetadataValue)]) }
	switch b {
	case '"':
		q, err := c.r.Quoted()
		keep(q)
		m.Size = int64(len(q))
		return true, err
	case '{', '~':
		n, atom, err := c.literalOrAtom()
		if err != nil || n < 0 {
			m.Value, m.Size = atom, int64(len(atom))
			return true, err
		}
		m.Size = n
		l := c.r.Literal(n)
		text := make([]byte, min(n, maxMetadataValue))
		if _, err := io.ReadFull(l, text); err != nil {
			return false, err
		}
		keep(text)
		return true, l.Rest()
	}
	w, err := c.r.Word()
	keep(w)
	m.Size = int64(len(w))
	return !strings.EqualFold(string(w), "NIL"), err
}
