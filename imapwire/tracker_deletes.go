package imapwire

import (
	"bytes"
	"math"
	"strconv"
)

// Deletes is what a client asked to be deleted or moved away, and his server did. It is proof that somebody meant it: what goes from
// a mailbox while a client only looks on is in none. It errs to the side of too little.
type Deletes struct {
	Mailbox  uint64 // NameHash of its name
	Validity uint32 // its UIDVALIDITY when it was selected; 0 where a protocol does not tell (POP3), and for Folder
	UIDs     Spans  // the messages are among these
	Most     uint32 // and so many at most: a range holds UIDs of what had gone before, and of what is asked for by number none is known
	Marked   Spans  // among these it is true as well of what had \Deleted before
	Folder   bool   // the mailbox itself was deleted, nothing else is told
}

// maxSpans bounds what is remembered of a session, and of a command. Beyond it deletes are no proof.
const maxSpans = 1024

// deleting is what is remembered of a session to know what its client deletes. Most of it is there only while it is needed.
type deleting struct {
	box, next mailbox // the one that is selected; what is told of one that is being selected
	uids      Spans   // of messages that this client has marked \Deleted, in box
	most      uint32  // so many, at most
	numbers   Spans   // of messages that he has marked by their numbers
	done      []Deletes
	text      []byte // arguments of the present command
	long      bool   // there were more than fit
	head      [40]byte
	headLen   int    // of the present response, behind its first word
	vanished  []byte // what stands behind VANISHED
}

type mailbox struct {
	name     uint64
	validity uint32
	next     uint32 // UIDNEXT, or less: there may be more messages than were told of; 0 when it is not known
	exists   uint32
	readOnly bool
}

// top is the highest UID that a message can have, as far as is known.
func (m *mailbox) top() uint32 {
	if m.next == 0 {
		return math.MaxUint32
	}
	return m.next - 1
}

// asks is what a command asks, until it is answered.
type asks struct {
	verb verb
	uid  bool
	set  Spans
	void bool   // the set is not known
	off  bool   // STORE takes \Deleted off
	name uint64 // of a mailbox
	gone uint32 // messages that went while it was answered
}

type verb uint8

const (
	verbNone verb = iota
	verbSelect
	verbExamine
	verbUnselect
	verbClose
	verbStore
	verbMove
	verbExpunge
	verbDelete
)

// verbOf classifies a command word, in upper case.
func verbOf(word string) verb {
	switch word {
	case "SELECT":
		return verbSelect
	case "EXAMINE":
		return verbExamine
	case "UNSELECT":
		return verbUnselect
	case "CLOSE":
		return verbClose
	case "STORE":
		return verbStore
	case "MOVE":
		return verbMove
	case "EXPUNGE":
		return verbExpunge
	case "DELETE":
		return verbDelete
	}
	return verbNone
}

// TakeDeletes gives what was deleted since it was last asked, nil when there is nothing.
func (t *Tracker) TakeDeletes() []Deletes {
	if t.del == nil {
		return nil
	}
	list := t.del.done
	t.del.done = nil
	return list
}

// answeredTo takes the answer to a command that asked for something.
func (d *deleting) answeredTo(a *asks, ok bool) {
	b := &d.box
	switch {
	case a.verb == verbSelect, a.verb == verbExamine:
		next, readOnly := d.next, []byte("OK [READ-ONLY]")
		next.name, next.readOnly = a.name, a.verb == verbExamine || bytes.EqualFold(d.head[:min(d.headLen, len(readOnly))], readOnly)
		if !ok {
			next = mailbox{} // RFC 9051, section 6.3.2: none is selected
		}
		d.box, d.next = next, mailbox{}
		d.unmark()
	case a.verb == verbStore:
		d.stored(a, ok)
	case !ok && a.gone > 0:
		d.numbers = nil
	case !ok:
	case a.verb == verbUnselect:
		d.box = mailbox{}
		d.unmark()
	case a.verb == verbClose: // tells nothing of what has gone: ranges are taken at their word, up to as many as there were
		d.say(d.marked(b.exists))
		d.box = mailbox{}
		d.unmark()
	case a.verb == verbDelete && a.name != 0:
		d.done = append(d.done, Deletes{Mailbox: a.name, Folder: true})
	case a.verb == verbMove && a.uid:
		d.say(Deletes{UIDs: a.set, Most: a.set.most(a.gone)})
		d.without(a.set, a.gone)
	case a.verb == verbMove:
		d.say(Deletes{UIDs: Spans{{1, b.top()}}, Most: a.set.most(a.gone)})
		d.unmark() // those may be among them
	case a.verb == verbExpunge && a.uid: // what is in the set and not marked stays
		x := Deletes{UIDs: d.uids.Both(a.set), Marked: a.set}
		x.Most = min(x.UIDs.most(a.gone), d.most)
		d.say(x)
		d.without(a.set, a.gone)
		d.numbers = nil
	case a.verb == verbExpunge:
		d.say(d.marked(a.gone))
		d.unmark()
	}
}

