package proxy

import (
	"strings"

	"mailgate/imapwire"
)

// sieveTracker follows both directions of a ManageSieve session (RFC 5804) behind its login, without holding its bytes: commands without
// their answer, literals. It is not safe for concurrent use.
//
// One thing it changes: the words STARTTLS, AUTHENTICATE, UNAUTHENTICATE and XCLIENT of a command, and literals that wait ("{5}"), are spoilt by one
// letter, so that the backend itself refuses what a spliced session cannot carry.
type sieveTracker struct {
	out    []sieveKind // commands without their answer, oldest first
	client sieveLex
	server sieveLex
	bye    bool   // the server has said BYE, or answered LOGOUT
	writes uint64 // commands answered that do more than read
	change uint64 // ... and may have changed a script
}

// maxSievePending is how many commands may wait for their answers before no more are passed on.
const maxSievePending = 1 << 10

type sieveKind uint8

const (
	sieveOther sieveKind = iota // its OK may mean that scripts are other than before
	sieveRead
	sieveLogout
)

// sieveLex follows lines and literals. A line is over at its LF, where no literal is announced.
type sieveLex struct {
	word    [16]byte // the first word, in upper case
	n       int      // its length; more than fits is no word that we know
	begun   bool     // the line has begun
	worded  bool     // its first word is over
	quoted  bool
	escaped bool
	head    sieveHead
	size    uint64 // of the literal that head announces
	left    uint64 // bytes of a literal still to come
	literal bool   // the line has had one
}

// sieveHead is where the announcement of a literal is: {123+} before the end of the line.
type sieveHead uint8

const (
	headNone  sieveHead = iota
	headOpen            // {
	headDigit           // {1
	headPlus            // {1+
	headClose           // {1+}
)

// maxSieveLiteral is more than anybody sends: a literal that claims more is none.
const maxSieveLiteral = 1 << 40

// byte takes one byte that is in no literal; over tells that the line is.
func (l *sieveLex) byte(c byte) (over bool) {
	l.begun = true
	if c == '\n' {
		announced := l.head == headClose
		l.quoted, l.escaped, l.head = false, false, headNone // a quoted string holds no line end
		if announced {
			l.left, l.literal = l.size, true
			return false
		}
		return true
	}
	switch {
	case l.quoted:
		switch {
		case l.escaped:
			l.escaped = false
		case c == '\\':
			l.escaped = true
		case c == '"':
			l.quoted = false
		}
		return false
	case c == '"':
		l.quoted, l.worded, l.head = true, true, headNone
		return false
	}
	l.announce(c)
	switch {
	case l.worded:
	case c == ' ' || c == '\t' || c == '\r' || c == '(' || c == '{':
		l.worded = l.n > 0 || c == '{' || c == '('
	default:
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		if l.n < len(l.word) {
			l.word[l.n] = c
		}
		l.n = min(l.n+1, len(l.word)+1)
	}
	return false
}

// announce follows the head of a literal.
func (l *sieveLex) announce(c byte) {
	switch {
	case c == '{':
		l.head, l.size = headOpen, 0
	case c >= '0' && c <= '9' && (l.head == headOpen || l.head == headDigit) && l.size < maxSieveLiteral:
		l.head, l.size = headDigit, l.size*10+uint64(c-'0')
	case c == '+' && l.head == headDigit:
		l.head = headPlus
	case c == '}' && (l.head == headDigit || l.head == headPlus):
		l.head = headClose
	case c == '\r' && l.head == headClose:
	default:
		l.head = headNone
	}
}

// first is the word of the line.
func (l *sieveLex) first() string {
	if l.n > len(l.word) {
		return ""
	}
	return string(l.word[:l.n])
}

// skip passes over what is of a literal.
func (l *sieveLex) skip(b []byte) int {
	n := min(uint64(len(b)), l.left)
	l.left -= n
	return int(n)
}

