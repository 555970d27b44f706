package main

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mailgate/config"
)

// letter is a message that has to be there, or several that are alike to the byte.
type letter struct {
	mark   string // stands in the text, and in the subject of all but odd ones
	path   string // the folder's levels as on the wire, joined by NUL
	body   []byte
	date   time.Time
	flags  map[string]bool
	copies int
	odd    bool // hosts alter it, or refuse it

	// Since both sides were seen to be equal:
	stray   bool            // delivered to the follower: the side that decides may not have it yet
	moved   bool            // moved or renamed by its owner
	strayed bool            // moved or deleted on the follower
	near    map[string]bool // flags that its owner has changed
	far     map[string]bool // flags that were changed on the follower
	either  map[string]bool // flags that may end either way: changed there, and the message moved, or the same flag changed, here
}

// person has a mailbox on both sides, works on the one that he is routed to, and now and then something happens on the other one. Only
// one goroutine uses it at a time.
type person struct {
	week  *week
	n     int
	habit habit
	rnd   *rand.Rand
	route config.Side

	desks  []*desk  // through the gateway
	direct [2]*desk // at the hosts themselves: the old mail transfer agent's, and a phone's that was set up long ago

	letters []*letter
	gone    []*letter // deleted by him
	boxes   []string
	stable  []string             // of boxes, those that are never renamed or deleted
	dead    []string             // boxes that he deleted or renamed
	names   [2]map[string]string // by path, names on a side that do not follow from the levels
	next    int
	did     map[string]int // things by their kind
	log     []string       // the last of them
	seen    [2]map[*letter][]sight
	deleted int // messages that he deleted since both sides were equal
	renamed int // and folders that he renamed
}

const inboxPath = "INBOX"

func newPerson(w *week, n int, seed uint64) *person {
	h := habits()[(n-1)%len(habits())]
	p := &person{week: w, n: n, habit: h, rnd: rand.New(rand.NewPCG(seed, uint64(n))), did: map[string]int{}, boxes: []string{inboxPath},
		names: [2]map[string]string{{}, {}}, desks: make([]*desk, h.sessions)}
	return p
}

// path joins levels.
func path(levels ...string) string { return strings.Join(levels, "\x00") }

// raw is the name of a folder on a side.
func (p *person) raw(side config.Side, at string) string {
	if at == inboxPath {
		return at
	}
	if name := p.names[side][at]; name != "" {
		return name
	}
	h := p.week.hosts[side]
	return h.Prefix + strings.ReplaceAll(at, "\x00", h.Sep)
}

// note remembers what happened, for who has to find out why something is not as it should be.
func (p *person) note(kind, format string, args ...any) {
	p.did[kind]++
	p.log = append(p.log, time.Now().Format("15:04:05.000 ")+strings.ReplaceAll(kind+" "+fmt.Sprintf(format, args...), "\x00", "/"))
	if len(p.log) > 400 {
		p.log = slices.Clone(p.log[200:])
	}
}

// sit gives one of his sessions, which is made anew where it has ended. nil means that there is none to be had now.
func (p *person) sit() *desk {
	i := p.rnd.IntN(len(p.desks))
	if d := p.desks[i]; d != nil && d.lives() {
		return d
	}
	p.desks[i] = nil
	d, err := sit(p.week.gate.imapPlain, p.n)
	if err != nil {
		p.did["no login"]++
		return nil
	}
	p.desks[i] = d
	return d
}

// at gives a session at a host itself.
func (p *person) at(side config.Side) *desk {
	if d := p.direct[side]; d != nil && d.lives() {
		return d
	}
	p.direct[side] = nil
	d, err := sit(p.week.addr(side), p.n)
	if err != nil {
		p.did["no login"]++
		return nil
	}
	p.direct[side] = d
	return d
}