// marked is what this client has marked, of which n messages have gone.
func (d *deleting) marked(n uint32) Deletes {
	x := Deletes{UIDs: d.uids, Marked: Spans{{1, math.MaxUint32}}, Most: min(max(d.most, d.numbers.most(n)), n)} // the same may be marked both ways
	if len(d.numbers) > 0 {
		x.UIDs = Spans{{1, d.box.top()}}
	}
	return x
}

// without forgets the marks of messages of a set, of which n have gone.
func (d *deleting) without(set Spans, n uint32) {
	d.most -= min(d.most, d.uids.Both(set).most(n))
	for _, x := range set {
		d.uids = d.uids.Without(x.First, x.Last)
	}
	d.most = d.uids.most(d.most)
}

func (d *deleting) unmark() { d.uids, d.numbers, d.most = nil, nil, 0 }

func (d *deleting) say(x Deletes) {
	b := &d.box
	if x.Mailbox, x.Validity = b.name, b.validity; x.Most == 0 {
		x.UIDs = nil
	}
	if b.name != 0 && b.validity != 0 && !b.readOnly && len(x.UIDs)+len(x.Marked) > 0 {
		d.done = append(d.done, x)
	}
}

// most is the size of the set, or n.
func (s Spans) most(n uint32) uint32 {
	if size := s.Size(); size < uint64(n) {
		return uint32(size)
	}
	return n
}

// cut is the set when the message of a number has gone: those behind it have other numbers.
func (s Spans) cut(n uint32) (out Spans) {
	for _, x := range s {
		if x.First > n {
			x.First--
		}
		if x.Last >= n {
			x.Last--
		}
		out = out.Add(x.First, x.Last)
	}
	return out
}

// stored takes the answer to STORE. Flags that were refused may have been set in part: it is not counted on.
func (d *deleting) stored(a *asks, ok bool) {
	marks, other := &d.numbers, &d.uids
	if a.uid {
		marks, other = other, marks
	}
	switch {
	case a.off && (a.void || len(*other) > 0): // the same messages may have been marked the other way
		d.unmark()
	case a.off:
		for _, x := range a.set {
			*marks = marks.Without(x.First, x.Last)
		}
		d.most = d.uids.most(d.most)
	case !ok || a.void:
	default:
		before := d.uids.Size()
		for _, x := range a.set {
			if len(*marks) < maxSpans {
				*marks = marks.Add(x.First, x.Last)
			}
		}
		if added := d.uids.Size() - before; a.uid {
			d.most = uint32(min(uint64(d.most)+added, uint64(max(d.most, d.box.exists))))
		}
	}
}

// maxArguments is how much of a command is read, in bytes.
const maxArguments = 64 << 10

// argument takes bytes behind the word of a command that has to do with deletes, its literals too.
func (t *Tracker) argument(b []byte) {
	if t.del == nil {
		switch t.client.verb {
		case verbSelect, verbExamine, verbDelete:
			t.del = &deleting{}
		default:
			return // nothing is selected
		}
	}
	d := t.del
	if d.long = d.long || len(d.text)+len(b) > maxArguments; !d.long {
		d.text = append(d.text, b...)
	}
}

// forget lets the arguments go of a command that came to nothing.
func (d *deleting) forget() {
	if d != nil {
		d.text, d.long = d.text[:0], false
	}
}

