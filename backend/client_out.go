package backend

import "io"

// outWindow is how many bytes are gathered for one write, restWindow what an outgoing keeps where no more than that was gathered last.
const (
	outWindow  = 64 << 10
	restWindow = 1 << 10
)

// outgoing gathers what is written until Flush. Unlike a bufio.Writer it takes memory as it needs it, and gives it back: most connections
// say little, and wait. The first error stays. It is not safe for concurrent use.
type outgoing struct {
	to  io.Writer
	b   []byte
	err error
}

// reset writes to another writer from now on. Nothing may be gathered.
func (o *outgoing) reset(to io.Writer) { o.to, o.b = to, nil }

// Write gathers p, and writes out what is more than outWindow.
func (o *outgoing) Write(p []byte) (n int, err error) {
	for n = 0; len(p) > 0 && o.err == nil; {
		if len(o.b) == 0 && len(p) >= outWindow {
			o.write(p)
			return n + len(p), o.err
		}
		k := min(len(p), outWindow-len(o.b))
		o.room(k)
		o.b = append(o.b, p[:k]...)
		p = p[k:]
		if n += k; len(o.b) == outWindow {
			o.write(o.b)
			o.b = o.b[:0]
		}
	}
	return n, o.err
}

// WriteString is Write.
func (o *outgoing) WriteString(s string) (n int, err error) {
	if len(s) >= outWindow-len(o.b) || o.err != nil {
		return o.Write([]byte(s))
	}
	o.room(len(s))
	o.b = append(o.b, s...)
	return len(s), nil
}

// WriteByte is Write.
func (o *outgoing) WriteByte(c byte) error {
	_, err := o.Write([]byte{c})
	return err
}

// Flush writes out what is gathered.
func (o *outgoing) Flush() error {
	if len(o.b) > 0 && o.err == nil {
		o.write(o.b)
	}
	if cap(o.b) > restWindow && len(o.b) <= restWindow {
		o.b = nil
	}
	o.b = o.b[:0]
	return o.err
}

// room makes place for n more bytes; in all they are no more than outWindow.
func (o *outgoing) room(n int) {
	if need := len(o.b) + n; need > cap(o.b) {
		b := make([]byte, len(o.b), min(outWindow, max(256, 2*cap(o.b), need)))
		copy(b, o.b)
		o.b = b
	}
}

func (o *outgoing) write(p []byte) {
	n, err := o.to.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	o.err = err
}
