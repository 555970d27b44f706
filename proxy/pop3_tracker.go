package proxy

import (
	"bytes"
	"math"

	"mailgate/imapwire"
)

// popTracker follows both directions of a POP3 session in the TRANSACTION state (RFC 1939, section 5) without holding its bytes:
// commands without their answer, multi-line answers, messages that are marked as deleted. Those marks count at QUIT only, so a session
// that has some is never ended by us, and is let on to its QUIT while it is asked to end. It is not safe for concurrent use.
//
// One thing it changes: the words STLS, AUTH, USER, PASS, APOP, XCLIENT and UTF8, which have no place in this state, are spoilt by one
// letter, so that the backend itself refuses what a spliced session cannot carry.
type popTracker struct {
	out    []popPending // commands without their answer, oldest first
	client popLine
	server popAnswer

	deleted int    // messages marked by DELE
	seen    bool   // a message was read: the server may note that
	bye     bool   // QUIT was answered, or the server spoke unasked: its last words
	gone    uint32 // messages that QUIT has deleted
	writes  uint64 // commands answered that do more than read
	changes uint64
}

// maxPopPending is how many commands may wait for their answers before no more are passed on.
const maxPopPending = 1 << 12

// popPending is a command that has been passed on.
type popPending struct {
	kind  popKind
	multi bool // its +OK is followed by lines up to a dot
}

type popKind uint8

const (
	popOther popKind = iota
	popRead          // changes nothing: STAT, LIST, UIDL, NOOP, CAPA, LANG, LAST
	popMail          // the same, but the server may mark the message as seen: RETR, TOP
	popDele
	popRset
	popQuit
)

// popLine is what is known of the client's line so far.
type popLine struct {
	word [8]byte
	n    int  // length of the word
	more bool // the word is over
	args bool
	any  bool // the line has begun
}

// popAnswer is where the server is in its answer.
type popAnswer struct {
	state popState
	first byte // of the status line
	cr    bool // the last byte was a CR
}

type popState uint8

const (
	popStatus   popState = iota // at the start of a status line
	popInStatus                 // within it
	popBodyLine                 // at the start of a line of a multi-line answer
	popBodyDot                  // behind a dot there
	popInBody
)

// spoilt are the words that are not passed on as they are.
func spoilt(word []byte) bool {
	switch string(word) { // no allocation
	case "STLS", "AUTH", "USER", "PASS", "APOP", "UTF8", "XCLIENT":
		return true
	}
	return false
}

// Client implements boundary.
func (t *popTracker) Client(b []byte, stop bool) int {
	l := &t.client
	for i, c := range b {
		if !l.any && (stop && !t.uncommitted() || len(t.out) >= maxPopPending) {
			return i
		}
		l.any = true
		switch {
		case c == '\n':
			t.begin()
			*l = popLine{}
		case c == ' ' || c == '\t' || c == '\r':
			l.more = l.more || l.n > 0
		case l.more:
			l.args = true
		case l.n < len(l.word):
			if c >= 'a' && c <= 'z' {
				c -= 'a' - 'A'
			}
			l.word[l.n] = c
			l.n++
			if spoilt(l.word[:l.n]) {
				b[i] = 'X'
			}
		default:
			l.word[0] = 0 // longer than any that we know
		}
	}
	return len(b)
}

// uncommitted tells whether messages are marked as deleted, or are about to be.
func (t *popTracker) uncommitted() bool {
	if t.deleted > 0 {
		return true
	}
	for _, p := range t.out {
		if p.kind == popDele {
			return true
		}
	}
	return false
}

// begin notes a command that is complete.
func (t *popTracker) begin() {
	l := &t.client
	p := popPending{kind: popOther}
	switch string(l.word[:l.n]) {
	case "STAT", "NOOP", "LAST":
		p.kind = popRead
	case "CAPA":
		p = popPending{popRead, true}
	case "LIST", "UIDL", "LANG":
		p = popPending{popRead, !l.args}
	case "RETR", "TOP":
		p = popPending{popMail, true}
	case "DELE":
		p.kind = popDele
	case "RSET":
		p.kind = popRset
	case "QUIT":
		p.kind = popQuit
	}
	t.out = append(t.out, p)
}

