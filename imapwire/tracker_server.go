package imapwire

import "bytes"

// serverLex is the server's direction: responses and their literals.
type serverLex struct {
	phase   serverPhase
	literal uint64 // bytes of the literal still to come
	tag     uint64
	word    [10]byte
	wordLen int
	status  bool // a response that ends with text or atoms, which may look like a literal and are none
	bad     bool // an untagged BAD
	tells   bool // of messages or mailboxes
	tail    literalTail
	held    []byte // the beginning of what may be, or is, a line with capabilities
}

type serverPhase uint8

const (
	serverStart    serverPhase = iota // at the start of a response
	serverTag                         // in the tag of a tagged response
	serverTagged                      // behind it
	serverWord                        // in the word behind "* "
	serverContinue                    // in a continuation request
	serverData                        // in the rest of an untagged response
)

func (l *serverLex) atStart() bool {
	return l.phase == serverStart && l.literal == 0 && len(l.held) == 0
}

// maxCapability bounds a line with capabilities; a longer one is passed as it is.
const maxCapability = 16 << 10

// Server takes bytes that the server sent and returns what the client gets: b itself, but for capabilities.
// The result is valid until b is.
func (t *Tracker) Server(b []byte) []byte {
	l := &t.server
	if len(l.held) > 0 {
		b = append(l.held, b...)
		l.held = nil
	}
	var out []byte // set once something was rewritten
	from := 0      // what of b is not yet in out
	for i := 0; i < len(b); {
		if l.literal > 0 {
			n := min(uint64(len(b)-i), l.literal)
			l.literal -= n
			i += int(n)
			continue
		}
		if l.phase == serverStart {
			line, list, hold := capabilityLine(b[i:])
			if hold {
				l.held = append([]byte(nil), b[i:]...)
				return result(out, b[from:i])
			}
			if line > 0 {
				out = append(out, b[from:i]...)
				out = append(out, filterLine(b[i:i+line], list)...)
				i += t.serverBytes(b[i : i+line])
				from = i
				continue
			}
		}
		i += t.serverBytes(b[i:])
	}
	return result(out, b[from:])
}

func result(out, rest []byte) []byte {
	if out == nil {
		return rest
	}
	return append(out, rest...)
}

// Flush returns what Server held back, when the server has closed.
func (t *Tracker) Flush() []byte {
	b := t.server.held
	t.server.held = nil
	return b
}

// capabilityLine tells how long a line at the start of b is that lists capabilities, and where in it the list stands:
// "* CAPABILITY ...", "* OK [CAPABILITY ...] text", "tag OK [CAPABILITY ...] text" (RFC 9051, sections 7.2.2 and 7.1).
// hold means that more bytes must tell.
func capabilityLine(b []byte) (length int, list [2]int, hold bool) {
	end := bytes.IndexByte(b, '\n')
	line := b
	if end >= 0 {
		line = b[:end+1]
	}
	space := bytes.IndexByte(line, ' ')
	if space < 0 {
		return 0, list, end < 0 && len(line) <= maxTag && line[0] != '+'
	}
	if space > maxTag || len(line) > maxCapability || line[0] == '*' && space != 1 {
		return 0, list, false
	}
	rest := line[space+1:]
	prefix, closing := "OK [CAPABILITY ", byte(']')
	if line[0] == '*' && len(rest) > 0 && upper(rest[0]) == 'C' {
		prefix, closing = "CAPABILITY ", '\n'
	}
	n := min(len(rest), len(prefix))
	if line[0] == '+' || !bytes.EqualFold(rest[:n], []byte(prefix[:n])) {
		return 0, list, false
	}
	if end < 0 {
		return 0, list, len(b) < maxCapability
	}
	list[0] = space + 1 + len(prefix)
	stop := bytes.IndexByte(line[min(list[0], len(line)):], closing)
	if n < len(prefix) || stop < 0 {
		return 0, list, false
	}
	list[1] = list[0] + stop
	for list[1] > list[0] && line[list[1]-1] == '\r' {
		list[1]--
	}
	return len(line), list, false
}

// maxTag is the longest tag behind which capabilities are looked for.
const maxTag = 80

func filterLine(line []byte, list [2]int) []byte {
	caps := bytes.Join(Offerable(bytes.Fields(line[list[0]:list[1]])), []byte(" "))
	return append(append(append([]byte(nil), line[:list[0]]...), caps...), line[list[1]:]...)
}

// serverBytes takes bytes up to the end of a line or of b, outside literals.
func (t *Tracker) serverBytes(b []byte) (n int) {
	l := &t.server
	for ; n < len(b) && b[n] != '\n'; n++ {
		c := b[n]
		switch l.phase {
		case serverStart:
			switch c {
			case '*':
				l.phase, l.wordLen, l.status = serverWord, 0, false
			case '+':
				l.phase = serverContinue
			default:
				l.phase, l.tag = serverTag, hashByte(fnvOffset, c)
			}
		case serverTag:
			if c == ' ' {
				l.phase = serverTagged
			} else if c != '\r' {
				l.tag = hashByte(l.tag, c)
			}
		case serverWord:
			if c == ' ' && l.wordLen == 0 {
				break
			}
			if c == ' ' || c == '\r' {
				l.endWord(t)
			} else if l.wordLen < len(l.word) {
				l.word[l.wordLen] = upper(c)
				l.wordLen++
			}
		default:
			end := bytes.IndexByte(b[n:], '\n')
			if end < 0 {
				end = len(b) - n
			}
			l.tail.add(b[n : n+end])
			if l.status || l.phase == serverTagged || l.word[0] == 'V' {
				t.del.behind(l, b[n:n+end])
			}
			n += end - 1
			continue
		}
		l.tail.add(b[n : n+1])
	}
	if n == len(b) {
		return n
	}
	t.serverLineEnd()
	return n + 1
}

func (l *serverLex) endWord(t *Tracker) {
	l.phase = serverData
	switch string(l.word[:l.wordLen]) {
	case "BYE":
		l.status, t.bye = true, true
	case "BAD":
		l.status, l.bad = true, true
	case "OK", "NO", "PREAUTH", "CAPABILITY":
		l.status = true
	case "VANISHED", "STATUS", "LIST":
		l.tells = true
	default:
		l.tells = l.wordLen > 0 && l.word[0] >= '0' && l.word[0] <= '9' // of EXISTS, EXPUNGE, FETCH
	}
}

func (t *Tracker) serverLineEnd() {
	l := &t.server
	if l.phase == serverWord {
		l.endWord(t)
	}
	phase, status := l.phase, l.status
	size, _, literal := l.tail.literal()
	switch {
	case t.del == nil:
	case l.tells && (l.word[0] == 'V' || l.word[0] <= '9' && l.tail.mayCount()):
		t.told(l)
	case phase == serverData && status:
		t.code()
	}
	l.tail.n = 0
	if l.tells {
		l.tells = false
		t.unasked()
	}
	switch {
	case phase == serverData && !status && literal:
		l.literal = size // the response goes on behind it
		return
	case l.bad:
		t.untaggedBad()
	case phase == serverContinue:
		t.continued()
	case phase == serverTag || phase == serverTagged:
		t.answered(l.tag)
	}
	l.phase, l.status, l.bad = serverStart, false, false
}
