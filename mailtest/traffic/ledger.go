package traffic

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// world is where copies of a letter may be: folder, by its levels joined with "/", to flags.
type world map[string]string

func (w world) with(at, flags string) world {
	c := maps.Clone(w)
	if c == nil {
		c = world{}
	}
	c[at] = flags
	return c
}

func (w world) without(at string) world {
	c := maps.Clone(w)
	delete(c, at)
	return c
}

func (w world) String() string {
	if len(w) == 0 {
		return "nowhere"
	}
	var list []string
	for _, at := range slices.Sorted(maps.Keys(w)) {
		list = append(list, fmt.Sprintf("%s (%s)", at, w[at]))
	}
	return strings.Join(list, " and ")
}

// who may change a letter: nobody else touches it, so that what it must be is always known.
type owner int

const (
	worker owner = iota // the program that files, flags and deletes
	popper              // the one that fetches and deletes
)

// letter is a message with a mark of its own in its subject. Box.mu guards it.
type letter struct {
	mark    string
	owner   owner
	worlds  []world // one of them is so
	pending bool    // it came past the gateway, and nobody has seen it on the side that decides yet
	frozen  bool    // a command that concerned it was cut: until all is quiet nobody touches it
	vague   bool    // a submission of it was cut: it may come, once, or not
	crossed bool    // a process of the gateway died before anybody had seen it: see Crowd.Spare
	touched int     // rises with each beginning and each end of a command; odd while one is under way
	sum     [32]byte
	whole   bool // sum is that of its text: no host has added header fields
	last    string
}

// folder states.
const (
	there = iota + 1
	maybe
	gone
)

// Box is what a user's mailbox must be, from what was acknowledged.
type Box struct {
	n      int
	taking sync.Mutex // see Crowd.apart; it comes before mu

	mu      sync.Mutex
	letters map[string]*letter
	folders map[string]int
	next    int
	spans   []*Span
	events  []string // what befell the user
}

func newBox(n int) *Box {
	return &Box{n: n, letters: map[string]*letter{}, folders: map[string]int{inbox: there}}
}

const inbox = "INBOX"

// note keeps the last things that happened, for who has to find out why.
func (b *Box) note(l *letter, text string) {
	if l.last = l.last + "; " + now() + " " + text; len(l.last) > 1500 {
		l.last = l.last[len(l.last)-1200:]
	}
}

// Note remembers what befell user n, or everybody where n is 0, for who has to find out why something is not as it should be.
func (c *Crowd) Note(n int, format string, args ...any) {
	text := now() + " " + fmt.Sprintf(format, args...)
	for _, b := range c.boxes[1:] {
		if n == 0 || b.n == n {
			b.mu.Lock()
			b.events = append(b.events[max(0, len(b.events)-80):], text)
			b.mu.Unlock()
		}
	}
}

// Died notes that a process of the gateway has died.
func (c *Crowd) Died(format string, args ...any) {
	c.Note(0, format, args...)
	if !c.Spare {
		return
	}
	for _, b := range c.boxes[1:] {
		b.mu.Lock()
		for _, l := range b.letters {
			l.crossed = l.crossed || l.pending
		}
		b.mu.Unlock()
	}
}

// act is a command under way.
type act struct {
	b        *Box
	list     []*letter
	old, new [][]world
	what     string
}

// begin notes that a command is sent which makes f(w) of each world w.
func (b *Box) begin(what string, list []*letter, f func(*letter, world) world) *act {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := &act{b: b, list: list, what: what}
	for _, l := range list {
		l.touched++
		var done []world
		for _, w := range l.worlds {
			done = append(done, f(l, w))
		}
		a.old, a.new = append(a.old, l.worlds), append(a.new, done)
		l.worlds = append(slices.Clone(l.worlds), done...)
	}
	return a
}

func (a *act) end(worlds [][]world, how string) {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	for i, l := range a.list {
		l.touched++
		if worlds != nil {
			l.worlds = worlds[i]
		} else {
			l.frozen = true
		}
		a.b.note(l, a.what+": "+how)
	}
}

// ok: it was acknowledged. not: it was never sent. cut: who knows.
func (a *act) ok()  { a.end(a.new, "OK") }
func (a *act) not() { a.end(a.old, "not done") }
func (a *act) cut(err error) {
	a.end(nil, "cut: "+err.Error())
}

// settle ends it by what became of the command.
func (a *act) settle(err error) error {
	if err == nil {
		a.ok()
	} else {
		a.cut(err)
	}
	return err
}

// add makes a letter that is nowhere yet.
func (b *Box) add(o owner) *letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	l := &letter{mark: fmt.Sprintf("t-%d-%d.", b.n, b.next), owner: o, worlds: []world{{}}}
	b.letters[l.mark] = l
	return l
}