// leave ends all sessions.
func (p *person) leave() {
	for i, d := range p.desks {
		if d != nil {
			d.leave()
		}
		p.desks[i] = nil
	}
	for side, d := range p.direct {
		if d != nil {
			d.leave()
		}
		p.direct[side] = nil
	}
}

// in lists the letters of a folder.
func (p *person) in(at string) (list []*letter) {
	for _, l := range p.letters {
		if l.path == at {
			list = append(list, l)
		}
	}
	return list
}

func (p *person) any() *letter {
	if len(p.letters) == 0 {
		return nil
	}
	return p.letters[p.rnd.IntN(len(p.letters))]
}

func (p *person) box() string { return p.boxes[p.rnd.IntN(len(p.boxes))] }

// under lists a folder and those below it.
func (p *person) under(at string) (list []string) {
	for _, b := range p.boxes {
		if b == at || strings.HasPrefix(b, at+"\x00") {
			list = append(list, b)
		}
	}
	return list
}

// drop takes letters out: their owner has deleted them.
func (p *person) drop(list []*letter) {
	p.letters = slices.DeleteFunc(p.letters, func(l *letter) bool { return slices.Contains(list, l) })
	p.gone = append(p.gone, list...)
	for _, l := range list {
		p.deleted += l.copies
	}
}

// went notes that letters are in another place now.
func (p *person) went(list []*letter, to string) {
	for _, l := range list {
		for f := range l.far {
			l.either[f] = true
		}
		l.path, l.moved = to, true
	}
}

// settled notes that both sides are equal.
func (p *person) settled() {
	p.deleted, p.renamed = 0, 0
	for _, l := range p.letters {
		l.stray, l.moved, l.strayed = false, false, false
		clear(l.near)
		clear(l.far)
	}
}

// write makes a letter; a body of its own begins with the mark.
func (p *person) write(at string, flags ...string) *letter {
	p.next++
	l := &letter{mark: fmt.Sprintf("w-%d-%d.", p.n, p.next), path: at, copies: 1, flags: map[string]bool{}, near: map[string]bool{}, far: map[string]bool{}, either: map[string]bool{},
		date: time.Date(2026, 3, 2+p.week.day, 7+p.next%12, p.next%60, p.n, 0, time.FixedZone("", 3600*(p.n%5)))}
	for _, f := range flags {
		l.flags[f] = true
	}
	l.body = fmt.Appendf(nil, "From: Somebody <s%d@example.org>\r\nTo: user%d@example.com\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%d.%d@example.org>\r\n\r\n%s\r\n",
		p.next%17, p.n, l.mark, l.date.Format(time.RFC1123Z), p.n, p.next, strings.Repeat("text of the letter\r\n", p.rnd.IntN(40)))
	return l
}

// flagList is the flags as text.
func (l *letter) flagList() string {
	var list []string
	for f := range l.flags {
		list = append(list, f)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// digests are those of the text as hosts may give it: Dovecot makes NUL 0x80, Cyrus puts X for what is not ASCII in a header, Courier ends
// each message with CRLF, and where a line ends with LF only the others make it CRLF.
func (l *letter) digests() (out [][sha256.Size]byte) {
	all := []string{string(l.body)}
	if l.odd {
		crlf := strings.ReplaceAll(strings.ReplaceAll(all[0], "\r\n", "\n"), "\n", "\r\n")
		all = append(all, crlf)
		for _, s := range all[:2:2] {
			all = append(all, strings.ReplaceAll(s, "\x00", "\x80"))
		}
		for _, s := range all[:4:4] {
			munged := []byte(s)
			for i := range max(0, strings.Index(s, "\r\n\r\n")) {
				if munged[i] >= 0x80 {
					munged[i] = 'X'
				}
			}
			all = append(all, string(munged))
		}
		for _, s := range all[:8:8] {
			all = append(all, strings.TrimRight(s, "\r\n")+"\r\n", s+"\r\n")
		}
	}
	for _, s := range all {
		out = append(out, sha256.Sum256([]byte(s)))
	}
	return out
}
