package imapwire

import "bytes"

// clientLex is the client's direction: command lines and their literals.
type clientLex struct {
	phase    phase
	wait     bool   // a synchronizing literal was announced, the server has not answered
	literals bool   // the present command has had a literal: it is under way until its end
	idle     bool   // IDLE was passed on: the next line is DONE
	begun    bool   // bytes of the present line have been passed on
	early    bool   // the present command was answered before its end
	literal  uint64 // bytes of the literal still to come
	tag      uint64
	word     [16]byte
	wordLen  int
	kind     kind
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
			i += int(n)
			continue
		}
		if stop && !l.begun && !l.literals && !l.idle {
			return i
		}
		l.begun = true
		if l.idle {
			i += t.done(b[i:])
			continue
		}
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
			l.tail.add(b[i:])
			return len(b)
		}
		l.tail.add(b[i : i+end+1])
		i += end + 1
		t.lineEnd()
	}
	return len(b)
}

// done passes the line that ends IDLE.
func (t *Tracker) done(b []byte) int {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		return len(b)
	}
	t.client.idle = false
	t.client.reset()
	return end + 1
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
		}
	case phaseWord, phaseSub:
		if *c == ' ' || *c == '\r' {
			l.endWord()
			return
		}
		if l.wordLen == len(l.word) {
			l.phase = phaseRest
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
// UNAUTHENTICATE (RFC 8437) would let another user in on this one's route, STARTTLS belongs before login.
func spoilt(word []byte) bool {
	switch string(word) {
	case "COMPRESS", "UNAUTHENTICATE", "STARTTLS":
		return true
	}
	return false
}

// endWord classifies the command.
func (l *clientLex) endWord() {
	word := string(l.word[:l.wordLen])
	if l.phase == phaseWord && word == "UID" {
		l.phase, l.wordLen = phaseSub, 0
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
}

// lineEnd is the end of a line: a literal follows, or the command is complete.
func (t *Tracker) lineEnd() {
	l := &t.client
	if l.phase == phaseWord || l.phase == phaseSub { // LF without CR ends the word too
		l.endWord()
	}
	if size, sync, ok := l.tail.literal(); ok {
		l.literal, l.wait, l.literals, l.begun = size, sync, true, true
		l.tail.n = 0
		l.phase = phaseRest
		return
	}
	over := l.early || l.tag == fnvOffset
	tag, k := l.tag, l.kind
	if string(l.word[:l.wordLen]) == "LOGOUT" {
		t.logout = true
	}
	l.reset()
	if over {
		return // answered already, or an empty line, which is no command
	}
	t.begin(tag, k)
	l.idle = k == kindIdle
}
