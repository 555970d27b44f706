package corpus

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailgate/imapwire"
)

// Path names a folder whatever the host: its levels as people read them, below the prefix of the namespace. Make it by
// PathOf.
type Path string

// PathOf joins levels.
func PathOf(levels ...string) Path { return Path(strings.Join(levels, "\x00")) }

// Levels are the levels.
func (p Path) Levels() []string { return strings.Split(string(p), "\x00") }

func (p Path) String() string { return strings.Join(p.Levels(), " > ") }

// Item is all of a message that has to survive.
type Item struct {
	Body  [sha256.Size]byte
	Size  int64  // bytes of Body, as they came
	Flags string // sorted, without \Recent, separated by blanks
	Date  int64  // INTERNALDATE, Unix seconds
}

// Seen are the messages that are alike.
type Seen struct {
	UIDs    []uint32
	Subject string // raw, of the first of them, for people
}

// Contents is a folder.
type Contents struct {
	Raw      string // its name on the wire
	Validity uint32
	Messages map[Item]*Seen
	Count    int
}

// Account is what a whole account holds.
type Account struct {
	Prefix, Sep string
	Folders     map[Path]*Contents // those that can be selected
	Subscribed  map[Path]bool
	Special     map[Path]string // such as \Sent, where the host tells
	Closed      map[Path]string // listed as if they could be selected, and what the host said when it refused to
}

// Messages counts all.
func (a Account) Messages() int {
	n := 0
	for _, f := range a.Folders {
		n += f.Count
	}
	return n
}

// Snapshot reads a whole account, each byte, over IMAP in clear. It changes nothing, \Seen and \Recent included. No more
// than a buffer of a body is in memory.
func Snapshot(addr, user, pass string) (Account, error) {
	c, err := dial(addr, user, pass)
	if err != nil {
		return Account{}, err
	}
	defer c.close()
	a := Account{Prefix: c.prefix, Sep: c.sep, Folders: map[Path]*Contents{}, Subscribed: map[Path]bool{}, Special: map[Path]string{},
		Closed: map[Path]string{}}
	special := ""
	if c.caps["SPECIAL-USE"] && c.caps["LIST-EXTENDED"] {
		special = " RETURN (SPECIAL-USE)"
	}
	names, err := c.list("LIST", special)
	if err != nil {
		return a, err
	}
	subscribed, err := c.list("LSUB", "")
	if err != nil {
		return a, err
	}
	for _, s := range subscribed {
		if !s.has(`\Noselect`) { // LSUB says so of parents that are not subscribed themselves
			a.Subscribed[a.path(s.name)] = true
		}
	}
	for _, n := range names {
		if n.has(`\Noselect`) || n.has(`\NonExistent`) {
			continue
		}
		p := a.path(n.name)
		if a.Folders[p] != nil { // reads like another one
			p = PathOf(n.name)
		}
		f, err := c.contents(n.name)
		if no := (*refused)(nil); errors.As(err, &no) && no.command == "EXAMINE" {
			a.Closed[p] = no.text
			continue
		}
		if err != nil {
			return a, fmt.Errorf("%q: %w", n.name, err)
		}
		a.Folders[p] = f
		for _, use := range []string{`\Sent`, `\Drafts`, `\Trash`, `\Junk`, `\Archive`} {
			if n.has(use) {
				a.Special[p] = use
			}
		}
	}
	return a, nil
}

// Expected is the account that a host would show which keeps all as it was given. UIDs count from 1.
func Expected(folders []Folder) Account {
	a := Account{Sep: "\x00", Folders: map[Path]*Contents{}, Subscribed: map[Path]bool{}}
	for _, folder := range folders {
		raw, _ := folder.Raw("", a.Sep)
		p := a.path(raw)
		f := &Contents{Raw: raw, Messages: map[Item]*Seen{}}
		a.Folders[p] = f
		if folder.Subscribed {
			a.Subscribed[p] = true
		}
		if folder.Messages == nil {
			continue
		}
		for m := range folder.Messages {
			h := &head{Hash: sha256.New()}
			r, _ := m.Reader()
			_, _ = io.Copy(h, r) // neither of them fails
			f.add(uint32(f.Count+1), h, Item{Flags: flagText(m.Flags), Date: m.Date.Unix()})
		}
	}
	return a
}

// path takes a raw name apart.
func (a Account) path(raw string) Path {
	if strings.EqualFold(raw, "INBOX") {
		return "INBOX"
	}
	raw = strings.TrimPrefix(raw, a.Prefix)
	levels := []string{raw}
	if a.Sep != "" {
		levels = strings.Split(raw, a.Sep)
	}
	for i := range levels {
		levels[i], _ = imapwire.DecodeName(levels[i])
	}
	return PathOf(levels...)
}