// Server implements boundary. Nothing is held back.
func (t *popTracker) Server(b []byte) []byte {
	s := &t.server
	for rest := b; len(rest) > 0; {
		switch s.state {
		case popStatus:
			s.first, s.state = rest[0], popInStatus
		case popInStatus:
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				return b
			}
			rest = rest[i+1:]
			t.status()
		case popBodyLine:
			s.cr = false
			if s.state = popInBody; rest[0] == '.' {
				s.state, rest = popBodyDot, rest[1:]
			}
		case popBodyDot:
			switch {
			case !s.cr && rest[0] == '\r':
				s.cr, rest = true, rest[1:]
			case s.cr && rest[0] == '\n':
				rest = rest[1:]
				t.answered(true)
			default:
				s.state = popInBody
			}
		case popInBody:
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				s.cr = rest[len(rest)-1] == '\r'
				return b
			}
			if i > 0 {
				s.cr = rest[i-1] == '\r'
			}
			if s.cr { // only CRLF ends a line
				s.state = popBodyLine
			}
			s.cr, rest = false, rest[i+1:]
		}
	}
	return b
}

// status is the end of a status line.
func (t *popTracker) status() {
	s := &t.server
	ok := s.first == '+'
	switch {
	case len(t.out) == 0: // "-ERR Disconnected for inactivity", most likely
		t.bye, s.state = true, popStatus
	case ok && t.out[0].multi:
		s.state = popBodyLine
	default:
		t.answered(ok)
	}
}

// answered takes the oldest command off the list.
func (t *popTracker) answered(ok bool) {
	p := t.out[0]
	t.server = popAnswer{}
	if t.out = append(t.out[:0], t.out[1:]...); len(t.out) == 0 && cap(t.out) > 16 {
		t.out = nil // a burst of pipelining must not stay in memory
	}
	switch p.kind {
	case popRead:
		return
	case popMail:
		t.seen = t.seen || ok
		return
	case popDele:
		if ok {
			t.deleted++
		}
	case popRset:
		if ok {
			t.deleted = 0
		}
	case popQuit:
		if t.deleted > 0 || t.seen {
			t.changes++
		}
		if ok {
			t.gone = uint32(t.deleted)
		}
		t.deleted, t.seen, t.bye = 0, false, true
	}
	t.writes++
}

// Flush implements boundary.
func (t *popTracker) Flush() []byte { return nil }

// only tells whether nothing under way does more than read.
func (t *popTracker) only() bool {
	for _, p := range t.out {
		if p.kind != popRead && p.kind != popMail {
			return false
		}
	}
	return true
}

// atStart tells whether the server is between two answers.
func (t *popTracker) atStart() bool { return t.server.state == popStatus }

// Boundary implements boundary: a session may end where no command is under way and no message is marked as deleted.
func (t *popTracker) Boundary() bool { return t.atStart() && len(t.out) == 0 && t.deleted == 0 }

// ReadsOnly implements boundary.
func (t *popTracker) ReadsOnly() bool { return t.atStart() && t.ReadsPending() }

// ReadsPending implements boundary.
func (t *popTracker) ReadsPending() bool { return t.deleted == 0 && t.only() }

// Answering implements boundary.
func (t *popTracker) Answering() bool { return len(t.out) > 0 && !t.client.any }

// Writes implements boundary.
func (t *popTracker) Writes() uint64 { return t.writes }

// Changes implements boundary: it rises at QUIT.
func (t *popTracker) Changes() uint64 { return t.changes }

// ChangesPending implements boundary.
func (t *popTracker) ChangesPending() bool {
	if t.seen { // a session that ends without QUIT deletes nothing, and may note what was read
		return true
	}
	for _, p := range t.out {
		if p.kind == popQuit && t.deleted > 0 || p.kind == popMail {
			return true
		}
	}
	return false
}

// TakeDeletes implements boundary: POP3 is of INBOX, and knows neither UIDs nor UIDVALIDITY.
func (t *popTracker) TakeDeletes() []imapwire.Deletes {
	if t.gone == 0 {
		return nil
	}
	d := imapwire.Deletes{Mailbox: imapwire.NameHash("INBOX"), UIDs: imapwire.Spans{{First: 1, Last: math.MaxUint32}}, Most: t.gone}
	t.gone = 0
	return []imapwire.Deletes{d}
}

// ByeLine implements boundary. A client that has a command under way takes it for its answer, which it is.
func (t *popTracker) ByeLine(text string) string {
	if t.bye || !t.atStart() {
		return ""
	}
	return "-ERR [SYS/TEMP] " + text + "\r\n"
}

// Leave implements boundary. QUIT would make marks count whose client did not say so.
func (t *popTracker) Leave() string {
	if t.bye || t.client.any || t.deleted > 0 || t.seen {
		return ""
	}
	for _, p := range t.out {
		if p.kind != popRead {
			return ""
		}
	}
	return "QUIT\r\n"
}
