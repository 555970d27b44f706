package imapwire

import "bytes"

// clientLex is the client's direction: command lines and their literals.
type clientLex struct {
	phase    phase
	wait     bool   // a synchronizing literal or IDLE was passed on, the server has not answered
	literals bool   // the present command has had a literal: it is under way until its end
	idle     bool   // IDLE was passed on: the next line is DONE
	begun    bool   // bytes of the present line have been passed on
	early    bool   // the present command was answered before its end
	odd      bool   // the tag has a character that no tag has
	quoted   bool   // within a quoted string
	escaped  bool   // behind a backslash within it
	literal  uint64 // bytes of the literal still to come
	tag      uint64
	word     [16]byte
	wordLen  int
	kind     kind
	effect   effect
	fetch    bool // the command is FETCH
	uid      bool // its word stands behind UID
	verb     verb
	tail     literalTail
}

type phase uint8

const (
	phaseTag  phase = iota // in the tag
	phaseWord              // in the command word
	phaseSub               // in the word behind UID
	phaseRest              // behind
)

// reset prepares for a new command.
func (l *clientLex) reset() {
	*l = clientLex{tag: fnvOffset, idle: l.idle}
}

// Client takes bytes that the client sent, and says how many of them may be passed on now. Fewer than all means: stop
// reading and call again with the rest after the server's next bytes (a literal waits for its "+"), or, with stop set,
// that the next command must not be passed on. It may spoil single bytes of b (see Tracker).
func (t *Tracker) Client(b []byte, stop bool) (pass int) {
	l := &t.client
	if l.tag == 0 {
		l.tag = fnvOffset
	}
	for i := 0; i < len(b); {
		if l.wait {
			return i
		}
		if l.literal > 0 {
			n := min(uint64(len(b)-i), l.literal)
			l.literal -= n
			if l.verb != verbNone {
				t.argument(b[i : i+int(n)])
			}
			i += int(n)
			continue
		}
		if (stop || len(t.out) >= maxPending) && !l.begun && !l.literals && !l.idle {
			return i
		}
		l.begun = true
		for i < len(b) && l.phase != phaseRest && b[i] != '\n' {
			l.head(&b[i])
			l.tail.add(b[i : i+1])
			i++
		}
		if i == len(b) {
			return i
		}
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			end = len(b) - i - 1
		}
		part := b[i : i+end+1]
		l.rest(part)
		if l.verb != verbNone {
			t.argument(part)
		}
		if i += len(part); part[end] != '\n' {
			return i
		}
		t.lineEnd()
	}
	return len(b)
}

// rest takes bytes behind the command word, up to the end of the line at most.
func (l *clientLex) rest(b []byte) {
	l.seeing(l.tail.b[:l.tail.n], b)
	l.tail.add(b)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '"')
		if l.quoted {
			i = bytes.IndexAny(b, "\"\\")
		}
		switch {
		case l.escaped:
			l.escaped, i = false, 0
		case i < 0:
			return
		case b[i] == '\\':
			l.escaped = true
		default:
			l.quoted = !l.quoted
		}
		b = b[i+1:]
	}
}

// done is the end of the line that ends IDLE, whatever it says (RFC 2177, section 3). From then on the command is one
// whose tagged answer is due.
func (t *Tracker) done() {
	t.client.idle = false
	t.client.reset()
	for i := range t.out {
		if t.out[i].kind == kindIdle {
			t.out[i].kind = kindOther
		}
	}
}

// head takes one byte of tag or command word.
func (l *clientLex) head(c *byte) {
	switch l.phase {
	case phaseTag:
		if *c == ' ' {
			l.phase = phaseWord
			return
		}
		if *c != '\r' {
			l.tag = hashByte(l.tag, *c)
			l.odd = l.odd || !tagChar(*c)
		}
	case phaseWord, phaseSub:
		if *c == ' ' && l.wordLen == 0 {
			return // a lenient server may skip it
		}
		if *c == ' ' || *c == '\r' {
			l.endWord()
			return
		}
		if l.wordLen == len(l.word) || *c == '"' {
			l.phase, l.quoted = phaseRest, *c == '"'
			return
		}
		l.word[l.wordLen] = upper(*c)
		l.wordLen++
		if l.phase == phaseWord && spoilt(l.word[:l.wordLen]) {
			*c = 'X'
		}
	}
}

// spoilt names the commands that a spliced session cannot carry: COMPRESS (RFC 4978) hides the boundaries,
// UNAUTHENTICATE (RFC 8437), LOGIN and AUTHENTICATE would let another user in on this one's route, STARTTLS belongs
// before login. No server that keeps to RFC 9051, section 6.2, takes the last three in a session.
func spoilt(word []byte) bool {
	switch string(word) {
	case "COMPRESS", "UNAUTHENTICATE", "STARTTLS", "LOGIN", "AUTHENTICATE":
		return true
	}
	return false
}

// endWord classifies the command.
func (l *clientLex) endWord() {
	word := string(l.word[:l.wordLen])
	if l.phase == phaseWord && word == "UID" {
		l.phase, l.wordLen, l.uid = phaseSub, 0, true
		return
	}
	l.phase = phaseRest
	switch word {
	case "FETCH", "SEARCH", "SORT", "THREAD", "NOOP", "CHECK", "STATUS", "LIST", "LSUB", "XLIST", "CAPABILITY", "ID",
		"NAMESPACE", "SELECT", "EXAMINE", "GETQUOTA", "GETQUOTAROOT", "GETACL", "MYRIGHTS", "LISTRIGHTS", "GETMETADATA":
		l.kind = kindRead
	case "IDLE":
		l.kind = kindIdle
	}
	l.effect, l.fetch, l.verb = effectOf(word, l.kind), word == "FETCH", verbOf(word)
}

// lineEnd is the end of a line: a literal follows, or the command is complete, or IDLE is over.
func (t *Tracker) lineEnd() {
	l := &t.client
	if l.idle {
		t.done()
		return
	}
	if l.phase == phaseWord || l.phase == phaseSub { // LF without CR ends the word too
		l.endWord()
	}
	if size, sync, ok := l.tail.literal(); ok && !l.quoted {
		if l.early && sync {
			l.reset() // the command was answered: no "+" comes, and what follows is a new one
			t.del.forget()
			return
		}
		l.literal, l.wait, l.literals, l.begun = size, sync, true, true
		l.tail.n = 0
		l.phase = phaseRest
		return
	}
	over := l.early || l.tag == fnvOffset
	p := pending{tag: l.tag, kind: l.kind, effect: l.effect}
	if l.odd {
		p.kind = kindOdd
	}
	if l.verb != verbNone {
		p.asks = t.asked(l)
	}
	l.reset()
	if over {
		return // answered already, or an empty line, which is no command
	}
	t.begin(p)
	l.idle = p.kind == kindIdle
	l.wait = l.idle // only the answer tells whether the next line is DONE or a command
}