type listed struct {
	name       string
	attributes []string
}

func (l listed) has(attribute string) bool {
	return slices.ContainsFunc(l.attributes, func(a string) bool { return strings.EqualFold(a, attribute) })
}

func (c *conn) list(command, options string) ([]listed, error) {
	var out []listed
	err := c.command(func(kind string) error {
		if kind != command {
			_, err := c.rest()
			return err
		}
		v, err := c.values()
		if err != nil {
			return err
		}
		if len(v) < 3 {
			return fmt.Errorf("%s of %d parts", kind, len(v))
		}
		l := listed{name: v[2].text}
		for _, a := range v[0].list {
			l.attributes = append(l.attributes, a.text)
		}
		out = append(out, l)
		return nil
	}, command+` "" "*"`+options)
	return out, err
}

// contents reads a folder.
func (c *conn) contents(raw string) (*Contents, error) {
	f := &Contents{Raw: raw, Messages: map[Item]*Seen{}}
	exists := uint32(0)
	err := c.command(func(kind string) error {
		if kind == "EXISTS" {
			exists = c.number
		}
		line, err := c.rest()
		if at := strings.Index(line, "[UIDVALIDITY "); at >= 0 {
			n, _ := strconv.ParseUint(strings.TrimRight(strings.Fields(line[at:])[1], "]"), 10, 32)
			f.Validity = uint32(n)
		}
		return err
	}, "EXAMINE %s", quote(raw))
	if err != nil || exists == 0 {
		return f, err
	}
	err = c.command(func(kind string) error {
		if kind != "FETCH" {
			_, err := c.rest()
			return err
		}
		return c.fetched(f)
	}, "UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])")
	return f, err
}

// head keeps the beginning of a body.
type head struct {
	hash.Hash
	first []byte
	size  int64
}

func (h *head) Write(b []byte) (int, error) {
	h.first = append(h.first, b[:min(len(b), 4096-len(h.first))]...)
	h.size += int64(len(b))
	return h.Hash.Write(b)
}

// fetched reads the parenthesis of a FETCH response.
func (c *conn) fetched(f *Contents) error {
	if x, err := c.in.ReadByte(); err != nil || x != '(' {
		return fmt.Errorf("FETCH without a list: %q %w", x, err)
	}
	var item Item
	var uid uint64
	have := map[string]bool{}
	h := &head{Hash: sha256.New()}
	for end := false; !end; {
		name, err := c.word()
		if err != nil {
			return err
		}
		name = strings.ToUpper(name)
		have[name] = true
		var v value
		if name == "BODY[]" {
			_, err = c.value(h)
		} else {
			v, err = c.value(nil)
		}
		if err != nil {
			return err
		}
		switch name {
		case "UID":
			uid, err = strconv.ParseUint(v.text, 10, 32)
		case "FLAGS":
			var flags []string
			for _, f := range v.list {
				flags = append(flags, f.text)
			}
			item.Flags = flagText(flags)
		case "INTERNALDATE":
			var d time.Time
			d, err = time.Parse("_2-Jan-2006 15:04:05 -0700", v.text)
			item.Date = d.Unix()
		}
		if err != nil {
			return err
		}
		x, err := c.in.ReadByte()
		if err != nil || x != ' ' && x != ')' {
			return fmt.Errorf("behind %s: %q %w", name, x, err)
		}
		end = x == ')'
	}
	if rest, err := c.line(); err != nil || rest != "" {
		return fmt.Errorf("behind FETCH: %q %w", rest, err)
	}
	if !have["BODY[]"] {
		return nil // flags that somebody else has changed
	}
	if !have["UID"] || !have["FLAGS"] || !have["INTERNALDATE"] {
		return fmt.Errorf("UID %d: FETCH gave only %v", uid, have)
	}
	f.add(uint32(uid), h, item)
	return nil
}

// add counts a message in, whose body h has read.
func (f *Contents) add(uid uint32, h *head, item Item) {
	h.Sum(item.Body[:0])
	item.Size = h.size
	seen := f.Messages[item]
	if seen == nil {
		seen = &Seen{Subject: subject(h.first)}
		f.Messages[item] = seen
	}
	seen.UIDs = append(seen.UIDs, uid)
	f.Count++
}

func flagText(list []string) string {
	var flags []string
	for _, f := range list {
		if !strings.EqualFold(f, `\Recent`) {
			flags = append(flags, f)
		}
	}
	slices.Sort(flags)
	return strings.Join(slices.Compact(flags), " ")
}

// subject finds the Subject of a header that may be cut.
func subject(b []byte) string {
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if name, text, found := bytes.Cut(line, []byte(":")); found && bytes.EqualFold(name, []byte("Subject")) {
			return string(bytes.TrimSpace(text[:min(len(text), 100)]))
		}
	}
	return ""
}
