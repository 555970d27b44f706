package proxy

import "bytes"

// dataScanner follows a message in DATA: where it ends, and whether it holds a bare CR or LF. Only CRLF ends a line and
// only CRLF.CRLF ends the message (RFC 5321, section 4.1.1.4); a server that takes less would see two messages where
// we see one. The zero value stands at the start of a message.
type dataScanner struct {
	state dataState
	bare  bool // a bare CR or LF was seen
}

type dataState uint8

const (
	lineStart dataState = iota // behind CRLF
	inLine
	afterCR    // CR in a line
	afterDot   // "." at the start of a line
	afterDotCR // ".CR" at the start of a line
)

// scan takes bytes up to the end of the message: n of b belong to it, done means that it is complete. Scanning goes on
// behind a bare CR or LF, without taking it for the end of a line.
func (d *dataScanner) scan(b []byte) (n int, done bool) {
	for n < len(b) {
		if d.state == inLine {
			i := bytes.IndexAny(b[n:], "\r\n")
			if i < 0 {
				return len(b), false
			}
			n += i
		}
		if d.next(b[n]) {
			return n + 1, true
		}
		n++
	}
	return n, false
}

// next takes one byte; true means that it ends the message.
func (d *dataScanner) next(c byte) bool {
	was := d.state
	switch c {
	case '\r':
		if was == afterCR || was == afterDotCR {
			d.bare = true
		}
		d.state = afterCR
		if was == afterDot {
			d.state = afterDotCR
		}
		return false
	case '\n':
		switch was {
		case afterDotCR:
			return true
		case afterCR:
			d.state = lineStart
		default:
			d.bare, d.state = true, inLine
		}
		return false
	}
	if was == afterCR || was == afterDotCR {
		d.bare = true
	}
	d.state = inLine
	if c == '.' && was == lineStart {
		d.state = afterDot
	}
	return false
}

// normalizer makes each bare CR and bare LF of a message in DATA a CRLF, once. It undoes the client's dot-stuffing, who
// knows only CRLF as the end of a line, and stuffs anew for the lines that come out, so that no end of message appears
// that the client did not send (RFC 5321, section 4.5.2). newNormalizer makes one at the start of a message.
type normalizer struct {
	state dataState
	start bool // what was written so far ends with CRLF, or is empty
	out   []byte
}

func newNormalizer() *normalizer { return &normalizer{start: true} }

// add takes bytes from the client: n of them belong to the message, out goes to the backend (valid until the next
// call) and includes the end of the message when done.
func (z *normalizer) add(b []byte) (n int, out []byte, done bool) {
	z.out = z.out[:0]
	for n < len(b) && !done {
		done = z.next(b[n])
		n++
	}
	return n, z.out, done
}

func (z *normalizer) next(c byte) (done bool) {
	was := z.state
	if was == afterDotCR && c == '\n' {
		z.out = append(z.out, ".\r\n"...)
		return true
	}
	if (was == afterCR || was == afterDotCR) && c != '\n' {
		z.newline() // the CR was a bare one
	}
	switch {
	case c == '\r':
		z.state = afterCR
		if was == afterDot {
			z.state = afterDotCR
		}
	case c == '\n':
		z.newline()
		z.state = inLine
		if was == afterCR {
			z.state = lineStart
		}
	case c == '.' && was == lineStart:
		z.state = afterDot // the client's own stuffing, unless the message ends here
	default:
		if c == '.' && z.start {
			z.out = append(z.out, '.')
		}
		z.out = append(z.out, c)
		z.state, z.start = inLine, false
	}
	return false
}

func (z *normalizer) newline() {
	z.out = append(z.out, '\r', '\n')
	z.start = true
}

// bareChecker finds a bare CR or LF in chunks (BDAT), where nothing ends a message but the count.
type bareChecker struct{ cr bool }

// add tells whether the message so far holds one; a CR at the very end is judged with the next chunk or by end.
func (k *bareChecker) add(b []byte) bool {
	for _, c := range b {
		if c == '\n' != k.cr {
			return true
		}
		k.cr = c == '\r'
	}
	return false
}
