package corpus

import (
	"bytes"
	"io"
	"time"
)

// Message is one to be put into a mailbox.
type Message struct {
	Name  string // for people
	Data  []byte
	Flags []string  // system flags and keywords
	Date  time.Time // INTERNALDATE, with its zone

	// Open, if not nil, gives the text instead of Data, Size bytes. It may be called more than once.
	Open func() io.Reader
	Size int64
}

// Reader gives the text and its length in bytes.
func (m Message) Reader() (io.Reader, int64) {
	if m.Open != nil {
		return m.Open(), m.Size
	}
	return bytes.NewReader(m.Data), int64(len(m.Data))
}

// LargeMessage is one of size bytes, which is streamed. Less than 200 counts as 200.
func LargeMessage(size int64) Message {
	size = max(size, int64(len(largeHead)))
	return Message{Name: "large", Size: size, Open: func() io.Reader { return Large(size) }, Date: ordinary}
}

const largeHead = "From: a@example.com\r\nTo: b@example.com\r\nSubject: large\r\nDate: Mon, 02 Jan 2023 15:04:05 +0000\r\n" +
	"Message-ID: <large@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"

// Large is a message of n bytes with CRLF line ends, the same each time; the last line may be cut. It keeps no more than a line in memory. n of less
// than the header's length cuts that.
func Large(n int64) io.Reader { return &large{left: n, buf: []byte(largeHead)} }

type large struct {
	left int64
	line uint64
	buf  []byte
}

func (l *large) Read(p []byte) (n int, err error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	for n < len(p) && l.left > 0 {
		if len(l.buf) == 0 {
			l.next()
		}
		k := copy(p[n:], l.buf[:min(int64(len(l.buf)), l.left)])
		l.buf, l.left, n = l.buf[k:], l.left-int64(k), n+k
	}
	return n, nil
}

// next makes a line of 76 characters and CRLF, no two alike for long.
func (l *large) next() {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var b [78]byte
	x := l.line*0x9e3779b97f4a7c15 + 1
	for i := range b[:76] {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = digits[x>>58]
	}
	b[76], b[77] = '\r', '\n'
	l.line++
	l.buf = b[:]
}
