package faulty

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Message is one in a mailbox. Body is never changed.
type Message struct {
	UID    uint32
	Flags  []string // sorted, without \Recent
	Date   time.Time
	Body   []byte
	ModSeq uint64

	Validity uint32 // of its mailbox, in what Contents gives

	hidden int // how often its text is not given yet: see Hide
}

func (m *Message) flags() string { return strings.Join(m.Flags, " ") }

type gone struct {
	uid    uint32
	modseq uint64
}

// mailbox is one that can be selected. Its name is as on the wire.
type mailbox struct {
	id       string
	validity uint32
	next     uint32
	highest  uint64
	list     []*Message // ascending by UID
	gone     []gone
	special  string
	missed   []Message // not there until it is opened once more
	unlisted int       // how many listings leave it out yet
	keywords []string  // that its messages have, or had
	restless []uint32  // UIDs of messages that get others each time it is opened
}

func (b *mailbox) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(b.list, uid, func(m *Message, u uint32) int { return cmp.Compare(m.UID, u) })
}

// Account is the mail of the host's one user. Its methods are what other clients do, at once and without faults; they are
// safe for concurrent use. Names are as on the wire.
type Account struct {
	product Product

	mu       sync.Mutex
	boxes    map[string]*mailbox
	subs     map[string]bool
	validity uint32
	ids      int
	limit    int           // bytes of the largest message that APPEND takes; 0 means any
	changed  chan struct{} // closed at each change, for IDLE
}

func newAccount(p Product) *Account {
	a := &Account{product: p, boxes: map[string]*mailbox{}, subs: map[string]bool{}, validity: 1000, changed: make(chan struct{})}
	a.boxes["INBOX"] = a.fresh()
	return a
}

// Name makes a name of levels, below the prefix of the namespace.
func (a *Account) Name(levels ...string) string {
	if len(levels) == 1 && levels[0] == "INBOX" {
		return "INBOX"
	}
	return a.product.Prefix + strings.Join(levels, a.product.Separator)
}

// Limit makes APPEND refuse messages of more bytes than that; 0 takes all. Deliveries are not bound by it.
func (a *Account) Limit(bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.limit = bytes
}

// Renumbers tells whether RENAME gives a mailbox a new UIDVALIDITY.
func (a *Account) Renumbers() bool { return a.product.RenameRenumber }

func (a *Account) fresh() *mailbox {
	a.validity++
	a.ids++
	return &mailbox{id: fmt.Sprintf("M%d", a.ids), validity: a.validity, next: 1, highest: 1}
}

func (a *Account) notify() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// add stores a message; the account is locked.
func (a *Account) add(b *mailbox, flags []string, date time.Time, body []byte) uint32 {
	b.highest++
	m := &Message{UID: b.next, Flags: a.keepable(flags), Date: date, Body: body, ModSeq: b.highest}
	b.next++
	b.list = append(b.list, m)
	b.learn(m.Flags)
	return m.UID
}

// learn notes keywords: a host tells of those in FLAGS from then on.
func (b *mailbox) learn(flags []string) {
	for _, f := range flags {
		if f[0] != '\\' && !slices.Contains(b.keywords, f) {
			b.keywords = append(b.keywords, f)
		}
	}
}

// keepable are the flags that the product keeps, in order, each once.
func (a *Account) keepable(flags []string) []string {
	var out []string
	for _, f := range flags {
		if strings.EqualFold(f, `\Recent`) || f == "" || (!a.product.Keywords || a.product.Forgets) && f[0] != '\\' {
			continue
		}
		out = append(out, f)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// change sets a message's flags anew; the account is locked.
func (b *mailbox) change(m *Message, flags []string) {
	if slices.Equal(m.Flags, flags) {
		return
	}
	b.highest++
	m.Flags, m.ModSeq = flags, b.highest
	b.learn(flags)
}

// remove expunges the message at i; the account is locked.
func (b *mailbox) remove(i int) {
	b.highest++
	b.gone = append(b.gone, gone{b.list[i].UID, b.highest})
	b.list = slices.Delete(b.list, i, i+1)
}

// Append is a delivery. It answers 0 where there is no such mailbox.
func (a *Account) Append(name string, flags []string, date time.Time, body []byte) uint32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.boxes[name]
	if b == nil {
		return 0
	}
	defer a.notify()
	return a.add(b, flags, date, body)
}

// Flag adds and takes away flags of the n-th message of a mailbox, and tells which message that is.
func (a *Account) Flag(name string, n int, add, remove []string) (m Message, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.boxes[name]
	if b == nil || n >= len(b.list) {
		return m, false
	}
	defer a.notify()
	b.change(b.list[n], a.with(b.list[n].Flags, add, remove))
	return *b.list[n], true
}

func (a *Account) with(flags, add, remove []string) []string {
	kept := slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return slices.Contains(remove, f) })
	return a.keepable(append(kept, add...))
}

// Expunge deletes the n-th message of a mailbox for good.
func (a *Account) Expunge(name string, n int) (m Message, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.boxes[name]
	if b == nil || n >= len(b.list) {
		return m, false
	}
	defer a.notify()
	m = *b.list[n]
	b.remove(n)
	return m, true
}

// Unavailable is what a Courier gives in place of a message whose file it cannot open.
const Unavailable = "From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\nThis message is no longer available on the server.\r\n"

