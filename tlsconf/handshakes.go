package tlsconf

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
)

// Handshakes bounds how many handshakes are worked on at a time: as many as there are processors, in the order in which what the clients
// sent has come. Thousands who come at once would else all be half done when their time is up. It is safe for concurrent use.
type Handshakes struct {
	slots chan struct{} // those that wait to send get in in their order
}

// NewHandshakes makes Handshakes for this machine.
func NewHandshakes() *Handshakes { return newHandshakes(runtime.GOMAXPROCS(0)) }

func newHandshakes(n int) *Handshakes { return &Handshakes{make(chan struct{}, n)} }

// Do makes the handshake of t, which runs over q. It has its turn from the client's hello to our answer to it, which is nearly all of the
// work. A client who lets us wait for his bytes holds up nobody. ctx should have a deadline.
func (h *Handshakes) Do(ctx context.Context, q *Quiet, t *tls.Conn) error {
	held, answered := false, false
	release := func() {
		if held {
			held = false
			<-h.slots
		}
	}
	q.before = func() {
		if held && !q.ready() {
			release()
		}
	}
	q.after = func() error {
		if held || answered {
			return nil
		}
		select {
		case h.slots <- struct{}{}:
			held = true
		case <-ctx.Done(): // without a turn nothing is worked on, in the end either
			return context.Cause(ctx)
		}
		if q.closed.Load() { // he gave way to others meanwhile
			return net.ErrClosed
		}
		return nil
	}
	q.wrote = func() {
		answered = true
		release()
	}
	defer func() { // also by a defect
		q.before, q.after, q.wrote = nil, nil, nil
		release()
	}()
	return t.HandshakeContext(ctx)
}