// asked reads the arguments of a complete command. nil means that it has nothing to do with deletes.
func (t *Tracker) asked(l *clientLex) *asks {
	d := t.del
	if d == nil || l.verb == verbNone {
		return nil
	}
	text, long := d.text, d.long
	if d.forget(); cap(d.text) > 128 {
		d.text = nil // long sets must not stay in memory
	}
	does := 1
	if l.verb == verbStore {
		_, rest, _ := bytes.Cut(text, []byte(" "))
		if does = storeDoes(rest); does == 0 && !long {
			return nil // no memory for what most of them are
		}
	}
	a := &asks{verb: l.verb, uid: l.uid, void: long, off: does < 0 || l.verb == verbStore && long}
	switch l.verb {
	case verbSelect, verbExamine, verbDelete:
		if !long {
			a.name = NameHash(nameArgument(text))
		}
		return a
	case verbStore, verbMove:
		set, _, _ := bytes.Cut(text, []byte(" "))
		t.readSet(a, set)
		return a
	case verbExpunge:
		if l.uid {
			t.readSet(a, bytes.TrimRight(text, " \r\n"))
		}
		return a
	}
	return a
}

// storeDoes reads what stands behind the set of a STORE (RFC 9051, section 6.4.6): 1 marks as deleted, -1 takes that off or may do,
// 0 does nothing of the kind.
func storeDoes(b []byte) int {
	item, flags, _ := bytes.Cut(bytes.TrimRight(b, "\r\n"), []byte(" "))
	deleted := false
	for more := true; more && !deleted; {
		var flag []byte
		flag, flags, more = bytes.Cut(flags, []byte(" "))
		deleted = bytes.EqualFold(bytes.Trim(flag, "()"), []byte(`\Deleted`))
	}
	if n := len(item) - len(".SILENT"); n > 0 && bytes.EqualFold(item[n:], []byte(".SILENT")) {
		item = item[:n]
	}
	add, set := bytes.EqualFold(item, []byte("+FLAGS")), bytes.EqualFold(item, []byte("FLAGS"))
	switch {
	case deleted && (add || set):
		return 1
	case !deleted && (add || bytes.EqualFold(item, []byte("-FLAGS"))):
		return 0
	}
	return -1 // also with UNCHANGEDSINCE (RFC 7162, section 3.1.3): nobody knows which were stored
}

// readSet reads a set of UIDs or numbers, of messages that there can be now. A part of it is true as well, but not of what takes
// marks off.
func (t *Tracker) readSet(a *asks, text []byte) {
	for _, p := range t.out {
		if p.asks != nil && (p.asks.verb == verbSelect || p.asks.verb == verbExamine) {
			a.void = true // of another mailbox, of which nothing is known yet
			return
		}
	}
	top := t.del.box.exists
	if a.uid {
		top = t.del.box.top()
	}
	err := ParseSet(text, func(first, last uint32) error {
		switch {
		case first == 0, last == 0 && first > top, len(a.set) == maxSpans: // "*" alone is any one
			a.void = a.void || a.off
			return nil
		case last == 0, !a.uid && last > top:
			last = top
		}
		a.set = a.set.Add(first, last)
		return nil
	})
	if a.void = a.void || err != nil; a.void {
		a.set = nil
	}
}

// selecting is the command that selects a mailbox, when its answer is next.
func (t *Tracker) selecting() bool {
	return len(t.out) > 0 && t.out[0].asks != nil && (t.out[0].asks.verb == verbSelect || t.out[0].asks.verb == verbExamine)
}

// behind takes what stands behind the first word of a response, or behind the tag.
func (d *deleting) behind(l *serverLex, b []byte) {
	switch {
	case d == nil:
	case l.status || l.phase == serverTagged:
		d.headLen += copy(d.head[d.headLen:], b)
	case l.tells && len(d.vanished) < maxArguments:
		d.vanished = append(d.vanished, b...)
	}
}

// mayCount tells whether a line may be EXISTS or EXPUNGE: FETCH, which most lines are, ends otherwise.
func (l *literalTail) mayCount() bool {
	n := l.n
	if n > 0 && l.b[n-1] == '\r' {
		n--
	}
	return n > 0 && n < len(l.b) && (upper(l.b[n-1]) == 'S' || upper(l.b[n-1]) == 'E')
}

