package people

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mailgate/config"
	"mailgate/mailtest/lab"
)

// Letter is a message that has to be there, or several that are alike to the byte.
type Letter struct {
	mark   string // stands in the text, and in the subject of all but odd ones
	path   string // the folder's levels as on the wire, joined by NUL
	body   []byte
	date   time.Time
	flags  map[string]bool
	copies int
	odd    bool // hosts alter it, or refuse it
	frozen bool // it has a twin in another folder: it stays where it is

	// Since both sides were seen to be equal:
	Stray   bool            // delivered to the follower: the side that decides may not have it yet
	moved   bool            // moved or renamed by its owner
	strayed bool            // moved or deleted on the follower
	near    map[string]bool // flags that its owner has changed
	far     map[string]bool // flags that were changed on the follower
	twinAt  string          // where it was moved on the follower: a pass that reads folders in between may see a copy there, and carry it
	either  map[string]bool // flags that may end either way: changed there, and the message moved, or the same flag changed, here
}

// Person has a mailbox on both sides, works on the one that he is routed to, and now and then something happens on the other one. Only
// one goroutine uses it at a time.
type Person struct {
	N     int // user N of the lab
	Habit Habit
	Rnd   *rand.Rand
	Route config.Side // the side that decides
	Hosts [2]lab.Host
	Gate  string // the address where he logs in for his work; "" means the host that he is routed to
	Day   int    // from 0 on

	desks  []*Desk  // for his work
	direct [2]*Desk // at the hosts themselves: the old mail transfer agent's, and a phone's that was set up long ago

	Letters []*Letter
	gone    []*Letter // deleted by him
	Boxes   []string
	Stable  []string             // of Boxes, those that are never renamed or deleted
	dead    []string             // boxes that he deleted or renamed
	Names   [2]map[string]string // by path, names on a side that do not follow from the levels
	next    int
	Did     map[string]int // things by their kind
	log     []string       // the last of them

	// Since both sides were seen to be equal:
	Deleted int // messages that he deleted
	Renamed int // folders that he renamed

	seen [2]map[*Letter][]sight
}

// Inbox is the path of INBOX.
const Inbox = "INBOX"

// New makes user n; habit is one of a dozen or less, seed chooses what he does.
func New(n, habit int, seed uint64, hosts [2]lab.Host, gate string) *Person {
	all := habits()
	h := all[habit%len(all)]
	return &Person{N: n, Habit: h, Rnd: rand.New(rand.NewPCG(seed, uint64(n))), Hosts: hosts, Gate: gate, Did: map[string]int{}, Boxes: []string{Inbox},
		Names: [2]map[string]string{{}, {}}, desks: make([]*Desk, h.sessions)}
}

// addr is where a host listens.
func (p *Person) addr(side config.Side) string { return lab.Addr(p.Hosts[side].IMAP) }

// Story is what he did last.
func (p *Person) Story() string {
	return fmt.Sprintf("%s, %s, on %s:\n%s", lab.User(p.N), p.Habit.Name, p.Route, strings.Join(p.log[max(0, len(p.log)-80):], "\n"))
}

// Path joins levels.
func Path(levels ...string) string { return strings.Join(levels, "\x00") }

// Raw is the name of a folder on a side.
func (p *Person) Raw(side config.Side, at string) string {
	if at == Inbox {
		return at
	}
	if name := p.Names[side][at]; name != "" {
		return name
	}
	h := p.Hosts[side]
	return h.Prefix + strings.ReplaceAll(at, "\x00", h.Sep)
}

// Note remembers what happened, for who has to find out why something is not as it should be.
func (p *Person) Note(kind, format string, args ...any) {
	p.Did[kind]++
	p.log = append(p.log, time.Now().Format("15:04:05.000 ")+strings.ReplaceAll(kind+" "+fmt.Sprintf(format, args...), "\x00", "/"))
	if len(p.log) > 400 {
		p.log = slices.Clone(p.log[200:])
	}
}

