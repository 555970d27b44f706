package imapwire

import "bytes"

// effect is what a command may mean for the mail itself. It decides nothing about when a session may end: see kind.
type effect uint8

const (
	effectChange effect = iota // its answer may mean that a mailbox is other than before
	effectNone                 // it leaves mailboxes as they are, and what the server says meanwhile may be its result
	effectStill                // it leaves them, and has no result of numbers: what is told meanwhile happened elsewhere
)

// effectOf classifies a command word, in upper case.
func effectOf(word string, k kind) effect {
	switch word {
	case "NOOP", "CHECK", "IDLE":
		return effectStill
	case "LOGOUT", "ENABLE", "NOTIFY", "UNSELECT", "GENURLAUTH", "URLFETCH":
		return effectNone
	}
	if k == kindRead {
		return effectNone
	}
	return effectChange
}

// Changes is the number of signs so far that the user's mailboxes are other than before: answers to commands that do more
// than read, of FETCH too where it marks as read (RFC 9051, section 6.4.5: BODY[ and BINARY[ without PEEK), and what the
// server told of messages or mailboxes (EXISTS, EXPUNGE, FETCH, VANISHED, STATUS, LIST) though no command had asked: with
// nothing under way, or only IDLE, NOOP and CHECK. It errs to the side of one sign too many. Two things give none: FETCH of
// RFC822 and RFC822.TEXT, which mark as read too and which nobody uses any more, and what a server tells of others' doings
// in the middle of its answer to another command.
func (t *Tracker) Changes() uint64 { return t.changes }

// ChangesPending tells whether something has been passed on to the server that may change mailboxes and has no answer yet:
// when the session ends now, nobody hears whether it was done.
func (t *Tracker) ChangesPending() bool {
	if t.client.literals && !t.client.early {
		return true
	}
	for _, p := range t.out {
		if p.effect == effectChange {
			return true
		}
	}
	return false
}

// unasked is a line of the server that tells of messages or mailboxes.
func (t *Tracker) unasked() {
	for _, p := range t.out {
		if p.effect != effectStill {
			return
		}
	}
	t.changes++
}

// seeing looks for the items of a FETCH that mark as read, in bytes behind the command word; before are those before them.
func (l *clientLex) seeing(before, b []byte) {
	if l.effect != effectNone || !l.fetch {
		return
	}
	for i := 0; ; i++ {
		j := bytes.IndexByte(b[i:], '[')
		if j < 0 {
			return
		}
		i += j
		switch {
		case i > 0:
			before = b[:i]
		case len(before) == 0:
			continue
		}
		if upper(before[len(before)-1]) == 'Y' { // BODY[, BINARY[; with .PEEK it would be a K
			l.effect = effectChange
			return
		}
	}
}
