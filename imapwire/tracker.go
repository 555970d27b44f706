package imapwire

import (
	"bytes"
	"slices"
)

// Tracker follows both directions of an IMAP session without holding its bytes: lines, literals, commands without their
// tagged answer, IDLE. So a session can end between two commands, and an APPEND is never cut. It is not safe for
// concurrent use; the owner of the session locks around each call.
//
// Two things it does change, both small: the words COMPRESS, STARTTLS, LOGIN, AUTHENTICATE and UNAUTHENTICATE of a
// client's command are spoilt by one letter, so that the backend itself refuses what a spliced session cannot carry,
// and the capabilities of that kind are taken out of CAPABILITY responses and response codes.
type Tracker struct {
	out    []pending // commands without a tagged answer, oldest first
	client clientLex
	server serverLex

	bye     bool      // the server has said BYE
	writes  uint64    // commands answered that do more than read
	changes uint64    // see Changes
	del     *deleting // see TakeDeletes; nil until a mailbox is selected or deleted
}

// maxPending is how many commands may wait for their answers before no more are passed on. It bounds the memory of a
// session whose client pipelines and whose server does not answer.
const maxPending = 1 << 14

// pending is a command that has been passed on and not answered. The tag is kept as a hash: two tags that collide
// would have to be chosen by the client, who would only mislead himself.
type pending struct {
	tag    uint64
	kind   kind
	effect effect
	asks   *asks // what has to do with deletes, nil for nothing
}

type kind uint8

const (
	kindOther kind = iota
	kindRead       // reads only: may be cut between two responses
	kindIdle       // IDLE, until DONE is passed on
	kindOdd        // its tag is none: the server answers it with an untagged BAD, or not at all
)

// Bye tells whether the server has announced the end of the session.
func (t *Tracker) Bye() bool { return t.bye }

// Writes is the number of commands answered so far that do more than read. While it rises with bytes that the client
// has not got yet, he does not know of the answer.
func (t *Tracker) Writes() uint64 { return t.writes }

// Boundary tells whether the session can end here: no command waits for its answer (IDLE does not count), and neither
// side is within a literal or a response. A command line that has begun and holds no literal yet has done nothing.
func (t *Tracker) Boundary() bool { return t.between(kindIdle) }

// ReadsOnly is Boundary, but with commands under way that only read.
func (t *Tracker) ReadsOnly() bool { return t.between(kindRead) }

// ReadsPending tells whether all commands under way only read, wherever the server is in its answer.
func (t *Tracker) ReadsPending() bool { return !t.client.literals && t.only(kindRead) }

func (t *Tracker) between(k kind) bool {
	return t.server.atStart() && !t.client.literals && t.only(k)
}

func (t *Tracker) only(k kind) bool {
	for _, p := range t.out {
		if p.kind != kindIdle && p.kind != k {
			return false
		}
	}
	return true
}

// Idling tells whether an IDLE command is under way whose DONE has not been passed on.
func (t *Tracker) Idling() bool { return t.client.idle }

// ServerAtStart tells whether the server is between two responses, so that an own line may be put in.
func (t *Tracker) ServerAtStart() bool { return t.server.atStart() }

// Outstanding is the number of commands without their tagged answer.
func (t *Tracker) Outstanding() int { return len(t.out) }

func (t *Tracker) begin(p pending) { t.out = append(t.out, p) }

// answered takes the oldest command with this tag off the list.
func (t *Tracker) answered(tag uint64) {
	l := &t.client
	if t.del != nil {
		defer func() { t.del.headLen = 0 }()
	}
	for i, p := range t.out {
		if p.tag != tag {
			continue
		}
		switch p.kind {
		case kindIdle: // refused, or ended by the server: no DONE is due
			l.idle, l.wait = false, false
		case kindOther:
			t.writes++
		}
		if p.effect == effectChange {
			t.changes++
		}
		if p.asks != nil {
			t.del.answeredTo(p.asks, bytes.EqualFold(t.del.head[:min(t.del.headLen, 2)], []byte("OK")))
		}
		t.drop(i)
		return
	}
	if l.literals && tag == l.tag {
		if l.wait { // the literal was refused: what follows is a new command
			l.reset()
			t.del.forget()
		} else { // the answer came before the end of a LITERAL+: the command is over when its bytes are
			l.early = true
		}
	}
}

func (t *Tracker) drop(i int) {
	t.out = slices.Delete(t.out, i, i+1)
	if len(t.out) == 0 && cap(t.out) > 16 {
		t.out = nil // a burst of pipelining must not stay in memory
	}
}

// untaggedBad takes the oldest command with an odd tag off the list: a server that finds no tag has none to answer
// with (RFC 9051, section 7.1.3).
func (t *Tracker) untaggedBad() {
	for i, p := range t.out {
		if p.kind == kindOdd {
			t.drop(i)
			return
		}
	}
}

// continued is the server's "+": the literal may come, or the server idles.
func (t *Tracker) continued() { t.client.wait = false }

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hashByte(h uint64, c byte) uint64 { return (h ^ uint64(c)) * fnvPrime }

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}

// literalTail keeps the last bytes of a line, to see whether it ends with a literal's header.
type literalTail struct {
	b [24]byte
	n int
}

func (l *literalTail) add(p []byte) {
	if len(p) >= len(l.b) {
		l.n = copy(l.b[:], p[len(p)-len(l.b):])
		return
	}
	if over := l.n + len(p) - len(l.b); over > 0 {
		l.n = copy(l.b[:], l.b[over:l.n])
	}
	l.n += copy(l.b[l.n:], p)
}

// literal reads "{123}", "{123+}" (and "~{123}") at the end of the line. RFC 9051, section 4.3; RFC 7888; RFC 3516.
func (l *literalTail) literal() (size uint64, sync, ok bool) {
	b := l.b[:l.n]
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	return parseLiteral(b)
}

// parseLiteral reads a literal's header at the end of b. Sizes above 2^63-1 are no literals.
func parseLiteral(b []byte) (size uint64, sync, ok bool) {
	i := len(b) - 1
	if i < 2 || b[i] != '}' {
		return 0, false, false
	}
	i--
	sync = true
	if b[i] == '+' {
		sync = false
		i--
	}
	var scale uint64 = 1
	digits := 0
	for ; i >= 0 && b[i] >= '0' && b[i] <= '9'; i-- {
		if digits++; digits > 18 {
			return 0, false, false
		}
		size += uint64(b[i]-'0') * scale
		scale *= 10
	}
	if digits == 0 || i < 0 || b[i] != '{' {
		return 0, false, false
	}
	return size, sync, true
}

// ClientAtStart tells whether no part of a client's line has been passed on that is not complete, so that an own line
// may be put in towards the server.
func (t *Tracker) ClientAtStart() bool { return !t.client.begun && !t.client.literals }