// Client implements boundary.
func (t *sieveTracker) Client(b []byte, stop bool) int {
	l := &t.client
	for i := 0; i < len(b); {
		if l.left > 0 {
			i += l.skip(b[i:])
			continue
		}
		if !l.begun && (stop || len(t.out) >= maxSievePending) {
			return i
		}
		if b[i] == '}' && l.head == headDigit && !l.quoted {
			b[i] = 'X' // "{5}" is no literal of a client (RFC 5804, section 4), and servers differ in what they make of it
		}
		worded := l.worded
		if l.byte(b[i]) {
			t.begin()
			*l = sieveLex{}
		} else if !worded && !l.quoted {
			switch l.first() {
			case "STARTTLS", "AUTHENTICATE", "UNAUTHENTICATE", "XCLIENT":
				b[i] = 'X'
				l.word[0] = 0
			}
		}
		i++
	}
	return len(b)
}

// begin notes a command that is complete. An empty line is none.
func (t *sieveTracker) begin() {
	l := &t.client
	k := sieveOther
	switch l.first() {
	case "":
		if !l.worded && l.n == 0 {
			return
		}
	case "CAPABILITY", "LISTSCRIPTS", "GETSCRIPT", "CHECKSCRIPT", "HAVESPACE", "NOOP":
		k = sieveRead
	case "LOGOUT":
		k = sieveLogout
	}
	t.out = append(t.out, k)
}

// Server implements boundary. Nothing is held back.
func (t *sieveTracker) Server(b []byte) []byte {
	l := &t.server
	for i := 0; i < len(b); {
		if l.left > 0 {
			i += l.skip(b[i:])
			continue
		}
		if l.byte(b[i]) {
			t.line(l.first())
			*l = sieveLex{}
		}
		i++
	}
	return b
}

// line is the end of a line of the server, which begins with an atom, or "".
func (t *sieveTracker) line(word string) {
	switch word {
	case "BYE":
		t.bye = true
	case "OK", "NO":
		if len(t.out) == 0 {
			return
		}
		switch t.out[0] {
		case sieveLogout:
			t.bye = true
		case sieveOther:
			t.writes++
			if word == "OK" {
				t.change++
			}
		}
		if t.out = append(t.out[:0], t.out[1:]...); len(t.out) == 0 && cap(t.out) > 64 {
			t.out = nil // a burst of pipelining must not stay in memory
		}
	}
}

// Flush implements boundary.
func (t *sieveTracker) Flush() []byte { return nil }

// atStart tells whether the server is between two lines.
func (t *sieveTracker) atStart() bool { return !t.server.begun && t.server.left == 0 }

// Boundary implements boundary. A command line that has begun and holds no literal has done nothing.
func (t *sieveTracker) Boundary() bool {
	return t.atStart() && len(t.out) == 0 && !t.client.literal
}

// ReadsOnly implements boundary. A line is not always an answer's last, and a script is one literal: half of it is of no use.
func (t *sieveTracker) ReadsOnly() bool { return t.atStart() && t.ReadsPending() }

// ReadsPending implements boundary.
func (t *sieveTracker) ReadsPending() bool {
	for _, k := range t.out {
		if k != sieveRead {
			return false
		}
	}
	return !t.client.literal
}

// Writes implements boundary.
func (t *sieveTracker) Writes() uint64 { return t.writes }

// Changes implements boundary.
func (t *sieveTracker) Changes() uint64 { return t.change }

// ChangesPending implements boundary.
func (t *sieveTracker) ChangesPending() bool {
	for _, k := range t.out {
		if k == sieveOther {
			return true
		}
	}
	return false
}

// TakeDeletes implements boundary: scripts are no mail.
func (t *sieveTracker) TakeDeletes() []imapwire.Deletes { return nil }

// ByeLine implements boundary: BYE may come at any time (RFC 5804, section 1.2).
func (t *sieveTracker) ByeLine(text string) string {
	if t.bye || !t.atStart() {
		return ""
	}
	return "BYE (TRYLATER) \"" + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + "\"\r\n"
}

// Leave implements boundary.
func (t *sieveTracker) Leave() string {
	if t.bye || t.client.begun {
		return ""
	}
	return "LOGOUT\r\n"
}