// Hide gives Unavailable in place of the n-th message of a mailbox the next times that its text is asked for.
func (a *Account) Hide(name string, n, times int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.boxes[name]
	if b == nil || n >= len(b.list) {
		return false
	}
	b.list[n].hidden = times
	return true
}

// Unlist leaves a mailbox out of the next listings, as a session does that knows an old list.
func (a *Account) Unlist(name string, times int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.boxes[name].unlisted = times
}

// Renumber gives the n-th message of a mailbox another UID, and the mailbox no other UIDVALIDITY. With missed it is not there meanwhile, until the
// mailbox has been opened once more.
func (a *Account) Renumber(name string, n int, missed bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.boxes[name]
	if b == nil || n >= len(b.list) {
		return false
	}
	defer a.notify()
	m := *b.list[n]
	b.remove(n)
	if missed {
		b.missed = append(b.missed, m)
		return true
	}
	a.add(b, m.Flags, m.Date, m.Body)
	return true
}

// Restless has the n-th message of a mailbox get another UID each time that the mailbox is opened.
func (a *Account) Restless(name string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.boxes[name]
	b.restless = append(b.restless, b.list[n].UID)
}

// Move moves the n-th message of a mailbox.
func (a *Account) Move(name string, n int, to string) (m Message, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, t := a.boxes[name], a.boxes[to]
	if b == nil || t == nil || b == t || n >= len(b.list) {
		return m, false
	}
	defer a.notify()
	m = *b.list[n]
	a.add(t, m.Flags, m.Date, m.Body)
	b.remove(n)
	return m, true
}

// Create makes a mailbox, and those above it.
func (a *Account) Create(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.notify()
	return a.create(name, "")
}

func (a *Account) create(name, special string) bool {
	if a.boxes[name] != nil || name == "" {
		return false
	}
	for i := range name {
		above := name[:i]
		if i > 0 && strings.HasPrefix(name[i:], a.product.Separator) && a.boxes[above] == nil && above+a.product.Separator != a.product.Prefix {
			a.boxes[above] = a.fresh()
		}
	}
	b := a.fresh()
	b.special = special
	a.boxes[name] = b
	return true
}

// Delete removes a mailbox that has none below it, with its mail.
func (a *Account) Delete(name string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.notify()
	return a.remove(name) == ""
}

func (a *Account) remove(name string) (why string) {
	switch {
	case a.boxes[name] == nil:
		return "[NONEXISTENT] no such mailbox"
	case name == "INBOX":
		return "[CANNOT] INBOX stays"
	}
	for other := range a.boxes {
		if strings.HasPrefix(other, name+a.product.Separator) {
			return "[HASCHILDREN] it has mailboxes below it"
		}
	}
	delete(a.boxes, name)
	return ""
}

// Rename renames a mailbox and those below it; subscriptions stay, as on most hosts.
func (a *Account) Rename(from, to string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.notify()
	return a.rename(from, to) == ""
}

func (a *Account) rename(from, to string) (why string) {
	sep := a.product.Separator
	switch {
	case a.boxes[from] == nil:
		return "[NONEXISTENT] no such mailbox"
	case a.boxes[to] != nil:
		return "[ALREADYEXISTS] it is there"
	case from == "INBOX" || strings.HasPrefix(to, from+sep):
		return "[CANNOT] not this one"
	}
	for name := range a.boxes {
		if strings.HasPrefix(name, to+sep) {
			return "[ALREADYEXISTS] there is something below it"
		}
	}
	moved := map[string]*mailbox{}
	for name, b := range a.boxes {
		if name == from || strings.HasPrefix(name, from+sep) {
			delete(a.boxes, name)
			moved[to+name[len(from):]] = b
			if a.product.RenameRenumber {
				a.renumber(b)
			}
		}
	}
	if i := strings.LastIndex(to, sep); i > 0 && to[:i]+sep != a.product.Prefix {
		a.create(to[:i], "")
	}
	maps.Copy(a.boxes, moved)
	return ""
}

func (a *Account) renumber(b *mailbox) {
	a.validity++
	b.validity, b.next, b.gone = a.validity, 1, nil
	b.highest++
	for i, m := range b.list {
		n := *m
		n.UID, n.ModSeq = b.next, b.highest
		b.list[i] = &n
		b.next++
	}
}

// Reset gives a mailbox a new UIDVALIDITY and new UIDs, as hosts do that have lost their index.
func (a *Account) Reset(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.boxes[name]; b != nil {
		a.renumber(b)
		a.notify()
	}
}

// Subscribe and Unsubscribe.
func (a *Account) Subscribe(name string, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if on {
		a.subs[name] = true
	} else {
		delete(a.subs, name)
	}
}

// Names are those of the mailboxes, sorted.
func (a *Account) Names() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.boxes))
}

// Count is how many messages a mailbox has.
func (a *Account) Count(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.boxes[name]; b != nil {
		return len(b.list)
	}
	return 0
}

// Contents are all messages, by mailbox, in the order of their UIDs.
func (a *Account) Contents() map[string][]Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[string][]Message{}
	for name, b := range a.boxes {
		out[name] = []Message{}
		for _, m := range b.list {
			c := *m
			c.Validity = b.validity
			out[name] = append(out[name], c)
		}
	}
	return out
}

// Subscribed are the names that are subscribed, sorted.
func (a *Account) Subscribed() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Sorted(maps.Keys(a.subs))
}