// item is a message as a listing has it.
type item struct{ mark, flags, id string }

// view is what a folder must show from now on, as far as nothing happens to it.
type view struct {
	at      string
	touched map[*letter]int
}

// look begins a view: call it before the folder is opened.
func (b *Box) look(at string) view {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := view{at, map[*letter]int{}}
	for _, l := range b.letters {
		if l.touched%2 == 0 && !l.frozen {
			v.touched[l] = l.touched
		}
	}
	return v
}

// seen compares a listing with a view that was begun before it was asked for. flags is false where the listing has none.
func (b *Box) seen(v view, list []item, flags bool) (odd []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	by := map[string][]item{}
	for _, i := range list {
		by[i.mark] = append(by[i.mark], i)
		if b.letters[i.mark] == nil {
			odd = append(odd, fmt.Sprintf("%q is in %s, and nobody has written it", i.mark, v.at))
		}
	}
	for l, touched := range v.touched {
		have := by[l.mark]
		if l.touched != touched || l.frozen || l.vague && len(have) < 2 {
			continue
		}
		want, is := l.worlds[0][v.at]
		if l.pending {
			want, is = l.worlds[1][v.at]
			if !is || len(have) == 0 {
				is = false
			}
		}
		switch {
		case !is && len(have) > 0:
			odd = append(odd, fmt.Sprintf("%s is in %s: it must be %v%s", l.mark, v.at, l.worlds[0], l.last))
		case is && len(have) == 0:
			odd = append(odd, fmt.Sprintf("%s is not in %s%s", l.mark, v.at, l.last))
		case len(have) > 1:
			odd = append(odd, fmt.Sprintf("%s is in %s %d times%s", l.mark, v.at, len(have), l.last))
		case is && flags && l.flags(have[0].flags) != l.flags(want):
			odd = append(odd, fmt.Sprintf("%s in %s has (%s), not (%s)%s", l.mark, v.at, have[0].flags, want, l.last))
		case is && l.pending:
			l.pending, l.worlds = false, l.worlds[1:]
			l.touched += 2 // who looked before that may have seen it as not there
			b.note(l, "seen")
		}
	}
	slices.Sort(odd)
	return odd
}

// flags leaves out what a POP3 session may set.
func (l *letter) flags(text string) string {
	if l.owner == popper {
		return strings.Join(slices.DeleteFunc(strings.Fields(text), func(f string) bool { return f == `\seen` }), " ")
	}
	return text
}

// mine are letters of one world that stand in a folder and are in a listing; by mark, so that the seed decides alone.
func (b *Box) mine(o owner, at string, list []item) (mine []*letter, ids map[*letter]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids = map[*letter]string{}
	for _, i := range list {
		l := b.letters[i.mark]
		if l == nil || l.owner != o || l.frozen || l.crossed || l.vague || l.pending || l.touched%2 != 0 || len(l.worlds) != 1 {
			continue
		}
		if _, is := l.worlds[0][at]; is && ids[l] == "" {
			ids[l] = i.id
			mine = append(mine, l)
		}
	}
	slices.SortFunc(mine, func(x, y *letter) int { return strings.Compare(x.mark, y.mark) })
	return mine, ids
}

// living counts the letters that are, or may be, somewhere.
func (b *Box) living() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.letters {
		if len(l.worlds) > 1 || len(l.worlds[0]) > 0 {
			n++
		}
	}
	return n
}

// list are folders that are there for sure, sorted.
func (b *Box) list() (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at, state := range b.folders {
		if state == there {
			names = append(names, at)
		}
	}
	slices.Sort(names)
	return names
}

// folder notes what a folder is now.
func (b *Box) folder(at string, state int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.folders[at] = state; state != maybe {
		b.events = append(b.events[max(0, len(b.events)-80):], fmt.Sprintf("%s folder %s is %s", now(), at, map[int]string{there: "there", gone: "gone"}[state]))
	}
}

// Events are what last befell a user, and what became of his folders.
func (c *Crowd) Events(n int) string {
	b := c.boxes[n]
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.events, "\n")
}

func (b *Box) state(at string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.folders[at]
}

// inside are the letters that are, or may be, in a folder; free is false when one of them is not to be touched.
func (b *Box) inside(at string) (list []*letter, free bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	free = true
	for _, l := range b.letters {
		if slices.ContainsFunc(l.worlds, func(w world) bool { _, is := w[at]; return is }) {
			list = append(list, l)
			free = free && !l.frozen && !l.crossed && !l.pending && l.owner == worker
		}
	}
	slices.SortFunc(list, func(x, y *letter) int { return strings.Compare(x.mark, y.mark) })
	return list, free
}