// told takes a complete untagged response about numbers of messages: EXISTS, EXPUNGE, VANISHED (RFC 9051, section 7.4; RFC 7162).
func (t *Tracker) told(l *serverLex) {
	d := t.del
	b := &d.box
	if t.selecting() {
		b = &d.next
	}
	if l.word[0] == 'V' {
		set := bytes.TrimRight(d.vanished, "\r")
		if d.vanished = d.vanished[:0]; cap(d.vanished) > 128 {
			d.vanished = nil
		}
		var n uint64
		err := ParseSet(set, func(first, last uint32) error { // EARLIER is no set: that was not now
			n += uint64(last) - uint64(first) + 1
			return nil
		})
		if err == nil && n <= uint64(b.exists) && len(set) < maxArguments {
			b.exists -= uint32(n)
			if !t.went(uint32(n)) {
				d.numbers = nil // nobody knows which of them
			}
		}
		return
	}
	line, whole := bytes.CutPrefix(bytes.TrimRight(l.tail.b[:l.tail.n], "\r"), []byte("* "))
	if !whole || l.tail.n == len(l.tail.b) {
		return // longer than any of these
	}
	digits, word, _ := bytes.Cut(line, []byte(" "))
	n, err := strconv.ParseUint(string(digits), 10, 32)
	switch {
	case err != nil:
	case bytes.EqualFold(word, []byte("EXISTS")):
		if b != &d.next && b.next > 0 && uint32(n) > b.exists {
			b.next += uint32(n) - b.exists // each has a UID above those before it
		}
		b.exists = uint32(n)
	case bytes.EqualFold(word, []byte("EXPUNGE")):
		if b.exists > 0 {
			b.exists--
		}
		if !t.went(1) {
			d.numbers = d.numbers.cut(uint32(n))
		}
	}
}

// went notes that n messages have gone: to the command that is answered now, when it is one that asks for that. Otherwise somebody
// else has deleted them. It tells whether marks by number go with it.
func (t *Tracker) went(n uint32) bool {
	if len(t.out) == 0 || t.out[0].asks == nil {
		return false
	}
	a := t.out[0].asks
	if a.verb == verbExpunge || a.verb == verbMove {
		a.gone += n
	}
	return a.verb == verbExpunge
}

// code takes the response code of an untagged OK that tells of the mailbox that is being selected.
func (t *Tracker) code() {
	d := t.del
	defer func() { d.headLen = 0 }()
	if !t.selecting() {
		return
	}
	for _, c := range []struct {
		name string
		to   *uint32
	}{{"[UIDVALIDITY ", &d.next.validity}, {"[UIDNEXT ", &d.next.next}} {
		if b := d.head[:d.headLen]; len(b) > len(c.name) && bytes.EqualFold(b[:len(c.name)], []byte(c.name)) {
			digits, _, _ := bytes.Cut(b[len(c.name):], []byte("]"))
			n, _ := strconv.ParseUint(string(digits), 10, 32)
			*c.to = uint32(n)
		}
	}
}

// nameArgument reads the name of a mailbox: an atom, a quoted string or a literal with its header.
func nameArgument(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); len(b) > 0 && b[0] == '{' && i >= 0 {
		if size, _, ok := parseLiteral(bytes.TrimRight(b[:i], "\r")); ok && uint64(len(b)-i-1) >= size {
			return b[i+1:][:size]
		}
		return nil
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 || b[0] != '"' {
		b, _, _ = bytes.Cut(b, []byte(" "))
		return b
	}
	var out []byte
	for i := 1; i < len(b) && b[i] != '"'; i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return out
}

// NameHash is a hash of a mailbox's name as it stands on the wire. INBOX is the same in any case (RFC 9051, section 5.1). 0 is no
// name's.
func NameHash[T string | []byte](name T) uint64 {
	if len(name) == 0 {
		return 0
	}
	h := uint64(fnvOffset)
	inbox := len(name) == 5
	for i := 0; i < len(name); i++ {
		inbox = inbox && upper(name[i]) == "INBOX"[i]
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if inbox {
			c = upper(c)
		}
		h = hashByte(h, c)
	}
	return max(h, 1)
}
