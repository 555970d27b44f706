package proxy

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mailgate/router"
	"mailgate/tlsconf"
)

// boundary follows a spliced session in both directions; imapwire.Tracker is one. The link locks around each call.
type boundary interface {
	// Client says how many of the client's bytes may be passed on now; with stop set no new command.
	Client(b []byte, stop bool) int
	// Server returns what the client gets for the server's bytes, Flush what was held back.
	Server(b []byte) []byte
	Flush() []byte
	// Boundary, ReadsOnly and ReadsPending are as imapwire.Tracker has them.
	Boundary() bool
	ReadsOnly() bool
	ReadsPending() bool
	// Bye is the line that tells the client of the end, "" where none may be put in or the server has said its own.
	ByeLine(text string) string
	// Leave is what ends the session on the backend politely, "" where nothing may be put in.
	Leave() string
}

// link is a spliced session: two goroutines, no buffer while idle. It is the session's router.Ender.
type link struct {
	srv   *Server
	front net.Conn
	back  net.Conn
	fs    tlsconf.Stream
	bs    tlsconf.Stream
	log   *slog.Logger
	sess  *router.Session
	left  atomic.Int32 // pumps that still run
	up    int64        // bytes from the client; written by its pump
	down  int64

	mu       sync.Mutex
	changed  sync.Cond
	track    boundary
	pressure router.Pressure
	text     string // for the client, when pressed
	writing  bool   // the server's pump has taken bytes and not passed them on
	writes   int64  // chunks passed on to the client
	stuckAt  int64  // writes when first pressed
	ended    bool   // no byte is passed on any more
	clientIn bool   // false once the client has sent his end
	reason   string
}

// Limits of a link's end.
const (
	byeTime   = 5 * time.Second        // for the last words to a client
	leaveTime = 500 * time.Millisecond // for the backend to say goodbye
	afterEOF  = 30 * time.Second       // for the backend's answers once the client has sent his end
)

// bufferSize is what a pump reads at once while bytes flow: two TLS records.
const bufferSize = 32 << 10

// bufferPool lends the pumps their buffers.
type bufferPool struct{ p sync.Pool }

func (b *bufferPool) get() *[]byte {
	if x, ok := b.p.Get().(*[]byte); ok {
		return x
	}
	x := make([]byte, bufferSize)
	return &x
}

func (b *bufferPool) put(x *[]byte) { b.p.Put(x) }

// newLink prepares a splice of two connections; both must be, or run over, a tlsconf.Quiet.
func newLink(s *Server, front, back net.Conn, t boundary) (*link, error) {
	l := &link{srv: s, front: front, back: back, track: t, clientIn: true}
	l.changed.L = &l.mu
	var ok bool
	if l.fs, ok = tlsconf.NewStream(front); !ok {
		return nil, errors.New("client connection cannot be waited for")
	}
	if l.bs, ok = tlsconf.NewStream(back); !ok {
		return nil, errors.New("backend connection cannot be waited for")
	}
	return l, nil
}

// start runs the splice in goroutines of the server, beginning with what each side has sent already. The connections
// and the session belong to it from now on.
func (l *link) start(sess *router.Session, log *slog.Logger, fromClient, fromServer []byte) {
	l.sess, l.log = sess, log
	l.left.Store(2)
	l.srv.wg.Add(2)
	go l.pumpUp(fromClient)
	go l.pumpDown(fromServer)
}

// End implements router.Ender.
func (l *link) End(p router.Pressure, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if l.pressure == 0 {
		l.stuckAt = l.writes
	}
	l.pressure, l.text = max(p, l.pressure), text
	stuck := l.writing && l.writes == l.stuckAt && l.track.ReadsPending()
	if p == router.Cut || p == router.CutReads && stuck {
		// A client who has not taken a byte of what he asked to read since the first request will not see a BYE.
		l.ended, l.reason = true, text
		_ = l.front.SetWriteDeadline(time.Unix(1, 0))
	}
	_ = l.back.SetReadDeadline(time.Unix(1, 0)) // wakes pumpDown, which decides
	l.changed.Broadcast()
}

// Resume implements router.Ender.
func (l *link) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pressure = 0
	l.changed.Broadcast()
}

// tryEnd ends the session if it is pressed and stands at a boundary; l.mu is held.
func (l *link) tryEnd() bool {
	if l.ended {
		return true
	}
	switch l.pressure {
	case router.AtBoundary:
		l.ended = l.track.Boundary()
	case router.CutReads:
		l.ended = l.track.ReadsOnly()
	case router.Cut:
		l.ended = true
	}
	if l.ended {
		l.reason = l.text
	}
	return l.ended
}

// pumpUp passes the client's bytes on.
func (l *link) pumpUp(first []byte) {
	defer l.pumpDone()
	ok := l.forward(first)
	for ok {
		if err := l.fs.Wait(); err != nil {
			l.clientGone(err)
			return
		}
		buf := l.srv.buffers.get()
		n, err := l.fs.ReadNow(*buf)
		ok = l.forward((*buf)[:n])
		l.srv.buffers.put(buf)
		if err != nil && !errors.Is(err, tlsconf.ErrWouldBlock) {
			l.clientGone(err)
			return
		}
	}
	// The session has ended: take what the client still sends, so that our last words reach him.
	_ = l.front.SetReadDeadline(time.Now().Add(time.Second))
	discard(l.front)
}

