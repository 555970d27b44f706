package proxy

import "bytes"

// messageFilter takes a message from the client and gives what goes to a backend in DATA. Only CRLF ends a line and only
// CRLF.CRLF ends the message (RFC 5321, sections 2.3.8 and 4.1.1.4): a server that takes less would see two messages
// where we see one. So nothing passes before it is judged: a CR waits for its LF, a dot at the start of a line for what
// follows it, and the end of the message is not in what the filter gives, but for its caller to write.
//
// The client's dot-stuffing is undone and done anew (section 4.5.2). A line that holds NULs and one dot, and would be a
// lone dot to a server that drops NULs, is a fault; the stuffing keeps all others that begin with a dot from being one.
//
// The zero value stands at the start of a message in DATA.
type messageFilter struct {
	chunks    bool // the message comes by BDAT: no dot in it is stuffed, and nothing in it ends it
	normalize bool // a bare CR or LF becomes CRLF, else it is a fault
	state     dataState
	line      lineState
	size      int64 // of the message, without stuffing
	fault     string
	out       []byte
}

// dataState is where the client's bytes stand.
type dataState uint8

const (
	lineStart  dataState = iota // behind CRLF
	inLine                      // also behind a bare CR or LF: the client's lines end with CRLF only
	afterCR                     // CR, not judged yet
	afterDot                    // "." at the start of a line
	afterDotCR                  // ".CR" at the start of a line
)

// lineState is what the present line holds of what was given out.
type lineState uint8

const (
	lineEmpty lineState = iota
	lineText
	lineNULs // NULs only
	lineDot  // NULs, a dot, perhaps more NULs
)

// Faults of a message, as clients read them.
const (
	bareRefusal = "550 5.6.0 The message holds a bare CR or LF; lines end in CRLF (RFC 5321, section 2.3.8)"
	nulRefusal  = "550 5.6.0 The message holds a line of a lone dot and NULs"
)

// add takes bytes: n of b belong to the message, out goes to the backend unless there is a fault (valid until the next
// call), done means that the client has ended the message. Behind a fault it goes on looking for that end.
func (f *messageFilter) add(b []byte) (n int, out []byte, done bool) {
	f.out = f.out[:0]
	for n < len(b) {
		if f.state == inLine && f.line == lineText {
			k := text(b[n:])
			f.out = append(f.out, b[n:n+k]...)
			f.size += int64(k)
			if n += k; n == len(b) {
				break
			}
		}
		n++
		if f.next(b[n-1]) {
			return n, f.out, true
		}
	}
	return n, f.out, false
}

// text is the number of bytes before the next CR or LF.
func text(b []byte) int {
	if i := bytes.IndexByte(b, '\r'); i >= 0 {
		b = b[:i]
	}
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i
	}
	return len(b)
}

// end is the end of a message in chunks. In DATA a last line without CRLF gets one.
func (f *messageFilter) end() (out []byte) {
	f.out = f.out[:0]
	if f.state == afterCR {
		f.bare()
	}
	if f.line != lineEmpty {
		f.newline()
	}
	f.state = lineStart
	return f.out
}

// next takes one byte; true means that it ends the message.
func (f *messageFilter) next(c byte) (done bool) {
	was := f.state
	if was == afterDotCR && c == '\n' {
		return true
	}
	if (was == afterCR || was == afterDotCR) && c != '\n' {
		f.bare() // the CR stood alone
	}
	switch {
	case c == '\r':
		f.state = afterCR
		if was == afterDot {
			f.state = afterDotCR
		}
	case c == '\n' && was == afterCR:
		f.newline()
		f.state = lineStart
	case c == '\n':
		f.bare()
		f.state = inLine
	case c == '.' && was == lineStart && !f.chunks:
		f.state = afterDot // the client's own stuffing, unless the message ends here
	default:
		f.put(c)
		f.state = inLine
	}
	return false
}

func (f *messageFilter) bare() {
	if f.normalize {
		f.newline()
	} else if f.fault == "" {
		f.fault = bareRefusal
	}
}

func (f *messageFilter) newline() {
	if f.line == lineDot && f.fault == "" {
		f.fault = nulRefusal
	}
	f.out = append(f.out, '\r', '\n')
	f.size += 2
	f.line = lineEmpty
}

func (f *messageFilter) put(c byte) {
	switch {
	case c == '.' && f.line == lineEmpty:
		f.out = append(f.out, '.')
		f.line = lineText
	case c == 0 && f.line == lineEmpty:
		f.line = lineNULs
	case c == '.' && f.line == lineNULs:
		f.line = lineDot
	case c != 0:
		f.line = lineText
	}
	f.out = append(f.out, c)
	f.size++
}

// bareChecker finds a bare CR or LF in chunks that stay chunks, where nothing ends a message but the count.
type bareChecker struct{ cr bool }

// add tells whether the message so far holds one; a CR at the very end is judged with the next chunk, or by cr at the
// end of the message.
func (k *bareChecker) add(b []byte) bool {
	for len(b) > 0 {
		if k.cr != (b[0] == '\n') {
			return true
		}
		if k.cr {
			k.cr, b = false, b[1:]
			continue
		}
		i := text(b)
		if i == len(b) {
			return false
		}
		if b[i] == '\n' {
			return true
		}
		k.cr, b = true, b[i+1:]
	}
	return false
}