// Sit gives one of his sessions, which is made anew where it has ended. nil means that there is none to be had now.
func (p *Person) Sit() *Desk {
	i := p.Rnd.IntN(len(p.desks))
	if d := p.desks[i]; d != nil && d.Lives() {
		return d
	}
	p.desks[i] = nil
	d, err := Sit(cmp.Or(p.Gate, p.addr(p.Route)), p.N)
	if err != nil {
		p.Did["no login"]++
		return nil
	}
	p.desks[i] = d
	return d
}

// At gives a session at a host itself.
func (p *Person) At(side config.Side) *Desk {
	if d := p.direct[side]; d != nil && d.Lives() {
		return d
	}
	p.direct[side] = nil
	d, err := Sit(p.addr(side), p.N)
	if err != nil {
		p.Did["no login"]++
		return nil
	}
	p.direct[side] = d
	return d
}

// Leave ends all sessions.
func (p *Person) Leave() {
	for i, d := range p.desks {
		if d != nil {
			d.Leave()
		}
		p.desks[i] = nil
	}
	for side, d := range p.direct {
		if d != nil {
			d.Leave()
		}
		p.direct[side] = nil
	}
}

// In lists the letters of a folder.
func (p *Person) In(at string) (list []*Letter) {
	for _, l := range p.Letters {
		if l.path == at {
			list = append(list, l)
		}
	}
	return list
}

func (p *Person) any() *Letter {
	if len(p.Letters) == 0 {
		return nil
	}
	return p.Letters[p.Rnd.IntN(len(p.Letters))]
}

func (p *Person) box() string { return p.Boxes[p.Rnd.IntN(len(p.Boxes))] }

// under lists a folder and those below it.
func (p *Person) under(at string) (list []string) {
	for _, b := range p.Boxes {
		if b == at || strings.HasPrefix(b, at+"\x00") {
			list = append(list, b)
		}
	}
	return list
}

// drop takes letters out: their owner has deleted them.
func (p *Person) drop(list []*Letter) {
	p.Letters = slices.DeleteFunc(p.Letters, func(l *Letter) bool { return slices.Contains(list, l) })
	p.gone = append(p.gone, list...)
	for _, l := range list {
		p.Deleted += l.copies
	}
}

// went notes that letters are in another place now.
func (p *Person) went(list []*Letter, to string) {
	for _, l := range list {
		for f := range l.far {
			l.either[f] = true
		}
		l.path, l.moved = to, true
	}
}

// Settled notes that both sides are equal.
func (p *Person) Settled() {
	p.Deleted, p.Renamed = 0, 0
	for _, l := range p.Letters {
		l.Stray, l.moved, l.strayed, l.twinAt = false, false, false, ""
		clear(l.near)
		clear(l.far)
	}
}

// write makes a letter; a body of its own begins with the mark.
func (p *Person) write(at string, flags ...string) *Letter {
	p.next++
	l := &Letter{mark: fmt.Sprintf("w-%d-%d.", p.N, p.next), path: at, copies: 1, flags: map[string]bool{}, near: map[string]bool{}, far: map[string]bool{}, either: map[string]bool{},
		date: time.Date(2026, 3, 2+p.Day, 7+p.next%12, p.next%60, p.N, 0, time.FixedZone("", 3600*(p.N%5)))}
	for _, f := range flags {
		l.flags[f] = true
	}
	l.body = fmt.Appendf(nil, "From: Somebody <s%d@example.org>\r\nTo: user%d@example.com\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%d.%d@example.org>\r\n\r\n%s\r\n",
		p.next%17, p.N, l.mark, l.date.Format(time.RFC1123Z), p.N, p.next, strings.Repeat("text of the letter\r\n", p.Rnd.IntN(40)))
	return l
}

// flagList is the flags as text.
func (l *Letter) flagList() string {
	var list []string
	for f := range l.flags {
		list = append(list, f)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// digests are those of the text as hosts may give it: Dovecot makes NUL 0x80, Cyrus puts X for what is not ASCII in a header, Courier ends
// each message with CRLF, and where a line ends with LF only the others make it CRLF.
func (l *Letter) digests() (out [][sha256.Size]byte) {
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