// forward passes bytes to the backend as the tracker lets them, and returns false when the session has ended.
func (l *link) forward(b []byte) bool {
	for len(b) > 0 {
		l.mu.Lock()
		n := 0
		for !l.ended {
			if n = l.track.Client(b, l.pressure > 0); n > 0 {
				break
			}
			l.changed.Wait()
		}
		ended := l.ended
		l.mu.Unlock()
		if ended {
			return false
		}
		l.up += int64(n)
		if _, err := l.back.Write(b[:n]); err != nil {
			l.back.Close() // pumpDown finds out and tells the client
			l.mu.Lock()
			for !l.ended {
				l.changed.Wait()
			}
			l.mu.Unlock()
			return false
		}
		b = b[n:]
	}
	return true
}

// clientGone hands the client's end on to the backend.
func (l *link) clientGone(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.clientIn = false
	if l.reason == "" {
		l.reason = "client closed"
	}
	w, ok := l.back.(interface{ CloseWrite() error })
	if errors.Is(err, io.EOF) && ok && w.CloseWrite() == nil {
		_ = l.back.SetReadDeadline(time.Now().Add(afterEOF))
		return
	}
	l.back.Close()
}

// pumpDown passes the server's bytes on, and ends the session when that is due.
func (l *link) pumpDown(first []byte) {
	defer l.pumpDone()
	ok := l.deliver(first)
	for ok {
		err := l.bs.Wait()
		n := 0
		if err == nil {
			buf := l.srv.buffers.get()
			n, err = l.bs.ReadNow(*buf)
			ok = l.deliver((*buf)[:n])
			l.srv.buffers.put(buf)
		}
		switch {
		case !ok || err == nil || errors.Is(err, tlsconf.ErrWouldBlock):
		case errors.Is(err, os.ErrDeadlineExceeded):
			ok = l.woken()
		default:
			l.serverGone()
			ok = false
		}
	}
	l.finish()
}

// woken is pumpDown's look around after its read was interrupted; false ends the session.
func (l *link) woken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.clientIn && l.pressure == 0 {
		l.ended = true // the backend was given its time after the client's end
	}
	if l.tryEnd() {
		return false
	}
	var d time.Time
	if !l.clientIn {
		d = time.Now().Add(afterEOF)
	}
	_ = l.back.SetReadDeadline(d)
	return true
}

// deliver passes bytes to the client, and returns false when the session has ended.
func (l *link) deliver(b []byte) bool {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return false
	}
	out := b
	if len(b) > 0 {
		out = l.track.Server(b)
	}
	l.writing = len(out) > 0
	l.changed.Broadcast()
	l.mu.Unlock()

	var err error
	if len(out) > 0 {
		l.down += int64(len(out))
		_, err = l.front.Write(out)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.writing = false
	l.writes++
	if err != nil {
		l.ended = true
		if l.reason == "" {
			l.reason = "client gone"
		}
		return false
	}
	return !l.tryEnd()
}

// serverGone is the end that the backend made.
func (l *link) serverGone() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	rest := l.track.Flush()
	l.ended = true
	if len(rest) > 0 {
		_ = l.front.SetWriteDeadline(time.Now().Add(byeTime))
		_, _ = l.front.Write(rest)
	}
	if l.reason == "" {
		l.reason = "backend closed"
	}
	if l.text == "" {
		l.text = "The mail server closed the connection, please reconnect"
	}
}

// finish says goodbye on both sides, the backend's first to be closed: then the router is told.
func (l *link) finish() {
	l.mu.Lock()
	l.ended = true
	bye, leave := "", l.track.Leave()
	if l.track.ReadsOnly() || l.track.Boundary() {
		bye = l.track.ByeLine(l.text)
	}
	l.changed.Broadcast()
	l.mu.Unlock()

	if bye != "" {
		_ = l.front.SetWriteDeadline(time.Now().Add(byeTime))
		_, _ = io.WriteString(l.front, bye)
	}
	if w, ok := l.front.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	_ = l.front.SetReadDeadline(time.Now().Add(time.Second))

	if leave != "" {
		_ = l.back.SetDeadline(time.Now().Add(leaveTime))
		if _, err := io.WriteString(l.back, leave); err == nil {
			discard(l.back)
		}
	}
	l.back.Close()
	l.sess.Done()
}

// pumpDone closes and reports when the second pump ends.
func (l *link) pumpDone() {
	defer l.srv.wg.Done()
	if l.left.Add(-1) > 0 {
		return
	}
	l.front.Close()
	l.back.Close()
	s := l.sess
	lived := time.Since(s.Started)
	l.srv.rec.SessionEnd(s.Protocol, s.Side, lived, l.up, l.down)
	l.log.Info("session end", "protocol", s.Protocol, "session", s.ID, "user", s.User, "side", s.Side.String(),
		"epoch", s.Epoch, "host", s.Host, "client", s.Client.String(), "bytes_up", l.up, "bytes_down", l.down,
		"seconds", lived.Seconds(), "reason", l.reason)
}
